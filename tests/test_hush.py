"""What a library says is silenced for the thread that provokes it, whatever other threads do meanwhile."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from partita.kernels.hush import hushed, unlogged, unprinted
from partita.problems.torch.written import _heard, _Looked


def elsewhere(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def raises(kind=UserWarning, text="a word"):
    """Whether the warning is raised, as the filters in force here have it."""
    try:
        warnings.warn(text, kind, stacklevel=1)
    except kind:
        return True
    return False


@pytest.fixture(autouse=True)
def errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_only_the_kind_the_text_and_the_thread_that_is_meant():
    before = list(warnings.filters)
    with hushed(UserWarning, FutureWarning, start="a wo"):
        assert not raises() and not raises(FutureWarning)
        assert raises(DeprecationWarning) and raises(text="word")
        assert elsewhere(raises)
    assert raises() and warnings.filters == before


@pytest.mark.parametrize("way", ["in, out", "in, we out", "before, out within"])
def test_who_saves_the_filters_meanwhile_finds_them_as_they_were(way):
    """A thread of the caller's has a `catch_warnings` of its own that overlaps with ours."""
    before, theirs = list(warnings.filters), warnings.catch_warnings()
    ours = hushed(UserWarning)
    if way == "before, out within":
        theirs.__enter__()
        ours.__enter__()
        theirs.__exit__(None, None, None)
        ours.__exit__(None, None, None)
    else:
        ours.__enter__()
        theirs.__enter__()
        assert not raises()
        for one in (theirs, ours) if way == "in, out" else (ours, theirs):
            one.__exit__(None, None, None)
    assert warnings.filters == before and raises()


def test_loggers_pass_on_what_others_say():
    logger, heard = logging.getLogger("partita.test.hush"), []
    logger.propagate, handler = False, logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger.addHandler(handler)
    level = logger.level
    with unlogged(logging.ERROR, logger.name):
        logger.warning("mine")
        logger.error("an error")
        elsewhere(lambda: logger.warning("theirs"))
    logger.warning("later")
    assert heard == ["an error", "theirs", "later"] and logger.level == level and not logger.filters


def test_standard_error_is_everybody_elses(capsys):
    kept = []
    before = sys.stderr
    with unprinted():
        print("mine", file=sys.stderr)
        elsewhere(lambda: print("theirs", file=sys.stderr))
        kept.append(sys.stderr)
    assert sys.stderr is before
    print("through", file=kept[0])
    assert capsys.readouterr().err == "theirs\nthrough\n"


def test_a_closed_standard_error_is_none_afterwards(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with unprinted():
        print("nothing", file=sys.stderr, flush=True)
    assert sys.stderr is None


@pytest.mark.parametrize("rule", ["ignore", "error", "once"])
def test_the_tracer_is_heard_whatever_is_filtered_and_whoever_interferes(rule):
    def looks(x: torch.Tensor) -> torch.Tensor:
        return -x if x.sum() > 0 else x

    def traced() -> None:
        torch.jit.trace(looks, (torch.ones(2),), check_trace=False)

    made = torch.jit.TracerWarning.__init__
    for _ in range(2):  # Python says a warning once for each line
        with warnings.catch_warnings():
            warnings.simplefilter(rule)
            with pytest.raises(_Looked, match=r"test_hush.py:\d+, `return -x if"), _heard():
                other = warnings.catch_warnings(record=True)
                other.__enter__()
                traced()
                other.__exit__(None, None, None)
    assert torch.jit.TracerWarning.__init__ is made


def test_another_threads_tracer_is_its_own_affair():
    inside, done = threading.Event(), threading.Event()

    def theirs() -> list[str]:
        inside.wait(20)
        torch.jit.TracerWarning("Converting a tensor")
        done.set()

    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(theirs)
        with _heard():
            inside.set()
            assert done.wait(20)
        task.result()
