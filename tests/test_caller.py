"""Nothing of the caller's is touched: everything that a process has once is compared round every public entry.

Each entry is called on a file and on a module, right and wrong, from a caller who has set whatever can be set.
"""

from __future__ import annotations

import copy
import gc
import locale
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from networks import random_graph, random_property
from small_files import SAT, UNSAT, save_network, save_property
from test_held import settings

import partita
from partita.problems.errors import BadInput
from partita.problems.properties.specify import box_property, robustness_property

EXAMPLE = torch.tensor([[0.3, 0.4]])
LOGGERS = ("torch.fx.experimental.symbolic_shapes", "torch.onnx._internal.exporter._registration", "onnxruntime")


class Net(torch.nn.Module):
    """The network of `small_files` with parts of which some train, hooks, a buffer, a frozen weight and a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)
        self.norm, self.drop = torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 1], [1, -1], [0, 0]]))
            self.first.bias.copy_(torch.tensor([0.0, 0, 1]))
            self.second.weight.copy_(torch.tensor([[1.0, -1, 0], [0, 0, 1]]))
            self.second.bias.zero_()
        self.train()
        self.norm.eval()
        self.second.bias.requires_grad_(False)
        self.first.weight.grad = torch.ones(3, 2)
        self.called = 0
        self.first.register_forward_hook(lambda *_: None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.drop(torch.relu(self.norm(self.first(x)))))

    def train(self, mode: bool = True) -> Net:
        """As some modules do: more than the flags."""
        self.called = getattr(self, "called", 0) + 1
        return super().train(mode)


class Drawing(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * random.random() * torch.rand(1) * np.random.rand()


class Counting(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return super().forward(x) * self.seen


def of(module: torch.nn.Module | None) -> dict:
    """All of a module that its owner can see."""
    if module is None:
        return {}
    found = {"flags": [part.training for part in module.modules()], "called": module.called}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        grad = None if tensor.grad is None else tensor.grad.tolist()
        found[name] = (id(tensor), tensor.tolist(), tensor.requires_grad, grad, tensor.is_leaf, tensor.device)
    for name, part in module.named_modules():
        found[f"{name} hooks"] = [dict(getattr(part, kind)) for kind in vars(part) if kind.endswith("_hooks")]
        found[f"{name} names"] = sorted(vars(part))
    return found


def process() -> dict:
    """What there is once in a process, or once in the calling thread."""
    loggers = [logging.getLogger(), *map(logging.getLogger, LOGGERS)]
    return {
        "random": random.getstate(),
        "numpy": str(np.random.get_state()),
        "torch": torch.random.get_rng_state().tolist(),
        "filters": list(warnings.filters),
        "shown by": (warnings.showwarning, warnings._showwarnmsg_impl),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "settings": settings(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.mkldnn.enabled),
        "threads": (torch.get_num_threads(), elsewhere(torch.get_num_threads), torch.get_num_interop_threads()),
        "warn always": torch.is_warn_always_enabled(),
        "printing": copy.copy(vars(torch._tensor_str.PRINT_OPTS)),
        "logging": [(x.level, x.disabled, x.propagate, list(x.handlers), list(x.filters)) for x in loggers],
        "disabled logging": logging.root.manager.disable,
        "environment": dict(os.environ),
        "signals": [signal.getsignal(s) for s in sorted(signal.valid_signals())],
        "alarm": signal.getitimer(signal.ITIMER_PROF),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "path": list(sys.path),
        "folder": os.getcwd(),
        "umask": umask(),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.displayhook, sys.breakpointhook),
        "tracing": (sys.gettrace(), sys.getprofile()),
        "limits": (sys.getrecursionlimit(), sys.get_int_max_str_digits(), sys.getswitchinterval()),
        "collector": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "numpy errors": (np.geterr(), np.geterrcall(), np.get_printoptions()),
        "locale": locale.setlocale(locale.LC_ALL),
        "running": sorted(t.name for t in threading.enumerate() if not t.daemon),
        "matplotlib": {k: dict.__getitem__(matplotlib.rcParams, k) for k in matplotlib.rcParams},  # asks for no backend
    }


def elsewhere(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now


def differences(before: dict, after: dict) -> list[str]:
    return [name for name in before if before[name] != after.get(name)]


LOW, HIGH = np.full(2, -1.0), np.full(2, 1.0)


def above(threshold):
    return box_property(LOW, HIGH, [[-1, 0]], [threshold])


def entries(folder):
    """Each public entry by name: called with a network and its example, and whether it takes a module."""
    unsat, sat = (save_property(folder / f"{name}.vnnlib", text) for name, text in (("u", UNSAT), ("s", SAT)))
    count = iter(range(1000))

    def logged(net, **more):
        log = folder / f"log{next(count)}"
        partita.verify(net, above(2.05), attack="off", log=log, timeout=30, **more)
        partita.read_log(log)
        partita.replay(log, net, above(2.05), **more)

    return {
        "verify unsat": lambda net, **m: partita.verify(net, unsat, timeout=30, **m),
        "verify sat": lambda net, **m: partita.verify(net, sat, timeout=30, **m),
        "verify, program": lambda net, **m: partita.verify(net, unsat, relaxation="triangle", attack="off", **m),
        "verify, exact": lambda net, **m: partita.verify(net, sat, relaxation="exact", attack="off", **m),
        "verify, rows": lambda net, **m: partita.verify(net, above(2.05), split="activation", timeout=30, **m),
        "verify, no time": lambda net, **m: partita.verify(net, above(2.05), timeout=1e-3, **m),
        "verify, no option": lambda net, **m: partita.verify(net, unsat, atack="off", **m),
        "verify, no property": lambda net, **m: partita.verify(net, folder / "none.vnnlib", **m),
        "verify, wrong size": lambda net, **m: partita.verify(net, box_property([0], [1], [[1.0, 0]], [0]), **m),
        "log, read_log, replay": logged,
        "read_log of nothing": lambda net, **m: partita.read_log(folder / "none"),
        "bound": lambda net, **m: partita.bound(net, (LOW, HIGH), "alpha-crown", steps=3, precision="float32", **m),
        "bound, group": lambda net, **m: partita.bound(net, (LOW, HIGH), "k-relu:k=2", **m),
        "bound of nothing": lambda net, **m: partita.bound(net, (HIGH, LOW), **m),
        "bound, no relaxation": lambda net, **m: partita.bound(net, (LOW, HIGH), "crow", **m),
        "count_patterns": lambda net, **m: partita.count_patterns(net, (LOW, HIGH), out=folder / "cells", **m),
        "count_patterns, exact": lambda net, **m: partita.count_patterns(net, (LOW, HIGH), rational=True, **m),
        "count_patterns, wrong size": lambda net, **m: partita.count_patterns(net, (LOW[:1], HIGH[:1]), **m),
        "partition": lambda net, **m: partita.partition(net, (LOW, HIGH), ["triangle"], branching="first", **m),
        "partition, no relaxation": lambda net, **m: partita.partition(net, (LOW, HIGH), ["tri"], **m),
        "robustness_property": lambda net, **m: robustness_property(LOW, 0.1, 0, 2),
        "robustness_property of no label": lambda net, **m: robustness_property(LOW, 0.1, "1", 2),
    }


REFUSED = ("no ", "wrong", "nothing")


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """The entries and a file; everything was imported once, which is not what is looked at here."""
    folder = tmp_path_factory.mktemp("caller")
    network, table = save_network(folder / "net.onnx"), entries(folder)
    for call in table.values():
        try:
            call(network)
            call(Net(), example_input=EXAMPLE)
        except BadInput:
            pass
    return network, table


@pytest.fixture
def opinionated(monkeypatch):
    """A caller who has set what can be set, so that nothing is what it would be by itself."""
    before = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.get_default_dtype()
    torch.set_num_threads(3)
    torch.set_float32_matmul_precision("high")
    torch.use_deterministic_algorithms(True, warn_only=True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    gc.disable()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.filterwarnings("error", message="a message of the caller's")
        yield
    gc.enable()
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(before[0])
    torch.set_float32_matmul_precision(before[1])
    torch.set_default_dtype(before[2])


@pytest.mark.parametrize("given", ["file", "module", "program"])
def test_nothing_of_the_callers_is_touched(calls, opinionated, given):
    network, table = calls
    module = None if given == "file" else Net()
    net, more = (network, {}) if module is None else (module, {"example_input": EXAMPLE})
    if given == "program":
        net = torch.export.export(module.eval(), (EXAMPLE,)).module()
    for name, call in table.items():
        before, owned = process(), of(module)
        try:
            call(net, **more)
            assert not any(word in name for word in REFUSED) or name == "verify, no time", name
        except BadInput:
            assert any(word in name for word in REFUSED), name
        assert differences(before, process()) == [], name
        assert differences(owned, of(module)) == [], name


@pytest.mark.parametrize("kind", [Drawing, Counting])
def test_a_module_that_is_refused_is_as_it_was(calls, opinionated, kind):
    module = kind()
    before, owned = process(), of(module)
    with pytest.raises(BadInput):
        partita.verify(module, above(2.5), example_input=EXAMPLE)
    assert differences(before, process()) == []
    assert differences(owned, of(module)) == []


def test_numbers_that_another_thread_draws_meanwhile_are_not_drawn_again(calls):
    """A thread draws all the time; no number comes twice, as it does where states are saved and put back."""
    stop, drawn = threading.Event(), []

    def draws() -> None:
        while not stop.is_set():
            drawn.append((random.random(), float(torch.rand(1, dtype=torch.float64)), np.random.rand()))
            stop.wait(0.001)

    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(draws)
        for _ in range(3):
            partita.verify(Net(), above(2.5), example_input=EXAMPLE)
        stop.set()
        task.result()
    assert len(drawn) > 20
    assert all(len(set(column)) == len(column) for column in zip(*drawn, strict=True))


def test_four_threads_verify_modules_and_files_at_once_with_the_verdicts_of_one(calls):
    network, _ = calls
    shared, own, jobs = Net().eval(), [Net() for _ in range(4)], []
    for k in range(4):
        threshold = 1.5 if k % 2 else 2.5
        graph = random_graph(k, "mlp", inputs=3, width=6)
        jobs += [
            lambda net=own[k], t=threshold: partita.verify(net, above(t), example_input=EXAMPLE, timeout=60).verdict,
            lambda t=threshold: partita.verify(shared, above(t), example_input=EXAMPLE, timeout=60).verdict,
            lambda t=threshold: partita.verify(network, above(t), timeout=60).verdict,
            lambda g=graph, k=k: partita.verify(g, random_property(k, g), timeout=60).verdict,
        ]
    jobs += [lambda: partita.bound(network, (LOW, HIGH), "triangle").lower.tolist()] * 2
    jobs += [lambda: partita.count_patterns(network, (LOW, HIGH)).low] * 2
    alone = [job() for job in jobs]
    before = process()
    with ThreadPoolExecutor(4) as pool:
        assert [task.result() for task in [pool.submit(job) for job in jobs]] == alone
    assert differences(before, process()) == []
    assert {"sat", "unsat"} <= {answer for answer in alone if isinstance(answer, str)}


FIRST_USE = """
import sys
sys.path.insert(0, {tests!r})
import test_caller as its
import partita
net = its.Net()
before, owned = its.process(), its.of(net)
partita.verify(net, its.above(2.05), example_input=its.EXAMPLE, relaxation="triangle", attack="off")
partita.bound(net, (its.LOW, its.HIGH), "k-relu", example_input=its.EXAMPLE)
print(its.differences(before, its.process()), its.differences(owned, its.of(net)))
"""


def test_the_first_use_in_a_process_leaves_nothing_either():
    """Libraries that are imported for it add filters and variables of their own."""
    path = os.pathsep.join([str(Path(partita.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", FIRST_USE.format(tests=str(Path(__file__).parent))]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[] []", done.stdout + done.stderr


def test_small_models_run_on_one_thread_of_onnxruntime(calls, monkeypatch):
    """The comparison of the import and the judge of witnesses."""
    import onnxruntime

    made, session = [], onnxruntime.InferenceSession

    def listening(model, options, **more):
        made.append((options.intra_op_num_threads, options.inter_op_num_threads))
        return session(model, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", listening)
    network, table = calls
    table["verify sat"](network)
    assert len(made) >= 2 and set(made) == {(1, 1)}
