"""A random ONNX model being written: its nodes, constants and scale; see `import_models.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

SCALES = (1.0, 1.0, 1.0, 1e-3, 1e3, 1e-8, 1e8, 1e-30, 1e20)
FLOATS = (np.float32, np.float64)


@dataclass
class Draft:
    """A model being written. `shape` is what the latest tensor has, as far as the writer knows."""

    source: Random
    opset: int
    dtype: type
    scale: float
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    tensors: list[str] = field(default_factory=lambda: ["x"])  # variables, the latest last

    def numbers(self, *shape: int, positive: bool = False) -> np.ndarray:
        """Weights: normal, integer, sparse or equal, in the model's scale."""
        generator = np.random.default_rng(self.source.getrandbits(48))
        kind = self.source.randrange(6)
        values = generator.normal(size=shape)
        if kind == 0:
            values = values.round()
        elif kind == 1:
            values = values * (generator.random(shape) < 0.4)
        elif kind == 2:
            values = np.full(shape, values.flat[0] if values.size else 0.0)
        if positive:
            values = np.abs(values) + self.source.choice((0.0, 1e-3, 1.0))
        return (values * self.scale).astype(self.dtype)

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        listed = [name, *(f"{name}_{i}" for i in range(1, outputs))]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(kind, inputs, listed, name=f"{kind}_{name}", **given))
        chosen = self.source.choice(listed) if outputs > 1 else name
        self.tensors.append(chosen)
        return chosen

    def model(self, shape: tuple[int, ...], output: str | None = None) -> ModelProto:
        element = TensorProto.FLOAT if self.dtype is np.float32 else TensorProto.DOUBLE
        graph = helper.make_graph(
            self.nodes,
            "fuzzed",
            [helper.make_tensor_value_info("x", element, list(shape))],
            [helper.make_tensor_value_info(output or self.tensors[-1], element, None)],
            [numpy_helper.from_array(v, k) for k, v in self.constants.items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        made.ir_version = 8
        return made


def draft(seed: int) -> tuple[Draft, tuple[int, ...], int, Random]:
    """An empty model, its input's shape, how many operators it is to have, and where chance comes from."""
    source = Random(seed)
    dtype = FLOATS[source.random() < 0.3]
    scale = source.choice(SCALES) * (1e250 if dtype is np.float64 and source.random() < 0.05 else 1.0)
    shape = source.choice(
        (
            (1, source.randint(1, 6)),
            (source.randint(1, 3), source.randint(1, 5)),
            (1, source.randint(1, 3), source.randint(1, 7)),
            (1, source.randint(1, 3), source.randint(1, 6), source.randint(1, 6)),
            (source.randint(1, 2), source.randint(1, 4), source.randint(2, 6), source.randint(2, 6)),
            (source.randint(2, 5),),
        )
    )
    return Draft(source, source.randint(7, 22), dtype, scale), shape, source.randint(1, 5), source


def mask(d: Draft, shape: tuple[int, ...]) -> None:
    """Concatenates entries so large that nothing relative to them sees the others."""
    axis = d.source.randrange(len(shape))
    one = [1 if i == axis else n for i, n in enumerate(shape)]
    d.node("Concat", d.tensors[-1], d.constant(np.full(one, 1e8 * max(d.scale, 1.0), d.dtype)), axis=axis)
