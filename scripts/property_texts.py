"""Random property files, and what they mean: an evaluator of their text that shares nothing with the reader.

`draft(seed)` writes a file of either version: nested formulas, chains, constants of every size and spelling, strict
and other comparisons, bounds that are repeated and differ in the twentieth digit, comments, strings, quoted names and
odd white space, so that brackets and assertions stand where they mean nothing. `mutated` breaks one here and there.

`Meaning` reads a text character by character into nested lists and evaluates its assertions at rational points. It
raises `Malformed` where the text is not of the language at all. `points` proposes points where reading goes wrong: on
the border of a comparison, and next to it by as little as 1e-400.
"""

from __future__ import annotations

import operator
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

Tree = str | list["Tree"]
Values = dict[str, Fraction]

COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}
EQUAL = {"=": operator.eq, "==": operator.eq, "distinct": operator.ne, "!=": operator.ne}
DECIMAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,4})?")
WHITE = " \t\n\r\f\v"


class Malformed(Exception):
    """The text is not a property."""


# ---- meaning


def lexed(text: str) -> list[str]:
    """Brackets, words, strings, quoted names; comments are gone."""
    found, word, i = [], "", 0
    while i < len(text):
        c = text[i]
        if c in WHITE or c in '();"|':
            if word:
                found.append(word)
            word = ""
        if c in "()":
            found.append(c)
        elif c == ";":
            while i + 1 < len(text) and text[i + 1] not in "\n\r":
                i += 1
        elif c in '"|':
            end = text.find(c, i + 1)
            while c == '"' and end >= 0 and text[end + 1 : end + 2] == '"':
                end = text.find(c, end + 2)
            if end < 0:
                raise Malformed(f"{c} is never closed")
            found.append(text[i : end + 1])
            i = end
        elif c not in WHITE:
            word += c
        i += 1
    return found + [word] * bool(word)


def nested(tokens: list[str]) -> list[Tree]:
    """The outermost lists."""
    stack: list[list[Tree]] = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) < 2:
                raise Malformed("closed too often")
            done = stack.pop()
            stack[-1].append(done)
        elif len(stack) < 2:
            raise Malformed(f"{token} stands alone")
        else:
            stack[-1].append(token)
    if len(stack) > 1:
        raise Malformed("never closed")
    return stack[0]


class Meaning:
    """A property file as a predicate of its variables."""

    def __init__(self, text: str, n_in: int, n_out: int) -> None:
        self.new = bool(re.match(r"\s*\(\s*vnnlib-version\b", re.sub(r";[^\n\r]*", "", text)))
        if self.new:
            text = re.sub(r"\s*([\[,])\s*", r"\1", re.sub(r";[^\n\r]*", "", text))
            text = re.sub(r"\s*\]", "] ", text).replace("<2.0>", "2.0")
            text = re.sub(r"([<>=!]=|[<>+*]|(?<![\w-])-(?![0-9]))", r" \1 ", text)  # these need no space around
            text = re.sub(r"(?<![\w\[.])([0-9]+\.[0-9]+)(?=[A-Za-z])", r"\1 ", text)
        self.names: dict[str, str] = {}  # as written, to X_i or Y_i
        self.words: dict[str, str | Fraction] = {}  # what stands in terms
        self.asserted: list[Tree] = []
        self.ended = False
        for command in nested(lexed(text)):
            self._command(command)
        wanted = {f"X_{i}" for i in range(n_in)} | {f"Y_{i}" for i in range(n_out)}
        if set(self.names.values()) != wanted:
            raise Malformed("declares other variables")

    def _command(self, command: Tree) -> None:
        match command:
            case ["assert", formula]:
                self._check_formula(formula)
                self.asserted.append(formula)
            case ["declare-const", str(name), "Real"] | ["declare-fun", str(name), [], "Real"] if not self.new:
                name = name.strip("|")
                if not re.fullmatch(r"[XY]_(0|[1-9][0-9]*)", name) or name in self.names:
                    raise Malformed(name)
                self.names[name] = name
            case ["vnnlib-version", "2.0"] if self.new and not self.names:
                pass
            case ["declare-network", str(), [_, str(x), str(), shape, *_], [_, str(y), str(), to, *_]] if self.new:
                self._declare_tensors((x, "X", shape), (y, "Y", to))
            case ["declare-network", str(), [_, str(x), str(a)], [_, str(y), str(b)]] if self.new:
                (_, shape), (_, to) = a.split("[", 1), b.split("[", 1)
                self._declare_tensors((x, "X", "[" + shape), (y, "Y", "[" + to))
            case [("check-sat" | "exit"), *_] if not self.new:
                self.ended = True
                return
            case [("set-logic" | "set-info" | "set-option" | "get-model" | "get-value"), *_] if not self.new:
                return
            case _:
                raise Malformed(f"{command} is no command")
        if self.ended:
            raise Malformed("said after the end")

    def _declare_tensors(self, *tensors: tuple[str, str, str]) -> None:
        for name, kind, shape in tensors:
            sizes = [int(d) for d in shape.strip("[]").split(",") if d]
            indices = [[]]
            for size in sizes:
                indices = [[*before, i] for before in indices for i in range(size)]
            for flat, index in enumerate(indices):
                self.names[f"{name}[{','.join(map(str, index))}]" if index else name] = f"{kind}_{flat}"

    def _check_formula(self, tree: Tree) -> None:
        match tree:
            case "true" | "false" if not self.new:
                pass
            case [("and" | "or"), *parts]:
                for part in parts:
                    self._check_formula(part)
            case ["not", part] if not self.new:
                self._check_formula(part)
            case ["=>", left, right] if not self.new:
                self._check_formula(left)
                self._check_formula(right)
            case [str(head), _, _, *_] if head in COMPARE or head in EQUAL:
                for part in tree[1:]:
                    self._check_term(part)
            case _:
                raise Malformed(f"{tree} is no formula")

    def _check_term(self, tree: Tree) -> None:
        match tree:
            case str():
                name = self._name(tree)
                if name is None and not DECIMAL.fullmatch(tree):
                    raise Malformed(f"{tree} is no number")
                self.words[tree] = Fraction(tree) if name is None else name
            case [("+" | "-" | "*"), _, *_] | ["/", _, _, *_]:
                for part in tree[1:]:
                    self._check_term(part)
            case _:
                raise Malformed(f"{tree} is no term")

    def _name(self, word: str) -> str | None:
        if self.new:
            tensor, _, index = word.partition("[")
            digits = index.rstrip("]").split(",") if index else []
            if all(re.fullmatch("[0-9]+", d) for d in digits) and index:
                word = f"{tensor}[{','.join(str(int(d)) for d in digits)}]"
            return self.names.get(word)
        inner = word[1:-1] if word[0] == word[-1] == "|" and len(word) > 1 else word
        return self.names.get(inner)

    def holds(self, values: Values) -> bool:
        """Whether every assertion is true."""
        return all(self._true(tree, values) for tree in self.asserted)

    def _true(self, tree: Tree, values: Values) -> bool:
        if isinstance(tree, str):
            return tree == "true"
        head, parts = tree[0], tree[1:]
        if head == "and":
            return all(self._true(part, values) for part in parts)
        if head == "or":
            return any(self._true(part, values) for part in parts)
        if head == "not":
            return not self._true(parts[0], values)
        if head == "=>":
            return not self._true(parts[0], values) or self._true(parts[1], values)
        numbers = [self.value(part, values) for part in parts]
        if head == "distinct":
            return len(set(numbers)) == len(numbers)
        relation = (COMPARE | EQUAL)[head]
        return all(relation(a, b) for a, b in pairwise(numbers))

    def value(self, tree: Tree, values: Values) -> Fraction:
        """The term's value; `Malformed` for a division by zero."""
        if isinstance(tree, str):
            known = self.words[tree]
            return values[known] if isinstance(known, str) else known
        total, *others = [self.value(part, values) for part in tree[1:]]
        if tree[0] == "-" and not others:
            return -total
        for other in others:
            if tree[0] == "/" and not other:
                raise Malformed("division by zero")
            total = (
                {"+": total + other, "-": total - other, "*": total * other}.get(tree[0])
                if tree[0] != "/"
                else (total / other)
            )
        return total

    def comparisons(self) -> list[tuple[Tree, Tree]]:
        """Every pair of terms that is compared."""
        found, todo = [], list(self.asserted)
        while todo:
            tree = todo.pop()
            if isinstance(tree, list) and tree and tree[0] in (COMPARE | EQUAL):
                found += list(pairwise(tree[1:]))
            elif isinstance(tree, list):
                todo += tree[1:]
        return found


def points(meaning: Meaning, rng: random.Random, count: int) -> Iterator[Values]:
    """Points on borders, next to them, and elsewhere."""
    names = sorted(meaning.names.values())
    compared = meaning.comparisons()
    texts = re.findall(r"(?<![\w.])[-+]?[0-9]+\.?[0-9]*(?:[eE][-+]?[0-9]{1,4})?", str(meaning.asserted)) or ["0"]
    inside: Values | None = None
    for _ in range(count):
        values = {name: Fraction(rng.choice(texts)) if rng.random() < 0.4 else small(rng) for name in names}
        if inside and rng.random() < 0.6:
            values = dict(inside)
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            if compared:
                border(meaning, *rng.choice(compared), rng.choice(names), values, rng)
        if meaning.holds(values):
            inside = values
        yield values


def small(rng: random.Random) -> Fraction:
    return Fraction(rng.randint(-40, 40), 16)


def border(meaning: Meaning, left: Tree, right: Tree, name: str, values: Values, rng: random.Random) -> None:
    """Moves one variable to where both terms are equal, or next to it."""

    def difference(at: int) -> Fraction:
        moved = values | {name: Fraction(at)}
        return meaning.value(left, moved) - meaning.value(right, moved)

    start, slope = difference(0), difference(1) - difference(0)
    if slope:
        gap = rng.choice((0, 0, 0, 1, -1)) * Fraction(1, 10 ** rng.choice((1, 9, 17, 18, 20, 25, 40, 340, 400)))
        values[name] = -start / slope + gap


# ---- texts


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
