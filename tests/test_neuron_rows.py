"""Rows over neurons of one layer: what they say at a point, and that nothing changes when several sets become one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from partita.relaxations.linear.neuron_rows import Facets, joined

N, M = 5, 4  # neurons of the layer, entries of the node before


def real(random: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(random.normal(size=shape))


def rows(seed: int, count: int, width: int, source: str) -> Facets:
    """Rows of so many neurons, with coefficients on nothing before, on all of it, or on some of it."""
    random = np.random.default_rng(seed)
    index = torch.from_numpy(np.stack([random.permutation(N)[:width] for _ in range(count)]))
    on_source, at = None, None
    if source == "all":
        on_source = real(random, count, M)
    if source == "some":
        on_source, at = real(random, count, 2), torch.from_numpy(random.integers(0, M, (count, 2)))
    return Facets(3, index, real(random, count, width), real(random, count, width), real(random, count), on_source, at)


def by_hand(facets: Facets, pre, post, source) -> list[float]:
    found = []
    for r in range(len(facets)):
        left = -float(facets.offset[r])
        for k, neuron in enumerate(facets.index[r].tolist()):
            left += float(facets.on_post[r, k] * post[neuron] + facets.on_pre[r, k] * pre[neuron])
        if facets.on_source is not None:
            at = range(M) if facets.source_index is None else facets.source_index[r].tolist()
            left += sum(float(facets.on_source[r, k] * source[j]) for k, j in enumerate(at))
        found.append(left)
    return found


@pytest.mark.parametrize("source", ["none", "all", "some"])
def test_rows_say_what_they_say(source):
    facets, random = rows(0, 6, 3, source), np.random.default_rng(1)
    pre, post, before = real(random, N), real(random, N), real(random, M)
    expected = torch.tensor(by_hand(facets, pre, post, before))
    torch.testing.assert_close(facets.violation(pre, post, before), expected.double())
    both = facets.violation(torch.stack([pre, post]), torch.stack([post, pre]), torch.stack([before, -before]))
    torch.testing.assert_close(both[0], expected.double())
    post_weights, pre_weights = facets.dense(N)
    plain = Facets(3, facets.index, facets.on_post, facets.on_pre, facets.offset)
    torch.testing.assert_close(post_weights @ post + pre_weights @ pre - facets.offset, plain.violation(pre, post))
    torch.testing.assert_close(facets[2:4].violation(pre, post, before), expected[2:4].double())


@pytest.mark.parametrize("kinds", [("none", "none"), ("none", "all"), ("some", "none"), ("all", "none", "all")])
def test_sets_that_are_joined_say_the_same(kinds):
    """Of different widths: what is filled up says nothing."""
    sets, random = [rows(k, 2 + k, 2 + k % 2, kind) for k, kind in enumerate(kinds)], np.random.default_rng(2)
    pre, post, before = real(random, N), real(random, N), real(random, M)
    whole = joined(sets)
    expected = torch.cat([one.violation(pre, post, before) for one in sets])
    torch.testing.assert_close(whole.violation(pre, post, before), expected)
    assert whole.position == 3 and len(whole) == sum(map(len, sets))
    assert joined(sets[:1]) is sets[0]
