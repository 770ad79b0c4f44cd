from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.objects import Evidence
from gseg_ns.page import View, Words, write_page, writing
from gseg_ns.splats import Placement, Splats, read_ply
from page_scene import GROUPS, page_scene

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "</script><!-- <script>alert('🫖')</script> {{code}} \ud83e &amp;"


@pytest.fixture(autouse=True)
def _spz() -> None:
    pytest.importorskip("gsply")


@pytest.fixture(scope="module")
def scene() -> tuple[Splats, torch.Tensor]:
    return page_scene()


def part(page: Path, name: str) -> bytes:
    found = re.search(rf'<script type="[^"]+" id="{name}"([^>]*)>([^<]*)</script>', page.read_text(encoding="utf-8"))
    assert found is not None
    if name == "meta":
        return found[2].encode()
    data = base64.b64decode(found[2])
    return zlib.decompress(data) if 'data-packed="deflate"' in found[1] else data


def meta(page: Path) -> dict:
    return json.loads(part(page, "meta"))


def rows(page: Path) -> np.ndarray:
    """The group of each splat in the page."""
    ids = np.array([0, *(item["id"] for item in meta(page)["objects"])])
    return ids[np.frombuffer(part(page, "rows"), "<u2")]


def colors_of(page: Path) -> np.ndarray:
    """Constant colors [N, 3] in 0..255, straight from the bytes of the SPZ."""
    data = gzip.decompress(part(page, "splats"))
    magic, version, count = np.frombuffer(data[:12], "<u4")
    assert (magic, version) == (0x5053474E, 3)
    start = 16 + count * (9 + 1)
    return np.frombuffer(data[start : start + 3 * count], "u1").reshape(-1, 3).astype(int)


def test_rows_are_in_the_order_of_the_file(tmp_path: Path, scene: tuple[Splats, torch.Tensor]) -> None:
    splats, groups = scene
    splats = splats.subset(torch.arange(len(splats)))
    splats.opacities[::7] = -9  # too faint to be written
    splats.sh[:, 0] = (groups[:, None] - 13) * 0.3  # the group can be read from the color
    page = tmp_path / "page.html"
    report = write_page(page, splats, groups)
    kept = splats.exportable()
    assert report.splats == int(kept.sum()) == len(rows(page))
    assert (rows(page) == groups[kept].numpy()).all()
    written = colors_of(page)[:, 0]
    assert len(written) == report.splats
    for group in (0, *GROUPS.tolist()):
        assert len(set(written[rows(page) == group].tolist())) == 1
    assert len(set(written.tolist())) == 7
    write_page(page, splats, groups, exact=True, placement=Placement(up="y"))
    (tmp_path / "scene.ply").write_bytes(part(page, "splats"))
    exact = read_ply(tmp_path / "scene.ply")
    assert torch.equal(exact.sh, torch.nn.functional.pad(splats.sh[kept], (0, 0, 0, 0)))
    assert (rows(page) == groups[kept].numpy()).all()
    header = part(page, "splats")[:3000]
    assert b"red" not in header  # readers take a file with colors in bytes for a cloud of points


def test_what_users_call_things_is_only_text(tmp_path: Path, scene: tuple[Splats, torch.Tensor]) -> None:
    page = tmp_path / "page.html"
    write_page(page, *scene, {12: HOSTILE}, words=Words(HOSTILE, HOSTILE, HOSTILE))
    text = page.read_text(encoding="utf-8")
    said = meta(page)
    assert said["title"] == said["description"] == said["attribution"] == HOSTILE
    assert HOSTILE in [item["name"] for item in said["objects"]]
    assert text.count("<script") == text.count("</script>") == 5
    assert "alert(" not in re.sub(r'<script type="application/json".*?</script>', "", text).replace(
        "&lt;", "<"
    ).replace("alert(&#x27;", "")
    assert "<!--" not in text
    assert "{{" not in text.replace("{{code}}", "")
    assert "{{code}}" in said["title"]


def test_nothing_but_our_code_is_run(tmp_path: Path, scene: tuple[Splats, torch.Tensor]) -> None:
    page = tmp_path / "page.html"
    write_page(page, *scene)
    text = page.read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["worker-src"] == "blob:"
    loader = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert loader is not None
    assert style is not None
    digests = [base64.b64encode(sha256(code).digest()).decode() for code in (loader[1].encode(), part(page, "code"))]
    assert rules["script-src"] == f"'sha256-{digests[0]}' 'sha256-{digests[1]}' 'wasm-unsafe-eval'"
    assert rules["style-src"] == f"'sha256-{base64.b64encode(sha256(style[1].encode()).digest()).decode()}'"
    assert "unsafe-inline" not in policy[1]
    assert "'unsafe-eval'" not in policy[1]
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)


def test_nothing_of_the_machine_is_in_it(tmp_path: Path, scene: tuple[Splats, torch.Tensor]) -> None:
    a, b = tmp_path / "a.html", tmp_path / "elsewhere" / "b.html"
    write_page(a, *scene)
    write_page(b, *scene)
    assert a.read_bytes() == b.read_bytes()
    assert str(tmp_path).encode() not in a.read_bytes() + part(a, "code") + gzip.decompress(part(a, "splats"))


def test_thinning_leaves_out_what_is_seen_least(tmp_path: Path, scene: tuple[Splats, torch.Tensor]) -> None:
    splats, groups = scene
    total = torch.arange(len(splats)).float()
    total[groups == 13] = 0
    some = torch.zeros(20, dtype=torch.int64)
    page = tmp_path / "page.html"
    report = write_page(
        page, splats, groups, evidence=Evidence(total, total, total.clamp_max(1), total, some, some, 4), max_splats=1000
    )
    assert (report.splats, report.all_splats, len(rows(page))) == (1000, len(splats), 1000)
    expected = total.argsort(descending=True)[:1000].sort().values
    assert (rows(page) == groups[expected].numpy()).all()
    assert report.given_up == pytest.approx(1 - float(total[expected].sum() / total.sum()), abs=1e-6)
    assert {item["count"] for item in meta(page)["objects"]} == {300}  # of the scene, not of the page
    by_size = write_page(page, splats, groups, max_splats=1200)
    assert by_size.splats == 1200
    assert by_size.given_up < 0.5
    with pytest.raises(ValueError, match="max_splats"):
        write_page(page, splats, groups, max_splats=0)


def test_a_large_page_keeps_less_of_how_colors_change(
    tmp_path: Path, scene: tuple[Splats, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"
    full = write_page(page, *scene)
    assert (full.sh_degree, full.full_sh_degree, full.size) == (2, 2, page.stat().st_size)
    none = write_page(page, *scene, sh_degree=0)
    assert none.sh_degree == 0
    monkeypatch.setattr(writing, "LARGEST", (full.size + none.size) // 2)
    assert write_page(page, *scene).sh_degree < 2
    assert write_page(page, *scene, sh_degree=2).sh_degree == 2
    assert write_page(page, *scene, sh_degree=3).sh_degree == 2
    assert write_page(page, *scene, exact=True).sh_degree == 2
    # Of a large scene, what is too large by far is not even tried.
    monkeypatch.setattr(writing, "_SAMPLE", 500)
    tried = []
    file = writing._file
    monkeypatch.setattr(
        writing, "_file", lambda s, form: tried.append((len(s), s.sh_degree)) or file(s, form)  # type: ignore[func-returns-value]
    )  # fmt: skip
    assert write_page(page, *scene).sh_degree < 2
    monkeypatch.setattr(writing, "LARGEST", none.size // 50)
    assert write_page(page, *scene).sh_degree == 0
    assert [degree for count, degree in tried if count == len(scene[0])][-1:] == [0]
    assert (len(scene[0]), 2) not in tried[-4:]
    assert write_page(page, *scene, max_splats=900).splats == 900


def test_the_list_and_the_view(tmp_path: Path, scene: tuple[Splats, torch.Tensor]) -> None:
    splats, groups = scene
    groups = groups.clone()
    groups[(groups == 16).nonzero()[:270, 0]] = 0
    page = tmp_path / "page.html"
    # The scene's own z is up, and a unit is two metres.
    report = write_page(
        page, splats, groups, {11: "mug"}, placement=Placement(meters_per_unit=2.0), units="m", min_gaussians=50,
        view=View([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], 60.0),
    )  # fmt: skip
    said = meta(page)
    assert report.objects == 5
    assert [item["id"] for item in said["objects"]] == [11, 12, 13, 14, 15]
    assert [item["name"] for item in said["objects"]][:2] == ["mug", "object 12"]
    assert 1.4 < max(said["objects"][0]["edges"]) < 2.4
    assert 16 not in rows(page)
    eye, target = np.array(said["view"]["eye"]), np.array(said["view"]["target"])
    assert eye - target == pytest.approx([2.0, 6.0, -4.0], abs=1e-4)
    assert said["view"]["fov"] == 60
    centre = np.array(said["objects"][4]["centre"])  # of group 15, which is above the middle of the floor
    assert np.abs(centre).max() < 4


def test_no_half_of_a_page(tmp_path: Path, scene: tuple[Splats, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.html"
    page.write_text("before")
    splats, groups = scene
    with pytest.raises(GsegError, match="no Gaussian"):
        write_page(page, splats.subset(torch.zeros(len(splats), dtype=torch.bool)), groups[:0])
    monkeypatch.setattr(writing, "_MOST_OBJECTS", 3)
    with pytest.raises(GsegError, match="--min-gaussians"):
        write_page(page, splats, groups)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert page.read_text() == "before"


def test_a_scene_without_objects_is_still_a_picture(tmp_path: Path, scene: tuple[Splats, torch.Tensor]) -> None:
    splats, groups = scene
    report = write_page(tmp_path / "page.html", splats, torch.zeros_like(groups))
    assert report.objects == 0
    assert meta(tmp_path / "page.html")["objects"] == []


def test_what_browsers_run_is_installed_and_built_from_its_sources() -> None:
    import tomllib

    built, web = ROOT / "gseg_ns" / "page" / "built", ROOT / "web"
    names = {path.name for path in built.iterdir()}
    assert {"vendor.js", "page.js", "loader.js", "page.css", "page.html", "LICENSES.txt"} <= names
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert "gseg_ns.page" in project["packages"]
    for name in names:
        assert any(fnmatch(f"page/built/{name}", glob) for glob in project["package-data"]["gseg_ns"]), name
    listed = dict(
        reversed(line.split("  ")) for line in (built / "SOURCES.txt").read_text(encoding="utf-8").splitlines()
    )
    sources = {f"src/{path.name}" for path in (web / "src").iterdir()} | {"build.mjs", "package-lock.json"}
    assert set(listed) == sources
    for name, digest in listed.items():
        assert sha256((web / name).read_bytes()).hexdigest() == digest, f"{name} has changed: npm run build in web/"


def test_packages_have_exact_versions() -> None:
    package = json.loads((ROOT / "web" / "package.json").read_text(encoding="utf-8"))
    lock = json.loads((ROOT / "web" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name, version in (package["dependencies"] | package["devDependencies"]).items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
        assert lock[f"node_modules/{name}"]["version"] == version


def test_the_page_in_the_documentation_is_small_and_says_nothing_of_the_machine() -> None:
    page = ROOT / "docs" / "demo-page.html"
    assert page.stat().st_size <= 5_000_000
    assert len(meta(page)["objects"]) >= 12
    everything = page.read_bytes() + part(page, "code") + part(page, "meta") + gzip.decompress(part(page, "splats"))
    assert not re.search(rb"(/home|/root|/tmp|/work|/Users|[A-Z]:\\)[/\\]", everything)
    assert "demo-page.html" in (ROOT / "docs" / "page.md").read_text(encoding="utf-8")
