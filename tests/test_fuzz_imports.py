"""Some seconds of `scripts/fuzz_imports.py`, and that it notices."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from onnx import ModelProto
from onnx_models import floats, model, node, single

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import fuzz_imports

from partita.problems.onnx import importing as onnx_import


def test_random_models_agree_operator_by_operator() -> None:
    counts: Counter[str] = Counter()
    operators: Counter[str] = Counter()
    for seed in range(100_000, 100_500):
        said, made = fuzz_imports.judged_seed(seed)
        assert not said.startswith("FAILED"), f"seed {seed}: {said}"
        counts[said.split(":")[0]] += 1
        if said == "accepted":
            operators.update(n.op_type for n in made.graph.node)
    assert counts["accepted"] > 300
    assert len(operators) > 30 and counts["differs"] < 5


def test_a_seed_gives_the_same_model_again() -> None:
    for seed in range(30):
        assert fuzz_imports.written(seed).SerializeToString() == fuzz_imports.written(seed).SerializeToString()


def test_the_fuzzer_notices_what_the_reader_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Relu that is wrong beyond 5,000, which no point of the reader's own reaches."""
    made: ModelProto = single("Relu", (1, 8))
    assert fuzz_imports.judge(made.SerializeToString(), 0) == "accepted"

    right = onnx_import.OPERATORS["Relu"]

    def beyond(call):
        from partita.problems.network.affine import Identity

        x, same = call.variable(0), Identity(8)
        more = call.builder.relu(call.builder.affine([(same, x)], x.shape, -5000.0, call.name), call.name)
        return call.builder.affine([(same, right(call)), (same, more)], x.shape, name=call.name)

    monkeypatch.setitem(onnx_import.OPERATORS, "Relu", beyond)
    assert fuzz_imports.judge(made.SerializeToString(), 0).startswith("FAILED operators: Relu (node 'node')")


def test_what_is_refused_is_counted_without_names_and_numbers() -> None:
    made = model([node("Mul", "x x", "y")], (1, 3))
    assert fuzz_imports.judge(made.SerializeToString(), 0).startswith("refused: Mul multiplies two variables")
    made = single("Div", (1, 2), floats(1, 0))
    assert fuzz_imports.judge(made.SerializeToString(), 0) == "refused: Div divides by zero (tensor _)"


def test_a_run_is_taken_up_where_it_stopped(tmp_path, monkeypatch, capsys) -> None:
    out = tmp_path / "out.json"
    arguments = ["fuzz_imports.py", "--out", str(out), "--failures", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--models", "6"])
    assert fuzz_imports.main() == 0
    seen = []
    monkeypatch.setattr(fuzz_imports, "judged_seed", lambda seed: (seen.append(seed) or "accepted", None))
    monkeypatch.setattr(sys, "argv", [*arguments, "--models", "9"])
    assert fuzz_imports.main() == 0 and seen == [6, 7, 8]
    counts, done, _ = fuzz_imports.taken_up(out)
    assert done == 9 and sum(counts.values()) == 9
