"""VNN-LIB 1.0: from text to formulas.

Version 1.0 declares `X_i` and `Y_j` one by one and asserts formulas over them. Most of such a file is thousands of
lines `(assert (<= X_17 0.25))`. In a text without strings and quoted names, one regular expression takes these lines
and the declarations out of it and leaves a mark for each; their numbers are read by numpy. What remains goes through
`sexpr.fold`, which also sees to it that every mark stands where a command may stand. Where that meets an error, the
whole text is folded once more, so that the error names its line.

The formula language: `and`, `or`, `not`, `=>`; `<=`, `<`, `>=`, `>`, `=` (chains too), `distinct`; `+`, `-`, `*`, `/`
as long as the result is linear. Variables are declared before they are used, and nothing is said after `(check-sat)`.

Source: Demarchi, Guidotti, Pulina, Tacchella, "Supporting standardization of neural networks verification with
VNN-LIB and CoCoNet" (2023). Soundness: exact.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from . import sexpr
from .bounds import Box, Side
from .cases import LIMIT, to_property
from .decimals import FEW, LARGEST, PLAIN, gaps_of, number, rational, shortened
from .formula import And, Formula, Linear, Not, Or, join, negate, summed
from .property import Property

_MARK = "\0"
_INDEX = r"(0|[1-9][0-9]{0,8})"
_VARIABLE = re.compile(r"\|?([XY])_(0|[1-9][0-9]*)\|?")
_DECLARATION = re.compile(rf"\(\s*declare-const\s+([XY])_{_INDEX}\s+Real\s*\)", re.ASCII)
_BOUND = re.compile(
    rf"\(\s*assert\s*\(\s*([<>])(=?)\s+([XY])_{_INDEX}\s+({PLAIN}(?:[eE][-+]?[0-9]{{1,3}})?)\s*\)\s*\)", re.ASCII
)
_MARKS = re.compile(rf"(?:{_MARK}\s*)+", re.ASCII)
_SILENT = frozenset(("set-logic", "set-info", "set-option", "get-model", "get-value"))
_LAST = frozenset(("check-sat", "exit"))
_FORMULAS = (Linear, And, Or, Not)
_EMPTY = object()  # the list ()


def parse_version_1(text: str, n_in: int, n_out: int, where: str) -> Property:
    """The property in the text, free of comments, of a version 1.0 file. Raises `BadInput`."""
    reader = _Reader(n_in, n_out, where)
    if reader.can_skim(text):
        try:
            sexpr.fold(reader.skim(text), reader.combine, reader.command, where)
        except BadInput:
            reader = _Reader(n_in, n_out, where)
            sexpr.fold(text, reader.combine, reader.command, where)
    else:
        sexpr.fold(text, reader.combine, reader.command, where)
    reader.check_sizes()
    return to_property(reader.formulas, n_in, n_out, reader.box, where)


class _Reader:
    """Collects what a version 1.0 file declares and asserts. Inputs are variables 0 .. n_in - 1, then outputs."""

    def __init__(self, n_in: int, n_out: int, where: str) -> None:
        self.n_in, self.n_out, self.where = n_in, n_out, where
        self.variables: dict[str, int] = {}
        self.inputs = 0  # how many of them are
        self.formulas: list[Formula] = []
        self.box: Box | None = None
        self.ended = ""  # the command after which nothing counts

    # ---- the plain lines, many at a time

    def can_skim(self, text: str) -> bool:
        """Whether plain lines can be told by their look: nothing is quoted, and declarations come first."""
        return sexpr.is_plain(text) and _MARK not in text and text.rfind("declare-") < text.find("assert")

    def skim(self, text: str) -> str:
        """Reads every plain declaration and bound; returns the text with a mark in place of each run of them."""
        text = self._take_bounds(self._take_declarations(text))
        return _MARKS.sub(f"({_MARK})", text)

    def _take_declarations(self, text: str) -> str:
        pieces = _DECLARATION.split(text)
        kinds, indices = pieces[1::3], pieces[2::3]
        start = {"X": 0, "Y": self.n_in}
        fresh = {f"{kind}_{i}": int(i) + start[kind] for kind, i in zip(kinds, indices, strict=True)}
        if len(fresh) == len(kinds) and fresh.keys().isdisjoint(self.variables):
            self.variables |= fresh
            self.inputs += kinds.count("X")
            return _MARK.join(pieces[0::3])
        for kind, index in zip(kinds, indices, strict=True):  # says what is wrong
            self.declare(f"{kind}_{index}", kind, index)
        return _MARK.join(pieces[0::3])

    def _take_bounds(self, text: str) -> str:
        pieces = _BOUND.split(text)
        if len(pieces) == 1:
            return text
        if len(pieces) < 6 * FEW:
            self._take_few(pieces)
            return _MARK.join(pieces[0::6])
        index, texts = np.array(list(map(int, pieces[4::6]))), pieces[5::6]
        is_input = _letters(pieces[3::6]) == ord("X")
        below = _letters(pieces[1::6]) == ord("<")
        equal = pieces[2::6]
        strict = np.array([sign == "" for sign in equal]) if "" in equal else np.zeros(len(equal), dtype=bool)
        if (index >= np.where(is_input, self.n_in, self.n_out)).any():
            raise BadInput(f"{self.where} has a bound on an undeclared variable")
        near = np.array(list(map(float, texts))) + 0.0  # + 0.0: no negative zero
        taken = is_input & (np.abs(near) < LARGEST)
        for k in np.flatnonzero(~taken).tolist():
            variable = int(index[k]) + (0 if is_input[k] else self.n_in)
            self.formulas.append(_bound(variable, bool(below[k]), number(texts[k]), bool(strict[k])))
            texts[k] = "0"
        gaps = gaps_of(texts, np.where(taken, near, 0.0))
        sides = []
        for sign, own in ((-1, np.flatnonzero(taken & ~below)), (1, np.flatnonzero(taken & below))):
            decimals = [texts[k] for k in own.tolist()]
            sides.append(Side.of_texts(sign, self.n_in, index[own], decimals, near[own], gaps[own], strict[own]))
        self.box = Box(*sides)
        return _MARK.join(pieces[0::6])

    def _take_few(self, pieces: list[str]) -> None:
        n_in = self.n_in
        lower: list[tuple[int, str, bool]] = []
        upper: list[tuple[int, str, bool]] = []
        for k in range(1, len(pieces), 6):
            relation, equal, kind, i, text = pieces[k : k + 5]
            index = int(i)
            if index >= (n_in if kind == "X" else self.n_out):
                raise BadInput(f"{self.where} has a bound on an undeclared variable")
            if kind == "X" and -LARGEST < float(text) < LARGEST:
                (upper if relation == "<" else lower).append((index, text, not equal))
            else:
                variable = index if kind == "X" else index + n_in
                self.formulas.append(_bound(variable, relation == "<", number(text), not equal))
        self.box = Box(Side.of_few(-1, n_in, lower), Side.of_few(1, n_in, upper))

    # ---- everything else, list by list

    def declare(self, name: str, kind: str, index: str) -> None:
        """Makes a variable known."""
        size, what = (self.n_in, "inputs") if kind == "X" else (self.n_out, "outputs")
        if name in self.variables:
            raise BadInput(f"'{name}' is declared twice")
        if len(index) > 9:
            raise BadInput(f"'{shortened(name)}' is declared, but the network has {size:,} {what}")
        self.variables[name] = int(index) + (self.n_in if kind == "Y" else 0)
        self.inputs += kind == "X"

    def check_sizes(self) -> None:
        """The declared variables must be exactly the network's."""
        many = self.n_in + self.n_out
        as_many = (len(self.variables), self.inputs) == (many, self.n_in)
        if as_many and 2 * sum(self.variables.values()) == many * (many - 1):
            return  # different indices have this sum only where they are the first
        for kind, size, what in (("X", self.n_in, "input"), ("Y", self.n_out, "output")):
            declared = [name for name in self.variables if name[0] == kind]
            if len(declared) != size:
                raise BadInput(
                    f"{self.where} declares {len(declared)} {what} variables ({kind}_i), but the network has {size} "
                    f"{what}s; the property and the network do not belong together"
                )
            gaps = [i for i in range(size) if f"{kind}_{i}" not in self.variables]
            if gaps:
                raise BadInput(f"{self.where} does not declare {kind}_{gaps[0]}; number the {what}s from 0 on")

    def command(self, items: list) -> None:
        """An outermost list."""
        head = items[0] if items else None
        if not isinstance(head, str):
            raise BadInput("a command must start with its name")
        if self.ended and head not in _SILENT and head not in _LAST:
            raise BadInput(f"nothing may be declared or asserted after ({self.ended})")
        match items:
            case ["declare-const", str(name), "Real"]:
                self._declaration(name)
            case ["declare-fun", str(name), arguments, "Real"] if arguments is _EMPTY:
                self._declaration(name)
            case ["declare-const" | "declare-fun", *_]:
                name = shortened(items[1]) if len(items) > 1 and isinstance(items[1], str) else "X_0"
                raise BadInput(f"the declaration of '{name}' is not of the form (declare-const {name} Real)")
            case ["assert", formula]:
                self.formulas.append(self._formula(formula))
            case ["assert", *_]:
                raise BadInput("an assertion holds exactly one formula")
            case _ if head in _LAST:
                self.ended = head
            case _ if head in _SILENT or head == _MARK:
                pass
            case _:
                raise BadInput(f"'{shortened(head)}' is not a command of VNN-LIB 1.0 (declare-const, assert)")

    def _declaration(self, name: str) -> None:
        variable = _VARIABLE.fullmatch(name)
        if not variable:
            raise BadInput(f"'{shortened(name)}' is declared, but Partita knows only inputs X_i and outputs Y_i")
        self.declare(f"{variable[1]}_{variable[2]}", variable[1], variable[2])

    def combine(self, items: list) -> Any:
        """An inner list: a `_Term` inside comparisons, else a formula."""
        if not items:
            return _EMPTY  # the argument list of declare-fun
        head, arguments = items[0], items[1:]
        match head:
            case "and" | "or":
                if len(arguments) == 1:
                    return self._formula(arguments[0])
                return join(And if head == "and" else Or, [self._formula(a) for a in arguments])
            case "<=" | "<" | ">=" | ">" | "=":
                return self._comparison(head, arguments)
            case "+" | "-" | "*" | "/":
                return _Term(_arithmetic(head, [self._term(a) for a in arguments]))
            case "not" if len(arguments) == 1:
                return negate(self._formula(arguments[0]))
            case "=>" if len(arguments) == 2:
                return join(Or, [negate(self._formula(arguments[0])), self._formula(arguments[1])])
            case "distinct" if len(arguments) > 1:
                return self._distinct([self._term(a) for a in arguments])
            case "assert" | "declare-const" | "declare-fun":
                raise BadInput(f"'{head}' stands inside another list; assertions and declarations are outermost")
            case str() if head == _MARK:
                raise BadInput("an assertion or declaration stands inside another list")
            case str():
                raise BadInput(f"'{shortened(head)}' with {len(arguments)} arguments is not part of linear VNN-LIB 1.0")
            case _:
                raise BadInput("a list must start with an operator")

    def _comparison(self, relation: str, arguments: list) -> Formula:
        if len(arguments) < 2:
            raise BadInput(f"'{relation}' compares at least two terms")
        if len(arguments) == 2 and relation != "=" and isinstance(arguments[1], str):
            variable = self.variables.get(arguments[0]) if isinstance(arguments[0], str) else None
            if variable is not None and arguments[1] not in self.variables and arguments[1][0] in "+-.0123456789":
                return _bound(variable, relation[0] == "<", number(arguments[1]), len(relation) == 1)
        terms = [self._term(a) for a in arguments]
        atoms: list[Formula] = []
        for left, right in pairwise(terms):
            if relation[0] in "<=":
                atoms.append(left.plus(right, -1).below(relation == "<"))
            if relation[0] in ">=":
                atoms.append(right.plus(left, -1).below(relation == ">"))
        return join(And, atoms)

    def _distinct(self, terms: list[Linear]) -> Formula:
        if len(terms) * (len(terms) - 1) // 2 > LIMIT:
            raise BadInput(f"'distinct' with {len(terms):,} terms says too much for Partita")
        pairs: list[Formula] = []
        for left, right in combinations(terms, 2):
            less = left.plus(right, -1).below(strict=True)
            pairs.append(Or([less, right.plus(left, -1).below(strict=True)]))
        return join(And, pairs)

    def _formula(self, item: Any) -> Formula:
        if isinstance(item, _FORMULAS):
            return item
        if isinstance(item, str) and item in ("true", "false"):
            return And([]) if item == "true" else Or([])
        raise BadInput(
            f"a formula was expected, not '{shortened(item)}'" if isinstance(item, str) else "a formula was expected"
        )

    def _term(self, item: Any) -> Linear:
        if isinstance(item, _Term):
            return item.value
        if not isinstance(item, str):
            raise BadInput("a number was expected, not a formula")
        variable = self.variables.get(item)
        if variable is not None:
            return Linear({variable: 1})
        quoted = _VARIABLE.fullmatch(item)
        if quoted:
            variable = self.variables.get(f"{quoted[1]}_{quoted[2]}")
            if variable is None or item.count("|") == 1:
                raise BadInput(f"'{shortened(item)}' is used, but not declared")
            return Linear({variable: 1})
        return Linear({}, rational(number(item)))


class _Term:
    """A number-valued list, kept apart from the formula that `Linear` alone would mean."""

    __slots__ = ("value",)

    def __init__(self, value: Linear) -> None:
        self.value = value


def _letters(words: list[str]) -> NDArray[np.uint8]:
    """Words of one letter each, as its code."""
    return np.frombuffer("".join(words).encode("ascii"), np.uint8)


def _bound(variable: int, below: bool, value: Decimal, strict: bool) -> Linear:
    """variable <= value or, unless `below`, variable >= value."""
    return Linear({variable: 1}, value.copy_negate(), strict) if below else Linear({variable: -1}, value, strict)


def _arithmetic(operator: str, terms: list[Linear]) -> Linear:
    """The sum, difference, product or quotient of linear terms, where it is linear."""
    if not terms or (operator == "/" and len(terms) == 1):
        raise BadInput(f"'{operator}' has {'no arguments' if not terms else 'one argument, and divides two'}")
    if operator == "-" and len(terms) == 1:
        return terms[0].times(-1)
    if operator in "+-":
        return summed(terms, 1 if operator == "+" else -1)
    total = terms[0]
    for term in terms[1:]:
        if operator == "*":
            total = product_of(total, term)
        elif term.terms or not term.constant:
            raise BadInput("a division by a variable or by zero is not linear")
        else:
            total = total.times(1 / Fraction(term.constant))
    return total


def product_of(a: Linear, b: Linear) -> Linear:
    """a * b, where one of them is constant."""
    if a.terms and b.terms:
        raise BadInput("a product of two variables is not linear; Partita verifies linear properties only")
    return a.times(b.constant) if a.terms else b.times(a.constant)
