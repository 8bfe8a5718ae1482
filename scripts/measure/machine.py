"""Where and on what a measurement was made: date, commit, hardware, versions. Nothing heavy is imported."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def commit() -> str:
    """The commit of the code, with `-dirty` where files differ from it."""
    return _output(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def hardware() -> dict:
    """Processor, cores this process may use, memory, GPU, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": cores,
        "memory_gb": round(int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 2**20, 1),
        "gpu": _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "onnxruntime", "highspy")},
    }


def busy() -> float:
    """Other work on the machine: the load average of the last minute, in cores. Zero where the system tells none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _field(path: str, name: str) -> str:
    """The value of the first line `name: value` of a file."""
    try:
        for line in Path(path).read_text(encoding="utf-8").split("\n"):
            if line.startswith(name):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return ""


def _output(command: list[str]) -> str:
    """The first line a command prints; nothing where it fails or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip().split("\n")[0]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
