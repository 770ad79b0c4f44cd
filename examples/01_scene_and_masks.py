"""Make a small scene with ground truth, and masks of its photographs without any weights.

`write_demo_scene` also simulates the masks of a good segmenter, in `masks/`; those of this script go to
`masks_classical/`. For SAM instead, give `SamConfig(checkpoint=...)` as the source.
"""

from __future__ import annotations

from pathlib import Path

import tyro

from gseg_ns.demo import write_demo_scene
from gseg_ns.masks.generate import Job, prepare, run
from gseg_ns.masks.images import scene_images
from gseg_ns.masks.sources import ClassicalConfig


def main(scene: Path, objects: int = 5, views: int = 16, width: int = 128, height: int = 96) -> None:
    """Make the scene and the masks.

    Args:
        scene: folder to write.
        objects: things in the room.
        views: photographs; every eighth is held out for evaluation.
        width: of a photograph in pixels.
        height: of a photograph in pixels.
    """
    made = write_demo_scene(scene, num_objects=objects, num_views=views, width=width, height=height)
    print(f"{made.folder}: {len(made.train)} photographs to train on, ground truth in {made.ground_truth}")

    images = scene_images(scene)
    job = Job(source=ClassicalConfig(), output=scene / "masks_classical")
    prepare(job, images, overwrite=False)
    for result in run(job, images):
        print(f"{result.image.name}: {result.error or f'{result.masks} masks, {result.coverage:.0%} covered'}")


if __name__ == "__main__":
    tyro.cli(main)
