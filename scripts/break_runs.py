"""Runs of `partita verify` are broken at random: no wrong verdict, no lost log, no traceback.

    python scripts/break_runs.py [--seed 0] [--faults 300] [--first K] [--out FILE.json] [--kind NAME]

A fault is drawn from the seed and its number: which kind, on which small instance of `examples/` (the verdicts are
known), at what moment. Each run is a process forked from one that has the libraries loaded and has run nothing, which
then is what the command line is. Kinds: `KINDS`. Checked of every run:

- it ends within its limit, with an exit code that is promised, and says one verdict, or none where it is refused or
  killed; a verdict of sat or unsat is the right one; nobody sees a traceback;
- a results file holds what standard output got, or nothing; a summary is whole;
- under a limit on memory a library may die, and the process with it (`died`, counted apart: there is no verdict);
- the log it leaves is taken up, and the run then ends with the right verdict, where nobody has tampered with it (then
  also with `unknown`, or refused in a sentence).

Results are kept as they come; a run that was stopped goes on where it stood. Exit code 1 where something was found.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from measure import machine
from measure.forked import Run, launch, warm

ROOT = Path(__file__).resolve().parents[1]
AT_ONCE = 0.1  # seconds after a fork in which a busy machine may not have come to the arguments
LIMIT = 60  # seconds that a run may take
OPEN = ["unknown", "timeout"]
DIED, DEATHS = "died", (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)  # of a library, for want of memory
INSTANCES = (  # network, property, right verdict, options: half a second each, so that there is something to break
    ("digits_relu", "digits_relu_256_0.14", "unsat", ()),
    ("digits_relu", "digits_relu_1067_0.10", "unsat", ("attack=off",)),
    ("digits_relu", "digits_relu_1340_0.13", "sat", ()),
    ("digits_sigmoid", "digits_sigmoid_256_0.06", "unsat", ()),
    ("digits_conv", "digits_conv_256_0.07", "unsat", ("attack=off",)),
)


# ---- what is checked


def complaints(run: Run, right: str, *, tampered: bool = False, killed: bool = False, codes: tuple = (0,)) -> list[str]:
    """What is wrong with how a run ended; `codes` are those that are promised."""
    found = []
    if run.code == -1:
        found.append("hangs")
    if killed and run.code == -signal.SIGKILL:
        return found
    if run.code not in codes and run.code != -1:
        found.append(f"exit code {run.code}")
    text = run.said.get(2, "")
    if "Traceback" in text or "internal error" in text or "Exception ignored" in text:
        found.append("a traceback: " + text.strip().splitlines()[-1][:300])
    if 1 in run.said:
        verdict = run.verdict
        if verdict in ("sat", "unsat") and verdict != right:
            found.append(f"wrong: {verdict} for {right}")
        if run.code == 2 and (run.said[1] or len(text.splitlines()) > 3):
            found.append(f"refused, but not in one sentence: {text[:200]!r}")
        if run.code in (0, 130, 143) and verdict not in (right, *OPEN):
            found.append(f"said {run.said[1][:80]!r}")
        if not tampered and run.code == 0 and verdict == "unknown" and "memory" not in text:
            found.append(f"unknown without a cause: {text.strip().splitlines()[-1][:200]}")
    return found


def of_files(run: Run, folder: Path) -> list[str]:
    """Results hold what was said, or are absent; a summary is whole; nothing half-written is left."""
    found = []
    results, summary = folder / "results.txt", folder / "summary.json"
    if results.exists() and 1 in run.said and run.code != -signal.SIGKILL and results.read_text() != run.said[1]:
        found.append(f"the results file holds {results.read_text()[:80]!r}")
    if summary.exists():
        try:
            json.loads(summary.read_text())
        except ValueError:
            found.append("half a summary")
    if run.code != -signal.SIGKILL and list(folder.glob(".results.txt.*")) + list(folder.glob(".summary.json.*")):
        found.append("a half-written file is left")
    return found


def taken_up(folder: Path, right: str, *, tampered: bool = False) -> list[str]:
    """The log of a broken run is gone on with."""
    if not (folder / "log" / "header.json").exists():
        return []
    run = launch(["verify", "--resume", str(folder / "log"), "--timeout", str(LIMIT)]).ended()
    found = complaints(run, right, tampered=tampered, codes=(0, 2) if tampered else (0,))
    return [f"taken up: {one}" for one in found]


# ---- kinds of faults


@dataclass(frozen=True)
class Drawn:
    """One fault: its chance, its folder, its instance."""

    random: random.Random
    folder: Path
    network: str
    prop: str
    right: str
    options: tuple[str, ...]
    span: float  # seconds that such a run takes, about

    def arguments(self, *more: str, log: bool = True) -> list[str]:
        files = [str(ROOT / "examples" / f"{self.network}.onnx"), str(ROOT / "examples" / f"{self.prop}.vnnlib")]
        writes = ["--results", str(self.folder / "results.txt"), "--summary", str(self.folder / "summary.json")]
        writes += ["--log", str(self.folder / "log")] if log else []
        return ["verify", *files, "--timeout", str(LIMIT), *writes, *self.options, *more]

    def moment(self) -> float:
        return self.random.uniform(0, 1.1 * self.span)


def struck(number: int, drawn: Drawn) -> list[str]:
    """A signal at some moment."""
    run, moment = launch(drawn.arguments()), drawn.moment()
    time.sleep(moment)
    os.kill(run.pid, number)
    if number != signal.SIGKILL and drawn.random.random() < 0.2:
        time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.pid, number)
    run.ended()
    early = 128 + number
    codes = (0,) if number == signal.SIGKILL else (0, early)
    killed = number == signal.SIGKILL
    if not killed and moment < AT_ONCE and run.code in (early, -number) and not run.said[1]:
        return of_files(run, drawn.folder)  # before the arguments were read
    found = complaints(run, drawn.right, killed=killed, codes=codes, tampered=run.code == early)
    return found + of_files(run, drawn.folder) + taken_up(drawn.folder, drawn.right)


def no_room(drawn: Drawn) -> list[str]:
    """A disk that is too small, where one can be mounted; else files that may not grow."""
    small = drawn.folder / "small"
    small.mkdir()
    size = drawn.random.choice((4, 8, 12, 16, 24, 32, 64))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k,nr_inodes=64", "none", str(small)]
    mounted = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True).returncode == 0
    there = Drawn(drawn.random, small, drawn.network, drawn.prop, drawn.right, drawn.options, drawn.span)

    def bounded() -> None:
        if not mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size << 9, size << 9))

    try:
        if mounted and drawn.random.random() < 0.5:
            (small / "filler").write_bytes(b"x" * drawn.random.randrange(size << 10))
        run = launch(there.arguments(log=drawn.random.random() < 0.8), bounded).ended()
        found = complaints(run, drawn.right, codes=(0, 2, 74), tampered=run.code == 74)
        return found + of_files(run, small)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(small)], check=False)


def full_device(drawn: Drawn) -> list[str]:
    """/dev/full, as standard output or error, as results, as summary."""
    place = drawn.random.choice(("stdout", "stderr", "results", "summary"))

    def full() -> None:
        if place in ("stdout", "stderr"):
            os.dup2(os.open("/dev/full", os.O_WRONLY), 1 if place == "stdout" else 2)

    more = [f"--{place}", "/dev/full"] if place in ("results", "summary") else []
    run = launch(drawn.arguments(*more), full).ended()
    expected = 0 if place == "stderr" else 74
    found = [] if run.code == expected else [f"exit code {run.code} with a full {place}"]
    if place == "stdout":
        del run.said[1]
        if drawn.right not in run.said[2]:
            found.append("the verdict is said nowhere")
        if (drawn.folder / "results.txt").read_text().partition("\n")[0] != drawn.right:
            found.append("the results file has no verdict")
        return found + complaints(run, drawn.right, codes=(expected,))
    return found + complaints(run, drawn.right, codes=(expected,)) + of_files(run, drawn.folder)


def closed(drawn: Drawn) -> list[str]:
    """Streams that are closed, or that nobody reads from some moment on."""
    numbers = [n for n in (0, 1, 2) if drawn.random.random() < 0.6]

    def close() -> None:
        for number in numbers:
            os.close(number)
            if number:
                setattr(sys, ("stdin", "stdout", "stderr")[number], None)

    if drawn.random.random() < 0.5:
        run = launch(drawn.arguments(), close)
        gone = numbers
    else:
        gone = [n for n in numbers if n]
        run = launch(drawn.arguments(), lost=tuple(gone))
    run.ended()
    if (drawn.folder / "results.txt").read_text().partition("\n")[0] != drawn.right:
        return [f"the results file has no verdict; streams {gone}"]
    for number in gone:
        run.said.pop(number, None)
    return complaints(run, drawn.right) + of_files(run, drawn.folder)


def no_memory(drawn: Drawn) -> list[str]:
    """An address space that ends a little above what is taken already."""
    room = int(2 ** drawn.random.uniform(20, 29.5))

    def bounded() -> None:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + room, taken + room))

    run = launch(drawn.arguments(log=drawn.random.random() < 0.5), bounded).ended()
    if run.code in DEATHS:
        return [f"{DIED} with signal {-run.code}, with {room >> 20} MiB", *taken_up(drawn.folder, drawn.right)]
    found = complaints(run, drawn.right) + of_files(run, drawn.folder)
    return [f"{one}, with {room >> 20} MiB" for one in found] + taken_up(drawn.folder, drawn.right)


def gone(drawn: Drawn) -> list[str]:
    """The log's folder or that of the results is removed, or a file stands there, during the run."""
    run = launch(drawn.arguments())
    time.sleep(drawn.moment())
    log = drawn.random.random() < 0.6
    shutil.rmtree(drawn.folder / "log" if log else drawn.folder, ignore_errors=True)
    run.ended()
    early = run.code == 2  # it had not looked yet
    found = complaints(run, drawn.right, codes=(0, 74, 2), tampered=run.code == 74 or early)
    if run.code == 0 and run.verdict != drawn.right:
        found.append(f"said {run.verdict}")
    return found


def tampered(drawn: Drawn) -> list[str]:
    """A log of which something was changed: bytes, lengths, files, numbers of the header or footer."""
    run = launch(drawn.arguments())
    if drawn.random.random() < 0.5:
        time.sleep(drawn.moment())
        os.kill(run.pid, signal.SIGKILL)
    run.ended()
    log = drawn.folder / "log"
    files = sorted(path for path in log.glob("*") if path.stat().st_size) if log.exists() else []
    if files:
        path, how = drawn.random.choice(files), drawn.random.choice(("byte", "cut", "remove", "number", "twice"))
        content = bytearray(path.read_bytes())
        if how == "remove":
            path.unlink()
        elif how == "cut":
            path.write_bytes(content[: drawn.random.randrange(len(content))])
        elif how == "number" and path.suffix == ".json":
            digits = [k for k, byte in enumerate(content) if chr(byte).isdigit()]
            content[drawn.random.choice(digits)] = ord(drawn.random.choice("0123456789"))
            path.write_bytes(content)
        elif how == "twice":
            path.with_name("pieces-00001.parquet").write_bytes(content)
        else:
            for _ in range(drawn.random.randrange(1, 4)):
                content[drawn.random.randrange(len(content))] ^= 1 << drawn.random.randrange(8)
            path.write_bytes(content)
    check = launch(["check", str(log)]).ended()
    said = check.said[2]
    found = [] if check.code in (0, 1, 2) else [f"check ends with {check.code}: {said[:200]}"]
    if "Traceback" in said or "internal error" in said:
        found.append(f"check: {said.strip().splitlines()[-1][:300]}")
    return found + taken_up(drawn.folder, drawn.right, tampered=True)


def two(drawn: Drawn) -> list[str]:
    """Two runs on one log folder: one of them is refused, whenever they start."""
    first = launch(drawn.arguments())
    time.sleep(drawn.random.choice((0.0, 0.001, drawn.moment())))
    second = launch(drawn.arguments())
    runs = [first.ended(), second.ended()]
    found = [one for run in runs for one in complaints(run, drawn.right, codes=(0, 2))]
    if sorted(run.code for run in runs) != [0, 2]:
        found.append(f"exit codes {[run.code for run in runs]}")
    return found + taken_up(drawn.folder, drawn.right)


KINDS: dict[str, Callable[[Drawn], list[str]]] = {
    "kill -9": partial(struck, signal.SIGKILL),
    "SIGTERM": partial(struck, signal.SIGTERM),
    "SIGINT": partial(struck, signal.SIGINT),
    "no room": no_room,
    "full device": full_device,
    "closed streams": closed,
    "memory": no_memory,
    "folder gone": gone,
    "tampered log": tampered,
    "two runs": two,
}


def _cpu() -> float:
    """Processor seconds of the runs so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def one(seed: int, number: int, spans: dict[str, float], kind: str | None = None) -> dict:
    """Fault `number`; kinds take turns. `spans`: seconds by property, filled here."""
    chance = random.Random(f"{seed} {number}")
    kind = kind or list(KINDS)[number % len(KINDS)]
    network, prop, right, options = chance.choice(INSTANCES)
    begun, used = time.monotonic(), _cpu()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if prop not in spans:
            inner = Path(folder) / "whole"
            inner.mkdir()
            whole = launch(Drawn(chance, inner, network, prop, right, options, 0.0).arguments()).ended()
            spans[prop] = time.monotonic() - whole.begun
            if whole.verdict != right:
                raise RuntimeError(f"{prop} is not {right} even unbroken: {whole.said}")
        drawn = Drawn(chance, Path(folder), network, prop, right, options, spans[prop])
        try:
            found = KINDS[kind](drawn)
        except OSError as error:
            found = [f"the run left no {error.filename}: {error.strerror}"]
    died = [one for one in found if one.startswith(DIED)]
    return {
        "number": number,
        "kind": kind,
        "property": prop,
        "died": died,
        "seconds": round(time.monotonic() - begun, 2),
        "cpu": round(_cpu() - used, 2),
        "found": [one for one in found if one not in died],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kind", choices=list(KINDS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warm()
    report = {"seed": options.seed, "rows": []}
    if options.out is not None and options.out.exists():
        kept = json.loads(options.out.read_text())
        if kept["seed"] == options.seed:
            report["rows"] = kept["rows"]
    known = {row["number"] for row in report["rows"]}
    spans: dict[str, float] = {}
    for number in range(options.first, options.faults):
        if number in known:
            continue
        row = one(options.seed, number, spans, options.kind)
        report["rows"].append(row)
        if row["found"] + row["died"]:
            said = "; ".join(row["found"] + row["died"])
            print(f"{number} {row['kind']} {row['property']}: {said}", flush=True)
        if options.out is not None:
            report |= {"commit": machine.commit(), "hardware": machine.hardware(), "at": machine.now()}
            beside = options.out.with_suffix(".tmp")
            beside.write_text(json.dumps(report, indent=1) + "\n")
            os.replace(beside, options.out)
    broken = Counter(row["kind"] for row in report["rows"])
    faults = Counter(row["kind"] for row in report["rows"] if row["found"])
    died = Counter(row["kind"] for row in report["rows"] if row["died"])
    for kind, count in broken.items():
        print(f"{kind:16} {count:4} faults, {faults[kind]:3} complaints, {died[kind]:3} died in a library")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
