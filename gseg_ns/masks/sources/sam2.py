"""SAM 2.1 and any other model of the mask-generation pipeline of transformers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from gseg_ns.errors import GsegError, missing_extra
from gseg_ns.masks.hub import first_line, full_name, refused, which_model
from gseg_ns.masks.mask_set import MaskSet
from gseg_ns.masks.sources.amg import AmgOptions, AmgSettings
from gseg_ns.masks.sources.base import MaskSource, Photo, SourceResult


@dataclass
class Sam2Config(AmgOptions):
    """SAM 2.1, EdgeTAM, SAM, SAM 3: a model of the mask-generation pipeline of transformers."""

    name: ClassVar[str] = "sam2"
    embeds: ClassVar[bool] = True

    model: str | None = None
    """large (SAM 2.1, what --source sam2 takes), small, tiny, edgetam or sam3; another name on the Hugging Face hub; or
    a local folder."""
    revision: str | None = None
    """Version of the model on the hub."""

    @property
    def is_asked(self) -> bool:
        """Whether its own options speak for it."""
        return self.model is not None

    def settings(self) -> dict[str, Any]:
        """The resolved settings, and which model it was."""
        settings = asdict(self.resolve())
        # The same masks, whatever the batch; the pipeline has one threshold for both suppressions.
        for name in ("points_per_batch", "crop_nms_thresh"):
            del settings[name]
        return {**settings, "revision": self.revision, **which_model(self.model or "large")}

    def setup(self, device: str) -> MaskSource:
        """Load the model; from the hub only if it is named there."""
        settings = self.resolve()
        model = full_name(self.model or "large")
        try:
            from transformers import pipeline
        except ImportError as error:
            raise missing_extra("The source sam2 needs transformers", "sam2") from error
        try:
            generator = pipeline(
                "mask-generation",
                model=model,
                revision=self.revision,
                device=device,
                # Weights are never unpickled, and code of the hub is never run.
                model_kwargs={"use_safetensors": True},
                trust_remote_code=False,
            )
        except Exception as error:
            # transformers and its hub client raise many types.
            raise GsegError(
                refused(model, error)
                or f"Cannot load {model!r} for mask generation ({first_line(error)}). Give a model folder with "
                "config.json, preprocessor_config.json and safetensors, or a name such as "
                "facebook/sam2.1-hiera-large while online."
            ) from error
        return Sam2Source(generator, settings)


class Sam2Source:
    """Masks and embeddings of a loaded pipeline."""

    def __init__(self, generator: Any, settings: AmgSettings) -> None:
        self.generator = generator
        self.settings = settings

    def generate(self, photo: Photo, embed: bool) -> SourceResult:
        """Masks in falling order of predicted IoU."""
        from PIL import Image

        image = Image.fromarray(photo.pixels)
        height, width = photo.pixels.shape[:2]
        options = self.settings
        with torch.no_grad():
            output = self.generator(
                image,
                points_per_crop=options.points_per_side,
                points_per_batch=options.points_per_batch,
                pred_iou_thresh=options.pred_iou_thresh,
                stability_score_thresh=options.stability_score_thresh,
                stability_score_offset=options.stability_score_offset,
                crops_nms_thresh=options.box_nms_thresh,
                crops_n_layers=options.crop_n_layers,
                crop_overlap_ratio=options.crop_overlap_ratio,
                crop_n_points_downscale_factor=options.crop_n_points_downscale_factor,
            )
        found = [np.asarray(torch.as_tensor(mask).cpu(), dtype=bool) for mask in output["masks"]]
        found = [clean_regions(mask, options.min_mask_region_area) for mask in found]
        scores = torch.as_tensor(output["scores"], dtype=torch.float32).cpu().flatten()
        masks = MaskSet.from_arrays(np.stack(found) if found else np.zeros((0, height, width), bool), scores)
        masks = masks.select(masks.areas > 0)
        masks = masks.select(torch.argsort(masks.scores, descending=True, stable=True))
        return SourceResult(masks, self._embedding(image) if embed else {})

    def _embedding(self, image: Any) -> dict[str, np.ndarray]:
        """`embedding` float16 [C, S, S], and for models with several levels `level_0` ... from the finest."""
        inputs = self.generator.image_processor(images=image, return_tensors="pt")
        with torch.no_grad():
            features = self.generator.model.get_image_embeddings(inputs["pixel_values"].to(self.generator.device))
        levels = list(features) if isinstance(features, list | tuple) else [features]
        arrays = [level[0].float().cpu().numpy().astype(np.float16) for level in levels]
        extra = {f"level_{index}": array for index, array in enumerate(arrays[:-1])}
        return {"embedding": arrays[-1], "original_size": np.asarray((image.height, image.width)), **extra}


def clean_regions(mask: np.ndarray, min_area: int) -> np.ndarray:
    """Fill holes and remove islands of fewer than `min_area` pixels; the largest island always stays.

    Args:
        mask: bool [H, W].
        min_area: pixels.
    """
    if min_area <= 0 or not mask.any():
        return mask
    from scipy import ndimage

    eight = np.ones((3, 3), dtype=bool)
    holes, _ = ndimage.label(~mask, structure=eight)
    small = np.bincount(holes.ravel()) < min_area
    small[0] = False
    mask = mask | small[holes]
    islands, _ = ndimage.label(mask, structure=eight)
    sizes = np.bincount(islands.ravel())
    sizes[0] = 0
    kept = sizes >= min(min_area, sizes.max())
    kept[0] = False
    return kept[islands]
