"""Decimals and the numbers that a network is fed: texts, nearest numbers, decimals between two bounds.

A witness is written in decimals, a network is fed numbers of its element type (float32 or float64). Every finite one
of these is a decimal, and its exact text can be long; every decimal has a nearest one. Soundness: exact.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

PLAIN = 9  # powers of ten up to which a long decimal is written without an exponent
SHORTEST = 330  # decimals up to so many digits after the point are tried between two bounds


def nearest(value: Fraction, element: type[np.floating]) -> float:
    """The number of the element type nearest to `value`, ties to even; infinite where it is beyond the largest."""
    try:
        double = float(value)  # rounds once, to nearest
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    if element is np.float64:
        return double
    with np.errstate(over="ignore"):
        middle = element(double)
    if not np.isfinite(middle) or Fraction(float(middle)) == value:
        return float(middle)
    around = [np.nextafter(middle, element(-np.inf)), middle, np.nextafter(middle, element(np.inf))]

    def gap(number: np.floating) -> tuple[Fraction, int]:
        odd = int(np.abs(number).view(np.uint32 if element is np.float32 else np.uint16)) & 1
        return abs(Fraction(float(number)) - value), odd

    return float(min((number for number in around if np.isfinite(number)), key=gap))


def is_decimal(value: Fraction) -> bool:
    """Whether the number has finitely many digits."""
    rest = value.denominator
    rest >>= (rest & -rest).bit_length() - 1
    while rest % 5 == 0:
        rest //= 5
    return rest == 1


def decimal_text(value: Fraction) -> str:
    """The decimal, every digit; `ValueError` for a number that is none."""
    short = repr(near) if np.isfinite(near := nearest(value, np.float64)) else ""
    if short and Fraction(short) == value:
        return short
    if not is_decimal(value):
        raise ValueError(f"{value} has no end in decimals")
    twos = (value.denominator & -value.denominator).bit_length() - 1
    fives, rest = 0, value.denominator >> twos
    while rest > 1:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    digits, sign = str(abs(value.numerator) * 10**places // value.denominator), "-" if value < 0 else ""
    point = len(digits) - 1 - places  # the first digit's power of ten
    if abs(point) <= PLAIN:
        digits = digits.rjust(places + 1, "0")
        return f"{sign}{digits[: len(digits) - places]}.{digits[len(digits) - places :] or '0'}"
    digits = digits.rstrip("0")
    return f"{sign}{digits[0]}.{digits[1:] or '0'}e{point}"


def decimal_between(low: Fraction, high: Fraction, open_low: bool, open_high: bool, near: Fraction) -> Fraction | None:
    """A decimal in the interval: `near` where it is one of it, else of few digits; None where there is none."""
    inside = low <= near <= high and not (open_low and near == low) and not (open_high and near == high)
    if inside and is_decimal(near):
        return near
    if low == high:
        return low if is_decimal(low) and not (open_low or open_high) else None
    for places in range(SHORTEST):
        unit = 10**places
        first, last = -(-low.numerator * unit // low.denominator), high.numerator * unit // high.denominator
        first += open_low and first * low.denominator == low.numerator * unit
        last -= open_high and last * high.denominator == high.numerator * unit
        if first <= last:
            return Fraction(min(max(round(near * unit), first), last), unit)
    return None


def first_inside(
    low: Fraction, open_: bool, start: float, element: type[np.floating], direction: int
) -> float:  # direction +1: the least number >= low (> where open); -1: the greatest <= low (<)
    """The number of the element type that is nearest to the bound among those on its inner side.

    `start` is a float64 number near the bound, from which the search goes outwards first.
    """
    outward, inward = element(-direction * np.inf), element(direction * np.inf)

    def reached(number: np.floating) -> bool:
        if not np.isfinite(number):
            return number == inward
        value = Fraction(float(number))
        return (value > low if direction > 0 else value < low) or (value == low and not open_)

    with np.errstate(over="ignore"):
        number = element(start)
        while np.isfinite(number) and reached(number):
            number = np.nextafter(number, outward)
        while not reached(number):
            number = np.nextafter(number, inward)
    return float(number)


def rounded_inward(bound: NDArray[np.float64], element: type[np.floating], direction: int) -> NDArray[np.float64]:
    """`first_inside` for closed float64 bounds, all at once."""
    with np.errstate(over="ignore", invalid="ignore"):
        number = bound.astype(element)
        back = number < bound if direction > 0 else number > bound
        number = np.where(back, np.nextafter(number, element(direction * np.inf)), number)
    return number.astype(np.float64)
