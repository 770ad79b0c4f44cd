"""Segment Anything (Kirillov et al. 2023) with its own automatic mask generator."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from gseg_ns.errors import GsegError
from gseg_ns.masks.hub import fingerprint
from gseg_ns.masks.mask_set import GRANULARITIES, MaskSet
from gseg_ns.masks.sources.amg import AmgOptions
from gseg_ns.masks.sources.base import MaskSource, Photo, SourceResult

if TYPE_CHECKING:
    from gseg_ns.masks.sources.sam_model import GranularMaskGenerator

Granularity = Literal["all", "subpart", "part", "whole"]


@dataclass
class SamConfig(AmgOptions):
    """Segment Anything, from a checkpoint in its own format (ViT-H, L, B or any other size)."""

    name: ClassVar[str] = "sam"
    embeds: ClassVar[bool] = True

    checkpoint: Path | None = None
    """The checkpoint, such as sam_vit_h_4b8939.pth. The model's size is read from it."""
    granularity: Granularity = "all"
    """SAM answers each point with three masks. All compete with each other (what the papers do), or one level alone:
    whole is what Unified-Lift trains on. Kept in the file as `granularity`."""

    @property
    def is_asked(self) -> bool:
        """Whether its own options speak for it."""
        return self.checkpoint is not None

    def settings(self) -> dict[str, Any]:
        """The resolved settings, and which checkpoint it was."""
        settings = asdict(self.resolve())
        # The same masks, whatever the batch.
        del settings["points_per_batch"]
        return {**settings, "granularity": self.granularity, "checkpoint": fingerprint(self._checkpoint())}

    def _checkpoint(self) -> Path:
        if self.checkpoint is None:
            raise GsegError("The source sam needs --sam.checkpoint, such as sam_vit_h_4b8939.pth.")
        if not self.checkpoint.is_file():
            raise GsegError(f"The checkpoint {self.checkpoint} does not exist.")
        return self.checkpoint

    def setup(self, device: str) -> MaskSource:
        """Load the checkpoint."""
        settings = asdict(self.resolve())
        checkpoint = self._checkpoint()
        from gseg_ns.masks.sources.sam_model import GranularMaskGenerator, load_sam

        kept = range(len(GRANULARITIES)) if self.granularity == "all" else [GRANULARITIES.index(self.granularity)]
        generator = GranularMaskGenerator(load_sam(checkpoint).to(device), kept, **settings, output_mode="coco_rle")
        return SamSource(generator)


class SamSource:
    """Masks and embeddings of a loaded SAM."""

    def __init__(self, generator: GranularMaskGenerator) -> None:
        self.generator = generator

    def generate(self, photo: Photo, embed: bool) -> SourceResult:
        """Masks in falling order of predicted IoU, each with SAM's own values and its granularity."""
        records = self.generator.generate(photo.pixels)
        levels = self.generator.granularities
        height, width = photo.pixels.shape[:2]
        masks = MaskSet(
            height=height,
            width=width,
            rles=[record["segmentation"] for record in records],
            scores=torch.tensor([record["predicted_iou"] for record in records], dtype=torch.float32),
            extra=[
                {
                    "stability_score": round(record["stability_score"], 6),
                    "point_coords": record["point_coords"],
                    "crop_box": record["crop_box"],
                    "granularity": GRANULARITIES[level],
                }
                for record, level in zip(records, levels, strict=True)
            ],
        )
        order = torch.argsort(masks.scores, descending=True, stable=True)
        return SourceResult(masks.select(order), self.generator.embedding() if embed else {})
