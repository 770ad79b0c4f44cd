"""`gseg view` as a user starts it, in a real browser."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData

from browser_driver import CHROMIUM, chromium
from gseg_ns.runs.labels import NOTES
from page_client import served, write_scene
from page_scene import CENTRES, EYE, TARGET, page_scene

pytestmark = [
    pytest.mark.browser,
    # In CI a missing browser is a failure.
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no chromium on this machine"),
]
HOSTILE = "<img src=x onerror=alert(1)> mug"


@dataclass
class Opened:
    """The page before a browser, and a hand whose presses are counted. What is typed is not counted."""

    page: Any
    ply: Path
    address: str
    presses: int = 0
    heard: list[str] = field(default_factory=list)
    """Messages and requests."""

    def ask(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def wait(self, condition: str) -> None:
        # Not `wait_for_function`, which would have the page run text as code: it may not.
        end = time.monotonic() + 60
        while not self.ask(condition):
            assert time.monotonic() < end, f"waited in vain for {condition}: {self.page.inner_text('#status')}"
            self.page.wait_for_timeout(30)

    def settle(self) -> None:
        self.wait("window.gseg !== undefined && gseg.stage.spark.activeSplats > 0 && gseg.stage.isSettled")

    def look(self) -> None:
        middle = self.ask("gseg.state.centre")
        eye, target = ([float(a + b) for a, b in zip(place, middle, strict=True)] for place in (EYE, TARGET))
        self.ask(f"gseg.stage.fly(new gseg.Vector3(...{eye}), new gseg.Vector3(...{target}), 0)")
        self.settle()

    def place(self, group: int) -> tuple[float, float]:
        """Where a group's middle is in the picture."""
        point = [*(CENTRES[group - 11].double().numpy() + np.array(self.ask("gseg.state.centre"))).tolist(), 1]
        x, y, w = self.ask(
            f"(() => {{ const e = gseg.stage.projection().elements, p = {point};"
            "return [0, 1, 3].map((i) => e[i] * p[0] + e[i + 4] * p[1] + e[i + 8] * p[2] + e[i + 12] * p[3]); })()"
        )
        return x / w, y / w

    def click(self, group: int, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.place(group))
        for key in keys:
            self.page.keyboard.up(key)
        self.presses += 1

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.presses += 1

    def drag(self, *places: tuple[float, float]) -> None:
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=3)
        self.page.mouse.up()
        self.presses += 1

    def taken(self) -> int:
        """Presses since this was asked last."""
        count, self.presses = self.presses, 0
        return count

    def until(self, *groups: int) -> None:
        """Wait until the server says that these are selected, and nothing else."""
        self.wait(f"JSON.stringify([...gseg.state.selected].sort()) === '{sorted(groups)}'.replaceAll(' ', '')")

    def hidden(self) -> set[int]:
        return set(self.ask("gseg.state.objects.filter((one) => one.hidden).map((one) => one.id)"))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    ply = write_scene(tmp_path_factory.mktemp("view") / "scene.ply")
    gseg = Path(sys.executable).parent / "gseg"
    with subprocess.Popen(
        [str(gseg), "view", str(ply), "--port", "0", "--no-open"], stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            address = next(found[0] for line in running.stdout if (found := re.search(r"http://\S+", line)))
            with chromium() as browser:
                page = browser.new_context(viewport={"width": 1040, "height": 520}, color_scheme="light").new_page()
                opened = Opened(page, ply, address)
                page.on("console", lambda message: opened.heard.append(f"console: {message.text}"))
                page.on("pageerror", lambda error: opened.heard.append(f"error: {error}"))
                page.on("request", lambda request: opened.heard.append(f"request: {request.url}"))
                page.on("websocket", lambda socket: opened.heard.append(f"request: {socket.url}"))
                page.goto(address)
                opened.settle()
                opened.ask("gseg.state.centre = [0, 0, 0]")
                splats, _ = page_scene()
                middle = (-splats.means.median(dim=0).values).tolist()
                opened.ask(f"gseg.state.centre = {middle}")
                opened.look()
                yield opened
                origin = urlsplit(address).netloc
                asked = [said.partition(": ")[2] for said in opened.heard if said.startswith("request")]
                assert {urlsplit(url.removeprefix("blob:")).netloc for url in asked} == {origin}
                assert [said for said in opened.heard if not said.startswith("request")] == []
        finally:
            running.terminate()


@pytest.fixture(autouse=True)
def _as_it_was(opened: Opened) -> None:
    opened.wait("gseg.link.isOpen")
    while opened.ask("Boolean(gseg.state.steps[0])"):
        opened.ask("gseg.ask('undo')")
    opened.look()
    opened.taken()


def test_what_it_takes(opened: Opened) -> None:
    """Clicks and keys of what people do most."""
    opened.click(12)
    assert opened.ask("gseg.scene.selected.reduce((a, b) => a + b)") == 300, "a known object waits for the server"
    assert opened.taken() == 1
    opened.until(12)
    opened.click(14, "Shift")
    assert opened.taken() == 1
    opened.until(12, 14)
    opened.click(14, "Alt")
    assert opened.taken() == 1
    opened.until(12)

    opened.press("h")
    assert opened.taken() == 1
    opened.wait("gseg.state.hides")
    assert opened.hidden() == {12}
    assert opened.ask(f"gseg.pick({', '.join(map(str, opened.place(12)))})?.row ?? 0") != opened.ask(
        "gseg.scene.objects.findIndex((one) => one.id === 12) + 1"
    )
    opened.press("Control+z")
    assert opened.taken() == 1
    opened.wait("!gseg.state.hides")

    opened.click(11)
    opened.click(13, "Shift")
    opened.click(15, "Shift")
    opened.press("i")
    assert opened.taken() == 4
    opened.wait("gseg.state.hides")
    assert opened.hidden() == {12, 14, 16}

    opened.press("e")
    assert opened.taken() <= 2
    exports = opened.ply.with_name(opened.ply.name + NOTES) / "exports"
    opened.wait("document.getElementById('status').textContent.startsWith('Wrote 3 files')")
    files = sorted(exports.iterdir())
    assert [PlyData.read(str(file))["vertex"].count for file in files] == [300] * 3

    opened.click(15)
    opened.until(15)
    opened.taken()
    opened.press("n")
    opened.page.keyboard.type(HOSTILE)
    opened.press("Enter")
    assert opened.taken() == 2
    opened.wait("gseg.scene.objects.some((one) => one.name.endsWith('mug'))")
    row = opened.page.locator("#objects li.selected")
    assert row.locator(".text").inner_text() == HOSTILE
    assert opened.page.locator("#objects img").count() == 0


def test_lines_are_drawn_with_the_mouse_once_each(opened: Opened) -> None:
    groups = page_scene()[1]

    def around(group: int, half: float = 55) -> list[tuple[float, float]]:
        x, y = opened.place(group)
        return [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]

    def found(most: int) -> set[int]:
        """The groups that most of what is selected is of."""
        opened.wait("gseg.state.gaussians > 0")
        selected = torch.tensor(opened.ask("[...gseg.scene.selected]")).bool()
        counts = torch.bincount(groups[selected], minlength=17)[11:]
        return set((11 + counts.argsort(descending=True)[:most]).tolist())

    said = "document.getElementById('status').textContent"
    for key, name in (("o", "Outline"), ("g", "Outline"), ("b", "Brush"), ("x", "Rectangle")):
        opened.ask("gseg.ask('change', ['none'])")
        opened.press(key)
        opened.settle()
        if key == "o":
            opened.drag(*around(15))
        elif key == "g":
            for corner in [*around(15), around(15)[0]]:
                opened.page.mouse.click(*corner)
        elif key == "b":
            opened.ask("document.getElementById('brush-radius').value = 40")
            opened.drag(opened.place(14), opened.place(15))
        else:
            opened.drag(around(15)[0], around(15)[2])
        opened.wait(f"{said}.startsWith('{name}')")
        assert found(2 if key == "b" else 1) == ({14, 15} if key == "b" else {15}), key
        opened.press("Escape")
        assert opened.ask("gseg.tools.tool") == "click"


def test_the_gizmo_moves_and_undo_puts_back(opened: Opened) -> None:
    opened.click(15)
    opened.until(15)
    opened.press("m")
    opened.wait("gseg.tools.handle.isThere")
    opened.settle()
    version = opened.ask("gseg.scene.version")
    x, y = opened.place(15)
    opened.drag((x, y), (x + 30, y - 60))
    opened.wait(f"gseg.scene.version > {version}")
    opened.wait("document.getElementById('status').textContent.startsWith('Move')")
    opened.settle()
    row = opened.ask("gseg.scene.objects.findIndex((one) => one.id === 15) + 1")
    opened.press("Escape")
    picked = "gseg.pick({}, {})?.row ?? 0"
    assert opened.ask(picked.format(x + 25, y - 55)) == row, "it is hit where it is now"
    opened.press("Control+z")
    opened.wait(f"gseg.scene.version > {version + 1}")
    opened.settle()
    assert opened.ask(picked.format(x + 25, y - 75)) != row
    assert opened.ask(picked.format(x, y)) == row


def test_a_lost_connection_is_told_and_found_again(opened: Opened) -> None:
    opened.click(13)
    opened.until(13)
    opened.ask("gseg.link.socket.close()")
    # That it is lost may be over before anybody looks; what was said of it stays.
    opened.wait("document.getElementById('status').textContent.includes('lost')")
    opened.wait("gseg.link.isOpen && !document.body.classList.contains('lost')")
    opened.until(13)
    opened.click(16, "Shift")
    opened.until(13, 16)
    opened.settle()


def test_two_browsers_see_one_session(opened: Opened) -> None:
    other = opened.page.context.browser.new_page(viewport={"width": 500, "height": 300})
    other.goto(opened.address)
    opened.click(14)
    opened.until(14)
    end = time.monotonic() + 60
    while other.evaluate("window.gseg?.state.called") != "group 14":
        assert time.monotonic() < end
        other.wait_for_timeout(50)
    other.close()


def test_a_name_is_typed_to_its_end_while_others_edit(opened: Opened) -> None:
    opened.click(12)
    opened.until(12)
    opened.press("n")
    opened.page.keyboard.type("ket")
    opened.ask("gseg.ask('name', [13, 'of another'])")
    # A smaller object is further down the list.
    opened.ask("gseg.ask('range', ['size', 0, 0.02, true], {mode: 'intersect'}).then(() => gseg.ask('remove'))")
    opened.wait("gseg.scene.objects.some((one) => one.name === 'of another')")
    opened.page.keyboard.type("tle")
    opened.press("Enter")
    opened.wait("gseg.scene.objects.find((one) => one.id === 12)?.name === 'kettle'")
    assert opened.page.locator("#objects input").count() == 0
    names = opened.page.locator("#objects .text").all_inner_texts()
    assert {"kettle", "of another"} <= set(names)


def test_a_name_changes_nothing_of_what_is_selected(opened: Opened) -> None:
    """The key that ends it is not pressed on the row as well."""
    opened.click(12)
    opened.click(14, "Shift")
    opened.until(12, 14)
    opened.press("n")
    opened.page.keyboard.type("pot")
    opened.press("Enter")
    opened.wait("document.getElementById('status').textContent.includes('is now')")
    opened.page.wait_for_timeout(200)
    assert "is now" in opened.ask("document.getElementById('status').textContent")
    opened.until(12, 14)


def test_numbers_of_a_tool_leave_the_list_where_it_is(opened: Opened) -> None:
    top = "document.getElementById('objects').getBoundingClientRect().top"
    before = opened.ask(top)
    for tool in ("flood", "move", "range"):
        opened.ask(f"gseg.commands['{tool}'].run()")
        opened.wait(f"!document.querySelector('[data-tool~={tool}]').hidden")
        assert opened.ask(top) == before, tool
        opened.press("Escape")


def test_a_box_takes_what_the_picture_hides_unless_it_is_told_not_to(opened: Opened) -> None:
    box = "document.getElementById('through')"
    counts = []
    for through in ("true", "false"):
        opened.click(12)
        opened.until(12)
        opened.ask("gseg.commands.box.run()")
        opened.wait("gseg.tools.handle.isThere")
        assert opened.ask(f"{box}.checked")
        if through == "false":
            opened.ask(f"{box}.click()")
        opened.ask("gseg.tools.page.said({said: 'before', well: true})")
        opened.ask("document.getElementById('box-select').click()")
        opened.wait("document.getElementById('status').textContent.startsWith('Box: ')")
        said = opened.ask("document.getElementById('status').textContent")
        counts.append(int(re.findall(r"[\d,]+", said)[0].replace(",", "")))
        opened.ask("gseg.commands.flood.run()")
        assert not opened.ask(f"{box}.checked"), "tools on the picture have their own"
        opened.press("Escape")
        opened.ask("gseg.ask('undo')")
    assert 0 < counts[1] < counts[0]
    opened.ask("gseg.commands.range.run()")
    assert not opened.ask(f"{box}.checked"), "as it was chosen for the box"
    opened.ask(f"{box}.click()")
    opened.press("Escape")


def test_an_emptied_number_is_none_and_not_zero(opened: Opened) -> None:
    opened.click(12)
    opened.until(12)
    status = "document.getElementById('status').textContent"
    form = "document.querySelector('form[data-ask=opacity]')"
    steps = opened.ask("JSON.stringify(gseg.state.steps)")
    opened.ask(f"{form}.querySelector('input').value = ''")
    opened.ask(f"{form}.requestSubmit()")
    opened.wait(f"{status} === 'That is no number. Type one.'")
    assert opened.ask("JSON.stringify(gseg.state.steps)") == steps
    opened.press("m")
    opened.wait("gseg.tools.handle.isThere")
    opened.ask("document.getElementById('shift-x').value = ''")
    opened.ask("gseg.tools.page.said({said: 'before', well: true})")
    opened.ask("document.getElementById('move-apply').click()")
    opened.wait(f"{status} === 'That is no number. Type one.'")
    opened.press("Escape")


def test_keys_work_beside_a_field_that_is_not_typed_in(opened: Opened) -> None:
    opened.press("x")
    opened.page.focus("#through")
    assert opened.ask("document.activeElement.id") == "through"
    painted = opened.ask("gseg.scene.painted")
    opened.press("c")
    assert opened.ask("gseg.scene.painted") is not painted
    opened.press("c")
    opened.press("Escape")


def test_a_link_leads_to_a_view_and_objects_once(opened: Opened) -> None:
    """The view is in the address of the page; what is selected only in a link that is taken along."""
    opened.click(13)
    opened.until(13)
    opened.look()
    opened.ask(
        "Object.defineProperty(navigator, 'clipboard', {configurable: true, value: "
        "{writeText: async (text) => { window.copied = text; }}})"
    )
    opened.press("l")
    address = opened.ask("window.copied")
    assert "object=13" in address
    assert "token" not in address
    assert "object" not in opened.ask("location.hash"), "who loads the page again selects for everybody"
    # Without a clipboard it is where addresses are, also just after a movement, which is remembered later.
    opened.ask("Object.defineProperty(navigator, 'clipboard', {configurable: true, value: undefined})")
    opened.ask("gseg.stage.orbit.dispatchEvent({type: 'change'})")
    opened.press("l")
    opened.page.wait_for_timeout(500)
    assert opened.ask("location.href") == address
    opened.ask("delete navigator.clipboard")
    eye = opened.ask("gseg.stage.camera.position.toArray()")
    opened.click(12)
    opened.until(12)
    opened.ask("gseg.commands.home.run()")
    opened.wait("gseg.stage.isSettled && !location.hash.includes('object')")
    opened.ask(f"void (location.hash = {urlsplit(address).fragment!r})")
    opened.until(13)
    assert np.allclose(opened.ask("gseg.stage.camera.position.toArray()"), eye, atol=1e-3)
    # An object alone: it is gone there. What makes no sense is not followed.
    opened.ask("void (location.hash = '#object=15')")
    opened.until(15)
    assert "object" not in opened.ask("location.hash"), "it is followed once"
    # What is not here is not waited for.
    opened.ask("void (location.hash = '#object=999')")
    opened.wait("document.getElementById('status').textContent.includes('not here')")
    opened.until(15)
    opened.ask("gseg.ask('change', ['none'])")
    opened.until()
    opened.ask("void (location.hash = '#object=999,15')")
    opened.until(15)
    opened.wait("document.getElementById('status').textContent.includes('not here')")
    opened.ask("void (location.hash = '#eye=a,b,c&object=999,x&at=<script>')")
    # A page that is loaded anew is where it was, and what is selected is the session's.
    opened.ask("gseg.commands.home.run()")
    opened.wait("gseg.stage.isSettled && location.hash.startsWith('#eye=')")
    opened.click(14, "Shift")
    opened.until(14, 15)
    opened.page.reload()
    opened.settle()
    opened.until(14, 15)
    middle = (-page_scene()[0].means.median(dim=0).values).tolist()
    opened.ask(f"gseg.state.centre = {middle}")


def test_the_list_has_small_pictures_that_follow_edits(opened: Opened) -> None:
    def red(group: int) -> float:
        """How much redder than green the picture of a group is."""
        data = opened.ask(f"[...(gseg.panel.portraits.drawn.get({group})?.data ?? [])]")
        picture = np.array(data, float).reshape(-1, 4)
        return float(((picture[:, 0] - picture[:, 1]) * picture[:, 3]).sum() / picture[:, 3].sum()) if data else -1000.0

    end = time.monotonic() + 60
    while red(13) == -1000:
        assert time.monotonic() < end
        opened.page.wait_for_timeout(50)
    assert red(13) < 100
    opened.click(13)
    opened.until(13)
    opened.ask("gseg.ask('recolor', [255, 0, 0])")
    while red(13) < 180:
        assert time.monotonic() < end
        opened.page.wait_for_timeout(50)


COLORS = """Object.fromEntries([...gseg.panel.portraits.drawn].map(([id, {data}]) => {
    const sums = [0, 0, 0, 0];
    for (let p = 0; p < data.length; p += 4) {
        for (let c = 0; c < 3; c++) sums[c] += data[p + c] * data[p + 3];
        sums[3] += data[p + 3];
    }
    return [id, sums.slice(0, 3).map((sum) => Math.round(sum / Math.max(sums[3], 1)))];
}))"""
"""What color the small picture of each object has."""


def test_small_pictures_are_of_their_objects_while_a_name_is_typed(opened: Opened) -> None:
    """The list stays as it is meanwhile, and its rows are others' then."""
    opened.wait("gseg.panel.portraits.drawn.size > 2")
    right = opened.ask(COLORS)
    opened.press("Escape")
    opened.ask("gseg.panel.edit(2)")
    gone = opened.ask("gseg.scene.objects[0].id")
    opened.ask(f"gseg.ask('pick', [{gone}]).then(() => gseg.ask('remove'))")
    opened.wait("gseg.scene.objects.length === 5")
    opened.page.wait_for_timeout(700)
    opened.page.keyboard.press("Escape")
    opened.wait("gseg.panel.portraits.drawn.size > 2")
    now = opened.ask(COLORS)
    assert len(now.keys() & right.keys()) >= 2
    assert str(gone) not in now
    assert {name: color for name, color in now.items() if name in right} == {
        name: right[name] for name in now if name in right
    }


def test_a_list_of_another_scale_takes_its_names_along(
    asking: tuple[Opened, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, desk = asking
    opened.wait("gseg.panel.portraits.drawn.size > 2")
    opened.ask("gseg.panel.edit(1)")
    opened.page.keyboard.type("of another scale")
    with monkeypatch.context() as unknown:
        unknown.setattr(type(desk.controller), "_knows_groups", property(lambda self: False))
        desk._refresh()
        opened.wait("gseg.state.listed === false && !document.querySelector('#objects li')")
        opened.page.wait_for_timeout(200)
        assert opened.page.locator("#objects input").count() == 0
        opened.ask("void (location.hash = '#object=12')")
        opened.page.wait_for_timeout(200)
        assert opened.ask("gseg.state.selected.length") == 0
        assert "object=12" in opened.ask("location.hash")
    desk._refresh()
    opened.until(12)  # the link waited for the list
    opened.wait("gseg.panel.portraits.drawn.size > 2")
    assert all(max(color) > 0 for color in opened.ask(COLORS).values())
    assert not any(one["name"] for one in desk._state["objects"])
    opened.look()  # the link led elsewhere


def test_clean_borders_is_offered_where_views_are(asking: tuple[Opened, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """And a button and a key do what its box says."""
    opened, desk = asking
    assert opened.ask("document.getElementById('clean-part').hidden")
    asked: list[Any] = []

    def export(message: Any) -> str:
        asked.append(message.values)
        return "Exported."

    monkeypatch.setattr(desk, "_export_objects", export)
    opened.click(12)
    opened.until(12)
    desk._clean = lambda *_: None
    desk._refresh()
    opened.wait("!document.getElementById('clean-part').hidden")
    for ticked in (True, False):
        opened.ask(f"document.getElementById('clean').checked = {str(ticked).lower()}")
        opened.press("e")
        opened.wait("document.getElementById('status').textContent === 'Exported.'")
        opened.ask("gseg.tools.page.said({said: 'before', well: true})")
    assert asked == [[True], [False]]
    desk._clean = None
    desk._refresh()


@pytest.fixture(scope="module")
def asking(opened: Opened, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Opened, Any]]:
    """A page whose server is in this process, so that it may ask stand-ins for models."""
    ply = write_scene(tmp_path_factory.mktemp("asking") / "scene.ply")
    splats, groups = page_scene()

    def search(text: str, model: str, say: Callable[[str], None]) -> torch.Tensor:
        say("Reading photographs …")
        return groups == {"ball": 11, "cube": 12}[text]

    with served(ply) as (address, desk):
        desk._search = search
        desk._refresh()
        browser = opened.page.context.browser
        page = browser.new_context(viewport={"width": 1040, "height": 520}, color_scheme="light").new_page()
        other = Opened(page, ply, address)
        page.on("pageerror", lambda error: other.heard.append(f"error: {error}"))
        page.goto(address)
        other.settle()
        other.ask(f"gseg.state.centre = {(-splats.means.median(dim=0).values).tolist()}")
        other.look()
        yield other, desk
        assert other.heard == []
        page.context.close()


def _fill(opened: Opened, form: str, *texts: str) -> None:
    """Type into a form, and press its button."""
    opened.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    part = opened.page.locator(f"form[data-ask='{form}']")
    for place, text in enumerate(texts):
        part.locator("input:not([type=checkbox])").nth(place).fill(text)
    part.get_by_role("button").click()


def test_a_text_is_found(asking: tuple[Opened, Any]) -> None:
    """By a stand-in for CLIP."""
    opened, _ = asking
    _fill(opened, "text", "ball", "stand/in")
    opened.until(11)
    opened.page.locator("[data-command=mode-add]").click()
    _fill(opened, "text", "cube", "stand/in")
    opened.until(11, 12)
    opened.page.locator("[data-command=mode-set]").click()


def test_an_object_is_swapped_for_another(asking: tuple[Opened, Any]) -> None:
    opened, desk = asking
    opened.click(14)
    opened.until(14)
    _fill(opened, "keep", "cube")
    opened.wait("gseg.state.names.includes('cube')")
    opened.click(13)
    opened.until(13)
    version = opened.ask("gseg.scene.version")
    _fill(opened, "swap", "cube")
    opened.wait(f"gseg.scene.version > {version}")
    assert type(desk.controller.state().operations[-1]).__name__ == "Swap"
    opened.settle()
    assert opened.ask(f"Boolean(gseg.pick({', '.join(map(str, opened.place(13)))}))"), "nothing is where it was"
    # What there is none of is told where it was asked for.
    _fill(opened, "swap", "no such thing")
    opened.wait("document.getElementById('status').classList.contains('refused')")
    opened.ask("gseg.ask('undo')")
    opened.wait(f"gseg.scene.version > {version + 1}")


def test_a_click_is_followed_by_a_tracker(asking: tuple[Opened, Any]) -> None:
    """By a stand-in for a video model: what the server does with its answer is tested where it is done."""
    opened, desk = asking
    asked: list[tuple[str, str, str]] = []
    groups = desk.controller.model.gaussian_groups()

    def mark(sam: str, track: str, view: Any, x: float, y: float, mode: str) -> str:
        asked.append((sam, track, mode))
        desk._say("Looking at it from all around …")
        with desk.controller._held() as session:
            count = desk.controller._select(session, groups == 16, mode, "select by a tracker")
        return f"Tracked: {count:,} Gaussians selected."

    desk._acting.mark = mark
    opened.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    opened.page.locator("#track").fill("some/tracker")
    opened.page.keyboard.press("Enter")
    opened.click(11)
    opened.until(16)
    assert asked == [("", "some/tracker", "set")]
    opened.wait("document.getElementById('status').textContent.startsWith('Tracked')")
    opened.page.locator("#track").fill("")
    opened.click(11)
    opened.until(11)
    assert len(asked) == 1


def test_what_is_not_shown_of_very_many_objects_is_not_shown(opened: Opened) -> None:
    """Rows of splats on the graphics card are 16-bit numbers."""
    opened.ask(
        "(async () => { const { scene } = gseg, count = scene.rows.length, bytes = Math.ceil(count / 8);"
        "const rows = new ArrayBuffer(16 + 2 * count), marks = new ArrayBuffer(16 + 2 * bytes);"
        "new Uint32Array(rows, 0, 4).set([2, 0, count, 0]); new Uint32Array(marks, 0, 4).set([3, 0, count, 0]);"
        "new Uint16Array(rows, 16).fill(30000); new Uint8Array(marks, 16 + bytes).fill(255);"
        "await scene.take(rows); await scene.take(marks); })()"
    )
    opened.wait("gseg.stage.isSettled")
    data = base64.b64decode(opened.ask("gseg.stage.picture()").split(",")[1])
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert int(np.ptp(picture, axis=(0, 1)).max()) <= 2, "something is drawn"
    opened.page.reload()
    opened.settle()
    splats, _ = page_scene()
    opened.ask(f"gseg.state.centre = {(-splats.means.median(dim=0).values).tolist()}")
