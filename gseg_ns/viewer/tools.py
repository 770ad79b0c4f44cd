"""The tools of the Segment tab: what a click and a drag on the picture mean in one browser, and its handles."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from gseg_ns.data.cameras import to_camera
from gseg_ns.editing.operations import Duplicate, Transform
from gseg_ns.errors import GsegError
from gseg_ns.rendering.camera import Camera
from gseg_ns.selection.colors import TOLERANCE
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.selection import Mode
from gseg_ns.selection.shapes import Box
from gseg_ns.viewer.commands import number, value
from gseg_ns.viewer.controller import SegmentController
from gseg_ns.viewer.handles import RATIO, Handle, degrees_of, draw_line, quaternion_of
from gseg_ns.viewer.shaping import Extent, Property, Vector

if TYPE_CHECKING:
    import viser
    from nerfstudio.viewer.viewer import Viewer

CLICK_HEIGHT = 720
"""Pixels in which the position of a click is expressed."""

TOOLS = ("click", "rectangle", "sphere", "box", "flood", "color", "range", "measure", "move")
_HINTS = {
    "rectangle": "Drag a rectangle over the picture.",
    "sphere": "Move the sphere with its handle, then press Select.",
    "box": "Move and turn the box with its handle, then press Select.",
    "flood": "Click: what is connected with the spot and of like color is meant.",
    "color": "Click: all that has the color of the spot is meant.",
    "range": "Choose a range, then press Select.",
    "measure": "Click on two points.",
    "move": "Move and turn with the handle, or by numbers, then press Move.",
}
_WHERE = {tool: "picture" for tool in ("rectangle", "flood", "color")} | {
    tool: "space" for tool in ("sphere", "box", "range")
}
_CLICK = "Click on an object in the picture."
_LIMIT = 1e6  # of lengths, in units of the scene


@dataclass
class Browser:
    """What one browser has chosen for itself."""

    mode: Mode = "set"
    held: Mode | None = None
    """While a modifier key is down."""
    tool: str = "click"
    through: dict[str, bool] = field(default_factory=lambda: {"picture": False, "space": True})
    """Whether tools on the picture, and those in space, take what the picture hides, too."""
    open: bool = True
    """Whether the tab is what it shows."""
    notification: Any = None
    """The one that it shows."""
    tolerance: float = TOLERANCE
    handle: Handle | None = None
    edges: Vector = (0.0, 0.0, 0.0)
    """Of the box that it places; of a sphere, its diameter."""
    size: float = 1.0
    """Factor by which what it moves grows."""
    moves: Any = None
    """The state in which what it moves was selected."""
    measured: list[Vector] = field(default_factory=list)
    line: Any = None
    ranged: Property = "size"

    @property
    def reach(self) -> bool | None:
        """Whether its tool takes what the picture hides, too; None: that says nothing to this tool."""
        return self.through.get(_WHERE.get(self.tool, ""))

    def reach_other(self) -> None:
        """Take what the picture hides with tools such as its own, or leave it out."""
        if self.reach is not None:
            self.through[_WHERE[self.tool]] = not self.reach

    @property
    def means(self) -> Mode:
        """How what it selects meets the selection."""
        return self.held or self.mode

    def put_away(self) -> None:
        """Take what it has placed out of its picture."""
        for shown in (self.handle, self.line):
            if shown is not None:
                shown.remove()
        self.handle, self.line, self.moves, self.measured, self.size = None, None, None, [], 1.0


class Tools:
    """Tools of all browsers. Called from the tab's thread alone."""

    def __init__(
        self,
        viewer: Viewer,
        controller: SegmentController,
        browser_of: Callable[[int], Browser],
        queue: Callable[[Callable[[], None]], None],
        do: Callable[[Callable[[], str], int | None], None],
        show: Callable[..., None],
    ) -> None:
        """Work for a tab.

        Args:
            viewer: Nerfstudio's.
            controller: what is worked on.
            browser_of: what a client has chosen.
            queue: does something in the tab's thread.
            do: runs an action for a client, says what came of it, and draws.
            show: shows a client named values.
        """
        self._viewer = viewer
        self._controller = controller
        self._browser = browser_of
        self._queue = queue
        self._do = do
        self._shown_unit = self._unit
        self._show = show

    def _client(self, client: int) -> viser.ClientHandle | None:
        return self._viewer.viser_server.get_clients().get(client)

    def _camera(self, handle: viser.ClientHandle) -> Camera:
        from nerfstudio.viewer.utils import get_camera

        return to_camera(get_camera(self._viewer.get_camera_state(handle), CLICK_HEIGHT))

    @property
    def _unit(self) -> tuple[str, float]:
        """Name of the unit of lengths that browsers see, and how many of them are in one of the scene."""
        metres = self._controller.metres
        return ("units", 1.0) if metres is None else ("m", metres)

    # ------------------------------------------------------------------------------------------------- choosing

    def choose(self, client: int, tool: str, hints: bool = True) -> None:
        """Take a tool. While a rectangle is drawn, the mouse does not move the camera: it is for one.

        Args:
            client: whose.
            tool: of `TOOLS`.
            hints: whether what it is for is said; else what was said last stays, such as an answer.
        """
        handle = self._client(client)
        if handle is None or tool not in TOOLS:
            return
        browser = self._browser(client)
        browser.put_away()
        before, browser.tool = browser.tool, tool
        with warnings.catch_warnings():  # viser warns when nothing was registered
            warnings.simplefilter("ignore")
            handle.scene.remove_pointer_callback()
        if tool == "rectangle":

            @handle.scene.on_pointer_event(event_type="rect-select")
            def _(event: viser.ScenePointerEvent) -> None:
                camera = self._camera(event.client)  # as it is now, not when others have been served
                self._queue(lambda: self._dragged(event, camera))

        if hints and (tool in _HINTS or before in _HINTS):  # else what was said last stays, such as what was restored
            self._show(client, said=_HINTS.get(tool, _CLICK), well=True)
        if tool in ("sphere", "box"):
            self._place_shape(client, handle)
        elif tool == "move":
            self.follow()
        self.show(client)

    def show(self, client: int) -> None:
        """Show a browser its tool, and the numbers of it."""
        browser = self._browser(client)
        name, factor = self._unit
        place: dict[str, Any] = {}
        if browser.tool in ("flood", "color"):
            place = {"tolerance": browser.tolerance}
        elif browser.tool == "sphere":
            place = {"radius": browser.edges[0] / 2 * factor}
        elif browser.tool == "box":
            place = {"edges": [edge * factor for edge in browser.edges]}
        elif browser.tool == "measure" and len(browser.measured) == 2:
            place = {"length": math.dist(*browser.measured) * factor}
        elif browser.tool == "move" and browser.handle is not None:
            shift = [(a - b) * factor for a, b in zip(browser.handle.position, browser.handle.centre, strict=True)]
            place = {"shift": shift, "turn": degrees_of(browser.handle.quaternion), "size": browser.size}
        elif browser.tool == "range":
            try:
                found = self._controller.histogram(browser.ranged)
                scale = factor if browser.ranged == "size" else 1.0
                ends = {"low": found.low * scale, "high": found.high * scale}
                place = {"property": browser.ranged, **ends, "counts": found.counts}
            except GsegError:
                place = {}
        mode = {"mode": browser.mode, "through": browser.reach}
        self._show(client, **mode, tool=browser.tool, place=place, unit=name)

    def _place_shape(self, client: int, handle: viser.ClientHandle) -> None:
        """Put a sphere or a box around what is selected, or where the picture's middle is."""
        camera, browser = self._camera(handle), self._browser(client)
        try:
            extent = self._controller.extent()
        except GsegError:
            try:
                centre = self._controller.point_at(camera, camera.width / 2, camera.height / 2)
            except GsegError:
                x, y, z = (np.asarray(handle.camera.look_at) / RATIO).tolist()
                centre = x, y, z
            edge = 0.2 * self._distance(handle, centre)
            extent = Extent(centre, centre, (edge, edge, edge))
        browser.edges = extent.size
        if browser.tool == "sphere":
            diameter = math.hypot(*extent.size)
            browser.edges = (diameter, diameter, diameter)
        reach = 0.2 * self._distance(handle, extent.centre)
        browser.handle = Handle(handle.scene, extent.centre, reach, lambda: None)
        self._outline(browser)

    def _outline(self, browser: Browser) -> None:
        if browser.handle is None:
            return
        if browser.tool == "sphere":
            browser.handle.outline_sphere(browser.edges[0] / 2)
        else:
            browser.handle.outline_box(browser.edges)

    @staticmethod
    def _distance(handle: viser.ClientHandle, centre: Vector) -> float:
        return max(math.dist((np.asarray(handle.camera.position) / RATIO).tolist(), centre), 1e-3)

    def follow(self) -> None:
        """Put the handles that move things where these are now, and show lengths in the unit that they have now."""
        state, unit = self._controller.state(), self._unit
        renamed, self._shown_unit = unit != self._shown_unit, unit
        for client, handle in self._viewer.viser_server.get_clients().items():
            browser = self._browser(client)
            if renamed:
                self.show(client)
            if browser.tool != "move" or browser.moves is state:
                continue
            browser.put_away()
            browser.moves = state
            try:
                extent = self._controller.extent()
            except GsegError:
                self.show(client)
                continue
            reach = 0.2 * self._distance(handle, extent.pivot)
            offset = cast(Vector, tuple(a - b for a, b in zip(extent.centre, extent.pivot, strict=True)))

            def moved(client: int = client) -> None:
                self._queue(lambda: self.show(client))

            browser.handle = Handle(handle.scene, extent.pivot, reach, moved, offset)
            browser.edges = extent.size
            self._outline(browser)
            self.show(client)

    # ----------------------------------------------------------------------------------------------- the picture

    def _dragged(self, event: viser.ScenePointerEvent, camera: Camera) -> None:
        client = event.client_id
        assert client is not None
        browser = self._browser(client)
        corner, opposite = ((x * camera.width, y * camera.height) for x, y in event.screen_pos)
        mode, seen = browser.means, not browser.reach
        self._do(lambda: self._controller.drag(camera, corner, opposite, mode, seen), client)
        self.choose(client, "click", hints=False)  # the answer stays

    def click(self, client: int, camera: Camera, x: float, y: float, mode: Mode) -> bool:
        """Answer a click with the tool of a browser.

        Args:
            client: the browser.
            camera: the view that was clicked on.
            x: pixel column.
            y: pixel row.
            mode: how it meets the selection.

        Returns:
            Whether the tool has an answer of its own.
        """
        browser = self._browser(client)
        if browser.tool in ("flood", "color"):
            flood, through = browser.tool == "flood", bool(browser.reach)
            self._do(
                lambda: self._controller.select_like(camera, x, y, flood, browser.tolerance, mode, through), client
            )
            return True
        if browser.tool == "measure":
            self._do(lambda: self._measure(client, camera, x, y), client)
            return True
        return False

    def _measure(self, client: int, camera: Camera, x: float, y: float) -> str:
        browser, handle = self._browser(client), self._client(client)
        point = self._controller.point_at(camera, x, y)
        if len(browser.measured) == 2:
            browser.put_away()
        browser.measured.append(point)
        if len(browser.measured) < 2:
            self.show(client)
            return "Click on the second point."
        if handle is not None:
            browser.line = draw_line(handle.scene, *browser.measured)
        self.show(client)
        name, factor = self._unit
        length = math.dist(*browser.measured) * factor
        return f"{length:.3f} {'m' if name == 'm' else 'units of the scene'} between the two points."

    # ------------------------------------------------------------------------------------------- what pages ask

    def command(self, client: int, name: str, values: list[Any]) -> bool:
        """Do what a page asks of its tool.

        Returns:
            Whether it is one of these.
        """
        asked: dict[str, Callable[[int, list[Any]], None]] = {
            "tolerance": self._set_tolerance,
            "shape": self._set_shape,
            "place": self._set_place,
            "apply": self._apply,
            "range": self._select_range,
            "ranged": self._set_ranged,
            "length": self._set_length,
        }
        if name not in asked:
            return False
        try:
            asked[name](client, values)
        except GsegError as error:
            said = str(error)

            def refuse() -> str:
                raise GsegError(said)

            self._do(refuse, client)
        return True

    def _set_tolerance(self, client: int, values: list[Any]) -> None:
        self._browser(client).tolerance = number(values, 0, 0, 100)
        self.show(client)

    def _set_shape(self, client: int, values: list[Any]) -> None:
        browser, (_, factor) = self._browser(client), self._unit
        if browser.tool == "sphere":
            diameter = 2 * number(values, 0, 1e-6, _LIMIT) / factor
            browser.edges = (diameter, diameter, diameter)
        elif browser.tool == "box":
            x, y, z = (number(values, axis, 1e-6, _LIMIT) / factor for axis in range(3))
            browser.edges = x, y, z
        self._outline(browser)
        self.show(client)

    def _set_place(self, client: int, values: list[Any]) -> None:
        browser, (_, factor) = self._browser(client), self._unit
        if browser.tool != "move" or browser.handle is None:
            return
        x, y, z = (at + number(values, axis, -_LIMIT, _LIMIT) / factor for axis, at in enumerate(browser.handle.centre))
        turn = cast(Vector, tuple(number(values, 3 + axis, -3600, 3600) for axis in range(3)))
        browser.size = number(values, 6, 0.01, 1000)
        browser.handle.place((x, y, z), quaternion_of(turn))
        self.show(client)

    def _apply(self, client: int, values: list[Any]) -> None:
        what, browser = value(values, 0, str), self._browser(client)
        handle, mode = browser.handle, browser.means
        if handle is None:
            raise GsegError("Nothing is selected. Click on an object first.")
        if what == "select" and browser.tool == "sphere":
            seen = self._looks(client)
            self._do(lambda: self._controller.select_sphere(handle.position, browser.edges[0] / 2, mode, seen), client)
        elif what == "select" and browser.tool == "box":
            box, seen = Box(handle.position, browser.edges, handle.quaternion), self._looks(client)
            self._do(lambda: self._controller.select_box(box, mode, seen), client)
        elif what in ("move", "copy") and browser.tool == "move":
            shift = cast(Vector, tuple(a - b for a, b in zip(handle.position, handle.centre, strict=True)))
            turn, size = handle.quaternion, browser.size
            kind = Transform if what == "move" else Duplicate

            def make(mask: PackedMask) -> Transform | Duplicate:
                return kind(mask=mask, translation=shift, rotation=turn, scale=size)

            self._do(lambda: self._controller.edit_selection(make), client)

    def _looks(self, client: int) -> Camera | None:
        """The view of a browser whose tool takes what it shows alone; None of one that takes what is hidden, too.

        Raises:
            GsegError: the browser has gone, and what its view showed with it.
        """
        if self._browser(client).reach:
            return None
        handle = self._client(client)
        if handle is None:
            raise GsegError("The page has been closed: what its view shows is not known any more.")
        return self._camera(handle)

    def _select_range(self, client: int, values: list[Any]) -> None:
        browser, (_, factor) = self._browser(client), self._unit
        scale = factor if browser.ranged == "size" else 1.0
        low, high = (number(values, index, 0, _LIMIT) / scale for index in range(2))
        mode, ranged, seen = browser.means, browser.ranged, self._looks(client)
        self._do(lambda: self._controller.select_range(ranged, low, high, mode, seen), client)

    def _set_ranged(self, client: int, values: list[Any]) -> None:
        if values and values[0] in get_args(Property):
            self._browser(client).ranged = values[0]
        self.show(client)

    def _set_length(self, client: int, values: list[Any]) -> None:
        browser = self._browser(client)
        if len(browser.measured) != 2:
            raise GsegError("Click on two points first.")
        metres = number(values, 0, 1e-6, 1e6)
        self._do(lambda: self._controller.set_length(math.dist(*browser.measured), metres), client)
