"""Triton's kernels against the torch reference: under its interpreter, by its compiler, and on a GPU if there is one.

The cases stand in `kernel_cases.py`. The compiler needs no GPU: what it makes of every kernel for the devices of data
centres is looked at as text.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from itertools import product
from math import ceil
from pathlib import Path
from struct import pack

import kernel_cases
import pytest
import torch

from partita.kernels import device as choice
from partita.kernels import dot as dots
from partita.kernels import hull
from partita.kernels.rows import add_weighed, layer_rows, pull
from partita.kernels.substitute import Weights, substitute, substitute_weighed

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed (pip install triton); the torch kernels are tested"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here")


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    """What each case says under the interpreter, in a process of its own."""
    script = Path(kernel_cases.__file__)
    here = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, str(script)], env=here, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["case"]: row["error"] for row in told}


@needs_triton
@pytest.mark.parametrize("case", kernel_cases.CASES)
def test_under_the_interpreter(case, interpreted):
    assert interpreted[case] == ""


@pytest.mark.gpu
@needs_gpu
@needs_triton
@pytest.mark.parametrize("case", kernel_cases.CASES)
def test_on_the_device(case):
    kernel_cases.run(case, "cuda")


@pytest.mark.gpu
@needs_gpu
@needs_triton
def test_the_device_chooses_triton_and_one_run_is_like_another():
    a, v = torch.randn(300, 9, 257, device="cuda"), torch.randn(300, 257, device="cuda")
    assert choice.fused(a, v) and not choice.fused(a, v.double()) and not choice.fused(a.cpu(), v.cpu())
    assert not choice.fused(a.clone().requires_grad_(), v)
    assert torch.equal(dots.dot(a, v), dots.dot(a, v))


# What a kernel may be called without.
ABSENT = {
    "sums._sums": ("weight", "absolute"),
    "sums._box": (),
    "substitute._substitute": ("lower_bias", "above", "under", "added", "joint", "slack"),
    "rows._pull": (),
    "rows._add_weighed": (),
}


def compiled(function, capability: int, pointer: str, fixed: dict, aligned: bool) -> str:
    """The PTX of a kernel with some arguments fixed; `aligned`: what is not fixed is a multiple of 16."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    signature = {}
    for n in function.arg_names:
        if n in fixed:
            signature[n] = "constexpr"
        elif n in ("widen", "error"):
            signature[n] = "fp32"
        elif n in ("count", "size", "most") or n.endswith(("_piece", "_row")):
            signature[n] = "i32"
        else:
            signature[n] = {"touching": "*i32", "on": "*u8", "vacant": "*u8"}.get(n, f"*{pointer}")
    place = function.arg_names.index
    constants = {(place(n),): value for n, value in fixed.items()}
    free = [n for n, kind in signature.items() if kind not in ("constexpr", "fp32") and n not in ("count", "most")]
    hints = {(place(n),): [["tt.divisibility", 16]] for n in free} if aligned else {}
    return compile(ASTSource(function, signature, constants, hints), target=GPUTarget("cuda", capability, 32)).asm[
        "ptx"
    ]


@needs_triton
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter has replaced the compiler")
@pytest.mark.parametrize("pointer", ("fp32", "fp64"))
@pytest.mark.parametrize("capability", (80, 90))
@pytest.mark.parametrize("kernel", ABSENT)
def test_every_kernel_compiles(kernel, capability, pointer, tmp_path, monkeypatch):
    """For Ampere and Hopper, without a GPU: float64 is not narrowed on the way, nothing spills into memory."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    module, name = kernel.split(".")
    function = getattr(import_module(f"partita.kernels.triton.{module}"), name)
    flags = [n for n in function.arg_names if n.isupper()]
    strides = [n for n in function.arg_names if n.endswith(("_piece", "_row"))]
    for high, wide, more in (
        (1, 64, dict.fromkeys(strides, 1) | {"size": 1}),  # as Triton fixes every argument that is one
        (16, 64, dict.fromkeys(ABSENT[kernel])),
        (1, 1024, {}),
    ):
        text = compiled(
            function, capability, pointer, dict.fromkeys(flags, True) | {"HIGH": high, "WIDE": wide} | more, wide > 64
        )
        assert "cvt.rn.f32.f64" not in text and "atom." not in text and ".local" not in text
        assert ("f64" in text) == (pointer == "fp64") and "st.global" in text
        assert "ftz" not in text and "div.full" not in text  # denormals kept, no approximate division
        assert wide == 64 or ".v4." in text or (pointer == "fp64" and ".v2." in text)  # aligned: wide readings


@needs_triton
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter has replaced the compiler")
@pytest.mark.parametrize("size, places", ((1, 3), (2, 13), (3, 79), (4, 377)))
@pytest.mark.parametrize("capability", (80, 90))
def test_the_proof_of_hulls_compiles(capability, size, places, tmp_path, monkeypatch):
    """With the tiles that groups of each size get; no number of it is narrower than float64."""
    from partita.kernels.triton import hull

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    (programs,), fixed = hull.launch(10, 57, places, size)
    assert fixed["WIDE"] >= places and programs * fixed["HIGH"] >= 570 and fixed["WIDE"] * fixed["HIGH"] <= hull.ENTRIES
    del fixed["num_warps"]
    text = compiled(hull._offsets, capability, "fp64", fixed, True)
    assert "f32" not in text and "atom." not in text and ".local" not in text
    assert "fma.rn.f64" in text and "st.global" in text
    assert "setp.nan.f64" in text  # maxima keep NaN, which the interpreter's always do


@needs_triton
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter has replaced the compiler")
@pytest.mark.parametrize("size, places, aims", ((1, 3, 2), (2, 13, 12), (3, 79, 56), (4, 377, 160)))
@pytest.mark.parametrize("capability", (80, 90))
def test_the_slide_of_hulls_compiles(capability, size, places, aims, tmp_path, monkeypatch):
    """With the tiles that groups of each size get; thresholds are not rounded to float32 on the way."""
    from partita.kernels.triton import slide

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    (programs,), fixed = slide.launch(10, aims, places, 2 * size)
    assert fixed["WIDE"] >= places and programs * fixed["HIGH"] >= 10 * aims
    assert fixed["WIDE"] * fixed["HIGH"] <= slide.ENTRIES and fixed["PADDED"] in (2 * size, 8)
    assert fixed.pop("num_warps") in (1, 2, 4)
    thresholds = {"LEVEL": hull.LEVEL, "SLOWEST": hull.SLOWEST, "CLOSEST": hull.CLOSEST}
    text = compiled(slide._slide, capability, "fp64", fixed | thresholds, True)
    assert "f32" not in text and "atom." not in text and ".local" not in text
    for number in (*thresholds.values(), 1e-300, 1e-12, torch.finfo(torch.float64).tiny):
        assert "0d" + pack(">d", number).hex().upper() in text, number
    assert "div.rn.f64" in text and "sqrt.rn.f64" in text and "setp.nan.f64" in text and "st.global" in text


def test_lanes_keep_to_the_depth_that_dot_states():
    """The count of `triton/tile.py`, for every layer size that matters and every shape of tile."""
    for groups, n in product((1, 4, 16), range(1, 20001)):
        m = ceil(n / dots.BLOCK)
        count = 1 + (ceil(m / groups) - 1) + (min(n, dots.BLOCK) - 1) + (min(m, groups) - 1)
        assert count <= dots.depth(n), (n, groups)


@needs_triton
def test_the_lanes_are_the_blocks():
    from partita.kernels.triton.tile import LANES

    assert LANES == dots.BLOCK


def test_nothing_of_triton_is_imported_for_tensors_of_the_cpu(tmp_path):
    code = """if True:
        import sys, torch
        from partita.kernels.dot import dot
        from partita.kernels.polytope import box_minimum
        a = torch.ones(2, 3, 200)
        dot(a, a[:, 0]); box_minimum(a, -a[:, 0], a[:, 0])
        print("triton" in sys.modules)"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert said.stdout.strip() == "False"


def test_without_triton_one_warning_says_so(monkeypatch):
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    choice._triton_runs.cache_clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert not choice._triton_runs(torch.device("cuda", 0)) and not choice._triton_runs(torch.device("cuda", 0))
    choice._triton_runs.cache_clear()
    assert len(told) == 1 and "not installed" in str(told[0].message)


@needs_triton
def test_where_triton_cannot_run_one_warning_says_why():
    """On a machine without a GPU the probe fails, whatever the reason; the reference runs."""
    if torch.cuda.is_available():
        pytest.skip("Triton runs here")
    choice._triton_runs.cache_clear()
    with pytest.warns(UserWarning, match="does not run on cuda"):
        assert not choice._triton_runs(torch.device("cuda", 0))
    choice._triton_runs.cache_clear()


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("bare", (True, False))
def test_weighed_substitution_is_its_parts(bare, dtype):
    """The torch reference itself, against loops."""
    torch.manual_seed(0)
    given, added = torch.randn(2, 3, 140, dtype=dtype), torch.randn(2, 3, 140, dtype=dtype)
    lines = kernel_cases.Lines(torch.rand(2, 140, dtype=dtype) for _ in range(4))
    weights = Weights(*(torch.rand(2, 140, dtype=dtype) for _ in range(3)))
    below, gain, slack = substitute_weighed(given, lines, weights, added=added, zero_lower_bias=bare)
    plain, same = substitute(given, lines, zero_lower_bias=bare)
    assert torch.equal(below, plain + added) and torch.equal(gain, same)
    for b, r in product(range(2), range(3)):
        cost = value = 0.0
        for j in range(140):
            entry, (low, low_bias, high, high_bias) = given[b, r, j].item(), (t[b, j].item() for t in lines)
            value += entry * ((0.0 if bare else low_bias) if entry > 0 else high_bias)
            kept = entry * (low if entry > 0 else high)
            above, under, joint = (t[b, j].item() for t in weights)
            cost += abs(entry) * above + abs(kept) * under + (abs(kept) + abs(added[b, r, j].item())) * joint
        assert gain[b, r].item() == pytest.approx(value, rel=1e-4, abs=1e-4)
        assert slack[b, r].item() == pytest.approx(cost, rel=1e-5)
    assert substitute_weighed(given, lines, Weights(joint=weights.joint))[2].count_nonzero() == 0


def test_rows_by_neuron_are_the_rows():
    torch.manual_seed(1)
    dense = torch.randn(30, 11, dtype=torch.float64) * (torch.rand(30, 11) < 0.2)
    dense[:, 4] = 0
    rows = layer_rows(dense)
    again = torch.zeros_like(dense)
    for p, j in product(range(rows.most), range(11)):
        again[rows.touching[p, j], j] += rows.entry[p, j]
    assert torch.equal(again, dense) and len(rows) == 30
    given, price, weight = torch.randn(2, 3, 11), torch.rand(2, 3, 30), torch.rand(2, 11)
    single = layer_rows(dense.float())
    torch.testing.assert_close(pull(price, single), price @ dense.float())
    result, reach = add_weighed(given, -given, weight)
    assert not result.any()
    torch.testing.assert_close(reach, 2 * (given.abs() * weight[:, None]).sum(-1))
    none = layer_rows(dense.float()[:0])
    assert none.most == 0 and torch.equal(pull(price[..., :0], none), torch.zeros_like(given))


def test_the_measurement_calls_every_kernel_and_refuses_without_a_device():
    """Its counts are of what the kernels do; times need a GPU."""
    script = Path(__file__).resolve().parents[1] / "scripts" / "measure" / "kernels.py"
    spec = spec_from_file_location("measure_kernels", script)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    cases = module.cases(2, 3, 70, torch.float32, "cpu")
    for case in cases:
        found, again = case.fused(), case.plain()
        for mine, theirs in zip(found, again, strict=True) if isinstance(found, tuple) else [(found, again)]:
            shape = (6, 56) if "slide" in case.name else (6, 57) if "hulls" in case.name else (2, 3)
            assert torch.equal(mine, theirs) and mine.shape[:2] == shape
        assert case.entries >= 2 * 3 * 70 and case.operations >= case.entries
    assert len({case.name for case in cases}) == len(cases) == 9
    if not torch.cuda.is_available():
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
        assert done.returncode == 1 and "no CUDA device" in done.stderr and done.stdout == ""
