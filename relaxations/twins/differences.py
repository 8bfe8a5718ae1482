"""Rows bounded through the signs of their terms and the differences of twins.

The difference d = z - z' of two twins (`twins`) is carried through the network like a value of its own: an affine node
takes the sum of w d of the pairs below, inputs that both share cancel exactly, and an activation of slopes in [s, t] on
the hull of both intervals takes d to [s, t] d; for ReLU, knowing that one of the two is active gives

    z >= 0:   relu(z) - relu(z') = min(d, z),        z' >= 0:   relu(z) - relu(z') = max(d, -z').

Both are intersected with the difference of the two intervals. (ReluDiff, Paulsen, Wang and Wang 2020, does this for two
networks of one shape; here they are found inside one.) Differences of inputs come from the box and from half-spaces on
two inputs with opposite coefficients, x_i - x_j <= h. A row is then bounded as an affine function of differences, of
the values that have no twin in it, and of the input.

Every sum is P (1 - g) - N (1 + g), P and N sums of its terms >= 0 and of the others' magnitudes, each computed from
numbers >= 0 alone: where no term is negative the bound is >= 0, and zero exactly where every term is. Coefficients of
rows are exact rationals, rounded once; in intervals that end at numbers near the least normal ones, ends are moved out
so far that no product underflows.

Soundness: outward rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.proof_constants import SUMMED
from ...kernels.rounding import gamma, unit_roundoff
from ...problems.network.graph import Graph
from ...problems.network.product import product_interval
from ..types import Pieces
from .pairs import Pair, Twin, Twins, groups, indices

Interval = tuple[Tensor, Tensor]  # (B, n) each
Key = tuple[int, int]  # the nodes that a group's pairs belong to
# Weights and ends this small are taken for 0, or for this, whichever is outward: their products stay normal.
LEAST = {torch.float32: (2.0**-50, 2.0**-70), torch.float64: (2.0**-400, 2.0**-500)}


@dataclass(frozen=True, eq=False)
class Sum:
    """sum_j weight_ij v_j from below and from above, v in intervals; see the essay."""

    inner: Tensor  # (*, 2n): [W+, W-], small weights 0
    outer: Tensor  # (*, 2n): the same, small weights enlarged

    @staticmethod
    def of(weight: Tensor, dtype: torch.dtype, device: torch.device | str) -> Sum:  # (*, n), float64
        """`weight` may be rounded once already."""
        both = torch.cat([weight.clamp(min=0), (-weight).clamp(min=0)], -1)
        least = LEAST[dtype][0]
        inner = torch.where(both < least, 0.0, both)
        outer = torch.where((both > 0) & (both < least), least, both)
        return Sum(inner.to(device, dtype), outer.to(device, dtype))

    def __getitem__(self, index: Tensor) -> Sum:
        return Sum(self.inner[index], self.outer[index])

    def below(self, lower: Tensor, upper: Tensor, times=torch.matmul) -> tuple[Tensor, Tensor]:
        """(P, N) with P - N <= the sum for every v in [lower, upper], both >= 0, and N = 0 exactly where no term can be
        negative. `times(v, W)`: how parts (*, 2n) are multiplied with the weights."""
        least = LEAST[lower.dtype][1]
        positive = torch.cat([lower, -upper], -1).clamp(min=0)
        negative = torch.cat([-lower, upper], -1).clamp(min=0)
        positive = torch.where(positive < least, 0.0, positive)
        negative = torch.where((negative > 0) & (negative < least), least, negative)
        error = gamma(self.inner.shape[-1] + 6, lower.dtype)
        more, less = _times(positive, self.inner, times), _times(negative, self.outer, times)
        return more * (1 - error), less * (1 + error)


def _times(vector: Tensor, weight: Tensor, times) -> Tensor:
    """The product, with 0 times infinity 0."""
    infinite = vector == torch.inf
    found = times(torch.where(infinite, 0.0, vector), weight)
    if bool(infinite.any()):
        reached = times(infinite.to(weight.dtype), (weight > 0).to(weight.dtype))
        found = torch.where(reached > 0, torch.inf, found)
    return found


def _matrix(vector: Tensor, weight: Tensor) -> Tensor:  # (B, n), (m, n) -> (B, m)
    return vector @ weight.mT


def _own(vector: Tensor, weight: Tensor) -> Tensor:  # (B, n), (B, S, n) -> (B, S)
    return (vector[:, None] * weight).sum(-1)


def lowered(more: Tensor, less: Tensor) -> Tensor:
    """more - less for more, less >= 0, rounded down; no number where both are infinite."""
    difference = more - less
    return difference - 2 * unit_roundoff(more.dtype) * difference.abs()


def least_difference(a: Tensor, b: Tensor) -> Tensor:
    """a - b, rounded down; of the exact sign, and exact where it is 0."""
    return lowered(a, b)


@dataclass(frozen=True, eq=False)
class Group:
    """Pairs of one node with another: their indices there, and what their differences are sums of."""

    first: Tensor  # (K,)
    second: Tensor  # (K,)
    at: Tensor  # (K,): of activations, the place of the pre-activations' pair; -1: one pre-activation for both
    below: tuple[tuple[Key, Sum], ...] = ()
    loose: tuple[tuple[int, Tensor], ...] = ()  # node, (K, n): what inexact weights are worth for each unit of a value


class Differences:
    """The differences of a network's twins over pieces, in the dtype and on the device of `working`."""

    def __init__(self, working: Graph, twins: Twins) -> None:
        like = working.like
        self.graph, self.dtype, self.device = working, like.dtype, like.device
        found = groups(twins)
        self.place: dict[Pair, tuple[Key, int]] = {
            pair: (key, k) for key, pairs in found.items() for k, pair in enumerate(pairs)
        }
        self.groups = {key: self._group(twins, pairs, found) for key, pairs in found.items()}

    def _group(self, twins: Twins, pairs: list[Pair], found: dict[Key, list[Pair]]) -> Group:
        first, second = (indices(pairs, side).to(self.device) for side in (0, 1))
        weights: dict[Key, Tensor] = {}
        loose: dict[int, Tensor] = {}
        for k, pair in enumerate(pairs):
            twin = twins.pairs[pair]
            if not isinstance(twin, Twin):
                continue
            for below, weight in twin.below:
                key, place = self.place[below]
                if key not in weights:
                    weights[key] = torch.zeros(len(pairs), len(found[key]), dtype=torch.float64)
                weights[key][k, place] += weight  # a pair occurs once in a sum
            for (node, index), error in twin.loose:
                if node not in loose:
                    loose[node] = torch.zeros(len(pairs), self.graph.nodes[node].size, dtype=torch.float64)
                loose[node][k, index] += error
        up = lambda t: (SUMMED * t).to(self.device, self.dtype) + torch.finfo(self.dtype).tiny * (t > 0).to(self.device)  # noqa: E731
        return Group(
            first,
            second,
            self._before(pairs),
            tuple((key, Sum.of(weight, self.dtype, self.device)) for key, weight in weights.items()),
            tuple((node, up(error).to(self.dtype)) for node, error in loose.items()),
        )

    def _before(self, pairs: list[Pair]) -> Tensor:  # (K,)
        at = []
        for pair in pairs:
            below = tuple((self.graph.nodes[node].inputs[:1], index) for node, index in pair)
            key = tuple((source[0] if source else -1, index) for source, index in below)
            at.append(self.place[key][1] if key in self.place else -1)
        return torch.tensor(at, dtype=torch.int64, device=self.device)

    def bounds(self, pieces: Pieces, values: list[Interval]) -> dict[Key, Interval]:
        """Bounds (B, K) of all differences; `values`: bounds of all nodes on the pieces."""
        found: dict[Key, Interval] = {}
        for key, group in self.groups.items():
            (a, b), (c, d) = ([side[:, i] for side in values[n]] for n, i in zip(key, (group.first, group.second)))
            low, high = least_difference(a, d), -least_difference(c, b)
            if key == (0, 0):
                more = self._related(pieces, group)
            elif key[0] in self.graph.layer_at:
                more = self._activation(key, group, found, values)
            else:
                more = self._affine(group, found, values)
            for one in more:
                low, high = torch.fmax(low, one[0]), torch.fmin(high, one[1])
            found[key] = low, high
        return found

    def _related(self, pieces: Pieces, group: Group) -> list[Interval]:
        """What half-spaces a (x_i - x_j) <= h say; several, the best first."""
        if pieces.normals.shape[1] == 0 or len(group.first) == 0:
            return []
        of_first, of_second = pieces.normals[..., group.first], pieces.normals[..., group.second]  # (B, H, K)
        alone = (pieces.normals != 0).sum(-1, keepdim=True) == 2
        normal = alone & (of_first.abs() >= torch.finfo(self.dtype).tiny)
        relates = normal & (of_first == -of_second)
        limit = pieces.offsets[..., None] / of_first.abs()
        limit = limit + 2 * torch.finfo(self.dtype).eps * limit.abs()
        limit = torch.where(pieces.offsets[..., None] > 0, limit + torch.finfo(self.dtype).tiny, limit)
        limit = torch.where(pieces.offsets[..., None] < 0, (limit + torch.finfo(self.dtype).tiny).clamp(max=0), limit)
        high = torch.where(relates & (of_first > 0), limit, torch.inf).amin(1)
        low = -torch.where(relates & (of_first < 0), limit, torch.inf).amin(1)
        return [(low, high)]

    def _affine(self, group: Group, found: dict[Key, Interval], values: list[Interval]) -> list[Interval]:
        zero = torch.zeros((), dtype=self.dtype, device=self.device)
        least, most = (zero, zero), (zero, zero)
        for key, weights in group.below:
            low, high = found[key]
            least = _added(least, weights.below(low, high, _matrix))
            most = _added(most, weights.below(-high, -low, _matrix))
        for node, error in group.loose:
            size = torch.maximum(values[node][0].abs(), values[node][1].abs())
            worth = SUMMED * _times(size, error, _matrix) + len(error.mT) * torch.finfo(self.dtype).tiny * (
                error > 0
            ).any(-1)
            least, most = (least[0], least[1] + worth), (most[0], most[1] + worth)
        slack = 1 + 2 * (len(group.below) + len(group.loose) + 1) * unit_roundoff(self.dtype)
        low, high = lowered(least[0] / slack, least[1] * slack), -lowered(most[0] / slack, most[1] * slack)
        shape = len(values[0][0]), len(group.first)
        return [(low.expand(shape), high.expand(shape))]

    def _activation(self, key: Key, group: Group, found: dict[Key, Interval], values: list[Interval]) -> list[Interval]:
        before = self.graph.layer_at[key[0]].source, self.graph.layer_at[key[1]].source
        function = self.graph.layer_at[key[0]].function
        (a, b), (c, d) = ([side[:, i] for side in values[n]] for n, i in zip(before, (group.first, group.second)))
        if before in found:
            low, high = (torch.where(group.at >= 0, side[:, group.at.clamp(min=0)], 0.0) for side in found[before])
        else:
            low = high = torch.zeros_like(a)
        more = [product_interval(function.slopes(torch.minimum(a, c), torch.maximum(b, d)), (low, high))]
        if function.leak == 0:
            more.append(_where(a >= 0, torch.minimum(low, a), torch.minimum(high, b)))
            more.append(_where(c >= 0, torch.maximum(low, -d), torch.maximum(high, -c)))
        return more


def _where(known: Tensor, low: Tensor, high: Tensor) -> Interval:
    return torch.where(known, low, -torch.inf), torch.where(known, high, torch.inf)


def _added(a: Interval, b: Interval) -> Interval:
    return a[0] + b[0], a[1] + b[1]
