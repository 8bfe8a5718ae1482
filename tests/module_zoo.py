"""Small PyTorch modules that are functions of their input by one formula, and others that only look so.

`GOOD` modules must be read, and agree with their graph everywhere; `BAD` ones must be refused, each with the words that
its refusal must hold. All take (1, 2).
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Around(nn.Module):
    """`function(self, x)` as a module, with parts and state that the functions use."""

    def __init__(self, function: Callable[[Around, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        generator = torch.Generator().manual_seed(1)
        self.linear, self.norm, self.dropout = nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))
            self.norm.running_mean.copy_(torch.tensor([0.3, -0.2]))
        self.register_buffer("seen", torch.zeros(1))
        self.calls = 0
        self.last: Tensor | None = None
        self.table: Tensor | None = None
        self.history: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def swallowed(m: Around, x: Tensor) -> Tensor:
    try:
        if x.sum() > 0:
            return -x
    except Exception:
        pass
    return x


def looped(m: Around, x: Tensor) -> Tensor:
    for _ in range(int(x[0, 0].abs()) + 1):
        x = x + 1
    return x


def while_small(m: Around, x: Tensor) -> Tensor:
    while x.abs().sum() < 10:
        x = 2 * x + 1
    return x


def counted(m: Around, x: Tensor) -> Tensor:
    m.calls += 1
    return x * m.calls


def late(m: Around, x: Tensor) -> Tensor:
    m.calls += 1
    return -x if m.calls > 1000 else x


def listed(m: Around, x: Tensor) -> Tensor:
    m.history.append(0.5)
    return x * len(m.history)


def counted_in_a_buffer(m: Around, x: Tensor) -> Tensor:
    m.seen += 1
    return x * m.seen


def remembered(m: Around, x: Tensor) -> Tensor:
    y = x if m.last is None else x + m.last
    m.last = y.detach()
    return y


COUNT = [0]


def counted_in_a_global(m: Around, x: Tensor) -> Tensor:
    COUNT[0] += 1
    return x * COUNT[0]


def asserted(m: Around, x: Tensor) -> Tensor:
    assert x.abs().sum() < 100
    return m.linear(x)


def cond(m: Around, x: Tensor) -> Tensor:
    return torch.cond(x.sum() > 0, lambda x: x - 1, lambda x: x + 1, (x,))


BAD: dict[str, tuple[Callable[[Around, Tensor], Tensor], str]] = {
    "branches on a sum": (lambda m, x: -x if x.sum() > 0 else x, "module_zoo.py"),
    "branches on an entry": (lambda m, x: F.relu(x) if x[0, 0] < x[0, 1] else x, "module_zoo.py"),
    "branches on all": (lambda m, x: x if bool((x > 0).all()) else -x, "module_zoo.py"),
    "branches on a parameter and the input": (lambda m, x: x if m.linear(x).max() > 0.1 else -x, "module_zoo.py"),
    "branches on equality": (lambda m, x: x if torch.equal(x, F.relu(x)) else -x, "module_zoo.py"),
    "branches on closeness": (lambda m, x: x if torch.allclose(x, F.relu(x)) else -x, "module_zoo.py"),
    "branches and hides it": (swallowed, "module_zoo.py"),
    "loops as often as an entry": (looped, "module_zoo.py"),
    "loops while small": (while_small, "module_zoo.py"),
    "asserts": (asserted, "module_zoo.py"),
    "item": (lambda m, x: x * x.sum().item(), "module_zoo.py"),
    "float": (lambda m, x: x * float(x.sum()), "module_zoo.py"),
    "tolist": (lambda m, x: x * x.tolist()[0][0], "module_zoo.py"),
    "numpy": (lambda m, x: x + torch.from_numpy(x.detach().numpy() * 2), "module_zoo.py"),
    "a tensor made of entries": (lambda m, x: x + torch.tensor([x[0, 0], 1.0]), "module_zoo.py"),
    "index by an entry": (lambda m, x: x[:, int(x[0, 0] > 0)][None], "module_zoo.py"),
    "as many as are positive": (lambda m, x: x[x > 0].sum()[None], "module_zoo.py"),
    "cond": (cond, "module"),
    "random": (lambda m, x: x + torch.rand(2), "random"),
    "random, like": (lambda m, x: x + torch.randn_like(x), "random"),
    "dropout that stays on": (lambda m, x: F.dropout(x), "random"),
    "Python's random": (lambda m, x: x * random.random(), "module itself"),
    "counter": (counted, "changes its own 'calls'"),
    "counter that acts late": (late, "changes its own 'calls'"),
    "list that grows": (listed, "changes its own 'history'"),
    "counter in a buffer": (counted_in_a_buffer, "changes its own 'seen'"),
    "counter in a global": (counted_in_a_global, "module itself"),
    "memory": (remembered, "module itself"),
    "knows that it is exported": (lambda m, x: x if torch.compiler.is_exporting() else -x, "module itself"),
}


def in_place(m: Around, x: Tensor) -> Tensor:
    y = m.linear(x)
    y.relu_()
    return y - 1


def cached(m: Around, x: Tensor) -> Tensor:
    if m.table is None:
        m.table = torch.arange(2.0)
    return x + m.table


def by_shape(m: Around, x: Tensor) -> Tensor:
    return sum(x[:, i : i + 1] * (i + 1) for i in range(x.shape[1]))


def by_size(m: Around, x: Tensor) -> Tensor:
    return m.linear(x) if x.dim() == 2 and x.size(-1) == 2 else -x


def without_gradient(m: Around, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = m.linear(x)
    return F.relu(y)


def recorded(m: Around, x: Tensor) -> Tensor:
    m.last = x.detach()
    return F.relu(m.linear(x))


def convolved(m: Around, x: Tensor) -> Tensor:
    image = F.pad(x.reshape(1, 1, 1, 2), (1, 1, 1, 1))
    return F.max_pool2d(F.conv2d(image, torch.ones(2, 1, 2, 2) / 3), 2).flatten(1)


GOOD: dict[str, Callable[[Around, Tensor], Tensor]] = {
    "linear": lambda m, x: m.linear(x),
    "relu": lambda m, x: F.relu(m.linear(x)),
    "relu in place": in_place,
    "leaky relu": lambda m, x: F.leaky_relu(m.linear(x), 0.1),
    "maximum": lambda m, x: torch.maximum(x[:, :1], x[:, 1:]),
    "Python's max of two entries": lambda m, x: max(x[0, 0], x[0, 1])[None],
    "clamp": lambda m, x: m.linear(x).clamp(-0.5, 0.5),
    "abs": lambda m, x: m.linear(x).abs(),
    "norm in evaluation": lambda m, x: m.norm(m.linear(x)),
    "dropout in evaluation": lambda m, x: m.dropout(m.linear(x)),
    "dropout by the flag": lambda m, x: F.dropout(m.linear(x), training=m.training),
    "loop over a shape": by_shape,
    "branch on a shape": by_size,
    "branch on a flag": lambda m, x: -x if m.training else m.linear(x),
    "branch on a dtype": lambda m, x: x if x.dtype == torch.float32 else x + 1,
    "cache": cached,
    "no gradient": without_gradient,
    "record that is not read": recorded,
    "convolution": convolved,
    "sigmoid": lambda m, x: torch.sigmoid(m.linear(x)),
    "normalised": lambda m, x: m.linear((x - 0.1307) / 0.3081),
    "split and joined": lambda m, x: torch.cat([F.relu(x[:, 1:]), x[:, :1]], 1),
    "stacked entries": lambda m, x: torch.stack([x[0, 1], 2 * x[0, 0]])[None],
    "constant tensor": lambda m, x: x * torch.tensor([2.0, -1.0]),
    "large and small": lambda m, x: x * torch.tensor([1e8, 1e-8]),
}


def in_place_on_a_view(m: Around, x: Tensor) -> Tensor:
    y = m.linear(x)
    y[:, 0] += 1
    return y


def module(function: Callable[[Around, Tensor], Tensor]) -> Around:
    """The module, ready to be read."""
    COUNT[0] = 0
    return Around(function).eval()
