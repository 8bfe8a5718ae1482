"""Do the tests notice? Small faults are planted one at a time in code that takes part in a verdict, and tests are run.

    python scripts/plant_faults.py [--file PART] [--number 3,7-9] [--seed 0] [--some N] [--jobs 1] [--seconds 300]
                                   [--results FILE.json] [--again] [--unchecked] [--list] [--lists FOLDER]

The faults are a committed list, `scripts/faults/*.toml`: a file, a text that occurs in it exactly once, what stands
there instead, and the tests that should notice (else `[default]` of the list's file says, else those whose modules
import the file). A fault with a sentence under `equivalent` changes no verdict, bound or count; the sentence says why.

    [[fault]]
    file = "kernels/rounding.py"
    old = "return nu / (1 - nu)"
    new = "return nu"
    tests = ["test_rounding_terms.py"]

Each fault is planted in a copy of the tree; the tests run in a process forked from one that has loaded PyTorch, with
`-x` and a limit for each test. A test that runs into its own limit has noticed; a process that must be killed has not
(`hung`). `noticed` counts when a test failed or could not be collected; before anything is planted, the tests that are
wanted must pass on the code as it is.

Results are kept with what they came from, so a run that was stopped goes on where it stood: a fault that was noticed
stays so while its file and the names of its tests do; one that was not is planted again when the tests have changed.
Exit code 1 where less than 95 % of all faults were noticed, or a survivor has no argument.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LISTS = ROOT / "scripts" / "faults"
SHARE = 0.95
LEFT_OUT = {".git", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis", "build", "dist"}
EACH = 60  # seconds that a test may take
HEAVY = (
    "pytest",
    "hypothesis",
    "scipy.sparse",
    "scipy.optimize",
    "scipy.spatial",
    "highspy",
    "onnx",
    "pyarrow.parquet",
)


@dataclass(frozen=True)
class Fault:
    """One fault; `number` counts through all lists in the order of their names."""

    number: int
    file: str
    old: str
    new: str
    tests: tuple[str, ...]  # as pytest takes them, below tests/
    equivalent: str = ""

    @property
    def title(self) -> str:
        return f"{self.number:3d} {self.file}: {_brief(self.old, self.new)}"


@dataclass
class Result:
    state: str  # noticed, survived, hung
    seconds: float = 0.0
    by: str = ""  # the test that failed first
    tests: str = ""  # what they were


@dataclass
class Line:
    """What became of the faults of one file."""

    states: Counter = field(default_factory=Counter)
    equivalent: int = 0


def faults(folder: Path = LISTS) -> list[Fault]:
    """The committed list. Raises ValueError where an entry has no meaning."""
    found: list[Fault] = []
    for path in sorted(folder.glob("*.toml")):
        read = tomllib.loads(path.read_text(encoding="utf-8"))
        default = read.get("default", {})
        for entry in read["fault"]:
            if unknown := entry.keys() - {"file", "old", "new", "tests", "equivalent"}:
                raise ValueError(f"{path.name}: a fault of {entry['file']} has {', '.join(sorted(unknown))}")
            tests = entry.get("tests") or default.get(entry["file"]) or nearest(entry["file"])
            old, new = (entry[name].strip("\n") for name in ("old", "new"))
            found.append(Fault(len(found), entry["file"], old, new, tuple(tests), entry.get("equivalent", "")))
    return found


def replaced(fault: Fault, text: str) -> str:
    """The file's text with the fault in it. Raises ValueError unless `old` occurs exactly once."""
    if (times := text.count(fault.old)) != 1:
        raise ValueError(f"{fault.title}: the text to replace occurs {times} times")
    return text.replace(fault.old, fault.new)


def planted(fault: Fault, text: str) -> str:
    """`replaced`, which must be Python; SyntaxError otherwise."""
    made = replaced(fault, text)
    ast.parse(made)
    return made


@cache
def _imported(path: Path) -> frozenset[str]:
    """The project's files that a test module imports by name, as `kernels/dot.py`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "partita":
            names |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            names |= {name.name for name in node.names if name.name.startswith("partita.")}
    return frozenset("/".join(name.split(".")[1:]) + ".py" for name in names)


def nearest(file: str) -> list[str]:
    """The test modules that import a file by name."""
    return [path.name for path in sorted((ROOT / "tests").glob("test_*.py")) if file in _imported(path)]


def main() -> int:
    options = parsed()
    chosen = selected(faults(options.lists), options)
    if options.list:
        print("\n".join(f"{fault.title}  [{' '.join(fault.tests)}]" for fault in chosen))
        return 0
    keys, known = {fault.number: _key(fault) for fault in chosen}, kept(options.results)
    results = {} if options.again else {f.number: r for f in chosen if (r := known.get(keys[f.number])) and valid(f, r)}
    todo = [fault for fault in chosen if fault.number not in results]
    for fault in todo:
        planted(fault, (ROOT / fault.file).read_text(encoding="utf-8"))  # before anything is run
    states = {fault.number: _state(fault) for fault in todo}  # of the tests, as they are copied
    print(f"{len(chosen)} faults, {len(results)} known already", file=sys.stderr, flush=True)

    def keep(fault: Fault, result: Result) -> None:
        results[fault.number], result.tests = result, states[fault.number]
        every = kept(options.results) | {keys[fault.number]: result}  # another run may have added some
        options.results.parent.mkdir(parents=True, exist_ok=True)
        beside = options.results.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps({k: vars(r) for k, r in every.items()}), encoding="utf-8")
        beside.replace(options.results)
        print(f"{result.state:8s} {result.seconds:5.1f} s {fault.title}  {result.by}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        run(todo, Path(folder), options, keep)
    print(table(chosen, results))
    return int(not good(chosen, results))


def kept(path: Path) -> dict[str, Result]:
    """The results of earlier runs."""
    if not path.exists():
        return {}
    return {key: Result(**value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--file", default="", help="only faults of files whose path holds this")
    parser.add_argument("--number", default="", help="only these, as 3,7-9")
    parser.add_argument("--seed", type=int, help="in a random order")
    parser.add_argument("--some", type=int, help="so many of them alone")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300.0, help="after which a fault's tests are killed")
    parser.add_argument("--results", type=Path, default=Path(tempfile.gettempdir()) / "partita-faults.json")
    parser.add_argument("--again", action="store_true", help="do not believe results of earlier runs")
    parser.add_argument("--unchecked", action="store_true", help="do not run the tests on the code as it is first")
    parser.add_argument("--lists", type=Path, default=LISTS, help="the folder of lists")
    parser.add_argument("--list", action="store_true", help="say what would be planted")
    return parser.parse_args()


def selected(every: list[Fault], options: argparse.Namespace) -> list[Fault]:
    """The faults that the options ask for, in the order in which they are planted."""
    numbers: set[int] = set()
    for part in filter(None, options.number.split(",")):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    chosen = [f for f in every if options.file in f.file and (not options.number or f.number in numbers)]
    if options.seed is not None:
        random.Random(options.seed).shuffle(chosen)
    return chosen[: options.some]


def run(todo: list[Fault], folder: Path, options: argparse.Namespace, keep) -> None:
    """Plants the faults, `options.jobs` at a time, each job in a copy of its own."""
    _warmed()
    copies = [copied(folder / str(job)) for job in range(min(options.jobs, len(todo)))]
    if todo and not options.unchecked:
        wanted = tuple(sorted({test for fault in todo for test in fault.tests}))
        child = _start(copies[0], wanted)
        said = _ended(child, copies[0], time.monotonic() + 20 * options.seconds)
        if said.state != "survived":
            raise SystemExit(f"the tests do not pass on the code as it is ({said.state}): {said.by}")
    waiting, running = list(reversed(todo)), {}
    while waiting or running:
        while waiting and copies:
            fault, copy = waiting.pop(), copies.pop()
            path = copy / fault.file
            text = path.read_text(encoding="utf-8")
            path.write_text(planted(fault, text), encoding="utf-8")
            _forget(path)
            running[_start(copy, fault.tests)] = fault, copy, text, time.monotonic()
        for child, (fault, copy, text, begun) in list(running.items()):
            result = _ended(child, copy, begun + options.seconds, wait=False)
            if result is not None:
                del running[child]
                (copy / fault.file).write_text(text, encoding="utf-8")
                _forget(copy / fault.file)
                copies.append(copy)
                result.seconds = round(time.monotonic() - begun, 1)
                keep(fault, result)
        time.sleep(0.05)


def _warmed() -> None:
    """Imports what takes long and is not under test, so that the children are forked with it."""
    for name in HEAVY:
        with suppress(ImportError):
            import_module(name)
    import torch

    torch.set_num_threads(1)
    torch.func.vjp(torch.sin, torch.zeros(1))  # loads the rest of functorch


def copied(folder: Path) -> Path:
    """A copy of the tree under the package's name."""
    shutil.copytree(ROOT, folder / "partita", ignore=lambda _, names: LEFT_OUT & set(names))
    return folder / "partita"


def _forget(path: Path) -> None:
    """Compiled code is told apart by time and size, which two faults may share."""
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def _start(copy: Path, tests: tuple[str, ...]) -> int:
    """The process that runs the tests of a copy; it leads a group of its own."""
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setsid()
        code = _tested(copy, tests)
    finally:
        os._exit(code)


def _tested(copy: Path, tests: tuple[str, ...]) -> int:
    """In the child: 0 where all tests pass; what is said goes to a file beside the copy."""
    import pytest

    said = os.open(copy.parent / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(copy)
    shutil.rmtree(copy / ".hypothesis", ignore_errors=True)  # examples that another fault left
    os.environ["PYTHONPATH"] = str(copy.parent)
    os.environ["PARTITA_TEST_SECONDS"] = str(EACH)
    os.environ.setdefault("PARTITA_BENCH", str(ROOT.parent / "shared" / "bench"))
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(copy.parent), *(p for p in sys.path if Path(p or ".").resolve() not in (here, ROOT.parent))]
    import partita

    assert Path(partita.__file__).resolve().parent == copy.resolve()
    order = ["-x", "-q", "--tb=line", "-p", "no:cacheprovider", "-W", "ignore", "--hypothesis-seed=0"]
    return int(pytest.main([*order, *(f"tests/{test}" for test in tests)]))


def _ended(child: int, copy: Path, limit: float, wait: bool = True) -> Result | None:
    """How a child ended; None while it runs. One that runs beyond the limit is killed."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() > limit:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Result("hung")
        if not wait:
            return None
        time.sleep(0.05)
    if code == 0:
        return Result("survived")
    lines = (copy.parent / "said.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    failed = [line.split()[1] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return Result("noticed", by=failed[0].removeprefix("tests/") if failed else f"exit code {code}")


def valid(fault: Fault, result: Result) -> bool:
    """Whether a result still holds: what was noticed is noticed by more tests as well, what was not may be now."""
    return result.state == "noticed" or result.tests == _state(fault)


def _key(fault: Fault) -> str:
    """A fault in today's code, under the tests that are named for it."""
    texts = [fault.old, fault.new, (ROOT / fault.file).read_text(encoding="utf-8"), *fault.tests]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


def _state(fault: Fault) -> str:
    """What the tests of a fault are today."""
    names = sorted({test.split("::")[0] for test in fault.tests})
    texts = [(ROOT / "tests" / name).read_text(encoding="utf-8") for name in names]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


def good(chosen: list[Fault], results: dict[int, Result]) -> bool:
    """Whether enough faults were noticed and every other is argued."""
    left = [f for f in chosen if results[f.number].state != "noticed"]
    return len(left) <= (1 - SHARE) * len(chosen) and all(f.equivalent for f in left)


def table(chosen: list[Fault], results: dict[int, Result]) -> str:
    """One line a file, and what survived."""
    lines: dict[str, Line] = {}
    for f in chosen:
        line = lines.setdefault(f.file, Line())
        state = results[f.number].state
        line.states["equivalent" if f.equivalent and state != "noticed" else state] += 1
    names = ("noticed", "survived", "hung", "equivalent")
    out = ["| file | faults | noticed | survived | hung | argued equivalent |", "| --- | --- | --- | --- | --- | --- |"]
    for file, line in sorted(lines.items()):
        out.append(f"| {file} | {line.states.total()} | " + " | ".join(str(line.states[n]) for n in names) + " |")
    total = sum((line.states for line in lines.values()), Counter())
    out += [f"| all | {total.total()} | " + " | ".join(str(total[n]) for n in names) + " |", ""]
    share = 100 * total["noticed"] / max(total.total(), 1)
    out.append(f"noticed: {total['noticed']} of {total.total()} ({share:.1f} %)")
    for f in chosen:
        state = results[f.number].state
        if state != "noticed":
            out.append(f"{state}: {f.title}" + (f" -- {f.equivalent}" if f.equivalent else ""))
        elif f.equivalent:
            out.append(f"noticed, though called equivalent: {f.title}")
    return "\n".join(out)


def _brief(old: str, new: str) -> str:
    """What changes, without what both sides share at their ends."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    stop = 0
    while stop < min(len(old), len(new)) - start and old[-1 - stop] == new[-1 - stop]:
        stop += 1
    start, stop = max(0, start - 12), max(0, stop - 12)
    parts = (" ".join(text[start : len(text) - stop].split())[:60] for text in (old, new))
    return " -> ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
