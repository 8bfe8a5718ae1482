"""Networks that hold two copies of the same weights, in all the forms in which files have them; and their exact values.

`twin_network` makes the copies; the second may be permuted, share inputs with the first, and have one weight or bias
moved by a unit in the last place.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch

from partita.problems.network.activation import LeakyReLU, ReLU
from partita.problems.network.affine import Dense
from partita.problems.network.graph import Activation, Affine, Graph, Input
from partita.problems.network.matrix import matrix
from partita.problems.network.smooth import Sigmoid, Tanh

FUNCTIONS = {"relu": ReLU(), "leaky": LeakyReLU(0.125), "sigmoid": Sigmoid(), "tanh": Tanh()}
FORMS = ("blocks", "branches", "difference")


@dataclass(frozen=True)
class Made:
    """A network, and which input of the second copy stands for each of the first's."""

    graph: Graph
    partner: tuple[int, ...]


def dense(array: np.ndarray) -> Dense:
    return Dense(torch.tensor(np.asarray(array), dtype=torch.float64))


def twin_network(
    seed: int,
    form: str = "blocks",
    function: str = "relu",
    *,
    inputs: int = 3,
    shared: int = 0,
    widths: tuple[int, ...] = (5, 4),
    monotone: bool = False,
    permuted: bool = True,
    ties: bool = False,
    moved: tuple[int, float] | None = None,  # layer, and by how much of a float32 unit its first weight is moved
) -> Made:
    """Two copies of a random network. "blocks": one node a layer, block-diagonal; "branches": nodes of their own;
    "difference": branches, and one output, their difference."""
    random = np.random.default_rng(seed)
    sizes = (inputs, *widths, 1)
    copies: list[list[tuple[np.ndarray, np.ndarray]]] = [[], []]
    order = np.arange(inputs)
    for layer, (n, m) in enumerate(pairwise(sizes)):
        weight = random.normal(size=(m, n)) if not ties else random.choice([-1.0, 0.0, 0.5, 1.0], size=(m, n))
        weight = (np.abs(weight) if monotone else weight).astype(np.float32).astype(float)
        bias = random.normal(scale=0.3, size=m).astype(np.float32).astype(float) * (not ties)
        place = random.permutation(m) if permuted else np.arange(m)
        copies[0].append((weight, bias))
        other, offset = weight[place][:, order], bias[place].copy()
        if moved is not None and moved[0] == layer:
            other[0, 0] += moved[1] * np.spacing(np.float32(abs(other[0, 0]) or 1.0))
        copies[1].append((other, offset))
        order = place
    own = inputs - shared
    partner = tuple(range(shared)) + tuple(range(inputs, inputs + own))
    total = inputs + own
    first = [np.eye(total)[:inputs], np.eye(total)[list(partner)]]
    nodes: list = [Input(total)]
    at = [0, 0]
    for layer in range(len(widths)):
        parts = [w @ first[k] if layer == 0 else w for k, (w, _) in enumerate((copies[0][layer], copies[1][layer]))]
        biases = [copies[k][layer][1] for k in range(2)]
        if form == "blocks":
            whole = np.concatenate(parts) if layer == 0 else _blocks(*parts)
            nodes.append(Affine((at[0],), (dense(whole),), torch.tensor(np.concatenate(biases))))
            nodes.append(Activation((len(nodes) - 1,), FUNCTIONS[function], len(whole)))
            at = [len(nodes) - 1] * 2
            continue
        for k in range(2):
            nodes.append(Affine((at[k],), (dense(parts[k]),), torch.tensor(biases[k])))
            nodes.append(Activation((len(nodes) - 1,), FUNCTIONS[function], len(parts[k])))
            at[k] = len(nodes) - 1
    (one, bias), (two, _) = copies[0][-1], copies[1][-1]
    both = torch.tensor([bias[0], bias[0]])
    if form == "blocks":
        nodes.append(Affine((at[0],), (dense(_blocks(one, two)),), both))
    elif form == "branches":
        up, down = np.eye(2)[:, :1], np.eye(2)[:, 1:]
        nodes.append(Affine(tuple(at), (dense(up @ one), dense(down @ two)), both))
    else:
        nodes.append(Affine(tuple(at), (dense(one), dense(-two)), torch.zeros(1, dtype=torch.float64)))
    return Made(Graph(tuple(nodes), (1, total), (1, nodes[-1].size)), partner)


def _blocks(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    zeros = np.zeros((len(one), two.shape[1])), np.zeros((len(two), one.shape[1]))
    return np.block([[one, zeros[0]], [zeros[1], two]])


def exact_values(graph: Graph, x: list[Fraction]) -> list[list[Fraction]]:
    """The value of every node of a piecewise-linear network, in fractions."""
    values = [x]
    for node in graph.nodes[1:]:
        if isinstance(node, Affine):
            total = [Fraction(b) for b in node.bias.tolist()]
            for source, operator in zip(node.inputs, node.operators, strict=True):
                for i, row in enumerate(matrix(operator).tolist()):
                    total[i] += sum(Fraction(w) * v for w, v in zip(row, values[source], strict=True) if w)
            values.append(total)
        else:
            slope = Fraction(node.function.slope)
            values.append([max(v, slope * v) for v in values[node.inputs[0]]])
    return values
