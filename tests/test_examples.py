"""The examples: every row of instances.csv can be read, and the attack agrees with the expected verdict."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from partita.bab.attack.descent import Attack
from partita.bab.attack.witness import Judge
from partita.problems.load import load_network
from partita.problems.onnx.file import load_onnx
from partita.problems.properties.vnnlib import load_property

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ROWS = list(csv.DictReader((EXAMPLES / "instances.csv").open(encoding="utf-8")))


@pytest.mark.parametrize("row", ROWS, ids=[row["vnnlib"] for row in ROWS])
def test_expected_verdict(row):
    graph = load_onnx(EXAMPLES / row["onnx"])
    prop = load_property(EXAMPLES / row["vnnlib"], graph.input_size, graph.output_size)
    judge = Judge(graph, prop, load_network(EXAMPLES / row["onnx"])[1])
    witness = Attack(graph.to(torch.float32), judge).search(restarts=30, steps=40)
    assert (witness is not None) == (row["expected"] == "sat")
    assert witness is None or prop.violated_by(witness.x, witness.y)


def test_small_and_varied():
    assert sum(path.stat().st_size for path in EXAMPLES.iterdir()) < 1_000_000
    assert {row["expected"] for row in ROWS} == {"sat", "unsat"}
    assert {row["onnx"] for row in ROWS} == {f"digits_{kind}.onnx" for kind in ("relu", "conv", "sigmoid")}
    prop = load_property(EXAMPLES / "digits_relu_256_brightness.vnnlib", 64, 10)
    assert len(prop.cases[0].inputs.normals) == 2
    assert load_property(EXAMPLES / "digits_relu_256_version2.vnnlib", 64, 10).declaration
