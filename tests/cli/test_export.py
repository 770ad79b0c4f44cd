from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gseg_ns.cli.export import Export
from gseg_ns.editing.edit_list import EDITS_FILE
from gseg_ns.editing.operations import Duplicate, Remove
from gseg_ns.editing.session import Session
from gseg_ns.errors import GsegError
from gseg_ns.objects import FringeOptions
from gseg_ns.runs import run as runs
from gseg_ns.selection.packed import PackedMask
from gseg_ns.selection.store import (
    GROUP_NAMES_FILE,
    SELECTIONS_FILE,
    UNITS_FILE,
    Fingerprint,
    save_selections,
    save_units,
)
from gseg_ns.splats import Splats, to_original_frame
from gseg_ns.splats.ply import read_ply
from gseg_ns.splats.ply_header import read_header

N = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the run's config.yml would be, and what the viewer saved with it."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def splats(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Splats:
    """A run of 60 Gaussians in the groups 0 to 3, one of them too faint to see."""
    g = torch.Generator().manual_seed(0)
    splats = Splats(
        means=torch.randn(N, 3, generator=g),
        quats=torch.randn(N, 4, generator=g),
        scales=torch.randn(N, 3, generator=g) - 3,
        opacities=torch.rand(N, generator=g),
        sh=torch.randn(N, 4, 3, generator=g),
    )
    splats.opacities[6] = -9
    frame = torch.tensor([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3]])

    def require_scene() -> None:
        raise GsegError("its scene is gone")

    run = SimpleNamespace(
        require_scene=require_scene,
        config_path=folder / "config.yml",
        source=folder / "config.yml",
        folder=folder,
        model=SimpleNamespace(
            gaussian_groups=lambda scale: torch.arange(N) % 4,
            splats=splats.clone,
            has_scales=False,
            tree=lambda: None,
            group_names=lambda scale: {},
        ),
        frame=lambda: (frame, 0.5),
        datamanager=SimpleNamespace(absent="its scene is gone"),
    )
    monkeypatch.setattr(runs, "load_run", lambda path, **_: run)
    return splats


def export(folder: Path, **options: object) -> Path:
    Export(Path("config.yml"), folder, min_gaussians=1, **options).main()  # type: ignore[arg-type]
    return folder


def test_everything(tmp_path: Path, splats: Splats) -> None:
    out = export(tmp_path / "out")
    scene = read_ply(out / "scene.ply")
    assert len(scene) == N - 1
    assert [entry["group"] for entry in json.loads((out / "objects.json").read_text())["objects"]] == [1, 2, 3]
    assert torch.equal(read_ply(out / "objects" / "group_0003.ply").means, splats.means[3::4])
    with pytest.raises(GsegError, match="--overwrite"):
        export(tmp_path / "out")
    export(tmp_path / "out", overwrite=True)


def test_some_groups_without_the_rest(tmp_path: Path, splats: Splats) -> None:
    scene = read_ply(export(tmp_path / "a", groups=[1, 3]) / "scene.ply")
    assert set(scene.extra["label"].tolist()) == {1, 3}
    scene = read_ply(export(tmp_path / "b", drop_unlabelled=True) / "scene.ply")
    assert set(scene.extra["label"].tolist()) == {1, 2, 3}
    with pytest.raises(GsegError, match="no group 9"):
        export(tmp_path / "c", groups=[1, 9])
    assert not (tmp_path / "c").exists()


def test_a_saved_selection(tmp_path: Path, folder: Path, splats: Splats) -> None:
    mask = torch.zeros(N, dtype=torch.bool)
    mask[10:15] = True
    saved = {"mug": mask, "nothing": torch.zeros(N, dtype=torch.bool)}
    save_selections(folder / SELECTIONS_FILE, saved, Fingerprint.of(splats.means))
    scene = read_ply(export(tmp_path / "a", selection="mug") / "scene.ply")
    assert torch.equal(scene.means, splats.means[10:15])
    with pytest.raises(GsegError, match=r"no selection 'cup'. It has: mug"):
        export(tmp_path / "b", selection="cup")
    with pytest.raises(GsegError, match="Nothing to export"):
        export(tmp_path / "b", selection="nothing")
    assert not (tmp_path / "b").exists()


def test_edits_are_baked_in_and_copies_are_of_their_group(tmp_path: Path, folder: Path, splats: Splats) -> None:
    session = Session(splats)
    session.edit(Remove(PackedMask.pack(torch.arange(N) % 4 == 2)))
    session.edit(Duplicate(PackedMask.pack(torch.arange(N) == 3), (5.0, 0.0, 0.0)))
    session.keep("copy")
    session.save(folder)
    edits = folder / EDITS_FILE
    out = export(tmp_path / "a", edits=edits)
    listed = {entry["group"]: entry["gaussians"] for entry in json.loads((out / "objects.json").read_text())["objects"]}
    assert listed == {1: N // 4, 3: N // 4 + 1}
    scene = read_ply(export(tmp_path / "b", edits=edits, selection="copy") / "scene.ply")
    torch.testing.assert_close(scene.means, splats.means[3:4] + torch.tensor([5.0, 0.0, 0.0]))
    with pytest.raises(GsegError, match="edits are not at hand"):
        export(tmp_path / "c", selection="copy")
    assert not (tmp_path / "c").exists()


def test_names_given_in_the_viewer(
    tmp_path: Path, folder: Path, splats: Splats, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session(splats)
    session.label(3, "red mug")
    session.save(folder)
    out = export(tmp_path / "a")
    assert {path.name for path in (out / "objects").iterdir()} == {
        "group_0001.ply", "group_0002.ply", "group_0003_red-mug.ply"
    }  # fmt: skip
    entry = json.loads((out / "objects.json").read_text())["objects"][2]
    assert (entry["name"], entry["file"]) == ("red mug", "objects/group_0003_red-mug.ply")
    (folder / GROUP_NAMES_FILE).write_text("nothing")
    export(tmp_path / "b")
    assert "without names" in capsys.readouterr().out
    assert (tmp_path / "b" / "objects" / "group_0003.ply").exists()


def test_the_capture_frame(tmp_path: Path, splats: Splats) -> None:
    scene = read_ply(export(tmp_path / "a", frame="original") / "scene.ply")
    frame = torch.tensor([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3]])
    assert json.loads((tmp_path / "a" / "objects.json").read_text())["frame"] == "original"
    expected = to_original_frame(splats.subset(splats.exportable()), frame, 0.5)
    torch.testing.assert_close(scene.means, expected.means)
    # Nerfstudio's own direction leads back to the run.
    again = 0.5 * (scene.means @ frame[:, :3].T + frame[:, 3])
    torch.testing.assert_close(again, splats.means[splats.exportable()], atol=1e-5, rtol=1e-5)


def test_spz(tmp_path: Path, splats: Splats) -> None:
    pytest.importorskip("gsply")
    out = export(tmp_path / "a", format="spz")
    assert {path.name for path in out.iterdir()} == {"scene.spz", "objects", "objects.json"}


def test_up_and_units(tmp_path: Path, splats: Splats) -> None:
    means = splats.means[splats.exportable()]
    scene = read_ply(export(tmp_path / "a", up="y-down", unit=2.0) / "scene.ply")
    torch.testing.assert_close(scene.means, 2 * means[:, [0, 2, 1]] * torch.tensor([1.0, -1, 1]))
    index = json.loads((tmp_path / "a" / "objects.json").read_text())
    assert (index["up"], index["meters_per_unit"]) == ("-y", 1.0)
    with pytest.raises(GsegError, match="In glTF files y is up"):
        export(tmp_path / "b", format="glb", up="z")
    with pytest.raises(GsegError, match="y or z up"):
        export(tmp_path / "b", format="usd", up="y-down")
    with pytest.raises(GsegError, match="--unit -1"):
        export(tmp_path / "b", unit=-1.0)
    assert not (tmp_path / "b").exists()


def test_a_unit_that_was_measured_and_saved_holds_for_every_format(
    tmp_path: Path, folder: Path, splats: Splats
) -> None:
    save_units(folder / UNITS_FILE, 2.0)
    for form in ("ply", "glb"):
        out = export(tmp_path / form, format=form, proxy="box", density=1000.0)
        index = json.loads((out / "objects.json").read_text())
        assert index["meters_per_unit"] == 1.0
        assert {entry["units"] for entry in index["objects"]} == {"m"}
        for entry in index["objects"]:
            assert entry["proxy"]["mass"] == pytest.approx(1000 * entry["proxy"]["volume"])
    scene = read_ply(tmp_path / "ply/scene.ply")
    torch.testing.assert_close(scene.means, 2 * splats.means[torch.arange(N) != 6], atol=1e-5, rtol=0)
    assert read_header(tmp_path / "ply/objects/group_0001.ply").placement.meters_per_unit == 1.0  # type: ignore[union-attr]
    # Whoever says another length means it; in USD lengths stay, and the stage says how long a unit is.
    index = json.loads((export(tmp_path / "said", unit=3.0) / "objects.json").read_text())
    assert index["from_run"][0][0] == pytest.approx(3)
    pytest.importorskip("pxr.UsdVol")
    from pxr import Usd, UsdGeom

    plain = export(tmp_path / "usd", format="usd", proxy="box", density=1000.0)
    assert UsdGeom.GetStageMetersPerUnit(Usd.Stage.Open(str(plain / "scene.usda"))) == 2.0
    masses = [
        [entry["proxy"]["mass"] for entry in json.loads((path / "objects.json").read_text())["objects"]]
        for path in (plain, tmp_path / "ply")
    ]
    assert masses[0] == pytest.approx(masses[1], rel=0.2)  # surfaces are found anew in other coordinates


def test_views_are_not_asked_for_proxies_where_no_object_gets_a_file(
    tmp_path: Path, splats: Splats, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run_sights(*_: object) -> tuple[()]:
        asked.append(1)
        return ()

    monkeypatch.setattr("gseg_ns.runs.sights.run_sights", run_sights)
    Export(Path("config.yml"), tmp_path / "a", min_gaussians=N, proxy="box").main()
    assert not asked
    assert json.loads((tmp_path / "a/objects.json").read_text())["objects"] == []
    export(tmp_path / "b", proxy="box")
    assert asked


def test_a_unit_that_is_not_known_or_not_readable(tmp_path: Path, folder: Path, splats: Splats) -> None:
    with pytest.raises(GsegError, match="--unit METRES"):
        export(tmp_path / "a", proxy="box", density=1000.0)
    (folder / UNITS_FILE).write_text("{")
    with pytest.raises(GsegError, match=UNITS_FILE):
        export(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    export(tmp_path / "a", unit=1.0)


def test_formats_of_other_programs(tmp_path: Path, splats: Splats) -> None:
    out = export(tmp_path / "a", format="glb", tileset=True)
    assert {path.name for path in out.iterdir()} == {"scene.glb", "objects", "objects.json", "tileset.json"}
    pytest.importorskip("pxr.UsdVol")
    out = export(tmp_path / "b", format="usdz")
    assert {path.name for path in out.iterdir()} == {"scene.usdz", "objects", "objects.json"}


def test_floaters_are_left_out_of_objects_unless_they_are_to_be_kept(
    tmp_path: Path, splats: Splats, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gseg_ns.objects import Evidence
    from gseg_ns.runs import evidence

    own = torch.full((N,), 9.0)
    own[[1, 5]] = 0.0  # of group 1: shown as something else
    splats.means[[1, 5]] += 100
    seen = torch.tensor([0, 90, 90, 90])
    said = Evidence(torch.full((N,), 9.0), own, torch.ones(N), torch.ones(N), seen, torch.tensor([0, 7, 7, 7]), 7)
    monkeypatch.setattr(evidence, "run_evidence", lambda *_: said)
    index = json.loads((export(tmp_path / "a") / "objects.json").read_text())
    first = index["objects"][0]
    assert index["views_asked"] == 7
    assert (first["id"], first["floaters"], first["count"], first["gaussians"], first["views"]) == (1, 2, 13, 13, 7)
    assert first["name"] == "object 1"
    assert max(first["max"]) < 50
    assert max(first["box"]["half_sizes"]) < 10
    scene = read_ply(tmp_path / "a" / "scene.ply")
    assert len(scene) == N - 1
    assert (scene.extra["label"] == 1).sum() == 13  # the floaters are there, in no object
    kept = json.loads((export(tmp_path / "b", keep_floaters=True) / "objects.json").read_text())["objects"][0]
    assert (kept["count"], kept["floaters"]) == (15, 0)
    assert max(kept["max"]) > 50
    assert len(read_ply(export(tmp_path / "c", groups=[1]) / "scene.ply")) == 13


def test_the_index_follows_its_schema_in_the_coordinates_of_the_files(tmp_path: Path, splats: Splats) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from gseg_ns.objects import schema

    index = json.loads((export(tmp_path / "a", frame="original") / "objects.json").read_text())
    jsonschema.Draft202012Validator(schema()).validate(index)
    for entry in index["objects"]:
        assert entry["units"] == "capture"
        assert entry["views"] is None
        assert all(a <= b <= c for a, b, c in zip(entry["min"], entry["centre"], entry["max"], strict=True))
    metres = json.loads((export(tmp_path / "b", unit=2.0) / "objects.json").read_text())["objects"][0]
    plain = json.loads((export(tmp_path / "c") / "objects.json").read_text())["objects"][0]
    assert (metres["units"], plain["units"]) == ("m", "scene")
    assert metres["box"]["half_sizes"] == pytest.approx([2 * half for half in plain["box"]["half_sizes"]], rel=1e-3)


def test_a_page(tmp_path: Path, folder: Path, splats: Splats, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gsply")
    session = Session(splats)
    session.label(3, "red <script> mug")
    session.save(folder)
    out = export(tmp_path / "a", format="html", title="Desk", attribution="CC0", max_splats=40)
    assert [path.name for path in out.iterdir()] == ["page.html"]
    text = (out / "page.html").read_text(encoding="utf-8")
    assert "<title>Desk</title>" in text
    assert "red \\u003cscript> mug" in text
    printed = " ".join(capsys.readouterr().out.split())
    assert "Wrote 40 Gaussians and 3 objects" in printed
    assert "Left out 19 Gaussians that are seen least" in printed
    with pytest.raises(GsegError, match="is there already"):
        export(tmp_path / "a", format="html")
    # Beside an export of files, and under a name of its own.
    export(tmp_path / "b")
    export(tmp_path / "b", format="html")
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"scene.ply", "objects", "objects.json", "page.html"}
    export(tmp_path / "b", overwrite=True)
    assert (tmp_path / "b" / "page.html").exists()
    export(tmp_path / "c" / "desk.HTML", format="html", groups=[1, 3])
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["desk.HTML"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"title": "Desk"}, "--title is about a page"),
        ({"max_splats": 5, "format": "spz"}, "--max-splats is about a page"),
        ({"exact": True}, "--exact is about a page"),
        ({"format": "html", "tileset": True}, "no --tileset"),
        ({"format": "html", "proxy": "box"}, "no --tileset and no --proxy"),
        ({"format": "html", "max_splats": 0}, "at least 1"),
        ({"format": "html", "sh_degree": 4}, "degrees are 0, 1, 2 and 3"),
        ({"format": "html", "up": "z"}, "In HTML files y is up"),
    ],
)
def test_what_pages_have_and_have_not(tmp_path: Path, splats: Splats, options: dict, message: str) -> None:
    with pytest.raises(GsegError, match=message):
        export(tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()


def test_objects_without_their_fringes(built_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The objects' own files are others, and the scene's is as it was."""
    options = FringeOptions(steps=10, rounds=0)
    monkeypatch.setattr("gseg_ns.objects.fringes.FringeOptions", lambda: options)
    monkeypatch.setattr("gseg_ns.objects.fringes.LONG", 0.3)  # the balls' Gaussians are short
    config = shutil.copytree(built_run.parent, tmp_path / "run") / "config.yml"
    Export(config, tmp_path / "plain", keep_floaters=True).main()
    Export(config, tmp_path / "clean", keep_floaters=True, groups=[1, 4], clean_borders=True).main()
    plain, clean = (read_ply(tmp_path / folder / "scene.ply") for folder in ("plain", "clean"))
    of = plain.extra["label"]
    assert torch.equal(clean.means, plain.means[(of == 1) | (of == 4)])
    for group in (1, 4):
        own, other = (read_ply(tmp_path / folder / f"objects/group_{group:04d}.ply") for folder in ("plain", "clean"))
        assert len(own) < len(other) <= 2 * len(own)
        assert not torch.equal(own.opacities, other.opacities[: len(own)])
        assert torch.equal(own.sh[:, 1:], other.sh[: len(own), 1:])
    # What is said of objects is said of their files.
    for entry in json.loads((tmp_path / "clean" / "objects.json").read_text())["objects"]:
        means = read_ply(tmp_path / "clean" / entry["file"]).means
        assert entry["gaussians"] == len(means)
        torch.testing.assert_close(means.amin(dim=0), torch.tensor(entry["min"]), check_dtype=False)
        torch.testing.assert_close(means.amax(dim=0), torch.tensor(entry["max"]), check_dtype=False)
    # No object gets a file.
    with pytest.raises(GsegError, match="no borders to clean"):
        Export(config, tmp_path / "none", groups=[1, 4], min_gaussians=10**6, clean_borders=True).main()
    assert not (tmp_path / "none").exists()


def test_borders_are_not_cleaned_without_views(tmp_path: Path, splats: Splats) -> None:
    with pytest.raises(GsegError, match="its scene is gone"):
        export(tmp_path / "out", clean_borders=True)
    with pytest.raises(GsegError, match="a page has none"):
        export(tmp_path / "out", clean_borders=True, format="html")
    assert not (tmp_path / "out").exists()
