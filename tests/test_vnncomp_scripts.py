"""The competition's three scripts, driven in its runner's order and with its conventions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_files import SAT, UNSAT, save_network, save_property

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts" / "vnncomp"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PARTITA_PYTHON": sys.executable}


def call(script, *arguments, folder):
    command = [str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=100)


@pytest.fixture
def instance(tmp_path):
    save_network(tmp_path / "net.onnx")
    save_property(tmp_path / "unsat.vnnlib", UNSAT)
    save_property(tmp_path / "sat.vnnlib", SAT)
    (tmp_path / "out.txt").write_text("no_result_in_file\n")
    return tmp_path


def test_install_prepare_run(instance):
    installed = call("install_tool.sh", "v1", folder=instance)
    assert installed.returncode == 0 and "is installed already" in installed.stdout, installed.stderr
    for verdict in ("unsat", "sat"):
        arguments = ("v1", "test", "net.onnx", f"{verdict}.vnnlib")
        prepared = call("prepare_instance.sh", *arguments, folder=instance)
        assert prepared.returncode == 0, prepared.stderr
        done = call("run_instance.sh", *arguments, "out.txt", "60", folder=instance)
        assert done.returncode == 0, done.stderr
        first, *witness = (instance / "out.txt").read_text().splitlines()
        assert first == verdict
        names = re.findall(r"\(([XY]_\d) \S+\)", " ".join(witness))
        assert names == (["X_0", "X_1", "Y_0", "Y_1"] if verdict == "sat" else [])


def test_a_limit_that_is_too_short_is_a_timeout(instance):
    done = call("run_instance.sh", "v1", "test", "net.onnx", "unsat.vnnlib", "out.txt", "0.3", folder=instance)
    assert done.returncode == 0 and (instance / "out.txt").read_text() == "timeout\n"


def test_what_cannot_be_read_is_skipped(instance):
    save_network(instance / "softplus.onnx", last="Softplus")
    arguments = ("v1", "test", "softplus.onnx", "sat.vnnlib")
    prepared = call("prepare_instance.sh", *arguments, folder=instance)
    assert prepared.returncode != 0 and "Softplus" in prepared.stderr and "Traceback" not in prepared.stderr
    done = call("run_instance.sh", *arguments, "out.txt", "60", folder=instance)
    assert done.returncode == 2 and (instance / "out.txt").read_text() == "no_result_in_file\n"


@pytest.mark.parametrize("script", ["install_tool.sh", "prepare_instance.sh", "run_instance.sh"])
def test_other_protocol_versions_are_refused(script, tmp_path):
    for arguments in (["v2", "test", "a", "b", "c", "1"], []):
        refused = call(script, *arguments, folder=tmp_path)
        assert refused.returncode == 1 and "v1" in refused.stderr
