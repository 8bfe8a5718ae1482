"""Unsafe sets without rows: every output is unsafe, so the question is whether the input set has a point at all.

Such goals are answered before the search, which could only bisect in vain: a bound has no row to prove positive. A box
has its centre; a polytope is asked for a point by the leaf's linear program over a network that does nothing, and where
that proves it empty its case is dropped. Where the point is none of the set's (its borders may be strict), exact
arithmetic is asked for one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...problems.network.graph import Graph, Input
from ...problems.properties.property import Case, Polytope, Property, UnsafeSet
from ...relaxations.effort import LEAF
from ...relaxations.leaf.rational import Rational
from ..attack.witness import Judge, Witness
from .settle import in_whole_numbers, settled
from .tree import Settled


def answered(prop: Property, judge: Judge) -> tuple[Property, Witness | None]:
    """The property without the cases that were proved empty, and a witness where a goal without rows has one."""
    kept = []
    for c, case in enumerate(prop.cases):
        goal = next((u for u, unsafe in enumerate(case.unsafe) if not len(unsafe.rows)), None)
        if goal is None or case.inputs.empty:
            kept.append(case)
            continue
        found = _point(case)
        witness = None if found.point is None else judge(found.point, (c, goal))
        if witness is None and found.further is not None:
            found = found.further(LEAF.seconds)
            witness = None if found.point is None else judge(found.point, (c, goal), found.exact)
        if witness is not None:
            return prop, witness
        if not found.closed:
            kept.append(case)
    return replace(prop, cases=tuple(kept)), None


def _point(case: Case) -> Settled:
    """A point of the case's polytope, or the proof that there is none."""
    inputs: Polytope = case.inputs
    nothing = Graph((Input(inputs.size),), (inputs.size,), (inputs.size,))
    every = UnsafeSet(np.zeros((0, inputs.size)), np.zeros(0))
    if len(inputs.normals):
        return settled(nothing, inputs, [], every)
    return Settled(
        False,
        (inputs.lower + inputs.upper) / 2,
        "",
        lambda s: in_whole_numbers(Rational(nothing), inputs, every, None, [], s),
    )
