"""The real loader and generator on a small SAM with random weights, saved as SAM's own checkpoints are."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from torch import nn

from gseg_ns.errors import GsegError
from gseg_ns.masks.sources.amg import PRESETS, AmgOptions
from gseg_ns.masks.sources.base import Photo
from gseg_ns.masks.sources.sam import SamConfig
from gseg_ns.selection.prompts import Prompt
from gseg_ns.selection.prompts_sam import SamPrompts


def tiny_sam() -> nn.Module:
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    torch.manual_seed(0)
    sam = Sam(
        image_encoder=ImageEncoderViT(
            img_size=64,
            patch_size=16,
            embed_dim=32,
            depth=2,
            num_heads=2,
            out_chans=32,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=3,
            global_attn_indexes=(1,),
        ),
        prompt_encoder=PromptEncoder(32, (4, 4), (64, 64), mask_in_chans=16),
        mask_decoder=MaskDecoder(
            transformer_dim=32,
            transformer=TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=48, num_heads=8),
            iou_head_hidden_dim=24,
        ),
    )
    for name, parameter in sam.named_parameters():
        # Zero at the start of training; noise makes the attention see positions.
        if "rel_pos" in name or "pos_embed" in name:
            nn.init.normal_(parameter, std=0.5)
    return sam.eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam") / "sam_tiny.pth"
    torch.save(tiny_sam().state_dict(), path)
    return path


@pytest.fixture
def photo() -> Photo:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Photo(PurePosixPath("a.png"), pixels.repeat(8, axis=0).repeat(8, axis=1))


def lax(checkpoint: Path, **options: object) -> SamConfig:
    """Settings under which random weights give masks."""
    values = {"points_per_side": 4, "pred_iou_thresh": -1e3, "stability_score_thresh": 0.0, "box_nms_thresh": 0.99}
    return SamConfig(checkpoint=checkpoint, **(values | options))  # type: ignore[arg-type]


def test_loaded_model_is_the_saved_one(checkpoint: Path) -> None:
    from gseg_ns.masks.sources.sam_model import load_sam

    ours, original = load_sam(checkpoint), tiny_sam()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours.image_encoder(image), original.image_encoder(image))
    assert ours.image_encoder.img_size == 64
    assert torch.equal(ours.pixel_mean, original.pixel_mean)


@pytest.mark.parametrize("kind", ["vit_b", "vit_l", "vit_h"])
def test_published_sizes_are_recognised(kind: str) -> None:
    from segment_anything import sam_model_registry

    from gseg_ns.masks.sources.sam_model import _build

    with torch.device("meta"):
        published = sam_model_registry[kind]()
        ours = _build(published.state_dict())
    assert str(ours) == str(published)
    for mine, theirs in zip(ours.image_encoder.blocks, published.image_encoder.blocks, strict=True):
        assert mine.window_size == theirs.window_size
        assert mine.attn.num_heads == theirs.attn.num_heads
    assert ours.image_encoder.img_size == published.image_encoder.img_size


@pytest.mark.parametrize("options", [{}, {"box_nms_thresh": 1.0}, {"crop_n_layers": 1}, {"min_mask_region_area": 30}])
def test_same_masks_as_the_original_generator(checkpoint: Path, photo: Photo, options: dict[str, float]) -> None:
    from segment_anything import SamAutomaticMaskGenerator

    config = lax(checkpoint, **options)
    values = config.resolve()
    original = SamAutomaticMaskGenerator(tiny_sam(), **vars(values), output_mode="coco_rle").generate(photo.pixels)
    ours = config.setup("cpu").generate(photo, embed=False).masks
    assert len(ours) >= 1
    assert sorted(rle["counts"] for rle in ours.rles) == sorted(r["segmentation"]["counts"] for r in original)
    assert sorted(ours.scores.tolist()) == pytest.approx(sorted(r["predicted_iou"] for r in original))
    assert ours.areas.sum() == sum(record["area"] for record in original)
    assert ours.scores.tolist() == sorted(ours.scores.tolist(), reverse=True)


def test_granularities(checkpoint: Path, photo: Photo) -> None:
    every = lax(checkpoint).setup("cpu").generate(photo, embed=False).masks
    assert len(set(every.granularities)) > 1
    whole = lax(checkpoint, granularity="whole").setup("cpu").generate(photo, embed=False).masks
    assert set(whole.granularities) == {"whole"}
    # The level of each mask: alone, without suppression, a level gives what the others do not.
    free = lax(checkpoint, box_nms_thresh=1.0).setup("cpu").generate(photo, embed=False).masks
    for level in ("subpart", "part", "whole"):
        alone = lax(checkpoint, box_nms_thresh=1.0, granularity=level).setup("cpu").generate(photo, False).masks
        mine = [rle["counts"] for rle, g in zip(free.rles, free.granularities, strict=True) if g == level]
        assert sorted(mine) == sorted(rle["counts"] for rle in alone.rles)


def test_the_model_sees_rgb(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A red photograph on disk arrives as red: the first channel is the high one, normalised with SAM's red mean."""
    from PIL import Image

    from gseg_ns.masks.generate import Job, make
    from gseg_ns.masks.images import SceneImage

    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).save(tmp_path / "red.png")
    source = lax(checkpoint).setup("cpu")
    seen: list[torch.Tensor] = []
    encoder = source.generator.predictor.model.image_encoder  # type: ignore[attr-defined]
    encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    image = SceneImage(tmp_path / "red.png", PurePosixPath("red.png"), "red")
    assert make(Job(lax(checkpoint), tmp_path / "masks"), source, image).error is None
    expected = (torch.tensor([255.0, 0, 0]) - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor(
        [58.395, 57.12, 57.375]
    )
    assert torch.allclose(seen[0][0, :, 30, 30], expected, atol=1e-4)


def test_color_order_changes_the_masks(checkpoint: Path, photo: Photo) -> None:
    source = lax(checkpoint).setup("cpu")
    rgb = source.generate(photo, embed=False).masks
    bgr = source.generate(Photo(photo.name, np.ascontiguousarray(photo.pixels[..., ::-1])), embed=False).masks
    assert rgb.rles != bgr.rles


def test_embedding_is_that_of_the_predictor(checkpoint: Path, photo: Photo) -> None:
    from segment_anything import SamPredictor

    embedding = lax(checkpoint, crop_n_layers=1).setup("cpu").generate(photo, embed=True).embedding
    predictor = SamPredictor(tiny_sam())
    predictor.set_image(photo.pixels)
    expected = predictor.get_image_embedding()[0].numpy()
    assert np.allclose(embedding["embedding"], expected, atol=2e-3 * np.abs(expected).max())
    assert embedding["input_size"].tolist() == list(predictor.input_size)
    assert embedding["original_size"].tolist() == [40, 56]
    assert int(embedding["square"]) == 64


def test_points_on_a_picture(checkpoint: Path, photo: Photo) -> None:
    """The predictor behind `gseg select --sam` and the viewer's clicks."""
    prompts, picture = SamPrompts("cpu"), torch.from_numpy(photo.pixels)
    one = Prompt(positive=torch.tensor([[20.0, 10.0]]))
    several = Prompt(positive=torch.tensor([[20.0, 10.0], [30.0, 5.0]]), negative=torch.tensor([[50.0, 35.0]]))
    masks = [prompts.mask(checkpoint, picture, prompt) for prompt in (one, several, one)]
    assert all(mask.shape == (40, 56) and mask.dtype == torch.bool for mask in masks)
    assert torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], masks[1])


def test_nothing_found(checkpoint: Path, photo: Photo) -> None:
    masks = lax(checkpoint, pred_iou_thresh=1e6).setup("cpu").generate(photo, embed=False).masks
    assert len(masks) == 0
    assert (masks.height, masks.width) == (40, 56)


def test_presets_and_options() -> None:
    assert AmgOptions(preset="gaga").resolve() == PRESETS["gaga"]
    assert (PRESETS["gaga"].points_per_side, PRESETS["gaga"].pred_iou_thresh) == (64, 0.7)
    assert AmgOptions(preset="gaga", points_per_side=8).resolve().points_per_side == 8
    assert AmgOptions(preset="saga", min_mask_region_area=0).resolve().min_mask_region_area == 0
    with pytest.raises(GsegError, match="points_per_side"):
        AmgOptions(points_per_side=0).resolve()


def test_wrong_checkpoints(checkpoint: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pth"
    cut.write_bytes(checkpoint.read_bytes()[:20000])
    text = tmp_path / "text.pth"
    text.write_text("<html>404</html>")
    other = tmp_path / "other.pth"
    torch.save({"model": {"weight": torch.zeros(2)}}, other)
    flat = tmp_path / "flat.pth"
    torch.save({"weight": torch.zeros(2)}, flat)
    part = tmp_path / "part.pth"
    torch.save({k: v for k, v in torch.load(checkpoint).items() if "iou_token" not in k}, part)
    for path, message in ((cut, "cut"), (text, "damaged"), (other, "SAM"), (flat, "Segment Anything"), (part, "Segm")):
        with pytest.raises(GsegError, match=message) as caught:
            SamConfig(checkpoint=path).setup("cpu")
        assert path.name in str(caught.value)
    with pytest.raises(GsegError, match="does not exist"):
        SamConfig(checkpoint=tmp_path / "none.pth").setup("cpu")
    with pytest.raises(GsegError, match=r"--sam\.checkpoint"):
        SamConfig().setup("cpu")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(GsegError, match=r"evil\.pth"):
        SamConfig(checkpoint=tmp_path / "evil.pth").setup("cpu")
    assert not (tmp_path / "ran").exists()


def test_settings_tell_checkpoints_apart(checkpoint: Path, tmp_path: Path) -> None:
    same = SamConfig(checkpoint=checkpoint).settings()
    assert same == SamConfig(checkpoint=checkpoint, points_per_batch=3).settings()
    other = tmp_path / checkpoint.name
    state = torch.load(checkpoint)
    torch.save({key: value + 1 for key, value in state.items()}, other)
    assert SamConfig(checkpoint=other).settings() != same
    assert SamConfig(checkpoint=checkpoint, preset="gaga").settings() != same
