"""What a property file means: an evaluator of its text that shares nothing with the reader.

`Meaning` reads a text character by character into nested lists and evaluates its assertions at rational points. It
raises `Malformed` where the text is not of the language at all. `points` proposes points where reading goes wrong: on
the border of a comparison, and next to it by as little as 1e-400.
"""

from __future__ import annotations

import operator
import random
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

Tree = str | list["Tree"]
Values = dict[str, Fraction]

COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}
EQUAL = {"=": operator.eq, "==": operator.eq, "distinct": operator.ne, "!=": operator.ne}
DECIMAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?0*[0-9]{1,4})?")
WHITE = " \t\n\r\f\v"


class Malformed(Exception):
    """The text is not a property."""


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
            case ["vnnlib-version", "2.0"] | ["vnnlib-version", "<", _, ">"] if self.new and not self.names:
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
