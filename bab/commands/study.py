"""`partita study`: the theory as experiments, of which each is a file in the checkout's `scripts/studies/`.

The installed package holds no scripts, so that they are found beside it and loaded by path: a file of that folder
with a function `study` is a study. Nothing is imported before its name is known to be right.
"""

from __future__ import annotations

import ast
import difflib
import json
import sys
import time
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...problems.errors import BadInput
from ..ending.results import write_atomically
from .arguments import Parser, say

if TYPE_CHECKING:
    from argparse import Namespace
    from types import ModuleType

# Beside the package where that is a checkout, else in the checkout that is the working directory.
PLACES = [root / "scripts" / "studies" for root in (Path(__file__).resolve().parents[2], Path.cwd())]
FOLDER = next((place for place in PLACES if place.is_dir()), PLACES[1])
PACKAGE = "partita_studies"  # what the folder is called once it is loaded


def run(argv: list[str]) -> int:
    parser = Parser("study", "Runs studies of the theory: prints their tables, or writes them with pictures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="one or several, or 'all'; without, they are listed")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for tables and pictures; with 'all', for theory.md")
    parser.add_argument(
        "--resume", action="store_true", help="with 'all' and --out: keep studies that are there already"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a study instead of text")
    options = parser.parse_args(argv)
    known = names(FOLDER)
    if not options.names and argv:
        raise BadInput(f"{argv[0]} has no effect here: it acts with the name of a study, or 'all'")
    if not options.names:
        print("\n".join(known))
        return 0
    everything = options.names == ["all"]
    chosen = known if everything else [_checked(name, known) for name in options.names]
    if options.seed < 0:
        raise BadInput(f"--seed is a whole number of at least 0, not {options.seed}")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise BadInput(f"--out names the folder to write to, and {options.out} is a file")
    if options.resume and not (everything and options.out is not None):
        raise BadInput("--resume goes with 'partita study all --out DIR'")
    package = _package(FOLDER)
    return _all(package, known, options) if everything else _some(package, chosen, options)


def _some(package: ModuleType, chosen: list[str], options: Namespace) -> int:
    document = import_module(f"{package.__name__}.document")
    for name in chosen:
        found = one(package, name, options.seed)
        if options.out is not None:
            document.save(found, options.out)
        _show(found, options.json)
    return 0


def _all(package: ModuleType, known: list[str], options: Namespace) -> int:
    """Every study; one that fails is named at the end, and the others are kept."""
    document = import_module(f"{package.__name__}.document")
    finished: list[Any] = []
    failed: list[str] = []
    for name in document.ordered(known):
        found = document.kept(name, options.out / "theory") if options.resume else None
        try:
            found = found or one(package, name, options.seed)
        except Exception as error:  # whatever it is: the other studies are worth having
            failed.append(f"{name} ({type(error).__name__}: {error})")
            continue
        finished.append(found)
        if options.out is not None:
            if any(found.figures.values()) or not found.figures:
                document.data(found, options.out / "theory")
            command = f"partita study all --out {options.out}" + (f" --seed {options.seed}" if options.seed else "")
            write_atomically(options.out / "theory.md", document.document(finished, command))
        _show(found, options.json)
    if failed:
        say(f"{len(failed)} of {len(known)} studies ended with an error: {'; '.join(failed)}")
    return 1 if failed else 0


def _show(study: Any, as_json: bool) -> None:
    print(json.dumps(study.data(), allow_nan=False) if as_json else study.plain() + "\n")
    sys.stdout.flush()


def names(folder: Path) -> list[str]:
    """The studies of a folder: its files that define a function `study`."""
    if not folder.is_dir():
        raise BadInput("the studies are scripts of Partita's repository; run this command in a checkout of it")
    return [path.stem for path in sorted(folder.glob("*.py")) if _defines(path, "study")]


def one(package: ModuleType, name: str, seed: int) -> Any:
    """Runs one study; its `seconds` are wall time."""
    from dataclasses import replace

    say(f"study {name} ...")
    start = time.perf_counter()
    found = import_module(f"{package.__name__}.{name}").study(seed)
    tables = [replace(t, command=f"{t.command} --seed {seed}") if seed and t.command else t for t in found.tables]
    seconds = time.perf_counter() - start
    say(f"study {name}: {seconds:.1f} s")
    return replace(found, tables=tables, seconds=seconds)


def _defines(path: Path, function: str) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in body)


def _checked(name: str, known: list[str]) -> str:
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"the nearest names are {', '.join(near)}" if near else "no name comes near"
    raise BadInput(f"there is no study '{name}': {hint}; all of them are {', '.join(known)}, or 'all'")


def _package(folder: Path) -> ModuleType:
    """The folder as a package of its own name, so that the studies' relative imports work."""
    if PACKAGE in sys.modules:
        return sys.modules[PACKAGE]
    spec = spec_from_file_location(PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None
    package = module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
    return package
