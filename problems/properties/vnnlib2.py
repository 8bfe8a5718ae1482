"""VNN-LIB 2.0: from the syntax tree of the `vnnlib` package to formulas.

Version 2.0 declares a network with named tensors, `(declare-input X float32 [1,5])`, and indexes them, `X[0,3]`.
The standard's parser checks scope, types and indices; here its tree becomes the formulas of version 1.0, tensors
flattened in row-major order. One network with one input and one output tensor is verified; hidden tensors and several
tensors or networks are refused with a sentence. So are types and shapes that are not the network's; dimensions of
size 1 make no difference to what an index means, nor here.

The package is compiled and loaded only when a file of this version is met. It descends into nested lists by
recursion, which ends the process where they are nested too deeply: `DEEPEST` is a twentieth of what a stack of 8 MiB
holds. Numbers are taken as they are written, never as the package's floats. Source: the VNN-LIB 2.0 standard, chapters
on the query language and on the solver's command line (https://www.vnnlib.org). Soundness: exact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BadInput
from .cases import to_property
from .decimals import number, rational, shortened
from .formula import And, Formula, Linear, Or, join, summed
from .property import Declaration, Property, TensorDeclaration

if TYPE_CHECKING:
    from ..network.graph import Graph

DEEPEST = 1000
_INDICES = re.compile(r"\[[ \t\r\n]*(?:[0-9]+[ \t\r\n]*(?:,[ \t\r\n]*[0-9]+[ \t\r\n]*)*)?\]")
_STRINGS = re.compile(r'"[^"]*"')
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_WORD = re.compile(rf"[A-Za-z_][A-Za-z0-9_-]*|{_NUMBER}|<=|>=|==|!=|[-+*<>]|<[0-9]+\.[0-9]+>")
_COMMANDS = frozenset(("declare-network", "declare-input", "declare-output", "declare-hidden", "vnnlib-version"))
_ELEMENT_TYPES = {"Real": "real", "F64": "float64", "F32": "float32", "F16": "float16"}
# The standard writes `Real`, version 1.0.2 of the package types constants only against `real`.
_REAL = re.compile(r"(\(\s*declare-(?:input|output|hidden)\s+\S+\s+)Real\b", re.ASCII)


def parse_version_2(text: str, n_in: int, n_out: int, where: str, network: Graph | None = None) -> Property:
    """The property in the text, free of comments, of a version 2.0 file. Raises `BadInput`.

    The declared tensors must have `n_in` and `n_out` elements, with `network` its element type and its shapes.
    """
    try:
        import vnnlib
    except ImportError:
        raise BadInput(f"{where} is VNN-LIB 2.0, which needs the package vnnlib; run pip install vnnlib") from None
    if (depth := _depth(text)) > DEEPEST:
        raise BadInput(f"{where} nests its lists {depth:,} deep, and at most {DEEPEST:,} can be read; write them flat")
    _lexed(text, where)
    try:
        query = vnnlib.parse_query_string(_REAL.sub(r"\1real", text))
    except vnnlib.VNNLibException as error:
        raise BadInput(f"{where} is not valid VNN-LIB 2.0: {_sentence(str(error))}") from None
    except (ValueError, IndexError, TypeError) as error:  # what C++ and the binding throw at odd numbers and letters
        raise BadInput(
            f"{where} cannot be read by the VNN-LIB 2.0 parser; a number is beyond its range, or a character is none "
            f"of VNN-LIB's ({_sentence(str(error))})"
        ) from None
    declaration = _declaration(query, where)
    for tensor, size, what in ((declaration.input, n_in, "input"), (declaration.output, n_out, "output")):
        if prod(tensor.shape) != size:
            raise BadInput(
                f"{where} declares {prod(tensor.shape)} {what} variables ({tensor.name} {list(tensor.shape)}), but the "
                f"network has {size} {what}s; the property and the network do not belong together"
            )
    if network is not None:
        _check_tensor(declaration.input, network.input_shape, network.element_type, where)
        _check_tensor(declaration.output, network.output_shape, network.element_type, where)
    reader = _Reader({declaration.input.name: 0, declaration.output.name: n_in}, where)
    formulas = [reader.formula(assertion.expr) for assertion in query.assertions]
    return replace(to_property(formulas, n_in, n_out, None, where), declaration=declaration)


def _lexed(text: str, where: str) -> None:
    """Raises `BadInput` for text that is none of the language's words: the package's parser mends it by guessing, drops
    a letter or a bracket, or splits a word in two, and goes on."""
    rest = _INDICES.sub(" ", text)
    stray = re.search(r"[][]", rest)
    if stray:
        line = rest.count("\n", 0, stray.start()) + 1
        raise BadInput(f"{where}, line {line}: '{stray[0]}' belongs to no list of indices or dimensions such as [0,3]")
    words = re.findall(r"[^\s()]+", _STRINGS.sub(" ", rest))
    for word in dict.fromkeys(words):
        if not _WORD.fullmatch(word) or (word.startswith(("declare-", "vnnlib-")) and word not in _COMMANDS):
            raise BadInput(
                f"{where}: '{word[:60]}' is no word of VNN-LIB 2.0; write names, numbers and operators apart"
            )


def _depth(text: str) -> int:
    """How deep brackets are nested."""
    raw = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    steps = (raw == ord("(")).astype(np.int8) - (raw == ord(")"))
    return int(np.cumsum(steps, dtype=np.int64).max(initial=0))


def _sentence(message: str) -> str:
    """The first error of the package's JSON report, on one line."""
    try:
        first = json.loads(message)["errors"][0]
        symbol = shortened(str(first["offendingSymbol"]))
        text = f"{first['message']} '{symbol}' (line {first['line']}): {first['hint']}"
    except (ValueError, KeyError, IndexError, TypeError):
        text = message
    return " ".join(text.split()).rstrip(".")[:500]


def _declaration(query: Any, where: str) -> Declaration:
    """What the file declares, where Partita can take it."""
    names = [network.name for network in query.networks]
    if len(names) != 1:
        raise BadInput(f"{where} declares {len(names)} networks ({', '.join(names)}); Partita verifies one at a time")
    (network,) = query.networks
    if network.hidden:
        raise BadInput(f"{where} declares the hidden tensor {network.hidden[0].name}; Partita knows inputs and outputs")
    for tensors, what in ((network.inputs, "input"), (network.outputs, "output")):
        if len(tensors) != 1:
            raise BadInput(f"{where} declares {len(tensors)} {what} tensors; Partita verifies networks with one")
    tensors = []
    for tensor in (network.inputs[0], network.outputs[0]):
        element_type = _ELEMENT_TYPES.get(tensor.dtype.name)
        if element_type is None:
            known = ", ".join(sorted(set(_ELEMENT_TYPES.values())))
            raise BadInput(f"{where}: the element type of {tensor.name} is not one that Partita knows ({known})")
        tensors.append(TensorDeclaration(tensor.name, element_type, tuple(tensor.shape)))
    return Declaration(network.name, *tensors)


def _check_tensor(tensor: TensorDeclaration, shape: tuple[int, ...], element_type: str, where: str) -> None:
    """The declared tensor must be the network's."""
    if [d for d in tensor.shape if d != 1] != [d for d in shape if d != 1]:
        raise BadInput(
            f"{where} declares {tensor.name} with the shape {list(tensor.shape)}, but the network's is {list(shape)}; "
            "the property and the network do not belong together"
        )
    if element_type and tensor.element_type not in ("real", element_type):
        raise BadInput(
            f"{where} declares {tensor.name} as {tensor.element_type}, but the network computes in {element_type}; "
            f"declare it so, or as Real"
        )


_COMPARISONS = {"LessEqual": "<=", "LessThan": "<", "GreaterEqual": ">=", "GreaterThan": ">"}
_COMPARISONS |= {"Equal": "==", "NotEqual": "!="}


class _Reader:
    """Turns the package's tree into formulas; `start` numbers each tensor's first element."""

    def __init__(self, start: dict[str, int], where: str) -> None:
        self.start, self.where = start, where

    def formula(self, node: Any) -> Formula:
        """A `BoolExpr`."""
        return _bottom_up(node, _connected, self._formula)

    def _formula(self, node: Any, parts: list) -> Formula:
        name = type(node).__name__
        if name in ("And", "Or"):
            return join(And if name == "And" else Or, parts)
        relation = _COMPARISONS.get(name)
        if relation is None:
            raise BadInput(f"{self.where}: '{_quoted(node)}' is a {name}, which Partita does not know")
        less, strict = self.term(node.lhs).plus(self.term(node.rhs), -1), relation in ("<", ">", "!=")
        if relation in ("<=", "<"):
            return less.below(strict)
        more = less.times(-1).below(strict)
        if relation in (">=", ">"):
            return more
        return (And if relation == "==" else Or)([less.below(strict), more])

    def term(self, node: Any) -> Linear:
        """An `ArithExpr`."""
        return _bottom_up(node, _operands, self._term)

    def _term(self, node: Any, parts: list[Linear]) -> Linear:
        match type(node).__name__:
            case "Var":
                return Linear({self.start[node.name] + self._flat(node): 1})
            case "Float" | "Int" | "IntExpr":
                return Linear({}, rational(number(node.lexeme)))
            case "Negate":
                return parts[0].times(-1)
            case "Plus":
                return summed(parts, 1)
            case "Minus":
                return summed(parts, -1)
            case "Multiply":
                total = Linear({}, 1)
                for part in parts:
                    if total.terms and part.terms:
                        raise BadInput(
                            f"{self.where}: '{_quoted(node)}' is not linear; Partita verifies linear properties only"
                        )
                    total = total.times(part.constant) if total.terms else part.times(total.constant)
                return total
            case other:
                raise BadInput(f"{self.where}: '{_quoted(node)}' is a {other}, which Partita does not know")

    def _flat(self, node: Any) -> int:
        """The element's place in row-major order."""
        flat = 0
        for index, dimension in zip(node.indices, node.shape, strict=True):
            if not 0 <= index < dimension:
                raise BadInput(f"{self.where}: '{_quoted(node)}' is out of bounds; the shape is {list(node.shape)}")
            flat = flat * dimension + index
        return flat


def _connected(node: Any) -> tuple:
    return tuple(node.args) if type(node).__name__ in ("And", "Or") else ()


def _operands(node: Any) -> tuple:
    match type(node).__name__:
        case "Negate":
            return (node.expr,)
        case "Plus" | "Multiply":
            return tuple(node.args)
        case "Minus":
            return (node.head, *node.rest)
        case _:
            return ()


def _bottom_up(root: Any, parts: Callable[[Any], tuple], build: Callable[[Any, list], Any]) -> Any:
    """`build` of every node and what it made of the node's parts, innermost first; no recursion."""
    todo: list[tuple[Any, int | None]] = [(root, None)]
    done: list = []
    while todo:
        node, start = todo.pop()
        inner = parts(node) if start is None else ()
        if inner:
            todo.append((node, len(done)))
            todo.extend((part, None) for part in reversed(inner))
        else:
            start = len(done) if start is None else start
            value = build(node, done[start:])
            del done[start:]
            done.append(value)
    return done[0]


def _quoted(node: Any) -> str:
    return shortened(" ".join(str(node).split()))
