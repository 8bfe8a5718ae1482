"""VNN-LIB: property files in (versions 1.0 and 2.0), witness text out.

Version 1.0 declares `X_i` and `Y_j` one by one and asserts formulas over them; it is read here. Most of such a file
is thousands of lines `(assert (<= X_17 0.25))`: one regular expression takes these lines and the declarations out of
the text and numpy reads their numbers; what remains goes through `sexpr.fold`. Where that meets an error, the whole
text is folded once more, so that the error names its line. Version 2.0 is parsed by the `vnnlib` package (`vnnlib2`).

The formula language: `and`, `or`, `not`, `=>`; `<=`, `<`, `>=`, `>`, `=` (chains too); `+`, `-`, `*`, `/` as long as
the result is linear. A strict comparison is read as its closure, which is what the competition's checkers accept.

Source: Demarchi, Guidotti, Pulina, Tacchella, "Supporting standardization of neural networks verification with
VNN-LIB and CoCoNet" (2023); the form of counterexamples is that of VNN-COMP 2023 and later. Soundness: see `formula`.
"""

from __future__ import annotations

import gzip
import re
import zlib
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from . import sexpr
from .errors import BadInput
from .formula import And, Formula, Linear, Or, join, negate, number, to_property
from .property import Array, Declaration, Property

VERSIONS = ("1.0", "2.0")

_INDEX, _NUMBER = r"(0|[1-9]\d*)", r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_VARIABLE = re.compile(rf"([XY])_{_INDEX}")
_DECLARATION = re.compile(rf"\(\s*declare-const\s+([XY])_{_INDEX}\s+Real\s*\)")
_BOUND = re.compile(rf"\(\s*assert\s*\(\s*([<>])=?\s+([XY])_{_INDEX}\s+{_NUMBER}\s*\)\s*\)")
_VERSION_2 = re.compile(r"\A\s*\(\s*(vnnlib-version|declare-network)\b")
_SILENT = frozenset(("set-logic", "set-info", "set-option", "check-sat", "get-model", "get-value", "exit"))


def load_property(path: str | Path, n_in: int, n_out: int) -> Property:
    """The property in a `.vnnlib` or `.vnnlib.gz` file, for a network with `n_in` inputs and `n_out` outputs.

    Raises `BadInput` for a file that cannot be read, is malformed or not linear, does not match the network's sizes,
    or leaves an input without bounds.
    """
    path = Path(path)
    return parse_property(_text(path), n_in, n_out, path.name)


def parse_property(text: str, n_in: int, n_out: int, where: str = "the property") -> Property:
    """The property in the text of a VNN-LIB file; `where` names it in errors."""
    text = sexpr.without_comments(text)
    if not text.strip():
        raise BadInput(f"{where} is empty; a VNN-LIB property declares variables and asserts constraints")
    if _VERSION_2.match(text):
        from .vnnlib2 import parse_version_2

        return parse_version_2(text, n_in, n_out, where)
    reader = _Reader(n_in, n_out, where)
    try:
        rest = reader.take_bounds(reader.take_declarations(text))
        sexpr.fold(rest, reader.combine, reader.command, where)
    except BadInput:
        whole = _Reader(n_in, n_out, where)
        sexpr.fold(text, whole.combine, whole.command, where)
        whole.check_sizes()
        raise
    reader.check_sizes()
    return to_property(reader.formulas, n_in, n_out, (reader.lower, reader.upper), where)


def _text(path: Path) -> str:
    """The file's text, decompressed where it starts like a gzip file."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return data.decode("utf-8")
    except FileNotFoundError:
        raise BadInput(f"the property {path} does not exist") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise BadInput(f"the property {path} is a damaged or truncated gzip file") from None
    except UnicodeDecodeError:
        raise BadInput(f"the property {path} is not a text file") from None
    except OSError as error:
        raise BadInput(f"the property {path} cannot be read: {error.strerror}") from None


class _Reader:
    """Collects what a version 1.0 file declares and asserts. Inputs are variables 0 .. n_in - 1, then outputs."""

    def __init__(self, n_in: int, n_out: int, where: str) -> None:
        self.n_in, self.n_out, self.where = n_in, n_out, where
        self.variables: dict[str, int] = {}
        self.formulas: list[Formula] = []
        self.lower, self.upper = np.full(n_in, -inf), np.full(n_in, inf)

    # ---- the plain lines, many at a time

    def take_declarations(self, text: str) -> str:
        """Reads every plain declaration and returns the text without them."""
        pieces = _DECLARATION.split(text)
        for kind, index in zip(pieces[1::3], pieces[2::3], strict=True):
            self.declare(f"{kind}_{index}", kind, int(index))
        return "".join(pieces[0::3])

    def take_bounds(self, text: str) -> str:
        """Reads every assertion that compares one variable with one number and returns the text without them."""
        pieces = _BOUND.split(text)
        relations, kinds = np.array(pieces[1::5]), np.array(pieces[2::5])
        if not len(kinds):
            return text
        index = np.array(pieces[3::5]).astype(np.int64)
        value = np.array([float(word) for word in pieces[4::5]])
        limits = np.where(kinds == "X", self.n_in, self.n_out)
        if not np.isfinite(value).all() or (index >= limits).any():
            raise BadInput(f"{self.where} has a bound on an undeclared variable, or one that is not finite")
        for relation, extreme, side in (("<", np.minimum, self.upper), (">", np.maximum, self.lower)):
            chosen = (kinds == "X") & (relations == relation)
            extreme.at(side, index[chosen], value[chosen])
        for k in np.flatnonzero(kinds == "Y"):
            sign = 1.0 if relations[k] == "<" else -1.0
            self.formulas.append(Linear({self.n_in + int(index[k]): sign}, -sign * float(value[k])))
        return "".join(pieces[0::5])

    # ---- everything else, list by list

    def declare(self, name: str, kind: str, index: int) -> None:
        """Makes a variable known."""
        if name in self.variables:
            raise BadInput(f"'{name}' is declared twice")
        self.variables[name] = index + (self.n_in if kind == "Y" else 0)

    def check_sizes(self) -> None:
        """The declared variables must be exactly the network's."""
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
        match items:
            case ["declare-const", str(name), "Real"] | ["declare-fun", str(name), And(parts=[]), "Real"]:
                variable = _VARIABLE.fullmatch(name)
                if not variable:
                    raise BadInput(f"'{name}' is declared, but Partita knows only inputs X_i and outputs Y_i")
                self.declare(name, variable[1], int(variable[2]))
            case ["declare-const" | "declare-fun", str(name), *_]:
                raise BadInput(f"the declaration of '{name}' is not of the form (declare-const {name} Real)")
            case ["assert", formula]:
                self.formulas.append(self._formula(formula))
            case ["assert", *_]:
                raise BadInput("an assertion holds exactly one formula")
            case [str(head), *_] if head in _SILENT:
                pass
            case [str(head), *_]:
                raise BadInput(f"'{head}' is not a command of VNN-LIB 1.0 (declare-const, assert)")
            case _:
                raise BadInput("a command must start with its name")

    def combine(self, items: list) -> Any:
        """An inner list: a `Linear` term inside comparisons, else a formula."""
        if not items:
            return And([])  # the empty argument list of declare-fun
        head, arguments = items[0], items[1:]
        match head:
            case "and" | "or":
                return join(And if head == "and" else Or, [self._formula(a) for a in arguments])
            case "<=" | "<" | ">=" | ">" | "=":
                return self._comparison(head, [self._term(a) for a in arguments])
            case "+" | "-" | "*" | "/":
                return _Term(_arithmetic(head, [self._term(a) for a in arguments]))
            case "not" if len(arguments) == 1:
                return negate(self._formula(arguments[0]))
            case "=>" if len(arguments) == 2:
                return join(Or, [negate(self._formula(arguments[0])), self._formula(arguments[1])])
            case "distinct" | "!=":
                raise BadInput(f"'{head}' excludes single points, which no closed unsafe set can; leave it out")
            case str():
                raise BadInput(f"'{head}' with {len(arguments)} arguments is not part of linear VNN-LIB 1.0")
            case _:
                raise BadInput("a list must start with an operator")

    def _comparison(self, relation: str, terms: list[Linear]) -> Formula:
        if len(terms) < 2:
            raise BadInput(f"'{relation}' compares at least two terms")
        atoms: list[Formula] = []
        for left, right in pairwise(terms):
            if relation[0] in "<=":
                atoms.append(left.plus(right, -1.0))
            if relation[0] in ">=":
                atoms.append(right.plus(left, -1.0))
        return join(And, atoms)

    def _formula(self, item: Any) -> Formula:
        if isinstance(item, Linear | And | Or):
            return item
        if item in ("true", "false"):
            return And([]) if item == "true" else Or([])
        raise BadInput(f"a formula was expected, not '{item}'" if isinstance(item, str) else "a formula was expected")

    def _term(self, item: Any) -> Linear:
        if isinstance(item, _Term):
            return item.value
        if not isinstance(item, str):
            raise BadInput("a number was expected, not a formula")
        variable = self.variables.get(item)
        if variable is not None:
            return Linear({variable: 1.0})
        if _VARIABLE.fullmatch(item):
            raise BadInput(f"'{item}' is used, but not declared")
        return Linear({}, number(item))


class _Term:
    """A number-valued list, kept apart from the formula that `Linear` alone would mean."""

    __slots__ = ("value",)

    def __init__(self, value: Linear) -> None:
        self.value = value


def _arithmetic(operator: str, terms: list[Linear]) -> Linear:
    """The sum, difference, product or quotient of linear terms, where it is linear."""
    if not terms:
        raise BadInput(f"'{operator}' has no arguments")
    if operator == "-" and len(terms) == 1:
        return terms[0].times(-1.0)
    total = terms[0]
    for term in terms[1:]:
        if operator in "+-":
            total = total.plus(term, 1.0 if operator == "+" else -1.0)
        elif operator == "*":
            total = product_of(total, term)
        elif term.terms or not term.constant:
            raise BadInput("a division by a variable or by zero is not linear")
        else:
            total = Linear({v: a / term.constant for v, a in total.terms.items()}, total.constant / term.constant)
    return total


def product_of(a: Linear, b: Linear) -> Linear:
    """a * b, where one of them is constant."""
    if a.terms and b.terms:
        raise BadInput("a product of two variables is not linear; Partita verifies linear properties only")
    return a.times(b.constant) if a.terms else b.times(a.constant)


def witness_text(x: Array, y: Array, declaration: Declaration | None = None) -> str:
    """The assignment of a counterexample, without the line `sat`: x (n_in,), y (n_out,).

    Without a declaration the form of version 1.0, `((X_0 0.5)` to `(Y_0 1.25))`; with one that of version 2.0: for
    each tensor a line with name, element type and shape, then one value a line. Numbers are printed so that reading
    them as float64 gives the same value.
    """
    if declaration is None:
        pairs = [f"(X_{i} {float(v)!r})" for i, v in enumerate(x)] + [f"(Y_{i} {float(v)!r})" for i, v in enumerate(y)]
        return "(" + "\n ".join(pairs) + ")"
    lines = []
    for tensor, values in ((declaration.input, x), (declaration.output, y)):
        lines.append(f"{tensor.name} {tensor.element_type} [{','.join(map(str, tensor.shape))}]")
        lines.extend(repr(float(v)) for v in values)
    return "\n".join(lines)
