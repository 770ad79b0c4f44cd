"""The page in Firefox: opened from a file, without a network."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from firefox_driver import FIREFOX, XVFB, Firefox, firefox
from gseg_ns.page import View, write_page
from gseg_ns.splats import Placement, Splats
from page_scene import CENTRES, EYE, FOV, GROUPS, TARGET, camera_at, page_scene, psnr, rendered

pytestmark = [
    pytest.mark.browser,
    # In CI a missing browser is a failure.
    pytest.mark.skipif((FIREFOX is None or XVFB is None) and not os.environ.get("CI"), reason="no Firefox, or no Xvfb"),
]
BACKGROUND = (0xF3, 0xF4, 0xF6)
SHIFT, CONTROL = "\ue008", "\ue009"


@dataclass
class Opened:
    """A page, and what it is of."""

    page: Firefox
    splats: Splats
    groups: torch.Tensor
    shift: np.ndarray

    def picture(self) -> np.ndarray:
        self.page.move(2, 390)  # what is under the pointer is lit
        self.page.wait("window.gseg !== undefined && gseg.stage.spark.activeSplats > 0 && gseg.stage.isSettled")
        data = self.page.ask("gseg.stage.picture()").split(",")[1]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))

    def expected(self, splats: Splats) -> np.ndarray:
        width, height = self.page.ask("[gseg.stage.canvas.width, gseg.stage.canvas.height]")
        return rendered(splats, camera_at(EYE, TARGET, FOV, width, height), BACKGROUND)

    def place(self, group: int) -> tuple[float, float]:
        point = [*(CENTRES[group - 11].double().numpy() + self.shift).tolist(), 1]
        x, y, w = self.page.ask(
            f"(() => {{ const e = gseg.stage.projection().elements, p = {point};"
            "return [0, 1, 3].map((i) => e[i] * p[0] + e[i + 4] * p[1] + e[i + 8] * p[2] + e[i + 12] * p[3]); })()"
        )
        return x / w, y / w

    @property
    def selected(self) -> set[int]:
        return set(self.page.ask("[...gseg.store.state.selected].map((row) => gseg.meta.objects[row - 1].id)"))

    def but(self, *groups: int) -> Splats:
        return self.splats.subset(~torch.isin(self.groups, torch.tensor(groups)))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    pytest.importorskip("gsply")
    splats, groups = page_scene()
    file: Path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(file, splats, groups, placement=Placement(up="y"), view=View(EYE, TARGET, FOV))
    with firefox() as page:
        page.size(700, 400)
        page.goto(file.as_uri())
        page.wait("window.gseg !== undefined")
        opened = Opened(page, splats, groups, np.zeros(3))
        opened.picture()
        opened.shift = np.array(page.ask("gseg.meta.view.eye")) - EYE
        yield opened
        asked = {said.split(":")[1].strip() for said in page.heard if said.startswith("request")}
        assert asked <= {"file", "blob"}, page.heard
        assert [said for said in page.heard if not said.startswith("request")] == []


def test_it_is_drawn_picked_hidden_isolated_and_undone(opened: Opened) -> None:
    page = opened.page
    before = opened.picture()
    assert psnr(before, opened.expected(opened.splats)) >= 40
    for group in GROUPS.tolist():
        page.click(*opened.place(group))
        assert opened.selected == {group}
    last = int(GROUPS[-1])
    x, y = (int(part) for part in opened.place(last))
    assert np.abs(opened.picture()[y, x].astype(int) - before[y, x]).sum() > 60, "not highlighted"
    page.press("h")
    page.press("\ue00c")  # Escape
    assert opened.selected == set()
    assert psnr(opened.picture(), opened.expected(opened.but(last))) >= 40
    page.press("h", SHIFT)
    page.click(*opened.place(11))
    page.click(*opened.place(13), SHIFT)
    assert opened.selected == {11, 13}
    page.press("i")
    page.ask("void gseg.store.change({ ...gseg.store.state, selected: new Set() })")
    assert psnr(opened.picture(), opened.expected(opened.but(0, 12, 14, 15, 16))) >= 40
    for _ in range(3):
        page.press("z", CONTROL)
    assert opened.selected == {11}
    assert page.ask("gseg.store.state.only === null")
