"""The page in a real browser: opened from a file, without a network."""

from __future__ import annotations

import base64
import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from browser_driver import CHROMIUM, chromium
from gseg_ns.page import View, Words, write_page
from gseg_ns.rendering import rasterization
from gseg_ns.splats import Placement, Splats, transform
from gseg_ns.splats.container import SH_C0
from page_scene import CENTRES, EYE, FOV, TARGET, camera_at, page_scene, psnr, rendered

pytestmark = [
    pytest.mark.browser,
    # In CI a missing browser is a failure.
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no chromium on this machine"),
]
BACKGROUND = (0xF3, 0xF4, 0xF6)
POSE = {"turn": [0.0, 0.6, 0.0, 0.8], "shift": [0.3, 0.2, -0.4]}
HOSTILE = "</script><img src=x onerror=alert(1)> 🫖"
VIEWS = [(EYE, TARGET), ([-3.0, 1.5, 2.5], [0.0, 0.3, 0.0]), ([0.3, 0.9, 1.9], [0.0, 0.3, -1.0])]
"""The last with splats beside the lens."""
FAR_VIEWS = [
    ([0.5, 6.0, 9.0], [0.0, 0.0, 0.0]),
    ([-7.5, 1.0, 1.0], [0.0, 0.0, 0.0]),
    ([0.2, 0.6, 1.2], [0.0, 0.3, -1.0]),
]
"""Outside of a shell of huge splats, in it, and right against a ball, where every splat fills the picture."""


@dataclass
class Opened:
    """A page before a browser, and what it is of."""

    page: Any
    splats: Splats
    groups: torch.Tensor
    shift: np.ndarray
    """From the splats' coordinates to the page's."""
    file: Path
    heard: list[str] = field(default_factory=list)
    """Messages and requests."""

    def ask(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def wait(self, condition: str) -> None:
        # Not `wait_for_function`, which would have the page run text as code: it may not.
        end = time.monotonic() + 60
        while not self.ask(condition):
            assert time.monotonic() < end, f"waited in vain for {condition}: {self.page.inner_text('#status')}"
            self.page.wait_for_timeout(50)

    def settle(self) -> None:
        self.wait("window.gseg !== undefined && gseg.stage.spark.activeSplats > 0 && gseg.stage.isSettled")

    def look(self, eye: list[float], target: list[float]) -> None:
        vectors = [f"new gseg.Vector3(...{(np.array(at) + self.shift).tolist()})" for at in (eye, target)]
        self.ask(f"gseg.stage.fly({', '.join(vectors)}, 0)")
        self.settle()

    def picture(self) -> np.ndarray:
        self.settle()
        data = self.ask("gseg.stage.picture()").split(",")[1]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))

    def expected(self, splats: Splats, eye: list[float] = EYE, target: list[float] = TARGET) -> np.ndarray:
        width, height = self.ask("[gseg.stage.canvas.width, gseg.stage.canvas.height]")
        return rendered(splats, camera_at(eye, target, FOV, width, height), BACKGROUND)

    def place(self, group: int, at: torch.Tensor | None = None) -> tuple[float, float]:
        """Where a group's middle is in the picture."""
        point = (CENTRES[group - 11] if at is None else at).double().numpy() + self.shift
        x, y, w = self.ask(
            f"(() => {{ const e = gseg.stage.projection().elements, p = {[*point.tolist(), 1]};"
            "return [0, 1, 3].map((i) => e[i] * p[0] + e[i + 4] * p[1] + e[i + 8] * p[2] + e[i + 12] * p[3]); })()"
        )
        return x / w, y / w

    def picked(self, x: float, y: float) -> int:
        """The group there, 0 for none."""
        row = self.ask(f"gseg.pick({x}, {y})?.row ?? 0")
        return self.ask(f"gseg.meta.objects[{row} - 1].id") if row else 0

    def click(self, group: int, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.place(group))
        for key in keys:
            self.page.keyboard.up(key)
        self.page.mouse.move(2, 390)

    @property
    def selected(self) -> set[int]:
        return set(self.ask("[...gseg.store.state.selected].map((row) => gseg.meta.objects[row - 1].id)"))

    @contextmanager
    def another(self, file: Path, splats: Splats, groups: torch.Tensor, **options: Any) -> Iterator[Opened]:
        """Another page in the same browser."""
        options = {"viewport": {"width": 700, "height": 400}, "color_scheme": "light", **options}
        context = self.page.context.browser.new_context(offline=True, **options)
        other = Opened(context.new_page(), splats, groups, np.zeros(3), file)
        other.page.goto(f"file://{file}")
        other.settle()
        other.shift = np.array(other.ask("gseg.meta.view.eye")) - EYE
        yield other
        context.close()

    def row(self, group: int) -> int:
        return self.ask(f"gseg.meta.objects.findIndex(({{ id }}) => id === {group}) + 1")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    pytest.importorskip("gsply")
    splats, groups = page_scene()
    file = tmp_path_factory.mktemp("page") / "page.html"
    write_page(
        file, splats, groups, {12: HOSTILE}, words=Words("Balls & <cubes>", HOSTILE, "CC0"),
        placement=Placement(up="y"), view=View(EYE, TARGET, FOV),
    )  # fmt: skip
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 700, "height": 400}, offline=True, color_scheme="light")
        page = context.new_page()
        opened = Opened(page, splats, groups, np.zeros(3), file)
        page.on("console", lambda message: opened.heard.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: opened.heard.append(f"error: {error}"))
        page.on("request", lambda request: opened.heard.append(f"request: {request.url}"))
        page.goto(f"file://{file}")
        opened.settle()
        opened.shift = np.array(opened.ask("gseg.meta.view.eye")) - EYE
        yield opened
        # Whatever was done: nothing was asked for, and nothing said.
        assert {said.split(":")[1].strip() for said in opened.heard if said.startswith("request")} == {"file", "blob"}
        assert [said for said in opened.heard if not said.startswith("request")] == []


@pytest.fixture(autouse=True)
def _as_it_was(opened: Opened) -> None:
    opened.ask("while (gseg.store.canUndo) gseg.store.undo();")
    opened.page.mouse.move(2, 390)
    opened.look(EYE, TARGET)


def test_the_picture_is_ours(opened: Opened) -> None:
    for eye, target in VIEWS:
        opened.look(eye, target)
        assert psnr(opened.picture(), opened.expected(opened.splats, eye, target)) >= 40


def test_the_picture_from_outside_of_all_cameras_is_ours(opened: Opened, tmp_path: Path) -> None:
    """Through huge splats beside and before the lens, which Spark would cut off; and with small ones, antialiased."""
    g = torch.Generator().manual_seed(1)
    around = torch.nn.functional.normalize(torch.randn(60, 3, generator=g), dim=1)
    shell = Splats(
        7 * around,
        torch.randn(60, 4, generator=g),
        torch.tensor([1.5, 1.0, 0.1]).expand(60, 3).log() + 0.2 * torch.randn(60, 3, generator=g),
        torch.full((60,), 1.0),
        torch.cat([torch.randn(60, 1, 3, generator=g), torch.zeros(60, 8, 3)], dim=1),
        rasterize_mode="antialiased",
    )
    splats = Splats.cat([replace(opened.splats, rasterize_mode="antialiased"), shell])
    groups = torch.cat([opened.groups, torch.zeros(60, dtype=torch.int64)])
    file = tmp_path / "page.html"
    write_page(file, splats, groups, placement=Placement(up="y"), view=View(EYE, TARGET, FOV))
    with opened.another(file, splats, groups, viewport={"width": 500, "height": 200}) as far:
        for eye, target in FAR_VIEWS:
            far.look(eye, target)
            assert psnr(far.picture(), far.expected(splats, eye, target)) >= 40
        # From further away splats are pixels: how they are blurred says how bright they are.
        eye = [8.0, 20.0, 40.0]
        far.look(eye, TARGET)
        ours = far.expected(splats, eye)
        shown = np.abs(ours.astype(int) - ours[0, 0]).max(axis=2) > 2
        good = psnr(far.picture()[shown], ours[shown])
        far.ask("Object.assign(gseg.stage.spark, { preBlurAmount: 0.3, blurAmount: 0 }) && void gseg.stage.draw()")
        assert good >= 40
        assert psnr(far.picture()[shown], ours[shown]) < good - 3


def test_splats_are_those_of_the_file_in_its_order(opened: Opened) -> None:
    """Places with all their bits, not with sixteen; clicks look at few splats and find what a look at all finds."""
    count = len(opened.splats)
    assert opened.ask("gseg.picker.count") == count
    centres = np.array(opened.ask("[...gseg.picker.centres]")).reshape(count, 3)
    assert np.abs(centres - opened.splats.means.numpy() - opened.shift).max() < 3e-4
    rows = np.array(opened.ask("[...gseg.picker.rows]"))
    ids = np.array([0, *opened.ask("gseg.meta.objects.map(({ id }) => id)")])
    assert (ids[rows] == opened.groups.numpy()).all()
    opened.ask(f"gseg.store.change(gseg.move(gseg.store.state, new Map([[1, {json.dumps(POSE)}]])))")
    places = [[x + 0.5, y + 0.5] for x in range(15, 400, 55) for y in range(15, 400, 35)]
    picks = f"{places}.map(([x, y]) => gseg.pick(x, y))"
    few = opened.ask(picks)
    looked = (
        "gseg.picker.blocks.met([...gseg.stage.ray(200, 200).origin, ...gseg.stage.ray(200, 200).direction]).length"
    )
    assert opened.ask(looked) < opened.ask("gseg.picker.blocks.blocks")
    opened.ask("void (gseg.picker.blocks.met = () => Array.from({ length: gseg.picker.blocks.blocks }, (_, i) => i))")
    try:
        assert opened.ask(picks) == few
    finally:
        opened.ask("delete gseg.picker.blocks.met")
    assert sum(hit is not None for hit in few) > 50


def test_what_is_picked_is_what_our_renderer_names(opened: Opened) -> None:
    width, height = opened.ask("[gseg.stage.canvas.width, gseg.stage.canvas.height]")
    camera = camera_at(EYE, TARGET, FOV, width, height)
    s = opened.splats
    one_hot = torch.nn.functional.one_hot((opened.groups - 10).clamp_min(0), 7).float()
    weights, _, _ = rasterization(
        s.means, s.quats, s.scales.exp(), s.opacities.sigmoid(), one_hot, camera.viewmat[None], camera.K[None], width,
        height, packed=False,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    places = np.stack([rng.integers(0, height, 300), rng.integers(0, width, 300)], axis=1)
    shares = weights[0].numpy()[places[:, 0], places[:, 1]]
    named = shares.argmax(axis=1)
    found = opened.ask(f"{[[x + 0.5, y + 0.5] for y, x in places.tolist()]}.map(([x, y]) => gseg.pick(x, y)?.row ?? 0)")
    ids = [0, *opened.ask("gseg.meta.objects.map(({ id }) => id - 10)")]
    picked = np.array([ids[row] for row in found])
    sure = shares.max(axis=1) > 0.7
    assert sure.sum() > 100
    assert set(named[sure].tolist()) == set(range(7))
    assert (picked == named)[sure].all()
    assert (picked == named).mean() > 0.98


def test_clicks_select_add_take_away_and_are_undone(opened: Opened) -> None:
    before = opened.picture()
    opened.click(11)
    assert opened.selected == {11}
    x, y = (int(part) for part in opened.place(11))
    shown = opened.picture()
    assert np.abs(shown[y, x].astype(int) - before[y, x]).sum() > 60, "not highlighted"
    assert np.abs(shown[-20:].astype(int) - before[-20:]).max() < 3, "the floor is highlighted"
    opened.click(14, "Shift")
    opened.click(15, "Shift")
    assert opened.selected == {11, 14, 15}
    opened.click(14, "Alt")
    assert opened.selected == {11, 15}
    opened.page.keyboard.press("Control+z")
    assert opened.selected == {11, 14, 15}
    opened.page.keyboard.press("Control+y")
    assert opened.selected == {11, 15}
    opened.page.mouse.click(*opened.place(11, torch.tensor([0.0, 0.0, 2.6])))  # the floor, before everything
    assert opened.selected == set()


def test_what_is_hidden_is_gone_and_not_hit(opened: Opened) -> None:
    opened.click(12)
    opened.page.keyboard.press("h")
    opened.ask("gseg.store.change({ ...gseg.store.state, selected: new Set() })")
    rest = opened.splats.subset(opened.groups != 12)
    assert psnr(opened.picture(), opened.expected(rest)) >= 40
    assert opened.picked(*opened.place(12)) != 12
    opened.page.get_by_role("button", name="Show all").click()
    assert opened.picked(*opened.place(12)) == 12


def test_three_are_isolated_in_four(opened: Opened) -> None:
    opened.click(11)
    opened.click(13, "Shift")
    opened.click(15, "Shift")
    opened.page.keyboard.press("i")
    opened.ask("gseg.store.change({ ...gseg.store.state, selected: new Set() })")
    three = opened.splats.subset(torch.isin(opened.groups, torch.tensor([11, 13, 15])))
    assert psnr(opened.picture(), opened.expected(three)) >= 40
    assert opened.picked(*opened.place(14)) != 14


def test_what_it_takes(opened: Opened) -> None:
    """Clicks and keys, counted."""
    taken: list[str] = []

    def click(group: int, *keys: str) -> None:
        taken.append(f"click {group}")
        opened.click(group, *keys)

    def press(key: str) -> None:
        taken.append(key)
        opened.page.keyboard.press(key)

    def took() -> int:
        count = len(taken)
        taken.clear()
        return count

    click(11)
    assert (took(), opened.selected) == (1, {11})
    click(14, "Shift")
    assert (took(), opened.selected) == (1, {11, 14})
    click(14, "Alt")
    assert (took(), opened.selected) == (1, {11})
    press("h")
    assert (took(), opened.ask("[...gseg.store.state.hidden]")) == (1, [opened.row(11)])
    press("Control+z")
    assert (took(), opened.ask("gseg.store.state.hidden.size")) == (1, 0)
    click(12)
    click(13, "Shift")
    click(15, "Shift")
    press("i")
    assert (took(), opened.ask("gseg.store.state.only.size")) == (4, 3)
    press("Control+z")
    took()
    click(12)
    took()
    press("n")
    opened.page.keyboard.type("kettle")
    press("Enter")
    assert (took(), opened.ask(f"gseg.store.state.names.get({opened.row(12)})")) == (2, "kettle")


def test_every_key_is_listed(opened: Opened) -> None:
    opened.page.keyboard.press("?")
    assert opened.page.locator("#help").is_visible()
    listed = opened.page.inner_text("#help table").lower()
    keys = opened.ask("Object.values(gseg.commands).flatMap(({ keys }) => keys ?? [])")
    assert len(keys) > 15
    for key in set(keys) - {"Ctrl+Shift+z", "F2", "?", "Shift+?"}:  # second names, and that of the list itself
        assert key.replace("Escape", "Esc").lower() in listed, key
    opened.page.keyboard.press("Escape")
    assert not opened.page.locator("#help").is_visible()


def test_fingers_select(opened: Opened) -> None:
    size = {"width": 390, "height": 700}
    with opened.another(opened.file, opened.splats, opened.groups, viewport=size, has_touch=True) as phone:
        phone.page.touchscreen.tap(*phone.place(11))
        assert phone.selected == {11}
        phone.page.touchscreen.tap(*phone.place(15))
        assert phone.selected == {15}
        phone.page.get_by_role("button", name="Several").tap()
        phone.page.touchscreen.tap(*phone.place(11))
        assert phone.selected == {11, 15}
        phone.page.get_by_role("button", name="Hide", exact=True).tap()
        assert phone.ask("gseg.store.state.hidden.size") == 2


def test_a_moved_object_keeps_its_own_colors_and_is_hit_where_it_is(opened: Opened) -> None:
    turn = transform(Splats.cat([opened.splats]), torch.eye(3), torch.zeros(3))  # a copy
    angle = np.radians(130)
    rotation = torch.tensor([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]).float()
    shift = torch.tensor([0.4, 0.9, 0.6])
    mine = opened.groups == 15
    moved = transform(turn.subset(mine), rotation, shift)
    # The page's origin is elsewhere: R (p + s) + t' = R p + t + s.
    offset = shift.double().numpy() + opened.shift - rotation.double().numpy() @ opened.shift
    pose = {"turn": [0, float(np.sin(angle / 2)), 0, float(np.cos(angle / 2))], "shift": offset.tolist()}
    opened.ask(f"gseg.store.change(gseg.move(gseg.store.state, new Map([[{opened.row(15)}, {json.dumps(pose)}]])))")
    expected = Splats.cat([turn.subset(~mine), moved])
    assert psnr(opened.picture(), opened.expected(expected)) >= 40
    assert opened.picked(*opened.place(15, rotation @ CENTRES[4] + shift)) == 15
    assert opened.picked(*opened.place(15)) != 15


def test_the_gizmo_moves_by_mouse(opened: Opened) -> None:
    opened.click(15)
    opened.page.keyboard.press("m")
    opened.settle()
    x, y = opened.place(15)
    opened.page.mouse.move(x, y)
    opened.page.mouse.down()
    opened.page.mouse.move(x + 30, y - 40, steps=3)
    opened.page.mouse.up()
    opened.settle()
    pose = opened.ask(f"gseg.store.state.poses.get({opened.row(15)})")
    assert pose["shift"][1] > 0.1
    opened.page.keyboard.press("m")
    opened.page.keyboard.press("Control+z")
    assert opened.ask("gseg.store.state.poses.size") == 0


def test_objects_are_selected_with_lines_on_the_picture(opened: Opened) -> None:
    """A lasso, a polygon and a brush, each drawn once."""
    mouse, press = opened.page.mouse, opened.page.keyboard.press

    def around(group: int) -> list[tuple[float, float]]:
        x, y = opened.place(group)
        return [(x - 42, y - 38), (x + 42, y - 38), (x + 42, y + 42), (x - 42, y + 42)]

    def drag(*places: tuple[float, float]) -> None:
        mouse.move(*places[0])
        mouse.down()
        for place in places[1:]:
            mouse.move(*place, steps=3)
        mouse.up()

    press("o")
    drag(*around(15))
    assert opened.selected == {15}
    press("g")
    opened.page.keyboard.down("Shift")
    for corner in around(13):
        mouse.click(*corner)
    opened.page.keyboard.up("Shift")
    mouse.click(*around(13)[0])
    assert opened.selected == {13}
    press("b")
    opened.page.keyboard.down("Shift")
    drag(opened.place(14), opened.place(16))
    opened.page.keyboard.up("Shift")
    assert opened.selected == {13, 14, 15, 16}
    press("Escape")
    press("Control+z")
    assert opened.selected == {13}
    opened.click(11)  # the tool is away
    assert opened.selected == {11}


def test_names_are_text_and_can_be_changed(opened: Opened) -> None:
    page = opened.page
    assert page.title() == "Balls & <cubes>"
    assert page.inner_text("#description") == HOSTILE
    assert page.locator("#objects img, #description img").count() == 0
    row = page.locator(f'li[data-row="{opened.row(12)}"]')
    assert row.locator(".text").inner_text() == HOSTILE
    row.locator(".name").dblclick()
    row.locator("input").fill("<b>kettle</b>")
    row.locator("input").press("Enter")
    assert row.locator(".text").inner_text() == "<b>kettle</b>"
    page.keyboard.press("Control+z")
    assert row.locator(".text").inner_text() == HOSTILE


def test_an_address_leads_to_a_view_and_objects(opened: Opened) -> None:
    opened.click(13)
    opened.look(*VIEWS[1])
    opened.page.get_by_role("button", name="Link").click()
    address = opened.ask("location.href")
    opened.ask("while (gseg.store.canUndo) gseg.store.undo();")
    opened.look(EYE, TARGET)
    opened.page.evaluate(f"location.href = {json.dumps(address)}")
    opened.wait("gseg.store.state.selected.size === 1")
    assert opened.selected == {13}
    assert np.allclose(opened.ask("gseg.stage.camera.position.toArray()"), VIEWS[1][0] + opened.shift, atol=1e-3)
    # What makes no sense is not followed.
    opened.page.evaluate("location.hash = '#eye=a,b,c&object=999,x&hidden=<script>'")
    opened.page.wait_for_timeout(200)
    assert opened.selected == {13}


def test_it_is_drawn_when_there_is_something_to_draw(opened: Opened) -> None:
    opened.settle()
    drawn = "gseg.stage.renderer.info.render.frame"
    before = opened.ask(drawn)
    opened.page.wait_for_timeout(400)
    assert opened.ask(drawn) == before
    opened.page.keyboard.press("t")
    opened.page.wait_for_timeout(600)
    assert opened.ask(drawn) > before + 1
    opened.page.keyboard.press("t")
    opened.settle()


def test_dark_and_narrow(opened: Opened) -> None:
    page = opened.page
    page.emulate_media(color_scheme="dark")
    opened.wait("gseg.stage.scene.background.getHex() === 0x1d2127")
    assert opened.picture()[2, 300].tolist() == [0x1D, 0x21, 0x27]
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 700})
    opened.wait("gseg.stage.canvas.width === 390")
    assert page.locator("#objects").bounding_box()["y"] > 300
    page.set_viewport_size({"width": 700, "height": 400})
    opened.wait("gseg.stage.canvas.width === 400")


def test_the_list_has_a_small_picture_of_each_object(opened: Opened) -> None:
    """The object alone, in its own colors, on nothing."""
    assert opened.ask("gseg.panel.portraits.drawn.size") < 6, "what is out of sight is drawn, too"
    opened.page.set_viewport_size({"width": 700, "height": 700})
    opened.wait("gseg.panel.portraits.drawn.size === 6")
    opened.page.set_viewport_size({"width": 700, "height": 400})
    opened.wait("gseg.stage.canvas.clientHeight === 400")
    drawn = opened.ask("[...gseg.panel.portraits.drawn].map(([id, { data }]) => [id, [...data]])")
    for group, data in drawn:
        picture = np.array(data, float).reshape(-1, 4)
        color = (picture[:, :3] * picture[:, 3:]).sum(axis=0) / picture[:, 3].sum()
        own = opened.splats.subset(opened.groups == group)
        mean = 255 * (0.5 + SH_C0 * own.sh[:, 0].mean(dim=0)).clamp(0, 1)
        assert np.abs(color - mean.numpy()).max() < 25, group
        assert 0.3 < picture[:, 3].mean() / 255 < 0.97, group
