from __future__ import annotations

import numpy as np
import pytest

from gseg_ns.lifting.linkage import merge, merge_linked


def test_average_linkage_by_hand() -> None:
    same = np.array([[0, 9, 1, 0], [9, 0, 4, 0], [1, 4, 0, 0], [0, 0, 0, 0]], float)
    both = np.array([[0, 10, 10, 0.5], [10, 0, 5, 0], [10, 5, 0, 0], [0.5, 0, 0, 0]], float)
    # 0 and 1 (0.9) merge first; with 2 they then have (1 + 4) / (10 + 5), not the 0.8 of the pair.
    assert merge(same, both, 0.5).tolist() == [0, 0, 1, 2]
    assert merge(same, both, 0.3).tolist() == [0, 0, 0, 1]
    assert merge(same, both, 0.95).tolist() == [0, 1, 2, 3]
    assert merge(np.zeros((1, 1)), np.zeros((1, 1)), 0.5).tolist() == [0]


def test_linkage_does_what_the_plain_algorithm_does() -> None:
    generator = np.random.default_rng(0)
    count = 25
    both = generator.integers(1, 9, (count, count)).astype(float)
    both = both + both.T
    same = both * np.square(generator.random((count, count)))
    same = (same + same.T) / 2

    clusters = [[i] for i in range(count)]
    while len(clusters) > 1:
        pairs = [(i, j) for i in range(len(clusters)) for j in range(i)]
        ratio = {
            (i, j): same[np.ix_(clusters[i], clusters[j])].sum() / both[np.ix_(clusters[i], clusters[j])].sum()
            for i, j in pairs
        }
        best = max(ratio, key=ratio.__getitem__)
        if ratio[best] < 0.4:
            break
        clusters[best[0]] += clusters.pop(best[1]) if best[1] > best[0] else clusters[best[1]]
        if best[1] < best[0]:
            del clusters[best[1]]
    expected = {frozenset(cluster) for cluster in clusters}
    found = merge(same, both, 0.4)
    assert {frozenset(np.nonzero(found == c)[0].tolist()) for c in set(found.tolist())} == expected


@pytest.mark.parametrize("seed", range(4))
def test_few_linked_pairs_merge_as_in_a_table(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = 60
    first, second = np.triu_indices(count, 1)
    linked = generator.random(len(first)) < 0.1
    first, second = first[linked], second[linked]
    # Whole numbers: many affinities are equal, and sums do not depend on their order.
    both = generator.integers(1, 4, len(first)).astype(float)
    same = np.minimum(generator.integers(0, 4, len(first)), both).astype(float)
    tables = np.zeros((2, count, count))
    for table, values in zip(tables, (same, both), strict=True):
        table[first, second] = table[second, first] = values
    sizes = []
    for threshold in (0.0, 0.3, 0.6, 1.0):
        found = merge_linked(count, first, second, same, both, threshold)
        assert found.tolist() == merge(*tables, threshold, evidence=0).tolist()
        sizes.append(found.max() + 1)
    assert sizes[0] < sizes[1] < sizes[3] < count
    alone = np.zeros(0, int)
    assert merge_linked(3, alone, alone, alone, alone, 0.5).tolist() == [0, 1, 2]
