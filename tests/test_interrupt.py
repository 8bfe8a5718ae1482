"""A module's code and PyTorch's exporters, ended by the time limit: soon, and with nothing left behind."""

import contextlib
import random
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import partita
from partita.kernels.deadline import TimeUp, until
from partita.kernels.interrupt import interruptible, safe
from partita.problems.properties.specify import box_property
from partita.problems.torch import module as torch_module
from partita.problems.torch import written

X = torch.zeros(1, 4)


def limited(seconds, work):
    with until(time.monotonic() + seconds):
        return work()


def prop(outputs=4):
    return box_property(-np.ones(4), np.ones(4), np.eye(1, outputs), np.array([1e6]))


class Deep(nn.Module):
    """Many layers, of every kind of mode; `seen` is a buffer that its first call fills."""

    def __init__(self, layers=12):
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.5)) for _ in range(layers))
        self.layers[1].eval()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Slow(Deep):
    """Python code that takes for ever; `swallows` is what it makes of exceptions."""

    def __init__(self, swallows=()):
        super().__init__(4)
        self.swallows = swallows

    def forward(self, x):
        if not self.seen.any():
            self.seen.fill_(1.0)
        torch.rand(1)
        try:
            begun = time.monotonic()
            while time.monotonic() - begun < 60:
                x = x + 0.0
        except self.swallows:
            pass
        return super().forward(x)


def of_the_process():
    """What an export must leave as it was."""
    return (
        list(warnings.filters),
        torch.is_grad_enabled(),
        torch._C._len_torch_dispatch_stack(),
        torch._C._len_torch_function_stack(),
        torch.compiler.is_exporting(),
        torch.onnx.is_in_onnx_export(),
        torch._C._get_tracing_state(),
        torch.get_default_device(),
        sys.stderr,
        "__init__" in vars(torch.jit.TracerWarning),
        repr(random.getstate()),
        torch.random.get_rng_state().tolist(),
    )


def flags(module):
    return [part.training for part in module.modules()], module.seen.item(), module.seen._version


def test_exports_are_ended_anywhere_and_leave_nothing():
    torch.manual_seed(0)
    module = Deep()
    whole = torch_module.from_torch(module, X)[1]
    begun = time.monotonic()
    assert torch_module.from_torch(module, X)[1] == whole
    span, ended = time.monotonic() - begun, 0
    before, mine = of_the_process(), flags(module)
    for part in np.random.default_rng(0).uniform(0, 1, 10):
        try:
            assert limited(part * span, lambda: torch_module.from_torch(module, X))[1] == whole
        except TimeUp:
            ended += 1
        assert of_the_process() == before and flags(module) == mine and torch_module.LOCK.acquire(blocking=False)
        torch_module.LOCK.release()
    assert ended > 2 and torch_module.from_torch(module, X)[1] == whole


@pytest.mark.parametrize("swallows", [(), (Exception,), (BaseException,)])
def test_a_module_that_takes_for_ever(swallows):
    """What it answers where it caught our exception is no answer."""
    module = Slow(swallows)
    before, mine = of_the_process(), (flags(module)[0], 0.0)
    begun = time.monotonic()
    found = partita.verify(module, prop(), example_input=X, timeout=0.3)
    assert found.verdict == "timeout" and "while the module was run" in found.reason and time.monotonic() - begun < 30
    assert of_the_process() == before and (flags(module)[0], module.seen.item()) == mine
    with pytest.raises(TimeoutError, match="passed while the module was run: there are no bounds yet"):
        partita.bound(module, (-np.ones(4), np.ones(4)), "ibp", example_input=X, timeout=0.3)


def test_another_thread_exports():
    held, done = threading.Event(), threading.Event()

    def hold():
        with torch_module.LOCK:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert partita.verify(Deep(2), prop(), example_input=X, timeout=0.3).verdict == "timeout"
    finally:
        done.set()
        thread.join()
    assert partita.verify(Deep(2), prop(), example_input=X).verdict == "unsat"


def test_a_writer_is_not_begun_that_would_be_late():
    module = nn.Linear(4, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(written, "WRITING", 1.0)
        with pytest.raises(TimeUp):
            limited(30, lambda: torch_module.from_torch(module, X))
    assert limited(60, lambda: torch_module.from_torch(module, X))[0].output_size == 4


def test_no_exception_comes_late():
    """Work that returns about when its time is up: a value or `TimeUp`, and nothing afterwards."""

    def work(seconds):
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            pass
        return "done"

    found = []
    for k in range(150):
        try:
            found.append(limited(0.002, lambda k=k: interruptible(lambda: work(0.0015 + k * 1e-4))))
        except TimeUp:
            found.append(None)
        begun = time.monotonic()
        while time.monotonic() - begun < 0.001:
            pass
    assert None in found
    assert interruptible(lambda: "without a limit") == "without a limit"
    with pytest.raises(KeyError):
        limited(60, lambda: interruptible(lambda: {}["none"]))


class Pair:
    def __init__(self, found):
        self.found = found
        found.append(("made", here()))

    def __enter__(self):
        self.found.append(("entered", here()))

    def __exit__(self, *_):
        self.found.append(("left", here()))


def here():
    return safe(sys._getframe(1))


@contextlib.contextmanager
def generated(found):
    found.append(("before", here()))
    try:
        yield
    finally:
        found.append(("after", here()))


def test_where_nothing_is_set_up_or_put_back():
    """Each place with whether an exception may be raised there."""

    def work():
        found = [("plain", here())]
        with Pair(found):
            found.append(("within", here()))
        with (
            contextlib.nullcontext(),
            Pair(found),
        ):
            found.append(("within several", here()))
        with generated(found):
            found.append(("within generated", here()))
        try:
            found.append(("tried", here()))
            raise KeyError
        except KeyError:
            found.append(("excepted", here()))
        finally:
            found.append(("at last", here()))
        if found:
            found.append(
                (
                    "a call of several lines",
                    here(),
                )
            )
        return found

    found = limited(60, lambda: interruptible(work))
    may = {"plain", "within", "within several", "within generated", "tried", "a call of several lines"}
    assert {where for where, allowed in found if allowed} == may
    assert {where for where, allowed in found if not allowed} == {
        *("made", "entered", "left", "before", "after", "excepted", "at last")
    }
    assert not safe(sys._getframe()) and not safe(None)


def test_imports_are_not_ended(tmp_path, monkeypatch):
    (tmp_path / "partly_imported.py").write_text(
        "import sys\nfrom partita.kernels.interrupt import safe\nFOUND = safe(sys._getframe())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def work():
        import partly_imported

        return partly_imported.FOUND, safe(sys._getframe())

    assert limited(60, lambda: interruptible(work)) == (False, True)
