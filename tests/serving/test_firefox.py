"""The page of `gseg view` in Firefox."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firefox_driver import FIREFOX, XVFB, firefox
from page_client import served, write_scene
from page_scene import CENTRES, EYE, FOV, TARGET, camera_at, page_scene, psnr, rendered

pytestmark = [
    pytest.mark.browser,
    # In CI a missing browser is a failure.
    pytest.mark.skipif((FIREFOX is None or XVFB is None) and not os.environ.get("CI"), reason="no Firefox, or no Xvfb"),
]
BACKGROUND = (0xF3, 0xF4, 0xF6)
SHIFT, CONTROL = "\ue008", "\ue009"


def test_it_is_drawn_clicked_hidden_moved_named_and_undone(tmp_path: Path) -> None:
    splats, groups = page_scene()
    with served(write_scene(tmp_path / "scene.ply")) as (address, desk), firefox() as page:
        shift = desk.picture.space.placement.translation.numpy()
        page.size(1040, 520)
        page.goto(address)
        page.wait("window.gseg !== undefined && gseg.state.objects.length === 6 && gseg.scene.picker !== null")
        places = [(np.array(at) + shift).tolist() for at in (EYE, TARGET)]
        page.ask(f"void (gseg.stage.camera.fov = {FOV})")
        page.ask("void gseg.stage.camera.updateProjectionMatrix()")
        page.ask(f"void gseg.stage.fly({', '.join(f'new gseg.Vector3(...{at})' for at in places)}, 0)")

        def settle() -> None:
            page.wait("gseg.stage.spark.activeSplats > 0 && gseg.stage.isSettled")

        def picture() -> np.ndarray:
            page.move(2, 500)
            settle()
            data = page.ask("gseg.stage.picture()").split(",")[1]
            return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))

        def place(group: int) -> tuple[float, float]:
            point = [*(CENTRES[group - 11].double().numpy() + shift).tolist(), 1]
            x, y, w = page.ask(
                f"(() => {{ const e = gseg.stage.projection().elements, p = {point};"
                "return [0, 1, 3].map((i) => e[i] * p[0] + e[i + 4] * p[1] + e[i + 8] * p[2] + e[i + 12] * p[3]); })()"
            )
            return x / w, y / w

        def until(*selected: int) -> None:
            page.wait(f"JSON.stringify([...gseg.state.selected].sort()) === '{sorted(selected)}'.replaceAll(' ', '')")

        before = picture()
        height, width = before.shape[:2]
        camera = camera_at(EYE, TARGET, FOV, width, height)
        assert psnr(before, rendered(splats, camera, BACKGROUND)) >= 40
        page.click(*place(12))
        until(12)
        page.click(*place(14), SHIFT)
        until(12, 14)
        x, y = (int(part) for part in place(14))
        assert np.abs(picture()[y, x].astype(int) - before[y, x]).sum() > 60, "not highlighted"
        page.press("h")
        page.wait("gseg.state.hides")
        page.ask("gseg.ask('change', ['none'])")
        rest = splats.subset((groups != 12) & (groups != 14))
        assert psnr(picture(), rendered(rest, camera, BACKGROUND)) >= 40
        for _ in range(2):
            page.press("z", CONTROL)
        page.wait("!gseg.state.hides")
        page.click(*place(13))
        until(13)
        page.ask("gseg.ask('name', [13, 'mug'])")
        page.wait("gseg.scene.objects.some((one) => one.name === 'mug')")
        version = page.ask("gseg.scene.version")
        page.ask("gseg.ask('move', [0.5, 0, 0, 1, 0, 0, 0, 1, false])")
        page.wait(f"gseg.scene.version > {version}")
        page.press("z", CONTROL)
        page.wait(f"gseg.scene.version > {version + 1}")
        page.wait("gseg.panel.portraits.drawn.size > 0")
        assert [said for said in page.heard if not said.startswith("request")] == []
