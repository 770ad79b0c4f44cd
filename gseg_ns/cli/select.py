"""`gseg select`: what a prompt on a view means in 3D, without a browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from gseg_ns.cli.options import Frame
from gseg_ns.errors import GsegError
from gseg_ns.lifting.text import CLIP, VoteOptions
from gseg_ns.lifting.thresholds import SAME_THING

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from torch import Tensor

    from gseg_ns.data.photographs import Photograph
    from gseg_ns.runs.run import Run
    from gseg_ns.selection.prompts import Prompt

Points = Annotated[tuple[tuple[float, float], ...], tyro.conf.UseAppendAction]


@dataclass
class Select:
    """Select Gaussians by points, a scribble, a mask or a text, and write the selection."""

    load_config: Path
    """config.yml of the run"""
    output: Path
    """.npz: a named selection for the viewer; .ply: the selected Gaussians; .png: the selection seen in --view"""
    view: str | None = None
    """Name of the image (with or without folder and suffix) whose view is prompted"""
    point: Points = ()
    """A pixel x y of what is wanted; may be given several times"""
    negative: Points = ()
    """A pixel x y of what is not; may be given several times"""
    scribble: Path | None = None
    """PNG drawn on the photograph: 1 where it is wanted, 2 where not, 0 elsewhere"""
    mask: Path | None = None
    """PNG drawn on the photograph, not 0 where the object is"""
    frame: Frame = "photograph"
    """Whose pixels marks and a .png have: the photograph's, or those of the undistorted view that the run trains on;
    the same where the lens does not distort"""
    sam: Path | None = None
    """SAM checkpoint: the points are given to SAM, and its mask is the prompt"""
    text: str | None = None
    """What is wanted, in words (needs the extra `text`, and a method with features)"""
    clip: str | None = None
    """CLIP model for --text: a name or a folder; the paper's (laion/CLIP-ViT-B-16-laion2B-s34B-b88K) unless given"""
    votes: VoteOptions = field(default_factory=VoteOptions)
    """How masks vote on --text"""
    scale: float | None = None
    """Granularity in [0, 1], for methods that have scales"""
    threshold: float = SAME_THING
    """Least cosine with what was marked, for methods that answer by features"""
    largest: bool = False
    """Keep the largest connected piece alone: what no mask ever showed, hidden background for one, may be taken for
    the object, but does not touch it"""
    clean: bool = False
    """Drop outliers of the selection, and take in what lies between its Gaussians"""
    name: str = "selection"
    """Name of the selection in an .npz"""
    data: Path | None = None
    """The run's scene. Default: where its config.yml says, or of that name beside the run"""

    def main(self) -> None:
        """Select."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.cli.options import check_scale
        from gseg_ns.runs.run import load_run
        from gseg_ns.selection.neighbourhood import largest_component, middle_extents
        from gseg_ns.selection.postprocess import clean_up

        if self.output.suffix not in (".npz", ".ply", ".png"):
            raise GsegError(f"{self.output} has no known suffix: name a .npz, .ply or .png")
        marks = self.point or self.negative or self.scribble or self.mask
        if bool(marks) == (self.text is not None):
            raise GsegError("Give either marks on a view (--point, --scribble, --mask) or a --text")
        if self.view is None and (marks or self.output.suffix == ".png"):
            raise GsegError("Name the view with --view: marks, and a picture of the selection, are of one image")
        if self.sam is not None and not self.point:
            raise GsegError("--sam needs at least one --point")
        run = load_run(self.load_config, self.data)
        check_scale(run, self.scale)
        view = None if self.view is None else self._view(run, self.view)
        if self.text is not None:
            chosen = self._by_text(run)
        else:
            assert view is not None
            chosen = self._by_marks(run, *view)
        if self.largest:
            chosen = largest_component(run.model.means, chosen, middle_extents(run.model.scales))
        if self.clean:
            chosen = clean_up(run.model.means, chosen)
        if not bool(chosen.any()):
            CONSOLE.print("[yellow]The prompt selects nothing: lower --threshold, or try another --scale.")
        self._write(run, view, chosen)
        CONSOLE.print(f"Selected {int(chosen.sum())} of {len(chosen)} Gaussians: {self.output}")

    def _view(self, run: Run, name: str) -> tuple[Photograph, Cameras]:
        """The photograph of `--view`, and the camera [1] that is prompted: of all of it, or of the view trained on."""
        view = run.view(name)
        if self.frame == "view":
            return view.photograph.of_view(), view.camera
        return view.photograph.whole(view.camera)

    def _prompt(self, photograph: Photograph) -> Prompt:
        import torch

        from gseg_ns.masks import read_label_map
        from gseg_ns.selection.prompts import Prompt

        def points(given: Points) -> Tensor:
            found = photograph.points_to_view(torch.tensor(given, dtype=torch.float32).reshape(-1, 2))
            for point, place in zip(given, found, strict=True):
                if not bool(place.isfinite().all()):
                    raise GsegError(f"The point {point[0]:g} {point[1]:g} lies outside of what the view shows")
            return found

        def drawn(path: Path | None) -> Tensor | None:
            return None if path is None else photograph.to_view(read_label_map(path), path)

        mask = drawn(self.mask)
        return Prompt(
            positive=points(self.point),
            negative=points(self.negative),
            scribble=drawn(self.scribble),
            mask=None if mask is None else mask != 0,
        )

    def _by_marks(self, run: Run, photograph: Photograph, camera: Cameras) -> Tensor:
        import torch

        from gseg_ns.runs.prompting import Prompter
        from gseg_ns.selection.prompts import Prompt
        from gseg_ns.selection.prompts_sam import load_predictor, sam_mask

        model, prompt = run.model, self._prompt(photograph)
        if self.sam is not None:
            picture = (model.get_outputs_for_camera(camera)["rgb"] * 255).round().to(torch.uint8)
            prompt = Prompt(mask=sam_mask(picture, prompt, load_predictor(self.sam, model.device)))
        return Prompter(model).select(camera, prompt, self.scale, self.threshold, mask_by_sam=self.sam is not None)

    def _by_text(self, run: Run) -> Tensor:
        from gseg_ns.runs.text_search import TextSearch

        assert self.text is not None
        search = TextSearch(run.model, run.datamanager, self.load_config.parent, options=self.votes)
        return search.find(self.text, self.clip or CLIP)

    def _write(self, run: Run, view: tuple[Photograph, Cameras] | None, chosen: Tensor) -> None:
        import torch
        from PIL import Image

        from gseg_ns.files import atomic_path
        from gseg_ns.selection.store import Fingerprint, save_selections
        from gseg_ns.splats.ply import write_ply

        if self.output.suffix == ".npz":
            save_selections(self.output, {self.name: chosen}, Fingerprint.of(run.model.means))
        elif self.output.suffix == ".ply":
            write_ply(self.output, run.model.splats().subset(chosen).to("cpu"))
        else:
            assert view is not None
            photograph, camera = view
            with torch.no_grad():
                run.model.get_outputs_for_camera(camera)
                seen = photograph.to_photo(run.model.composite(chosen.float()[:, None])[..., 0] > 0.5)
            with atomic_path(self.output) as temporary:
                Image.fromarray((seen.cpu().numpy() * 255).astype("uint8")).save(temporary, format="PNG")
