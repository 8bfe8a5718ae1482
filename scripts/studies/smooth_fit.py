"""Small tanh and sigmoid networks fitted to a function on a box, deterministically.

    h(x) = c + A tanh(W x + b)

Inner weights by L-BFGS on a grid, outer ones by least squares at every step (variable projection: Golub and Pereyra
1973), from a seeded start; then all of them together on the mean eighth power of the error, which comes close to its
maximum. Several starts, the best one kept. Heuristic: how good a fit is, is measured (and proved) afterwards.

tanh(z) = 2 sigmoid(2 z) - 1, so a sigmoid network with weights 2 W, 2 b, 2 A and c - A 1 is the same function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from partita.problems.network.activation import AbstractActivation
from partita.problems.network.affine import Dense, Diagonal
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.smooth import Sigmoid, Tanh
from partita.problems.properties.property import Polytope

RIDGE = 1e-9  # on the outer weights, relative to the number of points


@dataclass(frozen=True, eq=False)
class Fit:
    """One hidden layer of tanh."""

    inner: Tensor  # (h, n)
    shift: Tensor  # (h,)
    outer: Tensor  # (m, h)
    constant: Tensor  # (m,)

    def __call__(self, x: Tensor) -> Tensor:  # (*batch, n) -> (*batch, m)
        return torch.tanh(x @ self.inner.T + self.shift) @ self.outer.T + self.constant

    def as_sigmoid(self) -> Fit:
        """The weights of the same function with sigmoids in place of tanh."""
        return Fit(2 * self.inner, 2 * self.shift, 2 * self.outer, self.constant - self.outer.sum(1))


def grid(lower: float, upper: float, side: int) -> Tensor:  # (side^2, 2)
    """A square grid on [lower, upper]^2."""
    line = torch.linspace(lower, upper, side, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def fit(
    target: Callable[[Tensor], Tensor],  # (P, 2) -> (P, m)
    points: Tensor,  # (P, 2)
    hidden: int,
    seed: int = 0,
    starts: int = 3,
    steps: int = 150,
) -> Fit:
    """The best of `starts` fits by its largest error on the points."""
    y = target(points)
    fits = [_one(points, y, hidden, seed * starts + k, steps) for k in range(starts)]
    return min(fits, key=lambda f: (f(points) - y).abs().max().item())


def _one(points: Tensor, y: Tensor, hidden: int, seed: int, steps: int) -> Fit:
    random = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(hidden, generator=random, dtype=torch.float64)
    inner = 3 * torch.stack([angle.cos(), angle.sin()], 1)
    centres = points[torch.randint(len(points), (hidden,), generator=random)]
    parameters = [inner.requires_grad_(), (-(inner * centres).sum(1)).detach().requires_grad_()]

    def projected() -> Tensor:
        return (_with_outer(*parameters, points, y)(points) - y).square().mean()

    _minimise(projected, parameters, steps)
    found = _with_outer(*parameters, points, y)
    every = [t.detach().clone().requires_grad_() for t in (found.inner, found.shift, found.outer, found.constant)]
    _minimise(lambda: (Fit(*every)(points) - y).pow(8).mean().pow(1 / 8), every, steps)
    return Fit(*(t.detach() for t in every))


def _with_outer(inner: Tensor, shift: Tensor, points: Tensor, y: Tensor) -> Fit:
    """The outer weights by (very slightly) regularised least squares."""
    features = torch.cat([torch.tanh(points @ inner.T + shift), points.new_ones(len(points), 1)], 1)
    normal = features.T @ features + RIDGE * len(points) * torch.eye(features.shape[1], dtype=points.dtype)
    weights = torch.linalg.solve(normal, features.T @ y)
    return Fit(inner, shift, weights[:-1].T, weights[-1])


def _minimise(loss: Callable[[], Tensor], parameters: list[Tensor], steps: int) -> None:
    optimiser = torch.optim.LBFGS(parameters, max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(closure)


def network(first: Fit, second: Fit, k: float, sigmoid: bool) -> Graph:
    """k * second(first(x)), two hidden layers; the affine maps between them are one."""
    function: AbstractActivation = Sigmoid() if sigmoid else Tanh()
    if sigmoid:
        first, second = first.as_sigmoid(), second.as_sigmoid()
    nodes = (
        Input(first.inner.shape[1]),
        Affine((0,), (Dense(first.inner),), first.shift, "z1"),
        Activation((1,), function, len(first.shift), "h1"),
        Affine((2,), (Dense(second.inner @ first.outer),), second.shift + second.inner @ first.constant, "z2"),
        Activation((3,), function, len(second.shift), "h2"),
        Affine((4,), (Dense(k * second.outer),), k * second.constant, "y"),
    )
    return Graph(nodes, (nodes[0].size,), (nodes[-1].size,))


def one_layer(found: Fit) -> Graph:
    """The fit alone, with tanh."""
    nodes = (
        Input(found.inner.shape[1]),
        Affine((0,), (Dense(found.inner),), found.shift, "z"),
        Activation((1,), Tanh(), len(found.shift), "h"),
        Affine((2,), (Dense(found.outer),), found.constant, "y"),
    )
    return Graph(nodes, (nodes[0].size,), (nodes[-1].size,))


def minus(a: Graph, b: Graph) -> Graph:
    """a - b as one graph over the same inputs. Exact."""
    nodes = list(a.nodes)
    for node in b.nodes[1:]:
        nodes.append(replace(node, inputs=tuple(i + a.output if i else 0 for i in node.inputs)))
    ones = torch.ones(a.output_size, dtype=torch.float64)
    both, signs = (a.output, len(nodes) - 1), (Diagonal(ones), Diagonal(-ones))
    nodes.append(Affine(both, signs, torch.zeros_like(ones), "difference"))
    return replace(a, nodes=tuple(nodes))


def boxes(lower: float, upper: float, side: int) -> list[Polytope]:
    """[lower, upper]^2 as side^2 boxes."""
    ends = np.linspace(lower, upper, side + 1)
    return [
        Polytope(np.array([ends[i], ends[j]]), np.array([ends[i + 1], ends[j + 1]]))
        for i in range(side)
        for j in range(side)
    ]
