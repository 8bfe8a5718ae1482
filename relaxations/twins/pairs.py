"""Twins: pairs of entries of a network that are the same function of different inputs, found in its weights.

Two entries of affine nodes are twins if their biases are equal and their inputs can be matched so that each matches
itself or a twin of its own, under the same weight; two entries of activation nodes, if the functions are equal and the
pre-activations are twins; any two coordinates of the input are. A network that holds two copies of the same weights is
full of them, be the copies branches of their own, or blocks of one layer, or share some inputs, or be permuted.

What is wanted is the value of rows in which twins have opposite coefficients (is Y_0 - Y_1 <= 0?), so the search goes
downwards from there: pair by pair, the pairs below that the matching needs. Which matching does not matter for
soundness, only for what `differences` makes of it; candidates are told apart by

    colour(entry) = a hash of its bias, its function, and the sum over its inputs of a hash of (weight, colour),

all inputs being alike at first (Weisfeiler and Leman 1968): twins have equal colours. Ties are broken by colours where
inputs are told apart by what reads them, then by half-spaces that relate two inputs, then by position.

Whatever the hash says, weights and biases are compared, so what is returned are twins. Weights whose stored value may
not be the exact one (see `network.matrix`) may differ by what is returned with the pair as `loose`. Soundness: exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ...kernels.deadline import check
from ...kernels.proof_constants import SUMMED
from ...kernels.rounding import unit_roundoff
from ...problems.network.graph import Activation, Affine, Graph, Input
from ...problems.network.matrix import matrix
from ..effort import TWINS, TwinEffort
from ..linear.rounding import folded

Entry = tuple[int, int]  # node, index
Pair = tuple[Entry, Entry]
L = TypeVar("L")  # what is equal for entries that may be matched


@dataclass(eq=False)
class Twin:
    """A pair of affine entries: the pairs below whose differences it sums, with weights, and for entries of inexact
    weights how much the value of each can be worth, more or less."""

    below: list[tuple[Pair, float]] = field(default_factory=list)
    loose: list[tuple[Entry, float]] = field(default_factory=list)


class Twins:
    """The twins of one network, as far as they were asked for.

    `pairs` has an entry for each pair that was needed: a `Twin` where its entries belong to affine nodes, None where
    they are of the input or of activation nodes (whose pair of pre-activations has an entry then).
    """

    def __init__(
        self, graph: Graph, related: frozenset[tuple[int, int]] = frozenset(), effort: TwinEffort = TWINS
    ) -> None:
        """`graph` in float64 on the CPU; `related`: pairs of inputs that half-spaces relate."""
        self.graph, self.effort, self.related = graph, effort, related | {(j, i) for i, j in related}
        self.pairs: dict[Pair, Twin | None] = {}
        self._unlike: set[Pair] = set()
        self._rows: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = {}
        self._colours: tuple[list[np.ndarray], list[np.ndarray]] | None = None

    def possible(self) -> bool:
        """Whether the network's matrices are small enough to be looked at."""
        entries = 0
        if len(self.graph.nodes) > self.effort.nodes:
            return False
        for node in self.graph.nodes:
            if isinstance(node, Affine):
                entries += sum(operator.n_in * operator.n_out for operator in node.operators)
        return entries <= self.effort.entries

    def match(self, ones: list[tuple[Entry, L]], others: list[tuple[Entry, L]]) -> list[tuple[Pair, L]]:
        """Pairs of twins, one of `ones` and one of `others`, with equal labels; each entry is used once. What has no
        twin is left out. The pairs' own pairs are found as well."""
        first, second = self.colours()
        waiting: dict[tuple, list[Entry]] = defaultdict(list)
        for entry, label in others:
            waiting[label, first[entry[0]][entry[1]]].append(entry)
        found = []
        key = lambda entry: second[entry[0]][entry[1]]  # noqa: E731
        for entry, label in sorted(ones, key=lambda item: item[0]):
            left = waiting.get((label, first[entry[0]][entry[1]]), [])
            if not left:
                continue
            best = min(
                left, key=lambda other: (other != entry, key(other) != key(entry), not self._kin(entry, other), other)
            )
            if best == entry or self.add((entry, best)):
                left.remove(best)
                found.append(((entry, best), label))
        return found

    def _kin(self, one: Entry, other: Entry) -> bool:
        return one[0] == 0 and other[0] == 0 and (one[1], other[1]) in self.related

    def add(self, pair: Pair) -> bool:
        """Whether the two entries are twins; if so, they and all pairs they need are among `pairs`."""
        if pair in self.pairs:
            return True
        if len(self.pairs) >= self.effort.pairs or pair in self._unlike:
            return False
        one, other = (self.graph.nodes[entry[0]] for entry in pair)
        match one, other:
            case Input(), Input():
                self.pairs[pair] = None
                return True
            case Activation(), Activation():
                below = (one.inputs[0], pair[0][1]), (other.inputs[0], pair[1][1])
                if one.function != other.function or (below[0] != below[1] and not self.add(below)):
                    return False
                self.pairs[pair] = None
                return True
            case Affine(), Affine():
                twin = self._affine(pair)
                if twin is None:
                    self._unlike.add(pair)
                    return False
                self.pairs[pair] = twin
                return True
        return False

    def _affine(self, pair: Pair) -> Twin | None:
        bias = [[side[index].item() for side in self.graph.affine(node).bias_sides()] for node, index in pair]
        if not bias[0][0] == bias[0][1] == bias[1][0] == bias[1][1]:  # biases in doubt may differ
            return None
        first, second = self._terms(pair[0]), self._terms(pair[1])
        if first is None or second is None:
            return None
        (ones, loose), (others, loose_too) = first, second
        if len(ones) != len(others):
            return None
        common = set(ones) & set(others)
        ones, others = [t for t in ones if t not in common], [t for t in others if t not in common]
        found = self.match(ones, others)
        if len(found) < len(ones):
            return None
        return Twin(found, loose + loose_too)

    def _terms(self, entry: Entry) -> tuple[list[tuple[Entry, float]], list[tuple[Entry, float]]] | None:
        """The inputs of an affine entry with their weights, and those whose weight is not exact with its error; None
        where an input has several weights, the sum of which nothing here knows."""
        terms, loose = [], []
        for source, weights, errors in self.rows(entry[0]):
            row, error = weights[entry[1]], errors[entry[1]]
            terms += [((source, int(j)), float(row[j])) for j in np.flatnonzero(row)]
            loose += [((source, int(j)), float(error[j])) for j in np.flatnonzero(error)]
        return None if len({entry for entry, _ in terms}) < len(terms) else (terms, loose)

    def rows(self, node: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """For each input of an affine node its matrix, and how far its entries may be from the exact ones."""
        if node not in self._rows:
            affine, parts = self.graph.affine(node), []
            for source, operator in zip(affine.inputs, affine.operators, strict=True):
                weight = matrix(operator)
                exact = weight.to(torch.float32).double() == weight
                error = torch.where(exact, 0.0, 2 * unit_roundoff(torch.float64) * weight.abs())
                if folded(operator):
                    scale = matrix(operator.magnitude())
                    error = torch.maximum(error, SUMMED * operator.terms * unit_roundoff(torch.float64) * scale)
                parts.append((source, weight.numpy(), error.numpy()))
            self._rows[node] = parts
        return self._rows[node]

    def colours(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The colours of all entries with all inputs alike, and with inputs told apart by what reads them."""
        if self._colours is None:
            size = self.graph.input_size
            alike = self._upwards(np.zeros(size, dtype=np.uint64))
            apart = alike
            for _ in range(self.effort.rounds):
                told = np.zeros(size, dtype=np.uint64)
                for node, colours in enumerate(apart):
                    if isinstance(self.graph.nodes[node], Affine):
                        for source, weight, _ in self.rows(node):
                            if source == 0:
                                for part in _parts(weight, self.effort.part):
                                    hashed = _hashed(weight[part], colours[part, None])
                                    told += hashed.sum(0, dtype=np.uint64)
                apart = self._upwards(_mix(told))
            self._colours = alike, apart
        return self._colours

    def _upwards(self, inputs: np.ndarray) -> list[np.ndarray]:
        found, functions = [inputs], []
        for position, node in enumerate(self.graph.nodes[1:], 1):
            match node:
                case Affine():
                    total = _hashed(node.bias.numpy()[:, None], np.zeros(1, dtype=np.uint64))[:, 0]
                    for source, weight, _ in self.rows(position):
                        sums = [
                            _hashed(weight[k], found[source]).sum(1, dtype=np.uint64)
                            for k in _parts(weight, self.effort.part)
                        ]
                        total = total + np.concatenate(sums)
                    found.append(_mix(total))
                case Activation():
                    if node.function not in functions:
                        functions.append(node.function)
                    found.append(_mix(found[node.inputs[0]] + np.uint64(1 + functions.index(node.function))))
                case _:  # a product is its own kind
                    found.append(_mix(np.arange(node.size, dtype=np.uint64) + np.uint64(position << 32)))
        return found


def _mix(x: np.ndarray) -> np.ndarray:
    """A permutation of the 64-bit numbers that leaves no pattern (splitmix64, Steele et al. 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _hashed(weight: np.ndarray, colour: np.ndarray) -> np.ndarray:  # (m, n), (n,) or (m, 1) -> (m, n)
    """A hash of each weight with the colour it goes to; 0 where there is no weight."""
    bits = np.ascontiguousarray(weight, dtype=np.float64).view(np.uint64)
    return np.where(weight != 0, _mix(_mix(bits) + colour), np.uint64(0))


def _parts(weight: np.ndarray, entries: int) -> Iterator[slice]:
    """The rows of a matrix in parts of about so many entries, that are worked on between two looks at the clock."""
    size = max(1, entries // max(1, weight.shape[1]))
    for start in range(0, max(1, len(weight)), size):
        check()
        yield slice(start, start + size)


def groups(twins: Twins) -> dict[tuple[int, int], list[Pair]]:
    """The pairs by the nodes they belong to, each group after those it needs."""
    found: dict[tuple[int, int], list[Pair]] = defaultdict(list)
    for pair in twins.pairs:
        found[pair[0][0], pair[1][0]].append(pair)
    return {key: found[key] for key in sorted(found, key=lambda key: (max(key), min(key)))}


def indices(pairs: list[Pair], side: int) -> Tensor:  # (K,)
    """The entries' indices in their node."""
    return torch.tensor([pair[side][1] for pair in pairs], dtype=torch.int64)
