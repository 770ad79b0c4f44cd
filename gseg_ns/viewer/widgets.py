"""The folded part of the Segment tab, of viser's own widgets: what is not needed every minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from gseg_ns.data.datamanager import MaskDatamanager
from gseg_ns.editing.operations import Operation, Recolor, Remove, SetOpacity
from gseg_ns.errors import GsegError
from gseg_ns.lifting.text import CLIP
from gseg_ns.objects import Evidence
from gseg_ns.runs.evidence import run_evidence
from gseg_ns.runs.fringes import Cleaned, clean_groups, saying
from gseg_ns.runs.run import Run
from gseg_ns.runs.text_search import TextSearch, can_search
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.selection import Mode
from gseg_ns.viewer.answers import Answers
from gseg_ns.viewer.selecting import Change

if TYPE_CHECKING:
    import viser
    from nerfstudio.viewer.viewer import Viewer


_NO_NAME = "(none)"


class Widgets:
    """Fields and buttons, and what they are for."""

    def __init__(self, viewer: Viewer, answers: Answers, mode_of: Callable[[int | None], Mode]) -> None:
        """Add them to the container of the GUI that is being filled.

        Args:
            viewer: Nerfstudio's.
            answers: does what they ask for.
            mode_of: how what a client selects meets the selection.
        """
        self._viewer = viewer
        self._answers = answers
        self._controller = answers.controller
        self._model = answers.controller.model
        self._mode_of = mode_of
        self._by_feature: list[viser.GuiInputHandle[Any]] = []
        gui = viewer.viser_server.gui
        self._build_method(gui)
        with gui.add_folder("Select more", expand_by_default=False):
            self._build_selection(gui)
        with gui.add_folder("Edit", expand_by_default=False):
            self._build_edits(gui)
        with gui.add_folder("Export", expand_by_default=False):
            self._build_export(gui)

    @property
    def sam(self) -> str:
        """Checkpoint of SAM as it is typed; empty: none."""
        return self._sam.value.strip()

    @property
    def track(self) -> str:
        """Video model as it is typed; empty: none."""
        return self._track.value.strip()

    def refresh(self) -> None:
        """Bring what they show up to date."""
        for widget in self._by_feature:
            if widget.visible != self._model.prompts_by_feature:
                widget.visible = self._model.prompts_by_feature
        names = tuple(self._controller.names) or (_NO_NAME,)
        if self._named.options != names:
            self._named.options = names

    def _build_method(self, gui: viser.GuiApi) -> None:
        """What only some methods have."""
        answers, controller = self._answers, self._controller
        if self._model.has_scales:
            scale = gui.add_slider("Scale", 0.0, 1.0, 0.01, controller.scale, hint="0: parts, 1: groups of objects")
            scale.on_update(lambda event: answers.ask(lambda: answers.rescale(float(scale.value)), event.client_id))
        if type(self._model).prompts_by_feature:  # later a tree may answer: see `refresh`
            threshold = gui.add_slider(
                "Threshold",
                0.0,
                1.0,
                0.01,
                controller.threshold,
                hint="Least cosine with the clicked; lower selects more",
                visible=self._model.prompts_by_feature,
            )
            threshold.on_update(
                lambda event: answers.ask(
                    lambda: controller.reprompt(threshold=float(threshold.value)), event.client_id
                )
            )
            adaptive = gui.add_checkbox(
                "Adaptive threshold",
                controller.adaptive,
                hint="As SAGA's first version: the mean of all Gaussians; with SAM, mean plus deviation",
                visible=self._model.prompts_by_feature,
            )
            adaptive.on_update(
                lambda event: answers.ask(lambda: controller.reprompt(adaptive=bool(adaptive.value)), event.client_id)
            )
            self._by_feature = [threshold, adaptive]

    def _build_text(self, gui: viser.GuiApi) -> None:
        masks = cast(MaskDatamanager, self._viewer.pipeline.datamanager)
        search = TextSearch(self._model, masks, self._answers.folder, self._viewer.train_lock)
        text = gui.add_text("Text", "", hint="What is wanted, in words. The first time, all masks are encoded")
        clip = gui.add_text("CLIP", CLIP, hint="CLIP model: a name of the Hugging Face hub, or a folder of the run")

        def find(words: str) -> Tensor:
            return search.find(words, self._answers.reach.model(clip.value), self._answers.say)

        gui.add_button("Find by text").on_click(
            lambda event: self._answers.later(
                lambda: self._controller.find(text.value.strip(), find, self._mode_of(event.client_id)),
                event.client_id,
            )
        )

    def _build_selection(self, gui: viser.GuiApi) -> None:
        answers, controller = self._answers, self._controller

        def change(what: str, client: int | None) -> None:
            answers.ask(lambda: controller.change(cast(Change, what.lower())), client)

        _buttons(gui, "Select", ("None", "All", "Invert"), change)
        # Four in a row are cut off: the panel is narrow.
        _buttons(gui, "Refine", ("Grow", "Shrink"), change)
        _buttons(gui, "Pieces", ("Clean", "Largest"), change)
        gui.add_button(
            "Select floaters",
            hint="What of the selected objects, or of all, the views show as no part of them; Export leaves it out",
        ).on_click(lambda event: answers.later(lambda: controller.select_floaters(self._ask_views), event.client_id))
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
            lambda event: answers.ask(lambda: controller.keep(name.value), event.client_id)
        )
        self._named = gui.add_dropdown("Saved", (_NO_NAME,))
        gui.add_button("Load selection").on_click(
            lambda event: answers.ask(
                lambda: controller.recall(self._chosen_name(), self._mode_of(event.client_id)), event.client_id
            )
        )

    def _ask_views(self, scale: float | None) -> Evidence:
        """What the training views say of the objects; kept beside the run, as `gseg info` and `gseg export` do."""
        if self._answers.trains:
            raise GsegError("Something trains. Floaters are looked for when that is over.")
        run = self._run()

        def track(views: list[int]) -> Iterator[int]:
            for place, view in enumerate(views):
                if place % 10 == 0:
                    self._answers.say(f"Looking for floaters: view {place + 1} of {len(views)} …")
                yield view

        found = run_evidence(run, scale, track, self._viewer.train_lock)
        if found is None:
            raise GsegError("Floaters are what the views of a scene do not show: here is no scene.")
        return found

    def _run(self) -> Run:
        data = cast(MaskDatamanager, self._viewer.pipeline.datamanager)
        return Run(self._answers.folder / "config.yml", None, self._model, data, self._model.step)

    def _clean(self, groups: Sequence[int], scale: float | None) -> Cleaned:
        """The model's Gaussians with the borders of groups cleaned, and the groups of which they were."""
        if self._answers.trains:
            raise GsegError("Something trains. Borders are cleaned when that is over.")
        return clean_groups(self._run(), scale, groups, saying(self._answers.say))

    def _chosen_name(self) -> str:
        if self._named.value == _NO_NAME:
            raise GsegError("No selection has been saved yet. Give it a name and press “Save selection”.")
        return str(self._named.value)

    def _build_edits(self, gui: viser.GuiApi) -> None:
        answers = self._answers

        def edit(make: Callable[[PackedMask], Operation], client: int | None) -> None:
            answers.ask(lambda: self._controller.edit_selection(make), client)

        _buttons(gui, "Object", ("Remove",), lambda _, client: edit(Remove, client))
        color = gui.add_rgb("Color", (230, 60, 60))
        gui.add_button("Recolor").on_click(
            lambda event: edit(
                lambda mask: Recolor(mask, tuple(float(c) / 255 for c in color.value)),  # type: ignore[arg-type]
                event.client_id,
            )
        )
        opacity = gui.add_slider("Opacity x", 0.0, 2.0, 0.05, 0.5)
        gui.add_button("Set opacity").on_click(
            lambda event: edit(lambda mask: SetOpacity(mask, float(opacity.value)), event.client_id)
        )
        source = gui.add_text("Swap with", "", hint="Saved selection, PLY, or …/config.yml#3 of another run")
        gui.add_button("Swap").on_click(
            lambda event: answers.later(lambda: self._answers.acting.swap(source.value.strip()), event.client_id)
        )

    def _build_export(self, gui: viser.GuiApi) -> None:
        answers, controller = self._answers, self._controller
        path = gui.add_text("PLY", str(answers.reach.run / "selection.ply"))
        overwrite = gui.add_checkbox("Overwrite", False)
        gui.add_button("Export PLY", hint="All that is selected, as one file, with edits").on_click(
            lambda event: answers.later(
                lambda: controller.export_ply(answers.reach.path(path.value, ".ply"), overwrite.value), event.client_id
            )
        )
        gui.add_button(
            "Clean objects to files",
            hint="A PLY an object that is selected, which ends where the training views show that it does",
        ).on_click(
            lambda event: answers.later(
                lambda: controller.export_objects(answers.acting.exports(), self._clean), event.client_id
            )
        )
        name = gui.add_text("Run name", "object")
        gui.add_button(
            "Isolate to new run", hint="Write the selected Gaussians as a Nerfstudio run, below this one"
        ).on_click(lambda event: answers.later(lambda: self._isolate(name.value), event.client_id))
        self.command_field = gui.add_text(
            "As PLY", "", hint="The command that exports the new run with plain Nerfstudio"
        )

    def _isolate(self, name: str) -> str:
        config, self.command_field.value = self._answers.acting.isolate_run(name)
        return f"Wrote {config}. The command that exports it stands under “As PLY”."


def _buttons(
    gui: viser.GuiApi, label: str, options: tuple[str, ...], action: Callable[[str, int | None], None]
) -> None:
    """A row of buttons that each act every time they are pressed."""
    group = gui.add_button_group(label, options)
    # viser 0.2.7 takes a group for an input, and an input that keeps its value calls nobody: a second "Undo" in a row
    # would do nothing.
    group._impl.is_button = True
    group.on_click(lambda event: action(str(group.value), event.client_id))


def tab(gui: viser.GuiApi, label: str) -> Any:
    """A tab beside the viewer's own ones, or a folder where the viewer has none."""
    from viser import GuiTabGroupHandle

    # Nerfstudio keeps its tab group in a local variable, so it is looked up among the panel's contents.
    root = getattr(gui, "_container_handle_from_id", {}).get("root")
    for child in getattr(root, "_children", {}).values():
        if isinstance(child, GuiTabGroupHandle):
            return child.add_tab(label)
    return gui.add_folder(label)
