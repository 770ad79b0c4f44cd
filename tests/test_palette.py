from __future__ import annotations

import numpy as np
import pytest
import torch

from gseg_ns.palette import colors


def test_unlabelled_is_dark_grey_and_shape_is_kept() -> None:
    out = colors(torch.tensor([[0, 1, -1], [2, 3, 0]]))
    assert out.shape == (2, 3, 3)
    assert out.dtype == torch.uint8
    assert out[0, 0].tolist() == out[0, 2].tolist() == [64, 64, 64]


def test_stable_and_the_same_in_numpy_and_torch() -> None:
    ids = np.array([7, 0, 300, 2**40 + 1, 70000], dtype=np.int64)
    first = colors(ids)
    assert isinstance(first, np.ndarray)
    np.testing.assert_array_equal(first, colors(torch.from_numpy(ids)).numpy())
    np.testing.assert_array_equal(first[0], colors(np.array(7, dtype=np.uint8)))


def test_thousands_of_ids_have_colors_of_their_own() -> None:
    out = colors(torch.arange(1, 5001))
    assert len(torch.unique(out, dim=0)) == 5000
    grey = torch.tensor([64, 64, 64])
    assert (out.int() - grey).abs().amax(dim=-1).min() > 20


@pytest.mark.parametrize(("count", "distance"), [(10, 15), (30, 10)])
def test_the_first_ids_look_different(count: int, distance: float) -> None:
    from skimage.color import rgb2lab

    lab = torch.from_numpy(rgb2lab(colors(np.arange(1, count + 1)) / 255.0))
    apart = torch.cdist(lab, lab) + 1e3 * torch.eye(count)
    assert apart.min() > distance  # CIE76; about 2 is just noticeable


def test_floats_are_refused() -> None:
    with pytest.raises(TypeError):
        colors(torch.zeros(3))
    with pytest.raises(TypeError):
        colors(np.zeros(3))
