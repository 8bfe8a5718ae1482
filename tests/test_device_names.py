"""Where the user says `cpu`, `cuda`, `cuda:1` or gives a `torch.device`, it is taken; anything else is one sentence."""

from __future__ import annotations

import pretend
import pytest
import torch
from networks import graph_to_onnx, random_box, random_graph, random_property

import partita
from partita.bab.commands import main as cli
from partita.bab.config import load_config
from partita.problems.device import device_name
from partita.problems.errors import BadInput

GOOD = {
    "cpu": "cpu",
    "cpu:0": "cpu",
    "cuda": "cuda",
    "cuda:0": "cuda:0",
    "cuda:11": "cuda:11",
    torch.device("cpu"): "cpu",
    torch.device("cuda"): "cuda",
    torch.device("cuda", 1): "cuda:1",
}
BAD = (
    "",
    "gpu",
    "CUDA",
    "cuda:",
    "cuda:-1",
    "cuda:01",
    "cuda:1 ",
    "cuda:x",
    "cpu:1",
    "meta",
    "auto",
    0,
    True,
    None,
    1.5,
)
GRAPH = random_graph(0, "mlp")
PROP = random_property(0, GRAPH, radius=0.1)


@pytest.mark.parametrize("given", GOOD, ids=repr)
def test_names(given, tmp_path):
    assert device_name(given) == GOOD[given]
    assert load_config(None, {"device": given}).device == GOOD[given]
    file = tmp_path / "config.yaml"
    file.write_text(f"device: {given}\n", encoding="utf-8")
    assert load_config(file).device == GOOD[given]


@pytest.mark.parametrize("given", BAD, ids=repr)
def test_what_is_none(given):
    assert device_name(given) is None
    if given == "auto":  # which is no device, but a choice
        return
    with pytest.raises(BadInput, match="device must be cpu or cuda, not"):
        partita.bound(GRAPH, random_box(0, 3), device=given)
    with pytest.raises(BadInput, match=r"'device' .* must be one of auto, cpu, cuda, cuda:N, not"):
        partita.verify(GRAPH, PROP, device=given)


@pytest.mark.parametrize("given", ("cuda", "cuda:1", torch.device("cuda", 1)), ids=str)
def test_the_device_is_used(given, tmp_path):
    with pretend.cuda(count=2):
        outcome = partita.verify(GRAPH, PROP, device=given, precision="float32", attack="off", log=tmp_path / "log")
        assert outcome.stats["strategy"].endswith(f"on {given}")
        assert partita.read_log(tmp_path / "log").header["device"] == str(given)
        again = partita.verify(GRAPH, PROP, device=given, split="activation", precision="float32")
        assert outcome.verdict == again.verdict
        partita.bound(GRAPH, random_box(0, 3), "alpha-crown", device=given, steps=1)


@pytest.mark.parametrize("given", ("cuda:2", torch.device("cuda", 2)), ids=repr)
@pytest.mark.parametrize("count, there", ((1, "cuda:0 alone"), (2, "cuda:0 to cuda:1")))
def test_an_index_that_is_not_there(given, count, there):
    with pretend.cuda(count=count):
        for ask in (partita.verify, partita.bound):
            with pytest.raises(BadInput, match=f"device 'cuda:2' was asked for, but PyTorch finds {there} here; use"):
                ask(GRAPH, PROP, device=given)


def test_the_command_line(tmp_path, capsys):
    (tmp_path / "net.onnx").write_bytes(graph_to_onnx(GRAPH))
    text = "".join(f"(declare-const X_{i} Real)\n(assert (>= X_{i} 0))\n(assert (<= X_{i} 0.1))\n" for i in range(3))
    text += "(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n(assert (>= Y_0 100))\n"
    (tmp_path / "prop.vnnlib").write_text(text, encoding="utf-8")
    files = [str(tmp_path / "net.onnx"), str(tmp_path / "prop.vnnlib")]

    def said(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(list(arguments))
        return (code, *capsys.readouterr())

    assert said("verify", *files, "--device", "cpu:0")[:2] == (0, "unsat\n")
    for command in ("verify", "bound"):
        code, out, err = said(command, *files, "--device", "gpu", "--relaxation", "crown")
        assert code == 2 and not out and err.count("\n") == 1
        assert "'device' on the command line must be one of auto, cpu, cuda, cuda:N, not 'gpu'" in err
    with pretend.cuda(count=2):
        assert said("verify", *files, "--device", "cuda:1", "precision=float32")[:2] == (0, "unsat\n")
        code, out, err = said("bound", *files, "--device", "cuda:1", "--relaxation", "crown")
        assert code == 0 and "Y_0" in out
        code, out, err = said("verify", *files, "device=cuda:7")
        assert code == 2 and not out and "PyTorch finds cuda:0 to cuda:1 here" in err and err.count("\n") == 1
