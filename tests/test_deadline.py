"""The clock that work looks at: when it raises, where it is caught, what is left behind."""

import math
import threading
import time

import pytest
import torch

from partita.kernels import deadline, work
from partita.kernels.deadline import TimeUp, abandonable, check, doing, left, passed, share, staged, until, within
from partita.problems.network.affine import Conv, Dense


def past() -> float:
    return time.monotonic() - 1.0


def test_without_a_limit_nothing_is_late():
    check()
    assert left() == math.inf and not passed() and within(None) is None and within(3.0) == 3.0 and share(0.5) is None


def test_an_inner_limit_may_only_come_sooner():
    with until(past()):
        assert passed() and left() < 0 and within(5.0) == within(None) == deadline.LEAST
        with until(time.monotonic() + 100), pytest.raises(TimeUp):
            check()
        with until(None), pytest.raises(TimeUp):
            check()
    check()
    with until(time.monotonic() + 100):
        with until(past()), pytest.raises(TimeUp):
            check()
        check()
        assert within(1.0) == 1.0 and 99 < within(None) <= 100
        assert 49 < share(0.5) - time.monotonic() <= 50 and share(0.5, most=2.0) - time.monotonic() <= 2
    assert not passed()


def test_the_limit_of_one_thread_is_no_other_ones():
    seen = []
    with until(past()):
        thread = threading.Thread(target=lambda: seen.append(passed()))
        thread.start()
        thread.join()
    assert seen == [False]


def test_a_stage_is_told_to_the_one_who_asked_first():
    doing("nothing that anybody hears")
    with staged() as outer:
        doing("one thing")
        with staged() as inner:
            doing("another")
        assert inner is outer and outer.text == "another"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_batches_are_worked_on_in_parts_and_come_out_the_same(dtype, monkeypatch):
    random = torch.Generator().manual_seed(3)
    conv = Conv(torch.randn(4, 3, 3, 3, generator=random, dtype=dtype), (3, 7, 6), (2, 1), ((1, 0), (1, 1)), (1, 1))
    dense = Dense(torch.randn(5, 9, generator=random, dtype=dtype), repeat=2)
    looks: list[int] = []
    for operator in (conv, dense):
        x = torch.randn(2, 7, operator.n_in, generator=random, dtype=dtype)
        y = torch.randn(2, 7, operator.n_out, generator=random, dtype=dtype)
        before = operator.apply(x), operator.adjoint(y)
        looks.clear()
        with monkeypatch.context() as patch:
            patch.setattr(work, "MOST", 500.0)
            patch.setattr("partita.problems.network.affine.MOST", 500.0)
            patch.setattr(work, "check", lambda: looks.append(1))
            after = operator.apply(x), operator.adjoint(y)
        assert len(looks) >= 2 * 3
        for one, two in zip(before, after, strict=True):
            torch.testing.assert_close(one, two)


def test_late_work_raises_between_two_parts(monkeypatch):
    monkeypatch.setattr(work, "MOST", 100.0)
    with until(past()), pytest.raises(TimeUp):
        work.in_parts(lambda part: part, torch.zeros(10, 2), 50.0)
    assert work.parts(10, 50.0) == 2 and work.parts(10, 1e9) == 1 and work.parts(10, 1.0) == 10


def test_what_cannot_be_stopped_is_left_behind():
    stopped, ended = threading.Event(), threading.Event()

    def long():
        stopped.wait(20)
        ended.set()

    start = time.monotonic()
    with until(start + 0.05), pytest.raises(TimeUp):
        abandonable(long, stopped.set)
    assert ended.wait(20) and time.monotonic() - start < 15
    with until(time.monotonic() + 1000):
        assert abandonable(lambda: 7) == 7
        with pytest.raises(KeyError):
            abandonable(lambda: {}["x"])
    with until(past()), pytest.raises(TimeUp):
        abandonable(lambda: pytest.fail("late work is not begun"))


def test_calls_that_follow_each_other_look_at_the_clock_too(monkeypatch):
    monkeypatch.setattr(work, "MOST", 1600.0)
    same = lambda part: part  # noqa: E731
    with until(past()):
        assert len(work.in_parts(same, torch.zeros(1, 2), 99.0)) == 1  # not worth a look
        with pytest.raises(TimeUp):
            work.in_parts(same, torch.zeros(1, 2), 101.0)
