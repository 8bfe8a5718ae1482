"""Random property files; what they mean says `property_meaning`.

`draft(seed)` writes a file of either version: nested formulas, chains, constants of every size and spelling, strict
and other comparisons, bounds that are repeated and differ in the twentieth digit, comments, strings, quoted names and
odd white space, so that brackets and assertions stand where they mean nothing. `mutated` breaks one here and there.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Draft:
    """A text and the sizes of the network that it is for."""

    text: str
    n_in: int
    n_out: int
    new: bool  # version 2.0
    whole: bool = True  # nothing is broken: it must be read


EXTREME = (
    "1e400",
    "-1e400",
    "1e-400",
    "-1e-400",
    "1e308",
    "1.7976931348623157e308",
    "1.7976931348623159e308",
    "5e-324",
)
EXTREME += (
    "2.4e-324",
    "1e16",
    "9007199254740993",
    "-9007199254740993",
    "1e-320",
    "123456789012345678901234567890",
    "1e22",
)
EXTREME += ("0.3e-5000", "1e5000", "1e200", "1e-200", "1E+05", "4.35e-310", "1e17")
NEAR = ("0.1", "0.10", "0.1000000000000000055511151231257827", "0.1000000000000000055511151231257828", "1e-1", ".1")
NEAR += (
    "0.10000000000000001",
    "0.1000000000000000055511151231257827021181583404541015625",
    "0.09999999999999999",
    "+0.1",
)
PLAIN = (
    "0",
    "1",
    "-1",
    "0.5",
    "-0.5",
    "2",
    "1.",
    ".5",
    "-0.0",
    "00.25",
    "0.3",
    "-0.7",
    "2.51",
    "7.64",
    "1e0",
    "3",
    "-2e-1",
)


def constant(rng: random.Random, new: bool) -> str:
    """A number as a file may spell it."""
    if new:
        digits = rng.choice(
            ("0.1", "0.10", "0.1000000000000000055511151231257827", "0.0", "1.0", "00.5", "2.51", "7.64")
        )
        digits = rng.choice((digits, f"{rng.random() * 3:.{rng.randint(1, 20)}f}", f"0.{'0' * rng.randint(0, 280)}1"))
        return rng.choice(("", "-")) + rng.choice((digits, f"{rng.randint(1, 9)}{'0' * rng.randint(0, 280)}.0"))
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(PLAIN)
    if kind < 0.5:
        return rng.choice(NEAR)
    if kind < 0.6:
        return rng.choice(EXTREME)
    return rng.choice(
        (
            repr(rng.uniform(-3, 3)),
            f"{rng.uniform(-3, 3):.{rng.randint(0, 22)}f}",
            f"{rng.uniform(-3, 3):e}",
            repr(rng.randint(-9, 9)),
        )
    )


def term(rng: random.Random, names: list[str], depth: int, new: bool) -> str:
    """A linear term."""
    kind = rng.random()
    if depth == 0 or kind < 0.45:
        return rng.choice(names) if rng.random() < 0.7 else constant(rng, new)
    inner = [term(rng, names, depth - 1, new) for _ in range(rng.randint(1, 3))]
    if kind < 0.6:
        return f"(+ {' '.join(inner)})"
    if kind < 0.75:
        return f"(- {' '.join(inner)})"
    if kind < 0.95 or new:
        factors = [known(rng, new) for _ in range(rng.randint(1, 2))]
        factors.insert(rng.randint(0, len(factors)), inner[0])
        return f"(* {' '.join(factors)})"
    return f"(/ {inner[0]} {rng.choice(('3', '-0.7', '1e-200', '(* 2 1.5)', '1e300'))})"


def known(rng: random.Random, new: bool) -> str:
    """A term without variables."""
    if rng.random() < 0.8:
        return constant(rng, new)
    return f"({rng.choice('+-*')} {constant(rng, new)} {constant(rng, new)})"


def formula(rng: random.Random, names: list[str], depth: int, new: bool) -> str:
    """A formula of at most so many levels."""
    kind = rng.random()
    if depth == 0 or kind < 0.4:
        relation = rng.choice(("<=", ">=", "<", ">", *(("==", "!=") if new else ("=", "distinct"))))
        count = 2 if new else rng.choice((2, 2, 2, 2, 3))
        if rng.random() < 0.5:
            return f"({relation} {rng.choice(names)} {constant(rng, new)})"
        return f"({relation} {' '.join(term(rng, names, 2, new) for _ in range(count))})"
    parts = [formula(rng, names, depth - 1, new) for _ in range(rng.choice((1, 2, 2, 3)))]
    if kind < 0.65 or new:
        return f"({rng.choice(('and', 'or'))} {' '.join(parts)})"
    if kind < 0.8:
        return f"(not {parts[0]})"
    if kind < 0.95:
        return f"(=> {parts[0]} {parts[-1]})"
    return rng.choice(("true", "false"))


def bounds(rng: random.Random, name: str, new: bool) -> list[str]:
    """Assertions that bound an input from both sides, not always plainly."""
    found = []
    for relation, sign in (("<", ""), (">", "-")):
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            number = sign + rng.choice(("1.0", "0.5", "2.0", "0.1", "0.10000000000000001")) if new else None
            number = number or sign + rng.choice((*NEAR[:5], "1", "2.5", "3", "1e0", "1e-400", "0", "1e308", "0.7"))
            if sign and number.startswith("-+"):
                number = number[1:]
            relation_here = relation + rng.choice(("=", "=", ""))
            flipped = {"<": ">", ">": "<"}[relation] + relation_here[1:]
            found.append(
                rng.choice(
                    (f"({relation_here} {name} {number})",) * 4
                    + (f"({flipped} {number} {name})", f"({relation_here} (* 3.0 {name}) {number})")
                )
            )
    return [f"(assert {text})" for text in found]


def draft(seed: int) -> Draft:
    """The file of this seed."""
    rng = random.Random(seed)
    new = rng.random() < 0.35
    n_in, n_out = rng.randint(1, 3), rng.randint(1, 2)
    if rng.random() < 0.15 and not new:
        return many(rng)
    xs = [f"X[0,{i}]" if new else f"X_{i}" for i in range(n_in)]
    ys = [f"Y[{i}]" if new else f"Y_{i}" for i in range(n_out)]
    lines = [line for name in xs for line in bounds(rng, name, new)]
    for _ in range(rng.randint(0, 3)):
        lines.append(f"(assert {formula(rng, rng.choice((xs + ys, xs + ys, xs, ys)), rng.randint(0, 3), new)})")
    rng.shuffle(lines)
    if new:
        kind = rng.choice(("Real", "real", "float32", "float64"))
        head = ["(vnnlib-version <2.0>)", f"(declare-network N (declare-input X {kind} [1,{n_in}])"]
        head[1] += f" (declare-output Y {kind} [{n_out}]))"
        return Draft(laid_out(rng, head + lines, new), n_in, n_out, new)
    head = [
        f"(declare-const {name} Real)" if rng.random() < 0.8 else f"(declare-fun {name} () Real)" for name in xs + ys
    ]
    if rng.random() < 0.5:
        return Draft("\n".join(head + lines), n_in, n_out, new)
    noise = (
        "(set-logic QF_LRA)",
        '(set-info :source "(assert (<= X_0 -100))")',
        '(set-info :a "one "" two\n(assert (")',
    )
    noise += (
        "(set-info :b |(assert (>= X_0 7))\n;|)",
        "(set-option :produce-models true)",
        "(set-info :c ())",
    )
    for text in rng.sample(noise, rng.randint(0, 3)):
        lines.insert(rng.randint(0, len(lines)), text)
    text = laid_out(rng, head + lines + ["(check-sat)"] * rng.randint(0, 1), new)
    if rng.random() < 0.3:
        text = re.sub(r"(?<=\s)([XY]_[0-9])(?=[\s)])", lambda m: f"|{m[1]}|" if rng.random() < 0.5 else m[1], text)
    return Draft(text, n_in, n_out, new)


def many(rng: random.Random) -> Draft:
    """Hundreds of plain bounds, many on the same input and next to each other."""
    n_in, n_out = rng.randint(1, 30), 1
    lines = [f"(assert ({side} X_{i} {c}))" for i in range(n_in) for side, c in ((">=", "-3"), ("<=", "3.1"))]
    for _ in range(rng.randint(100, 250)):
        kind = rng.random()
        number = (
            rng.choice(NEAR)
            if kind < 0.5
            else rng.choice(PLAIN)
            if kind < 0.6
            else f"{rng.random():.{rng.randint(1, 19)}f}"
        )
        sign = rng.choice("<>")
        number = ("-" + number.lstrip("+-") if sign == ">" else number) if rng.random() < 0.97 else rng.choice(EXTREME)
        name = f"X_{rng.randrange(n_in)}" if rng.random() < 0.95 else "Y_0"
        lines.append(f"(assert ({sign}{rng.choice(('=', '=', ''))} {name} {number}))")
    if rng.random() < 0.5:
        lines.append(f"(assert {formula(rng, ['X_0', 'Y_0'], 2, False)})")
    rng.shuffle(lines)
    head = [f"(declare-const X_{i} Real)" for i in range(n_in)] + ["(declare-const Y_0 Real)"]
    return Draft("\n".join(head + lines), n_in, n_out, False)


def laid_out(rng: random.Random, lines: list[str], new: bool) -> str:
    """The lines with odd white space, and comments that hold what they should not."""
    comments = (
        ("; (assert (<= X_0 -9))", ';"', ";|", "; ) ) (", ";", "; (check-sat)")
        if not new
        else ("; (assert", ";", "; )")
    )
    style, text = rng.random(), ""
    for line in lines:
        if style < 0.7:
            parts = re.split(r'("[^"]*"(?:"[^"]*")*|\|[^|]*\|)', line)
            parts[::2] = [re.sub(r" ", lambda _: space(rng, comments, style), part) for part in parts[::2]]
            line = "".join(parts)
        text += line + rng.choice(("\n", "\n", "", "\r\n", f" {rng.choice(comments)}\n"))
    return text


def space(rng: random.Random, comments: tuple[str, ...], style: float) -> str:
    if rng.random() < 0.05 and style < 0.3:
        return f" {rng.choice(comments)}{rng.choice(chr(10) + chr(13))}"
    return rng.choice((" ", " ", "  ", "\n", "\t", "\r\n"))


def mutated(given: Draft, rng: random.Random) -> Draft:
    """With a few characters or words changed."""
    text = given.text
    pieces = (
        *'()"|; \n0.-e<=',
        "assert",
        "(assert (<= X_0 -1))",
        "_",
        "\u0661",
        "\u00a0",
        "0x1",
        "1_0",
        "nan",
        "X_0",
        "\0",
    )
    pieces += (
        "X_99999999999999999999",
        "1e99999",
        "declare-const",
        "(push)",
        "()",
        "Y_0",
        "[",
        "]",
        ",",
        "[0,-1]",
        "true",
    )
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) + 1)
        kind = rng.random()
        if kind < 0.35:
            text = text[:at] + rng.choice(pieces) + text[at:]
        elif kind < 0.6:
            text = text[:at] + text[at + rng.randint(1, 3) :]
        elif kind < 0.8:
            to = rng.randrange(len(text) + 1)
            piece = text[to : to + rng.randint(1, 30)]
            text = text[:at] + piece + text[at:]
        else:
            words = re.findall(r"[^\s()]+", text) or ["x"]
            text = text.replace(rng.choice(words), rng.choice((*pieces, rng.choice(words))), 1)
    return Draft(text, given.n_in, given.n_out, given.new, whole=False)
