"""Words to masks without access to SAM 3: boxes by Grounding DINO, and their masks by SAM 2.1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from gseg_ns.errors import GsegError, missing_extra
from gseg_ns.masks.hub import first_line, refused, which_model
from gseg_ns.masks.pointed import PointedModel, load_pointed
from gseg_ns.masks.sources.base import MaskSource, Photo, SourceResult
from gseg_ns.masks.sources.worded import with_rest


@dataclass
class GroundedConfig:
    """Grounding DINO's boxes of some words, and SAM 2.1's masks of these, each with its word: open weights."""

    name: ClassVar[str] = "grounded"
    embeds: ClassVar[bool] = False

    words: tuple[str, ...] = ()
    """What to find, such as: mug "red chair"."""
    model: str = "IDEA-Research/grounding-dino-tiny"
    """Grounding DINO: a name on the Hugging Face hub, or a local folder."""
    sam: str = "facebook/sam2.1-hiera-large"
    """SAM 2.1 or another model of transformers that boxes can be given: a name, also a short one (see --sam2.model), or
    a local folder."""
    threshold: float = 0.3
    """Smallest score of a box."""
    overlap: float = 0.7
    """Of two boxes of a word that overlap by more than this IoU, the better stays."""

    @property
    def is_asked(self) -> bool:
        """Whether its own options speak for it."""
        return bool(self.words)

    def settings(self) -> dict[str, Any]:
        """The words, and which models it was."""
        return {
            "words": list(self.words),
            "threshold": self.threshold,
            "overlap": self.overlap,
            **which_model(self.model),
            "sam": which_model(self.sam),
        }

    def setup(self, device: str) -> MaskSource:
        """Load both models; from the hub only if they are named there."""
        if not self.words:
            raise GsegError("The source grounded finds what words name: give some (--grounded.words mug chair).")
        for name in ("threshold", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise GsegError(f"--grounded.{name} is {getattr(self, name)}: give a number between 0 and 1")
        try:
            from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor
        except ImportError as error:
            raise missing_extra("The source grounded needs transformers", "sam2") from error
        try:
            reader = AutoProcessor.from_pretrained(self.model, trust_remote_code=False)
            # Weights are never unpickled, and code of the hub is never run.
            finder = AutoModelForZeroShotObjectDetection.from_pretrained(
                self.model, use_safetensors=True, trust_remote_code=False
            )
            finder = finder.to(device).eval()
        except Exception as error:
            # transformers and its hub client raise many types.
            told = (
                f"Cannot load {self.model!r} as Grounding DINO ({first_line(error)}). Give a folder, or a name online."
            )
            raise GsegError(refused(self.model, error) or told) from error
        return GroundedSource(reader, finder, load_pointed(self.sam, device), self)


class GroundedSource:
    """Masks of some words by two loaded models."""

    def __init__(self, reader: Any, finder: Any, sam: PointedModel, config: GroundedConfig) -> None:
        self.reader = reader
        self.finder = finder
        self.sam = sam
        self.config = config

    @torch.no_grad()
    def generate(self, photo: Photo, embed: bool) -> SourceResult:
        """Masks in falling order of score, each with its word; and one of all that is left, see `with_rest`."""
        from PIL import Image

        size = photo.pixels.shape[0], photo.pixels.shape[1]
        picture = Image.fromarray(photo.pixels)
        boxes, scores, words = [], [], []
        for word in self.config.words:
            found, sure = self._boxes(picture, word, size)
            boxes += found
            scores += sure
            words += [word] * len(found)
        masks: list[np.ndarray] = []
        if boxes:
            self.sam.set_image(photo.pixels)
            masks = list(self.sam.of_boxes(boxes))
        records = [
            {"label": word, "box": [round(side, 2) for side in box]} for word, box in zip(words, boxes, strict=True)
        ]
        return SourceResult(with_rest(masks, scores, records, size))

    def _boxes(self, picture: Any, word: str, size: tuple[int, int]) -> tuple[list[list[float]], list[float]]:
        """Boxes of all that a word names, and how sure they are. A word at a time: several would mix."""
        from torchvision.ops import nms

        # It was trained on phrases in small letters that end with a full stop.
        asked = self.reader(images=picture, text=f"{word.lower().strip('. ')}.", return_tensors="pt")
        asked = asked.to(self.finder.device)
        [answer] = self.reader.post_process_grounded_object_detection(
            self.finder(**asked), asked["input_ids"], threshold=self.config.threshold, text_threshold=0.0,
            target_sizes=[size],
        )  # fmt: skip
        boxes, scores = answer["boxes"].float().cpu(), answer["scores"].float().cpu()
        height, width = size
        boxes = boxes.clamp_min(0).minimum(torch.tensor([width, height, width, height], dtype=boxes.dtype))
        wide = (boxes[:, 2:] - boxes[:, :2] >= 1).all(dim=1)
        boxes, scores = boxes[wide], scores[wide]
        kept = nms(boxes, scores, self.config.overlap)
        return boxes[kept].tolist(), scores[kept].tolist()
