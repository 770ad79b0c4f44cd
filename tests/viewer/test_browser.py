"""The Segment tab in a real browser."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from viser import _messages

from browser_driver import (
    CHROMIUM,
    WINDOW,
    Hand,
    Running,
    browsing,
    chromium,
    find_view,
    ground_truth,
    interior,
    iou,
    two_objects,
)
from gseg_ns.runs.run import load_run
from gseg_ns.selection import prompts_sam
from gseg_ns.selection.store import GROUP_NAMES_FILE
from gseg_ns.viewer.controller import SegmentController
from gseg_ns.viewer.reach import FOLDERS

pytestmark = [
    pytest.mark.browser,
    # In CI a missing browser is a failure.
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no chromium on this machine"),
]


class Predictor:
    """A SAM whose masks are discs around the points."""

    def set_image(self, picture: np.ndarray) -> None:
        self.shape = picture.shape[:2]

    def predict(self, points: np.ndarray, labels: np.ndarray, multimask_output: bool) -> tuple[Any, ...]:
        y, x = np.mgrid[: self.shape[0], : self.shape[1]]
        near = [np.hypot(x - px, y - py) < 0.05 * self.shape[0] for px, py in points]
        return np.any(near, axis=0)[None], np.ones(1), None


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def running(constructed_run: Path, browser: Any) -> Iterator[Running]:
    with browsing(constructed_run, browser) as running:
        yield running


def test_click_refine_and_undo(running: Running, ball_room: Path) -> None:
    camera, truth = find_view(running, ball_room)
    first, second = two_objects(truth)
    running.look(camera)
    box = running.picture()
    before = np.asarray(running.screenshot(box)).astype(int)

    # click + on an object: its mask as rendered from that camera is the ground truth's
    running.click("Replace", camera, *interior(truth == first))
    assert iou(running.rendered(camera), truth == first) >= 0.8
    selected = running.controller.selected
    running.settle()
    shown = np.asarray(running.screenshot(box)).astype(int)
    x, y = running.canvas(camera, *interior(truth == first))
    spot = int(y - box["y"]), int(x - box["x"])
    assert np.abs(shown[spot] - before[spot]).sum() > 20, "the picture in the browser is not highlighted"

    # click + on a neighbour and - on it again
    running.click("Add", camera, *interior(truth == second))
    both = running.controller.selected
    assert iou(running.rendered(camera), (truth == first) | (truth == second)) >= 0.8
    running.click("Remove", camera, *interior(truth == second))
    assert iou(running.rendered(camera), truth == first) >= 0.8
    assert torch.equal(running.controller.selected, selected)

    # undo restores the former selection exactly
    assert running.said("Undo") == f"Undone: take away group {second}."
    assert torch.equal(running.controller.selected, both)
    running.said("Undo")
    assert torch.equal(running.controller.selected, selected)

    # the mouse moves the camera between clicks
    pose = np.array(running.client().camera.position)
    centre = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    running.page.mouse.move(*centre)
    running.page.mouse.down()
    running.page.mouse.move(centre[0] + 80, centre[1], steps=4)
    running.page.mouse.up()
    running.wait(lambda: np.abs(np.array(running.client().camera.position) - pose).max() > 1e-3, "the camera")
    running.look(camera)

    # and so does a short drag, which selects nothing
    running.settle()
    pose = np.array(running.client().camera.position)
    x, y = running.canvas(camera, *interior(truth == second))
    running.page.mouse.move(x, y)
    running.page.mouse.down()
    running.page.mouse.move(x + 5, y)
    running.page.mouse.up()
    running.wait(lambda: np.abs(np.array(running.client().camera.position) - pose).max() > 1e-3, "the camera")
    running.page.wait_for_timeout(300)
    assert torch.equal(running.controller.selected, selected)
    running.look(camera)

    # a click while a render runs
    running.viewer._trigger_rerender()
    said = running.click("Replace", camera, *interior(truth == first))
    assert "group" in said
    assert torch.equal(running.controller.selected, selected)

    # what it hit stands in a notification of this browser
    running.page.locator(".mantine-Notification-root").get_by_text(said).wait_for()


def resize(running: Running, window: dict[str, Any]) -> None:
    """Change the window of the browser, and wait until the viewer knows."""
    before = running.client().camera.aspect
    running.page.set_viewport_size(window)
    running.wait(lambda: abs(running.client().camera.aspect - before) > 0.01, "the size")
    running.settle()


@pytest.fixture
def small(running: Running) -> Iterator[Running]:
    """The same page in a small laptop's window, its session anew."""
    resize(running, {"width": 1280, "height": 720})
    running.clear()
    if running.controller.hides():
        running.said("Show all")
    yield running
    resize(running, WINDOW)


def test_few_clicks_and_nothing_scrolled(small: Running, ball_room: Path) -> None:
    """The common jobs in a window of 1280 x 720: presses since nothing was selected, modifier keys held apart."""
    running, page, hand = small, small.page, Hand(small.page)
    camera, truth = find_view(running, ball_room)
    counts = np.bincount(truth.ravel())
    counts[0] = 0
    objects = [int(name) for name in np.argsort(-counts)[:3]]
    running.look(camera)
    status = running.panel.answers.said

    def answered(act: Any, text: str) -> None:
        status.content = ""
        act()
        running.wait(lambda: text in status.content, text)

    def click(name: int) -> None:
        answered(lambda: hand.click_at(*running.canvas(camera, *interior(truth == name))), f"group {name}")

    def button(name: str) -> Any:
        return page.locator(".gseg").get_by_role("button", name=name, exact=True)

    # one object, a second one, and both away
    click(objects[0])
    assert hand.take() == (1, 0)
    with hand.holding("Shift"):
        click(objects[1])
    assert hand.take() == (1, 1)
    assert iou(running.rendered(camera), np.isin(truth, objects[:2])) >= 0.8
    page.locator(".gseg button").get_by_text("Hide 2 objects").wait_for()
    answered(lambda: hand.click(button("Hide")), "Hide 2 objects: done")
    assert hand.take() == (1, 0)  # the third of all
    assert running.controller.hides()
    answered(lambda: hand.click(button("Undo")), "Undone: hide 2 objects.")
    assert hand.take() == (1, 0)
    assert not running.controller.hides()

    # the same without a key that is held: the second one by the box of its row
    def tick(name: int) -> None:
        # Its label says what the object is called.
        answered(lambda: hand.click(page.locator(f'.row[data-id="{name}"] button.tick')), "selected")

    running.clear()
    click(objects[0])
    tick(objects[1])
    assert hand.take() == (2, 0)
    page.locator(".gseg button").get_by_text("Hide 2 objects").wait_for()
    tick(objects[1])
    assert iou(running.rendered(camera), truth == objects[0]) >= 0.8
    tick(objects[1])
    tick(objects[2])
    page.locator(".gseg button").get_by_text("Isolate 3 objects").wait_for()
    assert hand.take() == (3, 0)
    answered(lambda: hand.click(button("Isolate")), "Isolate 3 objects: done")
    assert hand.take() == (1, 0)  # the fourth: one, two boxes, isolate
    running.said("Undo")

    # three alone: a key that is held counts, too
    running.clear()
    click(objects[0])
    with hand.holding("Shift"):
        click(objects[1])
        click(objects[2])
    page.locator(".gseg button").get_by_text("Isolate 3 objects").wait_for()
    answered(lambda: hand.click(button("Isolate")), "Isolate 3 objects: done")
    assert sum(hand.take()) == 5
    assert iou(running.rendered(camera, "accumulation"), np.isin(truth, objects)) >= 0.8
    running.said("Undo")

    # the mode in place of a key that is held
    running.clear()
    click(objects[0])
    hand.click(button("Add"))
    click(objects[1])
    assert hand.take() == (3, 0)
    hand.click(button("Replace"))

    # a name, from the list and with a key
    click(objects[0])
    hand.take()
    # The key names what the page shows as selected, which on a busy machine comes after the answer.
    running.wait(
        lambda: page.locator(".row.on").evaluate_all("all => all.map(row => Number(row.dataset.id))") == [objects[0]],
        "the row of what was clicked",
    )
    for name, act in (
        ("Ball", lambda: hand.click(page.locator(f'.row[data-id="{objects[0]}"]').get_by_label("Rename").first)),
        ("Big ball", lambda: hand.key("n")),
    ):
        act()
        hand.type(name)
        answered(lambda: hand.key("Enter"), f"is now “{name}”")
        assert hand.take() == (2, 0)
    page.locator(".row.on").get_by_text("Big ball").wait_for()
    for _ in range(2):
        running.said("Undo")

    # three as files: drawn over in the list, or from one to the other with Shift
    page.get_by_label("Order of the list").select_option("id")
    first, third = (page.locator(".row").nth(number) for number in (0, 2))

    def with_shift() -> None:
        answered(lambda: hand.click(first), "Gaussians selected")
        with hand.holding("Shift"):
            hand.click(third)

    for act, presses in ((lambda: hand.drag(first, third), (2, 0)), (with_shift, (3, 1))):
        running.clear()
        act()
        page.locator(".gseg button").get_by_text("Export 3 objects").wait_for()
        answered(lambda: hand.click(button("Export")), "Wrote 3 files")
        assert hand.take() == presses
        shutil.rmtree(running.config.parent / "exports")

    # each of the common jobs has one button, which stays where it is however long an answer is
    def places() -> list[Any]:
        return [button(name).bounding_box() for name in ("Undo", "Hide", "Isolate", "Show all", "Export")]

    running.clear()
    for name in ("Hide", "Isolate", "Show all"):
        assert page.get_by_role("button", name=name, exact=True).count() == 1, name
    before = places()
    assert None not in before
    running.panel.answers.say("What takes many words " * 30)
    page.get_by_text("What takes many words").first.wait_for()
    assert places() == before

    # all buttons of the tab are in sight
    for one in page.locator(".gseg > .line button, .gseg .grid button").all():
        box = one.bounding_box()
        assert box is None or (box["x"] >= 0 and box["x"] + box["width"] <= 1280 and box["y"] + box["height"] <= 720)


def test_no_press_in_the_list_is_lost(small: Running, ball_room: Path) -> None:
    """Boxes of rows pressed before there are answers, and while the list is told what is new."""
    running, page = small, small.page
    _, truth = find_view(running, ball_room)
    first, second, third = np.argsort(-np.bincount(truth[truth > 0]))[:3].tolist()

    def box(name: int) -> Any:
        return page.locator(f'.row[data-id="{name}"] button.tick')

    def shown(*names: int) -> bool:
        on = page.locator(".row.on").evaluate_all("rows => rows.map(row => Number(row.dataset.id))")
        return sorted(on) == sorted(names)

    # the answers come after all of them
    go = threading.Event()
    running.panel.answers.queue(lambda: go.wait(60))
    for name in (first, second, second, third):
        box(name).click()
    page.wait_for_timeout(300)
    assert shown()
    go.set()
    running.wait(lambda: shown(first, third), "the boxes")
    assert set(running.controller.picked().groups) == {first, third}

    # new names and pictures while the mouse is down
    for name, told in ((second, "a ball"), (third, "another")):
        place = box(name).bounding_box()
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        page.mouse.down()
        running.controller.label(name, told)
        running.panel.answers.queue(running.panel.answers.refresh)
        page.locator(f'.row[data-id="{name}"] .name').get_by_text(told, exact=True).wait_for()
        running.panel.show(pictures={name: f"data:image/gif;base64,{told.encode().hex()}"})
        page.wait_for_timeout(300)
        page.mouse.up()
    running.wait(lambda: shown(first, second), "the boxes")
    for _ in range(2):
        running.controller.undo()
    running.panel.answers.queue(running.panel.answers.refresh)


def test_tools(small: Running, ball_room: Path) -> None:
    """The tab's tools once; what moving does is in `test_tools`."""
    running, page = small, small.page
    camera, truth = find_view(running, ball_room)
    first, second = two_objects(truth)
    running.look(camera)
    assert "Selected group" in running.click("Replace", camera, *interior(truth == first))
    whole = running.controller.selected

    def take(tool: str) -> None:
        page.get_by_role("button", name=tool, exact=True).click()
        running.wait(lambda: page.locator(f'.gseg button.on[aria-label="{tool}"]').count() == 1, tool)

    def press(name: str) -> str:
        running.panel.answers.said.content = ""
        page.locator(".strip").get_by_role("button", name=name, exact=True).click()
        running.wait(lambda: running.panel.answers.said.content != "", name)
        return str(running.panel.answers.said.content)

    # around what is selected; the handle is in the picture
    for tool in ("Sphere", "Box"):
        take(tool)
        page.locator(".strip button").first.wait_for()
        assert "Gaussians" in press("Select")
        assert iou(running.controller.selected.numpy(), whole.numpy()) >= 0.7
        running.said("Undo")
        assert torch.equal(running.controller.selected, whole)

    # its numbers take room of the list, and not that of what is selected
    page.locator(".row").last.click()
    running.wait(lambda: not torch.equal(running.controller.selected, whole), "the row")
    for tool in ("Objects", "Range", "Objects"):
        take(tool)
        page.wait_for_timeout(300)
        row, rows = (page.locator(one).last.bounding_box() for one in (".row", ".rows"))
        assert row["y"] + row["height"] <= rows["y"] + rows["height"] + 1, tool
    running.said("Undo")
    assert torch.equal(running.controller.selected, whole)

    for tool in ("Flood", "Color"):
        take(tool)
        running.point(camera, *interior(truth == first))
        assert bool((running.controller.selected & whole).any())
        running.said("Undo")

    take("Range")
    page.get_by_label("Smallest").fill("24")
    press("Select")
    assert 0 < int(running.controller.selected.sum()) < len(whole)
    running.said("Undo")
    page.get_by_label("What the range is of").select_option("opacity")
    page.locator(".strip").get_by_text("0 to 1", exact=True).wait_for()
    page.get_by_label("Smallest").fill("0")
    press("Select")
    assert bool(running.controller.selected.all())
    through = page.locator(".gseg .tools button[aria-label='Through']")
    through.click()  # what the picture shows of it alone
    press("Select")
    assert 0 < int(running.controller.selected.sum()) < len(whole)
    through.click()
    running.said("Undo")
    running.said("Undo")
    page.get_by_label("Largest").fill("24")  # all here are of one opacity above a half
    press("Select")
    assert not bool(running.controller.selected.any())

    take("Rectangle")
    y, x = np.nonzero(truth == first)
    corners = [
        running.canvas(camera, float(at_x), float(at_y)) for at_x, at_y in ((x.min(), y.min()), (x.max(), y.max()))
    ]
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1], steps=5)
    page.mouse.up()
    running.wait(lambda: "Rectangle" in running.panel.answers.said.content, "the rectangle")
    assert iou(running.rendered(camera), truth == first) >= 0.5
    running.said("Undo")

    # two clicks, and what their distance is in truth
    take("Measure")
    for name, answer in ((first, "second point"), (second, "between the two points")):
        assert answer in running.point(camera, *interior(truth == name))
    page.get_by_label("Its true length in m").fill("2.5")
    assert "in metres from now on" in press("Set")
    page.locator(".strip").get_by_text("2.5 m").wait_for()
    running.said("Undo")

    take("Objects")


def test_a_slow_page_shows_all_of_the_picture(running: Running) -> None:
    """viser takes a fifth of the pixels a side where a page is drawn slowly."""
    page, client = running.page, running.client()
    running.viewer._trigger_rerender()
    running.settle()
    store = "viewer.sceneRef.current.children.map((one) => one.__r3f?.root).find(Boolean)"
    told = f"window.theViser = viewer; window.theStore = {store}"
    client._websock_connection.queue_message(_messages.RunJavascriptMessage(told))
    page.wait_for_function("window.theStore !== undefined")  # itself it would be called
    shown = "theViser.backgroundMaterialRef.current.uniforms.colorMap.value.image"
    page.wait_for_function(f"{shown}.height > theStore.getState().size.height / 2")  # the fine one
    page.wait_for_timeout(300)
    # At once, for viser measures all the time.
    look = f"""() => [0.2, 0.28, 1].map((ratio) => {{
        const {{ setDpr, gl, size }} = theStore.getState();
        setDpr(ratio);
        return [gl.domElement.height, {shown}.height, size.height];
    }})"""
    fifth, more, whole = page.evaluate(look)
    for drawn, needed, most in (fifth, more):
        assert needed - 1 <= drawn < most
    assert abs(whole[0] - whole[2]) <= 1, "more than needed is viser's to choose"


def test_nothing_that_is_typed_is_lost(running: Running) -> None:
    """viser's page sends the last of quick changes alone, be they of one field or of several."""
    page, widgets = running.page, running.panel.widgets
    change = """(texts) => {
        const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
        for (const [name, text] of texts) {
            const path = `(//*[text()="${name}"])[last()]/following::input[1]`;
            const one = document.evaluate(path, document, null, XPathResult.FIRST_ORDERED_NODE_TYPE).singleNodeValue;
            set.call(one, text);
            one.dispatchEvent(new Event("input", { bubbles: true }));
        }
    }"""
    running.unfold("Select more")
    for sam, track in (("a.pth", "a-tracker"), ("", "")):
        page.wait_for_timeout(300)
        page.evaluate(change, [["SAM", sam[:-1]], ["SAM", sam], ["Track", track[:-1]], ["Track", track], ["Name", sam]])
        running.wait(lambda sam=sam, track=track: (widgets.sam, widgets.track) == (sam, track), "what was typed")
    running.unfold("Select more")


def test_what_comes_late_changes_nothing_newer(running: Running) -> None:
    """viser delivers what several threads tell in any order; here by hand."""
    page = running.page
    running.panel.answers.say("Told last")
    page.get_by_text("Told last").first.wait_for()
    number = next(running.panel._page._numbers)
    for later, text in ((0.5, "Told after"), (-0.5, "Told before")):
        page.evaluate("told => { gsegLater.push(told); gsegTab.take(); }", [number + later, {"said": text}])
    assert page.locator(".said").text_content() == "Told after"


def test_two_browsers_share_a_session(running: Running, browser: Any, ball_room: Path) -> None:
    """Each clicks in its own view; both show what is selected."""
    dataset = running.viewer.pipeline.datamanager.eval_dataset
    camera, truth = find_view(running, ball_room)
    first, second = two_objects(truth)
    other_view, other_truth = next(
        (dataset.cameras[view : view + 1], labels)
        for view, path in enumerate(dataset.image_filenames)
        if (labels := ground_truth(ball_room, path)).shape == truth.shape
        and not np.array_equal(labels, truth)
        and (labels == second).sum() > 500
    )
    running.look(camera)
    running.clear()
    running.click("Replace", camera, *interior(truth == first))
    selected = running.controller.selected
    before = set(running.viewer.viser_server.get_clients())
    page = browser.new_page(viewport=WINDOW)
    try:
        page.set_default_timeout(90_000)
        page.goto(running.page.url, wait_until="domcontentloaded")
        running.wait(lambda: bool(set(running.viewer.viser_server.get_clients()) - before), "the second browser")
        (client_id,) = set(running.viewer.viser_server.get_clients()) - before
        other = Running(running.viewer, page, running.config, [], client_id)
        page.get_by_role("tab", name="Segment").click(timeout=60_000)
        page.get_by_text(f"Hide group {first}").first.wait_for()
        other.look(other_view)
        pose = np.array(running.client().camera.position)
        other.click("Add", other_view, *interior(other_truth == second))
        both = running.controller.selected
        assert bool((both >= selected).all())
        assert iou(running.rendered(other_view), (other_truth == first) | (other_truth == second)) >= 0.8
        running.page.locator(".gseg button").get_by_text("Hide 2 objects").first.wait_for()
        assert np.array_equal(np.array(running.client().camera.position), pose)
        # back to the first one, which takes away what the second one chose
        running.click("Remove", camera, *interior(truth == second))
        assert torch.equal(running.controller.selected, selected)
        page.get_by_text(f"Hide group {first}").first.wait_for()
    finally:
        page.close()
    running.wait(lambda: set(running.viewer.viser_server.get_clients()) == before, "the second browser to go")
    running.click("Add", camera, *interior(truth == second))
    assert torch.equal(running.controller.selected, both)


def test_isolate_export_and_reload(running: Running, ball_room: Path) -> None:
    from plyfile import PlyData

    camera, truth = find_view(running, ball_room)
    first, _ = two_objects(truth)
    running.look(camera)
    running.clear()
    running.click("Replace", camera, *interior(truth == first))
    selected = running.controller.selected

    # isolate shows only the object
    running.said("Isolate")
    assert iou(running.rendered(camera, "accumulation"), truth == first) >= 0.8

    # export writes the selected Gaussians
    assert "Wrote 1 file" in running.said("Export")
    (path,) = (running.config.parent / "exports").glob("*.ply")
    vertex = PlyData.read(path)["vertex"]
    means = running.viewer.pipeline.model.means.detach()[selected].numpy()
    assert np.array_equal(np.stack([vertex[axis] for axis in "xyz"], 1), means)
    shutil.rmtree(path.parent)

    # and a run of its own, with the command that exports it
    running.unfold("Export")
    assert "Wrote" in running.said("Isolate to new run")
    assert running.panel.widgets.command_field.value.startswith("ns-export gaussian-splat")

    # a name for it, kept on disk at once
    name = "{largest} <thing>"
    running.press("Name")
    field = running.page.get_by_label("Name of the object")
    field.fill(name)
    field.press("Enter")
    running.wait(lambda: {g.id: g.name for g in running.controller.groups()}[first] == name, "the name")
    running.wait((running.config.parent / GROUP_NAMES_FILE).exists, "the name on disk")
    running.page.locator(".row.on").get_by_text(name).wait_for()

    # a reload keeps the session
    old = running.client().client_id
    running.page.reload(wait_until="domcontentloaded")
    running.wait(lambda: any(c != old for c in running.viewer.viser_server.get_clients()), "the reload", 60)
    running.page.get_by_role("tab", name="Segment").click(timeout=60_000)
    running.page.get_by_text(f"Hide {name}").first.wait_for(timeout=60_000)
    assert torch.equal(running.controller.selected, selected)

    # and so does another viewer
    running.panel.answers.saved()
    again = SegmentController(running.viewer.pipeline.model)
    assert "Restored selections, edits, names of groups" in again.load(running.config.parent)
    assert torch.equal(again.selected, selected)


def test_scale_threshold_and_text(
    constructed_saga_run: Path,
    constructed_run: Path,
    browser: Any,
    ball_room: Path,
    tiny_clip: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a method that is prompted by features has beside."""
    from gseg_ns.lifting.text import ClipEncoder

    loaded: list[str] = []
    monkeypatch.setattr(ClipEncoder, "load", lambda name, device: (loaded.append(name), tiny_clip)[1])
    monkeypatch.setenv(FOLDERS, str(constructed_run.parent))  # an object of it is taken below
    with browsing(constructed_saga_run, browser) as running:
        camera, truth = find_view(running, ball_room)
        first, second = two_objects(truth)
        running.look(camera)
        running.click("Replace", camera, *interior(truth == first))
        assert "the object" in running.panel.answers.said.content
        assert iou(running.rendered(camera), truth == first) >= 0.8
        selected = running.controller.selected
        running.click("Add", camera, *interior(truth == second))
        assert iou(running.rendered(camera), (truth == first) | (truth == second)) >= 0.8
        running.said("Undo")
        assert torch.equal(running.controller.selected, selected)

        # the largest scale: all objects and not the room
        running.clear()
        running.click("Replace", camera, *interior(truth == first))
        running.fill("Scale", "1")
        running.wait(lambda: "Scale 1.00" in running.panel.answers.said.content, "the scale")
        assert iou(running.rendered(camera), truth > 0) >= 0.8
        running.fill("Scale", "0.1")
        running.wait(lambda: torch.equal(running.controller.selected, selected), "the scale")
        running.fill("Threshold", "1")
        running.wait(lambda: not running.controller.selected.any(), "the threshold")
        running.fill("Threshold", "0.75")
        running.wait(lambda: torch.equal(running.controller.selected, selected), "the threshold")

        # clusters of features are the objects
        assert "objects." in running.said("List the objects")
        assert abs(len(running.controller.groups()) - len(np.unique(truth))) <= 3
        running.page.locator(".row").first.wait_for()
        running.unfold("Select more")

        # text, with a CLIP that knows no words: that it answers, and with what, and that clicks go on meanwhile
        running.fill("CLIP", "tiny")
        running.fill("Text", "a mug")
        running.press("Find by text")
        running.wait(lambda: "“a mug”" in running.panel.answers.said.content, "the text", 300)
        assert loaded == ["tiny"]
        running.clear()
        running.click("Replace", camera, *interior(truth == first))
        assert torch.equal(running.controller.selected, selected)

        # SAM answers: all points on a view are one prompt, and the mode says how it meets what is there
        monkeypatch.setattr(prompts_sam, "load_predictor", lambda path, device: Predictor())
        running.fill("SAM", "sam.pth")
        for points in (1, 2):
            running.panel.browser(running.client().client_id).mode = "set" if points == 1 else "add"
            said = f"SAM, {points} point"
            running.panel.answers.said.content = ""
            running.page.mouse.click(*running.canvas(camera, *interior(truth == (first, second)[points - 1])))
            running.wait(lambda said=said: said in running.panel.answers.said.content, said)
        assert iou(running.rendered(camera), (truth == first) | (truth == second)) >= 0.8
        running.fill("SAM", "")
        running.clear()
        running.click("Replace", camera, *interior(truth == first))
        assert torch.equal(running.controller.selected, selected)

        # an object of another run takes its place
        running.unfold("Edit")
        running.fill("Swap with", f"{constructed_run}#{second}")
        running.press("Swap")
        running.wait(lambda: "Swap: done" in running.panel.answers.said.content, "the other run", 120)
        count = int((load_run(constructed_run).model.gaussian_groups() == second).sum())
        assert int(running.controller.selected.sum()) == count
