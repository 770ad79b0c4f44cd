from __future__ import annotations

import torch

from gseg_ns.evaluation.clicks import LEAST_PIXELS, draw_clicks


def maps() -> list[torch.Tensor]:
    """Object 3 is large in view 1 and a sliver in view 0; object 5 is a line; object 9 is tiny."""
    first = torch.zeros(40, 60, dtype=torch.int32)
    second = torch.zeros(40, 60, dtype=torch.int32)
    first[5, 5:20] = 3
    second[5:25, 5:25] = 3
    second[30, 2:58] = 5
    second[35:37, 40:42] = 9
    return [first, second]


def test_clicks_are_inside_of_objects_where_they_are_seen_well() -> None:
    found = {entry.name: entry for entry in draw_clicks(maps(), clicks=20)}
    assert set(found) == {3, 5}  # 9 has fewer than LEAST_PIXELS
    assert 4 < LEAST_PIXELS
    assert found[3].view == found[5].view == 1
    assert found[3].points.shape == (20, 2)
    # Three pixels from the outline, at pixel centres.
    assert ((found[3].points >= 8.5) & (found[3].points <= 21.5)).all()
    assert (found[3].points % 1 == 0.5).all()
    # A line has no interior: anywhere on it.
    assert (found[5].points[:, 1] == 30.5).all()


def test_clicks_are_the_same_for_every_method() -> None:
    one, two, other = (draw_clicks(maps(), seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a.points, b.points) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a.points, b.points) for a, b in zip(one, other, strict=True))


def test_only_objects_that_were_asked_for() -> None:
    assert [entry.name for entry in draw_clicks(maps(), [5, 77])] == [5]
    assert draw_clicks([]) == []
