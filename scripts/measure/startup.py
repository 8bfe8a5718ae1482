"""Start-up: an easy instance from process start to verdict, beside `python -c "import torch"`.

The two are run in turn, because machines drift; what counts is the median of the pairs' ratios.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

from .process import timed, verify

PAIRS = 9


def measure(network: Path, prop: Path, pairs: int = PAIRS) -> dict:
    """Medians in seconds, and the median ratio. One pair more warms the file cache."""
    ours, theirs = [], []
    for pair in range(pairs + 1):
        code, torch_wall, _, tail = timed([sys.executable, "-c", "import torch"])
        if code:
            raise SystemExit(f"bench: `import torch` failed: {tail}")
        run = verify(network, prop, 60.0)
        if run.verdict not in ("sat", "unsat"):
            raise SystemExit(f"bench: the easy instance was not solved ({run.verdict}: {run.reason}); name another")
        if pair:
            theirs.append(torch_wall)
            ours.append(run.wall)
    return {
        "network": network.name,
        "property": prop.name,
        "verdict": run.verdict,
        "pairs": pairs,
        "partita_s": round(median(ours), 3),
        "import_torch_s": round(median(theirs), 3),
        "ratio": round(median(a / b for a, b in zip(ours, theirs, strict=True)), 3),
    }
