"""The "Segment" tab of Nerfstudio's viewer. Buttons only: what they do is in `controller`."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO as RATIO
from nerfstudio.viewer.viewer_elements import ViewerControl
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.data.datamanager import MaskDatamanager
from gseg_ns.editing.operations import (
    Operation,
    Recolor,
    Remove,
    SetOpacity,
)
from gseg_ns.errors import GsegError
from gseg_ns.lifting.text import CLIP
from gseg_ns.runs.text_search import TextSearch, can_search
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.picking import warm_up
from gseg_ns.selection.selection import Mode
from gseg_ns.viewer import clicks
from gseg_ns.viewer.acting import Acting, listed, standing
from gseg_ns.viewer.autosave import Autosave
from gseg_ns.viewer.commands import value
from gseg_ns.viewer.controller import SegmentController
from gseg_ns.viewer.page import Page
from gseg_ns.viewer.reach import Reach
from gseg_ns.viewer.selecting import Change
from gseg_ns.viewer.tools import CLICK_HEIGHT, Browser, Tools

if TYPE_CHECKING:
    import viser
    from nerfstudio.viewer.viewer import Viewer

    from gseg_ns.models.base import SegmentationModel

_MARKS = re.compile(r"\*\*(Not done:|Left out:|Not loaded:)\*\*")
"""What the tab itself says in bold."""
_NO_NAME = "(none)"
_LOG = logging.getLogger(__name__)


@dataclass
class Said:
    """What the tab said last."""

    content: str = ""
    well: bool = True


class SegmentPanel(ViewerControl):
    """Selecting, editing and exporting objects in the browser.

    The viewer finds it as an attribute of the model and sets it up; without a viewer it does nothing. All browsers
    share one session, which outlives a reload.
    """

    def __init__(self, model: SegmentationModel) -> None:
        """Belong to a model; the viewer calls `_setup` when there is one."""
        self._model = model
        self.controller: SegmentController | None = None
        self._status = Said()
        self._browsers: dict[int, Browser] = {}
        self._page: Page | None = None
        self._autosave: Autosave | None = None
        self._pictured: Any = None
        self._threshold: viser.GuiInputHandle[float] | None = None

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
        self._config = viewer.log_filename.parent / "config.yml"
        self._acting = Acting(self.controller, self._config, lambda: self._reach, self._say)
        self._seen_state: Any = None
        # One thing after the other, in the order in which browsers ask; what takes long has a thread of its own.
        self._acts = ThreadPoolExecutor(1, thread_name_prefix="gseg-tab")
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="gseg-slow")
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="gseg-pictures")
        server = viewer.viser_server
        gui = server.gui
        with _tab(gui, "Segment"):
            self._page = Page(server, lambda *command: self._queue(lambda: self._command(*command)))
            self._build_method(gui)
            with gui.add_folder("Select more", expand_by_default=False):
                self._build_selection(gui)
            with gui.add_folder("Edit", expand_by_default=False):
                self._build_edits(gui)
            with gui.add_folder("Export", expand_by_default=False):
                self._build_export(gui)
        self._tools = Tools(viewer, self.controller, self._browser, self._queue, self._do, self._page.show_one)
        clicks.listen(server.scene, lambda event: self._queue(lambda: self._clicked(event)))
        server.on_client_connect(lambda client: self._show_browser(client.client_id))
        server.on_client_disconnect(self._left)
        self._say(self.controller.load(self._config.parent))
        self._autosave = Autosave(
            lambda: self._controller.save(self._config.parent),
            lambda why: self._say(f"**Not done:** what was done last is not on disk: {why}"),
        )
        self._seen_state = self.controller.state()
        self._refresh()

    def _build_method(self, gui: viser.GuiApi) -> None:
        """What only some methods have."""
        controller = self._controller
        if self._model.has_scales:
            self._scale = gui.add_slider(
                "Scale", 0.0, 1.0, 0.01, controller.scale, hint="0: parts, 1: groups of objects"
            )
            self._scale.on_update(
                lambda event: self._do(lambda: self._rescale(float(self._scale.value)), event.client_id)
            )
        if type(self._model).prompts_by_feature:  # later a tree may answer: see `_refresh`
            self._threshold = threshold = gui.add_slider(
                "Threshold",
                0.0,
                1.0,
                0.01,
                controller.threshold,
                hint="Least cosine with the clicked; lower selects more",
                visible=self._model.prompts_by_feature,
            )
            threshold.on_update(
                lambda event: self._do(lambda: controller.reprompt(threshold=float(threshold.value)), event.client_id)
            )

    def _build_text(self, gui: viser.GuiApi) -> None:
        masks = cast(MaskDatamanager, self.viewer.pipeline.datamanager)
        search = TextSearch(self._model, masks, self._config.parent, self.viewer.train_lock)
        text = gui.add_text("Text", "", hint="What is wanted, in words. The first time, all masks are encoded")
        clip = gui.add_text("CLIP", CLIP, hint="CLIP model: a name of the Hugging Face hub, or a folder of the run")

        def find(words: str) -> Tensor:
            return search.find(words, self._reach.model(clip.value), self._say)

        gui.add_button("Find by text").on_click(
            lambda event: self._do(
                lambda: self._controller.find(text.value.strip(), find, self._mode_of(event.client_id)),
                event.client_id,
            )
        )

    def _build_selection(self, gui: viser.GuiApi) -> None:
        controller = self._controller

        def change(what: str, client: int | None) -> None:
            self._do(lambda: controller.change(cast(Change, what.lower())), client)

        _buttons(gui, "Select", ("None", "All", "Invert"), change)
        _buttons(gui, "Refine", ("Grow", "Shrink", "Clean", "Largest"), change)
        self._sam = gui.add_text(
            "SAM",
            "",
            hint="Checkpoint of Segment Anything, or folder or name of SAM 2.1, EdgeTAM or SAM 3. With one, its mask "
            "of the points clicked on a view is meant",
        )
        self._track = gui.add_text(
            "Track",
            "",
            hint="Video model (SAM 2.1, EdgeTAM, SAM 3; a name or a folder) that carries the mask of a click around "
            "the object: no groups are needed",
        )
        if can_search(self._model):
            self._build_text(gui)
        name = gui.add_text("Name", "", hint="Of the selection; no slashes")
        gui.add_button("Save selection", hint="Under this name").on_click(
            lambda event: self._do(lambda: controller.keep(name.value), event.client_id)
        )
        self._named = gui.add_dropdown("Saved", (_NO_NAME,))
        gui.add_button("Load selection").on_click(
            lambda event: self._do(
                lambda: controller.recall(self._chosen_name(), self._mode_of(event.client_id)), event.client_id
            )
        )

    def _build_edits(self, gui: viser.GuiApi) -> None:
        _buttons(gui, "Object", ("Remove",), lambda _, client: self._edit(Remove, client))
        color = gui.add_rgb("Color", (230, 60, 60))
        gui.add_button("Recolor").on_click(
            lambda event: self._edit(
                lambda mask: Recolor(mask, tuple(float(c) / 255 for c in color.value)),  # type: ignore[arg-type]
                event.client_id,
            )
        )
        opacity = gui.add_slider("Opacity x", 0.0, 2.0, 0.05, 0.5)
        gui.add_button("Set opacity").on_click(
            lambda event: self._edit(lambda mask: SetOpacity(mask, float(opacity.value)), event.client_id)
        )
        source = gui.add_text("Swap with", "", hint="Saved selection, PLY, or …/config.yml#3 of another run")
        gui.add_button("Swap").on_click(
            lambda event: self._do(lambda: self._acting.swap(source.value.strip()), event.client_id)
        )

    def _build_export(self, gui: viser.GuiApi) -> None:
        controller = self._controller
        default = self._reach.run / "selection.ply"
        path = gui.add_text("PLY", str(default))
        overwrite = gui.add_checkbox("Overwrite", False)
        gui.add_button("Export PLY", hint="All that is selected, as one file, with edits").on_click(
            lambda event: self._do(
                lambda: controller.export_ply(self._reach.path(path.value, ".ply"), overwrite.value), event.client_id
            )
        )
        name = gui.add_text("Run name", "object")
        gui.add_button(
            "Isolate to new run", hint="Write the selected Gaussians as a Nerfstudio run, below this one"
        ).on_click(lambda event: self._do(lambda: self._isolate_run(name.value), event.client_id))
        self._command_field = gui.add_text(
            "As PLY", "", hint="The command that exports the new run with plain Nerfstudio"
        )

    # ------------------------------------------------------------------------------------------------ actions

    @cached_property
    def _reach(self) -> Reach:
        """What the fields for paths reach."""
        return Reach(self._config.parent)

    @property
    def _controller(self) -> SegmentController:
        assert self.controller is not None
        return self.controller

    def _queue(self, act: Callable[[], None]) -> None:
        """Do something after all that browsers asked for before."""
        self._submit(self._acts, act)

    def _submit(self, thread: ThreadPoolExecutor, act: Callable[[], None]) -> None:
        """Do something in a thread; what goes wrong is told, for nobody asks what became of it."""

        def run() -> None:
            try:
                act()
            except Exception:
                self._say(_failed())

        thread.submit(run)

    def _do(self, action: Callable[[], str], client: int | None = None) -> None:
        """Run an action; say what came of it, to the browser that asked and in the tab; draw."""
        if self._autosave is not None:
            self._autosave.wait()
        try:
            said = action()
        except GsegError as error:
            said = f"**Not done:** {error}"
        except Exception:
            said = _failed()
        self._say(said, client)
        self._keep()
        self.viewer._trigger_rerender()
        self._refresh()
        self._tools.follow()

    def _edit(self, make: Callable[[PackedMask], Operation], client: int | None = None) -> None:
        self._do(lambda: self._controller.edit_selection(make), client)

    def _keep(self) -> None:
        """Save what has changed."""
        state = self._controller.state()
        if self._autosave is None or state is self._seen_state:
            return
        self._seen_state = state
        # While the geometry trains, what is saved speaks of Gaussians that will not be those of any checkpoint.
        if self.viewer.trainer is None or self._model.in_feature_phase or self.viewer.train_btn_state == "completed":
            self._autosave.changed()

    def _say(self, text: str, client: int | None = None) -> None:
        """Show a text as it is, in the tab and, where one asked, as a notification of that browser."""
        if not text:
            return
        well = "**Not" not in text
        text = _MARKS.sub(r"\1", text)
        self._status.content, self._status.well = text, well
        if self._page is not None:
            self._page.show(said=text, well=well)
        if client is not None:
            self._notify(client, text, well)

    def _notify(self, client: int, text: str, well: bool) -> None:
        handle = self.viewer.viser_server.get_clients().get(client)
        if handle is None:
            return
        browser = self._browser(client)
        if browser.notification is not None:
            browser.notification.remove()
        browser.notification = handle.add_notification(
            "", text[:500], auto_close=4000 if well else 8000, color="green" if well else "red"
        )

    def _picture(self) -> None:
        """Make pictures for the list, where there are none yet and nothing trains."""
        trains = self.viewer.trainer is not None and self.viewer.train_btn_state != "completed"
        wanted = self._controller.pictured()
        if not trains and wanted != self._pictured:
            self._pictured = wanted
            self._beside.submit(self._show_pictures)

    def _show_pictures(self) -> None:
        page, made = self._page, {}
        photographs = self.viewer.pipeline.datamanager.train_dataset
        assert page is not None
        assert photographs is not None
        try:
            for group, picture in self._controller.pictures(photographs.cameras):
                made[group] = picture
                if len(made) % 16 == 0:
                    page.show(pictures=dict(made))
            page.show(pictures=made)
        except Exception:
            _LOG.exception("The list of the Segment tab has no pictures")

    def _refresh(self) -> None:
        """Bring what the tab shows up to date."""
        controller = self._controller
        if self._threshold is not None and self._threshold.visible != self._model.prompts_by_feature:
            self._threshold.visible = self._model.prompts_by_feature
        names = tuple(controller.names) or (_NO_NAME,)
        if self._named.options != names:
            self._named.options = names
        self._say(controller.take_notice())
        if self._page is None:
            return
        is_listed = controller.lists
        if is_listed:
            self._page.show(**listed(controller))
            self._picture()
        elif not self._page.knows("objects"):
            self._page.show(objects=[], why="")
        control = self.viewer.control_panel
        self._page.show(listed=is_listed, groups=control._output_render.value == "groups", **standing(controller))

    # ------------------------------------------------------------------------------------------- what browsers ask

    def _browser(self, client: int) -> Browser:
        return self._browsers.setdefault(client, Browser())

    def _left(self, client: viser.ClientHandle) -> None:
        self._browsers.pop(client.client_id, None)

    def _mode_of(self, client: int | None) -> Mode:
        return "set" if client is None else self._browser(client).means

    def _show_browser(self, client: int) -> None:
        self._queue(lambda: self._tools.show(client))

    def _command(self, client: int, name: str, values: list[Any]) -> None:
        """Do what a page asks for."""
        browser = self._browser(client)
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
        elif name == "tool":
            self._tools.choose(client, value(values, 0, str))
        elif name == "through":
            browser.through = not browser.through
            self._tools.show(client)
        elif self._tools.command(client, name, values):
            return
        elif name == "groups":
            self._do(self._switch_groups, client)
        elif name == "list":
            self._submit(self._slow, lambda: self._do(self._list, client))
        elif name == "look":
            self._do(lambda: self._look(client, None if values[:1] == [None] else value(values, 0, int)), client)
        else:
            self._do(lambda: self._acting.act(name, values, browser.means), client)

    def _clicked(self, event: viser.SceneNodePointerEvent[Any]) -> None:
        """Answer a click on the picture."""
        browser = self._browser(event.client_id)
        if not browser.open:
            return
        view, x, y = clicks.view_of(self.viewer.get_camera_state(event.client), event, CLICK_HEIGHT)
        mode = browser.means
        if self._tools.click(event.client_id, to_camera(view), x, y):
            return
        if checkpoint := self._sam.value.strip():
            # SAM takes seconds: other clicks need not wait, and those for SAM keep their order.
            self._submit(
                self._slow, lambda: self._do(lambda: self._mark(checkpoint, view, x, y, mode), event.client_id)
            )
            return
        if self._track.value.strip():
            self._submit(self._slow, lambda: self._do(lambda: self._mark("", view, x, y, mode), event.client_id))
            return
        self._do(lambda: self._click(view, x, y, mode), event.client_id)

    def _click(self, view: Cameras, x: float, y: float, mode: Mode) -> str:
        return self._controller.click(to_camera(view), x, y, mode != "remove", mode == "set", mode == "intersect")

    def _mark(self, checkpoint: str, view: Cameras, x: float, y: float, mode: Mode) -> str:
        return self._acting.mark(checkpoint, self._track.value.strip(), view, x, y, mode)

    def _chosen_name(self) -> str:
        if self._named.value == _NO_NAME:
            raise GsegError("No selection has been saved yet. Give it a name and press “Save selection”.")
        return str(self._named.value)

    def _switch_groups(self) -> str:
        """Show groups in colors, or what was shown before."""
        control = self.viewer.control_panel
        if control._output_render.value == "groups":
            control._output_render.value = "rgb"
            return "Back to colors."
        if self._model.two_phases and not self._model.in_feature_phase and not self._model.prompts_by_feature:
            raise GsegError(self._controller.why_no_groups())
        if "groups" not in control._output_render.options:
            raise GsegError("The first picture is not drawn yet. Press again.")
        control._output_render.value = "groups"
        return "Objects in their colors. The same switch leads back."

    def _list(self) -> str:
        count = len(self._controller.groups())
        return f"{count} objects." if count else self._controller.why_no_groups()

    def _look(self, client: int, group: int | None) -> str:
        """Move a browser's camera before an object, from where it looks now."""
        (x, y, z), radius = self._controller.sphere_of(group)
        camera = self.viewer.viser_server.get_clients()[client].camera
        centre = np.array([x, y, z]) * RATIO
        back = camera.position - centre
        distance = max(1.3 * radius * RATIO / math.sin(min(camera.fov, 2.0) / 2), 0.2)
        position = centre + back / max(float(np.linalg.norm(back)), 1e-9) * distance
        with camera.client.atomic():
            camera.position = position
            camera.look_at = centre
        return "Looking at it."

    def _rescale(self, scale: float) -> str:
        """Change the scale; the list of objects follows, where there was one."""
        listed = self._controller.lists
        said = self._controller.reprompt(scale=scale)
        if listed:
            self._submit(self._slow, lambda: self._relist(scale))
        return said

    def _relist(self, scale: float) -> None:
        if self._controller.scale == scale:  # else another one has come meanwhile
            self._controller.groups()
            self._refresh()

    def _isolate_run(self, name: str) -> str:
        config, self._command_field.value = self._acting.isolate_run(name)
        return f"Wrote {config}. The command that exports it stands under “As PLY”."


def _failed() -> str:
    """What to say of an exception that nobody foresaw; the terminal has it whole."""
    _LOG.exception("The Segment tab could not do what was asked for")
    return "**Not done:** something went wrong; the terminal says what."


def _buttons(
    gui: viser.GuiApi, label: str, options: tuple[str, ...], action: Callable[[str, int | None], None]
) -> None:
    """A row of buttons that each act every time they are pressed."""
    group = gui.add_button_group(label, options)
    # viser 0.2.7 takes a group for an input, and an input that keeps its value calls nobody: a second "Undo" in a row
    # would do nothing.
    group._impl.is_button = True
    group.on_click(lambda event: action(str(group.value), event.client_id))


def _tab(gui: viser.GuiApi, label: str) -> Any:
    """A tab beside the viewer's own ones, or a folder where the viewer has none."""
    from viser import GuiTabGroupHandle

    # Nerfstudio keeps its tab group in a local variable, so it is looked up among the panel's contents.
    root = getattr(gui, "_container_handle_from_id", {}).get("root")
    for child in getattr(root, "_children", {}).values():
        if isinstance(child, GuiTabGroupHandle):
            return child.add_tab(label)
    return gui.add_folder(label)
