"""The real pipeline of transformers on a small SAM and a small SAM 2 with random weights, saved to folders."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.masks.sources.base import Photo
from gseg_ns.masks.sources.sam2 import Sam2Config, clean_regions

pytest.importorskip("transformers", reason="the optional extra sam2 is not installed")


def save_sam(folder: Path) -> None:
    from transformers import SamConfig, SamImageProcessor, SamModel

    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 16,
            "output_channels": 32,
            "window_size": 3,
            "global_attn_indexes": [1],
            "num_pos_feats": 16,
            "mlp_dim": 64,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 16, "image_embedding_size": 4},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 48, "iou_head_hidden_dim": 24, "num_attention_heads": 4},
        initializer_range=0.2,
    )
    SamModel(config).save_pretrained(folder)
    SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}).save_pretrained(folder)


def save_sam2(folder: Path) -> None:
    from transformers import Sam2Config as Config
    from transformers import Sam2HieraDetConfig, Sam2ImageProcessor, Sam2Model, Sam2VisionConfig

    torch.manual_seed(0)
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[64, 64],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[8, 4, 4, 4],
        window_positional_embedding_background_size=[4, 4],
        global_attention_blocks=[3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
    )
    prompts = {"hidden_size": 32, "image_size": 64, "patch_size": 16}
    decoder = {"hidden_size": 32, "mlp_dim": 48, "iou_head_hidden_dim": 24, "num_attention_heads": 4}
    config = Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    Sam2Model(config).save_pretrained(folder)
    Sam2ImageProcessor(size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16}).save_pretrained(folder)


@pytest.fixture(scope="module", params=[save_sam, save_sam2], ids=["sam", "sam2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny sam"
    request.param(folder)
    return folder


@pytest.fixture
def photo() -> Photo:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Photo(PurePosixPath("a.png"), pixels.repeat(8, axis=0).repeat(8, axis=1))


def lax(model: Path, **options: object) -> Sam2Config:
    values = {"points_per_side": 4, "pred_iou_thresh": -1e3, "stability_score_thresh": 0.0, "box_nms_thresh": 0.99}
    return Sam2Config(model=str(model), **(values | options))  # type: ignore[arg-type]


def test_masks_and_embedding(model: Path, photo: Photo) -> None:
    result = lax(model).setup("cpu").generate(photo, embed=True)
    masks = result.masks
    assert len(masks) > 0
    assert (masks.height, masks.width) == (40, 56)
    assert masks.scores.tolist() == sorted(masks.scores.tolist(), reverse=True)
    assert bool((masks.areas > 0).all())
    assert result.embedding["embedding"].shape == (32, 4, 4)
    assert result.embedding["original_size"].tolist() == [40, 56]


def test_the_model_sees_rgb(model: Path) -> None:
    source = lax(model).setup("cpu")
    seen: list[torch.Tensor] = []
    encoder = source.generator.model.vision_encoder  # type: ignore[attr-defined]
    encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((args[0] if args else kwargs["pixel_values"]).clone()),
        with_kwargs=True,
    )
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    source.generate(Photo(PurePosixPath("red.png"), red), embed=False)
    pixel = seen[0][0, :, 30, 30]
    assert pixel[0] > 2
    assert bool((pixel[1:] < -1.5).all())


def test_nothing_found(model: Path, photo: Photo) -> None:
    masks = lax(model, pred_iou_thresh=1e6).setup("cpu").generate(photo, embed=False).masks
    assert len(masks) == 0
    assert (masks.height, masks.width) == (40, 56)


def test_wrong_models(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # transformers reads the variable when it is imported; this is what it is read into.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    for name in ("nobody/no-such-model", str(tmp_path / "empty")):
        with pytest.raises(GsegError, match="Cannot load"):
            Sam2Config(model=name).setup("cpu")
    with pytest.raises(GsegError, match=r"Cannot load 'facebook/sam2\.1-hiera-large'"):
        Sam2Config().setup("cpu")


def test_models_have_short_names() -> None:
    assert Sam2Config(model="tiny").settings()["model"] == "facebook/sam2.1-hiera-tiny"
    assert Sam2Config(model="edgetam").settings()["model"] == "yonigozlan/EdgeTAM-hf"
    assert Sam2Config().settings() == Sam2Config(model="large").settings()
    assert not Sam2Config().is_asked


def test_settings(model: Path) -> None:
    settings = lax(model).settings()
    assert settings["model"] == "tiny sam"
    assert len(settings["weights"]) == 1
    assert lax(model, points_per_batch=2).settings() == settings
    assert lax(model, preset="gaga").settings() == settings  # every setting that the preset changes is given


def test_clean_regions() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[2:12, 2:12] = True
    mask[5, 5] = False
    mask[15:17, 15:17] = True
    cleaned = clean_regions(mask, 5)
    assert cleaned[5, 5]
    assert not cleaned[15, 15]
    assert cleaned.sum() == 100
    small = np.zeros((20, 20), dtype=bool)
    small[3, 3] = True
    assert clean_regions(small, 5).sum() == 1
    assert clean_regions(mask, 0) is mask
