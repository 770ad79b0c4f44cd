from __future__ import annotations

import numpy as np

from gseg_ns.rendering.kernels import tiles


def test_depths_are_sorted_and_equal_ones_keep_their_order() -> None:
    generator = np.random.default_rng(0)
    depths = np.concatenate(
        [generator.normal(0, 10.0**power, 500) for power in (-40, -3, 0, 3, 30)]
        + [np.zeros(5), -np.zeros(5), generator.integers(-3, 4, 500)]
    ).astype(np.float32)
    radii = (generator.random(len(depths)) < 0.8).astype(np.int32)
    chosen = np.flatnonzero(radii)
    order = np.empty(len(chosen), np.int32)
    tiles.by_depth(depths, radii, order)
    np.testing.assert_array_equal(order, chosen[np.argsort(depths[chosen], kind="stable")])
