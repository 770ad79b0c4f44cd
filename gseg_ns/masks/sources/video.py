"""Masks whose numbers agree from picture to picture: video models in short tracks over the pictures of a path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gseg_ns.errors import GsegError, missing_extra
from gseg_ns.masks.hub import UNGATED, first_line, refused, which_model
from gseg_ns.masks.mask_set import MaskSet
from gseg_ns.masks.paint import paint
from gseg_ns.masks.sources.base import MaskSource, Photo, SourceResult
from gseg_ns.masks.sources.sam2 import Sam2Config
from gseg_ns.masks.sources.worded import with_rest
from gseg_ns.masks.trackers import VideoTracker, load_tracker

Mask = NDArray[np.bool_]

SAME = 0.5
"""IoU of two masks of one picture from which on they are one thing's."""


@dataclass
class VideoConfig:
    """SAM 2.1 or EdgeTAM on video: all there is in every few pictures, carried through those before and after."""

    name: ClassVar[str] = "video"
    embeds: ClassVar[bool] = False
    in_sequence: ClassVar[bool] = True

    model: str | None = None
    """Name on the Hugging Face hub, such as facebook/sam2.1-hiera-tiny, or tiny for short (see --sam2.model); or a
    local folder."""
    stride: int = 8
    """Pictures from one that is divided to the next; tracks are that long."""
    min_area: float = 0.0005
    """Leave out masks of less than this fraction of the picture."""
    everything: Sam2Config = field(default_factory=Sam2Config)
    """How pictures are divided; with the same model unless another is named"""

    @property
    def is_asked(self) -> bool:
        """Whether its own options speak for it."""
        return self.model is not None

    def settings(self) -> dict[str, Any]:
        """All options, and which model it was."""
        return {
            **which_model(self._model),
            "stride": self.stride,
            "min_area": self.min_area,
            "everything": self._everything().settings(),
        }

    @property
    def _model(self) -> str:
        return self.model or UNGATED

    def _everything(self) -> Sam2Config:
        from dataclasses import replace

        return self.everything if self.everything.model is not None else replace(self.everything, model=self._model)

    def setup(self, device: str) -> VideoSource:
        """Load the model, once to divide pictures and once to follow."""
        if self.stride < 2 or not 0 <= self.min_area < 1:
            raise GsegError("The source video needs --video.stride of 2 or more and --video.min-area from 0 to 1.")
        return VideoSource(self._everything().setup(device), load_tracker(self._model, device), self)


class VideoSource:
    """See `VideoConfig`."""

    def __init__(self, divider: MaskSource, tracker: VideoTracker, config: VideoConfig) -> None:
        self.divider = divider
        self.tracker = tracker
        self.config = config

    def generate_all(self, photos: Sequence[Photo]) -> Iterator[SourceResult]:
        """The masks of all pictures, in their order, each with the number of its track."""
        joined = Joined()
        for first, last in _stretches(len(photos), self.config.stride):
            middle = (first + last) // 2
            stretch = [photos[number] for number in range(first, last + 1)]
            pictures = [photo.pixels for photo in stretch]
            start, scores = self._divide(stretch[middle - first])
            ahead = self.tracker.carry_all(pictures[middle - first :], start) if start else []
            behind = self.tracker.carry_all(pictures[middle - first :: -1], start) if start else []
            found = [*behind[:0:-1], *ahead] or [{} for _ in pictures]
            known = joined.join(found[0] if first else {}, found[-1] if last < len(photos) - 1 else {}, set(start))
            for offset in range(0 if first == 0 else 1, len(found)):
                height, width = pictures[offset].shape[:2]
                yield SourceResult(_as_set(found[offset], known, scores, None, (height, width)))

    def _divide(self, photo: Photo) -> tuple[dict[int, Mask], dict[int, float]]:
        """All there is in a picture: masks that do not overlap, and their scores, by numbers from 1."""
        masks = self.divider.generate(photo, embed=False).masks
        labels = paint(masks, "confidence", min_score=0.0).numpy()
        least = self.config.min_area * labels.size
        kept = {int(number): labels == number for number in np.unique(labels) if number > 0}
        kept = {number: mask for number, mask in kept.items() if mask.sum() > least}
        return kept, {number: 1.0 for number in kept}


@dataclass
class Sam3VideoConfig:
    """SAM 3 on video: all that some words name, with numbers that agree from picture to picture."""

    name: ClassVar[str] = "sam3-video"
    embeds: ClassVar[bool] = False
    in_sequence: ClassVar[bool] = True

    words: tuple[str, ...] = ()
    """What to find, such as: mug "red chair"."""
    model: str = "facebook/sam3"
    """Name on the Hugging Face hub, whose owner grants access by hand, or a local folder."""
    stride: int = 16
    """Pictures of a track; the next one begins with its last."""

    @property
    def is_asked(self) -> bool:
        """Whether its own options speak for it."""
        return bool(self.words)

    def settings(self) -> dict[str, Any]:
        """The words, and which model it was."""
        return {"words": list(self.words), "stride": self.stride, **which_model(self.model)}

    def setup(self, device: str) -> Sam3VideoSource:
        """Load the model; from the hub only if it is named there."""
        if not self.words:
            raise GsegError("The source sam3-video finds what words name: give some (--sam3-video.words mug chair).")
        if self.stride < 2:
            raise GsegError("The source sam3-video needs --sam3-video.stride of 2 or more.")
        try:
            from transformers import Sam3VideoModel, Sam3VideoProcessor
        except ImportError as error:
            raise missing_extra("The source sam3-video needs transformers 5", "sam3") from error
        try:
            processor = Sam3VideoProcessor.from_pretrained(self.model, trust_remote_code=False)
            # Weights are never unpickled, and code of the hub is never run.
            model: Any = Sam3VideoModel.from_pretrained(self.model, use_safetensors=True, trust_remote_code=False)
            model = model.to(device).eval()
        except Exception as error:
            # transformers and its hub client raise many types.
            told = (
                f"Cannot load {self.model!r} as SAM 3 on video ({first_line(error)}). Give a model folder, or a name."
            )
            raise GsegError(refused(self.model, error) or told) from error
        return Sam3VideoSource(processor, model, self)


class Sam3VideoSource:
    """See `Sam3VideoConfig`."""

    def __init__(self, processor: Any, model: Any, config: Sam3VideoConfig) -> None:
        self.processor = processor
        self.model = model
        self.config = config

    def generate_all(self, photos: Sequence[Photo]) -> Iterator[SourceResult]:
        """The masks of all pictures, in their order, each with its word and the number of its track."""
        joined = Joined()
        for first, last in _stretches(len(photos), self.config.stride):
            pictures = [photos[number].pixels for number in range(first, last + 1)]
            found, scores, words = self._follow(pictures)
            numbers = {number for masks in found for number in masks}
            known = joined.join(found[0] if first else {}, found[-1] if last < len(photos) - 1 else {}, numbers, words)
            for offset in range(0 if first == 0 else 1, len(found)):
                height, width = pictures[offset].shape[:2]
                yield SourceResult(_as_set(found[offset], known, scores, words, (height, width)))

    def _follow(
        self, pictures: Sequence[NDArray[np.uint8]]
    ) -> tuple[list[dict[int, Mask]], dict[int, float], dict[int, str]]:
        """Masks of all pictures by numbers, and the scores and words of these."""
        session = self.processor.init_video_session(
            video=list(pictures), inference_device=self.model.device, processing_device="cpu",
            video_storage_device="cpu",
        )  # fmt: skip
        self.processor.add_text_prompt(session, list(self.config.words))
        found: list[dict[int, Mask]] = [{} for _ in pictures]
        scores: dict[int, float] = {}
        words: dict[int, str] = {}
        for answer in self.model.propagate_in_video_iterator(
            inference_session=session, max_frame_num_to_track=len(pictures)
        ):
            result = self.processor.postprocess_outputs(session, answer)
            numbers = [int(number) for number in result["object_ids"]]
            masks = np.asarray(result["masks"].cpu(), dtype=bool)
            found[answer.frame_idx] = dict(zip(numbers, masks, strict=True))
            for number, score in zip(numbers, result["scores"].tolist(), strict=True):
                scores[number] = max(float(score), scores.get(number, 0.0))
            for word, of_it in result["prompt_to_obj_ids"].items():
                words |= {int(number): word for number in of_it}
        return found, scores, words


class Joined:
    """Tracks of one stretch after the other, whose numbers go on where masks of the picture that both share agree."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[Mask, str]] = {}
        """Masks of the last picture of the stretch before, by the numbers that they have for good."""
        self._next = 1

    def join(
        self,
        begin: Mapping[int, Mask],
        end: Mapping[int, Mask],
        numbers: set[int],
        words: Mapping[int, str] | None = None,
    ) -> dict[int, int]:
        """The numbers for good of a stretch's own.

        Args:
            begin: masks of its first picture, which the stretch before ended with; none where it is the first.
            end: masks of its last picture.
            numbers: all that it has.
            words: of them; things that are called differently are not one.
        """
        words = words or {}
        pairs = [
            (_iou(mask, other), number, place)
            for number, mask in begin.items()
            for place, (other, word) in self._last.items()
            if words.get(number, "") == word
        ]
        known: dict[int, int] = {}
        for likeness, number, place in sorted(pairs, reverse=True):
            if likeness >= SAME and number not in known and place not in known.values():
                known[number] = place
        for number in sorted(numbers - set(known)):
            known[number] = self._next
            self._next += 1
        self._last = {known[number]: (mask, words.get(number, "")) for number, mask in end.items() if number in known}
        return known


def _stretches(count: int, length: int) -> list[tuple[int, int]]:
    """First and last picture of stretches of about `length`; each begins with the last of the one before."""
    edges = np.linspace(0, count - 1, max(1, round((count - 1) / length)) + 1).round().astype(int).tolist()
    return list(pairwise(edges)) if count > 1 else [(0, 0)] * count


def _iou(one: Mask, other: Mask) -> float:
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0


def _as_set(
    masks: Mapping[int, Mask],
    known: Mapping[int, int],
    scores: Mapping[int, float],
    words: Mapping[int, str] | None,
    size: tuple[int, int],
) -> MaskSet:
    """Masks with their tracks, and where words were asked for with these and one of all that is left.

    Args:
        masks: of a picture, by number.
        known: their tracks.
        scores: of them.
        words: of them, also where none was found; None: no words were asked for.
        size: H and W.
    """
    numbers = [number for number in masks if number in known]
    records: list[dict[str, Any]] = [{"track": known[number]} for number in numbers]
    found, sure = [masks[number] for number in numbers], [scores.get(number, 1.0) for number in numbers]
    if words is None:
        kept = MaskSet.from_arrays(np.stack([np.zeros(size, bool), *found])[1:], sure, records)
        return kept.select(kept.areas > 0)
    said = [{"label": words.get(number, ""), **record} for number, record in zip(numbers, records, strict=True)]
    return with_rest(found, sure, said, size, {"track": 0})
