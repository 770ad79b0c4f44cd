from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import random_splats
from gseg_ns.cli.edit import Edit
from gseg_ns.cli.merge import Merge
from gseg_ns.editing.edit_list import load_edits
from gseg_ns.editing.operations import bake
from gseg_ns.editing.returning import fit_similarity, merged, recognise
from gseg_ns.errors import GsegError
from gseg_ns.runs import run as runs
from gseg_ns.selection.store import Fingerprint
from gseg_ns.splats import Placement, Splats, read_ply, transform, write_objects, write_ply
from gseg_ns.splats.ply_header import read_header

TURN = torch.tensor([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]], dtype=torch.float64)
SHIFT = torch.tensor([3.0, -1, 2], dtype=torch.float64)
SCALE = 1.7


def scene() -> tuple[Splats, torch.Tensor]:
    splats = random_splats.make(300)
    splats = replace(splats, opacities=splats.opacities.abs(), extra={})
    groups = torch.zeros(300, dtype=torch.int64)
    groups[50:150], groups[150:220] = 3, 7
    return splats, groups


def moved(splats: Splats) -> Splats:
    return transform(splats, TURN, SHIFT, SCALE)


def check_same(found: Splats, expected: Splats, atol: float = 1e-4) -> None:
    for name in ("means", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=atol, rtol=1e-4)


def test_a_similarity_is_found_although_some_points_went_elsewhere() -> None:
    g = torch.Generator().manual_seed(0)
    points = torch.randn(200, 3, generator=g, dtype=torch.float64) + 10
    there = SCALE * points @ TURN.T + SHIFT
    there[:20] += 5
    found = fit_similarity(points, there)
    torch.testing.assert_close(found.rotation, TURN)
    torch.testing.assert_close(found.translation, SHIFT)
    assert found.scale == pytest.approx(SCALE)
    mirrored = fit_similarity(points, points * torch.tensor([-1.0, 1, 1]))
    assert float(torch.linalg.det(mirrored.rotation)) == pytest.approx(1)
    with pytest.raises(ValueError, match="three points"):
        fit_similarity(points[:1].expand(5, 3), points[:5])


def test_an_object_is_known_by_its_gaussians_in_any_order_with_some_gone() -> None:
    splats, groups = scene()
    rows = torch.arange(50, 150)[torch.randperm(100, generator=torch.Generator().manual_seed(1))][:80]
    file = moved(splats.subset(rows))
    file = replace(
        file, sh=torch.cat([file.sh[:, :1], torch.zeros_like(file.sh[:, 1:])], dim=1)
    )  # not every tool keeps them
    back = recognise(splats, groups, file)
    assert back.group == 3
    assert back.unchanged
    assert int(back.gone.sum()) == 20
    assert back.moved is not None
    torch.testing.assert_close(back.moved.rotation, TURN, atol=1e-5, rtol=0)
    assert torch.equal(rows[back.pairs[:, 1]], back.pairs[:, 0])


def test_where_only_centres_were_moved_the_scenes_gaussians_are_moved_whole() -> None:
    """As Blender does, to which they are points."""
    splats, groups = scene()
    file = splats.subset(groups == 3)
    back = recognise(splats, groups, replace(file, means=moved(file).means))
    assert back.unchanged
    result, _ = merged(splats, groups, file, back)
    check_same(result.subset(groups == 3), moved(file))


def test_an_object_with_other_colors_is_known_by_its_order_and_stays_recolored() -> None:
    splats, groups = scene()
    file = moved(splats.subset(groups == 3))
    file = replace(file, sh=file.sh * 0.5 + 0.3)
    with pytest.raises(GsegError, match="number of the object"):
        recognise(splats, groups, file)
    back = recognise(splats, groups, file, group=3)
    assert back.moved is not None
    assert not back.unchanged
    assert back.moved.scale == pytest.approx(SCALE, rel=1e-5)


def test_another_object_is_taken_as_it_lies() -> None:
    splats, groups = scene()
    other = random_splats.make(64, degree=2)
    back = recognise(splats, groups, other, group=7)
    assert back.moved is None
    with pytest.raises(GsegError, match="no object 9"):
        recognise(splats, groups, other, group=9)


@pytest.fixture
def export(tmp_path: Path) -> tuple[Splats, torch.Tensor, Path]:
    splats, groups = scene()
    placement = Placement(meters_per_unit=0.5).with_up("-y")
    run = Fingerprint.of(splats.means).digest
    write_objects(tmp_path / "out", splats, groups, "ply", names={3: "Tom's mug"}, placement=placement, run=run)
    return splats, groups, tmp_path


@pytest.mark.parametrize("comments", [True, False])
def test_merge(export: tuple[Splats, torch.Tensor, Path], comments: bool) -> None:
    _, groups, folder = export
    [path] = folder.glob("out/objects/group_0003*.ply")
    header = read_header(path)
    write_ply(folder / "back.ply", moved(read_ply(path)), comments=header.comments() if comments else ())
    Merge(folder / "out/scene.ply", folder / "back.ply", folder / "merged.ply").main()
    before, after = read_ply(folder / "out/scene.ply"), read_ply(folder / "merged.ply")
    assert torch.equal(after.extra["label"], before.extra["label"])
    own = groups == 3
    check_same(after.subset(~own), before.subset(~own), 0)
    check_same(after.subset(own), moved(before.subset(own)))
    assert read_header(folder / "merged.ply").comments() == read_header(folder / "out/scene.ply").comments()
    with pytest.raises(GsegError, match="already"):
        Merge(folder / "out/scene.ply", folder / "back.ply", folder / "merged.ply").main()


def test_merge_of_a_replacement(export: tuple[Splats, torch.Tensor, Path]) -> None:
    _, groups, folder = export
    other = random_splats.make(64, degree=2)
    write_ply(folder / "other.ply", replace(other, opacities=other.opacities.abs()))
    Merge(folder / "out/scene.ply", folder / "other.ply", folder / "merged.ply", group=3).main()
    after = read_ply(folder / "merged.ply")
    assert int((after.extra["label"] == 3).sum()) == 64
    assert len(after) == 300 - int((groups == 3).sum()) + 64


@pytest.mark.parametrize("recolored", [False, True])
def test_edit_takes_back(
    export: tuple[Splats, torch.Tensor, Path], recolored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    splats, groups, folder = export
    model = SimpleNamespace(splats=splats.clone, has_scales=False, gaussian_groups=lambda scale=None: groups)
    monkeypatch.setattr(
        runs, "load_run", lambda path, **_: SimpleNamespace(model=model, config_path=path, folder=path.parent)
    )
    [path] = folder.glob("out/objects/group_0003*.ply")
    file = moved(read_ply(path))
    if recolored:
        file = replace(file, sh=file.sh * 0.5 + 0.3)
    write_ply(folder / "back.ply", file, comments=read_header(path).comments())
    config = folder / "config.yml"
    Edit(load_config=config, do="swap", other=str(folder / "back.ply"), back=True).main()
    operations = load_edits(folder / "edits.json", Fingerprint.of(splats.means))
    assert len(operations) == (2 if recolored else 1)
    result = bake(splats, operations)
    assert len(result) == 300
    # In the run's coordinates: the way the file's lead to them is gone back.
    where = read_header(path).placement
    assert where is not None
    back = transform(file, where.rotation.T, -where.rotation.T @ where.translation / where.scale, 1 / where.scale)
    found = result.subset(torch.arange(200, 300)) if recolored else result.subset(groups == 3)
    check_same(found, back.with_sh_degree(found.sh_degree))
    if not recolored:
        check_same(result.subset(groups != 3), splats.subset(groups != 3), 0)


def test_edit_refuses(tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="--back goes with"):
        Edit(load_config=tmp_path / "config.yml", do="remove", back=True).main()
