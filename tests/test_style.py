"""What every module keeps to: an essay on top, no print below the command line, no global state, a readable length."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("kernels", "problems", "relaxations", "bab")
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
COMMAND_LINE = {"commands", "running"}  # folders that print
LONGEST_FILE, LONGEST_FUNCTION = 399, 80  # lines
MOST_ARGUMENTS = 6


def test_files_are_found():
    assert len(FILES) > 60 and {path.relative_to(ROOT).parts[0] for path in FILES} == set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    assert text.count("\n") <= LONGEST_FILE
    assert path.name.startswith("__") or ast.get_docstring(tree)
    assert not any(isinstance(node, ast.Global) for node in nodes)
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    speaks = path.parent.name in COMMAND_LINE or path.name == "__main__.py"
    assert speaks or not called & {"print", "input", "breakpoint"}
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


@pytest.mark.parametrize("module", ["kernels.polytope", "problems.onnx.file", "relaxations.bound"])
def test_lower_floors_run_without_those_above(module, tmp_path):
    """What the imports say holds at run time."""
    floor = FLOORS.index(module.split(".")[0])
    code = f"import sys, partita.{module}; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    loaded = {name.split(".")[1] for name in said.stdout.split() if name.startswith("partita.")}
    assert loaded <= set(FLOORS[: floor + 1]) and module.split(".")[0] in loaded


def test_few_functions_take_many_arguments():
    """`self` aside, and Triton's kernels, whose pointers and strides cannot be records."""
    many = []
    for path in FILES:
        if "triton" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = node.args
                names = {a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)} - {"self", "cls"}
                if len(names) + bool(given.vararg) + bool(given.kwarg) > MOST_ARGUMENTS:
                    many.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert len(many) <= 19, many
