"""Fixtures shared by the tests: the public benchmark folder where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BENCH = Path(os.environ.get("PARTITA_BENCH", Path(__file__).resolve().parents[2] / "shared" / "bench"))


@pytest.fixture(scope="session")
def bench() -> Path:
    """The folder of public benchmark instances; tests that want it skip where it is absent."""
    if not BENCH.is_dir():
        pytest.skip(
            "the benchmark folder is not here; set PARTITA_BENCH to a folder with families of VNN-COMP instances"
        )
    return BENCH
