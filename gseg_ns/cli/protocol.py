"""`gseg protocol`: a published evaluation on its own data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from gseg_ns.cli.options import Granular
from gseg_ns.errors import GsegError
from gseg_ns.lifting.text import CLIP

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from nerfstudio.cameras.cameras import Cameras
    from torch import Tensor

    from gseg_ns.data.photographs import Photograph
    from gseg_ns.evaluation.protocols import Protocol, ProtocolReport, ProtocolScene
    from gseg_ns.evaluation.protocols.base import Prompt as PublishedPrompt
    from gseg_ns.runs.run import Run, View
    from gseg_ns.selection.prompts import Prompt

Name = Literal[
    "lerf-mask",
    "replica-gaga",
    "scannet-gaga",
    "replica-unified-lift",
    "messy-rooms",
    "nvos",
    "spin-nerf",
    "3d-ovs",
    "mipnerf360",
]


@dataclass
class ProtocolCommand(Granular):
    """Score predictions, or a run, as a published benchmark does; or say what a benchmark is.

    With --data alone: checks the data. With --prepare: also writes the split where ns-train finds it. With
    --load-config: renders the test views of one scene and scores them. With --predictions alone: scores what is there.
    """

    protocol: Annotated[Name, tyro.conf.Positional]
    """The benchmark"""
    data: Path | None = None
    """The benchmark's folder, or one scene of it. Without it, its layout and what it counts are printed"""
    predictions: Path | None = None
    """Folder of predictions, one folder a scene"""
    load_config: Path | None = None
    """config.yml of a run on one scene, whose test views are rendered into --predictions first, in place of what is
    there of this scene"""
    scene: str | None = None
    """Name of the scene that the run was trained on; the only one of --data unless given"""
    prepare: bool = False
    """Write the split of every scene: train_list.txt and so on (Messy Rooms: transforms.json)"""
    train_percent: float = 100.0
    """With --prepare: random share of the training views to keep (Gaga's sparse subsets: 30, 20, 10, 5)"""
    seed: int = 0
    """Seed of the draw of training views"""
    images: str | None = None
    """Image folder, where scenes have several resolutions"""
    lpips: bool = False
    """Also LPIPS (mipnerf360), whose weights are downloaded"""
    ground: str | None = None
    """lerf-mask with --load-config: find the texts on the first test view with this zero-shot detection model of
    transformers (a name such as IDEA-Research/grounding-dino-base, or a folder; needs the extra `text`)"""
    ground_sam: Path | None = None
    """With --ground: SAM checkpoint that makes masks of the boxes found; without it a box is its own mask"""
    ground_threshold: float = 0.3
    """With --ground: least score of a box"""
    clip: str | None = None
    """3d-ovs with --load-config: CLIP model for the names of classes, a name or a folder (needs the extra `text`); the
    paper's (laion/CLIP-ViT-B-16-laion2B-s34B-b88K) unless given"""
    output: Path | None = None
    """JSON file for the scores"""
    allow_unfinished: bool = False
    """Use a run that has no groups yet, whose answers are chance"""

    def main(self) -> None:
        """Do what the options ask for."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.evaluation.protocols import PROTOCOLS, ProtocolOptions

        protocol = PROTOCOLS[self.protocol]
        if self.data is None:
            CONSOLE.print(
                f"[bold]{protocol.name}[/]\n{protocol.source}\n\n{protocol.layout}\n\nPredictions: "
                f"{protocol.predictions}\nCounted: {protocol.counted}\nScenes: {', '.join(protocol.known_scenes)}",
                highlight=False,
            )
            return
        if self.ground is not None and (self.protocol != "lerf-mask" or self.load_config is None):
            raise GsegError("--ground answers the texts of lerf-mask on the renderings of a run: give --load-config")
        self._check_used(protocol)
        options = ProtocolOptions(self.train_percent, self.seed, self.images, self.lpips)
        for name in protocol.scenes(self.data):
            loaded = protocol.load(self.data, name, options)
            CONSOLE.print(f"{name}: {len(loaded.train)} training views, {len(loaded.targets)} files to predict")
            if self.prepare:
                written = protocol.prepare(self.data, name, options)
                CONSOLE.print(f"  wrote {', '.join(str(path) for path in written)}")
        if self.load_config is not None:
            if self.predictions is None:
                raise GsegError("Say with --predictions where the rendered test views go")
            self._render(protocol, protocol.load(self.data, self._scene(protocol), options), self.predictions)
        if self.predictions is not None:
            self._report(protocol.evaluate(self.data, self.predictions, options))

    def _check_used(self, protocol: Protocol) -> None:
        """Refuse options that would change nothing.

        Raises:
            GsegError: so one would.
        """
        if self.clip is not None and (self.protocol != "3d-ovs" or self.load_config is None):
            raise GsegError(
                "--clip reads the names of classes of 3d-ovs for a run: give --load-config, or leave it out"
            )
        if self.scale is None and self.level is None:
            return
        given = "--scale" if self.level is None else "--level"
        if self.load_config is None:
            raise GsegError(f"{given} is asked of a run: give --load-config, or leave it out")
        if self.protocol == "3d-ovs":
            raise GsegError(f"The classes of 3d-ovs are found at whatever scale they are: leave {given} out")
        if protocol.renders is None:
            raise GsegError(f"The scale is chosen on the view that {protocol.name} prompts: leave {given} out")
        if protocol.renders == "rgb":
            raise GsegError(f"{protocol.name} asks for colors, which have no scale: leave {given} out")

    def _scene(self, protocol: Protocol) -> str:
        """The scene that the run is of."""
        assert self.data is not None
        names = protocol.scenes(self.data)
        if self.scene is None and len(names) == 1:
            return names[0]
        if self.scene not in names:
            raise GsegError(f"Name the scene of the run with --scene. {self.data} has {', '.join(names)}")
        return self.scene

    def _render(self, protocol: Protocol, scene: ProtocolScene, predictions: Path) -> None:
        """Render the test views of a run into the folder of predictions."""
        from PIL import Image

        from gseg_ns.files import atomic_path
        from gseg_ns.masks.io import write_label_map
        from gseg_ns.pictures import to_bytes
        from gseg_ns.runs.run import load_run
        from gseg_ns.terminal import track

        assert self.load_config is not None
        run = load_run(self.load_config, allow_unfinished=self.allow_unfinished)
        scale = self.granularity(run)
        wanted, lost = {}, []
        prompted = {f"prompt: {prompt.image}": prompt.image for prompt in scene.prompts if prompt.image is not None}
        for name, image in {**protocol.renderings(scene), **prompted}.items():
            try:
                wanted[name] = run.view(image)
            except GsegError:
                lost.append(image)
        if lost:
            raise GsegError(
                f"The run of {self.load_config} has no camera for {', '.join(sorted(lost)[:3])} ({len(lost)} of "
                f"{len(lost) + len(wanted)} test views). Train it on {scene.root} after gseg protocol {protocol.name} "
                "--data ... --prepare"
            )
        folder = predictions / scene.name
        if protocol.renders is None:
            self._answer_prompts(run, scene, folder, wanted)
            return
        for name, target in scene.targets.items():
            if target.prompt is not None:  # answers of another run, or of other texts, would be scored with this one
                (folder / name).unlink(missing_ok=True)

        def colors(camera: Cameras) -> dict[str, Tensor]:
            return {"drawn": run.model.get_outputs_for_camera(camera)["rgb"]}

        def labels(camera: Cameras) -> dict[str, Tensor]:
            return {"drawn": run.model.label_image(camera, scale)}

        def on_photograph(view: View, drawn: Callable[[Cameras], dict[str, Tensor]]) -> Tensor:
            photograph, camera = view.photograph.whole(view.camera)
            return photograph.draw(camera, drawn)["drawn"]

        for name, view in track(wanted.items(), "Rendering"):
            if protocol.renders == "labels":
                write_label_map(folder / name, on_photograph(view, labels).cpu())
                continue
            with atomic_path(folder / name) as temporary:
                Image.fromarray(to_bytes(on_photograph(view, colors))).save(temporary)
        if self.ground is not None:
            name, view = next(iter(wanted.items()))
            picture = to_bytes(on_photograph(view, colors))
            self._answer_texts(scene, folder, picture, Path(name).stem, run.model.device)

    def _answer_prompts(self, run: Run, scene: ProtocolScene, folder: Path, views: dict[str, View]) -> None:
        """Write the masks that answer what the benchmark prompts.

        Args:
            run: the trained run.
            scene: the benchmark's scene.
            folder: where the masks go.
            views: the run's views of the targets by their files, and of what is prompted.
        """
        from functools import partial

        from PIL import Image

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.files import atomic_path
        from gseg_ns.runs.answering import answer_prompt, category_in_view, selection_in_view
        from gseg_ns.runs.text_search import TextSearch
        from gseg_ns.terminal import track

        model = run.model
        texts = [prompt.name for prompt in scene.prompts if prompt.kind == "text"]
        answers: dict[str, Callable[[Cameras], Tensor]] = {}
        if texts:
            # Each Gaussian is what fits it best of all texts: there is no background.
            categories = TextSearch(model, run.datamanager, run.folder).categorize(texts, self.clip or CLIP)
            for number, text in enumerate(texts, start=1):
                answers[text] = partial(category_in_view, model, categories=categories, number=number)
        for prompt in scene.prompts:
            if prompt.kind == "text":
                continue
            assert prompt.image is not None
            photograph, camera = views[f"prompt: {prompt.image}"].photograph.whole(
                views[f"prompt: {prompt.image}"].camera
            )
            found = answer_prompt(model, camera, _published_prompt(prompt, photograph))
            answers[prompt.name] = partial(selection_in_view, model, selected=found.selected)
            chosen = [f"{name} {value:g}" for name, value in (("scale", found.scale), ("threshold", found.threshold))
                      if value is not None]  # fmt: skip
            at = f" at {' and '.join(chosen)}" if chosen else ""
            CONSOLE.print(
                f"{prompt.name}: {int(found.selected.sum())} Gaussians{at}, {found.agreement:.1%} of the prompt met"
            )
        for name, target in track(scene.targets.items(), "Rendering"):
            answer = answers[target.prompt or ""]
            photograph, camera = views[name].photograph.whole(views[name].camera)

            def drawn(camera: Cameras, answer: Callable[[Cameras], Tensor] = answer) -> dict[str, Tensor]:
                return {"seen": answer(camera)}

            seen = photograph.draw(camera, drawn)["seen"]
            with atomic_path(folder / name) as temporary:
                Image.fromarray((seen.cpu().numpy() * 255).astype("uint8")).save(temporary, format="PNG")

    def _answer_texts(
        self, scene: ProtocolScene, folder: Path, picture: np.ndarray, view: str, device: torch.device
    ) -> None:
        """Write the masks of the prompts of lerf-mask, found by their texts on one rendered view."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.evaluation.grounding import TextGrounder
        from gseg_ns.evaluation.protocols.lerf_mask import ground_prompts

        assert self.ground is not None
        grounder = TextGrounder.load(self.ground, self.ground_sam, self.ground_threshold, device)
        for text, ids in ground_prompts(scene, folder, picture, view, grounder.mask).items():
            CONSOLE.print(f"{text}: " + (f"ids {ids}, found on view {view}" if ids else f"not found on view {view}"))

    def _report(self, report: ProtocolReport) -> None:
        """Print the table of scores, and write it."""
        from rich.table import Table

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.files import atomic_path

        table = Table("scene", *report.mean)
        for name, scores in report.scenes.items():
            table.add_row(name, *(f"{scores.values[key]:.2f}" if key in scores.values else "" for key in report.mean))
        if len(report.scenes) > 1:
            table.add_row("mean", *(f"{value:.2f}" for value in report.mean.values()))
        CONSOLE.print(table)
        for name, scores in report.scenes.items():
            for note in scores.notes:
                CONSOLE.print(f"{name}: {note}")
            if scores.missing:
                CONSOLE.print(
                    f"{name}: no prediction for {', '.join(scores.missing[:5])} ({len(scores.missing)} in all)"
                )
        if report.not_predicted:
            CONSOLE.print(f"Not predicted: {', '.join(report.not_predicted)}")
        if self.output is not None:
            with atomic_path(self.output) as temporary:
                temporary.write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")


def _published_prompt(published: PublishedPrompt, photograph: Photograph) -> Prompt:
    """A benchmark's mask or scribbles as a prompt on the view of a photograph."""
    import torch

    from gseg_ns.evaluation.protocols.nvos_spin import read_published
    from gseg_ns.selection.prompts import Prompt

    marks: Tensor | None = None
    for sign, paths in ((2, published.negative), (1, published.positive)):  # what is wanted last: it wins
        for path in paths:
            drawn = photograph.to_view(torch.from_numpy(read_published(path)).int(), path) != 0
            marks = torch.zeros(drawn.shape, dtype=torch.int32) if marks is None else marks
            marks[drawn] = sign
    assert marks is not None
    return Prompt(mask=marks == 1) if published.kind == "mask" else Prompt(scribble=marks)
