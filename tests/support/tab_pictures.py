"""Pictures of the Segment tab for the documentation, taken in a real browser.

python tests/support/tab_pictures.py --load-config RUN/config.yml --scene SCENE --screenshot docs/images/viewer.jpg
... --screenshot docs/images/viewer-measure.jpg --of measure
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from browser_driver import Hand, Running, browsing, find_view, ground_truth, interior, two_objects

Picture = Literal["click", "level", "list", "measure"]


def name_objects(running: Running, scene: Path) -> None:
    """Call every group what the ground truth calls what it shows."""
    listed = json.loads((scene / "gt" / "scene.json").read_text(encoding="utf-8"))["objects"]
    model, dataset = running.viewer.pipeline.model, running.viewer.pipeline.datamanager.eval_dataset
    both: Counter[tuple[int, int]] = Counter()
    for view, path in enumerate(dataset.image_filenames):
        with running.controller._lock, torch.no_grad():
            groups = model.label_image(dataset.cameras[view : view + 1]).cpu().numpy()
        pairs, counts = np.unique(
            np.stack([groups.ravel(), ground_truth(scene, path).ravel()]), axis=1, return_counts=True
        )
        both.update({(int(group), int(name)): int(count) for (group, name), count in zip(pairs.T, counts, strict=True)})
    called: Counter[str] = Counter()
    for one in listed:
        name = int(one["object_id"])
        group = max(
            (pair[0] for pair in both if pair[1] == name and pair[0] > 0), key=lambda g: both[g, name], default=0
        )
        union = sum(count for pair, count in both.items() if pair[0] == group or pair[1] == name)
        if 2 * both[group, name] > union:
            kind = one["category"].replace("_", " ")
            called[kind] += 1
            number = f" {called[kind]}" if called[kind] > 1 else ""
            running.controller.label(group, kind.capitalize() + number)
    running.panel.answers.refresh()


def picture_of_click(running: Running, camera: Any, truth: np.ndarray) -> Image.Image:
    """The largest object that fills no more than a twentieth of the view."""
    counts = np.bincount(truth.ravel())[1:]
    counts[counts > truth.size / 20] = 0
    running.click("Replace", camera, *interior(truth == int(counts.argmax()) + 1))
    running.sharpen()
    return running.screenshot()


def picture_of_level(running: Running, camera: Any, truth: np.ndarray) -> Image.Image:
    """A click on an object that has parts, and after *Narrower*: side by side."""
    narrower = running.page.get_by_role("button", name="Narrower", exact=True)
    for number in np.argsort(-np.bincount(truth[truth > 0])):
        mask = truth == int(number)
        if 400 < mask.sum() < truth.size / 10:
            running.click("Replace", camera, *interior(mask))
            if narrower.is_enabled():
                break
    running.sharpen()
    before = running.screenshot()
    selected = running.controller.selected
    narrower.click()
    running.wait(lambda: not torch.equal(running.controller.selected, selected), "the part")
    running.reload()
    running.look(camera)
    running.sharpen()
    after = running.screenshot()
    size = (before.width * 3 // 4, before.height * 3 // 4)
    both = Image.new("RGB", (2 * size[0], size[1]))
    for place, picture in enumerate((before, after)):
        both.paste(picture.resize(size, Image.Resampling.LANCZOS), (place * size[0], 0))
    return both


def picture_of_list(running: Running, camera: Any, truth: np.ndarray) -> Image.Image:
    """All that is called as most objects are, chosen in the list."""
    kinds = Counter(group.name.rstrip(" 0123456789") for group in running.controller.groups() if group.name)
    running.page.get_by_label("Search objects").fill(kinds.most_common(1)[0][0])
    rows = running.page.locator(".row").all()
    Hand(running.page).drag(rows[0], rows[-1])
    running.page.get_by_text(f"Hide {len(rows)} objects").wait_for()
    running.sharpen()
    return running.screenshot()


def picture_of_measure(running: Running, camera: Any, truth: np.ndarray) -> Image.Image:
    """How long the second largest object is."""
    from scipy.ndimage import binary_erosion

    running.page.get_by_role("button", name="Measure", exact=True).click()
    running.page.locator('.gseg button.on[aria-label="Measure"]').wait_for()
    _, second = two_objects(truth)
    y, x = np.nonzero(binary_erosion(truth == second, iterations=4))
    for end in (x.argmin(), x.argmax()):
        running.point(camera, float(x[end]) + 0.5, float(y[end]) + 0.5)
    running.page.get_by_label("Its true length in m").wait_for()
    running.sharpen()
    return running.screenshot()


_PICTURES = {
    "click": picture_of_click,
    "level": picture_of_level,
    "list": picture_of_list,
    "measure": picture_of_measure,
}


def take_picture(load_config: Path, screenshot: Path, scene: Path, of: Picture = "click") -> None:
    """Do something in the tab and save what the browser shows.

    Args:
        load_config: config.yml of a trained run. Its names of groups are those of the scene afterwards.
        screenshot: JPEG or PNG to write.
        scene: its scene, with ground truth and `gt/scene.json`.
        of: a click on an object; a part of it, in a run with a tree; several objects that were chosen in the list; or a
            distance that is measured.
    """
    with browsing(load_config, window={"width": 1280, "height": 720}) as running:
        camera, truth = find_view(running, scene)
        running.viewer.control_panel._max_res.value = 1024
        name_objects(running, scene)
        running.look(camera)
        running.clear()
        picture = _PICTURES[of](running, camera, truth)
        screenshot.parent.mkdir(parents=True, exist_ok=True)
        # Text stays crisp in a JPEG whose colors have the full resolution.
        picture.save(screenshot, quality=90, subsampling=0)


if __name__ == "__main__":
    import tyro

    tyro.cli(take_picture)
