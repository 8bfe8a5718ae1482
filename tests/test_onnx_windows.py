"""Windows of pools and roundings of weights: every small case against onnxruntime, and against exact numbers."""

from __future__ import annotations

from decimal import Decimal, localcontext
from itertools import product

import numpy as np
import pytest
import torch
from onnx import TensorProto
from onnx_models import model, node, normal, single

from partita.problems.errors import BadInput
from partita.problems.network.affine import Chain, Diagonal
from partita.problems.network.graph import Affine
from partita.problems.onnx.file import read_onnx
from partita.problems.onnx.importing import Reading
from partita.problems.onnx.runtime import OnnxModel


def disagreements(kind: str, cases) -> list:
    """The cases that onnxruntime runs and the reader reads otherwise, or refuses though it has windows."""
    wrong = []
    for shape, attributes in cases:
        made = single(kind, shape, opset=13 if kind == "MaxPool" else 19, **attributes)
        data = made.SerializeToString()
        try:
            session = OnnxModel(data)
            x = np.random.default_rng(0).normal(size=(2, int(np.prod(shape)))).astype(np.float32).astype(np.float64)
            theirs = session.run_many(x)
        except BadInput:
            continue
        if not theirs.size or not np.isfinite(theirs).all() or (np.abs(theirs) > 1e30).any():
            continue  # windows of padding only, which have no maximum
        try:
            ours = Reading(data).graph(torch.from_numpy(x)).numpy()
        except BadInput as error:
            if "larger than its input" not in str(error):  # where onnxruntime's division rounds up to one window
                wrong.append((shape, attributes, str(error)))
            continue
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-5, atol=1e-5):
            wrong.append((shape, attributes, ours.shape, theirs.shape))
    return wrong


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_every_window_of_a_line(kind: str, ceil_mode: int) -> None:
    """Sizes 1 to 7, kernels and strides 1 to 3, all paddings: windows that ceil_mode adds, and those it must not."""
    cases = []
    for n, k, s in product(range(1, 8), range(1, 4), range(1, 4)):
        for pads in product(range(k), range(k)):
            plain = {"kernel_shape": [k], "strides": [s], "pads": list(pads), "ceil_mode": ceil_mode}
            cases.append(((1, 1, n), plain))
            if kind == "AveragePool" and any(pads):
                cases.append(((1, 1, n), plain | {"count_include_pad": 1}))
    assert len(cases) > 250
    assert disagreements(kind, cases) == []


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_dilated_windows(kind: str) -> None:
    cases = []
    for n, k, s, d, ceil_mode in product(range(3, 8), (2, 3), (1, 2, 3), (2, 3), (0, 1)):
        space = {"kernel_shape": [k], "strides": [s], "dilations": [d], "ceil_mode": ceil_mode}
        cases += [((1, 1, n), space | {"pads": [p, q]}) for p, q in ((0, 0), (1, 0), (1, 1))]
    assert disagreements(kind, cases) == []


def test_padding_same_of_dilated_pools_is_onnxruntimes() -> None:
    """The standard counts the dilation when it pads, onnxruntime does not."""
    cases = []
    for n, k, s, d, how in product(range(2, 9), (2, 3), (1, 2), (2, 3), ("SAME_UPPER", "SAME_LOWER")):
        if n >= d * (k - 1) + 1:
            cases.append(((1, 1, n), {"kernel_shape": [k], "strides": [s], "dilations": [d], "auto_pad": how}))
    assert disagreements("MaxPool", cases) == []
    made = single("MaxPool", (1, 1, 6), kernel_shape=[2], dilations=[2], auto_pad="SAME_UPPER", opset=13)
    assert read_onnx(made.SerializeToString()).output_size == 5


# --- sizes that scales round


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 13, 18, 19])
def test_resizing_to_the_same_size_copies(opset: int) -> None:
    """Scales of 1.1 leave 4 at 4: onnxruntime copies, where the scale alone would repeat entries."""
    for factor in (1.0, 1.1, 1.2, 1.24):
        scales = np.array([1, 1, factor], np.float32)
        if opset < 9:
            made = single("Upsample", (1, 1, 4), scales=scales.tolist(), mode="nearest", opset=opset)
        elif opset == 9:
            made = single("Upsample", (1, 1, 4), scales, mode="nearest", opset=opset)
        elif opset == 10:
            made = single("Resize", (1, 1, 4), scales, mode="nearest", opset=opset)
        else:
            how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            made = single("Resize", (1, 1, 4), np.zeros(0, np.float32), scales, mode="nearest", opset=opset, **how)
        graph = read_onnx(made.SerializeToString())
        x = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
        assert torch.equal(graph(x), x)


def test_every_nearest_resize_of_a_line() -> None:
    """Sizes 1 to 7 by scales that round, in every mode: read as onnxruntime has it, never otherwise."""
    modes = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    roundings = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    for n, factor, mode, rounding in product(range(1, 8), (0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 2.4, 3.0), modes, roundings):
        if int(np.float32(n) * np.float32(factor)) < 1:
            continue
        scales = np.array([1, 1, factor], np.float32)
        how = {"coordinate_transformation_mode": mode, "nearest_mode": rounding}
        made = single("Resize", (1, 1, n), None, scales, mode="nearest", opset=13, **how)
        read_onnx(made.SerializeToString())


# --- roundings of batch normalisation


def test_the_factor_of_a_batch_normalization_is_within_its_roundings() -> None:
    """gamma / sqrt(variance + epsilon) in 60 digits: some are more than one unit roundoff away, none beyond three."""
    source = np.random.default_rng(0)
    n = 4000
    gamma, variance = source.normal(size=n), np.abs(source.normal(size=n)) * 10.0 ** source.integers(-6, 6, n)
    constants = {"g": gamma, "b": 0 * gamma, "m": 0 * gamma, "v": variance}
    made = model([node("BatchNormalization", "x g b m v", "y", epsilon=1e-3)], (1, n), constants)
    made.graph.input[0].type.tensor_type.elem_type = made.graph.output[0].type.tensor_type.elem_type = (
        TensorProto.DOUBLE
    )
    (affine,) = Reading(made.SerializeToString()).graph.nodes[1:]
    (operator,) = affine.operators
    assert isinstance(operator, Diagonal)
    epsilon = Decimal(float(np.float32(1e-3)))
    most = 0.0
    with localcontext() as context:
        context.prec = 60
        for i in range(n):
            true = Decimal(gamma[i]) / (Decimal(variance[i]) + epsilon).sqrt()
            off = abs(Decimal(operator.factor[i].item()) - true)
            assert off <= Decimal(operator.terms) * Decimal(2) ** -53 * Decimal(operator.magnitude().factor[i].item())
            most = max(most, float(off / abs(true) * 2**53))
    assert 1.2 < most < 3


def test_the_mean_of_a_batch_normalization_does_not_cancel_away() -> None:
    """beta = gamma mean / sqrt(variance) nearly: folded into one number, what is left of it would be noise."""
    constants = {"g": np.ones(1), "m": np.array([1e12]), "v": np.array([3.0]), "b": np.array([1e12 / np.sqrt(3.0)])}
    made = model(
        [node("BatchNormalization", "x g b m v", "y", epsilon=0.0)], (1, 1), constants, element=TensorProto.DOUBLE
    )
    reading = Reading(made.SerializeToString())
    shifts = [abs(float(n.bias)) for n in reading.imported.graph.nodes if isinstance(n, Affine)]
    assert 1e12 in shifts and float(constants["b"][0]) in shifts
    read_onnx(made.SerializeToString())


def test_a_variance_that_is_not_positive_is_refused() -> None:
    constants = {"g": normal(2), "b": normal(2), "m": normal(2), "v": np.array([1, -1], np.float32)}
    made = model([node("BatchNormalization", "x g b m v", "y", epsilon=1e-5)], (1, 2), constants)
    with pytest.raises(BadInput, match=r"divides by the root of a number that is not positive \(tensor 'v'\)"):
        read_onnx(made.SerializeToString())


def test_defaults_of_attributes_are_float32() -> None:
    """1e-5 and 0.01 as the standard's float attributes hold them: in float64 models the difference shows."""
    constants = {"g": np.ones(1), "b": np.zeros(1), "m": np.zeros(1), "v": np.zeros(1)}
    made = model([node("BatchNormalization", "x g b m v", "y")], (1, 1), constants, element=TensorProto.DOUBLE)
    graph = read_onnx(made.SerializeToString())
    value = graph(torch.ones(1, 1, dtype=torch.float64)).item()
    assert value == pytest.approx(1 / np.sqrt(float(np.float32(1e-5))), rel=1e-14)
    slope = read_onnx(single("LeakyRelu", (1, 1)).SerializeToString())(-torch.ones(1, 1, dtype=torch.float64)).item()
    assert slope == -float(np.float32(0.01))


def test_a_chain_of_one_is_not_needed_for_a_scaling() -> None:
    graph = read_onnx(single("Mul", (1, 3), normal(3)).SerializeToString())
    assert not isinstance(graph.nodes[1].operators[0], Chain)
