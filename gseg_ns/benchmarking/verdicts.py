"""Does a rerun table have the order of the published one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev
from typing import Literal

MARGIN = 0.5
"""Percentage points within which two rows count as equal."""

Outcome = Literal["agrees", "differs", "tie"]


@dataclass(frozen=True)
class PairVerdict:
    """Two rows, the published better one first."""

    better: str
    worse: str
    published: float | None
    """Published difference, better less worse; None for a claim in words."""
    measured: float
    """Measured difference, alike."""
    outcome: Outcome
    """agrees: the same sign; differs: the other; tie: the measured difference is within the margin."""


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 of a single value."""
    return stdev(values) if len(values) > 1 else 0.0


def order_verdicts(
    measured: Mapping[str, Sequence[float]],
    published: Mapping[str, float],
    claims: Sequence[tuple[str, str]] = (),
    margin: float = MARGIN,
) -> list[PairVerdict]:
    """Compare the order of every pair of rows that both tables have.

    Published pairs within the margin make no claim about an order and are left out. A measured difference counts when
    it is larger than the margin and than the larger spread of the two rows over seeds.

    Args:
        measured: row -> value of each seed.
        published: row -> value.
        claims: (better, worse) rows that a paper states without numbers.
        margin: in the unit of the values.
    """
    pairs: list[tuple[str, str, float | None]] = []
    for first, second in combinations([row for row in published if row in measured], 2):
        difference = published[first] - published[second]
        if abs(difference) > margin:
            better, worse = (first, second) if difference > 0 else (second, first)
            pairs.append((better, worse, abs(difference)))
    pairs += [(better, worse, None) for better, worse in claims if better in measured and worse in measured]
    verdicts = []
    for better, worse, stated in pairs:
        difference = fmean(measured[better]) - fmean(measured[worse])
        noise = max(margin, spread(measured[better]), spread(measured[worse]))
        outcome: Outcome = "tie" if abs(difference) <= noise else "agrees" if difference > 0 else "differs"
        verdicts.append(PairVerdict(better, worse, stated, difference, outcome))
    return verdicts
