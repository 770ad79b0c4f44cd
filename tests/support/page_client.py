"""A served page of this process, and a program that speaks to it as a page does."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import torch
from websockets.sync.client import connect

from gseg_ns.page.served import page_files
from gseg_ns.rendering import Camera
from gseg_ns.serving import open_desk, serve
from gseg_ns.serving.desk import Desk
from gseg_ns.serving.picture import MARKS, ROWS, SPLATS
from gseg_ns.splats import Splats, transform
from gseg_ns.splats.placement import turn_between
from gseg_ns.splats.ply import write_ply
from page_scene import CENTRES, EYE, FOV, TARGET, page_scene

WIDTH, HEIGHT = 700, 400
UPRIGHT = turn_between("y", "z")
"""From the coordinates of `page_scene`, whose y is up, to those of a run."""


def upright_scene() -> tuple[Splats, torch.Tensor]:
    """`page_scene` with z up, and the group of each Gaussian."""
    splats, groups = page_scene()
    return transform(splats, UPRIGHT, torch.zeros(3)), groups


def write_scene(path: Path) -> Path:
    """It as a labelled PLY."""
    splats, groups = upright_scene()
    write_ply(path, splats, {"label": groups.int()})
    return path


def write_treed(folder: Path) -> Path:
    """It as a result with a tree: 11 (node 2, of two halves, 3 and 4) and 12 (5) are one group (1)."""
    from gseg_ns.runs.packing import pack_run
    from gseg_ns.runs.run import load_run

    splats, groups = page_scene()
    run = load_run(write_scene(folder / "scene.ply"))
    run.config.method_name = "gaga"
    model: Any = run.model
    nodes = torch.where(groups > 11, groups - 7, 0)
    nodes[groups == 11] = torch.where(splats.means[groups == 11][:, 0] > CENTRES[0, 0], 4, 3)
    model.tree_nodes = nodes.int()
    model.tree_parents = torch.tensor([0, 0, 1, 2, 2, 1, 0, 0, 0, 0], dtype=torch.int32)
    model.tree_objects = torch.tensor([False, False, True, False, False, *[True] * 5])
    model.tree_evidence = torch.ones(10)
    model.voted_confidence = torch.ones(len(groups))
    model.has_scales = True
    pack_run(run, folder / "treed.gseg")
    return folder / "treed.gseg"


class PageClient:
    """A page without a browser."""

    def __init__(self, address: str, desk: Desk) -> None:
        self.address = address
        self.desk = desk
        parts = urlsplit(address)
        port, token = parts.port, parse_qs(parts.query)["token"][0]
        self.cookie = f"gseg-page-token-{port}={token}"
        self.socket_address = f"ws://127.0.0.1:{port}/session"
        headers = {"Cookie": self.cookie, "Origin": f"http://127.0.0.1:{port}"}
        self.socket = connect(self.socket_address, additional_headers=headers, max_size=None)
        self.state: dict[str, Any] = {}
        self.frames: dict[int, bytes] = {}
        self.number = 0
        while "objects" not in self.state:
            self.take()

    def take(self, timeout: float = 60) -> dict[str, Any]:
        """The next message; what it says of the state is remembered."""
        raw = self.socket.recv(timeout)
        if isinstance(raw, bytes):
            self.frames[struct.unpack_from("<I", raw)[0]] = raw
            return {}
        message: dict[str, Any] = json.loads(raw)
        self.state.update(message.get("state", {}))
        return message

    def raw(self, text: str | bytes) -> dict[str, Any]:
        """Send something, and wait for an answer."""
        self.socket.send(text)
        while "answers" not in (message := self.take()):
            pass
        return message

    def ask(self, name: str, *values: Any, mode: str = "set", at: Any = None, points: Any = ()) -> dict[str, Any]:
        """Ask as a page does, which has its camera at EYE."""
        self.number += 1
        places = [list(at)] if at is not None else [list(point) for point in points]
        message = {"number": self.number, "name": name, "values": list(values), "mode": mode, "points": places}
        answer = self.raw(json.dumps({**message, "view": self.view()}))
        assert answer["answers"] == self.number
        return answer

    def view(self) -> list[float]:
        """See `Scene.view` in web/src/served_scene.js."""
        return [*(_pose(self.shift).T.flatten().tolist()), FOV, WIDTH, HEIGHT]

    @property
    def shift(self) -> torch.Tensor:
        """From the coordinates of `page_scene` to the page's."""
        return self.desk.picture.space.placement.translation

    @property
    def splats(self) -> bytes:
        return self.frames[SPLATS][16:]

    @property
    def version(self) -> int:
        return int(struct.unpack_from("<4I", self.frames[SPLATS])[1])

    @property
    def rows(self) -> np.ndarray:
        return np.frombuffer(self.frames[ROWS], "<u2", offset=16)

    @property
    def marks(self) -> tuple[np.ndarray, np.ndarray]:
        """Selected and not shown, bool."""
        count = struct.unpack_from("<4I", self.frames[MARKS])[2]
        half = -(-count // 8)
        data = np.frombuffer(self.frames[MARKS], np.uint8, offset=16)
        one, other = (np.unpackbits(part, count=count, bitorder="little") for part in (data[:half], data[half:]))
        return one.astype(bool), other.astype(bool)


def _pose(shift: torch.Tensor) -> torch.Tensor:
    """Camera to world [4, 4] float64, OpenGL."""
    eye, target = (torch.tensor(place, dtype=torch.float64) for place in (EYE, TARGET))
    back = torch.nn.functional.normalize(eye - target, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1, 0]).double(), back), dim=0)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3] = torch.stack([right, torch.linalg.cross(back, right), back, eye + shift], dim=1)
    return pose


def camera_of_run() -> Camera:
    """The same view in the run's coordinates, as the tab has it."""
    pose = _pose(torch.zeros(3))
    pose[:3] = UPRIGHT @ pose[:3]
    focal = HEIGHT / 2 / np.tan(np.radians(FOV) / 2)
    K = torch.tensor([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1.0]], dtype=torch.float32)
    return Camera.from_c2w(pose.float(), K, WIDTH, HEIGHT)


def pixel_of(group: int, offset: tuple[float, float, float] = (0, 0, 0)) -> tuple[float, float]:
    """Where an object's middle is in that view, or what is beside it (coordinates of `page_scene`)."""
    camera = camera_of_run()
    place = UPRIGHT.float() @ (CENTRES[group - 11] + torch.tensor(offset))
    seen = camera.K @ (camera.viewmat[:3, :3] @ place + camera.viewmat[:3, 3])
    return float(seen[0] / seen[2]), float(seen[1] / seen[2])


@contextmanager
def served(path: Path) -> Iterator[tuple[str, Desk]]:
    """Serve something; the address with its token, and what pages work at."""
    desk, meta = open_desk(path)
    ready, stop = threading.Event(), threading.Event()
    addresses: list[str] = []

    def tell(address: str, port: int) -> None:
        addresses.append(address)
        ready.set()

    thread = threading.Thread(target=serve, args=(desk, page_files(meta), 0, None, tell, stop.wait), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield addresses[0], desk
    finally:
        stop.set()
        thread.join(60)
