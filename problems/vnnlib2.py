"""VNN-LIB 2.0: from the syntax tree of the `vnnlib` package to a `Property`.

Version 2.0 declares a network with named tensors, `(declare-input X float32 [1,5])`, and indexes them, `X[0,3]`.
The standard's parser checks scope, types and indices; here its tree becomes the formulas of version 1.0, tensors
flattened in row-major order. One network with one input and one output tensor is verified; hidden tensors, several
tensors or networks, and `!=` are refused with a sentence.

The package is compiled and loaded only when a file of this version is met. Source: the VNN-LIB 2.0 standard,
chapters on the query language and on the solver's command line (https://www.vnnlib.org).
"""

from __future__ import annotations

import json
import re
from math import prod
from typing import Any

import numpy as np

from .cases import to_property
from .decimals import number, rational
from .errors import BadInput
from .formula import And, Formula, Linear, Or, join
from .property import Declaration, Property, TensorDeclaration

_ELEMENT_TYPES = {"Real": "real", "Unknown": "real", "F64": "float64", "F32": "float32", "F16": "float16"}
# The standard writes `Real`, version 1.0.2 of the package types constants only against `real`.
_REAL = re.compile(r"(\(\s*declare-(?:input|output|hidden)\s+\S+\s+)Real\b")


def parse_version_2(text: str, n_in: int, n_out: int, where: str) -> Property:
    """The property in the text of a version 2.0 file. Raises `BadInput` as `vnnlib.load_property` does."""
    try:
        import vnnlib
    except ImportError:
        raise BadInput(f"{where} is VNN-LIB 2.0, which needs the package vnnlib; run pip install vnnlib") from None
    try:
        query = vnnlib.parse_query_string(_REAL.sub(r"\1real", text))
    except vnnlib.VNNLibException as error:
        raise BadInput(f"{where} is not valid VNN-LIB 2.0: {_sentence(str(error))}") from None
    declaration = _declaration(query, where)
    for tensor, size, what in ((declaration.input, n_in, "input"), (declaration.output, n_out, "output")):
        if prod(tensor.shape) != size:
            raise BadInput(
                f"{where} declares {prod(tensor.shape)} {what} variables ({tensor.name} {list(tensor.shape)}), but the "
                f"network has {size} {what}s; the property and the network do not belong together"
            )
    reader = _Reader({declaration.input.name: 0, declaration.output.name: n_in}, where)
    try:
        formulas = [reader.formula(assertion.expr) for assertion in query.assertions]
    except RecursionError:
        raise BadInput(f"{where} nests its formulas too deeply") from None
    found = to_property(formulas, n_in, n_out, None, where)
    return Property(found.cases, n_in, n_out, where, declaration)


def _sentence(message: str) -> str:
    """The first error of the package's JSON report, on one line."""
    try:
        first = json.loads(message)["errors"][0]
        text = f"{first['message']} '{first['offendingSymbol']}' (line {first['line']}): {first['hint']}"
    except (ValueError, KeyError, IndexError, TypeError):
        text = message
    return " ".join(text.split()).rstrip(".")


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
            raise BadInput(f"{where}: {tensor.name} has elements of type {tensor.dtype.name}; Partita knows {known}")
        tensors.append(TensorDeclaration(tensor.name, element_type, tuple(tensor.shape)))
    return Declaration(network.name, *tensors)


class _Reader:
    """Turns the package's tree into formulas; `start` numbers each tensor's first element."""

    def __init__(self, start: dict[str, int], where: str) -> None:
        self.start, self.where = start, where

    def formula(self, node: Any) -> Formula:
        """A `BoolExpr`."""
        match type(node).__name__:
            case "And":
                return join(And, [self.formula(part) for part in node.args])
            case "Or":
                return join(Or, [self.formula(part) for part in node.args])
            case "LessEqual" | "LessThan" as name:
                return self.term(node.lhs).plus(self.term(node.rhs), -1).below(name == "LessThan")
            case "GreaterEqual" | "GreaterThan" as name:
                return self.term(node.rhs).plus(self.term(node.lhs), -1).below(name == "GreaterThan")
            case "Equal" | "NotEqual" as name:
                less = self.term(node.lhs).plus(self.term(node.rhs), -1).below(name == "NotEqual")
                more = less.times(-1).below(name == "NotEqual")
                return And([less, more]) if name == "Equal" else Or([less, more])
            case other:
                raise BadInput(f"{self.where}: '{node}' is a {other}, which Partita does not know")

    def term(self, node: Any) -> Linear:
        """An `ArithExpr`."""
        match type(node).__name__:
            case "Var":
                flat = int(np.ravel_multi_index(node.indices, node.shape)) if node.shape else 0
                return Linear({self.start[node.name] + flat: 1})
            case "Float" | "Int" | "IntExpr":
                return Linear({}, rational(number(node.lexeme)))
            case "Negate":
                return self.term(node.expr).times(-1)
            case "Plus":
                return self._sum([self.term(part) for part in node.args], 1)
            case "Minus":
                return self._sum([self.term(part) for part in (node.head, *node.rest)], -1)
            case "Multiply":
                total = Linear({}, 1)
                for part in node.args:
                    factor = self.term(part)
                    if total.terms and factor.terms:
                        raise BadInput(f"{self.where}: '{node}' is not linear; Partita verifies linear properties only")
                    total = total.times(factor.constant) if total.terms else factor.times(total.constant)
                return total
            case other:
                raise BadInput(f"{self.where}: '{node}' is a {other}, which Partita does not know")

    def _sum(self, terms: list[Linear], sign: int) -> Linear:
        total = terms[0]
        for term in terms[1:]:
            total = total.plus(term, sign)
        return total
