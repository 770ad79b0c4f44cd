"""A capture as it comes: two cameras with other lenses, one of them held on its side, names with spaces and accents.

As a script it takes a scene through every command, as a user would: python tests/support/awkward_scene.py FOLDER
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from plyfile import PlyData
from scipy.spatial.transform import Rotation

from ball_room import write_ball_room
from bent_scene import distort_scene
from browser_driver import WINDOW, chromium

FOLDERS = ("Kamera links", "Kamera rechts")
LENSES = ({"k1": 0.15, "k2": -0.02}, {"k1": 0.25})
ON_ITS_SIDE = 6
"""EXIF: the photographs of the second camera have to be turned clockwise by a quarter."""

COMPLAINT = re.compile(r"warn|error|deprecat|traceback", re.IGNORECASE)
KNOWN = re.compile(r"torch\.jit\.script|^  warnings\.warn\($")
"""What torch tells Nerfstudio in every `ns-*` command, before a plugin is imported."""


def write_awkward_scene(room: Path, folder: Path) -> Path:
    """A scene without transforms.json: a COLMAP model as text, photographs as JPEG, masks and ground truth as PNG.

    Masks and ground truth lie on upright copies of the photographs, as everything does that was made with OpenCV.

    Args:
        room: a scene of `ball_room`.
        folder: where what is in between is written.

    Returns:
        the scene, a folder below.
    """
    scene = folder / "Räume & Bälle"
    bent = [
        distort_scene(room, folder / f"bent {number}", lens, ("masks", "gt/object"))
        for number, lens in enumerate(LENSES)
    ]
    meta = json.loads((room / "transforms.json").read_text())
    width, height = meta["w"], meta["h"]
    rows, held_out = [], []
    for view, frame in enumerate(meta["frames"]):
        side = view % 2
        old = Path(frame["file_path"]).with_suffix(".png").name
        name = f"{FOLDERS[side]}/Bild {view // 2:02d} ä"
        picture = np.asarray(Image.open(bent[side] / "images" / old).convert("RGB"))
        pose = np.array(frame["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])
        exif = Image.Exif()
        if side:
            picture = np.rot90(picture)
            turn = np.eye(4)
            turn[:2, :2] = [[0, -1], [1, 0]]  # what was down is right now, and what was left is down
            pose = pose @ turn
            exif[0x0112] = ON_ITS_SIDE
        path = scene / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(picture)).save(path, quality=97, subsampling=0, exif=exif)
        for kind in ("masks", "gt/object"):
            labels = scene / kind / f"{name}.png"
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_bytes((bent[side] / kind / old).read_bytes())
        inverse = np.linalg.inv(pose)
        quaternion = Rotation.from_matrix(inverse[:3, :3]).as_quat()[[3, 0, 1, 2]]
        numbers = " ".join(map(repr, map(float, [*quaternion, *inverse[:3, 3]])))
        rows.append(f"{view + 1} {numbers} {side + 1} {name}.jpg\n\n")
        if frame["file_path"] in meta["test_filenames"]:
            held_out.append(f"{name}.jpg\n")
    f, cx, cy = meta["fl_x"], meta["cx"], meta["cy"]
    left, right = ([lens.get(key, 0.0) for key in ("k1", "k2")] for lens in LENSES)
    model = scene / "sparse" / "0"
    model.mkdir(parents=True)
    (model / "cameras.txt").write_text(
        f"1 OPENCV {width} {height} {f} {meta['fl_y']} {cx} {cy} {left[0]} {left[1]} 0 0\n"
        f"2 OPENCV {height} {width} {meta['fl_y']} {f} {cy} {width - cx} {right[0]} {right[1]} 0 0\n"
    )
    (model / "images.txt").write_text("".join(rows), encoding="utf-8")
    vertices = PlyData.read(str(room / meta["ply_file_path"]))["vertex"]
    (model / "points3D.txt").write_text(
        "".join(
            f"{number} {v['x']} {v['y']} {v['z']} {v['red']} {v['green']} {v['blue']} 0.5 1 0\n"
            for number, v in enumerate(vertices, start=1)
        )
    )
    (scene / "test_list.txt").write_text("".join(held_out), encoding="utf-8")
    return scene


def all_commands(scene: Path, output: Path, steps: int = 400) -> None:
    """What a user types, from masks to objects; each must end well."""
    config = output / "Lauf ä" / "gaga" / "t" / "config.yml"
    view = f"{FOLDERS[1]}/Bild 01 ä.jpg"
    commands: tuple[tuple[object, ...], ...] = (
        ("gseg", "masks", "--data", scene, "--check", "masks"),
        ("gseg", "masks", "--data", scene, "--output-dir", "Segmente ö", "--preview"),
        ("ns-train", "gaga", "--data", scene, "--output-dir", output, "--experiment-name", "Lauf ä", "--timestamp", "t",
         "--vis", "tensorboard", "--viewer.quit-on-train-completion", "True", "--max-num-iterations", steps,
         "--pipeline.model.num-downscales", 0),
        ("gseg", "render", "--load-config", config, "--output-dir", output / "Bilder", "--split", "train",
         "--outputs", "photo-overlay"),
        ("gseg", "eval", "--load-config", config, "--ground-truth", scene / "gt/object"),
        ("gseg", "select", "--load-config", config, "--view", view, "--point", 96, 128, "--output", output / "a.png"),
        ("gseg", "export", "--load-config", config, "--output-dir", output / "Objekte"),
    )  # fmt: skip
    for name, *arguments in commands:
        path = Path(sys.executable).parent / str(name)
        done = subprocess.run(
            [path, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        sys.stdout.write(f"$ {name} {' '.join(map(str, arguments))}\n{done.stdout}")
        assert done.returncode == 0, name
        complaints = [line for line in done.stdout.splitlines() if COMPLAINT.search(line) and not KNOWN.search(line)]
        assert not complaints, complaints
    sys.stdout.write(click_in_the_viewer(config, output / "viewer.png"))


def click_in_the_viewer(config: Path, picture: Path) -> str:
    """What `ns-viewer` says in a browser of a click on what stands in the lower half of the first picture.

    Args:
        config: of the run.
        picture: PNG of the page, to be written.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = Path(sys.executable).parent / "ns-viewer"
    arguments = [str(command), "--load-config", str(config), "--viewer.websocket-port", str(port)]
    with subprocess.Popen(arguments, stdin=subprocess.DEVNULL) as viewer, chromium() as browser:
        try:
            page = browser.new_page(viewport=WINDOW)
            page.set_default_timeout(180_000)
            end = time.monotonic() + 180
            while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
                assert viewer.poll() is None
                assert time.monotonic() < end
                time.sleep(0.5)
            page.goto(f"http://127.0.0.1:{port}", wait_until="domcontentloaded")
            page.get_by_role("tab", name="Segment").click()
            page.get_by_role("button", name="Hide Train Cams", exact=True).click()
            page.get_by_text(re.compile(r"Resolution: \d+")).wait_for()
            page.mouse.click(WINDOW["width"] / 3, 0.78 * WINDOW["height"])
            said = page.locator(".mantine-Notification-root").first
            text = str(said.inner_text())
            page.screenshot(path=picture)
            return text
        finally:
            viewer.terminate()


if __name__ == "__main__":
    place = Path(sys.argv[1])
    write_ball_room(place / "room")
    all_commands(write_awkward_scene(place / "room", place), place / "Ausgabe ü")
