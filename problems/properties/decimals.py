"""Decimal numbers and the float64 numbers next to them.

A number of a property file is the decimal that is written there: `number` keeps it as a `Decimal`, which is exact when
it is made from text and when its sign is changed, but not when it is added or multiplied; for that it becomes a
`Fraction`. `nearest` rounds it to float64 and says on which side of it the float64 lies; of texts `gap_of` does, and
`gaps_of` of thousands at once.

For most texts the side is found in float64 arithmetic. A text without exponent is M / 10^k with an integer M below
10^18 and k <= 22, so that 10^k is a float64. With f the nearest float64, f 10^k = p + e exactly (Dekker 1971, Veltkamp
splitting), M = h + l, and the side is the sign of (p - h) - (l - e): the first difference is exact, for both are near
M (Sterbenz), the second is a sum and its error (Knuth's TwoSum). Soundness: exact.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from math import copysign, inf, isinf, nextafter

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput

Rational = int | Fraction | Decimal

EXPONENT = 5000  # largest |exponent| of a number
DIGITS = 5000  # longest text of a number
BITS = 40_000  # longest numerator or denominator that arithmetic may produce
FEW = 100  # texts, below which numpy does not pay
LARGEST = float(np.finfo(np.float64).max)
PLAIN = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)"  # a number without exponent

_NUMBER = re.compile(PLAIN + r"(?:[eE][-+]?([0-9]+))?")
_TENS = np.array([float(10**k) for k in range(23)])
_POWERS = tuple(10**k for k in range(40))


def number(word: str) -> Decimal:
    """The decimal that the word is; `BadInput` where it is none, or is too long or too large to be meant."""
    match = _NUMBER.fullmatch(word)
    if match is None:
        raise BadInput(f"'{shortened(word)}' is neither a declared variable nor a number")
    if match[1] is None and len(word) <= DIGITS:
        return Decimal(word)
    exponent = (match[1] or "").lstrip("0")
    if len(word) > DIGITS or len(exponent) > 4 or int(exponent or 0) > EXPONENT:
        raise BadInput(
            f"the number '{shortened(word)}' is too long or too large: at most {DIGITS:,} characters, and exponents "
            f"from -{EXPONENT:,} to {EXPONENT:,}"
        )
    return Decimal(word)


def shortened(word: str) -> str:
    """The word on one line, cut where it is too long for a sentence."""
    word = " ".join(word.split())
    return word if len(word) <= 40 else f"{word[:30]}... ({len(word):,} characters)"


def rational(value: Rational) -> int | Fraction:
    """The value in a form that arithmetic is exact in."""
    return Fraction(value) if isinstance(value, Decimal) else value


def checked(value: int | Fraction) -> int | Fraction:
    """The value; `BadInput` where its numerator or denominator has grown beyond `BITS` bits."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS:
        raise BadInput("the arithmetic of a formula leads to numbers of more than 10,000 digits; write them out")
    return value


def closest(value: Rational) -> float:
    """The float64 nearest to the value; the largest finite one beyond all."""
    try:
        near = float(value) + 0.0  # + 0.0: no negative zero
    except OverflowError:
        near = inf if value > 0 else -inf
    return copysign(LARGEST, near) if isinf(near) else near


def nearest(value: Rational) -> tuple[float, int]:
    """`closest`, and the sign of that float64 - value."""
    near = closest(value)
    return near, 1 if near > value else -1 if near < value else 0


def fraction(value: Rational) -> tuple[Fraction, float, int]:
    """The value as a `Fraction`, and its `nearest`: in whole numbers, which is faster where all three are wanted."""
    top, bottom = value.as_integer_ratio()
    try:
        near = top / bottom + 0.0
    except OverflowError:
        near = LARGEST if top > 0 else -LARGEST
    p, q = near.as_integer_ratio()
    gap = p * bottom - top * q
    return Fraction(top, bottom), near, 1 if gap > 0 else -1 if gap else 0


def gap_of(text: str, near: float) -> int:
    """The sign of near - text; the text must be a `number`."""
    head, _, tail = text.partition(".")
    try:
        integer = int(head + tail)
    except ValueError:  # an exponent, or thousands of digits
        value = Decimal(text)
        return 1 if near > value else -1 if near < value else 0
    decimals = len(tail)
    p, q = near.as_integer_ratio()
    gap = p * (_POWERS[decimals] if decimals < 40 else 10**decimals) - integer * q
    return 1 if gap > 0 else -1 if gap else 0


def outward(value: Rational, up: bool) -> float:
    """The value rounded up, or down; infinite beyond the largest float64."""
    near, side = nearest(value)
    if up:
        return nextafter(near, inf) if side < 0 else near
    return nextafter(near, -inf) if side > 0 else near


def gaps_of(texts: list[str], near: NDArray[np.float64]) -> NDArray[np.int8]:  # (n,) -> (n,)
    """`gap_of` every text, a `number`, and the float64 nearest to it."""
    side = np.zeros(len(texts), np.int8)
    if not texts:
        return side
    easy, decimals = _easy(texts)
    if easy.all():
        chosen: slice | NDArray[np.int64] = slice(None)
        digits = "\n".join(texts)
    else:
        chosen = places = np.flatnonzero(easy)
        digits = "\n".join([texts[i] for i in places])
    if digits:
        integers = np.fromstring(digits.replace(".", ""), dtype=np.int64, sep="\n")
        side[chosen] = _side(near[chosen], integers, _TENS[decimals[chosen]])
    hard = np.flatnonzero(~easy)
    known: dict[str, int] = {}  # pixels repeat
    for i, value in zip(hard.tolist(), near[hard].tolist()):
        text = texts[i]
        if text not in known:
            known[text] = gap_of(text, value)
        side[i] = known[text]
    return side


def _easy(texts: list[str]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:  # (n,), (n,)
    """Which texts `_side` can take, and their number of decimals."""
    raw = np.frombuffer(("\n".join(texts) + "\n").encode("ascii"), np.uint8)
    ends = np.flatnonzero(raw == ord("\n"))
    length = np.diff(ends, prepend=-1) - 1
    dots = np.flatnonzero(raw == ord("."))
    owner = np.searchsorted(ends, dots)
    decimals = np.zeros(len(texts), np.int64)
    decimals[owner] = ends[owner] - dots - 1
    signed = raw[ends - length]
    digits = length - (signed == ord("-")) - (signed == ord("+"))
    digits[owner] -= 1
    easy = digits <= 18  # 10^18 < 2^63
    easy[np.searchsorted(ends, np.flatnonzero(raw | 32 == ord("e")))] = False
    return easy, decimals


def _side(
    near: NDArray[np.float64],  # (n,)
    integers: NDArray[np.int64],  # (n,)
    tens: NDArray[np.float64],  # (n,)
) -> NDArray[np.int8]:  # (n,)
    """The sign of near - integers / tens."""
    high_a, low_a = _split(near)
    high_b, low_b = _split(tens)
    product = near * tens
    error = low_a * low_b - (((product - high_a * high_b) - low_a * high_b) - high_a * low_b)
    high = integers.astype(np.float64)
    low = (integers - high.astype(np.int64)).astype(np.float64)
    difference = product - high
    total = low - error
    back = total - low
    rest = (low - (total - back)) + (-error - back)
    return np.where(difference == total, -np.sign(rest), np.sign(difference - total)).astype(np.int8)


def _split(a: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two halves of 26 bits whose sum is a."""
    wide = 134217729.0 * a  # 2^27 + 1
    high = wide - (wide - a)
    return high, a - high
