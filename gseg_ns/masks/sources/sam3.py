"""SAM 3 of transformers: words to the masks of all that they name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from gseg_ns.errors import GsegError, missing_extra
from gseg_ns.masks.hub import first_line, refused, which_model
from gseg_ns.masks.sources.base import MaskSource, Photo, SourceResult
from gseg_ns.masks.sources.worded import with_rest


@dataclass
class Sam3Config:
    """SAM 3: masks of all instances of some words in each photograph, each with its word."""

    name: ClassVar[str] = "sam3"
    embeds: ClassVar[bool] = False

    words: tuple[str, ...] = ()
    """What to find, such as: mug "red chair"."""
    model: str = "facebook/sam3"
    """Name on the Hugging Face hub, whose owner grants access by hand, or a local folder."""
    threshold: float = 0.5
    """Smallest score of a mask."""

    @property
    def is_asked(self) -> bool:
        """Whether its own options speak for it."""
        return bool(self.words)

    def settings(self) -> dict[str, Any]:
        """The words, and which model it was."""
        return {"words": list(self.words), "threshold": self.threshold, **which_model(self.model)}

    def setup(self, device: str) -> MaskSource:
        """Load the model; from the hub only if it is named there."""
        if not self.words:
            raise GsegError("The source sam3 finds what words name: give some (--sam3.words mug chair).")
        if not 0 <= self.threshold <= 1:
            raise GsegError(f"--sam3.threshold is {self.threshold}: give a score between 0 and 1")
        try:
            from transformers import Sam3Model, Sam3Processor
        except ImportError as error:
            raise missing_extra("The source sam3 needs transformers 5", "sam3") from error
        try:
            processor = Sam3Processor.from_pretrained(self.model, trust_remote_code=False)
            # Weights are never unpickled, and code of the hub is never run.
            model: Any = Sam3Model.from_pretrained(self.model, use_safetensors=True, trust_remote_code=False)
            model = model.to(device).eval()
        except Exception as error:
            # transformers and its hub client raise many types.
            told = (
                f"Cannot load {self.model!r} as SAM 3 ({first_line(error)}). Give a model folder with config.json, its "
                "processor and safetensors, or facebook/sam3 while online."
            )
            raise GsegError(refused(self.model, error) or told) from error
        return Sam3Source(processor, model, self.words, self.threshold)


class Sam3Source:
    """Masks of some words by a loaded model; each photograph is encoded once for all of them."""

    def __init__(self, processor: Any, model: Any, words: tuple[str, ...], threshold: float) -> None:
        self.processor = processor
        self.model = model
        self.words = words
        self.threshold = threshold

    @torch.no_grad()
    def generate(self, photo: Photo, embed: bool) -> SourceResult:
        """Masks in falling order of score, each with its word; and one of all that is left, see `with_rest`."""
        from PIL import Image

        height, width = photo.pixels.shape[:2]
        image = self.processor(images=Image.fromarray(photo.pixels), return_tensors="pt").to(self.model.device)
        seen = self.model.get_vision_features(pixel_values=image["pixel_values"])
        found: list[np.ndarray] = []
        scores: list[float] = []
        records: list[dict[str, Any]] = []
        for word in self.words:
            asked = self.processor(text=word, return_tensors="pt").to(self.model.device)
            outputs = self.model(
                vision_embeds=seen, input_ids=asked["input_ids"], attention_mask=asked["attention_mask"]
            )
            [answer] = self.processor.post_process_instance_segmentation(
                outputs, threshold=self.threshold, mask_threshold=0.5, target_sizes=[[height, width]]
            )
            masks = np.asarray(torch.as_tensor(answer["masks"]).cpu(), dtype=bool).reshape(-1, height, width)
            found += list(masks)
            scores += torch.as_tensor(answer["scores"]).float().cpu().flatten().tolist()
            records += [{"label": word}] * len(masks)
        return SourceResult(with_rest(found, scores, records, (height, width)))
