"""What the tests share: the public benchmark folder where it is at hand, and a limit to the time that a test may take.

A search that forgets a piece, or never closes one, hangs; a hanging test tells nobody. `PARTITA_TEST_SECONDS` is how
long a test may take (300 by default, 0: as long as it likes).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core: threads of their own would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

BENCH = Path(os.environ.get("PARTITA_BENCH") or Path(__file__).resolve().parents[2] / "shared" / "bench")
SECONDS = float(os.environ.get("PARTITA_TEST_SECONDS", 300))


@pytest.fixture(scope="session")
def bench() -> Path:
    """The folder of public benchmark instances; tests that want it skip where it is absent."""
    if not BENCH.is_dir():
        pytest.skip(
            "the benchmark folder is not here; set PARTITA_BENCH to a folder with families of VNN-COMP instances"
        )
    return BENCH


@pytest.fixture(autouse=True)
def device_for_gpu_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests marked `gpu` run on the CUDA device where there is one, else on one that pretends (`pretend`)."""
    if request.node.get_closest_marker("gpu") is None:
        yield
        return
    import torch

    if torch.cuda.is_available():
        yield
        return
    import pretend

    with pretend.cuda():
        yield


@contextmanager
def limited(what: str) -> Iterator[None]:
    """Within it a test that takes too long fails."""

    def fail(number: int, frame: object) -> None:
        pytest.fail(f"{what} takes longer than {SECONDS:g} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """Fixtures have the limit too: many a search is run in one."""
    with limited(item.nodeid):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with limited(item.nodeid):
        return (yield)
