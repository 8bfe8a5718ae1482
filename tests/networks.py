"""Random small networks and properties for the tests, and their ONNX files.

Every graph is in the normal form that the importer makes: an activation reads an affine node, the output is an affine
node, and weights are float32 numbers held in float64, so that the ONNX file is the same network.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.affine import AbstractLinear, Conv, Dense, Diagonal, Identity, Select
from partita.problems.network.graph import Activation, Affine, Graph, Input, Multivariate
from partita.problems.network.product import Product
from partita.problems.network.smooth import Sigmoid, Tanh
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet

KINDS = ("mlp", "leaky", "residual", "conv", "maxpool", "sigmoid", "tanh")
PIECEWISE = KINDS[:5]
EVERY = (*KINDS, "gated")  # and with a product of two variables, which no file has yet


class _Builder:
    """Appends nodes with random weights; each method returns the new node's position."""

    def __init__(self, seed: int, inputs: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.nodes: list = [Input(inputs)]

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(*shape, generator=self.random)).double()

    def size(self, node: int) -> int:
        return self.nodes[node].size

    def affine(self, parts: list[tuple[int, AbstractLinear]]) -> int:
        bias = self.normal(parts[0][1].n_out, scale=0.3)
        inputs, operators = zip(*parts, strict=True)
        self.nodes.append(Affine(inputs, operators, bias, f"affine{len(self.nodes)}"))
        return len(self.nodes) - 1

    def dense(self, node: int, size: int) -> int:
        n = self.size(node)
        return self.affine([(node, Dense(self.normal(size, n, scale=n**-0.5)))])

    def conv(self, node: int, in_shape: tuple[int, ...], channels: int, stride: int) -> tuple[int, tuple[int, ...]]:
        weight = self.normal(channels, in_shape[0], 3, 3, scale=(9 * in_shape[0]) ** -0.5)
        operator = Conv(weight, in_shape, (stride, stride), ((1, 1), (1, 1)), (1, 1))
        return self.affine([(node, operator)]), operator.out_shape

    def act(self, node: int, function) -> int:
        self.nodes.append(Activation((node,), function, self.size(node), f"{function.name}{len(self.nodes)}"))
        return len(self.nodes) - 1

    def graph(self) -> Graph:
        return Graph(tuple(self.nodes), (1, self.nodes[0].size), (1, self.nodes[-1].size))


def random_graph(
    seed: int, kind: str = "mlp", inputs: int = 3, width: int = 6, depth: int = 2, outputs: int = 2
) -> Graph:
    """A network with `depth` hidden layers of `width` neurons, weights scaled to keep values near one.

    "conv" sees its inputs as a square image (inputs = side^2) and has `width // 4` channels; "maxpool" takes the
    maximum of pairs, written as b + relu(a - b); "residual" adds each hidden layer's input to its output; "gated"
    multiplies the first hidden layer's values with each other, entry by entry, by way of two affine maps.
    """
    b = _Builder(seed, inputs)
    function = {"leaky": LeakyReLU(0.125), "sigmoid": Sigmoid(), "tanh": Tanh()}.get(kind, ReLU())
    if kind == "conv":
        at = _conv_body(b, inputs, max(1, width // 4), depth)
    else:
        at = b.act(b.dense(0, width), function)
        for _ in range(depth - 1):
            at = _layer(b, kind, at, width, function)
    b.dense(at, outputs)
    return b.graph()


def _layer(b: _Builder, kind: str, at: int, width: int, function) -> int:
    if kind == "residual":
        step = Dense(b.normal(width, b.size(at), scale=b.size(at) ** -0.5))
        return b.act(b.affine([(at, step), (at, Identity(b.size(at)))]), function)
    if kind == "gated" and not any(isinstance(node, Multivariate) for node in b.nodes):
        factors = b.dense(at, width), b.dense(at, width)
        b.nodes.append(Multivariate(factors, Product(), width, f"product{len(b.nodes)}"))
        at = len(b.nodes) - 1
    if kind == "maxpool":
        odd = Select(torch.arange(1, b.size(at), 2), b.size(at))
        pick = torch.eye(b.size(at), dtype=torch.float64)
        difference = b.act(b.affine([(at, Dense(pick[0::2] - pick[1::2]))]), ReLU())
        pooled = b.affine([(difference, Identity(b.size(difference))), (at, odd)])
        return b.act(b.dense(pooled, width), function)
    return b.act(b.dense(at, width), function)


def _conv_body(b: _Builder, inputs: int, channels: int, depth: int) -> int:
    side = round(inputs**0.5)
    if side * side != inputs:
        raise ValueError(f"a convolutional network needs a square number of inputs, not {inputs}")
    at, shape = 0, (1, side, side)
    for layer in range(depth):
        at, shape = b.conv(at, shape, channels, 1 + layer % 2)
        at = b.act(at, ReLU())
    return at


def random_box(seed: int, inputs: int, radius: float = 0.5, halfspaces: int = 0) -> Polytope:
    """A box around a random centre, cut by half-spaces that keep its centre."""
    random = np.random.default_rng(seed)
    centre = random.normal(size=inputs).astype(np.float32).astype(float)
    normals = random.normal(size=(halfspaces, inputs))
    offsets = normals @ centre + 0.3 * radius * random.random(halfspaces)
    return Polytope(centre - radius, centre + radius, normals, offsets)


def sample(polytope: Polytope, count: int, seed: int = 0) -> np.ndarray:
    """Points of the polytope, corners of its box among them: (at most count, D)."""
    random = np.random.default_rng(seed)
    t = random.random((count, polytope.size))
    t[: count // 4] = t[: count // 4].round()
    x = polytope.lower + t * (polytope.upper - polytope.lower)
    x = np.clip(x, polytope.lower, polytope.upper)
    return x[(x @ polytope.normals.T <= polytope.offsets).all(1)]


def random_property(
    seed: int,
    graph: Graph,
    *,
    radius: float = 0.5,
    halfspaces: int = 0,
    cases: int = 1,
    sets: int = 1,
    rows: int = 1,
    margin: float = 0.0,
) -> Property:
    """Unsafe sets whose rows come near the sampled minimum, so that both verdicts occur.

    With many inputs samples miss it by far: `margin` moves the sets away, by so many standard deviations.
    """
    random = np.random.default_rng(seed)
    made = []
    for case in range(cases):
        polytope = random_box(seed + 1000 * case, graph.input_size, radius, halfspaces)
        y = graph(torch.as_tensor(sample(polytope, 2000, seed))).numpy()
        unsafe = []
        for _ in range(sets):
            normals = random.normal(size=(rows, graph.output_size))
            values = y @ normals.T
            least = values.min(0) if rows == 1 else np.quantile(values, 0.2, axis=0)
            spread = np.where(values.std(0) > 0, values.std(0), 1.0)  # dead networks are constant
            unsafe.append(UnsafeSet(normals, -least + (margin + random.normal(scale=0.1, size=rows)) * spread))
        made.append(Case(polytope, tuple(unsafe)))
    return Property(tuple(made), graph.input_size, graph.output_size, f"random{seed}")


def graph_to_onnx(graph: Graph) -> bytes:
    """The network as an ONNX file in float32, input and output of shape (1, n)."""
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, constants = [], []

    def constant(array) -> str:
        array = np.asarray(array)
        kept = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        constants.append(numpy_helper.from_array(kept, f"c{len(constants)}"))
        return constants[-1].name

    def emit(op: str, *inputs: str, name: str | None = None, **attributes) -> str:
        out = name or f"t{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [out], name=f"{op}_{len(nodes)}", **attributes))
        return out

    def operator(op: AbstractLinear, x: str) -> str:
        match op:
            case Identity():
                return x
            case Dense(repeat=1):
                return emit("MatMul", x, constant(op.weight.mT.numpy()))
            case Diagonal():
                return emit("Mul", x, constant(op.factor.numpy()))
            case Select(full=True):
                return emit("Gather", x, constant(op.index.numpy()), axis=1)
            case Conv():
                pads = [p[0] for p in op.padding] + [p[1] for p in op.padding]
                image = emit("Reshape", x, constant(np.array([1, *op.in_shape])))
                kernel = {"strides": op.stride, "pads": pads, "dilations": op.dilation, "group": op.groups}
                image = emit("Conv", image, constant(op.weight.numpy()), **kernel)
                return emit("Reshape", image, constant(np.array([1, op.n_out])))
        raise ValueError(f"the tests write no ONNX for {type(op).__name__}")

    names = ["x"]
    for i, node in enumerate(graph.nodes[1:], 1):
        name = "y" if i == graph.output else f"n{i}"
        if isinstance(node, Affine):
            terms = [operator(op, names[j]) for op, j in zip(node.operators, node.inputs, strict=True)]
            total = terms[0]
            for term in terms[1:]:
                total = emit("Add", total, term)
            names.append(emit("Add", total, constant(node.bias.numpy()[None]), name=name))
        else:
            slope = {"alpha": node.function.slope} if node.function.name == "LeakyRelu" else {}
            names.append(emit(node.function.name, names[node.inputs[0]], name=name, **slope))
    ends = [
        helper.make_tensor_value_info(end, TensorProto.FLOAT, [1, size])
        for end, size in (("x", graph.input_size), ("y", graph.output_size))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "random", ends[:1], ends[1:], constants),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    checker.check_model(model)
    return model.SerializeToString()


def dense(weight: list, bias: list, *more: tuple[list, list], slope: float = 0.0) -> Graph:
    """Layers of neurons of the given weights and biases, one after the other; the last neurons are the outputs."""
    nodes: list = [Input(len(weight[0]))]
    for w, b in ((weight, bias), *more):
        matrix, shift = (torch.tensor(numbers, dtype=torch.float64) for numbers in (w, b))
        nodes.append(Affine((len(nodes) - 1,), (Dense(matrix),), shift))
        nodes.append(Activation((len(nodes) - 1,), LeakyReLU(slope) if slope else ReLU(), len(b)))
    return Graph(tuple(nodes), (len(weight[0]),), (len(bias),))


def barely(seed: int, inputs: int = 3, halfspaces: int = 0, sets: int = 1) -> tuple[Graph, Property]:
    """A property whose least sampled value is a little above zero; nearly all hold, after a few dozen pieces."""
    graph = random_graph(seed, "mlp", inputs=inputs, width=10, depth=2)
    radius, margin = (3.0, 0.003) if inputs <= 3 else (1.0, 0.4)
    polytope = random_property(seed, graph, radius=radius, halfspaces=halfspaces).cases[0].inputs
    y = graph(torch.from_numpy(sample(polytope, 100_000, seed))).numpy()
    random = np.random.default_rng(seed)
    rows = [random.normal(size=(1, graph.output_size)) for _ in range(sets)]
    unsafe = tuple(UnsafeSet(row, np.array([margin - float((y @ row.T).min())])) for row in rows)
    return graph, Property((Case(polytope, unsafe),), inputs, graph.output_size, "barely")
