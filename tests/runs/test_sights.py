"""What training views of a run say of where its objects end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gseg_ns.editing.operations import Transform
from gseg_ns.runs import Run, load_run
from gseg_ns.runs.edited_run import EditedRun
from gseg_ns.runs.sights import Sighted, run_sights
from gseg_ns.selection.packed import PackedMask
from gseg_ns.splats import Placement
from gseg_ns.splats.objects import Standing


@pytest.fixture(scope="module")
def run(built_run: Path) -> Run:
    return load_run(built_run)


def standing(edited: EditedRun, rows: torch.Tensor) -> Standing:
    splats = edited.scene.splats.subset(rows)
    return Standing(splats, torch.tensor([0.0, 0, 1]), False, rows, Placement(scale=2.0))


def test_views_of_a_run_end_at_the_centres_of_what_they_show(run: Run) -> None:
    sights = run_sights(run)
    assert len(sights) == len(run.datamanager.names("train"))
    splats, groups = run.model.splats(), run.model.gaussian_groups()
    sight = sights[0]
    assert sight.labels.shape == sight.depth.shape == (sight.camera.height, sight.camera.width)
    photograph = run.datamanager.read_photograph(0)["image"][..., :3]
    assert sight.photograph is not None
    np.testing.assert_array_equal(sight.photograph, photograph.numpy())
    names = np.unique(sight.labels[sight.labels > 0])
    assert len(names) == 7
    view = sight.camera.viewmat
    for name in names[:-1]:  # the last is the room, which its Gaussians cover with gaps
        own = splats.means[groups == int(name)]
        depths = (own @ view[2, :3] + view[2, 3]).numpy()
        shown = sight.depth[sight.labels == name]
        inside = (shown > depths.min() - 0.05) & (shown < depths.max() + 0.05)
        assert inside.mean() > 0.9  # at a border, what is behind counts in part


def test_what_edits_moved_is_not_where_views_show_it(run: Run) -> None:
    sights = run_sights(run)
    groups = run.model.gaussian_groups()
    first, second = torch.unique(groups[groups > 0])[:2].tolist()
    moved = PackedMask.pack(groups == second)
    edited = EditedRun(run, [Transform(moved, translation=(0.1, 0.0, 0.0))])
    rows = torch.arange(len(groups))
    sighted = Sighted(sights, edited, rows)
    seen = sighted.seen(standing(edited, rows[groups == first]))
    assert seen is not None
    assert (seen.group, seen.scale, len(seen.sights)) == (first, 2.0, len(sights))
    assert sighted.seen(standing(edited, rows[groups == second])) is None
    # Less than half of what the views show.
    assert sighted.seen(standing(edited, rows[groups == first][::3])) is None
    assert Sighted((), edited, rows).seen(standing(edited, rows[groups == first])) is None
