"""The server without a browser: who comes in, what is answered, and that all see the same."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from gseg_ns.runs.labels import NOTES
from gseg_ns.serving.desk import Desk
from gseg_ns.serving.messages import LONGEST
from page_client import PageClient, pixel_of, served, upright_scene, write_scene


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Desk]]:
    with served(write_scene(tmp_path_factory.mktemp("served") / "scene.ply")) as found:
        yield found


@pytest.fixture
def client(opened: tuple[str, Desk]) -> Iterator[PageClient]:
    client = PageClient(*opened)
    while client.state["steps"][0]:
        client.ask("undo")
    yield client
    client.socket.close()


def get(address: str, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(address).port or 0, timeout=20)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, text in headers.items():
        connection.putheader(name, text)
    connection.endheaders()
    return connection.getresponse()


def test_the_token_is_asked_for_and_leaves_the_address(opened: tuple[str, Desk], client: PageClient) -> None:
    address = opened[0]
    assert get(address, "/").status == 401
    assert get(address, "/?token=wrong").status == 401
    come = get(address, "/?" + urlsplit(address).query)
    assert (come.status, come.getheader("Location")) == (303, "/")
    cookie = come.getheader("Set-Cookie") or ""
    assert "HttpOnly" in cookie
    page = get(address, "/", Cookie=cookie.partition(";")[0])
    assert page.status == 200
    policy = page.getheader("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy
    assert "script-src 'self' 'wasm-unsafe-eval'" in policy
    assert "worker-src blob:" in policy
    assert "unsafe-inline" not in policy
    text = page.read().decode()
    assert "<script>" not in text
    assert "style=" not in text
    assert client.cookie.partition("=")[2] not in text
    for path in ("/served.js", "/vendor.js", "/page.css", "/served.css"):
        assert get(address, path).status == 401
        assert get(address, path, Cookie=client.cookie).status == 200


def test_what_is_not_of_the_page_is_not_there(opened: tuple[str, Desk], client: PageClient) -> None:
    for path in ("/page.html", "/..", "/../../etc/passwd", "//etc/passwd", "/scene.ply", "/%2e%2e/x", "/session"):
        assert get(opened[0], path, Cookie=client.cookie).status == 404, path


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "", "[::", "a b"])
def test_other_names_of_this_host_are_refused(opened: tuple[str, Desk], client: PageClient, host: str) -> None:
    assert get(opened[0], "/", Host=host, Cookie=client.cookie).status in (400, 403)


def test_pages_of_other_sites_and_who_has_no_token_stay_outside(opened: tuple[str, Desk], client: PageClient) -> None:
    port = urlsplit(opened[0]).port
    own = f"http://127.0.0.1:{port}"
    for origin, cookie, status in (
        ("http://evil.example", client.cookie, 403),
        (f"http://evil.example:{port}", client.cookie, 403),
        (f"http://127.0.0.1:{(port or 1) - 1}", client.cookie, 403),
        ("null", client.cookie, 403),
        (own, "", 401),
        (own, client.cookie[:-1] + ("y" if client.cookie.endswith("x") else "x"), 401),
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect(client.socket_address, additional_headers={"Origin": origin, "Cookie": cookie})
        assert refused.value.response.status_code == status, (origin, cookie)
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{port}/other", additional_headers={"Origin": own, "Cookie": client.cookie})
    assert refused.value.response.status_code == 404


def test_malformed_messages_are_answered_and_not_fatal(client: PageClient) -> None:
    good = {"number": 9, "name": "pick", "values": [11], "mode": "set"}
    for raw in ("", "{", "null", "[[[[", b"\x00\x01", json.dumps({**good, "values": [[]]}), json.dumps({"number": 1})):
        answer = client.raw(raw)
        assert (answer["answers"], answer["well"]) == (None, False)
    for name, values in (
        ("pick", []), ("pick", ["a"]), ("pick", [None]), ("nothing like it", []), ("__init__", []), ("box", [1]),
        ("range", ["mass", 0, 1]), ("move", [0] * 9), ("keep", ["../x"]), ("keep", [""]), ("recall", ["x"]),
        ("export ply", ["../../x.ply", True]), ("export ply", ["/etc/passwd", True]), ("mark", ["/etc/passwd", ""]),
        ("swap", ["/etc/passwd"]), ("text", ["x", "y"]), ("name", [11, "x" * 5000]), ("opacity", [None]),
    ):  # fmt: skip
        answer = client.ask(name, *values, at=(10.0, 10.0))
        assert not answer["well"], (name, values, answer)
        assert "Something went wrong" not in answer["said"], (name, values)
    # A line of no points, a view that is none.
    assert not client.ask("outline", False)["well"]
    assert not client.ask("brush", False, 5, points=[])["well"]
    flat = [0.0] * 16 + [50, 700, 400]
    answer = client.raw(json.dumps({**good, "name": "click", "values": [], "view": flat, "points": [[1, 1]]}))
    assert not answer["well"]
    assert "Something went wrong" not in answer["said"]
    assert client.ask("pick", 11)["well"]
    # A message that is too long ends its connection, and no other.
    other = PageClient(client.address, client.desk)
    with pytest.raises(ConnectionClosed):
        other.raw(" " * (2 * LONGEST))
    assert client.ask("pick", 12)["well"]


def test_two_browsers_see_the_same(opened: tuple[str, Desk], client: PageClient) -> None:
    other = PageClient(*opened)
    assert client.ask("pick", 12)["well"]
    assert client.ask("pick", 14, "add")["well"]
    assert client.ask("name", 14, "kettle")["well"]
    assert client.ask("eye", 13)["well"]
    assert other.ask("range", "size", 0, 1e6, True)["well"]
    assert other.ask("undo")["well"]
    client.ask("look", 12)
    late = PageClient(*opened)
    groups = upright_scene()[1]
    for one in (client, other, late):
        assert set(one.state["selected"]) == {12, 14}
        assert {entry["id"]: entry["name"] for entry in one.state["objects"]}[14] == "kettle"
        assert {entry["id"]: entry["hidden"] for entry in one.state["objects"]}[13]
        selected, unseen = one.marks
        assert np.array_equal(selected, torch.isin(groups, torch.tensor([12, 14])).numpy())
        assert np.array_equal(unseen, (groups == 13).numpy())
        listed = [0, *[entry["id"] for entry in one.state["objects"]]]
        assert np.array_equal(np.array(listed)[one.rows], groups.numpy())
        assert one.splats == client.splats
    other.socket.close()
    late.socket.close()


def test_splats_are_sent_again_when_they_are_others_only(client: PageClient) -> None:
    version, before = client.version, client.splats
    client.ask("pick", 15)
    client.ask("hide")
    client.ask("remove")
    assert client.version == version
    client.ask("pick", 16)
    client.ask("move", 0.5, 0.25, 0, 1, 0, 0, 0, 1, False)
    assert client.version > version
    assert client.splats != before
    client.ask("undo")
    assert client.splats == before


def test_shapes_and_places_are_in_the_pages_coordinates(client: PageClient) -> None:
    """Y up, around the origin; the controller has them as the run does."""
    answer = client.ask("point", at=pixel_of(14))
    centre = client.shift + torch.tensor([-1.4, 0.42, 0.8])
    assert float((torch.tensor(answer["point"]) - centre).norm()) < 0.6
    groups = upright_scene()[1]
    mine = (groups == 14).numpy()
    client.ask("sphere", *centre.tolist(), 0.72, True)
    assert np.array_equal(client.marks[0] & (groups > 0).numpy(), mine)
    client.ask("sphere", *centre.tolist(), 0.72, False)
    seen = client.marks[0]
    assert 0 < int(seen[mine].sum()) < int(mine.sum())
    assert client.ask("range", "size", 0, 1e6, False)["well"]
    assert np.array_equal(client.marks[0] & mine, seen & mine)
    client.ask("change", "none")
    client.ask("box", *centre.tolist(), 1.0, 0.82, 1.0, 1, 0, 0, 0, True)
    assert np.array_equal(client.marks[0] & (groups > 0).numpy(), mine)
    # A long box that is turned about y by 90 degrees, beside the same unturned.
    half = 2**-0.5
    found = []
    for turn in ((1, 0, 0, 0), (half, 0, half, 0)):
        client.ask("box", *centre.tolist(), 4.0, 0.7, 0.9, *turn, True)
        found.append(set(groups[client.marks[0]].tolist()) - {0})
    assert found == [{14, 15}, {14, 11}]
    client.ask("pick", 14)
    extent = client.ask("extent")["extent"]
    assert np.allclose(extent["centre"], centre, atol=0.05)
    look = client.ask("look", None)["look"]
    assert np.allclose(look["centre"], centre, atol=0.1)


def test_lines_on_the_picture(client: PageClient) -> None:
    groups = upright_scene()[1]

    def around(group: int, half: float = 45) -> list[tuple[float, float]]:
        x, y = pixel_of(group)
        return [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]

    corners = around(15)
    client.ask("rectangle", False, points=[corners[0], corners[2]])
    by_rectangle = client.marks[0]
    assert (groups[by_rectangle] == 15).sum() > 100
    client.ask("outline", False, points=corners)
    assert np.array_equal(client.marks[0], by_rectangle)
    client.ask("outline", True, points=corners)
    assert client.marks[0].sum() > by_rectangle.sum()
    client.ask("brush", False, 8, points=[pixel_of(14), pixel_of(15)])
    assert {14, 15} <= set(groups[client.marks[0]].tolist())
    client.ask("like", True, 30, False, at=pixel_of(13))
    assert (groups[client.marks[0]] == 13).sum() > 10


def test_what_is_done_is_kept_and_restored(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.ply")
    with served(path) as opened:
        client = PageClient(*opened)
        assert not (tmp_path / ("scene.ply" + NOTES)).exists()
        view = client.view()
        client.ask("pick", 12)
        client.ask("name", 12, "<b>mug")
        client.ask("keep", "mine")
        client.ask("export")
        client.ask("export ply", "a/all.ply", False)
        written = client.ask("export page", "page.html", False, 0, 0, 0)
        assert written["said"].startswith("Wrote 2,600 Gaussians and 6 objects")
        assert not client.ask("export page", "page.html", False, 0, 0, 0)["well"]
        assert not client.ask("export page", "../page.html", True, 0, 0, 0)["well"]
    folder = tmp_path / ("scene.ply" + NOTES)
    assert len(list((folder / "exports").glob("*mug*.ply"))) == 1
    assert (folder / "a/all.ply").is_file()
    page = (folder / "page.html").read_text()
    meta = json.loads(re.findall(r'id="meta">(.*?)</script>', page)[0])
    assert "<b>mug" in {entry["name"] for entry in meta["objects"]}
    assert str(tmp_path) not in page
    # It opens where the browser looked from.
    assert np.allclose(np.subtract(meta["view"]["eye"], meta["view"]["target"]), view[12:15], atol=1e-3)
    with served(path) as opened:
        client = PageClient(*opened)
        assert client.state["names"] == ["mine"]
        assert client.state["selected"] == [12]
        assert "Restored" in client.state["said"]
        assert {entry["id"]: entry["name"] for entry in client.state["objects"]}[12] == "<b>mug"


def test_a_ply_is_opened_without_nerfstudio(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.ply")
    code = (
        "import sys; from pathlib import Path; import gseg_ns.cli.main; from gseg_ns.serving import open_desk, serve;"
        "from gseg_ns.page.served import page_files;"
        f"desk, meta = open_desk(Path({str(path)!r})); said = [];"
        "serve(desk, page_files(meta), 0, None, lambda address, port: said.append(address), lambda: None);"
        "assert said; print(sorted({n.split('.')[0] for n in sys.modules} & "
        "{'nerfstudio', 'viser', 'torchvision', 'open3d', 'transformers', 'sklearn'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_a_ply_of_nothing_to_see_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from gseg_ns.errors import GsegError
    from gseg_ns.serving import open_desk
    from gseg_ns.splats.ply import write_ply

    splats, _ = upright_scene()
    write_ply(tmp_path / "faint.ply", replace(splats, opacities=splats.opacities - 20))
    with pytest.raises(GsegError, match="nothing to view"):
        open_desk(tmp_path / "faint.ply")


def test_which_way_is_up(tmp_path: Path) -> None:
    from gseg_ns.serving import open_desk
    from gseg_ns.splats.placement import Placement
    from gseg_ns.splats.ply import write_ply
    from gseg_ns.splats.ply_header import PlyHeader

    path = write_scene(tmp_path / "scene.ply")
    above = {}
    for axis in ("z", "-y", "x"):
        space = open_desk(path, up=axis)[0].picture.space  # type: ignore[arg-type]
        above[axis] = (np.array(space.point([0, 1, 0])) - space.point([0, 0, 0])).round(6).tolist()
    assert above == {"z": [0, 0, 1], "-y": [0, -1, 0], "x": [1, 0, 0]}
    splats, _ = upright_scene()
    write_ply(tmp_path / "said.ply", splats, comments=PlyHeader(Placement(up="-y")).comments())
    space = open_desk(tmp_path / "said.ply")[0].picture.space
    assert np.allclose(np.array(space.point([0, 1, 0])) - space.point([0, 0, 0]), [0, -1, 0])
