"""Mip-NeRF 360: does learning to segment cost image quality?"""

from __future__ import annotations

from pathlib import Path

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.protocols.base import (
    Protocol,
    ProtocolOptions,
    ProtocolScene,
    ProtocolScores,
    Target,
    image_names,
    read_rgb,
    require_predictions,
    subset,
)
from gseg_ns.evaluation.quality import image_quality

TEST_EVERY = 8


class MipNerf360(Protocol):
    """Reconstruction quality on Mip-NeRF 360, as GradiSeg and Gaga report it."""

    name = "mipnerf360"
    source = (
        "Mip-NeRF 360 (Barron et al., CVPR 2022; jonbarron.info/mipnerf360); every eighth view tests (3DGS); GradiSeg, "
        "Table 3; Gaga trains at a quarter of the size."
    )
    layout = """\
<root>/<scene>/
  images_4/  *.JPG        (another folder with the option `images`)
  sparse/0/"""
    predictions = "<view>.png: the render of each test view, of the photograph's size"
    counted = (
        "PSNR and SSIM of whole images, mean over test views (the first, ninth, ... by name), then scenes; LPIPS "
        "(AlexNet) on request. Every test view must be there and of the photograph's size."
    )
    metrics = ("PSNR", "SSIM", "LPIPS")
    renders = "rgb"
    known_scenes = ("bicycle", "bonsai", "counter", "flowers", "garden", "kitchen", "room", "stump", "treehill")

    def is_scene(self, folder: Path) -> bool:
        return (folder / "sparse" / "0").is_dir() and any(folder.glob("images*"))

    def load(self, root: Path, scene: str, options: ProtocolOptions | None = None) -> ProtocolScene:
        options = options or ProtocolOptions()
        folder = self.scene_folder(root, scene)
        images = folder / (options.images or "images_4")
        names = image_names(images, self)
        test = names[::TEST_EVERY]
        train = [name for i, name in enumerate(names) if i % TEST_EVERY]
        if not train:
            raise GsegError(f"{images} has a single image: nothing is left to train on.")
        targets = {f"{Path(name).stem}.png": Target(name, images / name) for name in test}
        return ProtocolScene(scene, folder, images, subset(train, options), test, targets, options=options)

    def score(self, scene: ProtocolScene, predictions: Path) -> ProtocolScores:
        require_predictions(scene, predictions)
        renders, photographs = [], []
        for name, target in scene.targets.items():
            render, photograph = read_rgb(predictions / name), read_rgb(target.truth)
            if render.shape != photograph.shape:
                raise GsegError(
                    f"{predictions / name} is {render.shape[1]} x {render.shape[0]}, but {target.truth} is "
                    f"{photograph.shape[1]} x {photograph.shape[0]}. Render at the size of the photographs."
                )
            renders.append(render)
            photographs.append(photograph)
        scores = image_quality(renders, photographs, lpips=scene.options.lpips)
        values = {"PSNR": scores.psnr, "SSIM": scores.ssim}
        if scores.lpips is not None:
            values["LPIPS"] = scores.lpips
        return ProtocolScores(
            values, {name: {"PSNR": value} for name, value in zip(scene.targets, scores.view_psnr, strict=True)}
        )
