"""Average linkage: clusters by the affinity of their members, as a ratio of sums of evidence."""

from __future__ import annotations

import numpy as np


def merge_linked(
    count: int, first: np.ndarray, second: np.ndarray, same: np.ndarray, both: np.ndarray, threshold: float
) -> np.ndarray:
    """What `merge` does where few pairs have any evidence: in memory and time for these.

    Args:
        count: R, the number of rows.
        first: [E] one row of each pair, each pair once and no row with itself.
        second: [E] the other.
        same: [E] evidence for.
        both: [E] evidence at all, positive.
        threshold: smallest affinity that merges.

    Returns:
        cluster of each row [R] int64 from 0.
    """
    links: list[dict[int, tuple[float, float]]] = [{} for _ in range(count)]
    for one, other, agreed, seen in zip(first.tolist(), second.tolist(), same.tolist(), both.tolist(), strict=True):
        links[one][other] = links[other][one] = agreed, seen
    best, partner = np.full(count, -1.0), np.zeros(count, np.int64)

    def look(row: int) -> None:
        """Find the best partner of a row, the first of equals."""
        found, which = -1.0, 0
        for other, (agreed, seen) in links[row].items():
            affinity = agreed / seen
            if affinity > found or (affinity == found and other < which):
                found, which = affinity, other
        best[row], partner[row] = found, which

    for row in range(count):
        look(row)
    parent = np.arange(count)
    while count > 1:
        kept = int(best.argmax())
        if best[kept] < threshold or best[kept] < 0:
            break
        gone = int(partner[kept])
        for other, (agreed, seen) in links[gone].items():
            del links[other][gone]
            if other != kept:
                before = links[kept].get(other, (0.0, 0.0))
                links[kept][other] = links[other][kept] = before[0] + agreed, before[1] + seen
        links[gone] = {}
        best[gone], parent[gone] = -2.0, kept
        look(kept)
        for other, (agreed, seen) in links[kept].items():
            # Whose best was one of the two has to look again; for all others only the merged one is news.
            if partner[other] in (gone, kept):
                look(other)
            elif agreed / seen > best[other]:
                best[other], partner[other] = agreed / seen, kept
    return _numbered(parent)


def merge(same: np.ndarray, both: np.ndarray, threshold: float, evidence: float = 1.0) -> np.ndarray:
    """Average linkage: merge the pair of highest affinity same / both until it is below `threshold`.

    Args:
        same: [R, R] symmetric, summed evidence for.
        both: [R, R] symmetric, summed evidence at all; a pair below `evidence` has none.
        threshold: smallest affinity that merges.
        evidence: about the number of views that must see both sides.

    Returns:
        cluster of each row [R] int64 from 0.
    """
    same, both = same.astype(np.float64), both.astype(np.float64)
    count = len(same)
    alive = np.ones(count, bool)
    parent = np.arange(count)

    def affinities(row: int) -> np.ndarray:
        usable = alive & (both[row] >= max(evidence, 1e-9))
        values = np.where(usable, same[row] / np.maximum(both[row], 1e-12), -1.0)
        values[row] = -1
        return values

    best, partner = np.full(count, -1.0), np.zeros(count, np.int64)
    for row in range(count):
        values = affinities(row)
        partner[row] = values.argmax()
        best[row] = values[partner[row]]
    while count > 1:
        kept = int(best.argmax())
        if best[kept] < threshold:
            break
        gone = int(partner[kept])
        for table in (same, both):
            table[kept] += table[gone]
            table[:, kept] += table[:, gone]
        alive[gone], best[gone], parent[gone] = False, -2.0, kept
        values = affinities(kept)
        partner[kept] = values.argmax()
        best[kept] = values[partner[kept]]
        # Whose best was one of the two has to look again; for all others only the merged one is news.
        for other in np.nonzero(alive & ((partner == gone) | (partner == kept)))[0].tolist():
            if other != kept:
                others = affinities(other)
                partner[other] = others.argmax()
                best[other] = others[partner[other]]
        nearer = alive & (values > best)
        nearer[kept] = False
        best[nearer], partner[nearer] = values[nearer], kept
    return _numbered(parent)


def _numbered(parent: np.ndarray) -> np.ndarray:
    """Clusters from 0 of a forest, which row each was merged into."""
    root = parent
    while not np.array_equal(root, root[root]):
        root = root[root]
    return np.unique(root, return_inverse=True)[1].reshape(-1)
