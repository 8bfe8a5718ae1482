"""A fuzzer for the search: random small network x random property x random configuration, judged by the oracle.

A case is plain data (`Trial`): the layers' weights, the property's numbers, the options. `judge` runs the engine and
the mixed-integer oracle and returns a complaint where they differ. A failing trial is shrunk: neurons, layers, rows,
sets, cases, half-spaces and options are taken away, and weights rounded, one at a time, as long as a complaint of the
same kind remains. What is left is written to `tests/traces/` as JSON and replayed by `test_fuzz` ever after.

    python tests/fuzz.py --seconds 60 [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from math import lcm
from pathlib import Path
from random import Random
from zlib import crc32

import numpy as np
import torch

from partita.kernels.exact_program import Inequality, solution
from partita.problems.network.activation import LeakyReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet

TRACES = Path(__file__).with_name("traces")
PATIENCE = 100  # pieces for each activation pattern that could exist
CLOSE = 1e-5  # a least margin this near to zero may be called unknown, or sat by a hair


@dataclass(frozen=True)
class Layer:
    """weight (n, m) times the layer before, plus `skip` (n, k) times the one before that, plus bias (n,)."""

    weight: list
    bias: list
    skip: list | None = None
    slope: float = 0.0  # of the (leaky) ReLU that follows; the last layer has none


@dataclass(frozen=True)
class Goal:
    """One input polytope with its unsafe sets, each a pair of rows and constants."""

    lower: list
    upper: list
    normals: list
    offsets: list
    unsafe: list


@dataclass(frozen=True)
class Trial:
    """All there is to replay."""

    layers: list[Layer]
    cases: list[Goal]
    options: dict = field(default_factory=dict)
    complaint: str = ""

    @staticmethod
    def read(path: Path) -> Trial:
        """A stored trial."""
        data = json.loads(path.read_text())
        layers, cases = [Layer(**l) for l in data["layers"]], [Goal(**c) for c in data["cases"]]
        return Trial(layers, cases, data["options"], data["complaint"])

    def write(self, folder: Path) -> Path:
        """Stores the trial under a name that its content gives."""
        folder.mkdir(exist_ok=True)
        text = json.dumps(asdict(self), indent=1)
        path = folder / f"{self.complaint.split(':')[0].replace(' ', '-')}-{crc32(text.encode()):08x}.json"
        path.write_text(text + "\n")
        return path

    @property
    def graph(self) -> Graph:
        """The network."""
        nodes: list = [Input(len(self.layers[0].weight[0]))]
        values = [0]
        for i, layer in enumerate(self.layers):
            parts = [(values[-1], layer.weight)] + ([(values[-2], layer.skip)] if layer.skip else [])
            operators = tuple(Dense(torch.tensor(w, dtype=torch.float64)) for _, w in parts)
            nodes.append(Affine(tuple(v for v, _ in parts), operators, torch.tensor(layer.bias, dtype=torch.float64)))
            if i < len(self.layers) - 1:
                nodes.append(Activation((len(nodes) - 1,), LeakyReLU(layer.slope), len(layer.bias)))
            values.append(len(nodes) - 1)
        return Graph(tuple(nodes), (1, nodes[0].size), (1, nodes[-1].size))

    @property
    def property(self) -> Property:
        """The property."""
        cases, size = [], len(self.layers[0].weight[0])
        for c in self.cases:
            normals, offsets = np.array(c.normals, dtype=float).reshape(-1, size), np.array(c.offsets, dtype=float)
            polytope = Polytope(np.array(c.lower, dtype=float), np.array(c.upper, dtype=float), normals, offsets)
            unsafe = tuple(UnsafeSet(np.array(r, dtype=float), np.array(k, dtype=float)) for r, k in c.unsafe)
            cases.append(Case(polytope, unsafe))
        return Property(tuple(cases), size, len(self.layers[-1].bias))


# ---- making trials


def random_trial(seed: int) -> Trial:
    """Small enough for the oracle; weights are float32 numbers or short decimals, sometimes zero."""
    random, numbers = Random(seed), np.random.default_rng(seed)
    digits = random.choice([None, None, 1, 2])

    def draw(*shape: int, scale: float = 1.0) -> list:
        values = numbers.normal(size=shape) * scale
        return (values.astype(np.float32) if digits is None else values.round(digits)).tolist()

    sizes = [random.choice([1, 2, 3, 4, 7, 13, 13]), *(random.randint(1, 7) for _ in range(random.randint(1, 3)))]
    outputs, slope = random.randint(1, 3), random.choice([0.0, 0.0, 0.0, 0.125])
    layers = []
    for i, size in enumerate([*sizes[1:], outputs]):
        before = sizes[i]
        skip = draw(size, sizes[i - 1], scale=0.5) if i >= 1 and random.random() < 0.2 else None
        layers.append(Layer(draw(size, before, scale=1.5 * before**-0.5), draw(size, scale=0.4), skip, slope))
    trial = Trial(layers, [], random_options(random))
    goals = [_random_goal(random, draw, trial.graph) for _ in range(random.choice([1, 1, 2]))]
    return replace(trial, cases=goals)


def random_options(random: Random) -> dict:
    """Options of `partita.verify`, those left out at their defaults."""
    options = {
        "split": random.choice(["auto", "input", "polyhedral", "activation"]),
        "precision": random.choice(["float32", "float64"]),
        "attack": random.choice(["on", "off", "off"]),
        "relaxation": random.choice(
            [*["auto"] * 4, "ibp", "deeppoly-0", "deeppoly-1", "crown", "alpha-crown", "triangle", "prima", "m-1"]
        ),
        "batch": random.choice([0, 0, 5, 64]),
        "rule": random.choice(["auto", "widest", "look-ahead"]),
    }
    return {k: v for k, v in options.items() if v not in ("auto", 0)} | {"attack": options["attack"]}


def _random_goal(random: Random, draw, graph: Graph) -> Goal:
    size, radius = graph.input_size, random.choice([0.0, 0.1, 0.5, 1.0, 1.5])
    centre = np.array(draw(size))
    lower, upper = centre - radius, centre + radius
    normals = np.array(draw(random.choice([0, 0, 1, 2]), size)).reshape(-1, size)
    offsets = normals @ centre + random.choice([-0.1, 0.0, 0.2]) * radius
    x = lower + np.random.default_rng(random.randrange(2**32)).random((500, size)) * (upper - lower)
    y = graph(torch.from_numpy(x)).numpy()
    unsafe = []
    for _ in range(random.choice([1, 1, 2])):
        rows = np.array(draw(random.choice([1, 1, 2, 3]), graph.output_size))
        values = y @ rows.T
        at = values.min(0) if len(rows) == 1 else np.quantile(values, random.choice([0.1, 0.3]), axis=0)
        shift = random.choice([-0.2, -0.01, 0.0, 0.01, 0.2]) * np.maximum(values.std(0), 0.1)
        unsafe.append([rows.tolist(), (shift - at).tolist()])
    return Goal(lower.tolist(), upper.tolist(), normals.tolist(), offsets.tolist(), unsafe)


# ---- judging them


def truth(trial: Trial) -> tuple[float, float]:
    """Bounds of the least margin of any unsafe set over its input set; infinite where that is empty."""
    from partita.relaxations.ladder.exact import feasible_unsafe

    graph = trial.graph
    found = [feasible_unsafe(graph, c.inputs, u) for c in trial.property.cases for u in c.unsafe]
    return min((r.lower for r in found), default=np.inf), min((r.upper for r in found), default=np.inf)


def judge(trial: Trial, seconds: float = 5.0) -> str:
    """What is wrong with the engine's answer, its kind before the colon; empty where nothing is."""
    import partita
    from partita.bab.config import load_config

    try:
        lower, upper = truth(trial)
        config = load_config(None, trial.options)  # where options may have no effect, as in a preset
        said = partita.verify(trial.graph, trial.property, timeout=seconds, config=config)
    except Exception as error:  # every crash is a finding
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"crash: {type(error).__name__} in {Path(where.filename).name}:{where.name}: {error}"
    if said.verdict == "unsat" and upper < -1e-7 and _has_point(trial.property):
        return f"wrong unsat: margin {upper:.3g} is reached"
    if said.verdict == "sat":
        if lower > CLOSE:
            return f"wrong sat: no margin is below {lower:.3g}"
        if not trial.property.violated_by(*said.witness):
            return "wrong witness: it is none"
    if said.verdict == "unknown" and (lower > CLOSE or _comfortable(trial)):
        return f"gave up: {said.reason}; the margin lies in [{lower:.3g}, {upper:.3g}]"
    # A slow search is not a wrong one; one that has seen far more pieces than there are activation patterns is lost.
    if said.pieces > max(PATIENCE * 2**trial.graph.neurons, 50_000):
        return f"no end: {said.verdict} after {said.pieces} pieces; the margin lies in [{lower:.3g}, {upper:.3g}]"
    return ""


def _has_point(prop: Property) -> bool:
    """Whether some input set has a point, in rational numbers: the oracle's tolerance finds one beside an empty set."""
    for case in prop.cases:
        inputs = case.inputs.meaning
        low, high = list(inputs.lower), list(inputs.upper)
        scale = lcm(*(v.denominator for v in (*low, *high)))
        asked = []
        for row in inputs.rows:  # of y = scale (x - low)
            factor = scale * lcm(row.constant.denominator, *(a.denominator for a in row.terms.values()))
            terms = [-row.terms.get(i, Fraction(0)) * factor / scale for i in range(len(low))]
            asked.append(Inequality(tuple(map(int, terms)), int(-row.value(low) * factor), row.strict))
        if all(a <= b for a, b in zip(low, high, strict=True)):
            top = [int((b - a) * scale) for a, b in zip(low, high, strict=True)]
            if solution(asked, top) is not None:
                return True
    return False


def _comfortable(trial: Trial) -> bool:
    """Whether there is a counterexample that float32 numbers can come near: not only where half-spaces meet."""
    thin = [replace(c, offsets=[h - 1e-3 for h in c.offsets]) for c in trial.cases]
    return truth(replace(trial, cases=thin))[1] < -CLOSE


def kind(complaint: str) -> str:
    """What must stay while a trial shrinks: of a crash, the error and where it came from."""
    parts = complaint.split(": ")
    return ": ".join(parts[:2]) if parts[0] == "crash" else parts[0]


# ---- shrinking them


def shrink(trial: Trial, seconds: float = 60.0) -> Trial:
    """The smallest trial found that still has a complaint of the same kind."""
    deadline = time.monotonic() + seconds
    smaller: Trial | None = trial
    while smaller is not None:
        trial, smaller = smaller, None
        for candidate in _simpler(trial):
            if time.monotonic() > deadline:
                return trial
            complaint = judge(candidate)
            if kind(complaint) == kind(trial.complaint):
                smaller = replace(candidate, complaint=complaint)
                break
    return trial


def _simpler(trial: Trial) -> Iterator[Trial]:
    """Trials with one thing less, the most drastic first."""
    for c in range(len(trial.cases)):
        if len(trial.cases) > 1:
            yield replace(trial, cases=_without(trial.cases, c))
    for c, goal in enumerate(trial.cases):
        for simpler in _simpler_goals(goal):
            yield replace(trial, cases=[*trial.cases[:c], simpler, *trial.cases[c + 1 :]])
    for i in range(len(trial.layers) - 1):
        for neuron in range(len(trial.layers[i].bias)):
            yield _without_neuron(trial, i, neuron)
    for i, layer in enumerate(trial.layers):
        if layer.skip:
            yield _with_layer(trial, i, replace(layer, skip=None))
        if layer.slope:
            yield _with_layer(trial, i, replace(layer, slope=0.0))
    for name in trial.options:
        yield replace(trial, options={k: v for k, v in trial.options.items() if k != name})
    for digits in (0, 1, 2):
        for i, layer in enumerate(trial.layers):
            rounded = replace(layer, weight=_rounded(layer.weight, digits), bias=_rounded(layer.bias, digits))
            if rounded != layer:
                yield _with_layer(trial, i, rounded)


def _simpler_goals(goal: Goal) -> Iterator[Goal]:
    for u in range(len(goal.unsafe)):
        if len(goal.unsafe) > 1:
            yield replace(goal, unsafe=_without(goal.unsafe, u))
        rows, constants = goal.unsafe[u]
        for r in range(len(rows)):
            if len(rows) > 1:
                fewer = [_without(rows, r), _without(constants, r)]
                yield replace(goal, unsafe=[*goal.unsafe[:u], fewer, *goal.unsafe[u + 1 :]])
    for h in range(len(goal.normals)):
        yield replace(goal, normals=_without(goal.normals, h), offsets=_without(goal.offsets, h))
    for digits in (0, 1, 2):
        simple = replace(goal, lower=_rounded(goal.lower, digits), upper=_rounded(goal.upper, digits))
        if simple != goal:
            yield simple


def _without(items: list, i: int) -> list:
    return [*items[:i], *items[i + 1 :]]


def _rounded(value, digits: int):
    return np.round(np.array(value), digits).tolist()


def _with_layer(trial: Trial, i: int, layer: Layer) -> Trial:
    return replace(trial, layers=[*trial.layers[:i], layer, *trial.layers[i + 1 :]])


def _without_neuron(trial: Trial, i: int, neuron: int) -> Trial:
    """One hidden neuron less; a layer that loses its last one goes too, if sizes allow."""
    layers = list(trial.layers)
    layer, above = layers[i], layers[i + 1]
    if len(layer.bias) == 1:
        return replace(trial, layers=_without(layers, i))
    skip = _without(layer.skip, neuron) if layer.skip else None
    layers[i] = replace(layer, weight=_without(layer.weight, neuron), bias=_without(layer.bias, neuron), skip=skip)
    layers[i + 1] = replace(above, weight=[_without(row, neuron) for row in above.weight])
    if i + 2 < len(layers) and layers[i + 2].skip:
        layers[i + 2] = replace(layers[i + 2], skip=[_without(row, neuron) for row in layers[i + 2].skip])
    return replace(trial, layers=layers)


# ---- the command line


def hunt(seconds: float, seed: int, out=sys.stderr) -> int:
    """Tries trials until time is up; returns how many failed. Failures are shrunk and stored."""
    start, tried, failed = time.monotonic(), 0, Counter()
    while time.monotonic() - start < seconds:
        trial = random_trial(seed + tried)
        complaint = judge(trial)
        tried += 1
        if complaint:
            failed[complaint.split(":")[0]] += 1
            path = shrink(replace(trial, complaint=complaint)).write(TRACES)
            print(f"seed {seed + tried - 1}: {complaint}\n  kept as {path}", file=out)
    print(f"{tried} trials, {sum(failed.values())} failures {dict(failed)}", file=out)
    return sum(failed.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    return int(hunt(options.seconds, options.seed) > 0)


if __name__ == "__main__":
    sys.exit(main())
