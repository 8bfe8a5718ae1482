"""README's commands and code do what it says, and its tables speak of what is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from partita.bab.config import presets
from partita.bab.search.report import COLUMNS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import write_tables

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_two_commands_install_verify_and_test():
    first, second = blocks("bash")
    assert first.splitlines()[0] == 'pip install -c constraints.txt ".[all]"'
    assert second.splitlines()[0] == 'pip install -c constraints.txt ".[all,test]"'
    assert "pytest" in second.splitlines()[1]
    verify = first.splitlines()[1].split()
    assert verify[0] == "partita"
    command = [sys.executable, "-m", "partita", *verify[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "unsat\n"), done.stderr
    counterexample = [word.replace("0.14", "0.15") for word in command]
    done = subprocess.run(counterexample, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.stdout.startswith("sat\n((X_0 "), done.stderr


def test_the_python_code_runs_and_is_twelve_lines(monkeypatch, capsys):
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) == 12
    monkeypatch.chdir(ROOT)
    scope: dict = {}
    exec(compile(code, "README.md", "exec"), scope)
    said = capsys.readouterr().out
    assert said.startswith("sat ") and said.rstrip().endswith(("sat", "unsat"))
    assert (scope["report"].lower <= scope["y"] + 1e-4).all() and (scope["y"] <= scope["report"].upper + 1e-4).all()


def test_the_report_lines_have_todays_columns():
    header = next(line for line in TEXT.splitlines() if line.startswith("c    seconds"))
    assert header.split()[1:] == [name for name, _, _ in COLUMNS]


def test_every_preset_is_named_and_every_file_exists():
    for name in {"default", "competition", "exact"} & set(presets()):
        assert name in TEXT
    named = set(re.findall(r"`((?:bab|relaxations|kernels|problems|scripts|configs|examples|\.ci)/[\w./-]*)`", TEXT))
    assert len(named) > 12
    assert not [path for path in named if not (ROOT / path).exists()]


def test_tables_are_those_of_the_code():
    """`python scripts/write_tables.py` writes them."""
    for path in write_tables.documents():
        text = path.read_text(encoding="utf-8")
        assert write_tables.rewritten(text) == text, path.name
    assert write_tables.MARKS.search(TEXT)


def test_constraints_name_everything_that_setup_asks_for():
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in pinned}
    asked = re.findall(r'"([\w.-]+)>=[\d.]+"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert "torch" in asked and len(asked) > 10
    assert not {re.sub(r"[-_.]+", "-", name).lower() for name in asked} - pinned


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_continuous_integration_reads_its_commands_here():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    function = next(line for line in script.splitlines() if line.startswith("block()"))
    for number, wanted in enumerate(blocks("bash"), 1):
        done = subprocess.run(["bash", "-c", f"{function}\nblock {number}"], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout == wanted
    assert subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT).returncode == 0
