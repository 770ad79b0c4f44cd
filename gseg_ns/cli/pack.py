"""`gseg pack`: a run as a folder that stands alone; and Nerfstudio's viewer on whatever there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import tyro

from gseg_ns.cli.options import Granular

if TYPE_CHECKING:
    from gseg_ns.runs.run import Run


@dataclass
class Pack(Granular):
    """Write a run as a folder NAME.gseg that stands alone: no photographs and no config.yml are needed any more.

    It holds the Gaussians and labels, the table of objects, what the method needs to answer, and the cameras; in PLY,
    JSON and safetensors, with checksums. All commands that take a run take it, too.
    """

    run: tyro.conf.Positional[Path]
    """config.yml of the run, or its folder; or a result or labelled PLY to write anew"""
    output: Path | None = None
    """The folder, NAME.gseg; called as the experiment, in the current folder, unless given"""
    overwrite: bool = False
    """Replace a result that is there; the names, edits and selections that were saved in it stay"""
    data: Path | None = None
    """The run's scene. Default: where its config.yml says, or of that name beside the run"""

    def main(self) -> None:
        """Pack."""
        from gseg_ns.cli.console import CONSOLE
        from gseg_ns.files import slug
        from gseg_ns.runs.packing import pack_run
        from gseg_ns.runs.result_folder import SUFFIX
        from gseg_ns.runs.run import load_run
        from gseg_ns.terminal import track

        run = load_run(self.run, self.data)
        output = self.output or Path(f"{slug(run.config.experiment_name or '') or 'result'}{SUFFIX}")
        records = pack_run(
            run, output, self.granularity(run), self.overwrite, track=lambda ids: track(ids, "Asking views")
        ).records
        size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
        CONSOLE.print(
            f"Wrote {run.model.num_points} Gaussians and {len(records)} objects to {output}, {size / 1e6:.1f} MB\n"
            f"  gseg view {quote(str(output))}\n  gseg export --load-config {quote(str(output))} --output-dir objects",
            markup=False,
        )


def start_viewer(run: Run, port: int, host: str | None = None) -> object:
    """Start Nerfstudio's viewer on what was loaded, as `ns-viewer` does.

    Returns:
        the viewer, whose server's threads work from now on.
    """
    from contextlib import nullcontext
    from threading import Lock

    from nerfstudio.utils import writer
    from nerfstudio.viewer.viewer import Viewer

    from gseg_ns.viewer.door import host_chosen

    config, data = run.config, run.datamanager
    config.vis, config.viewer.websocket_port = "viewer", port
    if host is not None:
        config.viewer.websocket_host = host
    run.folder.mkdir(parents=True, exist_ok=True)
    with host_chosen() if host is not None else nullcontext():
        viewer = Viewer(
            config.viewer,
            log_filename=run.folder / "viewer_log_filename.txt",
            datapath=data.get_datapath(),
            pipeline=run.pipeline,
            train_lock=Lock(),  # type: ignore[arg-type]
        )
    config.logging.local_writer.enable = False
    writer.setup_local_writer(config.logging, max_iter=config.max_num_iterations, banner_messages=viewer.viewer_info)
    viewer.init_scene(train_dataset=data.train_dataset, train_state="completed", eval_dataset=data.eval_dataset)
    viewer.update_scene(step=run.step)
    return viewer
