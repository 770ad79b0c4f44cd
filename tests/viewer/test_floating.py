"""Floaters in the tab: found by the views, shown, and left out of exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plyfile import PlyData

from constructed_run import set_identities
from gseg_ns.data.cameras import to_camera
from gseg_ns.editing.operations import Duplicate
from gseg_ns.errors import GsegError
from gseg_ns.models.gaga import GagaModelConfig
from gseg_ns.objects import Evidence, gather_evidence
from gseg_ns.viewer.controller import SegmentController
from three_balls import BALL, build_model, pixel_of, rows, view

STRAYS = torch.tensor([0, 1, 2, 160])
"""Three Gaussians of the left ball and one of the middle one that are far before the right one."""


@pytest.fixture
def controller() -> SegmentController:
    model = build_model(GagaModelConfig())
    with torch.no_grad():
        set_identities(model, BALL + 1)
        model.means[STRAYS] = torch.tensor([1.2, 0.0, 0.8]) + 0.02 * torch.arange(4)[:, None]
        model.gauss_params["opacities"][STRAYS] = -1.0
    return SegmentController(model)


class Asking:
    """Asks the only view, and counts how often."""

    def __init__(self, controller: SegmentController) -> None:
        self.controller, self.times = controller, 0

    def __call__(self, scale: float | None) -> Evidence:
        assert scale is None
        self.times += 1
        with self.controller._held() as session, torch.no_grad():  # which is free meanwhile
            groups = self.controller._prompter.groups(None)
            return gather_evidence(session.splats, groups, [(to_camera(view()), self.labels())])

    def labels(self) -> torch.Tensor:
        _, x = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
        return torch.div(x, 32, rounding_mode="floor") + 1


@pytest.fixture
def asking(controller: SegmentController) -> Any:
    return Asking(controller)


def test_floaters_are_selected_and_left_out(controller: SegmentController, asking: Any, tmp_path: Path) -> None:
    said = controller.select_floaters(asking)
    expected = controller.selected
    assert bool(expected[STRAYS].all())
    assert not bool((expected & rows(2)).any())
    first, second = (int((expected & rows(ball)).sum()) for ball in (0, 1))
    assert first + second < 10
    assert said.startswith(f"Floaters: {first + second} Gaussians of 2 objects, selected.")
    assert controller.undo() == "Undone: select floaters."

    # of what is selected; the views are asked once
    controller.select_group(1)
    controller.select_floaters(asking)
    assert torch.equal(controller.selected, expected & rows(0))
    assert asking.times == 1
    controller.select_group(3)
    assert "Nothing floats" in controller.select_floaters(asking)
    assert torch.equal(controller.selected, rows(2))

    # left out of files, and counted
    controller.select_groups([1, 2])
    said = controller.export_objects(tmp_path)
    assert f"Left out: {first + second} floaters." in said
    counts = sorted(len(PlyData.read(path)["vertex"].data) for path in tmp_path.iterdir())
    assert counts == sorted([150 - first, 150 - second])
    # who wants them has them
    controller.select_groups([1])
    controller.select_floaters(asking)
    assert "Left out" not in controller.export_objects(tmp_path / "strays")
    assert [len(PlyData.read(path)["vertex"].data) for path in (tmp_path / "strays").iterdir()] == [first]


def test_floaters_of_copies_are_floaters(controller: SegmentController, asking: Any) -> None:
    controller.select_floaters(asking)
    once, of_first = int(controller.selected.sum()), int((controller.selected & rows(0)).sum())
    controller.select_group(1)
    controller.edit_selection(lambda mask: Duplicate(mask, (0.0, 2.0, 0.0)))
    controller.change("none")
    assert f"Floaters: {once + of_first} Gaussians of 2 objects" in controller.select_floaters(asking)


def test_training_that_went_on_is_told(controller: SegmentController) -> None:
    asking = Asking(controller)

    def meanwhile(scale: float | None) -> Evidence:
        found = asking(scale)
        controller.model.step += 1
        return found

    with pytest.raises(GsegError, match="Training went on"):
        controller.select_floaters(meanwhile)
    assert not controller.selected.any()


def test_before_anybody_asked_all_of_an_object_is_exported(controller: SegmentController, tmp_path: Path) -> None:
    x, y = pixel_of(0)
    controller.click(to_camera(view()), x, y, anew=True)
    assert "Left out" not in controller.export_objects(tmp_path)
    assert [len(PlyData.read(path)["vertex"].data) for path in tmp_path.iterdir()] == [150]
