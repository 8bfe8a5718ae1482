"""Multi-neuron rows in a backward bound: one more multiplier >= 0 for each row, whatever the pieces.

A row g . (y, z, v) <= h (see `facets`) holds on every piece, so adding multiplier * (g . (y, z, v) - h) to an objective
keeps a lower bound: the row's coefficients, times its multiplier, join those that back-substitution carries when it
passes the nodes of y, z and v. The bound's gradient with respect to the multiplier is the row's violation at the
relaxed values (see `trace`). With optimal slopes and multipliers the bound is that of the linear program with these
rows. This is the idea behind MN-BaB (Ferrari et al., ICLR 2022) and GCP-CROWN (Zhang et al., NeurIPS 2022); rows over a
layer's inputs enter in the same way.

Rows of a layer above the node that is bounded say nothing about it and take no part.

Cost, for C rows of a layer of n neurons: 2 B S C n multiplications for each of y and z, forward and backward; a layer's
own product is B S n m. So rows that are not active are worth dropping: see `active`.

Soundness: outward rounded. `doubt` bounds what the products multiplier * coefficient lose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.hush import hushed
from ...kernels.proof_constants import INFLATE
from ...kernels.rounding import gamma
from ...kernels.rows import LayerRows, layer_rows, pull
from ...problems.network.graph import Affine, Graph
from .neuron_rows import Facets, joined
from .rounding import Scales

# Rows with fewer than one coefficient in so many are kept sparse.
SPARSE = 8
LISTED = 1 << 24  # coefficients up to which a GPU holds them dense


@dataclass(frozen=True, eq=False)
class Block:
    """C rows of one node of n entries: dense (C, n), a single coefficient each (C, 1) at `index`, or sparse."""

    rows: Tensor  # (C, n), (C, 1) or a CSR tensor (C, n)
    index: Tensor | None = None  # (C,)
    turned: Tensor | None = None  # the sparse rows' transpose, CSR (n, C)
    listed: LayerRows | None = None  # dense rows by neuron, where products are fused

    @staticmethod
    def of(coefficients: Tensor, index: Tensor | None, size: int) -> Block:  # (C, K), (C, K) or dense without
        """Rows with coefficients at the given entries, in the form that suits their number."""
        if index is None:
            return Block(coefficients)
        count, width = coefficients.shape
        if width == 1:
            return Block(coefficients, index[:, 0])
        if SPARSE * width > size or (coefficients.is_cuda and count * size <= LISTED):
            dense = coefficients.new_zeros(count, size).scatter_add(1, index, coefficients)
            return Block(dense, listed=layer_rows(dense) if coefficients.is_cuda else None)
        at = torch.stack([torch.arange(count, device=index.device)[:, None].expand_as(index), index]).flatten(1)
        rows = torch.sparse_coo_tensor(at, coefficients.flatten(), (count, size), check_invariants=True).coalesce()
        with hushed(UserWarning, start="Sparse CSR tensor support is in beta"):
            return Block(rows.to_sparse_csr(), turned=rows.t().coalesce().to_sparse_csr())

    def pull(self, multiplier: Tensor, size: int) -> Tensor:  # (B, S, C) -> (B, S, n)
        """multiplier @ rows."""
        if self.listed is not None:
            return pull(multiplier, self.listed)
        if self.turned is not None:
            return (self.turned @ multiplier.flatten(0, 1).mT).mT.unflatten(0, multiplier.shape[:2])
        if self.index is None:
            return multiplier @ self.rows
        zero = multiplier.new_zeros(*multiplier.shape[:2], size)
        return zero.index_add_(2, self.index, multiplier * self.rows[:, 0])

    def push(self, values: Tensor) -> Tensor:  # (B, S, n) -> (B, S, C)
        """rows @ values."""
        if self.turned is not None:
            return (self.rows @ values.flatten(0, 1).mT).mT.unflatten(0, values.shape[:2])
        return values @ self.rows.mT if self.index is None else values[..., self.index] * self.rows[:, 0]

    @property
    def size(self) -> int:
        """How many coefficients a product reads."""
        return self.rows.values().numel() if self.turned is not None else self.rows.numel()

    def weigh(self, size: Tensor) -> Tensor:  # (n,) -> (C,)
        """|rows| @ size."""
        if self.turned is not None:
            entries = self.rows.values().abs() * size[self.rows.col_indices()]
            return torch.segment_reduce(entries, "sum", offsets=self.rows.crow_indices())
        return self.rows.abs() @ size if self.index is None else self.rows[:, 0].abs() * size[self.index]


@dataclass(frozen=True, eq=False)
class Layer:
    """The rows of one activation node, ready for products: `parts` are the nodes they touch, with their rows."""

    facets: Facets
    parts: tuple[tuple[int, Block], ...]
    weight: Tensor  # (C,): sum |g_i| |value_i| + |h|, what rounding is relative to


@dataclass(frozen=True, eq=False)
class NeuronRows:
    """The rows of all layers, C in all, in the order of the layers."""

    layers: tuple[Layer, ...]
    sizes: tuple[int, ...]  # of all nodes

    @staticmethod
    def of(graph: Graph, scales: Scales, facets: Sequence[Facets]) -> NeuronRows:
        """Prepares rows for products. `scales`: of the whole set that the rows hold on. One `Facets` a layer."""
        layers = []
        for some in sorted(facets, key=lambda f: f.position):
            below = graph.layer_at[some.position].source
            parts = []
            for node, coefficients in ((some.position, some.on_post), (below, some.on_pre)):
                if bool(coefficients.any()):
                    parts.append((node, Block.of(coefficients, some.index, graph.nodes[node].size)))
            if some.on_source is not None:
                source = source_of(graph, some.position)
                parts.append((source, Block.of(some.on_source, some.source_index, graph.nodes[source].size)))
            weight = some.offset.abs()
            for node, block in parts:
                weight = weight + block.weigh(scales.size[node].to(some.offset.dtype))
            layers.append(Layer(some, tuple(parts), INFLATE * weight))
        return NeuronRows(tuple(layers), tuple(node.size for node in graph.nodes))

    def __len__(self) -> int:
        return sum(len(layer.facets) for layer in self.layers)

    @property
    def bytes(self) -> int:
        """Memory that the rows hold: as facets, and made ready for products."""
        rows = sum(block.size for layer in self.layers for _, block in layer.parts)
        facets = [layer.facets for layer in self.layers]
        kept = sum(f.on_post.numel() + (0 if f.on_source is None else f.on_source.numel()) for f in facets)
        return (rows + 2 * kept) * facets[0].offset.element_size() if facets else 0

    def cost(self, graph: Graph) -> float:
        """Multiplications that the rows add to a pass, as a share of what the network's own take."""
        rows = sum(block.size for layer in self.layers for _, block in layer.parts)
        own = sum(op.n_in * op.terms for node in graph.nodes if isinstance(node, Affine) for op in node.operators)
        return rows / max(own, 1)

    def below(self, node: int) -> NeuronRows:
        """The rows that say something about the value of `node`."""
        return NeuronRows(tuple(layer for layer in self.layers if layer.facets.position <= node), self.sizes)

    def added(self, multiplier: Tensor) -> tuple[dict[int, Tensor], Tensor, Tensor]:  # (B, S, C)
        """What the multipliers add to coefficients, by node (B, S, n), and to constants (B, S); and a bound (B, S) on
        the rounding of both."""
        total: dict[int, Tensor] = {}
        constant = doubt = multiplier.new_zeros(multiplier.shape[:2])
        for layer, own in zip(self.layers, self._split(multiplier), strict=True):
            for node, block in layer.parts:
                value = block.pull(own, self.sizes[node])
                total[node] = total[node] + value if node in total else value
            constant = constant - own @ layer.facets.offset
            # Each product is a sum of C terms; sums of several layers at one node add one rounding a layer.
            doubt = doubt + gamma(len(own.mT) + len(self.layers) + 4, own.dtype) * (own @ layer.weight)
        return total, constant, INFLATE * doubt

    def violations(self, values: Sequence[Tensor]) -> Tensor:  # (B, S, n) by node -> (B, S, C)
        """How far each row is broken at the relaxed values: the bound's gradient. Heuristic."""
        each = [
            sum(block.push(values[node]) for node, block in layer.parts) - layer.facets.offset for layer in self.layers
        ]
        return torch.cat(each, -1)

    def scale(self, coefficients: Mapping[int, Tensor], multiplier: Tensor) -> Tensor:  # (B, S, C)
        """What size each row's multiplier may well have: that of the coefficients on the neurons it bounds, before
        the multipliers took their part. Heuristic."""
        each = []
        for layer, own in zip(self.layers, self._split(multiplier), strict=True):
            f = layer.facets
            size = (f.on_post.square() + f.on_pre.square()).sum(1).clamp(min=torch.finfo(own.dtype).tiny)
            if f.position not in coefficients:
                each.append(own + 1.0)
                continue
            at = coefficients[f.position][..., f.index].abs() * f.on_post.abs()
            found = at.sum(-1) / size + own
            each.append(torch.maximum(found, 0.01 * found.mean(-1, keepdim=True)).clamp(min=1e-12))
        return torch.cat(each, -1)

    def grown(self, graph: Graph, scales: Scales, found: Sequence[Facets], kept: Tensor) -> tuple[NeuronRows, Tensor]:
        """Some of the rows (kept: (C,) bool), and new ones; with where each row stood before, -1 for new ones."""
        at = torch.arange(len(self), device=kept.device)
        old = {
            layer.facets.position: (layer.facets[own], where[own])
            for layer, own, where in zip(self.layers, self._split(kept), self._split(at), strict=True)
        }
        new = {f.position: f for f in found}
        facets, index = [], []
        for position in sorted(old.keys() | new.keys()):
            parts = [old[position][0]] if position in old else []
            before = [old[position][1]] if position in old else []
            if position in new:
                parts.append(new[position])
                before.append(torch.full((len(new[position]),), -1, dtype=torch.int64, device=kept.device))
            places = torch.cat(before)
            if len(places):
                facets.append(joined(parts))
                index.append(places)
        return NeuronRows.of(graph, scales, facets), torch.cat(index) if index else at[:0]

    def to(self, graph: Graph, scales: Scales) -> NeuronRows:
        """The rows in the precision and on the device of another copy of the network, for a float64 confirmation of
        what float32 found: float32 numbers are float64 numbers, so nothing is rounded that way, and no other is
        offered."""
        bias = graph.like
        facets = []
        for layer in self.layers:
            f = layer.facets
            if torch.finfo(bias.dtype).eps > torch.finfo(f.offset.dtype).eps:
                raise ValueError("rows cannot be rounded to a lower precision: they would no longer hold")
            post, pre, offset = (t.to(bias.device, bias.dtype) for t in (f.on_post, f.on_pre, f.offset))
            source = None if f.on_source is None else f.on_source.to(bias.device, bias.dtype)
            where = None if f.source_index is None else f.source_index.to(bias.device)
            facets.append(Facets(f.position, f.index.to(bias.device), post, pre, offset, source, where))
        return NeuronRows.of(graph, scales, facets)

    def _split(self, values: Tensor) -> tuple[Tensor, ...]:
        return values.split([len(layer.facets) for layer in self.layers], -1)


def source_of(graph: Graph, position: int) -> int:
    """The one node that feeds the affine node below activation node `position`."""
    below = graph.nodes[graph.layer_at[position].source]
    if not isinstance(below, Affine) or len(below.inputs) != 1:
        raise ValueError(f"the layer of {graph.nodes[position].name!r} has no single node of inputs")
    return below.inputs[0]
