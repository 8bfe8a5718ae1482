"""Many small instances in one Python process, as a user's loop has them: how long, and what PyTorch's threads cost.

    python scripts/bench_one_process.py FAMILY [--seconds 30] [--out FILE.json]

FAMILY is a folder with `instances.csv` (network, property, and more columns that are not read). All of it is verified
by `partita.verify` in one process, once in an environment that says nothing of threads, once where threads sleep while
they wait (OMP_WAIT_POLICY=passive), once with one thread (OMP_NUM_THREADS=1). The import of PyTorch is not counted.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = {
    "as it is": {},
    "threads that sleep": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0, help="limit for each instance")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(verified(options.family, options.seconds)))
        return
    from measure.machine import commit, hardware, now

    base = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "KMP_", "GOMP_"))}
    base["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT.parent), base.get("PYTHONPATH", "")]))
    command = [sys.executable, __file__, str(options.family), "--seconds", str(options.seconds), "--child"]
    found = {"date": now(), "commit": commit(), "hardware": hardware(), "family": options.family.name}
    for name, more in ENVIRONMENTS.items():
        done = subprocess.run(command, env=base | more, capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout)
        print(f"{name:20s} {json.dumps(found[name])}", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def verified(family: Path, seconds: float) -> dict:
    """Wall and processor seconds, and the verdicts."""
    import torch

    import partita

    rows = list(csv.reader((family / "instances.csv").open(encoding="utf-8")))
    pairs = [(existing(family / row[0]), existing(family / row[1])) for row in rows if row]
    pairs = [(network, prop) for network, prop in pairs if network.is_file() and prop.is_file()]  # no header
    start, used = time.perf_counter(), time.process_time()
    verdicts = Counter(partita.verify(network, prop, timeout=seconds).verdict for network, prop in pairs)
    return {
        "instances": len(pairs),
        "seconds": round(time.perf_counter() - start, 2),
        "processor seconds": round(time.process_time() - used, 2),
        "threads": torch.get_num_threads(),
        **verdicts,
    }


def existing(path: Path) -> Path:
    """The file, or the gzipped one beside it."""
    return path if path.is_file() else path.with_name(f"{path.name}.gz")


if __name__ == "__main__":
    main()
