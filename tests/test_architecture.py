"""Imports point down: kernels <- problems <- relaxations <- bab <- scripts; never in a circle, of files or of folders.

Deferred imports and those for types alone count as well. How a file looks is in `test_style.py`.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("kernels", "problems", "relaxations", "bab", "scripts")
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


def imports(path: Path) -> set[Path]:
    """The project's files that a file imports, wherever in it."""
    here = path.relative_to(ROOT).with_suffix("").parts
    package = here[:-1]
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            stem = tuple((node.module or "").split(".")) if node.module else ()
            if node.level:
                stem = package[: len(package) - node.level + 1] + stem
            elif stem[:1] == ("partita",):
                stem = stem[1:]
            else:
                continue
            found |= {f for name in node.names if (f := _file((*stem, name.name)) or _file(stem))}
        elif isinstance(node, ast.Import):
            dotted = [tuple(name.name.split(".")) for name in node.names]
            found |= {f for name in dotted if name[0] == "partita" and (f := _file(name[1:]) or ROOT / "__init__.py")}
    return found - {path}


def _file(parts: tuple[str, ...]) -> Path | None:
    for candidate in (
        ROOT.joinpath(*parts).with_suffix(".py") if parts else None,
        ROOT.joinpath(*parts, "__init__.py"),
    ):
        if candidate is not None and candidate.is_file():
            return candidate
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    for target in imports(path):
        parts = target.relative_to(ROOT).parts
        if parts == ("__init__.py",):
            assert FLOORS[floor] == "scripts", f"{path.name} imports the public face, which is above it"
        else:
            assert FLOORS.index(parts[0]) <= floor, f"{path.relative_to(ROOT)} imports {'/'.join(parts)}"


def test_there_are_no_cycles():
    graph = {path: imports(path) for path in FILES}
    state: dict[Path, int] = {}

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        if state.get(path) == 1:
            names = " -> ".join(str(p.relative_to(ROOT)) for p in (*trail[trail.index(path) :], path))
            pytest.fail(f"import cycle: {names}")
        if path in state or path not in graph:
            return
        state[path] = 1
        for target in sorted(graph[path]):
            visit(target, (*trail, path))
        state[path] = 2

    for path in FILES:
        visit(path, ())


def test_no_folder_stands_above_and_below_another():
    """On every level the files and folders of a folder import each other in one direction."""
    above: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for path in FILES:
        for target in imports(path):
            own, other = (p.relative_to(ROOT).with_suffix("").parts for p in (path, target))
            shared = next((i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b), None)
            if shared is not None:
                above.setdefault(own[: shared + 1], set()).add(other[: shared + 1])
    for start in above:
        seen, todo = set(), set(above[start])
        while todo:
            place = todo.pop()
            seen.add(place)
            todo |= above.get(place, set()) - seen
        assert start not in seen, (
            f"{'/'.join(start)} imports itself by way of {sorted('/'.join(s) for s in above[start])}"
        )


def test_the_reader_of_imports_sees_what_it_should():
    """The two tests above would pass on a reader that sees nothing."""
    seen = imports(ROOT / "bab" / "api.py")
    assert {ROOT / "problems" / "load.py", ROOT / "bab" / "config.py", ROOT / "bab" / "verify.py"} <= seen
    assert ROOT / "kernels" / "rounding.py" in imports(ROOT / "relaxations" / "linear" / "backward.py") | imports(
        ROOT / "relaxations" / "linear" / "rounding.py"
    )
