"""What is PyTorch's or the C library's, once for the process: held while anybody needs it, and the caller's afterwards.

Threads meet at barriers, so that every order of coming and going is the one that is meant.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import random_graph, random_property
from search import Recorded

import partita
from partita.bab.search.observer import Observer
from partita.kernels import arithmetic, memory
from partita.kernels.arithmetic import direct_convolution, full_products
from partita.kernels.held import Disturbed, Held
from partita.kernels.threads import MEDIUM, NARROW, threads_for

PRODUCTS = (("cuda", "matmul"), ("mkldnn", "matmul"), ("mkldnn", "conv"), ("mkldnn", "rnn"))
SHORT = ("tf32", "bf16")
SWITCHES = (*PRODUCTS, ("mkldnn", "all"), ("cuda", "all"), ("generic", "all"), ("cuda", "conv"), ("cuda", "rnn"))
switches = pytest.mark.skipif(arithmetic._switch is None, reason="this PyTorch has the older settings alone")


def word() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # it and the newer switches differ
        return "differs"


def settings() -> dict:
    """What the caller has set, as far as PyTorch tells."""
    found = {} if arithmetic._switch is None else {s: arithmetic._switch(*s) for s in SWITCHES}
    return found | {"word": word(), "nnpack": torch._C._get_nnpack_enabled(), "cudnn": torch._C._get_cudnn_enabled()}


def safe() -> bool:
    now = settings()
    return now["word"] == "highest" and not now["nnpack"] and all(now.get(p) not in SHORT for p in PRODUCTS)


@pytest.fixture(autouse=True)
def as_before():
    yield
    torch.set_float32_matmul_precision("highest")
    for switch in SWITCHES if arithmetic._switch is not None else ():
        if switch[1] not in ("conv", "rnn") or switch[0] != "cuda":
            arithmetic._set_switch(*switch, "none")
    torch._C._set_nnpack_enabled(True)
    torch._C._set_cudnn_enabled(True)
    assert not arithmetic._products.users and not arithmetic.past_cudnn.users and not memory.pages_kept.users


# ---- counting


class Counted:
    """A pretended setting: 0 is the caller's, 1 is what must be; and how often it was put back."""

    def __init__(self) -> None:
        self.value, self.back = 0, 0
        self.held = Held("it", self.take, self.put_back)

    def take(self) -> dict:
        found = {} if self.value == 1 else {"value": self.value}
        self.value = 1
        return found

    def put_back(self, found: dict) -> None:
        self.value = found.get("value", 1)
        self.back += 1


@pytest.mark.parametrize("first", ["first in, first out", "first in, last out"])
def test_the_last_one_puts_back(first):
    setting, steps = Counted(), [threading.Barrier(2, timeout=20) for _ in range(3)]
    seen = {}

    def early():
        with setting.held():
            steps[0].wait()
            if first == "first in, last out":
                steps[1].wait()
                seen["early"] = setting.value
        if first == "first in, first out":
            seen["after early"] = setting.value
            steps[1].wait()
        steps[2].wait()

    def late():
        steps[0].wait()
        with setting.held():
            if first == "first in, first out":
                steps[1].wait()
            seen["late"] = setting.value
        seen["after late"] = setting.value
        if first == "first in, last out":
            steps[1].wait()
        steps[2].wait()

    with ThreadPoolExecutor(2) as pool:
        [task.result() for task in [pool.submit(early), pool.submit(late)]]
    expected = {"after early", "late"} if first == "first in, first out" else {"early", "after late", "late"}
    assert {name for name in seen if name != "after late" or first == "first in, last out"} >= expected
    assert all(seen[name] == 1 for name in expected)
    assert setting.value == 0 and setting.back == 1


@pytest.mark.parametrize("seed", range(5))
def test_in_any_order_of_coming_and_going(seed):
    """Holders come and go in a random order, some within others, some with an error."""
    setting, source = Counted(), random.Random(seed)
    inside = []
    for _ in range(300):
        if inside and source.random() < 0.5:
            held = inside.pop(source.randrange(len(inside)))
            error = source.choice([None, KeyError()])
            with suppress(KeyError):
                held.__exit__(type(error) if error else None, error, None)
        else:
            if not inside:
                setting.value = source.choice([0, 1, 7])
                caller = setting.value
            inside.append(setting.held())
            inside[-1].__enter__()
        assert setting.value == (1 if inside else caller)


def test_a_change_meanwhile_is_found_and_kept():
    setting = Counted()
    with pytest.raises(Disturbed, match="changed it while"), setting.held():
        setting.value = 5
    assert setting.value == 5
    with pytest.raises(Disturbed), setting.held(), setting.held():
        setting.value = 6
    assert setting.value == 6 and setting.held.users == 0


def test_whoever_was_there_learns_of_a_change_and_nobody_else():
    setting = Counted()
    setting.held().__enter__()
    first, second = setting.held(), setting.held()
    first.__enter__()
    setting.value = 9
    second.__enter__()  # finds it, and sets what must be
    assert setting.value == 1
    second.__exit__(None, None, None)
    with pytest.raises(Disturbed):
        first.__exit__(None, None, None)


def test_an_error_is_not_hidden_by_a_change():
    setting = Counted()
    with pytest.raises(KeyError), setting.held():
        setting.value = 3
        raise KeyError
    assert setting.value == 3


# ---- float32 products


def positions():
    yield "nothing", lambda: None
    for said in ("high", "medium"):
        yield said, lambda said=said: torch.set_float32_matmul_precision(said)
    if arithmetic._switch is None:
        return
    for switch in (*PRODUCTS, ("mkldnn", "all"), ("cuda", "all"), ("generic", "all")):
        for position in ("tf32", "bf16", "ieee"):
            if (switch[0] != "mkldnn") <= (position != "bf16"):
                yield f"{'/'.join(switch)} {position}", lambda s=switch, p=position: arithmetic._set_switch(*s, p)


POSITIONS = dict(positions())


@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("word_before", ["highest", "high"])
def test_no_switch_shortens_a_factor_inside_and_all_are_as_before_outside(name, word_before):
    torch.set_float32_matmul_precision(word_before)
    POSITIONS[name]()
    before = settings()
    with full_products():
        assert safe()
        torch.get_float32_matmul_precision()  # which raises where old and new settings differ
        with full_products():
            assert safe()
        assert safe()
    assert settings() == before


@switches
@pytest.mark.parametrize("general", [("generic", "all"), ("cuda", "all")])
@pytest.mark.parametrize("own", ["none", "tf32"])
def test_a_switch_that_follows_another_follows_it_afterwards(general, own):
    set_, get = arithmetic._set_switch, arithmetic._switch
    set_(*general, "tf32")
    set_("cuda", "matmul", own)
    with full_products():
        assert get("cuda", "matmul") == "ieee" and get(*general) == "tf32"
    set_(*general, "ieee")
    assert get("cuda", "matmul") == ("ieee" if own == "none" else "tf32")


@switches
def test_searches_and_bounds_take_the_new_settings():
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    graph = random_graph(1, inputs=2, width=4)
    prop = random_property(1, graph)
    partita.verify(graph, prop, timeout=20)
    partita.bound(graph, prop.cases[0].inputs, "crown", precision="float32")
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


class Watching(Recorded):
    """Whether the settings are safe at every event, and a meeting with other searches at the first."""

    def __init__(self, meeting: threading.Barrier) -> None:
        super().__init__()
        self.meeting, self.unsafe = meeting, []

    def rooted(self, roots) -> None:
        self.meeting.wait()
        self.look("rooted")

    def branched(self, parents, children) -> None:
        self.look("branched")

    def closed(self, leaves, how) -> None:
        self.look("closed")

    def look(self, when: str) -> None:
        if not safe() or torch.get_num_threads() != 1:
            self.unsafe.append(when)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_searches_at_once_never_meet_an_unsafe_setting(kind):
    """They start together and end one by one; what the caller had set comes back with the last."""
    torch.set_float32_matmul_precision("medium")
    before, verdicts = settings(), []
    graphs = [random_graph(seed, kind, inputs=4, width=6 + seed) for seed in range(4)]
    props = [random_property(seed, graph) for seed, graph in enumerate(graphs)]
    alone = [partita.verify(g, p, attack="off", timeout=60).verdict for g, p in zip(graphs, props, strict=True)]
    for _ in range(2):
        meeting = threading.Barrier(4, timeout=60)
        watching = [Watching(meeting) for _ in graphs]

        def one(k, watching=watching):
            return partita.verify(graphs[k], props[k], attack="off", timeout=60, observers=[watching[k]]).verdict

        with ThreadPoolExecutor(4) as pool:
            verdicts.append(list(pool.map(one, range(4))))
        assert not any(w.unsafe for w in watching)
        assert settings() == before
    assert verdicts == [alone] * 2


def test_a_search_under_which_the_precision_is_changed_says_so():
    class Caller(Recorded):
        def rooted(self, roots) -> None:
            torch.set_float32_matmul_precision("medium")

    graph = random_graph(1, inputs=2, width=4)
    with pytest.raises(Disturbed, match="precision of float32 products"):
        partita.verify(graph, random_property(1, graph), attack="off", timeout=20, observers=[Caller()])
    assert word() == "medium"


# ---- cuDNN


def test_cudnn_stays_off_until_the_last_convolution():
    image, off = SimpleNamespace(is_cuda=True, dtype=torch.float32), []
    inside, outside = threading.Barrier(2, timeout=20), threading.Barrier(2, timeout=20)

    def early():
        with direct_convolution(image):
            inside.wait()
        outside.wait()

    def late():
        with direct_convolution(image):
            inside.wait()
            outside.wait()
            off.append(not torch.backends.cudnn.enabled)

    with ThreadPoolExecutor(2) as pool:
        [task.result() for task in [pool.submit(early), pool.submit(late)]]
    assert off == [True] and torch.backends.cudnn.enabled


# ---- the calling thread's


def values():
    graph = random_graph(4, inputs=3, width=8)
    inputs = random_property(4, graph).cases[0].inputs
    return graph, inputs


def report(graph, inputs):
    found = partita.bound(graph, inputs, "crown", precision="float32")
    return np.stack([found.lower, found.upper])


def test_autocast_of_the_caller_is_not_ours():
    graph, inputs = values()
    expected = report(graph, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(report(graph, inputs), expected)
        outcome = partita.verify(graph, random_property(4, graph), timeout=20)
        assert torch.is_autocast_enabled("cpu")
    assert outcome.verdict == partita.verify(graph, random_property(4, graph), timeout=20).verdict


@pytest.mark.parametrize("mode", ["inference", "no gradient", "device", "double", "half"])
def test_modes_of_the_caller_change_nothing(mode):
    graph, inputs = values()
    expected, prop = report(graph, inputs), random_property(4, graph)
    verdict = partita.verify(graph, prop, timeout=20).verdict
    kept = torch.get_default_dtype()
    around = {"inference": torch.inference_mode, "no gradient": torch.no_grad, "device": lambda: torch.device("meta")}
    dtype = {"double": torch.float64, "half": torch.float16}.get(mode, kept)
    torch.set_default_dtype(dtype)
    try:
        with around.get(mode, lambda: torch.enable_grad())():
            flags = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.get_default_device()
            np.testing.assert_array_equal(report(graph, inputs), expected)
            assert partita.verify(graph, prop, timeout=20).verdict == verdict
            assert partita.count_patterns(graph, inputs).finished
            assert flags == (torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.get_default_device())
        assert torch.get_default_dtype() is dtype
    finally:
        torch.set_default_dtype(kept)


def test_denormal_numbers_are_not_flushed():
    smallest = sys.float_info.min
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor flushes nothing")
    try:
        with full_products():
            assert smallest * 0.5 > 0 and float(torch.tensor(smallest, dtype=torch.float64) * 0.5) > 0
        assert smallest * 0.5 == 0
    finally:
        torch.set_flush_denormal(False)
    with full_products():
        assert smallest * 0.5 > 0
    assert smallest * 0.5 > 0


# ---- threads


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def elsewhere(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


@pytest.mark.parametrize("widest, inside", [(NARROW, 1), (NARROW + 1, 1), (MEDIUM, 1), (MEDIUM + 1, 4)])
def test_narrow_networks_have_one_thread_and_nobody_else(four_threads, widest, inside):
    with threads_for(widest), threads_for(widest):
        assert torch.get_num_threads() == inside
        assert elsewhere(torch.get_num_threads) == 4
    assert torch.get_num_threads() == 4 and elsewhere(torch.get_num_threads) == 4


def test_a_long_search_of_a_medium_network_gets_its_threads(four_threads, monkeypatch):
    monkeypatch.setattr("partita.kernels.threads.FIRST", 1e9)
    for widest in (NARROW, MEDIUM):
        with threads_for(widest) as more:
            more()
            assert torch.get_num_threads() == 1
            monkeypatch.setattr("partita.kernels.threads.FIRST", -1.0)
            more()
            assert torch.get_num_threads() == (1 if widest == NARROW else 4)
        monkeypatch.setattr("partita.kernels.threads.FIRST", 1e9)
        assert torch.get_num_threads() == 4


def test_without_a_thread_to_spare_the_number_is_set_all_the_same(four_threads, monkeypatch):
    def none_left(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", none_left)
    with threads_for(NARROW):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4


def test_threads_that_come_and_go_leave_the_caller_his_number(four_threads):
    def one(k):
        with threads_for(NARROW):
            assert torch.get_num_threads() == 1
        return torch.get_num_threads()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(100))) == {4}
    assert torch.get_num_threads() == 4 and elsewhere(torch.get_num_threads) == 4


class Threads(Observer):
    def __init__(self) -> None:
        self.heard = []

    def rooted(self, roots) -> None:
        self.heard.append(torch.get_num_threads())


def test_every_entry_computes_on_one_thread(four_threads, monkeypatch, tmp_path):
    """The first attack, the search, its replay, bounds, counts and trees of a partition, of a small network."""
    from partita.bab import replay
    from partita.bab.attack import descent as attack
    from partita.bab.comparing import partition
    from partita.bab.counting import patterns
    from partita.relaxations.linear import set_bounds

    heard = {}

    def listening(owner, name):
        inner = getattr(owner, name)

        def outer(*arguments, **options):
            heard.setdefault(name, set()).add(torch.get_num_threads())
            return inner(*arguments, **options)

        monkeypatch.setattr(owner, name, outer)

    graph, inputs = values()
    prop, watching = random_property(4, graph), Threads()
    listening(attack.Attack, "_random_points")
    listening(set_bounds, "root")
    listening(patterns, "search")
    listening(partition, "grow")
    listening(replay, "follow")
    partita.verify(graph, prop, timeout=20)
    partita.verify(graph, prop, timeout=20, attack="off", observers=[watching], log=tmp_path / "log")
    partita.replay(tmp_path / "log", graph, prop)
    partita.bound(graph, inputs)
    partita.count_patterns(graph, inputs)
    partita.partition(graph, inputs, ["crown"], branching="first", outputs=[0], timeout=20)
    assert watching.heard and set(watching.heard) == {1}
    assert heard == {name: {1} for name in ("_random_points", "root", "search", "grow", "follow")}
    assert torch.get_num_threads() == 4


# ---- the allocator


def test_the_allocator_is_put_back_by_the_last_search(monkeypatch):
    said = []
    monkeypatch.setattr(memory, "_set", lambda numbers: said.append(dict(numbers)) or True)
    with memory.pages_kept(), memory.pages_kept():
        assert said == [memory.KEEPING]
    assert said == [memory.KEEPING, memory.usual(dict(os.environ))]
    said.clear()
    graph = random_graph(1, inputs=2, width=4)
    partita.verify(graph, random_property(1, graph), timeout=20)
    assert said == [memory.KEEPING, memory.usual(dict(os.environ))]


def test_the_environment_says_what_the_allocator_had():
    usual = memory.usual({})
    assert usual == {
        memory.M_MMAP_MAX: 65536,
        memory.M_MMAP_THRESHOLD: 32 << 20,
        memory.M_TRIM_THRESHOLD: 64 << 20,
        memory.M_TOP_PAD: 128 << 10,
    }
    assert memory.usual({"MALLOC_TOP_PAD_": "7", "MALLOC_MMAP_MAX_": "no"}) == usual | {memory.M_TOP_PAD: 7}
    tunables = "glibc.malloc.mmap_max=3:glibc.malloc.trim_threshold=9:glibc.rtld.nns=4"
    expected = usual | {memory.M_MMAP_MAX: 3, memory.M_TRIM_THRESHOLD: 9}
    assert memory.usual({"GLIBC_TUNABLES": tunables}) == expected
