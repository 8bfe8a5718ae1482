"""Partita: a branch-and-bound verifier for neural networks that measures its own partition.

import partita
outcome = partita.verify("network.onnx", "property.vnnlib", timeout=60)
print(outcome.verdict, outcome.witness)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bab.api import verify
    from .bab.comparing.partition import partition
    from .bab.counting.patterns import count_patterns
    from .bab.logs.read import read_log
    from .bab.replay import replay
    from .relaxations.bound import bound

__all__ = ["bound", "count_patterns", "partition", "read_log", "replay", "verify"]
__version__ = "0.1.0"

HOMES = {
    "bound": ".relaxations.bound",
    "count_patterns": ".bab.counting.patterns",
    "partition": ".bab.comparing.partition",
    "read_log": ".bab.logs.read",
    "replay": ".bab.replay",
    "verify": ".bab.api",
}


def __getattr__(name: str) -> Any:
    """Imports on first use, so that `import partita` costs nothing."""
    if name in HOMES:
        return getattr(import_module(HOMES[name], __name__), name)
    raise AttributeError(f"module 'partita' has no attribute '{name}'")
