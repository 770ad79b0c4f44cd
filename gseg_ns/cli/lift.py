"""`gseg lift`: the labels of a trained splat from masks, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Literal

from gseg_ns.errors import GsegError


@dataclass
class Lift:
    """Label a trained splat from the masks of its photographs, without training.

    Each view with masks is rendered once; what it says of the Gaussians decides which masks show one object, and which
    object each Gaussian is. How loud each Gaussian is in label images is then fitted to the masks. The result is a run
    of gaga on which ns-viewer, gseg export, render and eval work.
    """

    data: Path
    """The scene: a Nerfstudio or COLMAP folder"""
    geometry: Path
    """The splat: a 3DGS PLY, or a Nerfstudio run of this scene (its folder or config.yml)"""
    geometry_frame: Literal["nerfstudio", "original"] = "nerfstudio"
    """Coordinates of a PLY: Nerfstudio's normalised ones (as ns-export writes), or those of the capture's own poses"""
    masks_dir: Path = Path("masks")
    """Folder of masks, relative to the scene"""
    snap_masks: bool = False
    """Move borders of masks to borders of color in the photographs, by a few pixels: better with ragged masks. Not with
    a tree"""
    association: Literal["auto", "consensus", "memory-bank", "tree", "given", "tracks", "none"] = "auto"
    """How masks of different views find together: by the agreement of all views (consensus), by Gaga's memory bank, as
    a tree of parts, objects and groups out of overlapping masks (--level part, object, group of the other commands),
    not at all since their ids agree already (given: ground truth, DEVA, SAM 3 on video; none is the same), or by the
    agreement of views with ids as evidence that agree mostly (tracks). auto: a tree where masks lie within each other,
    without words, tracks or --snap-masks; else the agreement of views"""
    strengths: bool = True
    """Fit how loud each Gaussian is in label images (seconds): better borders; what a Gaussian is in stays.
    Of a tree, in images of its objects"""
    output_dir: Path = Path("outputs")
    """Where runs are written"""
    experiment_name: str | None = None
    """Folder of the run below that; the scene's name unless given"""
    dask: str | None = None
    """Dask scheduler whose workers ask the views, such as tcp://host:8786; local: processes of this machine"""
    ply: Path | None = None
    """Labelled PLY to write; beside config.yml unless given"""
    allow_unfinished: bool = False
    """Use a geometry whose training has not come to its end"""

    def main(self) -> None:
        """Lift, and print the commands that work on the run."""
        import copy
        from contextlib import nullcontext
        from time import perf_counter

        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.cluster import connected
        from gseg_ns.lifting.association import NO_GROUPS
        from gseg_ns.method_configs.gaga import gaga
        from gseg_ns.runs.lifted import lift_run
        from gseg_ns.runs.progress import check_geometry
        from gseg_ns.splats.ply import write_ply

        started = perf_counter()
        if not self.data.exists():
            raise GsegError(f"The scene {self.data} does not exist.")
        check_geometry(self.geometry, self.allow_unfinished)
        if self.snap_masks and self.association == "tree":
            raise GsegError(
                "--association tree takes overlapping masks as they are, and --snap-masks moves borders of painted "
                "ones: leave one of them out"
            )
        config = copy.deepcopy(gaga.config)
        config.data, config.output_dir, config.experiment_name = self.data, self.output_dir, self.experiment_name
        datamanager, model = config.pipeline.datamanager, config.pipeline.model
        datamanager.masks_dir = self.masks_dir  # type: ignore[attr-defined]
        datamanager.snap_masks = self.snap_masks  # type: ignore[attr-defined]
        model.geometry, model.geometry_frame = self.geometry, self.geometry_frame  # type: ignore[attr-defined]
        model.use_strengths = self.strengths  # type: ignore[attr-defined]
        model.association = "given" if self.association == "none" else self.association  # type: ignore[attr-defined]
        with nullcontext() if self.dask is None else connected(self.dask) as cluster:
            lifted = lift_run(config, cluster)  # type: ignore[arg-type]
        ply = self.ply or lifted.config_path.parent / "labelled.ply"
        keep = lifted.splats.exportable()
        write_ply(
            ply,
            lifted.splats.subset(keep).to("cpu"),
            {"label": lifted.labels[keep].int().cpu(), "confidence": lifted.confidence[keep].cpu()},
        )
        if lifted.num_groups == 0:
            raise GsegError(f"{NO_GROUPS} The run is there all the same: {lifted.config_path}")
        labelled = int((lifted.labels > 0).sum())
        CONSOLE.print(
            f"{lifted.num_groups} groups; {labelled} of {len(lifted.labels)} Gaussians have one. One pass over "
            f"{lifted.num_views} views: {lifted.seconds:.1f} s, {perf_counter() - started:.1f} s with reading and "
            f"writing.\n  {ply}\n  gseg view {quote(str(lifted.config_path))}\n"
            f"  gseg export --load-config {quote(str(lifted.config_path))} --output-dir objects"
        )
