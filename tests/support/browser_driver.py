"""Nerfstudio's viewer in a real browser: what the tests of the Segment tab and `benchmarks/viewer.py` drive it with."""

from __future__ import annotations

import copy
import io
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import viser.transforms as vtf
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WINDOW = {"width": 960, "height": 640}


@dataclass
class Running:
    """A viewer with a browser before it."""

    viewer: Any
    page: Any
    config: Path
    frames: list[tuple[float, int]]
    """Arrival and size of what the browser got."""
    client_id: int | None = None
    """Which of several browsers; None: the first."""

    @property
    def panel(self) -> Any:
        return self.viewer.pipeline.model.panel

    @property
    def controller(self) -> Any:
        return self.panel.controller

    def client(self) -> Any:
        clients = self.viewer.viser_server.get_clients()
        return next(iter(clients.values())) if self.client_id is None else clients[self.client_id]

    def settle(self, seconds: float = 60.0) -> None:
        """Wait until the browser shows the last full-resolution render."""
        machine = self.viewer.render_statemachines[self.client().client_id]
        end = time.monotonic() + seconds
        quiet = 0
        while time.monotonic() < end and quiet < 6:
            quiet = quiet + 1 if machine.state == "high" and machine.next_action is None else 0
            self.page.wait_for_timeout(100)
        self.page.wait_for_timeout(500)

    def sharpen(self) -> None:
        """Wait until the browser shows the picture at its full resolution, with the mouse off the panel.

        The panel shows a scroll bar under the mouse. On a busy machine a picture is sent seconds after the viewer says
        that it is being drawn, and seconds later shown.
        """
        self.page.mouse.move(self.page.viewport_size["width"] / 2, 10)
        scene, most = self.client().scene, self.viewer.control_panel._max_res.value
        sent: list[np.ndarray] = []
        send = scene.set_background_image

        def listen(image: np.ndarray, **how: Any) -> None:
            send(image, **how)
            sent.append(image)

        scene.set_background_image = listen
        try:
            self.viewer._trigger_rerender()
            self.wait(lambda: bool(sent) and max(sent[-1].shape) == most, "the picture", 120)
        finally:
            del scene.set_background_image
        image, box = sent[-1], self.picture()
        least = 0.7 * _detail(Image.fromarray(image).resize((round(box["width"]), round(box["height"]))))
        for _ in range(20):
            self.page.wait_for_timeout(3000)
            if _detail(self.screenshot(box)) > least:
                return
        raise AssertionError("the browser does not show the picture")

    def reload(self) -> None:
        """Load the page anew, and open the tab."""
        before = set(self.viewer.viser_server.get_clients())
        self.page.reload(wait_until="domcontentloaded")
        self.wait(lambda: bool(set(self.viewer.viser_server.get_clients()) - before), "the reload")
        self.wait(lambda: not before & set(self.viewer.viser_server.get_clients()), "the page before to go")
        self.page.get_by_role("tab", name="Segment").click(timeout=60_000)
        self.settle()

    def look(self, camera: Any) -> None:
        """Put the browser's camera where a photograph was taken."""
        c2w = camera.camera_to_worlds.reshape(3, 4).double().numpy()
        client = self.client()
        for _ in range(5):  # what the browser says of a camera before, after a change of its size, may come afterwards
            with client.atomic():
                client.camera.fov = float(2 * np.arctan(float(camera.height) / 2 / float(camera.fy)))
                client.camera.wxyz = (vtf.SO3.from_matrix(c2w[:, :3]) @ vtf.SO3.from_x_radians(np.pi)).wxyz
                client.camera.position = c2w[:, 3] * 10
            client.flush()
            self.settle()
            if np.allclose(client.camera.position, c2w[:, 3] * 10, atol=1e-3):
                return

    def canvas(self, camera: Any, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of a photograph is on the page, seen from its camera."""
        box = self.picture()
        zoom = box["height"] / float(camera.height)
        return (
            box["x"] + box["width"] / 2 + (x - float(camera.cx)) * zoom,
            box["y"] + box["height"] / 2 + (y - float(camera.cy)) * zoom,
        )

    def picture(self) -> dict[str, float]:
        """Where the picture is on the page: the canvas without what the panel covers."""
        box = self.page.locator("canvas").first.bounding_box()
        return {**box, "width": box["height"] * self.client().camera.aspect}

    def screenshot(self, clip: dict[str, float] | None = None) -> Image.Image:
        """What the page, or a box of it, looks like."""
        return Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB")

    def press(self, label: str, nth: int = 0) -> None:
        self.page.get_by_role("button", name=label, exact=True).nth(nth).click()

    def unfold(self, label: str) -> None:
        """Open a folder of the tab. The viewer's own tabs come before it and may have the same name."""
        self.page.get_by_text(label, exact=True).last.click()

    def fill(self, label: str, value: str) -> None:
        """Change the field that stands behind a label of the tab, and wait until the viewer has it.

        Nothing on the page says when that is, and the server's threads let a click overtake it.
        """
        field = self.page.locator(
            f'xpath=(//*[text()="{label}"])[last()]/following::input[not(@type="range" or @type="hidden")][1]'
        )
        field.fill(value)
        field.press("Enter")
        handles = self.viewer.viser_server.gui._gui_input_handle_from_id
        known = [handle for handle in handles.values() if handle._impl.label == label]
        self.wait(lambda: any(_reads(handle.value, value) for handle in known), f"“{value}” in {label}")

    def retype(self, old: str, new: str) -> None:
        """Change a text field that reads `old`; viser's labels do not name their fields."""
        fields = [field for field in self.page.locator("input").all() if field.input_value() == old]
        assert len(fields) == 1, f"{len(fields)} fields read {old}"
        fields[0].fill(new)

    def wait(self, done: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"waited in vain for {what}: {self.panel.answers.said.content}"
            self.page.wait_for_timeout(30)

    def click(self, mode: str, camera: Any, x: float, y: float) -> str:
        """Choose a mode (Replace, Add, Remove, Intersect), click on the picture, and return what is said."""
        chosen = self.page.get_by_role("button", name=mode, exact=True)
        if "on" not in (chosen.get_attribute("class") or "").split():
            chosen.click()
        return self.point(camera, x, y)

    def point(self, camera: Any, x: float, y: float) -> str:
        """Click on the picture, and return what is said."""
        self.panel.answers.said.content = ""
        self.page.mouse.click(*self.canvas(camera, x, y))
        self.wait(lambda: self.panel.answers.said.content != "", "the click")
        return str(self.panel.answers.said.content)

    def said(self, label: str) -> str:
        """Press a button of the tab and return what is said."""
        self.panel.answers.said.content = ""
        self.press(label)
        self.wait(lambda: self.panel.answers.said.content != "", label)
        return str(self.panel.answers.said.content)

    def clear(self) -> None:
        """Select nothing."""
        if self.controller.selected.any():
            self.said("Select none")

    def rendered(self, camera: Any, output: str = "selection") -> np.ndarray:
        """What the selection, or everything that is drawn, covers in a view."""
        with self.controller._lock:
            return (self.controller.outputs(copy.deepcopy(camera), None)[output][..., 0] > 0.5).numpy()


def _reads(value: Any, typed: str) -> bool:
    """Whether a field's value is what was typed."""
    return value == (typed if isinstance(value, str) else float(typed))


def _detail(picture: Image.Image) -> float:
    """How much pixels differ from their neighbours."""
    return float(np.abs(np.diff(np.asarray(picture.convert("L"), float), axis=1)).mean())


_PLACE = """one => {
    const {x, y, width, height} = one.getBoundingClientRect();
    const there = document.elementFromPoint(x + width / 2, y + height / 2);
    return {x, y, width, height, seen: one.contains(there), there: there ? there.outerHTML.slice(0, 200) : ""};
}"""
"""Where an element is, and whether it is what is seen in its middle."""


class Hand:
    """Mouse and keyboard of somebody who never scrolls: presses are counted, and hit what is in sight.

    A drag is one press. What is typed into a field is not counted, and modifier keys apart.
    """

    def __init__(self, page: Any) -> None:
        self._page = page
        self.presses = 0
        self.modifiers = 0
        # A browser's own driver scrolls to what it clicks on.
        self._scrolled_before = self._scrolled()

    def take(self) -> tuple[int, int]:
        """Presses since this was asked last, and modifier keys held for them."""
        taken = self.presses, self.modifiers
        self.presses = self.modifiers = 0
        return taken

    @contextmanager
    def holding(self, key: str) -> Iterator[None]:
        """Hold a modifier key."""
        self.modifiers += 1
        self._page.keyboard.down(key)
        yield
        self._page.keyboard.up(key)

    def click_at(self, x: float, y: float) -> None:
        """Click on a place of the window."""
        size = self._page.viewport_size
        inside = 0 <= x < size["width"] and 0 <= y < size["height"]
        assert inside, f"({x}, {y}) is outside of the window"
        self.presses += 1
        self._page.mouse.click(x, y)
        self._see_nothing_scrolled()

    def click(self, element: Any) -> None:
        """Click on the middle of an element."""
        self.click_at(*self._middle(element))

    def drag(self, first: Any, last: Any) -> None:
        """Draw from one element to another."""
        ends = self._middle(first), self._middle(last)
        self.presses += 1
        self._page.mouse.move(*ends[0])
        self._page.mouse.down()
        self._page.mouse.move(*ends[1], steps=5)
        self._page.mouse.up()
        self._see_nothing_scrolled()

    def key(self, key: str) -> None:
        """Press a key."""
        self.presses += 1
        self._page.keyboard.press(key)
        self._see_nothing_scrolled()

    def type(self, text: str) -> None:
        """Type into the field that has the focus."""
        self._page.keyboard.type(text)

    def _middle(self, element: Any) -> tuple[float, float]:
        """The middle of an element, all of which is in the window, and which nothing hides there."""
        # A list that is drawn anew takes a moment: two looks have to find the same.
        deadline, box, before, size = time.monotonic() + 30, None, None, self._page.viewport_size
        while not (box and box == before and box["seen"]) and time.monotonic() < deadline:
            self._page.wait_for_timeout(100)
            before, box = box, element.evaluate(_PLACE)
        assert box is not None
        across = box["x"] >= 0 and box["x"] + box["width"] <= size["width"]
        down = box["y"] >= 0 and box["y"] + box["height"] <= size["height"]
        assert across, f"{box} is outside of the window"
        assert down, f"{box} is outside of the window"
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        assert box["seen"], f"what is at ({x}, {y}) hides what is to be clicked: {box['there']}"
        return x, y

    def _see_nothing_scrolled(self) -> None:
        assert self._scrolled() == self._scrolled_before, "something has been scrolled"

    def _scrolled(self) -> list[Any]:
        """What of the page is scrolled, and how far."""
        # The list of objects shows by itself what is selected.
        script = """() => [...document.querySelectorAll("*")].filter(
            (e) => !e.classList.contains("rows") && (e.scrollTop > 0 || e.scrollLeft > 0)).map(
            (e) => [e.className, e.scrollTop, e.scrollLeft])"""
        return list(self._page.evaluate(script))


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def timing(drawn: str, is_ready: str = "true") -> str:
    """A script for a page of ours before it is loaded: its splats are not drawn, and it takes times.

    Milliseconds: in `readyAt` when it was ready; in `clicks` how long each click took until all was done for it.

    Args:
        drawn: what draws the splats, in `gseg`.
        is_ready: whether what people need is there, once `gseg` is.
    """
    return f"""Object.defineProperty(window, "gseg", {{configurable: true, set(gseg) {{
        Object.defineProperty(window, "gseg", {{value: gseg}});
        gseg.{drawn}.visible = false;
        window.clicks = [];
        addEventListener("pointerup", (event) => clicks.push(performance.now() - event.timeStamp));
        const look = () => {{
            if ({is_ready}) window.readyAt = performance.now();
            else requestAnimationFrame(look);
        }};
        look();
    }}}});"""


@contextmanager
def viewing(config_path: Path) -> Iterator[Any]:
    """Open a run in Nerfstudio's viewer."""
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.utils import writer
    from nerfstudio.utils.eval_utils import eval_setup
    from nerfstudio.viewer.viewer import Viewer

    config, pipeline, _, step = eval_setup(config_path)
    assert isinstance(config, TrainerConfig)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config.viewer.websocket_port, config.viewer.websocket_host = port, "127.0.0.1"
    viewer = Viewer(
        config.viewer,
        log_filename=config_path.parent / "viewer_log.txt",
        datapath=pipeline.datamanager.get_datapath(),
        pipeline=pipeline,
        train_lock=threading.Lock(),
    )
    config.logging.local_writer.enable = False
    writer.setup_local_writer(config.logging, max_iter=config.max_num_iterations)
    viewer.init_scene(pipeline.datamanager.train_dataset, "completed", pipeline.datamanager.eval_dataset)
    viewer.update_scene(step)
    try:
        yield viewer
    finally:
        viewer.viser_server.stop()


@contextmanager
def browsing(config_path: Path, browser: Any = None, window: dict[str, int] | None = None) -> Iterator[Running]:
    """Open a run in Nerfstudio's viewer and a page on it, of a browser of its own unless one is given."""
    frames: list[tuple[float, int]] = []

    def listen(connection: Any) -> None:
        connection.on("framereceived", lambda data: frames.append((time.perf_counter(), len(data))))

    with viewing(config_path) as viewer, chromium() if browser is None else nullcontext(browser) as browser:
        page = browser.new_page(viewport=window or WINDOW)
        page.set_default_timeout(90_000)
        page.on("websocket", listen)
        page.goto(f"http://127.0.0.1:{viewer.viser_server.get_port()}", wait_until="domcontentloaded")
        running = Running(viewer, page, config_path, frames)
        running.wait(lambda: bool(viewer.viser_server.get_clients()), "the browser", 60)
        page.get_by_role("tab", name="Segment").click(timeout=60_000)
        running.press("Hide Train Cams")
        running.settle()
        yield running
        page.close()


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def interior(mask: np.ndarray) -> tuple[float, float]:
    """The pixel farthest from the mask's border."""
    from scipy.ndimage import distance_transform_edt

    y, x = np.unravel_index(distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1].argmax(), mask.shape)
    return float(x) + 0.5, float(y) + 0.5


def two_objects(truth: np.ndarray) -> tuple[int, int]:
    """The two objects that a view shows most of."""
    counts = np.bincount(truth.ravel())
    counts[0] = 0
    first, second = np.argsort(-counts)[:2]
    return int(first), int(second)


def ground_truth(scene: Path, image: Path, folder: str = "gt/object") -> np.ndarray:
    """The objects that a photograph shows, int64 [H, W]."""
    return np.asarray(Image.open(scene / folder / f"{image.stem}.png")).astype(np.int64)


def find_view(running: Running, scene: Path, folder: str = "gt/object") -> tuple[Any, np.ndarray]:
    """The held-out view whose two largest objects are largest, and its ground truth."""
    dataset = running.viewer.pipeline.datamanager.eval_dataset
    best: tuple[int, Any, np.ndarray] | None = None
    for view, path in enumerate(dataset.image_filenames):
        truth = ground_truth(scene, path, folder)
        size = int(np.sort(np.bincount(truth.ravel())[1:])[-2])
        if best is None or size > best[0]:
            best = size, dataset.cameras[view : view + 1], truth
    assert best is not None
    return best[1], best[2]
