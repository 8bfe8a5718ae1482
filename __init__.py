"""Partita: a branch-and-bound verifier for neural networks that measures its own partition.

import partita
outcome = partita.verify("network.onnx", "property.vnnlib", timeout=60)
print(outcome.verdict, outcome.witness)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bab.api import verify
    from .bab.partition import partition
    from .bab.partition_read import read_log
    from .bab.patterns import count_patterns
    from .bab.replay import replay
    from .relaxations.api import bound

__all__ = ["bound", "count_patterns", "partition", "read_log", "replay", "verify"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports on first use, so that `import partita` costs nothing."""
    if name == "verify":
        from .bab.api import verify

        return verify
    if name == "partition":
        from .bab.partition import partition

        return partition
    if name == "count_patterns":
        from .bab.patterns import count_patterns

        return count_patterns
    if name == "read_log":
        from .bab.partition_read import read_log

        return read_log
    if name == "replay":
        from .bab.replay import replay

        return replay
    if name == "bound":
        from .relaxations.api import bound

        return bound
    raise AttributeError(f"module 'partita' has no attribute '{name}'")
