"""PyTorch is held to the arithmetic that rounding bounds assume, whatever the caller has set, and let go again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from networks import random_graph, random_property
from search import Recorded

import partita
from partita.kernels.arithmetic import direct_convolution, full_products


@pytest.fixture(params=["highest", "high", "medium"])
def setting(request):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


def test_products_are_full_inside_and_as_before_outside(setting):
    with full_products():
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == setting
    with pytest.raises(KeyError), full_products():
        raise KeyError
    assert torch.get_float32_matmul_precision() == setting


class Listening(Recorded):
    """Which precision products had when the root was bounded."""

    heard: str = ""

    def rooted(self, roots) -> None:
        self.heard = torch.get_float32_matmul_precision()


@pytest.mark.parametrize("split", ["auto", "activation"])
def test_a_search_has_full_products(setting, split):
    graph = random_graph(1, inputs=2, width=4)
    listening = Listening()
    partita.verify(graph, random_property(1, graph), split=split, attack="off", timeout=20, observers=[listening])
    assert listening.heard == "highest" and torch.get_float32_matmul_precision() == setting


def test_bounds_have_full_products(setting, monkeypatch):
    from partita.relaxations.linear import set_bounds

    heard, search = [], set_bounds.root

    def listening(*arguments, **options):
        heard.append(torch.get_float32_matmul_precision())
        return search(*arguments, **options)

    monkeypatch.setattr(set_bounds, "root", listening)
    graph = random_graph(1, inputs=2, width=4)
    partita.bound(graph, random_property(1, graph).cases[0].inputs, relaxation="crown")
    assert heard and set(heard) == {"highest"}


def test_only_float32_convolutions_on_a_gpu_go_past_cudnn():
    before = torch.backends.cudnn.enabled
    for is_cuda, dtype in ((True, torch.float64), (False, torch.float32), (True, torch.float32)):
        with direct_convolution(SimpleNamespace(is_cuda=is_cuda, dtype=dtype)):
            past = is_cuda and dtype is torch.float32
            assert torch.backends.cudnn.enabled is (before and not past)
        assert torch.backends.cudnn.enabled is before
