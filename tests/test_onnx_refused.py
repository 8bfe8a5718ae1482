"""Networks that are refused: each with one sentence that says what, where and what to do."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import agrees, floats, ints, model, node, normal, single

from partita.problems.errors import BadInput
from partita.problems.onnx.compare import compare
from partita.problems.onnx.file import SUPPORTED_OPERATORS, load_onnx, read_onnx
from partita.problems.onnx.importing import Reading
from partita.problems.onnx.points import general_points


def refusal(made, check: bool = True) -> str:
    with pytest.raises(BadInput) as caught:
        read_onnx(made.SerializeToString(), "net.onnx", check)
    return str(caught.value)


def test_unsupported_operator_is_named_with_the_list() -> None:
    text = refusal(model([node("Relu", "x", "r"), node("Softmax", "r", "y")], (1, 3)))
    assert text.startswith("operator Softmax (node 'Softmax_y') is not supported; supported are Abs, Add, ")
    assert all(name in text for name in SUPPORTED_OPERATORS)


def test_foreign_operator_is_named_with_its_domain() -> None:
    made = model([helper.make_node("Gelu", ["x"], ["y"], domain="com.example")], (1, 3))
    assert "operator com.example::Gelu" in refusal(made)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, "width"), "dimension 1 of the network input 'x' is dynamic (width)"),
        (("N", 3, 0), "dimension 2 of the network input 'x' is dynamic"),
        ((1, None), "dimension 1 of the network input 'x' is dynamic (unknown)"),
    ],
)
def test_dynamic_shapes_are_refused(shape: tuple, words: str) -> None:
    assert words in refusal(model([node("Relu", "x", "y")], shape))


@pytest.mark.parametrize("shape", [("batch", 3), (None, 3), (0, 3)])
def test_an_open_batch_dimension_is_one(shape: tuple) -> None:
    made = model([node("Relu", "x", "y")], shape)
    assert read_onnx(made.SerializeToString(), check=False).input_shape == (1, 3)
    if shape[0] != 0:
        agrees(made)


def test_products_of_variables_are_refused_by_name() -> None:
    assert "Mul (node 'Mul_y') multiplies two variables" in refusal(model([node("Mul", "x x", "y")], (1, 3)))
    assert "MatMul (node 'MatMul_y') multiplies two variables" in refusal(model([node("MatMul", "x x", "y")], (3, 3)))
    made = model([node("Div", "c x", "y")], (1, 3), {"c": normal(3)})
    assert "Div (node 'Div_y') divides by a variable" in refusal(made)


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_weights_must_be_finite(value: float, word: str) -> None:
    constants = {"w": normal(2, 2), "bad": floats(1, value)}
    made = model([node("MatMul", "x w", "h"), node("Add", "h bad", "y")], (1, 2), constants)
    assert refusal(made).startswith(f"tensor 'bad' of Add (node 'Add_y') contains {word}")


def test_a_nan_in_a_gemm_is_found() -> None:
    made = model([node("Gemm", "x w", "y", transB=1)], (1, 2), {"w": floats(1, np.nan).reshape(1, 2)})
    assert "tensor 'w' of Gemm" in refusal(made)


def test_division_by_zero_is_refused() -> None:
    assert "divides by zero" in refusal(model([node("Div", "x c", "y")], (1, 2), {"c": floats(1, 0)}))


def test_two_inputs_or_outputs_are_refused() -> None:
    made = model([node("Add", "x z", "y")], (1, 2))
    made.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 2]))
    assert refusal(made) == "the network has 2 inputs (x, z); exactly one is supported"
    made = model([node("Relu", "x", "y"), node("Neg", "x", "z")], (1, 2))
    made.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 2]))
    assert refusal(made) == "the network has 2 outputs (y, z); exactly one is supported"


def test_other_element_types_are_refused() -> None:
    made = model([node("Relu", "x", "y")], (1, 2), element=TensorProto.FLOAT16)
    assert "element type float16; float32 or float64 is needed" in refusal(made)
    assert "turns a variable into int64" in refusal(single("Cast", (1, 2), to=TensorProto.INT64))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (single("BatchNormalization", (1, 2), *[normal(2) ** 2] * 4, training_mode=1, opset=15), "training mode"),
        (single("Resize", (1, 1, 2, 2), None, floats(1, 1, 2, 2), mode="linear"), "only nearest is supported"),
        (single("Conv", (1, 1, 3, 3, 3), normal(1, 1, 2, 2, 2)), "one or two space dimensions"),
        (single("MaxPool", (1, 1, 4, 4), kernel_shape=[2, 2], outputs=2), "also returns indices"),
        (
            single("AveragePool", (1, 1, 2, 4), kernel_shape=[3, 3]),
            "has a kernel (3, 3) that is larger than its input (2, 4)",
        ),
        (single("Slice", (1, 4), ints(2), ints(2), ints(1)), "its result has the shape (1, 0), which is empty"),
        (single("Reshape", (1, 4), ints(3)), "cannot be imported"),
        (model([node("Gather", "c i", "y")], (1, 2), {"c": normal(3)}), "reads 'i', which no earlier node computes"),
        (model([node("Relu", "x", "z")], (1, 2)), "output 'y' is computed by no node"),
        (model([node("Relu", "x", "y")], (1, 2), opset=6), "uses ONNX opset 6"),
        (single("LeakyRelu", (1, 2), alpha=float("nan")), "has the slope nan; it must be a finite number"),
        (single("LeakyRelu", (1, 2), alpha=float("inf")), "has the slope inf; it must be a finite number"),
        (single("Gemm", (1, 2), normal(2, 2), alpha=float("inf")), "has the factors inf and 1.0; they must be finite"),
        (single("Gemm", (1, 2), normal(2, 2), beta=float("nan")), "has the factors 1.0 and nan; they must be finite"),
        (
            model([node("Gemm", "a a x", "y")], (2, 2), {"a": normal(2, 2)}),
            "multiplies two constants and adds a variable",
        ),
        (single("Conv", (1, 2, 4), normal(2, 2, 1), group=3), "weights (2, 2, 1) in 3 groups, and 2 channels"),
        (single("Conv", (1, 2, 4), normal(2, 2, 1), group=0), "weights (2, 2, 1) in 0 groups, and 2 channels"),
        (single("Conv", (1, 2, 4), normal(3, 1, 1), group=2), "weights (3, 1, 1) in 2 groups, and 2 channels"),
        (single("Conv", (1, 2, 4), normal(2, 2, 1), strides=[0]), "strides (0,) and dilations (1,)"),
        (single("ConvTranspose", (1, 2, 4), normal(2, 2, 1), dilations=[0]), "strides (1,) and dilations (0,)"),
        (single("MaxPool", (1, 2, 4), kernel_shape=[2], strides=[0]), "cannot be imported"),
        (single("MatMul", (1, 4), normal(2, 3)), "its weights take 2 numbers to 3, and its input and its result have"),
        (single("Pad", (1, 4), ints(0, 1, 0, 1), np.array(-np.inf, np.float32)), "fills with -inf"),
        (single("Pad", (1, 4), opset=9, pads=[0, 1, 0, 1], value=float("nan")), "fills with nan"),
        (single("Expand", (1, 4), ints(2**40, 4)), "cannot be imported"),
    ],
)
def test_forms_that_are_refused(made, words: str) -> None:
    assert words in refusal(made)


def test_networks_without_a_node() -> None:
    for made, count in ((model([], (1, 2), output="x"), 2), (model([], (1, 2), {"c": floats(1, 2, 3)}, output="c"), 3)):
        made.graph.output[0].type.tensor_type.shape.dim.add().dim_value = count
        if count == 2:
            made.graph.output[0].CopyFrom(made.graph.input[0])
        assert agrees(made).output_size == count
        read_onnx(made.SerializeToString())


def test_damaged_files_are_refused_in_a_sentence() -> None:
    """A few bytes are changed: the file is refused, or is another network's, and nothing else is raised."""
    files = [
        single("Conv", (1, 2, 5), normal(2, 2, 3), strides=[2], pads=[1, 0]),
        single("ConvTranspose", (1, 2, 4), normal(2, 1, 3), group=1, output_padding=[1], strides=[2]),
        single("Gemm", (3, 2), normal(3, 2), normal(2), transA=1, alpha=0.5),
        single("BatchNormalization", (1, 2, 3), *[normal(2) ** 2 for _ in range(4)]),
        model([node("Split", "x s", "a b", axis=-1), node("Concat", "b a", "y", axis=1)], (1, 4), {"s": ints(1, 3)}),
        model([node("Slice", "x s e a", "y")], (1, 4), {"s": ints(-1), "e": ints(-9), "a": ints(1)}),
        model([node("Unsqueeze", "x a", "h"), node("Max", "h c", "y")], (1, 4), {"a": ints(-1), "c": normal(1)}),
    ]
    source, refused = np.random.default_rng(7), 0
    for number in range(700):
        data = bytearray(files[number % len(files)].SerializeToString())
        for _ in range(source.integers(1, 4)):
            at = int(source.integers(len(data)))
            data[at : at + int(source.integers(0, 3))] = source.bytes(source.integers(0, 3))
        try:
            read_onnx(bytes(data), "net.onnx")
        except BadInput as error:
            refused += 1
            assert str(error).count("\n") == 0
    assert 400 < refused < 700


def test_variable_indices_are_refused() -> None:
    made = model([node("Cast", "x", "i", to=TensorProto.FLOAT), node("Gather", "x i", "y")], (1, 2))
    assert "has indices ('i') that depend on the network's input" in refusal(made)


def test_missing_truncated_and_foreign_files(tmp_path: Path) -> None:
    def text(path: Path) -> str:
        with pytest.raises(BadInput) as caught:
            load_onnx(path)
        return str(caught.value)

    data = single("Relu", (1, 4)).SerializeToString()
    assert "does not exist" in text(tmp_path / "none.onnx")
    assert "cannot be read" in text(tmp_path)
    for name, content, words in [
        ("short.onnx", data[: len(data) // 2], "not an ONNX file, or is truncated"),
        ("text.onnx", b"hello, this is no network", "not an ONNX file, or is truncated"),
        ("empty.onnx", b"", "is empty"),
        ("short.onnx.gz", gzip.compress(data)[:-20], "damaged or truncated gzip"),
        ("tail.onnx.gz", gzip.compress(data)[:-4] + b"abcd", "damaged or truncated gzip"),
    ]:
        (tmp_path / name).write_bytes(content)
        assert words in text(tmp_path / name)


def test_weights_in_another_file_are_refused() -> None:
    made = model([node("Add", "x c", "y")], (1, 2), {"c": normal(2)})
    made.graph.initializer[0].ClearField("raw_data")
    made.graph.initializer[0].data_location = TensorProto.EXTERNAL
    assert "lies in a separate file" in refusal(made)


def test_a_network_that_always_overflows_is_refused() -> None:
    nodes = [node("Add", "x big", "a"), node("Mul", "a big", "y")]
    assert "NaN or infinity in onnxruntime on every random input" in refusal(
        model(nodes, (1, 2), {"big": floats(1e30, 1e30)})
    )


def test_an_import_that_differs_is_refused() -> None:
    """The guard itself: onnxruntime gets another network than the reader."""
    reading = Reading(single("Mul", (1, 4), floats(1)).SerializeToString(), "net.onnx")
    reading.data = single("Mul", (1, 4), floats(1.01)).SerializeToString()
    with pytest.raises(BadInput, match=r"node 'node'.* gives another result in onnxruntime than as net\.onnx was"):
        compare(reading, general_points(4))
