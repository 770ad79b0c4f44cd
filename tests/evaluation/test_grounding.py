from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.grounding import TextGrounder


def detector(picture: Any, candidate_labels: list[str], threshold: float) -> list[dict[str, Any]]:
    """Finds "apple" twice and nothing else."""
    assert picture.size == (60, 40)
    hits = [
        {"score": 0.4, "box": {"xmin": -3, "ymin": 2, "xmax": 10, "ymax": 8}},
        {"score": 0.9, "box": {"xmin": 30, "ymin": 20, "xmax": 70, "ymax": 30}},
    ]
    return [hit for hit in hits if hit["score"] >= threshold] if candidate_labels == ["apple"] else []


def test_boxes_are_masks_without_sam() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    both = TextGrounder(detector).mask(picture, "apple")
    assert both.shape == (40, 60)
    assert both.sum() == 6 * 10 + 10 * 30  # cut at the border of the picture
    assert TextGrounder(detector, threshold=0.5).mask(picture, "apple").sum() == 10 * 30
    assert not TextGrounder(detector).mask(picture, "pear").any()


def test_sam_shapes_the_boxes() -> None:
    class Predictor:
        def set_image(self, picture: np.ndarray) -> None:
            self.shape = picture.shape[:2]

        def predict(self, box: np.ndarray, multimask_output: bool) -> tuple[np.ndarray, None, None]:
            assert not multimask_output
            mask = np.zeros((1, *self.shape), bool)
            mask[0, int(box[1]), max(int(box[0]), 0)] = True  # a corner of the box
            return mask, None, None

    mask = TextGrounder(detector, Predictor()).mask(np.zeros((40, 60, 3), np.uint8), "apple")
    assert mask.nonzero().tolist() == [[2, 0], [20, 30]]


def test_a_real_detector_of_transformers(tmp_path: Path) -> None:
    """OWL-ViT, tiny and random: loading, preprocessing and the form of the answer are those of real weights."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"<unk>": 0, "<end>": 1, "green": 2, "apple": 3, "!": 4}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>", pad_token="!", model_max_length=8
    )
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.OwlViTConfig(
        text_config={**small, "vocab_size": 8, "max_position_embeddings": 8, "eos_token_id": 1},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    transformers.OwlViTForObjectDetection(config).save_pretrained(tmp_path)
    images = transformers.OwlViTImageProcessor(size={"height": 32, "width": 32})
    transformers.OwlViTProcessor(images, fast).save_pretrained(tmp_path)

    grounder = TextGrounder.load(str(tmp_path), threshold=0.0)
    boxes = grounder.boxes(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8), "green apple")
    assert boxes.shape == (16, 4)  # one a patch of 8 x 8
    assert np.isfinite(boxes).all()


def test_grounding_dino_reads_a_phrase_as_one(tmp_path: Path) -> None:
    """Tiny and random, but with the attention of real weights: between the words of what ends with a full stop."""
    transformers = pytest.importorskip("transformers")
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 500: "green", 501: "apple", 1012: "."}
    vocabulary = {special.get(number, f"[unused{number}]"): number for number in range(1030)}
    small = {"num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            image_size=96, embed_dim=8, depths=[1] * 3, num_heads=[1] * 3, window_size=2, out_features=["stage3"]
        ),
        text_config=transformers.BertConfig(vocab_size=1030, max_position_embeddings=16, **small),
        **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "num_queries": 5, "num_feature_levels": 1},
        **{"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_text_len": 16},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
    )
    transformers.GroundingDinoForObjectDetection(config).save_pretrained(tmp_path)
    transformers.GroundingDinoProcessor(
        transformers.GroundingDinoImageProcessor(size={"height": 96, "width": 96}),
        transformers.BertTokenizerFast(vocab=vocabulary),
    ).save_pretrained(tmp_path)

    grounder = TextGrounder.load(str(tmp_path), threshold=0.0)
    words = grounder.detector.model.model.text_backbone  # type: ignore[attr-defined]
    attention: list[list[list[bool]]] = []
    words.register_forward_pre_hook(
        lambda module, values, named: attention.append(values[1][0, 0].tolist()), with_kwargs=True
    )
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    assert grounder.boxes(picture, "Green apple").shape == (5, 4)
    phrase = [False, True, True, True, False]
    assert attention[0][1:4] == [phrase] * 3  # green, apple, full stop


def test_missing_weights_are_named() -> None:
    with pytest.raises(GsegError, match="/nonexistent/detector"):
        TextGrounder.load("/nonexistent/detector")
