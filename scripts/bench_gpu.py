"""One command for one real GPU: five stages of at most a minute each, every one a JSON file when it ends.

    python scripts/bench_gpu.py carry FOLDER --bench BENCH [--no-wheels]    where there is a network: fill FOLDER
    python scripts/bench_gpu.py run FOLDER --out DIR [--only STAGE,...] [--device cuda] [--pretend]

The machine with the GPU may be bare: Python 3.12, torch 2.11, triton 3.6, numpy 2.5, no network. `carry` puts what it
lacks into a folder that fits into 64 MiB together with this checkout: wheels, in the order in which they are missed
(what does not fit is named), and a few instances. `run` installs those wheels that the machine lacks into the results'
folder and starts the stages (`measure/gpu.py`), each a
process of its own: `tests`, `kernels`, `verdicts`, `throughput`, `profile`. A stage that outlives its minute is ended,
with what it had written. `--pretend` tries all of it out on the device of `tests/pretend`, where figures mean nothing.
Exit code 1 where a stage failed or a verdict differs from the CPU's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
STAGES = ("tests", "kernels", "verdicts", "throughput", "profile")
MINUTE, ALL = 60.0, 300.0  # seconds
ROOM = 64 * 2**20  # bytes that travel, the checkout's among them
# By need: solver and reader of properties, tests, networks. Of onnxruntime a version half the size of later ones. Tests
# do without the rest: pyarrow, onnxscript, gurobipy.
WHEELS = (
    *("highspy", "vnnlib", "pytest", "iniconfig", "pluggy", "hypothesis", "sortedcontainers", "pyyaml", "packaging"),
    *("protobuf", "ml_dtypes", "onnx", "flatbuffers", "onnxruntime<1.21", "scipy"),
)
FILES = (  # family, network, property
    ("acasxu", "onnx/ACASXU_run2a_1_1_batch_2000.onnx.gz", "vnnlib/prop_3.vnnlib.gz"),
    ("acasxu", "onnx/ACASXU_run2a_1_7_batch_2000.onnx.gz", "vnnlib/prop_4.vnnlib.gz"),
    ("mnist_fc", "onnx/mnist-net_256x4.onnx.gz", "vnnlib/prop_0_0.03.vnnlib.gz"),
    ("mnist_fc", "onnx/mnist-net_256x4.onnx.gz", "vnnlib/prop_1_0.05.vnnlib.gz"),
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    carry = commands.add_parser("carry", help="fill a folder that travels")
    carry.add_argument("folder", type=Path)
    carry.add_argument("--bench", type=Path, required=True, help="a folder of benchmark families")
    carry.add_argument("--no-wheels", action="store_true", help="instances alone")
    run = commands.add_parser("run", help="measure")
    run.add_argument("folder", type=Path, help="what `carry` filled, or a folder of benchmark families")
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--only", default=",".join(STAGES))
    run.add_argument("--device", default="cuda")
    run.add_argument("--seconds", type=float, default=MINUTE, help="of each stage, at most")
    run.add_argument("--pretend", action="store_true", help="on a device that is not there")
    options = parser.parse_args(argv)
    if options.command == "carry":
        return carried(options.folder, options.bench, not options.no_wheels)
    return measured(options)


# ---- what travels


def carried(folder: Path, bench: Path, wheels: bool) -> int:
    """Fills the folder; exit code 1 where instances are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in needed() if not (bench / name).is_file()]
    if missing:
        print(f"bench_gpu: {bench} has no {', '.join(missing)}", file=sys.stderr)
        return 1
    for name in needed():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bench / name, folder / name)
    left = download(folder / "wheels", ROOM - size(folder) - checkout()) if wheels else []
    print(f"{size(folder) / 2**20:.1f} MiB in {folder}" + (f"; left out: {', '.join(left)}" if left else ""))
    return 0


def needed() -> list[str]:
    """The instances' files."""
    return sorted({f"{family}/{name}" for family, *names in FILES for name in names})


def checkout() -> int:
    """Bytes of the files of this checkout that git does not ignore."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    paths = [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    return sum(path.stat().st_size for path in paths if path.is_file())


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def download(folder: Path, room: int) -> list[str]:
    """Wheels for CPython 3.12 on Linux, one after another while they fit; the names of the others."""
    folder.mkdir(exist_ok=True)
    aside, left = folder / "aside", []
    for name in WHEELS:
        aside.mkdir()
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(aside)]
        pip += ["--python-version", "3.12", *(f"--platform=manylinux{n}_x86_64" for n in ("2014", "_2_27", "_2_28"))]
        done = subprocess.run([*pip, name], capture_output=True, text=True)
        if done.returncode or size(aside) > room:
            left.append(name)
        else:
            room -= size(aside)
            for path in aside.iterdir():
                shutil.move(path, folder / path.name)
        shutil.rmtree(aside)
    return left


# ---- the stages


def measured(options: argparse.Namespace) -> int:
    """Runs the stages; exit code 1 where one failed."""
    stages = options.only.split(",")
    if unknown := [stage for stage in stages if stage not in STAGES]:
        print(f"bench_gpu: there is no stage '{unknown[0]}'; there are {', '.join(STAGES)}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    environment = installed(options.folder / "wheels", options.out)
    begun, failed = time.monotonic(), []
    for stage in stages:
        limit = min(options.seconds, ALL - (time.monotonic() - begun))
        state = staged(stage, options, limit, environment) if limit > 1 else "no time left"
        print(f"{stage}: {state}", flush=True)
        if state != "done":
            failed.append(stage)
    return 1 if failed else 0


def installed(wheels: Path, out: Path) -> dict[str, str]:
    """The environment of the stages: the package `partita` on the path, and the wheels, where some were carried."""
    paths = [str(ROOT.parent)]
    if ROOT.name != "partita":  # a checkout under another name
        (out / "path").mkdir(parents=True, exist_ok=True)
        if not (out / "path" / "partita").exists():
            (out / "path" / "partita").symlink_to(ROOT, target_is_directory=True)
        paths = [str(out / "path")]
    if wheels.is_dir():
        target = out / "packages"
        lacking = [path for path in sorted(wheels.glob("*.whl")) if not present(path.name.split("-")[0])]
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(target)]
        if lacking:
            subprocess.run([*pip, *map(str, lacking)], check=True)
        paths.append(str(target))
    return os.environ | {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}


def present(distribution: str) -> bool:
    """Whether the machine has a package, whose own version goes best with what else is there."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def staged(stage: str, options: argparse.Namespace, limit: float, environment: dict[str, str]) -> str:
    """How a stage ended; its JSON says so too, with the machine it ran on."""
    from measure import machine

    file = options.out / f"{stage}.json"
    file.unlink(missing_ok=True)
    command = [sys.executable, str(ROOT / "scripts" / "measure" / "gpu.py"), stage, str(options.folder), str(file)]
    command += [options.device, f"{0.85 * limit:.1f}", *(["--pretend"] if options.pretend else [])]
    begun, said = time.monotonic(), ""
    try:
        done = subprocess.run(command, env=environment, timeout=limit, capture_output=True, text=True)
        state, said = ("done" if done.returncode == 0 else "failed"), (done.stdout + done.stderr)[-2000:]
    except subprocess.TimeoutExpired:
        state = "ended at its limit"
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
    report = {"stage": stage, "state": state, "seconds": round(time.monotonic() - begun, 1), "pretend": options.pretend}
    report |= {"date": machine.now(), "commit": machine.commit(), "hardware": machine.hardware(), "rows": rows}
    if state == "failed":
        report["said"] = said
    file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return state


if __name__ == "__main__":
    sys.exit(main())
