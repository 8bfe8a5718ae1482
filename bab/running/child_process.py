"""A child that must not outlive its parent, however the parent ends (SIGKILL included).

`partita run` starts each instance as a process of its own. Were it killed, its children would go on computing for
minutes beside the run that takes up where it stopped. On Linux the kernel sends a signal when the parent's thread
ends (prctl PR_SET_PDEATHSIG); the child asks for it itself, so nothing has to run between fork and exec. Elsewhere
the child goes on until its own time limit.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """From now on this process is killed when the process `parent`, which started it, ends."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)
