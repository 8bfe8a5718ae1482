"""A candidate becomes a witness: moved inside, written in decimals, and judged by all who have a say.

The attack finds points in working precision; onnxruntime is fed float32 numbers (or float64, as the file's input is); a
property file holds decimal ones. Between them a counterexample on the boundary is easily lost, or claimed where there
is none. So a candidate is moved inside (`moving`), given the decimals of a point that lies in the input set exactly
(`placing`), and judged

1. by the network over the real numbers at these decimals (`reals.over_reals`): what only rounding makes unsafe
   is refused;
2. by onnxruntime on the original file, fed the numbers nearest to the decimals: its outputs, rational numbers as they
   are, must satisfy every row of the unsafe set, without tolerance, strict rows strictly;
3. where the network is a PyTorch module, by the module in the same way.

The cheapest question comes first: float64 without any bound turns away what is far from unsafe. Where the judges
disagree the point is no witness and the search goes on; the best such point is kept (`Disputed`), so that a run that
ends undecided can show it. With `judge=onnxruntime`, for competitions whose own judge is onnxruntime, only the second
is asked, and of several confirmed points the one with the largest margin is taken, since another release may round
differently.

Soundness: exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch

from ...problems.network.graph import Graph
from ...problems.originals.original import Original
from ...problems.properties.elements import decimal_text
from ...problems.properties.property import Array, Property, UnsafeSet
from ...problems.properties.rational import Numbers, rationals
from ...relaxations.reals.over_reals import OverReals
from ..effort import ATTACK, AttackEffort
from .disputed import Disputed, near
from .moving import moved_inside, snapped
from .placing import Places

Goal = tuple[int, int]  # which case, which of its unsafe sets
NAMED = 3  # inputs that a remark names


@dataclass(frozen=True, eq=False)
class Witness:
    """A counterexample: a point of the input set, y = network(x) as the original computes it, in the unsafe set `goal`.

    `decimals` are the point; `fed` are the numbers nearest to them that the original takes, `x` the nearest float64
    numbers. In the coordinates `outside` the input set holds no number that the original takes.
    """

    x: Array  # (n_in,)
    y: Array  # (n_out,)
    goal: Goal
    decimals: tuple[str, ...]
    fed: Array  # (n_in,)
    outside: tuple[int, ...] = ()
    margin: float = 0.0  # of y, relative to the largest output; negative inside the unsafe set
    measured: bool = False  # what rounding does over the real numbers was measured, not bounded


class Judge:
    """Turns candidates into witnesses, or refuses them.

    `graph` is the network in float64 on the CPU; `original` is the network as it was given, or only its function,
    (n_in,) -> (n_out,) in float64. `rule`: `exact` or `onnxruntime`.
    """

    def __init__(
        self,
        graph: Graph,
        prop: Property,
        original: Original | Callable[[Array], Array],
        rule: str = "exact",
        reals: OverReals | None = None,
        effort: AttackEffort = ATTACK,
    ) -> None:
        self.graph, self.prop, self.rule, self.effort = graph, prop, rule, effort
        self.original = original if isinstance(original, Original) else Original(original)
        self.reals = reals or OverReals(graph, self.original.written, effort.products)
        self.disputed: Disputed | None = None
        self._places: dict[int, Places] = {}
        self._asked = 0

    def about(self, prop: Property) -> Judge:
        """The same judge for another property of the network."""
        return Judge(self.graph, prop, self.original, self.rule, self.reals, self.effort)

    @torch.enable_grad()  # a candidate moves along a gradient, and the search has gradients switched off
    def __call__(self, x: Array, goal: Goal, exact: Sequence[Fraction] | None = None) -> Witness | None:  # (D,)
        """The witness that the candidate x becomes; None where it is not confirmed. `exact` is the same point in
        rational numbers, where it is known."""
        best: Witness | None = None
        tried = _Tried()
        for point in self._points(x, goal, exact, tried):
            witness = self._judged(point, goal, tried)
            if witness is None:
                continue
            if self.rule == "exact" or witness.margin < -self.effort.comfortable:
                return witness
            if best is None or witness.margin < best.margin:
                best = witness
        return best

    def places(self, case: int) -> Places:
        """The points of a case's input set."""
        if case not in self._places:
            self._places[case] = Places(self.prop.cases[case].inputs, self.original.element(), self.effort)
        return self._places[case]

    def _points(self, x: Array, goal: Goal, exact: Sequence[Fraction] | None, tried: _Tried) -> Iterator[Numbers]:
        """Points of the input set near x: inside where that is possible, x itself; and where one of these was nearly
        a witness, farther inside, and at the borders that x is next to."""
        case = self.prop.cases[goal[0]]
        places, unsafe = self.places(goal[0]), case.unsafe[goal[1]]

        def placed(candidate: Array | None) -> Iterator[Numbers]:
            point = None if candidate is None else places.point(candidate)
            if point is not None:
                yield point

        yield from placed(moved_inside(self.graph, x, case.inputs, unsafe, effort=self.effort))
        yield from placed(x)
        if exact is not None and (point := places.exactly(exact)) is not None:
            yield point
        if tried.near:
            yield from placed(moved_inside(self.graph, x, case.inputs, unsafe, far=True, effort=self.effort))
            yield from placed(snapped(x, case.inputs, self.effort))

    def _judged(self, point: Numbers, goal: Goal, tried: _Tried) -> Witness | None:
        """The witness at this point; None where some judge refuses it."""
        unsafe = self.prop.cases[goal[0]].unsafe[goal[1]]
        if not self._hopeful(point.near, unsafe):
            return None
        tried.near = True
        answer = None
        if self.rule == "exact":
            answer = self.reals.judge(point, unsafe)
            if not answer.unsafe and (self._asked >= self.effort.asked or not self._better(near(answer.most))):
                return None
            self._asked += not answer.unsafe
        opinions = [("onnxruntime", self.original.confirm)]
        if self.rule == "exact" and self.original.module is not None:
            opinions.append(("the PyTorch module", self.original.module))
        said = [(name, np.asarray(run(point.near), dtype=np.float64)) for name, run in opinions]
        agreed = [_unsafe(point, y, unsafe) for _, y in said]
        if all(agreed) and (answer is None or answer.unsafe):
            witness = self._witness(point, said[0][1], goal)
            return replace(witness, measured=answer is not None and answer.measured)
        if any(agreed) or (answer is not None and answer.unsafe):
            found = Disputed.of(point, goal, unsafe, answer, said)
            if self._better(found.excess):
                self.disputed = found
        return None

    def _witness(self, point: Numbers, y: Array, goal: Goal) -> Witness:
        x = point.near.copy()
        for i in point.others:
            x[i] = float(point[i])
        decimals = tuple(map(decimal_text, point))
        margin = self.prop.cases[goal[0]].unsafe[goal[1]].margin(y, x) / max(float(np.abs(y).max(initial=0)), 1e-300)
        outside = tuple(self.places(goal[0]).outside(point))
        return Witness(x, y, goal, decimals, point.near, outside, margin)

    def _hopeful(self, x: Array, unsafe: UnsafeSet) -> bool:
        """Whether the outputs in float64 are unsafe, or nearly: beside the largest number on the way. Heuristic."""
        with torch.no_grad():
            values = self.graph.values(torch.from_numpy(x))
        y = values[-1].numpy()
        size = np.abs(unsafe.rows) @ np.abs(y) + np.abs(unsafe.constants)
        largest = max(float(value.abs().max()) for value in values[1:])
        hopeless = self.effort.hopeless if self.rule == "exact" else self.effort.hopeless_float32
        return unsafe.margin(y, x) <= hopeless * max(float(size.max(initial=0)), largest)

    def _better(self, excess: float) -> bool:
        return self.disputed is None or excess < self.disputed.excess


def remarks(witness: Witness, judge: Judge) -> list[str]:
    """What a reader of the verdict should know of the witness."""
    said = []
    if witness.outside:
        first = ", ".join(f"X_{i}" for i in witness.outside[:NAMED])
        more = "" if len(witness.outside) <= NAMED else ", ..."
        kind = judge.original.element().__name__
        said.append(
            f"the intervals of {len(witness.outside)} inputs ({first}{more}) hold no {kind} number, and the network is "
            "fed the nearest one"
        )
    if witness.measured:
        said.append("the network is too large and deep to bound rounding at the witness, which was measured instead")
    if judge.rule == "onnxruntime":
        said.append("onnxruntime alone judged the witness")
    return said


@dataclass(eq=False)
class _Tried:
    """What became of the points that one candidate led to so far."""

    near: bool = False  # one of them was worth asking


def _unsafe(x: Numbers, y: Array, unsafe: UnsafeSet) -> bool:
    """Whether computed outputs, as the rational numbers they are, are in the unsafe set."""
    return bool(np.isfinite(y).all()) and unsafe.holds(x, rationals(y))
