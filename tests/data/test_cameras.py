"""Which of many views are asked."""

from __future__ import annotations

import pytest

from gseg_ns.data.cameras import spread_views


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(9, 3, [0, 4, 8]), (3, 100, [0, 1, 2]), (1, 5, [0]), (0, 5, []), (10, 4, [0, 3, 6, 9])],
)
def test_views_are_spread_from_the_first_to_the_last(count: int, most: int, expected: list[int]) -> None:
    assert spread_views(count, most) == expected
