"""SAM 3 of transformers: words to the masks of all that they name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from gseg_ns.errors import GsegError, missing_extra
from gseg_ns.masks.mask_set import MaskSet
from gseg_ns.masks.sources.base import MaskSource, Photo, SourceResult
from gseg_ns.masks.sources.sam import fingerprint

REST = 0.5
"""Score of the mask of all that no word names: least, so that it is below the others."""


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

    def settings(self) -> dict[str, Any]:
        """The words, and which model it was."""
        folder = Path(self.model)
        weights = [fingerprint(path) for path in sorted(folder.glob("*.safetensors"))] if folder.is_dir() else []
        name = folder.name if folder.is_dir() else self.model
        return {"words": list(self.words), "threshold": self.threshold, "model": name, "weights": weights}

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
            processor = Sam3Processor.from_pretrained(self.model)
            # Weights are never unpickled.
            model: Any = Sam3Model.from_pretrained(self.model, use_safetensors=True)
            model = model.to(device).eval()
        except Exception as error:
            # transformers and its hub client raise many types.
            raise GsegError(refusal(self.model, error)) from error
        return Sam3Source(processor, model, self.words, self.threshold)


def refusal(model: str, error: Exception) -> str:
    """What to say of a model that cannot be loaded, in one line."""
    text = str(error).strip()
    if "403" in text or "401" in text or "gated" in text.lower():
        return (
            f"The hub refuses {model!r}: its owner grants access by hand. Ask for it on its page and log in (hf auth "
            "login), or name a folder with the weights, or make masks with words in another tool, such as "
            "Grounded-SAM-2, and give them with --masks."
        )
    reason = text.splitlines()[0][:200] if text else type(error).__name__
    return (
        f"Cannot load {model!r} as SAM 3 ({reason}). Give a model folder with config.json, its processor and "
        "safetensors, or facebook/sam3 while online."
    )


class Sam3Source:
    """Masks of some words by a loaded model; each photograph is encoded once for all of them."""

    def __init__(self, processor: Any, model: Any, words: tuple[str, ...], threshold: float) -> None:
        self.processor = processor
        self.model = model
        self.words = words
        self.threshold = threshold

    @torch.no_grad()
    def generate(self, photo: Photo, embed: bool) -> SourceResult:
        """Masks in falling order of score, each with its word; and one without a word of all that is left.

        Without that, what lies around an object would belong to it, for nothing else is said of it.
        """
        from PIL import Image

        height, width = photo.pixels.shape[:2]
        image = self.processor(images=Image.fromarray(photo.pixels), return_tensors="pt").to(self.model.device)
        seen = self.model.get_vision_features(pixel_values=image["pixel_values"])
        found, scores, records = [np.zeros((0, height, width), dtype=bool)], [], []
        for word in self.words:
            asked = self.processor(text=word, return_tensors="pt").to(self.model.device)
            outputs = self.model(
                vision_embeds=seen, input_ids=asked["input_ids"], attention_mask=asked["attention_mask"]
            )
            [answer] = self.processor.post_process_instance_segmentation(
                outputs, threshold=self.threshold, mask_threshold=0.5, target_sizes=[[height, width]]
            )
            masks = np.asarray(torch.as_tensor(answer["masks"]).cpu(), dtype=bool).reshape(-1, height, width)
            found.append(masks)
            scores += torch.as_tensor(answer["scores"]).float().cpu().flatten().tolist()
            records += [{"label": word}] * len(masks)
        arrays = np.concatenate(found)
        rest = np.logical_not(arrays.any(axis=0))
        if rest.any():
            arrays, scores, records = (
                np.concatenate([arrays, np.expand_dims(rest, 0)]),
                [*scores, REST],
                [*records, {"label": ""}],
            )
        kept = MaskSet.from_arrays(arrays, scores, records)
        kept = kept.select(kept.areas > 0)
        return SourceResult(kept.select(torch.argsort(kept.scores, descending=True, stable=True)))
