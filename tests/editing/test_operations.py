from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gseg_ns.editing import edit_list
from gseg_ns.editing.edit_list import describe, load_edits, save_edits
from gseg_ns.editing.operations import (
    Duplicate,
    Hide,
    Isolate,
    Recolor,
    Remove,
    SetOpacity,
    ShowAll,
    Swap,
    Transform,
    apply,
    bake,
    centre_of,
    evaluate,
)
from gseg_ns.errors import GsegError
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.store import Fingerprint
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import write_ply

COUNT = 50
FIELDS = ("means", "quats", "scales", "opacities", "sh")


def make_splats(count: int = COUNT, seed: int = 0) -> Splats:
    g = torch.Generator().manual_seed(seed)
    return Splats(
        means=torch.randn(count, 3, generator=g),
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=1),
        scales=torch.randn(count, 3, generator=g) * 0.3 - 3,
        opacities=torch.randn(count, generator=g),
        sh=torch.randn(count, 16, 3, generator=g) * 0.2,
        extra={"group": torch.arange(count)},
    )


def first(count: int, of: int = COUNT) -> PackedMask:
    return PackedMask.pack(torch.arange(of) < count)


def covariances(splats: Splats) -> torch.Tensor:
    w, x, y, z = torch.nn.functional.normalize(splats.quats, dim=1).T
    rotation = torch.stack(
        [
            *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        ],
        dim=1,
    ).reshape(-1, 3, 3)
    half = rotation * splats.scales.exp()[:, None]
    return half @ half.transpose(1, 2)


floats = st.floats(-2, 2, allow_nan=False)
quaternions = st.tuples(floats, floats, floats, floats).filter(lambda q: sum(v * v for v in q) > 0.05)


@settings(max_examples=40, deadline=None)
@given(quaternions, st.tuples(floats, floats, floats), st.floats(0.3, 3))
def test_there_and_back_is_the_identity(rotation, translation, scale) -> None:
    splats = make_splats()
    w, x, y, z = rotation
    there = Transform(first(20), rotation, translation, scale)
    back = Transform(first(20), (w, -x, -y, -z), tuple(-v for v in translation), 1 / scale)
    moved = apply(splats, [there])
    assert torch.equal(moved.means[20:], splats.means[20:])
    result = apply(splats, [there, back])
    assert torch.allclose(result.means, splats.means, atol=1e-5)
    assert torch.allclose(result.scales, splats.scales, atol=1e-5)
    assert torch.allclose(result.sh, splats.sh, atol=1e-5)
    assert torch.allclose(covariances(result), covariances(splats), atol=1e-5)
    expected = centre_of(splats, first(20).unpack()) + torch.tensor(translation)
    assert torch.allclose(centre_of(moved, first(20).unpack()), expected, atol=1e-5)


def test_the_scene_itself_is_never_written() -> None:
    splats = make_splats()
    copy = splats.clone()
    apply(
        splats,
        [
            Recolor(first(9), (1, 0, 0)),
            SetOpacity(first(9), 0.1),
            Transform(first(9), (1, 1, 0, 0), (1, 2, 3), 2.0),
            Duplicate(first(9), (1, 0, 0)),
            Swap(first(3), PackedMask.pack(torch.arange(COUNT) > 40)),
            Remove(first(9)),
            Hide(first(9)),
            Isolate(first(9)),
            ShowAll(),
        ],
    )
    for name in FIELDS:
        assert torch.equal(getattr(splats, name), getattr(copy, name)), name


def test_hidden_is_exported_and_removed_is_not() -> None:
    splats = make_splats()
    assert len(apply(splats, [Hide(first(9))])) == COUNT - 9
    assert len(bake(splats, [Hide(first(9))])) == COUNT
    assert len(bake(splats, [Remove(first(9))])) == COUNT - 9
    assert len(apply(splats, [Isolate(first(9))])) == 9
    assert len(apply(splats, [Isolate(first(9)), ShowAll()])) == COUNT


def test_recolor_flat_gives_the_color_from_every_side() -> None:
    result = apply(make_splats(), [Recolor(first(9), (0.2, 0.4, 0.6), keep_shading=False)])
    rgb = 0.5 + 0.28209479177387814 * result.sh[:9, 0]
    assert torch.allclose(rgb, torch.tensor([0.2, 0.4, 0.6]).expand(9, 3), atol=1e-6)
    assert result.sh[:9, 1:].abs().max() == 0


def test_recolor_keeps_shading() -> None:
    splats = make_splats()
    result = apply(splats, [Recolor(first(9), (1.0, 0.0, 0.0))])
    rgb = 0.5 + 0.28209479177387814 * result.sh[:9, 0]
    assert rgb[:, 1:].abs().max() < 1e-6
    assert torch.isclose(rgb[:, 0].mean(), torch.tensor(1.0), atol=1e-5)
    before = 0.5 + 0.28209479177387814 * (splats.sh[:9, 0] @ torch.tensor([0.2126, 0.7152, 0.0722]))
    assert torch.equal(rgb[:, 0].argsort(), before.argsort())
    half = apply(splats, [Recolor(first(9), (1.0, 0.0, 0.0), amount=0.0)])
    assert torch.allclose(half.sh, splats.sh)


def test_swap_puts_the_other_object_in_the_place(tmp_path: Path) -> None:
    splats = make_splats()
    other = PackedMask.pack(torch.arange(COUNT) >= 40)
    scene = evaluate(splats, [Swap(first(10), other)])
    new = scene.appended_by == 1
    assert int(new.sum()) == 10
    assert torch.allclose(centre_of(scene.splats, new), centre_of(splats, first(10).unpack()), atol=1e-5)
    assert scene.removed[:10].all()
    assert scene.source[new].tolist() == list(range(40, 50))
    spread = (splats.means[:10] - centre_of(splats, first(10).unpack())).square().sum(1).mean().sqrt()
    after = (scene.splats.means[new] - centre_of(scene.splats, new)).square().sum(1).mean().sqrt()
    assert torch.isclose(spread, after, rtol=1e-3)

    path = tmp_path / "other.ply"
    write_ply(path, make_splats(7, seed=3))
    scene = evaluate(splats, [Swap(first(10), str(path), match_size=False)])
    assert len(scene) == COUNT + 7
    assert scene.source[-7:].tolist() == [-1] * 7
    assert scene.splats.extra["group"][-7:].tolist() == [0] * 7


def test_edits_survive_the_disk(tmp_path: Path) -> None:
    splats = make_splats()
    operations = [
        Recolor(first(9), (1.0, 0.5, 0.0), amount=0.5),
        Transform(first(9), (1.0, 1.0, 0.0, 0.0), (1.0, 2.0, 3.0), 2.0),
        Duplicate(first(9), (1.0, 0.0, 0.0)),
        Swap(first(3), PackedMask.pack(torch.arange(COUNT) > 40)),
        Remove(PackedMask.pack(torch.arange(COUNT + 9) > 52)),
        Hide(first(9)),
        Isolate(first(9)),
        ShowAll(),
        SetOpacity(first(2), 0.5),
    ]
    fingerprint = Fingerprint.of(splats.means)
    path = tmp_path / "edits.json"
    save_edits(path, operations, fingerprint)
    loaded = load_edits(path, fingerprint)
    assert loaded == operations
    a, b = bake(splats, operations), bake(splats, loaded)
    for name in FIELDS:
        assert torch.equal(getattr(a, name), getattr(b, name))
    assert describe(operations[0]) == "recolor 9 Gaussians"
    former = path.read_text().replace('"recolor"', '"recolour"').replace('"color"', '"colour"')
    path.write_text(former)
    assert load_edits(path, fingerprint) == operations


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format": "gseg-edits-1"}', '{"format": "x"}', "\x00", '{"format": "gseg-edits-1", "g']
)
def test_damaged_edit_lists(tmp_path: Path, text: str) -> None:
    path = tmp_path / "edits.json"
    path.write_text(text)
    with pytest.raises(GsegError, match=r"edits\.json"):
        load_edits(path, Fingerprint.of(make_splats().means))


def test_missing_and_foreign_edit_lists(tmp_path: Path) -> None:
    path = tmp_path / "edits.json"
    with pytest.raises(GsegError, match="no edit list"):
        load_edits(path, Fingerprint.of(make_splats().means))
    save_edits(path, [Remove(first(9))], Fingerprint.of(make_splats(seed=1).means))
    with pytest.raises(GsegError, match="another run"):
        load_edits(path, Fingerprint.of(make_splats().means))


NOT_NUMBERS = (float("nan"), float("inf"), -float("inf"), 1e30, "1", None, True, (1.0,))


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_numbers_of_edits_are_checked_where_they_are_made(value: Any) -> None:
    for make in (
        lambda: SetOpacity(first(9), value),
        lambda: Recolor(first(9), (value, 0.0, 0.0)),
        lambda: Recolor(first(9), (255, 0, 0)),
        lambda: Recolor(first(9), (0.0, 0.0, 0.0), amount=value),
        lambda: Transform(first(9), translation=(value, 0.0, 0.0)),
        lambda: Transform(first(9), rotation=(value, 0.0, 0.0, 1.0)),
        lambda: Transform(first(9), scale=value),
        lambda: Transform(first(9), pivot=(value, 0.0, 0.0)),
        lambda: Duplicate(first(9), (0.0, value, 0.0)),
        lambda: Duplicate(first(9), (0.0, 0.0, 0.0), scale=value),
    ):
        with pytest.raises(GsegError, match="of an edit is"):
            make()


def test_edits_that_double_a_scene_again_and_again_end() -> None:
    everything = [
        Duplicate(PackedMask.pack(torch.ones(COUNT * 2**k, dtype=torch.bool)), (1.0, 0, 0)) for k in range(16)
    ]
    with pytest.raises(GsegError, match="too many"):
        evaluate(make_splats(), everything)


def test_a_ply_with_values_that_are_none_is_swapped_in_without_them(tmp_path: Path) -> None:
    newcomer = make_splats(seed=2)
    newcomer.means[3, 1] = float("nan")
    newcomer.scales[4, 0] = float("inf")
    write_ply(tmp_path / "a.ply", newcomer)
    scene = evaluate(make_splats(), [Swap(first(10), str(tmp_path / "a.ply"))])
    assert len(scene) == 2 * COUNT - 2 - int((newcomer.opacities < -5.5373).sum())
    assert bool(scene.splats.means.isfinite().all())


@pytest.mark.parametrize("values", [{"scale": 0.0}, {"scale": -1.0}, {"rotation": (0.0, 0.0, 0.0, 0.0)}])
def test_impossible_transforms(values: dict) -> None:
    with pytest.raises(GsegError):
        Transform(first(9), **values)


def test_edits_that_could_not_be_read_again_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit_list, "_MOST", 2000)
    fingerprint = Fingerprint.of(torch.rand(60, 3))
    hide = Hide(PackedMask.pack(torch.arange(60) < 9))
    save_edits(tmp_path / "edits.json", [hide], fingerprint)
    with pytest.raises(GsegError, match="100 edits take"):
        save_edits(tmp_path / "edits.json", [hide] * 100, fingerprint)
    assert load_edits(tmp_path / "edits.json", fingerprint) == [hide]


def test_what_was_fitted_comes_to_lie_where_the_rest_has_it(tmp_path: Path) -> None:
    """Centres and sizes of objects are those of other Gaussians: rows that are the same in both stay the same."""
    plain = make_splats()
    fitted = plain.clone()
    changed = torch.arange(COUNT) % 3 == 0
    fitted.means[changed] += 0.3
    fitted.opacities[changed] -= 2
    turn = (0.8, 0.1, 0.5, -0.2)
    write_ply(tmp_path / "other.ply", make_splats(5, seed=3))
    operations = [
        Transform(first(10), rotation=turn, scale=2.0),
        Duplicate(first(12), (1.0, 0.0, 0.0), rotation=turn, scale=0.5),
        Swap(first(6), first(12)),
        Swap(first(9), str(tmp_path / "other.ply")),
    ]
    expected, found = evaluate(plain, operations), evaluate(fitted, operations, plain)
    assert torch.equal(found.removed, expected.removed)
    assert torch.equal(found.source, expected.source)
    same = (found.source < 0) | ~changed[found.source]
    assert 0 < int(same.sum()) < len(found)
    for name in ("means", "quats", "scales"):
        assert torch.equal(getattr(found.splats, name)[same], getattr(expected.splats, name)[same]), name
    assert not torch.equal(found.splats.means[~same], expected.splats.means[~same])
    assert not torch.equal(evaluate(fitted, operations).splats.means[same], expected.splats.means[same])
