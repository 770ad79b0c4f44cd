"""The "Segment" tab of Nerfstudio's viewer: browsers meet the session here, by way of viser."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO as RATIO
from nerfstudio.viewer.viewer_elements import ViewerControl
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.errors import GsegError
from gseg_ns.selection.picking import warm_up
from gseg_ns.selection.selection import Mode
from gseg_ns.viewer.answers import Answers
from gseg_ns.viewer.clicks import Clicks, Hit, view_of
from gseg_ns.viewer.commands import number, value
from gseg_ns.viewer.controller import SegmentController
from gseg_ns.viewer.page import Page
from gseg_ns.viewer.tools import CLICK_HEIGHT, Browser, Tools
from gseg_ns.viewer.widgets import Widgets, tab

if TYPE_CHECKING:
    import viser
    from nerfstudio.viewer.viewer import Viewer

    from gseg_ns.models.base import SegmentationModel


class SegmentPanel(ViewerControl):
    """Selecting, editing and exporting objects in the browser: the `Front` in Nerfstudio's viewer.

    The viewer finds it as an attribute of the model and sets it up; without a viewer it does nothing. All browsers
    share one session, which outlives a reload.
    """

    def __init__(self, model: SegmentationModel) -> None:
        """Belong to a model; the viewer calls `_setup` when there is one."""
        self._model = model
        self.controller: SegmentController | None = None
        self._browsers: dict[int, Browser] = {}

    # ------------------------------------------------------------------------------------------------ drawing

    def is_drawing(self) -> bool:
        """Whether the render that runs now is for a browser: evaluation and `ns-render` show the run as it is."""
        return self.controller is not None and isinstance(threading.current_thread(), RenderStateMachine)

    def outputs(self, camera: Cameras, crop: OrientedBox | None) -> dict[str, Tensor]:
        """Render a view with edits and highlight."""
        assert self.controller is not None
        control = self.viewer.control_panel
        shown = {control.output_render, control.split_output_render} if control.split else {control.output_render}
        drawing = threading.current_thread()
        moving = isinstance(drawing, RenderStateMachine) and drawing.state != "high"
        return self.controller.outputs(camera, crop, shown, quick=moving)

    # -------------------------------------------------------------------------------------------------- setup

    def _setup(self, viewer: Viewer) -> None:
        """Build the tab. Called by the viewer, once."""
        super()._setup(viewer)
        self.controller = SegmentController(self._model, viewer.train_lock)
        warm_up(self._model.device)
        config = viewer.log_filename.parent / "config.yml"
        self.answers = answers = Answers(self.controller, config, self)
        server = viewer.viser_server
        with tab(server.gui, "Segment"):
            self._page = Page(server, lambda *command: answers.queue(lambda: self._command(*command)))
            self.widgets = Widgets(viewer, answers, self._mode_of)
        self._tools = Tools(viewer, self.controller, self.browser, answers.queue, answers.do, self._page.show_one)
        self._clicks = Clicks(lambda hit, mode: answers.queue(lambda: self._clicked(hit, mode)))
        self._clicks.listen(server.scene, viewer.get_camera_state)
        server.on_client_connect(lambda client: self._show_browser(client.client_id))
        server.on_client_disconnect(self._left)
        answers.begin()
        self._show_own()

    # -------------------------------------------------------------------------------- what there is to show

    def show(self, **state: Any) -> None:
        """Tell all browsers; see `Front`."""
        self._page.show(**state)

    def notify(self, client: int, text: str, well: bool) -> None:
        """Tell one browser what came of what it asked for; see `Front`."""
        handle = self.viewer.viser_server.get_clients().get(client)
        if handle is None:
            return
        browser = self.browser(client)
        if browser.notification is not None:
            browser.notification.remove()
        browser.notification = handle.add_notification(
            "", text[:500], auto_close=4000 if well else 8000, color="green" if well else "red"
        )

    def draw(self) -> None:
        """Draw the picture anew; see `Front`."""
        self.viewer._trigger_rerender()

    def follow(self) -> None:
        """Bring up to date what is shown beside; see `Front`."""
        self._show_own()
        self._tools.follow()

    def _show_own(self) -> None:
        self.widgets.refresh()
        self._page.show(groups=self.viewer.control_panel._output_render.value == "groups")

    def is_final(self) -> bool:
        """Whether the Gaussians are those of a checkpoint; see `Front`."""
        # While the geometry trains, what is saved speaks of Gaussians that will not be those of any checkpoint.
        return not self._trains() or self._model.in_feature_phase

    def photographs(self) -> Cameras | None:
        """From where objects are looked at; see `Front`."""
        if self._trains():
            return None
        photographs = self.viewer.pipeline.datamanager.train_dataset
        assert photographs is not None
        return photographs.cameras

    def _trains(self) -> bool:
        return self.viewer.trainer is not None and self.viewer.train_btn_state != "completed"

    # ------------------------------------------------------------------------------------------- what browsers ask

    def browser(self, client: int) -> Browser:
        """What a client has chosen for itself."""
        return self._browsers.setdefault(client, Browser())

    def _left(self, client: viser.ClientHandle) -> None:
        self._browsers.pop(client.client_id, None)

    def _mode_of(self, client: int | None) -> Mode:
        return "set" if client is None else self.browser(client).means

    def _show_browser(self, client: int) -> None:
        self.answers.queue(lambda: self._tools.show(client))

    def _command(self, client: int, name: str, values: list[Any]) -> None:
        """Do what a page asks for."""
        answers, browser = self.answers, self.browser(client)
        if name == "open":
            browser.open = bool(values and values[0])
            if not browser.open:
                self._tools.choose(client, "click")
        elif name in ("mode", "held"):
            mode = values[0] if values and values[0] in get_args(Mode) else None
            if name == "held":
                browser.held = mode
            elif mode is not None:
                browser.mode = mode
        elif name == "at":
            self._clicks.told(client, (number(values, 0, 0, 1), number(values, 1, 0, 1)), browser.means)
        elif name == "tool":
            self._tools.choose(client, value(values, 0, str))
        elif name == "through":
            browser.reach_other()
            self._tools.show(client)
        elif self._tools.command(client, name, values):
            return
        elif name == "groups":
            answers.do(self._switch_groups, client)
        elif name == "list":
            answers.list_objects(client)
        elif name == "look":
            answers.do(lambda: self._look(client, None if values[:1] == [None] else value(values, 0, int)), client)
        else:
            answers.do(lambda: answers.acting.act(name, values, browser.means), client)

    def _clicked(self, hit: Hit, told: Mode | None) -> None:
        """Answer a click on the picture.

        Args:
            hit: the click.
            told: how it meets the selection, as the page showed it; None where it did not say so.
        """
        client, browser = hit.client, self.browser(hit.client)
        if told is None and not browser.open:
            return
        view, x, y = view_of(hit, CLICK_HEIGHT)
        mode, sam, track = told or browser.means, self.widgets.sam, self.widgets.track
        if self._tools.click(client, to_camera(view), x, y, mode):
            return
        if sam or track:
            # A model takes seconds: other clicks need not wait, and those for it keep their order.
            self.answers.later(lambda: self.answers.acting.mark(sam, track, view, x, y, mode), client)
            return
        self.answers.do(lambda: self.answers.acting.click(to_camera(view), x, y, mode), client)

    def _switch_groups(self) -> str:
        """Show groups in colors, or what was shown before."""
        control = self.viewer.control_panel
        if control._output_render.value == "groups":
            control._output_render.value = "rgb"
            return "Back to colors."
        if self._model.two_phases and not self._model.in_feature_phase and not self._model.prompts_by_feature:
            raise GsegError(self.answers.controller.why_no_groups())
        if "groups" not in control._output_render.options:
            raise GsegError("The first picture is not drawn yet. Press again.")
        control._output_render.value = "groups"
        return "Objects in their colors. The same switch leads back."

    def _look(self, client: int, group: int | None) -> str:
        """Move a browser's camera before an object, from where it looks now."""
        if group is not None:
            self.answers.controller.require_list()
        (x, y, z), radius = self.answers.controller.sphere_of(group)
        camera = self.viewer.viser_server.get_clients()[client].camera
        centre = np.array([x, y, z]) * RATIO
        back = camera.position - centre
        distance = max(1.3 * radius * RATIO / math.sin(min(camera.fov, 2.0) / 2), 0.2)
        position = centre + back / max(float(np.linalg.norm(back)), 1e-9) * distance
        with camera.client.atomic():
            camera.position = position
            camera.look_at = centre
        return "Looking at it."
