"""The device that pretends refuses what CUDA refuses, takes what CUDA takes, and counts."""

from __future__ import annotations

import numpy as np
import pretend
import pytest
import torch

CPU, GPU = torch.ones(4), "cuda"

REFUSED = {
    "two devices": lambda here, there: there + here,
    "a matrix product": lambda here, there: here[None] @ there[:, None],
    "the other way round": lambda here, there: here * there,
    "concatenation": lambda here, there: torch.cat([here, there]),
    "out": lambda here, there: torch.add(there, there, out=here),
    "in place": lambda here, there: here.add_(there),
    "an index on the device": lambda here, there: here[there.long() * 0],
    "a mask on the device": lambda here, there: here[there > 0],
    "values put": lambda here, there: there.index_put_((torch.tensor([0, 1], device=GPU),), here[:2]),
    "gather": lambda here, there: there.gather(0, here.long() * 0),
    "a scalar of the CPU in a product": lambda here, there: torch.dot(there, here),
    "a scalar in a concatenation": lambda here, there: torch.stack([there[0], here[0]]),
    "where, with a mask of the CPU": lambda here, there: torch.where(here > 0, there, there),
    "numpy": lambda here, there: there.numpy(),
    "an array": lambda here, there: np.asarray(there),
    "a generator": lambda here, there: torch.rand(3, device=GPU, generator=torch.Generator()),
    "a generator of the device": lambda here, there: torch.rand(3, generator=torch.Generator(GPU)),
    "another device": lambda here, there: there + there.to("cuda:1"),
    "a device that is not there": lambda here, there: there.to("cuda:2"),
}
TAKEN = {
    "a scalar": lambda here, there: there * here[0],
    "a scalar first": lambda here, there: torch.maximum(here[0], there),
    "where, with a scalar": lambda here, there: torch.where(there > 0, there, here[0]),
    "where, with two": lambda here, there: torch.where(there > 0, here[0], here[0]),
    "a filled mask": lambda here, there: there.masked_fill(there > 0, here[0]),
    "an index of the CPU": lambda here, there: there[here.long() * 0],
    "a copy": lambda here, there: there.clone().copy_(here),
    "a number put": lambda here, there: there.index_put((there > 0,), here[0]),
    "matrix times vector": lambda here, there: there @ torch.eye(4, device=GPU),
    "a tensor of numbers": lambda here, there: there.new_tensor([1.0]) + torch.tensor([1.0], device=GPU),
    "as a tensor": lambda here, there: there + torch.as_tensor(here, device=GPU),
    "as another": lambda here, there: there + here.to(there),
    "a generator": lambda here, there: there + torch.rand(4, device=GPU, generator=torch.Generator(GPU)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cuda_refuses(name):
    log = pretend.Log()
    with pytest.raises(AssertionError, match="refused on a CUDA device"), pretend.cuda(log, count=2):
        here, there = torch.ones(4), torch.ones(4).to(GPU)
        with pytest.raises((RuntimeError, TypeError)):
            REFUSED[name](here, there)
    assert len(log.errors) == 1


@pytest.mark.parametrize("name", TAKEN)
def test_what_cuda_takes(name):
    with pretend.cuda():
        here, there = torch.ones(4), torch.ones(4).to(GPU)
        found = TAKEN[name](here, there)
        assert found.is_cuda and str(found.device) == "cuda:0" and not found.is_cpu
        assert found.cpu().device.type == "cpu"
        np.testing.assert_equal(found.cpu().numpy(), found.tolist())


def test_numbers_gradients_and_views_are_real():
    with pretend.cuda():
        x = torch.arange(6.0, device=GPU).reshape(2, 3)
        x[0, 1:] = 7.0
        assert x.tolist() == [[0, 7, 7], [3, 4, 5]] and bool((x > 6).any()) and float(x.sum()) == 26
        w = x.clone().requires_grad_()
        (w * w).sum().backward()
        assert w.grad.is_cuda and w.grad.tolist() == (2 * x).tolist()
        assert x.to("cuda:0") is x and x.to(torch.float32) is x and x.double().dtype is torch.float64


def test_launches_and_waits_are_counted():
    with pretend.cuda() as log:
        x = torch.ones(8).to(GPU)
        assert (log.launches, log.waits) == (0, 1)
        y = (x[2:] * 2).view(2, 3)
        assert (log.launches, log.waits) == (1, 1)
        for wait in (lambda: bool(y.any()), lambda: y[y > 1], lambda: y.nonzero(), lambda: y.cpu(), lambda: y.unique()):
            before = log.waits
            wait()
            assert log.waits > before
    torch.ones(8) + torch.ones(8)
    assert not torch.cuda.is_available() or torch.version.cuda
