from __future__ import annotations

import pytest
import torch

from gseg_ns.splats import Splats


def make(count: int, degree: int = 3, seed: int = 0, **extra: torch.Tensor) -> Splats:
    g = torch.Generator().manual_seed(seed)
    return Splats(
        means=torch.randn(count, 3, generator=g),
        quats=torch.randn(count, 4, generator=g),
        scales=torch.randn(count, 3, generator=g),
        opacities=torch.randn(count, generator=g),
        sh=torch.randn(count, (degree + 1) ** 2, 3, generator=g),
        extra=extra,
    )


def test_subset_by_mask_and_by_index_agree() -> None:
    splats = make(7, label=torch.arange(7))
    mask = torch.tensor([1, 0, 0, 1, 1, 0, 0], dtype=torch.bool)
    by_mask, by_index = splats.subset(mask), splats.subset(torch.tensor([0, 3, 4]))
    assert len(by_mask) == 3
    assert torch.equal(by_mask.extra["label"], torch.tensor([0, 3, 4]))
    assert torch.equal(by_mask.sh, by_index.sh)
    assert torch.equal(by_mask.quats, splats.quats[mask])


def test_cat_pads_the_sh_and_unlabelled_parts() -> None:
    joined = Splats.cat([make(2, degree=1, label=torch.tensor([5, 6])), make(3, degree=3)])
    assert len(joined) == 5
    assert joined.sh_degree == 3
    assert torch.equal(joined.sh[:2, 4:], torch.zeros(2, 12, 3))
    assert joined.extra["label"].tolist() == [5, 6, 0, 0, 0]


def test_cat_of_nothing_or_of_unlike_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Splats.cat([])
    with pytest.raises(ValueError, match="disagree"):
        Splats.cat([make(2, e=torch.zeros(2, 4)), make(2, e=torch.zeros(2, 5))])


@pytest.mark.parametrize(("name", "shape"), [("quats", (4, 3)), ("opacities", (4, 1)), ("sh", (4, 5, 3))])
def test_wrong_shapes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    splats = make(4)
    fields = {f: getattr(splats, f) for f in ("means", "quats", "scales", "opacities", "sh")}
    with pytest.raises(ValueError, match=name):
        Splats(**{**fields, name: torch.zeros(shape)})


def test_exportable_drops_what_ns_export_drops() -> None:
    splats = make(5)
    splats.opacities[:] = 0.0
    splats.opacities[1] = -5.6
    splats.means[2, 1] = float("nan")
    splats.sh[3, 7, 2] = float("inf")
    assert splats.exportable().tolist() == [True, False, False, False, True]


def test_clone_shares_nothing() -> None:
    splats = make(3, label=torch.arange(3))
    copy = splats.clone()
    copy.means += 1
    copy.extra["label"] += 1
    assert not torch.equal(copy.means, splats.means)
    assert splats.extra["label"].tolist() == [0, 1, 2]


def test_no_gaussian_at_all() -> None:
    empty = make(3, label=torch.arange(3)).subset(torch.zeros(3, dtype=torch.bool))
    assert len(empty) == 0
    assert empty.exportable().shape == (0,)
    assert len(Splats.cat([empty, make(2)])) == 2
