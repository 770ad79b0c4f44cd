from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.palette import colors
from gseg_ns.splats import Splats
from gseg_ns.splats.objects import write_objects, write_splats
from gseg_ns.splats.ply import read_ply
from gseg_ns.splats.ply_header import read_header


def make(count: int) -> Splats:
    g = torch.Generator().manual_seed(count)
    return Splats(
        means=torch.randn(count, 3, generator=g),
        quats=torch.randn(count, 4, generator=g),
        scales=torch.randn(count, 3, generator=g) - 4,
        opacities=torch.randn(count, generator=g),
        sh=torch.randn(count, 4, 3, generator=g),
    )


def test_scene_objects_and_list(tmp_path: Path) -> None:
    splats, groups = make(100), torch.tensor([0, 7, 300, 7, 2] * 20)
    groups[4] = 9  # a single Gaussian
    listed = write_objects(tmp_path, splats, groups, min_gaussians=5)
    assert [entry["group"] for entry in listed] == [2, 7, 300]
    assert json.loads((tmp_path / "objects.json").read_text())["objects"] == listed
    scene = read_ply(tmp_path / "scene.ply")
    assert torch.equal(scene.extra["label"].long(), groups)
    assert list(scene.extra) == ["label"]
    assert listed[0]["color"] == colors(torch.tensor(2)).tolist()
    seven = read_ply(tmp_path / "objects" / "group_0007.ply")
    assert torch.equal(seven.means, splats.means[groups == 7])
    assert listed[1]["gaussians"] == 40
    assert listed[1]["min"] == pytest.approx(seven.means.amin(0).tolist())
    assert {p.name for p in (tmp_path / "objects").iterdir()} == {f"group_{g:04d}.ply" for g in (2, 7, 300)}


def test_names_are_part_of_file_names(tmp_path: Path) -> None:
    names = {1: "red mug: the 2nd", 2: "椅子" * 30, 3: "...", 4: "of nobody"}
    listed = write_objects(tmp_path, make(60), torch.tensor([1, 2, 3] * 20), names=names)
    assert [entry.get("name") for entry in listed] == [names[1], names[2], names[3]]
    files = [Path(entry["file"]).name for entry in listed]
    assert files == ["group_0001_red-mug-the-2nd.ply", f"group_0002_{'椅子' * 13}.ply", "group_0003.ply"]
    assert {path.name for path in (tmp_path / "objects").iterdir()} == set(files)


def test_a_second_export_takes_the_place_of_the_first(tmp_path: Path) -> None:
    write_objects(tmp_path, make(60), torch.tensor([1, 2, 3] * 20), names={1: "mug", 2: "jug"})
    others = [tmp_path / "objects" / "mine.ply", tmp_path / "notes.txt"]
    for path in others:
        path.write_text("not ours")
    listed = write_objects(tmp_path, make(60), torch.tensor([1, 2, 2] * 20), names={1: "cup", 2: "jug"})
    assert [entry["file"] for entry in listed] == ["objects/group_0001_cup.ply", "objects/group_0002_jug.ply"]
    assert {path.name for path in (tmp_path / "objects").iterdir()} == {
        "group_0001_cup.ply", "group_0002_jug.ply", "mine.ply"
    }  # fmt: skip
    write_objects(tmp_path, make(60), torch.tensor([1] * 60), form="glb")
    assert {path.name for path in (tmp_path / "objects").iterdir()} == {"group_0001.glb", "mine.ply"}
    assert {path.name for path in tmp_path.iterdir()} == {"scene.glb", "objects", "objects.json", "notes.txt"}
    # A list that is damaged, or names what is not ours, takes nothing away.
    for content in ("{", json.dumps({"objects": [{"file": "../notes.txt"}, {"file": "notes.txt"}]})):
        (tmp_path / "objects.json").write_text(content)
        write_objects(tmp_path, make(60), torch.tensor([1] * 60), form="glb")
    assert all(path.exists() for path in others)


def test_spz(tmp_path: Path) -> None:
    pytest.importorskip("gsply")
    listed = write_objects(tmp_path, make(60), torch.tensor([1, 2, 3] * 20), form="spz", min_gaussians=0)
    assert [entry["file"] for entry in listed] == [f"objects/group_000{g}.spz" for g in (1, 2, 3)]
    assert (tmp_path / "scene.spz").stat().st_size > 0


def test_glb(tmp_path: Path) -> None:
    listed = write_objects(tmp_path, make(60), torch.tensor([1, 2, 3] * 20), form="glb", min_gaussians=0)
    assert [entry["file"] for entry in listed] == [f"objects/group_000{g}.glb" for g in (1, 2, 3)]
    assert (tmp_path / "scene.glb").read_bytes()[:4] == b"glTF"


@pytest.mark.parametrize("form", ["usd", "usdz"])
def test_usd(tmp_path: Path, form: str) -> None:
    pytest.importorskip("pxr.UsdVol")
    groups, suffix = torch.tensor([0, 1, 2] * 20), "usdc" if form == "usd" else form
    listed = write_objects(tmp_path, make(60), groups, form=form, names={1: "mug"})  # type: ignore[arg-type]
    assert [entry["file"] for entry in listed] == [f"objects/group_000{n}.{suffix}" for n in ("1_mug", "2")]
    others = {"scene.usda", "unlabelled.usdc"} if form == "usd" else {"scene.usdz"}
    assert {path.name for path in tmp_path.iterdir()} == {"objects", "objects.json", *others}
    write_objects(tmp_path, make(60), torch.tensor([1, 2, 2] * 20), form=form)  # type: ignore[arg-type]
    assert not (tmp_path / "unlabelled.usdc").exists()
    write_objects(tmp_path, make(60), torch.tensor([1] * 60), form="glb", tileset=True)
    assert {path.name for path in tmp_path.iterdir()} == {"objects", "objects.json", "scene.glb", "tileset.json"}
    with pytest.raises(GsegError, match="choose the format glb"):
        write_objects(tmp_path, make(60), torch.tensor([1] * 60), tileset=True)


def test_many_objects_of_any_name(tmp_path: Path) -> None:
    """Names with slashes, quotes and emoji, a thousand of them, many the same."""
    pytest.importorskip("pxr.UsdVol")
    from pxr import Usd

    groups = torch.arange(1, 1001)
    names = {group: ["a/b", '"quoted"', "🫖", "7 up", "椅子", " "][group % 6] for group in range(1, 1001)}
    write_objects(tmp_path, make(1000), groups, "usd", 1, names)
    stage = Usd.Stage.Open(str(tmp_path / "scene.usda"))
    prims = stage.GetPrimAtPath("/World").GetChildren()
    assert len({prim.GetName().casefold() for prim in prims}) == 1000
    assert [prim.GetDisplayName() for prim in prims] == [
        names[group].strip() or f"group {group}" for group in range(1, 1001)
    ]
    assert [prim.GetName() for prim in prims[:7]] == [
        "quoted", "group_0002", "_7_up", "group_0004", "group_5", "a_b", "quoted_2"
    ]  # fmt: skip
    assert all(prim.GetPrimAtPath("splats") for prim in prims)


NASTY = {
    1: "a/b\\c", 2: '"quoted" \'twice\'', 3: "🫖", 4: "line\nbreak\ttab\x00nul\x1b", 5: "", 6: " ", 7: "../../up",
    8: "same", 9: "same", 10: "SAME", 11: "con", 12: "x" * 300, 13: "7 up", 14: "椅子", 15: "end_header", 16: ".hidden",
}  # fmt: skip


@pytest.mark.parametrize("form", ["ply", "spz", "glb", "usd", "usdz"])
def test_names_that_are_nobodys_friend_in_every_format(tmp_path: Path, form: str) -> None:
    pytest.importorskip({"spz": "gsply", "usd": "pxr.UsdVol", "usdz": "pxr.UsdVol"}.get(form, "torch"))
    count = len(NASTY)
    groups = (torch.arange(8 * count) % count) + 1
    splats, folder = make(8 * count), tmp_path / "out"
    listed = write_objects(folder, splats, groups, form, 1, NASTY)  # type: ignore[arg-type]
    assert [entry.get("name", "") for entry in listed] == list(NASTY.values())
    assert len({entry["file"].casefold() for entry in listed}) == count
    for entry in listed:
        path = folder / entry["file"]
        assert path.resolve().parent == (folder / "objects").resolve()
        assert path.stat().st_size > 0
        assert len(path.name.encode()) < 255
        assert path.name.isprintable()
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    if form == "ply":
        for entry in listed:
            header = read_header(folder / entry["file"])
            assert (header.group, header.name) == (entry["group"], NASTY[entry["group"]])
            torch.testing.assert_close(read_ply(folder / entry["file"]).means, splats.means[groups == entry["group"]])
    if form == "glb":
        data = (folder / "scene.glb").read_bytes()
        document = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
        assert [node["name"] for node in document["nodes"]] == [
            name.strip() or f"group {group}" for group, name in NASTY.items()
        ]
    if form in ("usd", "usdz"):
        from pxr import Sdf, Usd

        stage = Usd.Stage.Open(str(folder / ("scene.usda" if form == "usd" else "scene.usdz")))
        prims = stage.GetPrimAtPath("/World").GetChildren()
        assert len({prim.GetName().casefold() for prim in prims}) == count
        assert all(Sdf.Path.IsValidIdentifier(prim.GetName()) for prim in prims)
        for prim, (group, name) in zip(prims, NASTY.items(), strict=True):
            shown = "".join(letter if letter.isprintable() else " " for letter in name.strip())
            assert prim.GetDisplayName() == (shown or f"group {group}")


def test_nothing_and_unknown_formats_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="no Gaussian"):
        write_objects(tmp_path, make(3).subset(torch.zeros(0, dtype=torch.long)), torch.zeros(0, dtype=torch.long))
    with pytest.raises(GsegError, match="suffix"):
        write_splats(tmp_path / "a.splat", make(3))
    assert not any(tmp_path.iterdir())
