"""Which leaves of a measured tree count: proper ones, and apart from them what closed sides add.

A leaf of activation branches is *proper* if its half-open version, {x in X : z <= 0 | z > 0 for every decided neuron},
has an interior relative to the affine hull of X. The half-open leaves of a tree partition X, and each is a finite union
of the half-open cells of activation patterns. So a proper one holds such a cell that has an interior, and no other leaf
holds it:

    Lemma. A tree of activation branches has at most A(f, X) proper leaves, whatever the relaxation and the rule.

With closed sides that is false: a neuron that is zero on an open set puts it into both children. A closed leaf with
interior holds a closed cell (sigma z >= 0 for a sign vector sigma) with interior, again no other leaf's, so

    a tree has at most A_closed leaves whose closed version has an interior,

A_closed being the number of sign vectors whose closed cell has one: sum over the A patterns of 2^(neurons that are
zero there), for two patterns differ first in a neuron that is negative, not zero, on the cell of one of them. The lemma
is of leaves that decide neurons at their kink; boxes have no such bound.

    proper     counts
    closed     only the closed version has an interior
    flat       the closed version has points, and no interior
    empty      it has none, which the relaxation did not prove
    other      not proper, and which of the three was not decided
    undecided  whether it is proper was not decided

Where all patterns are known (`patterns`: counted, each proved), a leaf is proper if one of them has its phases.
Otherwise, and for what is not proper, `branches` decides in whole numbers, for at most `MOST_INPUTS` inputs.

Soundness: exact, given the patterns; 'other' and 'undecided' are said where it ends.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ...problems.network.graph import Graph
from ...problems.properties.property import Polytope
from ...relaxations.leaf.forms import pattern_forms
from .branches import Branches, TooSlow
from .measured import Kind, Region, Tree

MOST_INPUTS = 16  # of linear programs in whole numbers
PATIENCE = 30.0  # seconds for all leaves of one comparison, where there is no time limit

Flags = NDArray[np.bool_]
Phases = tuple[tuple[int, int], ...]


@dataclass(eq=False)
class Judge:
    """Says of the pieces of trees over one input set what they are; remembers its answers."""

    graph: Graph  # float64
    inputs: Polytope
    patterns: Flags | None = None  # (A, N): all activation patterns whose cells have an interior, where they are known
    deadline: float | None = None  # of `time.perf_counter`
    known: dict[Phases, bool] = field(default_factory=dict)
    kinds: dict[Phases, Kind] = field(default_factory=dict)

    def proper(self, phases: Phases) -> bool | None:
        """Whether a branch is proper; None where that is not decided."""
        if phases not in self.known and (answer := self._proper(phases)) is not None:
            self.known[phases] = answer
        return self.known.get(phases)

    def kind(self, region: Region) -> Kind:
        """What a leaf is: an activation branch, or a box where no neuron is decided and the box is not X's."""
        sides = ((region.inputs.lower, self.inputs.lower), (region.inputs.upper, self.inputs.upper))
        if not region.phases and not all(np.array_equal(a, b) for a, b in sides):
            return self._box(region.inputs)
        if region.phases in self.kinds:
            return self.kinds[region.phases]
        found = self._kind(region.phases)
        if found not in ("undecided", "other"):  # more time may tell
            self.kinds[region.phases] = found
        return found

    @cached_property
    def branches(self) -> Branches | None:
        """None where the network is too large, or the input set alone takes too long."""
        if self.inputs.size > MOST_INPUTS:
            return None
        try:
            return Branches(self.graph, self.inputs, self.deadline)
        except TooSlow:
            return None

    def closed_patterns(self) -> int | None:
        """A_closed; None where the patterns are not known or time ended."""
        if self.patterns is None:
            return None
        total, active = 0, torch.from_numpy(self.patterns)
        reach = np.maximum(np.abs(self.inputs.lower), np.abs(self.inputs.upper))
        for k in range(len(self.patterns)):
            if self._late():
                return None
            forms = pattern_forms(self.graph, active[k : k + 1], torch.from_numpy(reach)[None] + 1e-3)
            doubtful = (forms.row[0].abs().amax(1) <= forms.slope_error[0]).numpy() & ~self.patterns[k]
            zeros = 0
            if doubtful.any():
                if self._late() or self.branches is None:
                    return None
                zeros = len(self.branches.zeros(dict(enumerate(self.patterns[k].tolist()))))
            total += 1 << zeros
        return total

    def _proper(self, phases: Phases) -> bool | None:
        if self.patterns is not None:
            neurons, on = [k for k, _ in phases], [s > 0 for _, s in phases]
            return bool((self.patterns[:, neurons] == on).all(1).any())
        return self._ask(phases, "half-open")

    def _kind(self, phases: Phases) -> Kind:
        proper = self.proper(phases)
        if proper is not False:
            return "proper" if proper else "undecided"
        for question, kind in (("closed", "closed"), ("points", "flat")):
            answer = self._ask(phases, question)
            if answer is not False:
                return kind if answer else "other"  # type: ignore[return-value]
        return "empty"

    def _ask(self, phases: Phases, question: str) -> bool | None:
        if self.branches is None or self._late():
            return None
        try:
            return self.branches.answer(dict(phases), question, self.deadline)  # type: ignore[arg-type]
        except TooSlow:
            return None

    def _box(self, inputs: Polytope) -> Kind:
        if not len(self.inputs.offsets):  # bisected sides are as wide as they were, or half of that
            return "proper"
        if self.branches is None or self._late():
            return "undecided"
        try:
            if self.branches.box(inputs, "half-open", self.deadline):
                return "proper"
            return "flat" if self.branches.box(inputs, "points", self.deadline) else "empty"
        except TooSlow:
            return "undecided"

    def _late(self) -> bool:
        return self.deadline is not None and time.perf_counter() > self.deadline


def judged(tree: Tree, judge: Judge) -> Tree:
    """The tree with the kind of every leaf."""
    kinds: Mapping[int, Kind] = {p.number: judge.kind(p.region) for p in tree.leaves if p.region is not None}
    return replace(tree, kinds=kinds)
