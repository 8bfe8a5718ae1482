"""A graph in normal form: as few nodes as the network has layers.

One pass in topological order. An affine node swallows an affine node that feeds it where every product of operators
can be written as one (see `compose`): always if it is the only reader, and also beside other readers if
the swallowed node only moves and scales entries. What nobody reads is dropped. Afterwards

    every nonlinear node reads affine nodes, and the output is an affine node;
    no affine node is a mere identity, unless one of these two rules needs it;
    no node but the input is constant.

Biases: W2 b1 + b2 is computed in float64. What rounding may have changed is kept beside it (`Affine.doubt`). Where
large numbers cancel, so that more than `DUST` of the layer's largest bias would be in doubt, the pair is left as it is.
Soundness: exact up to rounding of folded weights, accounted for in `scale`, and of folded biases, accounted for in
`doubt`. Nodes in which anything was rounded, or may have been, are marked (`Affine.rounded`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from ...kernels.deadline import check
from ...kernels.proof_constants import DUST, ROUNDOFF
from .affine import AbstractLinear, Identity
from .compose import compose, summing, tidy, total
from .exact_fold import bias_folds_exactly, folds_exactly, sums_exactly
from .graph import Affine, Graph, Node

MANY = 24  # no affine node gets more terms than this by swallowing one that others read too


def simplify(graph: Graph) -> Graph:
    """The same function, with fused affine nodes, in the normal form above."""
    return simplified(graph)[0]


def simplified(graph: Graph) -> tuple[Graph, list[int]]:
    """`simplify`, and for each node of the result the node of `graph` that has the same value."""
    graph, before = _living(graph)
    readers = Counter(i for node in graph.nodes for i in set(node.inputs))
    readers[graph.output] += 1
    nodes: list[Node] = [graph.nodes[0]]
    same = [0]  # for each of them the node of `graph` that has its value
    position = {0: 0}  # old position -> new position
    single: dict[int, bool] = {}  # new position of an affine node -> whether it has one reader

    def affine_before(i: int) -> int:
        """The node i, or a copy of it as an affine node."""
        if isinstance(nodes[i], Affine):
            return i
        size = nodes[i].size
        nodes.append(Affine((i,), (Identity(size),), torch.zeros(size, dtype=torch.float64), nodes[i].name))
        same.append(same[i])
        return len(nodes) - 1

    for old, node in enumerate(graph.nodes[1:], start=1):
        check()
        inputs = tuple(position[i] for i in node.inputs)
        if isinstance(node, Affine):
            node = _fused(replace(node, inputs=inputs), nodes, single)
            if _is_identity(node):
                position[old] = node.inputs[0]
                single[node.inputs[0]] = single.get(node.inputs[0], False) and readers[old] == 1
                continue
        else:
            node = replace(node, inputs=tuple(affine_before(i) for i in inputs))
        nodes.append(node)
        same.append(old)
        position[old] = len(nodes) - 1
        single[position[old]] = readers[old] == 1
    output = affine_before(position[graph.output])
    finished, kept = _living(replace(graph, nodes=tuple(nodes[: output + 1])))
    return finished, [before[same[i]] for i in kept]


def _living(graph: Graph) -> tuple[Graph, list[int]]:
    """Without the nodes that the output does not depend on (the input stays), and which nodes those left were."""
    needed, waiting = {0}, [graph.output]
    while waiting:
        i = waiting.pop()
        if i not in needed:
            needed.add(i)
            waiting.extend(graph.nodes[i].inputs)
    kept = sorted(needed)
    place = {old: new for new, old in enumerate(kept)}
    nodes = tuple(replace(graph.nodes[i], inputs=tuple(place[j] for j in graph.nodes[i].inputs)) for i in kept)
    return replace(graph, nodes=nodes), kept


def _is_identity(node: Affine) -> bool:
    one = len(node.operators) == 1 and isinstance(node.operators[0], Identity)
    return one and not node.bias.any() and node.doubt is None


def _fused(node: Affine, nodes: list[Node], single: dict[int, bool]) -> Affine:
    """The affine node with every affine node before it that can be swallowed, swallowed."""
    terms: list[tuple[int, AbstractLinear]] = []
    rounded = node.rounded
    bias, weight = node.bias, node.bias.abs()  # weight: the sum of absolute values behind each bias
    doubt = torch.zeros_like(bias) if node.doubt is None else node.doubt
    for source, operator in zip(node.inputs, node.operators, strict=True):
        operator, before = tidy(operator), nodes[source]
        inner = None
        if isinstance(before, Affine):
            inner = _swallowed(operator, before, single.get(source, False), len(terms))
        if inner is None or not isinstance(before, Affine):
            terms.append((source, operator))
            continue
        moved, size = operator.apply(before.bias), operator.absolute().apply(before.bias.abs())
        if not _safe(bias + moved, weight + size, operator.terms):
            terms.append((source, operator))
            continue
        doubt = doubt + _doubt(operator, before, bias, moved, node.rounded)
        rounded = rounded or before.rounded or not folds_exactly(operator, before, inner, bias, moved)
        bias, weight = bias + moved, weight + size
        terms.extend(zip(before.inputs, inner, strict=True))
    return _merged(replace(node, rounded=rounded, doubt=doubt if doubt.any() else None), terms, bias)


def _doubt(operator: AbstractLinear, before: Affine, bias: Tensor, moved: Tensor, rounded: bool) -> Tensor:  # (n,)
    """How far bias + moved may be from what it stands for; outward rounded. `rounded`: the operator's entries may be
    off."""
    doubt = torch.zeros_like(bias)
    if before.doubt is not None:
        doubt = (1 + 1e-9) * operator.magnitude().apply(before.doubt) + torch.finfo(doubt.dtype).tiny
    if bias_folds_exactly(operator, before, bias, moved) and not (rounded and before.bias.any()):
        return doubt
    # Storing the entries, adding up the products, and the sum of both; an entry to which nothing was added is exact.
    reach = operator.magnitude().apply(before.bias.abs())
    lost = 2 * (2 * operator.terms + 6) * ROUNDOFF * (reach + bias.abs()) + torch.finfo(doubt.dtype).tiny
    return doubt + torch.where(reach > 0, lost, 0.0)


def _swallowed(operator: AbstractLinear, before: Affine, only_reader: bool, terms: int) -> list[AbstractLinear] | None:
    """The operators of `before` followed by `operator`, or None where they should stay apart.

    `terms` is how many terms the swallowing node has already.
    """
    if not only_reader and (terms + len(before.operators) > MANY or any(summing(a) for a in before.operators)):
        return None
    products = []
    for inner in before.operators:
        product = compose(operator, inner)
        if product is None:
            return None
        products.append(tidy(product))
    return products


def _safe(bias: Tensor, size: Tensor, terms: int) -> bool:
    """Whether rounding in the folded bias stays below `DUST` of its largest entry."""
    if not size.any():
        return True
    return float(size.max()) * (terms + 4) * ROUNDOFF <= DUST * float(bias.abs().max())


def _merged(node: Affine, terms: list[tuple[int, AbstractLinear]], bias: Tensor) -> Affine:
    """The node with terms that read the same source added up where that is cheap."""
    merged: list[tuple[int, AbstractLinear]] = []
    rounded = node.rounded
    for source, operator in terms:
        for k, (other, earlier) in enumerate(merged):
            both = total(earlier, operator) if other == source else None
            if both is not None:
                rounded = rounded or not sums_exactly(earlier, operator)
                merged[k] = (source, both)
                break
        else:
            merged.append((source, operator))
    inputs, operators = tuple(s for s, _ in merged), tuple(o for _, o in merged)
    return replace(node, inputs=inputs, operators=operators, bias=bias, rounded=rounded)
