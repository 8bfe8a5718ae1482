"""Branch-and-bound trees of f(x) = sum over pairs |x_i - x_j| on [0,1]^n, counted through partial orders.

A decided neuron says which of x_i and x_j is larger. What follows from several decisions by transitivity, tight
intervals find by themselves, so an activation branch is a partial order P of the coordinates, and its piece the order
polytope {x in [0,1]^n : x_i >= x_j where i is above j}. On it

* a comparable pair is linear, |x_i - x_j| = x_i - x_j;
* an incomparable pair still ranges over all of [-1, 1], and the triangle's chord there says |x_i - x_j| <= 1.

So the triangle's upper bound is a linear function plus the number of incomparable pairs; it is greatest at a vertex of
the order polytope, which is the indicator of an up-set (Stanley 1986): a bound takes a look at 2^n sets and no linear
program, in whole numbers. `tests/test_complexity.py` holds this against the linear programs of `comparing.measures`.

`leaves` decides the first incomparable pair in lexicographic order until the bound is the maximum floor(n/2) ceil(n/2);
`fewest` finds the smallest tree by going through all partial orders (130,023 of six elements).

For odd n every leaf is a linear order, in every tree of every single-neuron relaxation. Let i, j be incomparable in P.
Some linear extension has them next to each other; its first m and first m + 1 elements, n = 2 m + 1, are up-sets at
which f has its maximum m (m + 1), and only one of them separates i from j. At the other one the bound counts the pair
beside all separated pairs, so that it is at least m (m + 1) + 1. Hence n! proper leaves. For even n there is one such
up-set, and leaves may be fewer.

With cuts on three inputs the bound is a linear program over x and d_ij (`cut_leaves`), linear where pairs are decided:

    perimeter   d_ij + d_jk + d_ik <= 2 for every three inputs
    both        these, and d_ij <= d_ik + d_kj, which no x breaks either
    hull        the whole hull of the three differences over what P leaves of their cube. They are convex and are
                maximised, so only its upper side matters, which is spanned by the vertices:
                d_ij <= sum_v t_v |v_i - v_j| with x_i, x_j, x_k = sum_v t_v v

Soundness: exact in whole numbers but for `cut_leaves`, which trusts the solver to 1e-6.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

Order = tuple[int, ...]  # for each element, the set of those above it, as bits


@dataclass(frozen=True, eq=False)
class Orders:
    """Partial orders of n coordinates, and what the triangle knows of them."""

    n: int

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        return list(combinations(range(self.n), 2))

    @property
    def greatest(self) -> int:
        """The maximum of f."""
        return (self.n // 2) * ((self.n + 1) // 2)

    @cached_property
    def cuts(self) -> NDArray[np.int8]:  # (n, n, 2^n): +1 where a set holds i and not j
        holds = np.arange(1 << self.n)[None] >> np.arange(self.n)[:, None] & 1
        return (holds[:, None] > holds[None]).astype(np.int8)

    @property
    def none(self) -> Order:
        """Nothing decided."""
        return (0,) * self.n

    def above(self, order: Order, i: int, j: int) -> bool:
        return bool(order[j] >> i & 1)

    def open(self, order: Order) -> list[tuple[int, int]]:
        """The incomparable pairs, in lexicographic order."""
        return [(i, j) for i, j in self.pairs if not (order[j] >> i & 1 or order[i] >> j & 1)]

    def decided(self, order: Order, i: int, j: int) -> Order:
        """i above j, with all that follows."""
        top = order[i] | 1 << i
        return tuple(up | top if k == j or up >> j & 1 else up for k, up in enumerate(order))

    def bound(self, order: Order) -> int:
        """The triangle's upper bound of f on the piece."""
        value, allowed = np.zeros(1 << self.n, np.int16), np.ones(1 << self.n, bool)
        free = 0
        for i, j in self.pairs:
            if order[j] >> i & 1:
                value, allowed = value + self.cuts[i, j], allowed & (self.cuts[j, i] == 0)
            elif order[i] >> j & 1:
                value, allowed = value + self.cuts[j, i], allowed & (self.cuts[i, j] == 0)
            else:
                free += 1
        return int(value[allowed].max()) + free


def leaves(n: int) -> int:
    """Triangle leaves until the maximum is exact, the pairs decided in lexicographic order."""
    orders, found = Orders(n), 0
    open_ = [orders.none]
    while open_:
        order = open_.pop()
        if orders.bound(order) <= orders.greatest:
            found += 1
            continue
        i, j = orders.open(order)[0]
        open_ += [orders.decided(order, i, j), orders.decided(order, j, i)]
    return found


def fewest(n: int) -> tuple[int, int]:
    """The leaves of the smallest tree, whatever is decided where, and how many partial orders were looked at."""
    orders, known = Orders(n), {}

    def least(order: Order) -> int:
        if order not in known:
            if orders.bound(order) <= orders.greatest:
                known[order] = 1
            else:
                pairs = orders.open(order)
                known[order] = min(
                    least(orders.decided(order, i, j)) + least(orders.decided(order, j, i)) for i, j in pairs
                )
        return known[order]

    return least(orders.none), len(known)


CUTS = ("perimeter", "both", "hull")


def cut_leaves(n: int, cuts: str = "both") -> int:
    """The same as `leaves` with cuts on every three inputs, of the kinds in `CUTS`."""
    orders, found = Orders(n), 0
    open_ = [orders.none]
    while open_:
        order = open_.pop()
        if cut_bound(orders, order, cuts) <= orders.greatest + 1e-6:
            found += 1
            continue
        i, j = orders.open(order)[0]
        open_ += [orders.decided(order, i, j), orders.decided(order, j, i)]
    return found


def cut_bound(orders: Orders, order: Order, cuts: str = "both") -> float:
    """The upper bound with cuts on three inputs: the greatest sum of differences, over x (n,), d (one an open pair, at
    least as large as the difference from either side) and t (one a vertex of a triple)."""
    from scipy.optimize import linprog

    if cuts not in CUTS:
        raise ValueError(f"cuts are {', '.join(CUTS)}, not {cuts}")

    n, free = orders.n, orders.open(order)
    pair = {p: n + k for k, p in enumerate(free)}
    cost = [0.0] * n + [-1.0] * len(free)
    upper, equal = _Rows(), _Rows()
    for i, j in orders.pairs:
        if (i, j) not in pair:
            high, low = (i, j) if orders.above(order, i, j) else (j, i)
            cost[high] -= 1
            cost[low] += 1
            upper.add({low: 1.0, high: -1.0}, 0.0)
    for (i, j), column in pair.items():
        upper.add({i: 1.0, j: -1.0, column: -1.0}, 0.0)
        upper.add({i: -1.0, j: 1.0, column: -1.0}, 0.0)
    for triple in combinations(range(n), 3):
        own = [p for p in combinations(triple, 2) if p in pair]
        if not own:
            continue
        if cuts != "hull":
            _add_facets(orders, order, triple, pair, upper, cuts == "both")
            continue
        vertices = _vertices(orders, order, triple)
        t = range(len(cost), len(cost) + len(vertices))
        cost += [0.0] * len(vertices)
        equal.add(dict.fromkeys(t, 1.0), 1.0)
        for a, i in enumerate(triple):
            equal.add({i: -1.0} | {t[v]: 1.0 for v, vertex in enumerate(vertices) if vertex[a]}, 0.0)
        for p in own:
            a, b = triple.index(p[0]), triple.index(p[1])
            apart = {t[v]: -1.0 for v, vertex in enumerate(vertices) if vertex[a] != vertex[b]}
            upper.add({pair[p]: 1.0} | apart, 0.0)
    found = linprog(
        cost,
        upper.matrix(len(cost)),
        upper.sides or None,
        equal.matrix(len(cost)),
        equal.sides or None,
        bounds=(0, 1),
    )
    return -found.fun


def _add_facets(
    orders: Orders,
    order: Order,
    triple: tuple[int, int, int],
    pair: dict[tuple[int, int], int],
    rows: _Rows,
    both: bool,
) -> None:
    """The three differences of a triple add up to 2 at most; and with `both` none exceeds the other two together."""
    differences = []
    for i, j in combinations(triple, 2):
        high, low = (i, j) if orders.above(order, i, j) else (j, i)
        differences.append({pair[i, j]: 1.0} if (i, j) in pair else {high: 1.0, low: -1.0})
    signs = [((1, 1, 1), 2.0)]
    if both:
        signs += [((1, -1, -1), 0.0), ((-1, 1, -1), 0.0), ((-1, -1, 1), 0.0)]
    for chosen, side in signs:
        row: dict[int, float] = {}
        for sign, entries in zip(chosen, differences, strict=True):
            row |= {column: row.get(column, 0.0) + sign * value for column, value in entries.items()}
        rows.add(row, side)


def _vertices(orders: Orders, order: Order, triple: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """The corners of the triple's cube that its own comparisons allow."""
    wrong = [(a, b) for a, b in product(range(3), repeat=2) if orders.above(order, triple[a], triple[b])]
    return [v for v in product((0, 1), repeat=3) if all(v[a] >= v[b] for a, b in wrong)]


class _Rows:
    """Sparse rows under construction."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, int, float]] = []
        self.sides: list[float] = []

    def add(self, row: dict[int, float], side: float) -> None:
        self.entries += [(len(self.sides), column, value) for column, value in row.items()]
        self.sides.append(side)

    def matrix(self, columns: int):  # type: ignore[no-untyped-def]
        from scipy.sparse import csr_array

        if not self.sides:
            return None
        rows, at, values = zip(*self.entries, strict=True)
        return csr_array((values, (rows, at)), (len(self.sides), columns))
