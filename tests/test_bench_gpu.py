"""`scripts/bench_gpu.py`, dry: what travels, the stages on the device that pretends, and what ends a stage."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import bench_gpu  # noqa: E402


def test_instances_travel(tmp_path, capsys):
    there = tmp_path / "bench"
    for number, name in enumerate(bench_gpu.needed()):
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(bytes(number))
    arguments = ["carry", str(tmp_path / "out"), "--bench", str(there), "--no-wheels"]
    assert bench_gpu.main(arguments) == 0
    assert all((tmp_path / "out" / name).read_bytes() == (there / name).read_bytes() for name in bench_gpu.needed())
    (there / bench_gpu.needed()[0]).unlink()
    assert bench_gpu.main(arguments) == 1 and bench_gpu.needed()[0] in capsys.readouterr().err


def test_wheels_travel_while_they_fit(tmp_path, monkeypatch):
    sizes = {name: 10 * (1 + k) for k, name in enumerate(bench_gpu.WHEELS)}

    def pip(command, **options):
        name, folder = command[-1], Path(command[command.index("-d") + 1])
        (folder / f"{name}.whl").write_bytes(bytes(sizes[name]))
        return SimpleNamespace(returncode=int(name == "vnnlib"))

    monkeypatch.setattr(bench_gpu.subprocess, "run", pip)
    left = bench_gpu.download(tmp_path / "wheels", 100)
    assert bench_gpu.size(tmp_path / "wheels") <= 100 and "vnnlib" in left and "onnxruntime<1.21" in left
    assert {path.stem for path in (tmp_path / "wheels").iterdir()} | set(left) == set(bench_gpu.WHEELS)


def test_what_the_machine_has_is_not_installed(tmp_path, monkeypatch):
    installed = []
    monkeypatch.setattr(bench_gpu.subprocess, "run", lambda command, **options: installed.append(command))
    for name in ("pytest-1.0-py3-none-any.whl", "no_such_thing-1.0-py3-none-any.whl"):
        (tmp_path / "wheels").mkdir(exist_ok=True)
        (tmp_path / "wheels" / name).touch()
    environment = bench_gpu.installed(tmp_path / "wheels", tmp_path / "out")
    ((*_, last),) = installed
    assert last.endswith("no_such_thing-1.0-py3-none-any.whl") and "--no-index" in installed[0]
    assert not any("pytest-1.0" in word for word in installed[0]) and str(tmp_path / "out") in environment["PYTHONPATH"]
    (tmp_path / "wheels" / "no_such_thing-1.0-py3-none-any.whl").unlink()
    bench_gpu.installed(tmp_path / "wheels", tmp_path / "out")
    assert len(installed) == 1


def test_the_checkout_travels_too():
    git = bench_gpu.subprocess.run(["git", "-C", str(ROOT), "status"], capture_output=True)
    if git.returncode:
        pytest.skip("this is no checkout")
    assert 2**20 < bench_gpu.checkout() < bench_gpu.ROOM / 2


def test_kernels_dry(tmp_path):
    out = tmp_path / "out"
    assert bench_gpu.main(["run", str(tmp_path), "--out", str(out), "--pretend", "--only", "kernels"]) == 0
    report = json.loads((out / "kernels.json").read_text(encoding="utf-8"))
    assert report["state"] == "done" and report["pretend"] and len(report["rows"]) >= 8
    assert all(row["off"] <= 1e-3 for row in report["rows"])


def test_a_stage_that_takes_too_long_or_fails(tmp_path, capsys):
    arguments = ["run", str(tmp_path), "--out", str(tmp_path), "--pretend", "--only"]
    assert bench_gpu.main([*arguments, "verdicts", "--seconds", "1.5"]) == 1
    assert json.loads((tmp_path / "verdicts.json").read_text(encoding="utf-8"))["state"] != "done"
    assert bench_gpu.main([*arguments, "nothing"]) == 2 and "no stage 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ("verdicts", "throughput", "profile"))
def test_the_other_stages_dry(stage, bench, tmp_path):
    """Where the benchmark's files are."""
    if not all((bench / name).is_file() for name in bench_gpu.needed()):
        pytest.skip("the instances that travel are not here")
    assert bench_gpu.main(["run", str(bench), "--out", str(tmp_path), "--pretend", "--only", stage]) == 0
    report = json.loads((tmp_path / f"{stage}.json").read_text(encoding="utf-8"))
    assert report["rows"] and report["seconds"] <= bench_gpu.MINUTE
