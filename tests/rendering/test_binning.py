"""Tile lists against a walk over all pixels of all tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gseg_ns.rendering import binning, threads
from gseg_ns.rendering.binning import TileLists, tile_lists
from gseg_ns.rendering.cpu import pack
from gseg_ns.rendering.kernels import tiles
from thread_counts import same_by_any_number_of_threads

WIDTH, HEIGHT, TILE = 150, 101, 16


def projected(count: int, cameras: int = 2) -> tuple[torch.Tensor, ...]:
    """Means, conics, opacities, radii and depths of Gaussians around a picture: long ones, faint ones, no ellipses."""
    g = torch.Generator().manual_seed(0)
    shape = (cameras, count)
    angle, long, short = (torch.rand(shape, generator=g) * top + low for top, low in ((3.2, 0), (60, 0.5), (4, 0.5)))
    cos, sin = angle.cos(), angle.sin()
    xx, yy = (cos * long) ** 2 + (sin * short) ** 2, (sin * long) ** 2 + (cos * short) ** 2
    xy = cos * sin * (long**2 - short**2)
    det = xx * yy - xy**2
    conics = torch.stack([yy / det, -xy / det, xx / det], dim=-1)
    conics[:, ::50] = torch.tensor([0.01, 0.5, 0.01])  # a saddle
    means = torch.rand(*shape, 2, generator=g) * torch.tensor([WIDTH + 60.0, HEIGHT + 60.0]) - 30
    opacities = torch.rand(shape, generator=g)
    opacities[:, 1::7] = 1 / 300
    radii = (3 * torch.maximum(xx, yy).sqrt()).ceil().int()
    radii[:, 2::9] = 0
    depths = (torch.rand(shape, generator=g) * 20).round()  # many are equal
    return means, conics, opacities, radii, depths


def listed(count: int) -> TileLists:
    means, conics, opacities, radii, depths = projected(count)
    return tile_lists(pack(means, conics, opacities), radii, depths, WIDTH, HEIGHT, TILE)


def test_every_tile_lists_what_it_shows_in_depth_order_and_little_else() -> None:
    count = 200
    means, conics, opacities, radii, depths = (t.double().numpy() for t in projected(count))
    found = listed(count)
    offsets = np.append(found.isect_offsets.numpy().reshape(-1), len(found.flatten_ids))
    ids = found.flatten_ids.numpy()
    rows, columns = found.isect_offsets.shape[1:]
    assert (rows, columns) == (7, 10)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    shown = superfluous = 0
    for camera in range(2):
        dx, dy = x - means[camera, :, :1, None], y - means[camera, :, 1:, None]
        a, b, c = conics[camera].T[..., None, None]
        sigma = 0.5 * (a * dx**2 + c * dy**2) + b * dx * dy
        drawn = (opacities[camera][:, None, None] * np.exp(-sigma.clip(0)) >= 1 / 255) & (sigma >= 0)
        square = (abs(dx) <= radii[camera][:, None, None]) & (abs(dy) <= radii[camera][:, None, None])
        drawn &= square & (radii[camera] > 0)[:, None, None]
        for tile in range(rows * columns):
            row, column = divmod(tile, columns)
            inside = np.s_[:, row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            here = np.flatnonzero(drawn[inside].any(axis=(1, 2)))
            number = camera * rows * columns + tile
            listing = ids[offsets[number] : offsets[number + 1]] - camera * count
            assert set(here) <= set(listing)
            shown, superfluous = shown + len(here), superfluous + len(set(listing) - set(here))
            assert list(listing) == sorted(listing, key=lambda g: (depths[camera, g], g))
    assert shown > 1000
    assert superfluous < 0.1 * shown
    np.testing.assert_array_equal(found.tiles_per_gauss.numpy().reshape(-1), np.bincount(ids, minlength=2 * count))
    keys = found.isect_ids.numpy()
    assert (np.diff(keys) >= 0).all()
    np.testing.assert_array_equal(
        (keys & 0xFFFFFFFF).astype(np.int32), depths.reshape(-1).astype(np.float32)[ids].view(np.int32)
    )


@pytest.mark.parametrize("count", [0, 1, 30_000])
def test_any_number_of_threads_gives_the_same_lists(count: int) -> None:
    same_by_any_number_of_threads(lambda: listed(count))


def test_parts_that_count_for_themselves_stay_within_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads there are; the lists are the same."""
    expected = listed(9000)
    share, parts = threads.share, []

    def recorded(kernel: Any, total: int, *arguments: Any, **options: Any) -> None:
        if kernel is tiles.tile_rows:
            parts.append(total)
        share(kernel, total, *arguments, **options)

    monkeypatch.setattr(threads, "share", recorded)
    for bound in (1 << 24, 2 * 2 * 7 * 11, 1):
        monkeypatch.setattr(binning, "_CHANGES", bound)
        assert all(torch.equal(a, b) for a, b in zip(listed(9000), expected, strict=True))
    assert parts == [4, 2, 1]
