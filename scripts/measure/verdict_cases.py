"""Random networks and properties for the fuzzer of verdicts: small enough for `rational_truth`, and mean.

Networks: one to three hidden layers, weights that cancel, twin and dead neurons, LeakyReLU with slopes from -1 to 3,
Clip with bounds that cross. Input sets: at most three inputs that are free, often more that are not (a flat box; with
more than twelve inputs the search takes its other tree), bounds that are no float64 numbers, open sides, half-spaces,
strict or not. Unsafe sets: thresholds at the exact value of a minimum, or of some point, and a hair beside it; rows on
inputs and outputs; strict or not. Everything is drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf, nextafter
from random import Random

import numpy as np
import torch

from partita.bab.effort import Effort
from partita.problems.effort import every
from partita.problems.network.activation import LeakyReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet
from partita.problems.properties.rational import ExactSet, Numbers, Row, arrays_of

from .rational_truth import Layer, Question, output

HAIR = (Fraction(0), Fraction(0), Fraction(0), Fraction(1, 10**20), Fraction(1, 10**9), Fraction(1, 10**3))
SPLITS = ("auto", "input", "polyhedral", "activation")
RELAXATIONS = (
    *("auto", "auto", "ibp", "deeppoly-0", "deeppoly-1", "crown", "alpha-crown", "triangle", "m-1", "k-relu", "prima"),
    "exact",
)


@dataclass(frozen=True)
class Trial:
    """A network as layers, and a property on it; `as_file`: its activations are not all a `Graph`'s."""

    layers: tuple[Layer, ...]
    prop: Property
    as_file: bool

    def question(self, case: int) -> Question:
        return Question(self.layers, self.prop.cases[case].inputs.meaning)

    def counterexample(self) -> list[Fraction] | None:
        """An input that violates the property, exactly; None where there is none."""
        for c, case in enumerate(self.prop.cases):
            question = self.question(c)
            for unsafe in case.unsafe:
                found = question.counterexample(unsafe.meaning)
                if found is not None:
                    return found
        return None

    def violated(self, x: Sequence[Fraction]) -> bool:
        """Whether x is a counterexample, exactly."""
        y = output(self.layers, x)
        return any(c.inputs.meaning.holds(x) and any(u.holds(x, y) for u in c.unsafe) for c in self.prop.cases)


def trial(seed: int) -> Trial:
    """A random network with a property."""
    random = Random(seed)
    inputs = random.choice([1, 2, 2, 3, 3, 13])
    layers = _layers(random, inputs)
    cases = tuple(_case(random, layers, inputs) for _ in range(random.choice([1, 1, 1, 2])))
    as_file = any(la.activation == "clip" or (la.activation == "leaky" and not 0 <= la.parameter < 1) for la in layers)
    return Trial(layers, Property(cases, inputs, len(layers[-1].bias), f"seed {seed}"), as_file)


def options(random: Random) -> dict[str, str]:
    """A combination of `partita.verify`'s options."""
    return {
        "attack": random.choice(["on", "off"]),
        "split": random.choice(SPLITS),
        "precision": random.choice(["float32", "float64"]),
        "relaxation": random.choice(RELAXATIONS),
    }


def efforts(random: Random) -> dict[str, object]:
    """Values of some of the numbers in the section `effort`, within what is allowed: the least, the greatest, and what
    lies beside the default, up to orders of magnitude away. Large amounts of work stay as they are."""
    chosen: dict[str, object] = {}
    share = random.choice([0.05, 0.3, 1.0])
    for name, f, _, value in every(Effort()):
        if random.random() < share:
            least, most = f.metadata["minimum"], f.metadata["maximum"]
            entries = value if isinstance(value, tuple) else (value,)
            new = [_effort(random, entry, least, most) for entry in random.choices(entries, k=random.randint(1, 4))]
            chosen[f"effort.{name}"] = new if isinstance(value, tuple) else new[0]
    return chosen


def _effort(random: Random, value: float, least: float, most: float | None) -> float:
    if isinstance(value, int):
        return int(min(max(random.choice([least, least + 1, value // 3, value, 2 * value + 1]), least), most or inf))
    drawn = random.choice([least, value, value * 10 ** random.uniform(-3, 1), value if most is None else most])
    return float(min(max(drawn, least), inf if most is None else most))


# ---- networks


def _layers(random: Random, inputs: int) -> tuple[Layer, ...]:
    sizes = [random.randint(1, 4) for _ in range(random.choice([1, 1, 2, 2, 3]))]
    while sum(sizes) > 7:
        sizes.pop()
    files = random.random() < 0.35
    kind = random.choice(["whole", "dyadic", "float32", "cancelling"])
    layers, before = [], inputs
    for size in sizes:
        rows = [_row(random, kind, before) for _ in range(size)]
        bias = [random.choice([0.0, 0.0, _number(random, kind)]) for _ in range(size)]
        if size > 1 and random.random() < 0.35:  # a twin
            rows[-1], bias[-1] = rows[0], bias[0]
        if random.random() < 0.2:  # a dead one, or one that is always on
            bias[0] = random.choice([-1e4, 1e4])
        layers.append(Layer(tuple(map(tuple, rows)), tuple(bias), *_activation(random, files)))
        before = size
    outputs = random.randint(1, 2)
    last = [_row(random, kind, before) for _ in range(outputs)]
    if before > 1 and random.random() < 0.4:  # the difference of two neurons
        last[0] = [1.0, *[0.0] * (before - 2), -1.0]
    layers.append(Layer(tuple(map(tuple, last)), tuple(random.choice([0.0, 0.25, -1.0]) for _ in range(outputs))))
    return tuple(layers)


def _activation(random: Random, files: bool) -> tuple:
    if not files:
        return ("relu",) if random.random() < 0.75 else ("leaky", random.choice([0.125, 0.5, _single(0.01)]))
    name = random.choice(["relu", "leaky", "clip", "clip"])
    if name == "relu":
        return ("relu",)
    if name == "leaky":
        return ("leaky", _single(random.choice([-1.0, -0.25, 0.0, 0.1, 1.0, 1.5, 3.0, random.uniform(-1, 3)])))
    low, high = random.choice([(0.0, 1.0), (-1.0, 1.0), (0.5, 0.5), (1.0, -1.0), (-0.25, 6.0), (0.1, 0.3)])
    return "clip", (_single(low), _single(high))


def _single(value: float) -> float:
    return float(np.float32(value))


def _number(random: Random, kind: str) -> float:
    match kind:
        case "whole":
            return float(random.randint(-3, 3))
        case "dyadic":
            return random.randint(-16, 16) / 8
        case "float32":
            return _single(random.gauss(0, 1))
    return random.choice([1.0, -1.0, 2.0**20, -(2.0**20), 2.0**20 + 1, 0.5])


def _row(random: Random, kind: str, size: int) -> list[float]:
    return [_number(random, kind) if random.random() < 0.85 else 0.0 for _ in range(size)]


def graph_of(layers: Sequence[Layer]) -> Graph:
    """The layers as a graph; LeakyReLUs have slopes in [0, 1)."""
    nodes: list = [Input(len(layers[0].weight[0]))]
    for layer in layers:
        weight = Dense(torch.tensor(layer.weight, dtype=torch.float64))
        nodes.append(Affine((len(nodes) - 1,), (weight,), torch.tensor(layer.bias, dtype=torch.float64)))
        if layer.activation != "none":
            slope = layer.parameter if layer.activation == "leaky" else 0.0
            nodes.append(Activation((len(nodes) - 1,), LeakyReLU(slope), len(layer.bias)))
    return Graph(tuple(nodes), (1, nodes[0].size), (1, nodes[-1].size))


def onnx_of(layers: Sequence[Layer]) -> bytes:
    """The layers as an ONNX file in float32, each Gemm followed by its activation."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, tensors, at = [], [], "x"
    for i, layer in enumerate(layers):
        named = {f"w{i}": np.array(layer.weight, np.float32), f"b{i}": np.array(layer.bias, np.float32)}
        tensors += [numpy_helper.from_array(v, k) for k, v in named.items()]
        z, y = (f"z{i}", f"y{i}") if layer.activation != "none" else (f"y{i}", "")
        nodes.append(helper.make_node("Gemm", [at, *named], [z], transB=1))
        match layer.activation:
            case "relu":
                nodes.append(helper.make_node("Relu", [z], [y]))
            case "leaky":
                nodes.append(helper.make_node("LeakyRelu", [z], [y], alpha=layer.parameter))
            case "clip":
                for side, value in zip(("min", "max"), layer.parameter, strict=True):
                    tensors.append(numpy_helper.from_array(np.array(value, np.float32), f"{side}{i}"))
                nodes.append(helper.make_node("Clip", [z, f"min{i}", f"max{i}"], [y]))
        at = f"y{i}"
    sides = [(("x"), len(layers[0].weight[0])), (at, len(layers[-1].bias))]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in sides]
    made = helper.make_model(
        helper.make_graph(nodes, "trial", values[:1], values[1:], tensors),
        opset_imports=[helper.make_opsetid("", 13)],
    )
    made.ir_version = 8
    return made.SerializeToString()


# ---- properties


def _case(random: Random, layers: tuple[Layer, ...], inputs: int) -> Case:
    exact = _input_set(random, inputs)
    question = Question(layers, exact)
    outputs = len(layers[-1].bias)
    sets = tuple(_unsafe(random, question, outputs, inputs) for _ in range(random.choice([1, 1, 2])))
    return Case(polytope_of(exact), sets)


def _input_set(random: Random, inputs: int) -> ExactSet:
    free = set(random.sample(range(inputs), min(inputs, random.choice([1, 2, 2, 3]))))
    lower, upper, places = [], [], random.choice([1, 4, 10, 3])
    for i in range(inputs):
        low = Fraction(random.randint(-2 * places, places), places)
        width = Fraction(random.randint(1, 2 * places), places) if i in free or random.random() < 0.05 else Fraction(0)
        lower.append(low)
        upper.append(low + width)
    half = random.choice([0, 0, 0, 1, 2])
    corner = [random.choice(side) for side in zip(lower, upper)]
    rows = []
    for _ in range(half):
        terms = {i: Fraction(random.choice([-2, -1, 1, 3]), random.choice([1, 1, 3])) for i in sorted(free)}
        if len(terms) > 1:
            at = [random.choice([c, (a + b) / 2]) for c, a, b in zip(corner, lower, upper)]
            rows.append(Row(terms, -sum(a * at[i] for i, a in terms.items()), random.random() < 0.5))
    opens = [frozenset(i for i in free if random.random() < 0.15) for _ in range(2)]
    return ExactSet(numbers_of(lower, inf), numbers_of(upper, inf), *opens, tuple(rows))


def _unsafe(random: Random, question: Question, outputs: int, inputs: int) -> UnsafeSet:
    tied = random.random() < 0.25
    rows = []
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        terms = {j: Fraction(random.choice([-1, 1, 1, 2, -3]), random.choice([1, 1, 1, 10])) for j in range(outputs)}
        terms = {j: a for j, a in terms.items() if random.random() < 0.9} or {0: Fraction(1)}
        on_input = {random.randrange(inputs): Fraction(random.choice([-1, 1, 2]))} if tied else {}
        rows.append(Row(terms, Fraction(0), random.random() < 0.6, on_input))
    least = question.minimum(rows[0])
    at = question.lower if least is None else least[1]
    if random.random() < 0.2:
        at = [random.choice(side) for side in zip(question.lower, question.upper)]
    y = output(question.layers, at)
    hair = random.choice(HAIR) * random.choice([-1, 1])
    return unsafe_of([Row(r.terms, hair - r.value(y, at), r.strict, r.on_input) for r in rows], outputs, inputs)


def unsafe_of(rows: Sequence[Row], outputs: int, inputs: int) -> UnsafeSet:
    """The set with the float64 arrays nearest to it."""
    coefficients, constants = arrays_of(rows, outputs)
    on_input = None
    if any(row.on_input for row in rows):
        on_input = np.zeros((len(rows), inputs))
        for r, row in enumerate(rows):
            on_input[r, list(row.on_input)] = [float(a) for a in row.on_input.values()]
    return UnsafeSet(coefficients, constants, on_input, tuple(rows))


def numbers_of(values: Sequence[Fraction], towards: float) -> Numbers:
    """Rationals, those apart that are no float64 numbers."""
    near = np.array([float(v) for v in values])
    return Numbers(near, {i: v for i, v in enumerate(values) if Fraction(near[i]) != v})


def polytope_of(exact: ExactSet) -> Polytope:
    """The set with float64 arrays around it."""
    lower = np.array([below(v) for v in exact.lower])
    upper = np.array([-below(-v) for v in exact.upper])
    normals, _ = arrays_of(exact.rows, len(lower))
    offsets = []
    for row, normal in zip(exact.rows, normals, strict=True):
        off = sum(
            abs(a - Fraction(normal[i])) * max(abs(Fraction(lower[i])), abs(Fraction(upper[i])))
            for i, a in row.terms.items()
        )
        offsets.append(-below(row.constant - off))
    return Polytope(lower, upper, normals, np.array(offsets, dtype=float), exact)


def below(value: Fraction) -> float:
    """The largest float64 number that is at most the value."""
    near = float(value)
    return nextafter(near, -inf) if Fraction(near) > value else near
