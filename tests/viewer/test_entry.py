"""A real viewer and someone who speaks to it without a page: what is refused."""

from __future__ import annotations

import http.client
import json
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import viser.transforms as vtf
import websockets.sync.client
from websockets.exceptions import InvalidStatus

from browser_driver import CHROMIUM, Running, browsing, viewing
from gseg_ns.editing.edit_list import EDITS_FILE
from gseg_ns.selection.store import GROUP_NAMES_FILE, SELECTIONS_FILE
from gseg_ns.viewer.reach import FOLDERS
from viewer_client import ViewerClient


@pytest.fixture(scope="module")
def viewer(constructed_run: Path) -> Iterator[Any]:
    with viewing(constructed_run) as viewer:
        yield viewer


@pytest.fixture(scope="module")
def client(viewer: Any) -> Iterator[ViewerClient]:
    with ViewerClient(viewer) as client:
        yield client


def saved(client: ViewerClient, panel: Any) -> None:
    """Wait until what was done last is on disk."""
    for _ in range(2):
        client.wait(panel.answers.saved, "the last change to be saved")
        time.sleep(0.1)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_no_files_and_no_foreign_pages(viewer: Any, tmp_path: Path) -> None:
    port = viewer.viser_server.get_port()
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("GET", "/.." * 30 + str(secret))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, b"secret" in answer.read()) == (404, False)
    connection.close()
    address = f"ws://127.0.0.1:{port}"
    for origin in ("http://evil.example", f"http://evil.example:{port}", "null"):
        with pytest.raises(InvalidStatus) as refused:
            websockets.sync.client.connect(address, origin=websockets.Origin(origin))
        assert refused.value.response.status_code == 403
    websockets.sync.client.connect(address, origin=websockets.Origin(f"http://127.0.0.1:{port}")).close()


def test_writes_stay_below_the_run(client: ViewerClient, viewer: Any, constructed_run: Path, tmp_path: Path) -> None:
    run = constructed_run.parent
    victim = tmp_path / "victim.ply"
    victim.write_text("precious")
    (run / "way-out").symlink_to(tmp_path)
    (run / "victim.ply").symlink_to(victim)
    client.press("Select", "All")
    panel = viewer.pipeline.model.panel
    saved(client, panel)  # the session itself is kept beside the run
    before = files(run)
    client.fill("Overwrite", True)
    relative = os.path.relpath(victim, run)
    outside = [victim, tmp_path / "new.ply", relative, "../new.ply", "~/new.ply", "~nobody/new.ply", "way-out/new.ply"]
    outside += ["victim.ply", "/proc/self/x.ply", "a/../../x.ply", "/", "~", "x" * 3000 + ".ply", "/" + "x" * 300]
    said = set()
    for path in outside:
        client.fill("PLY", str(path))
        said.add(client.press("Export PLY"))
    # nothing of what was asked for, and whether it is there, is in the answer
    assert len(said) == 1, said
    assert "reaches only files below" in said.pop()
    for path in ("config.yml", "nerfstudio_models/step-000000000.ckpt", "x", "x.txt"):
        client.fill("PLY", path)
        assert "must end in .ply" in client.press("Export PLY")
    assert victim.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["victim.ply"]
    assert files(run) == before
    (run / "victim.ply").unlink()
    (run / "way-out").unlink()
    # and what lies below is written
    client.fill("PLY", "parts/all.ply")
    assert "Wrote" in client.press("Export PLY")
    assert (run / "parts/all.ply").is_file()
    client.fill("Run name", "../../x")
    assert "cannot name" in client.press("Isolate to new run")
    client.fill("Run name", "all")
    assert "Wrote" in client.press("Isolate to new run")
    written = [path.relative_to(run) for path in run.rglob("config.yml") if path != constructed_run]
    assert [path.parts[:3] for path in written] == [("isolated", "viewer-all", "gaga")], written
    assert sorted(path.name for path in run.parents[2].iterdir()) == ["viewer"]
    for name in ("../x", "/x", "..", ".x", "a/b", "a\\b"):
        client.fill("Name", name)
        assert "cannot name" in client.press("Save selection")


def test_folders_that_are_given(
    client: ViewerClient, viewer: Any, constructed_run: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv(FOLDERS, str(tmp_path))
    panel = viewer.pipeline.model.panel
    monkeypatch.delitem(vars(panel.answers), "reach", raising=False)
    try:
        client.press("Select", "All")
        client.fill("PLY", str(tmp_path / "a/all.ply"))
        assert "Wrote" in client.press("Export PLY")
        assert (tmp_path / "a/all.ply").is_file()
        client.fill("Run name", "given")
        client.press("Isolate to new run")
        assert len(list((tmp_path / "viewer-given/gaga").glob("*/config.yml"))) == 1
    finally:
        vars(panel.answers).pop("reach", None)


def click(client: ViewerClient, **fields: Any) -> None:
    """Click on the middle of the picture."""
    usual = {"name": "/segment", "instance_index": None, "screen_pos": [0.5, 0.5]}
    ray = {"ray_origin": [0.0, 0.0, 10.0], "ray_direction": [0.0, 0.0, 1.0]}
    client.send("SceneNodeClickMessage", **{**usual, **ray, **fields})


def test_a_click_that_overtakes_its_mode(client: ViewerClient, viewer: Any) -> None:
    """Messages of a browser may be handled in another order than it sent them: a click has the mode that it showed."""
    controller = viewer.pipeline.model.panel.controller
    camera = viewer.pipeline.datamanager.train_dataset.cameras[0]
    pose = camera.camera_to_worlds.reshape(3, 4).double().numpy()
    client.look(
        wxyz=(vtf.SO3.from_matrix(pose[:, :3]) @ vtf.SO3.from_x_radians(np.pi)).wxyz.tolist(),
        position=(pose[:, 3] * 10).tolist(),
        fov=float(2 * np.arctan(float(camera.height) / 2 / float(camera.fy))),
        aspect=float(camera.width / camera.height),
    )
    browser = viewer.viser_server.get_clients()[max(viewer.viser_server.get_clients())]
    client.wait(lambda: np.allclose(browser.camera.position, pose[:, 3] * 10, atol=1e-3), "the camera")
    client.press("Select", "All")
    whole = int(controller.selected.sum())

    def overtaking(*modes: str) -> None:
        click(client)
        time.sleep(0.3)  # the server has it
        for mode in modes:
            client.ask("mode", mode)
        client.ask("at", 0.5, 0.5)

    said = client.answer(lambda: overtaking("add", "remove"))
    assert said.startswith("Took away"), said
    assert 0 < int(controller.selected.sum()) < whole
    said = client.answer(lambda: overtaking("set"))
    assert said.startswith("Selected"), said
    # and the other way round
    said = client.answer(lambda: (client.ask("mode", "remove"), client.ask("at", 0.5, 0.5), click(client)))
    assert said.startswith("Took away"), said
    # a page that says nothing of it is answered, too
    client.ask("mode", "set")
    assert client.answer(lambda: click(client)).startswith("Selected")
    client.look()


def test_fields_for_paths_say_nothing_of_what_lies_outside(client: ViewerClient, tmp_path: Path) -> None:
    """Whether it is a file, a folder, or nothing."""
    there = tmp_path / "there.ply"
    there.write_text("ply\n")
    (tmp_path / "there.yml").write_text("a: 1")
    client.press("Select", "All")
    said = set()
    for source in ("there.ply", "missing.ply", "there.yml#1", "missing.yml#1", "folder/x.ply"):
        client.fill("Swap with", str(tmp_path / source))
        said.add(client.press("Swap"))
    for checkpoint in (there, tmp_path / "missing.pth", Path("~nobody/x.pth"), Path("/dev/zero")):
        client.fill("SAM", str(checkpoint))
        said.add(client.answer(lambda: click(client)))
    client.fill("SAM", "")
    assert len(said) == 1, said
    assert "reaches only files below" in said.pop()


def test_floaters_are_looked_for_in_the_views_of_the_run(client: ViewerClient, viewer: Any) -> None:
    client.command("change", "none")
    panel = viewer.pipeline.model.panel
    client.press("Select floaters")
    ends = "Floaters:", "Nothing floats"
    client.wait(lambda: panel.answers.said.content.startswith(ends), "floaters")
    assert panel.controller._floats() is not None
    assert list(panel.answers.folder.glob("evidence-*.npz")), "what the views say is not kept"


def test_numbers_are_clamped(client: ViewerClient, viewer: Any) -> None:
    panel = viewer.pipeline.model.panel
    fields = {
        "Opacity x": [(1e9, 2.0), (-3, 0.0), (1, 1.0)],
        "Color": [([-5, 300, 7], (0, 255, 7))],
        "Max res": [(10**9, 2048), (-1, 64)],
    }
    for label, cases in fields.items():
        for sent, kept in cases:
            client.update(client.handle(label), value=sent)
            client.wait(lambda label=label, kept=kept: client.handle(label).value == kept, f"{label} {kept}")
    client.wait(
        lambda: any(
            message["type"] == "GuiUpdateMessage" and message["updates"].get("value") == [0, 255, 7]
            for message in client.received
        ),
        "the page to be told",
    )

    # what is no value of the field is passed over, and so is what is no value at all
    def values() -> list[Any]:
        return [handle.value for handle in client.handles()] + [handle._impl.update_cb for handle in client.handles()]

    before = values()
    for label in fields:
        for wrong in (math.nan, math.inf, "1", None, True, [1, 2], [math.nan] * 3, {"a": 1}, [], b"x", ["a", "b", "c"]):
            client.update(client.handle(label), value=wrong)
    for label in ("Saved", "Output type", "Select", "Refine"):
        client.update(client.handle(label), value="no such option")
    for label in ("Overwrite",):
        client.update(client.handle(label), value="yes")
    for name in ("update_cb", "is_button", "gui_api", "disabled", "label", "_gseg_made_by", "__class__"):
        client.update(client.handle("PLY"), **{name: []})
        client.update(client.handle("PLY"), **{name: [], "value": "x"})
    for label in ("PLY", "Overwrite"):
        parts = {"source_component_id": client.handle(label)._impl.id, "transfer_uuid": "u"}
        client.send("FileTransferStart", **parts, filename="x", mime_type="x", part_count=1, size_bytes=1)
        client.send("FileTransferPart", **parts, part=0, content=b"x")
    camera = next(iter(viewer.viser_server.get_clients().values())).camera
    for wrong in (
        {"aspect": math.nan},
        {"fov": math.inf},
        {"position": [math.nan, 0.0, 0.0]},
        {"wxyz": [0.0, 0.0, 0.0, 0.0]},
        {"wxyz": [1.0]},
    ):
        client.look(**wrong)
    client.look(aspect=1e9, fov=-3.0, position=[1.0, 2.0, 1e300])
    client.wait(lambda: camera.aspect == 20.0, "the last of the cameras")
    assert camera.fov == pytest.approx(1e-3)
    assert camera.position.tolist() == [1.0, 2.0, 1e9]
    client.look()
    client.wait(lambda: camera.aspect == 1.5, "the camera")
    assert values() == before
    assert panel.controller.summary()


def test_the_name_of_a_render_is_a_name(client: ViewerClient, viewer: Any) -> None:
    field = client.handle("Render name")
    before = field.value
    for name in ("../../x", "/tmp/x", "a/../../x", "..\\x"):
        client.update(field, value=name)
    client.fill("Render name", "walk")
    assert before != field.value == "walk"


PAYLOADS = (
    "{window.pwned = 1}",
    "<img src=x onerror='window.pwned = 1'/>",
    "<script>window.pwned = 1</script>",
    "a\nexport const x = (window.pwned = 1)\n\nb",
    "export const x = (window.pwned = 1)",
    "import x from 'data:text/javascript,window.pwned=1'",
    "a\u2028{window.pwned = 1}",
    "a\r\n\r\n```js\n{window.pwned = 1}\n```\n{window.pwned = 1}",
    "```\n\n{window.pwned = 1}\n",
    "\\{window.pwned = 1}",
    "[a](javascript:window.pwned=1)",
    "**Not done:** {window.pwned = 1}",
    "$&{window.pwned = 1}&#123;window.pwned = 1}",
)


def texts(client: ViewerClient) -> list[Any]:
    """Every field of the viewer that takes a text."""
    found = [handle for handle in client.handles() if isinstance(handle.value, str)]
    return [handle for handle in found if type(handle).__name__ == "GuiInputHandle"]


def markdown(client: ViewerClient) -> list[str]:
    """Every Markdown that a page has been sent."""
    found = []
    for message in client.received:
        if "markdown" in message:
            found.append(message["markdown"])
        found.append(message.get("updates", {}).get("markdown"))
    return [text for text in found if text]


def scripts(client: ViewerClient) -> list[str]:
    """What the tab's script was told."""
    found = [message["source"] for message in client.received if message["type"] == "RunJavascriptMessage"]
    return [source for source in found if source.startswith("(window.gsegLater")]


def check_is_data(source: str) -> None:
    """What the tab's script is told is JSON, which JavaScript reads as text and numbers alone."""
    patch = re.fullmatch(
        r"\(window\.gsegLater=window\.gsegLater\|\|\[\]\)\.push\((.*)\);window\.gsegTab&&window\.gsegTab\.take\(\)",
        source,
    )
    assert patch, source
    assert source.isascii()
    json.loads(patch[1])


def check_is_text(content: str) -> None:
    """Nothing in a Markdown is code; what stands in a fence stays there."""
    content = content.replace("<small>", "").replace("</small>", "")
    fences = content.split("\n```\n") if "\n```\n" in content or content.endswith("\n```") else [content]
    if content.endswith("\n```"):
        before, inside = content.removesuffix("\n```").split("\n```\n", 1)
        assert "\n" not in inside, content
        fences = [before]
    for part in fences:
        assert not re.search(r"(?<!\\)[{<]", part), content
        assert not re.search(r"(?m)^(import|export)\b", part), content
        assert not re.search(r"(?<!\\)\]\(", part), content


def test_script_in_every_text_field(client: ViewerClient, viewer: Any, constructed_run: Path) -> None:
    client.press("Select", "All")
    fields = texts(client)
    labels = {handle._impl.label for handle in fields}
    assert {"SAM", "Name", "Segment", "Swap with", "PLY", "Run name", "Render name", "Output Directory"} <= labels
    for payload in PAYLOADS:
        for field in fields:
            client.update(field, value=payload)
        client.wait(lambda payload=payload: client.handle("Run name").value.split() == payload.split(), "the text")
        for button in ("Save selection", "Swap", "Export PLY", "Isolate to new run"):
            client.press(button)
        client.command("name", 1, payload)
        count = len(markdown(client))
        for nth in (0,):  # Nerfstudio's own: they show commands with what was typed
            client.update(client.handle("Generate Command", nth), value=True)
        client.wait(lambda count=count: len(markdown(client)) > count, "the command")
        client.fill("SAM", "")
    said = markdown(client)
    assert any("pwned" in content for content in said)
    assert any("pwned" in script for script in scripts(client))
    for script in scripts(client):
        check_is_data(script)
    for content in said:
        check_is_text(content)
    viewer.pipeline.model.panel.controller._session.history.reset(viewer.pipeline.model.panel.controller._session.state)


def hostile_session(run: Path, payload: str) -> None:
    """The files of a session with a text wherever they have one."""
    count = {"count": 1, "digest": payload}
    np.savez(run / SELECTIONS_FILE, format=payload, count=1, digest=payload, names=[payload], masks=np.zeros((1, 1)))
    edits = {"format": "gseg-edits-1", "gaussians": count, "edits": [{"kind": payload, payload: payload}]}
    edits["operations"] = edits["edits"]
    (run / EDITS_FILE).write_text(json.dumps(edits))
    (run / GROUP_NAMES_FILE).write_text(json.dumps({"format": payload, "gaussians": count, "names": [payload]}))


def test_script_in_the_files_of_a_run(client: ViewerClient, viewer: Any, constructed_run: Path) -> None:
    panel, run = viewer.pipeline.model.panel, constructed_run.parent
    saved(client, panel)
    before = len(scripts(client))
    for payload in PAYLOADS:
        hostile_session(run, payload)
        said = client.answer(lambda: panel.answers.ask(lambda: panel.controller.load(run)))
        assert "Not loaded:" in said
    client.wait(lambda: len(scripts(client)) > before, "what was said")
    for content in markdown(client):
        check_is_text(content)
    for script in scripts(client):
        check_is_data(script)
    for name in (SELECTIONS_FILE, EDITS_FILE, GROUP_NAMES_FILE):
        (run / name).unlink()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no chromium on this machine")
def test_script_in_a_real_browser(constructed_run: Path) -> None:
    """What a page makes of it: nothing runs, and the text stands there."""
    hostile_session(constructed_run.parent, PAYLOADS[3])
    try:
        with browsing(constructed_run) as running:
            _look_at_hostile_texts(running)
    finally:
        for name in (SELECTIONS_FILE, EDITS_FILE, GROUP_NAMES_FILE):
            (constructed_run.parent / name).unlink(missing_ok=True)


def _look_at_hostile_texts(running: Running) -> None:
    page, panel = running.page, running.panel
    page.get_by_text("Not loaded:").first.wait_for()
    for number, payload in enumerate(PAYLOADS):
        panel.answers.say(f"{payload} said {number}")
        page.get_by_text(f"said {number}").first.wait_for()
        panel.answers.say(f"**Not done:** {payload} refused {number}")
        page.get_by_text(f"refused {number}").first.wait_for()
    with ViewerClient(running.viewer) as other:
        other.fill("Output Directory", "x", 0)
        other.update(other.handle("Output Directory", 0), value=PAYLOADS[7])
        other.wait(lambda: "pwned" in other.handle("Output Directory", 0).value, "the text")
    page.get_by_role("tab", name="Export").click()
    running.press("Generate Command")
    page.get_by_text("run the following").first.wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate("window.pwned") is None


def test_what_tools_are_asked_is_checked(client: ViewerClient, viewer: Any) -> None:
    client.command("change", "none")
    for command, answer in [
        (("length", 1.0), "Click on two points first"),
        (("range", "a", 1), "no number"),
        (("range", 0, True), "no number"),
        (("range", 1), "no number"),
        (("apply", "select"), "Nothing is selected"),
        (("apply", 3), "Reload"),
        (("walk", "up"), "Reload"),
        (("walk", 1), "no parts"),
        (("picks", "set", "x"), "Reload"),
    ]:
        assert answer in client.command(*command), command
    tab = viewer.pipeline.model.panel
    browser = tab.browser(max(viewer.viser_server.get_clients()))
    client.ask("tolerance", -5)
    client.ask("tolerance", 1e9)
    client.command("undo")  # in the order in which it is asked
    assert browser.tolerance == 100
    for tool in ("../x", "sphere", "move", "click"):
        client.ask("tool", tool)
        client.ask("shape", -1)
        client.ask("place", 1e9, 0, 0, 0, 0, 0, 0)
    assert "undo" in client.command("undo").lower()
    assert browser.tool == "click"
