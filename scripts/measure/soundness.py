"""Random cases on which bounds are held against values that the network attains.

A case is one row of one network over one input set, from one side: a proved lower bound of c f(x) + d, and the least
value of it that was met at points of the set. A bound above that value is wrong, whatever the relaxation is.

*Networks*: dense, convolutional, with skip connections, leaky; every other one with weights that float32 does not hold.
*Input sets*: boxes, from a hundred-thousandth wide (nothing is nonlinear, and bounds meet values but for rounding) to
wider than the network's kinks are apart; every fourth one cut by half-spaces.
*Points*: random ones, all corners, where signed gradient descent of each row goes, and the minimiser that
mixed-integer programming finds, as points: only their values count, so no solver is trusted.

Values are computed in float64, with a bound on the error of that beside them (`evaluated`); a bound counts as wrong
when it is above value + error, and there is no other tolerance. Soundness: a violation found here is one. That none is
found proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.affine import AbstractLinear, Conv, Dense, Identity
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.properties.property import Polytope

KINDS = ("dense", "conv", "residual", "leaky")
UNIT = 2.0**-53
POINTS, STARTS, STEPS = 1500, 6, 40


@dataclass(frozen=True, eq=False)
class Subject:
    """A network over an input set, rows c f(x) + d of it, and points of the set with the network's values there."""

    seed: int
    kind: str
    graph: Graph  # float64
    polytope: Polytope
    rows: Tensor  # (R, n_out)
    constants: Tensor  # (R,)
    points: Tensor  # (P, D)
    outputs: tuple[Tensor, Tensor]  # (P, n_out) values and bounds on their error
    neurons: tuple[Tensor, Tensor]  # (P, N) the same of all pre-activations


@dataclass(frozen=True, eq=False)
class Claims:
    """What a relaxation says: on piece b, c_s f(x) + d_s >= lower[b, s], and pre-activations lie between `pre`."""

    rows: Tensor  # (S, n_out) float64
    constants: Tensor  # (S,)
    lower: Tensor  # (B, S)
    inside: Tensor  # (B, P) bool: which of the subject's points are certainly in each piece
    pre: tuple[Tensor, Tensor] | None = None  # (B, N) each


def judged(subject: Subject, claims: Claims) -> tuple[Tensor, int, int]:
    """The margins (cases,) by which bounds stay below what is attained, negative where one does not; how many
    pre-activation bounds were checked, and how many of them a point breaks."""
    values, error = subject.outputs
    size = gamma(claims.rows.shape[1] + 2) * (values.abs() @ claims.rows.abs().T + claims.constants.abs())
    above = values @ claims.rows.T + claims.constants + 1.001 * (size + error @ claims.rows.abs().T)
    least = torch.where(claims.inside[..., None], above, torch.inf).amin(1)
    margins = (least - claims.lower.double())[least < torch.inf]
    if claims.pre is None:
        return margins, 0, 0
    z, doubt = subject.neurons
    inside = claims.inside[..., None]
    low = torch.where(inside, z + doubt, torch.inf).amin(1)
    high = torch.where(inside, z - doubt, -torch.inf).amax(1)
    wrong = (claims.pre[0].double() > low) | (claims.pre[1].double() < high)
    return margins, wrong.numel(), int(wrong.sum())


# ---- subjects


def subjects(count: int, seed: int, rows: int = 10) -> Iterator[Subject]:
    """So many subjects, each with `rows` rows, that is 2 `rows` cases; subject k has the seed `seed` + k."""
    for own in range(seed, seed + count):
        yield subject(own, rows)


def subject(seed: int, rows: int) -> Subject:
    random, kind = np.random.default_rng(seed), KINDS[seed % len(KINDS)]
    graph = network(random, kind, single=seed // len(KINDS) % 2 == 0)
    polytope = input_set(random, graph.input_size, cut=seed % 7 in (2, 5))
    c = torch.as_tensor(random.normal(size=(rows, graph.output_size)))
    d = torch.as_tensor(random.normal(size=rows))
    x = points(random, graph, polytope, torch.cat([c, -c]))
    values, errors = evaluated(graph, x)
    sources = [layer.source for layer in graph.layers]
    neurons = tuple(torch.cat([some[i] for i in sources], 1) for some in (values, errors))
    return Subject(seed, kind, graph, polytope, c, d, x, (values[-1], errors[-1]), neurons)


def network(random: np.random.Generator, kind: str, single: bool) -> Graph:
    """Two or three hidden layers of 3 to 5 neurons; `single`: all its numbers are float32 numbers."""
    function = LeakyReLU(0.1) if kind == "leaky" else ReLU()

    def draw(*shape: int, scale: float) -> Tensor:
        drawn = torch.as_tensor(random.normal(scale=scale, size=shape))
        return drawn.float().double() if single else drawn

    inputs = 6 if kind == "conv" else int(random.integers(2, 4))
    nodes: list = [Input(inputs)]

    def layer(parts: list[tuple[int, AbstractLinear]], active: bool = True) -> int:
        sources, operators = zip(*parts, strict=True)
        size = operators[0].n_out
        nodes.append(Affine(sources, operators, draw(size, scale=0.3), f"affine{len(nodes)}"))
        if active:
            nodes.append(Activation((len(nodes) - 1,), function, size, f"layer{len(nodes)}"))
        return len(nodes) - 1

    def dense(at: int, size: int) -> tuple[int, Dense]:
        return at, Dense(draw(size, nodes[at].size, scale=nodes[at].size ** -0.5))

    if kind == "conv":
        kernel = draw(2, 1, 2, 2, scale=0.5)  # two channels on an image of 2 x 3
        at = layer([(0, Conv(kernel, (1, 2, 3), (1, 1), ((0, 0), (0, 0)), (1, 1)))])
        at = layer([dense(at, 3)])
    else:
        depth, width = ((3, 3), (2, int(random.integers(4, 6))))[int(random.integers(2))]
        at = layer([dense(0, width)])
        for _ in range(depth - 1):
            skip = [(at, Identity(width))] if kind == "residual" else []
            at = layer([dense(at, width), *skip])
    layer([dense(at, 3)], active=False)
    return Graph(tuple(nodes), (inputs,), (3,))


def input_set(random: np.random.Generator, size: int, cut: bool) -> Polytope:
    """A box around a random centre, every third one tiny; cut by two half-spaces that keep the centre."""
    centre = random.normal(size=size)
    radius = 10 ** random.uniform(-5, -1) if random.random() < 1 / 3 else random.uniform(0.2, 1.5)
    normals = random.normal(size=(2 if cut else 0, size))
    offsets = normals @ centre + radius * random.random(len(normals))
    return Polytope(centre - radius, centre + radius, normals, offsets)


def points(random: np.random.Generator, graph: Graph, polytope: Polytope, rows: Tensor) -> Tensor:
    """Points of the polytope at which rows (S, n_out) are small: see the essay."""
    low, high = (torch.as_tensor(side) for side in (polytope.lower, polytope.upper))
    x = low + (high - low) * torch.as_tensor(random.random((POINTS, polytope.size)))
    corners = torch.tensor(list(product((False, True), repeat=polytope.size)))
    x = within(polytope, torch.cat([x, torch.where(corners, high, low)]))
    best = (graph(x) @ rows.T).topk(STARTS, 0, largest=False).indices  # (STARTS, S)
    found = [x, descended(graph, polytope, x[best], rows)]
    minimisers = [m for row in rows.numpy() if (m := minimiser(graph, polytope, row)) is not None]
    if minimisers:
        found.append(torch.as_tensor(np.stack(minimisers)))
    return within(polytope, torch.cat(found))


def within(polytope: Polytope, x: Tensor) -> Tensor:
    """Those of the points, cut to the box, that are certainly inside; the others pulled to the middle, where that
    helps."""
    low, high, normals, offsets = (
        torch.as_tensor(t) for t in (polytope.lower, polytope.upper, polytope.normals, polytope.offsets)
    )
    if not len(offsets):
        return torch.minimum(torch.maximum(x, low), high)
    kept = []
    for share in (0.0, 1e-12, 1e-9):
        near = torch.minimum(torch.maximum(x + share * ((low + high) / 2 - x), low), high)
        error = gamma(polytope.size + 2) * (near.abs() @ normals.abs().T + offsets.abs())
        inside = (near @ normals.T + error <= offsets).all(1)
        kept.append(near[inside])
        x = x[~inside]
    return torch.cat(kept)


def descended(graph: Graph, polytope: Polytope, x: Tensor, rows: Tensor) -> Tensor:  # (K, S, D) -> (K', D)
    """Where signed gradient descent of each row goes within the box: every place on its way."""
    low, high = (torch.as_tensor(side) for side in (polytope.lower, polytope.upper))
    visited = []
    for step in range(STEPS):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad((graph(x) * rows).sum(), x)
        x = torch.clamp(x.detach() - 0.3 * 0.85**step * (high - low) * slope.sign(), low, high)
        if step % 4 == 3:
            visited.append(x.flatten(0, 1))
    return torch.cat(visited)


def minimiser(graph: Graph, polytope: Polytope, row: np.ndarray) -> np.ndarray | None:
    """Where mixed-integer programming says that the row is least."""
    from partita.relaxations.ladder.exact import minimum
    from partita.relaxations.protocol import Means

    return minimum(graph, polytope, row, means=Means(time_limit=5.0)).x


# ---- values


def gamma(n: int) -> float:
    """n u / (1 - n u), of float64 (Higham 2002, lemma 3.1)."""
    return n * UNIT / (1 - n * UNIT)


def evaluated(graph: Graph, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The value of every node at points (P, D), in float64, and a bound on how far each is from the exact one.

    An affine node passes on |A| e of its arguments' errors e, and adds gamma_{t + i + 2} (sum |A| |x| + |b|) for
    inner products of t terms and i inputs; an activation has slopes of at most one, and adds one rounding.
    """
    values, errors = graph.values(x), [torch.zeros_like(x)]
    for node, value in zip(graph.nodes[1:], values[1:], strict=True):
        if isinstance(node, Activation):
            errors.append(errors[node.inputs[0]] + UNIT * value.abs())
            continue
        assert isinstance(node, Affine)
        size, passed = node.bias.abs().expand_as(value), torch.zeros_like(value)
        for operator, i in zip(node.operators, node.inputs, strict=True):
            absolute = operator.absolute()
            size = size + absolute.apply(values[i].abs())
            passed = passed + absolute.apply(errors[i])
        terms = max(operator.terms for operator in node.operators) + len(node.operators) + 2
        errors.append(1.001 * (passed + gamma(terms) * size))
    return values, errors


# ---- what relaxations claim


def claimed(subject: Subject, name: str, dtype: torch.dtype) -> list[Claims]:
    """What the relaxation of this name says of a subject: the names of `relaxation=`, and those of `IN_BATCH`."""
    if name in IN_BATCH:
        return IN_BATCH[name](subject, dtype)
    from partita.relaxations.bound import bound

    c, d = subject.rows, subject.constants
    report = bound(subject.graph, subject.polytope, name, c, d, precision=str(dtype).removeprefix("torch."))
    lower = torch.as_tensor(np.concatenate([report.lower, -report.upper]))[None]
    pre = tuple(torch.as_tensor(np.concatenate([getattr(y, s) for y in report.layers]))[None] for s in NAMES)
    return [Claims(torch.cat([c, -c]), torch.cat([d, -d]), lower, everywhere(subject), pre)]


NAMES = ("lower", "upper")


def everywhere(subject: Subject) -> Tensor:
    return torch.ones(1, len(subject.points), dtype=torch.bool)


@dataclass(frozen=True, eq=False)
class Batch:
    """A root with rows in the backward pass, as the search has it."""

    alpha: object  # Alpha
    root: object  # Pieces, (1)
    rows: object  # Rows, (1, S)
    exact: tuple[Tensor, Tensor]  # the same rows in float64: (S, n_out), (S,)


def batch(subject: Subject, dtype: torch.dtype) -> Batch:
    """The input set's box with its half-spaces as one piece, crown's layers, rows from both sides."""
    from partita.relaxations.linear.alpha import Alpha
    from partita.relaxations.linear.root import outward_half_spaces, root
    from partita.relaxations.types import Rows

    polytope = subject.polytope
    sides = (torch.as_tensor(side) for side in (polytope.lower, polytope.upper))
    linear, piece = root(subject.graph.to(dtype), *sides)
    normals, offsets = outward_half_spaces([polytope], piece.lower, piece.upper)
    piece = replace(piece, normals=normals, offsets=offsets)
    c, d = (torch.cat([t, -t]).to(dtype) for t in (subject.rows, subject.constants))
    return Batch(Alpha(linear, 10, patient=True), piece, Rows(c[None], d[None]), (c.double(), d.double()))


def strong(made: Batch, words: tuple[str, ...], piece=None):  # type: ignore[no-untyped-def]
    """Layers refined, rows found, layers refined with them: as at the root of a search."""
    import time

    from partita.relaxations.rows.refine import refined
    from partita.relaxations.rows.strengthen import strengthened

    until = time.monotonic() + 60
    piece = refined(made.alpha, made.root if piece is None else piece, until, 16 if "m-1" in words else 0)
    return strengthened(made.alpha, piece, made.rows, until, words)


def tied(*words: str) -> Callable[[Subject, torch.dtype], list[Claims]]:
    """Rows from these relaxations in the pass, at the root."""

    def claims(subject: Subject, dtype: torch.dtype) -> list[Claims]:
        made = batch(subject, dtype)
        found = strong(made, words)
        pre = found.root.pre_lower, found.root.pre_upper
        return [Claims(*made.exact, found.result.lower, everywhere(subject), pre)]

    return claims


def decided(subject: Subject, dtype: torch.dtype) -> list[Claims]:
    """The root's rows on pieces with decided neurons; from float32 also in float64, as closed pieces are confirmed."""
    from partita.relaxations.linear.root import in_float64

    made = batch(subject, dtype)
    found = strong(made, ("m-1", "prima"))
    pieces, inside = some_pieces(subject, found.root, 4)
    if not len(pieces):
        return []
    alpha, rows = replace(made.alpha, neuron_rows=found.neuron_rows), repeated(made.rows, len(pieces))
    result = alpha.bound(pieces, rows)[0]
    lower = torch.where(result.empty[:, None], torch.inf, result.lower)  # each of the pieces has a point
    claims = [Claims(*made.exact, lower, inside, (pieces.pre_lower, pieces.pre_upper))]
    if dtype == torch.float32:
        linear = in_float64(subject.graph, made.alpha.linear, found.root)
        neuron_rows = None if found.neuron_rows is None else found.neuron_rows.to(linear.graph, linear.scales)
        double = lambda value: value.double() if value.is_floating_point() else value  # noqa: E731
        pieces, rows, start = (cast(item, double) for item in (pieces, rows, result.multipliers))
        sure = replace(alpha, linear=linear, neuron_rows=neuron_rows, steps=0).bound(pieces, rows, start)[0]
        claims.append(Claims(*made.exact, sure.lower, inside))
    return claims


def derived(subject: Subject, dtype: torch.dtype) -> list[Claims]:
    """Layers and rows derived anew on each of two pieces with decided neurons."""
    made = batch(subject, dtype)
    pieces, inside = some_pieces(subject, made.root, 2)
    claims = []
    for b in range(len(pieces)):
        found = strong(made, ("m-1", "prima"), pieces[b : b + 1])
        pre = found.root.pre_lower, found.root.pre_upper
        claims.append(Claims(*made.exact, found.result.lower, inside[b : b + 1], pre))
    return claims


IN_BATCH: dict[str, Callable[[Subject, torch.dtype], list[Claims]]] = {
    "k-relu in batch": tied("k-relu"),
    "prima in batch": tied("prima"),
    "m-1 in batch": tied("m-1"),
    "m-1+prima in batch": tied("m-1", "prima"),
    "decided phases": decided,
    "derived bases": derived,
}


def some_pieces(subject: Subject, root, count: int):  # type: ignore[no-untyped-def]
    """Pieces of the root with one to four decided neurons, each around a point; and the points certainly in them."""
    random = np.random.default_rng(subject.seed)
    z, error = subject.neurons
    open_ = ((root.pre_lower < 0) & (root.pre_upper > 0))[0].nonzero()[:, 0].numpy()
    count = count if len(open_) else 0
    most = min(4, len(open_))
    neuron, sign = torch.full((count, most), -1), torch.zeros(count, most, dtype=root.lower.dtype)
    low, high = root.pre_lower.expand(count, -1).clone(), root.pre_upper.expand(count, -1).clone()
    inside = torch.ones(count, len(z), dtype=torch.bool)
    for b in range(count):
        around = z[int(random.integers(len(z)))]
        for p, i in enumerate(random.permutation(open_)[: int(random.integers(1, most + 1))].tolist()):
            up = bool(around[i] > 0)
            neuron[b, p], sign[b, p] = i, 1 if up else -1
            (low if up else high)[b, i] = 0.0
            inside[b] &= z[:, i] > error[:, i] if up else z[:, i] < -error[:, i]
    each = {name: getattr(root, name).expand(count, *getattr(root, name).shape[1:]) for name in SPACE}
    decisions = {"neuron": neuron, "sign": sign, "point": torch.zeros_like(sign)}
    pieces = replace(root, **each, **decisions, pre_lower=low, pre_upper=high)
    some = inside.any(1)
    return pieces[some], inside[some]


SPACE = ("lower", "upper", "normals", "offsets")


def repeated(rows, count: int):  # type: ignore[no-untyped-def]
    return cast(rows, lambda value: value.expand(count, *value.shape[1:]))


def cast(item, change: Callable[[Tensor], Tensor]):  # type: ignore[no-untyped-def]
    """A dataclass of tensors with each of them changed."""
    return replace(item, **{k: change(v) for k, v in vars(item).items() if v is not None})
