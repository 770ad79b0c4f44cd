"""The "Segment" tab of Nerfstudio's viewer. Buttons only: what they do is in `controller`."""

from __future__ import annotations

import math
import re
import threading
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.viewer_elements import ViewerControl
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.data.datamanager import MaskDatamanager
from gseg_ns.editing.operations import (
    Duplicate,
    Hide,
    Isolate,
    Operation,
    Recolor,
    Remove,
    SetOpacity,
    ShowAll,
    Transform,
)
from gseg_ns.errors import GsegError
from gseg_ns.lifting.text import CLIP
from gseg_ns.runs.edited_run import SWAPPED, is_run, take_object
from gseg_ns.runs.text_search import TextSearch, can_search
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.picking import warm_up
from gseg_ns.selection.prompts import Prompt
from gseg_ns.selection.prompts_sam import SamPrompts
from gseg_ns.selection.selection import Mode
from gseg_ns.viewer.controller import Change, Group, SegmentController
from gseg_ns.viewer.markdown import breakable, plain
from gseg_ns.viewer.reach import Reach

if TYPE_CHECKING:
    import viser
    from nerfstudio.viewer.viewer import Viewer

    from gseg_ns.models.base import SegmentationModel

_CLICK_HEIGHT = 720  # pixels in which the position of a click is expressed
_LISTED = 60  # groups in the dropdown
_LIMIT = 1e6  # of shifts, in units of the scene
_MARKS = re.compile(r"\*\*(Not done:|Left out:|Not loaded:|\+|−)\*\*")
"""What the tab itself says in bold."""
_NO_NAME, _NO_GROUP = "(none)", "(press “Segment everything”)"


class SegmentPanel(ViewerControl):
    """Selecting, editing and exporting objects in the browser.

    The viewer finds it as an attribute of the model and sets it up; without a viewer it does nothing. All browsers
    share one session, which outlives a reload.
    """

    def __init__(self, model: SegmentationModel) -> None:
        """Belong to a model; the viewer calls `_setup` when there is one."""
        self._model = model
        self.controller: SegmentController | None = None

    # ------------------------------------------------------------------------------------------------ drawing

    def is_drawing(self) -> bool:
        """Whether the render that runs now is for a browser: evaluation and `ns-render` show the run as it is."""
        return self.controller is not None and isinstance(threading.current_thread(), RenderStateMachine)

    def outputs(self, camera: Cameras, crop: OrientedBox | None) -> dict[str, Tensor]:
        """Render a view with edits and highlight."""
        assert self.controller is not None
        control = self.viewer.control_panel
        shown = {control.output_render, control.split_output_render} if control.split else {control.output_render}
        return self.controller.outputs(camera, crop, shown)

    # -------------------------------------------------------------------------------------------------- setup

    def _setup(self, viewer: Viewer) -> None:
        """Build the tab. Called by the viewer, once."""
        super()._setup(viewer)
        self.controller = SegmentController(self._model, viewer.train_lock)
        warm_up(self._model.device)
        self._config = viewer.log_filename.parent / "config.yml"
        self._options: dict[str, Group] = {}
        gui = viewer.viser_server.gui
        with _tab(gui, "Segment"):
            self._status = gui.add_markdown("Click on an object to select it.")
            self._summary = gui.add_markdown("")
            self._build_picking(gui)
            with gui.add_folder("Selection"):
                self._build_selection(gui)
            with gui.add_folder("Groups"):
                self._build_groups(gui)
            with gui.add_folder("Edit", expand_by_default=False):
                self._build_edits(gui)
            with gui.add_folder("Export", expand_by_default=False):
                self._build_export(gui)
        self._say(self.controller.load(self._config.parent))
        self._refresh()

    def _build_picking(self, gui: viser.GuiApi) -> None:
        controller = self._controller
        _buttons(gui, "Click", ("Click +", "Click -"), self._choose_tool)
        _buttons(gui, "Draw", ("Rectangle", "Stop"), self._choose_tool)
        self._keep_picking = gui.add_checkbox(
            "Keep picking", False, hint="Stay in this mode after a click. The camera does not move meanwhile."
        )
        self._mode = gui.add_dropdown(
            "Mode",
            ("set", "add", "remove", "intersect"),
            hint="How rectangles, groups, texts and SAM meet the selection",
        )
        self._visible = gui.add_checkbox("Visible only", True, hint="The rectangle leaves out what is behind")
        if self._model.has_scales:
            self._scale = gui.add_slider(
                "Scale", 0.0, 1.0, 0.01, controller.scale, hint="0: parts, 1: groups of objects"
            )
            self._scale.on_update(lambda _: self._do(lambda: self._rescale(float(self._scale.value))))
        if self._model.prompts_by_feature:
            self._threshold = gui.add_slider(
                "Threshold",
                0.0,
                1.0,
                0.01,
                controller.threshold,
                hint="Least cosine with the clicked; lower selects more",
            )
            self._threshold.on_update(
                lambda _: self._do(lambda: controller.reprompt(threshold=float(self._threshold.value)))
            )

        self._sam = gui.add_text(
            "SAM",
            "",
            hint="Checkpoint of Segment Anything. With one, its mask of the points clicked on a view is meant",
        )
        self._sam_prompts = SamPrompts(self._model.device)
        if can_search(self._model):
            self._build_text(gui)

    def _build_text(self, gui: viser.GuiApi) -> None:
        masks = cast(MaskDatamanager, self.viewer.pipeline.datamanager)
        search = TextSearch(self._model, masks, self._config.parent, self.viewer.train_lock)
        text = gui.add_text("Text", "", hint="What is wanted, in words. The first time, all masks are encoded")
        clip = gui.add_text("CLIP", CLIP, hint="CLIP model: a name of the Hugging Face hub, or a folder of the run")

        def find(words: str) -> Tensor:
            return search.find(words, self._reach.model(clip.value), self._say)

        gui.add_button("Find by text").on_click(
            lambda _: self._do(lambda: self._controller.find(text.value.strip(), find, self._chosen_mode()))
        )

    def _build_selection(self, gui: viser.GuiApi) -> None:
        controller = self._controller

        def change(what: str) -> None:
            self._do(lambda: controller.change(cast(Change, what.lower())))

        _buttons(
            gui,
            "History",
            ("Undo", "Redo"),
            lambda way: self._do(controller.undo if way == "Undo" else controller.redo),
        )
        _buttons(gui, "Select", ("None", "All", "Invert"), change)
        _buttons(gui, "Refine", ("Grow", "Shrink", "Clean", "Largest"), change)
        name = gui.add_text("Name", "", hint="Of the selection; no slashes")
        gui.add_button("Save selection").on_click(lambda _: self._do(lambda: self._save(name.value)))
        self._named = gui.add_dropdown("Saved", (_NO_NAME,))
        gui.add_button("Load selection").on_click(
            lambda _: self._do(lambda: controller.recall(self._chosen_name(), self._chosen_mode()))
        )

    def _build_groups(self, gui: viser.GuiApi) -> None:
        gui.add_button("Segment everything", hint="List the groups and show them in color").on_click(
            lambda _: self._do(self._segment_everything)
        )
        self._group_list = gui.add_markdown("")
        self._group = gui.add_dropdown("Group", (_NO_GROUP,))
        for label, acts in (("This group", ("Pick", "Hide")), ("Of groups", ("Isolate", "Show all"))):
            _buttons(gui, label, acts, lambda act: self._do(lambda: self._on_group(act)))
        name = gui.add_text("Group name", "")
        gui.add_button("Rename group").on_click(lambda _: self._do(lambda: self._rename(name.value)))

    def _build_edits(self, gui: viser.GuiApi) -> None:
        controller = self._controller
        operations: dict[str, Callable[[PackedMask], Operation]] = {"Hide": Hide, "Isolate": Isolate, "Remove": Remove}

        def act(what: str) -> None:
            if what == "Show all":
                self._do(lambda: controller.edit(ShowAll()))
            else:
                self._edit(operations[what])

        for label, acts in (("Object", ("Hide", "Remove")), ("Scene", ("Isolate", "Show all"))):
            _buttons(gui, label, acts, act)
        color = gui.add_rgb("Color", (230, 60, 60))
        gui.add_button("Recolor").on_click(
            lambda _: self._edit(
                lambda mask: Recolor(mask, tuple(float(c) / 255 for c in color.value))  # type: ignore[arg-type]
            )
        )
        opacity = gui.add_slider("Opacity x", 0.0, 2.0, 0.05, 0.5)
        gui.add_button("Set opacity").on_click(
            lambda _: self._edit(lambda mask: SetOpacity(mask, float(opacity.value)))
        )
        far = (_LIMIT, _LIMIT, _LIMIT)
        near = (-_LIMIT, -_LIMIT, -_LIMIT)
        move = gui.add_vector3("Shift", (0.0, 0.0, 0.0), min=near, max=far, step=0.01, hint="Scene units")
        turn = gui.add_vector3("Turn", (0.0, 0.0, 0.0), step=1.0, hint="Degrees about x, y, z, about its own centre")
        size = gui.add_number("Size x", 1.0, min=0.01, max=1000.0, step=0.05)

        def placed(kind: type[Transform] | type[Duplicate], mask: PackedMask) -> Operation:
            return kind(
                mask=mask,
                translation=tuple(map(float, move.value)),  # type: ignore[arg-type]
                rotation=_quaternion(turn.value),
                scale=float(size.value),
            )

        kinds: dict[str, Any] = {"Move": Transform, "Copy": Duplicate}
        _buttons(gui, "Place", tuple(kinds), lambda what: self._edit(lambda mask: placed(kinds[what], mask)))
        source = gui.add_text("Swap with", "", hint="Saved selection, PLY, or …/config.yml#3 of another run")
        gui.add_button("Swap").on_click(lambda _: self._do(lambda: self._swap(source.value.strip())))

    def _build_export(self, gui: viser.GuiApi) -> None:
        controller = self._controller
        default = self._reach.run / "selection.ply"
        path = gui.add_text("PLY", str(default))
        overwrite = gui.add_checkbox("Overwrite", False)
        gui.add_button("Export PLY", hint="The selected Gaussians, with edits").on_click(
            lambda _: self._do(lambda: controller.export_ply(self._reach.path(path.value, ".ply"), overwrite.value))
        )
        name = gui.add_text("Run name", "object")
        gui.add_button(
            "Isolate to new run", hint="Write the selected Gaussians as a Nerfstudio run, below this one"
        ).on_click(lambda _: self._do(lambda: self._isolate_run(name.value)))
        self._command = gui.add_text("As PLY", "", hint="The command that exports the new run with plain Nerfstudio")
        gui.add_button("Save session", hint="Selections and edits, beside config.yml").on_click(
            lambda _: self._do(lambda: controller.save(self._config.parent))
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

    def _do(self, action: Callable[[], str]) -> None:
        """Run an action; say what came of it; draw."""
        try:
            self._say(action())
        except GsegError as error:
            self._say(f"**Not done:** {error}")
        self._refresh()
        self.viewer._trigger_rerender()

    def _edit(self, make: Callable[[PackedMask], Operation]) -> None:
        self._do(lambda: self._controller.edit_selection(make))

    def _say(self, text: str) -> None:
        if text:
            said = _MARKS.split(text)
            parts = [f"**{part}**" if index % 2 else breakable(plain(part)) for index, part in enumerate(said)]
            self._status.content = " ".join(filter(None, parts))

    def _refresh(self) -> None:
        """Bring what the tab shows up to date."""
        controller = self._controller
        self._summary.content = plain(controller.summary())
        names = tuple(controller.names) or (_NO_NAME,)
        if self._named.options != names:
            self._named.options = names
        self._say(controller.take_notice())

    def _choose_tool(self, tool: str) -> None:
        """Register for the pointer. While registered, dragging does not move the camera, so one click unregisters."""
        scene = self.viser_server.scene
        self._release_pointer()
        if tool == "Stop":
            self._say("The mouse moves the camera.")
            return
        kind = "rect-select" if tool == "Rectangle" else "click"

        @scene.on_pointer_event(event_type=kind)  # type: ignore[arg-type]
        def _(event: viser.ScenePointerEvent) -> None:
            if not self._keep_picking.value:
                self._release_pointer()
            self._do(lambda: self._picked(event, tool))

        self._say("Draw a rectangle." if tool == "Rectangle" else f"{tool}: click on the picture.")

    def _release_pointer(self) -> None:
        with warnings.catch_warnings():  # viser warns when nothing was registered
            warnings.simplefilter("ignore")
            self.viser_server.scene.remove_pointer_callback()

    def _picked(self, event: viser.ScenePointerEvent, tool: str) -> str:
        view = self._view(event.client)
        camera = to_camera(view)
        points = [(x * camera.width, y * camera.height) for x, y in event.screen_pos]
        if tool == "Rectangle":
            return self._controller.drag(camera, points[0], points[1], self._chosen_mode(), bool(self._visible.value))
        positive = tool == "Click +"
        if checkpoint := self._sam.value.strip():
            path = self._reach.path(checkpoint)

            def answer(picture: Tensor, prompt: Prompt) -> Tensor:
                self._say(f"Asking SAM ({path}) …")
                return self._sam_prompts.mask(path, picture, prompt)

            return self._controller.mark(view, *points[0], positive, answer, self._chosen_mode())
        return self._controller.click(camera, *points[0], positive)

    def _view(self, client: viser.ClientHandle) -> Cameras:
        """The view [1] of the browser that was clicked in, not of the first one."""
        from nerfstudio.viewer.utils import get_camera

        return get_camera(self.viewer.get_camera_state(client), _CLICK_HEIGHT)

    def _save(self, name: str) -> str:
        said = self._controller.keep(name)
        return f"{said} {self._controller.save(self._config.parent)}"

    def _chosen_mode(self) -> Mode:
        return cast(Mode, self._mode.value)

    def _chosen_name(self) -> str:
        if self._named.value == _NO_NAME:
            raise GsegError("No selection has been saved yet. Give it a name and press “Save selection”.")
        return str(self._named.value)

    def _segment_everything(self) -> str:
        count = self._list_groups()
        control = self.viewer.control_panel
        if "groups" in control._output_render.options:
            control._output_render.value = "groups"
        if not count:
            return "There are no groups yet: this method finds them later in training."
        return f"{count} groups" + (f", the largest {_LISTED} are listed." if count > _LISTED else ".")

    def _list_groups(self) -> int:
        """Show the groups of the present scale; the one that was chosen stays chosen. Returns how many there are."""
        groups = self._controller.groups()
        chosen = self._options.get(str(self._group.value))
        self._options = {_line(group): group for group in groups[:_LISTED]}
        self._group.options = tuple(self._options) or (_NO_GROUP,)
        again = [line for line, group in self._options.items() if chosen is not None and group.id == chosen.id]
        if again:
            self._group.value = again[0]
        self._group_list.content = "\n\n".join(_swatch(group) for group in groups[:_LISTED])
        return len(groups)

    def _rescale(self, scale: float) -> str:
        """Change the scale. Groups of the old one are others, so they are listed no more."""
        self._options = {}
        self._group.options = (_NO_GROUP,)
        self._group_list.content = ""
        return self._controller.reprompt(scale=scale)

    def _rename(self, name: str) -> str:
        said = self._controller.label(self._chosen_group().id, name)
        self._list_groups()
        return f"{said} {self._controller.save(self._config.parent)}"

    def _chosen_group(self) -> Group:
        if self._group.value not in self._options:
            raise GsegError("Press “Segment everything”, then choose a group.")
        return self._options[str(self._group.value)]

    def _on_group(self, action: str) -> str:
        if action == "Show all":
            return self._controller.edit(ShowAll())
        group = self._chosen_group().id
        if action == "Pick":
            return self._controller.select_group(group, self._chosen_mode())
        return self._controller.edit_selection(Hide if action == "Hide" else Isolate, group)

    def _swap(self, source: str) -> str:
        controller = self._controller
        if not source:
            raise GsegError("Name a saved selection, a PLY, or …/config.yml#3 for group 3 of another run.")
        controller.packed()  # before a run is loaded for nothing
        if source in controller.names:
            return controller.swap(source)
        if not is_run(source):
            return controller.swap(self._reach.path(source, ".ply"))
        config, _, name = source.partition("#")
        run = self._reach.path(config)
        self._reach.check(self._config.parent / SWAPPED)
        self._say(f"Loading {source} …")
        taken = take_object(f"{run}#{name}", self._config.parent)
        # What is selected after the seconds that loading takes: meanwhile others may have edited, or trained on.
        return controller.swap(taken)

    def _isolate_run(self, name: str) -> str:
        from gseg_ns.runs.isolated import export_command

        config = self._controller.isolate_run(self._config, name, self._reach.home_of_runs)
        self._command.value = export_command(config)
        return f"Wrote {config}. The command that exports it stands under “As PLY”."


def _line(group: Group) -> str:
    name = f" {group.name}" if group.name else ""
    return f"{group.id}{name} ({group.count:,})"


def _swatch(group: Group) -> str:
    hidden = ", hidden" if group.hidden else ""
    color = "#{:02x}{:02x}{:02x}".format(*group.color)
    return f"<span style={{{{color: '{color}'}}}}>■</span> {plain(_line(group))}{hidden}"


def _quaternion(degrees: Any) -> tuple[float, float, float, float]:
    """Rotation about x, then y, then z, as w, x, y, z."""
    x, y, z = (math.radians(float(v)) / 2 for v in degrees)
    cx, cy, cz, sx, sy, sz = *np.cos([x, y, z]), *np.sin([x, y, z])
    return (
        float(cx * cy * cz + sx * sy * sz),
        float(sx * cy * cz - cx * sy * sz),
        float(cx * sy * cz + sx * cy * sz),
        float(cx * cy * sz - sx * sy * cz),
    )


def _buttons(gui: viser.GuiApi, label: str, options: tuple[str, ...], action: Callable[[str], None]) -> None:
    """A row of buttons that each act every time they are pressed."""
    group = gui.add_button_group(label, options)
    # viser 0.2.7 takes a group for an input, and an input that keeps its value calls nobody: a second "Undo" in a row
    # would do nothing.
    group._impl.is_button = True
    group.on_click(lambda _: action(str(group.value)))


def _tab(gui: viser.GuiApi, label: str) -> Any:
    """A tab beside the viewer's own ones, or a folder where the viewer has none."""
    from viser import GuiTabGroupHandle

    # Nerfstudio keeps its tab group in a local variable, so it is looked up among the panel's contents.
    root = getattr(gui, "_container_handle_from_id", {}).get("root")
    for child in getattr(root, "_children", {}).values():
        if isinstance(child, GuiTabGroupHandle):
            return child.add_tab(label)
    return gui.add_folder(label)
