"""How long `gseg view` takes to start, and a prompt to the server and back.

  python benchmarks/served.py RUN-OR-RESULT-OR-PLY [--prompts 40] [--browser]

Times are of the wall and, where the machine is shared, of the processor, which the server used alone. With --browser,
also how long a page takes to load in Chromium, and clicks on it with the mouse; splats are not drawn there.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from websockets.sync.client import ClientConnection, connect

WIDTH, HEIGHT = 1280, 720


def processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pose(eye: list[float], target: list[float]) -> list[float]:
    """Camera to world by columns, y up."""
    back = np.subtract(eye, target) / np.linalg.norm(np.subtract(eye, target))
    right = np.cross([0, 1, 0], back)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return matrix.T.flatten().tolist()


def asked(socket: ClientConnection, number: int, name: str, **more: Any) -> dict[str, Any]:
    socket.send(json.dumps({"number": number, "name": name, "values": [], "mode": "set", **more}))
    while True:
        raw = socket.recv(60)
        message = json.loads(raw) if isinstance(raw, str) else {}
        if message.get("answers") == number:
            return dict(message)


def in_browser(address: str, clicks: int = 60) -> None:
    """Load the page and click on it."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    from browser_driver import chromium, timing

    with chromium() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.add_init_script(timing("stage.spark", "gseg.scene.picker && gseg.state.objects.length"))
        page.goto(address)
        end = time.monotonic() + 120
        while not page.evaluate("window.readyAt !== undefined"):
            if time.monotonic() > end:
                raise TimeoutError(page.inner_text("#status"))
            page.wait_for_timeout(50)
        page.wait_for_timeout(1000)
        hit = 0
        for place in np.random.default_rng(0).uniform([40, 40], [WIDTH - 400, HEIGHT - 40], (clicks, 2)).tolist():
            page.mouse.click(*place)
            hit += page.evaluate(f"Boolean(gseg.pick({place[0]}, {place[1]})?.row)")
        took = page.evaluate("clicks")
        print(
            f"a page in Chromium: ready after {page.evaluate('readyAt') / 1000:.2f} s; a click there: "
            f"median {statistics.median(took):.1f} ms, slowest {max(took):.1f} ms ({hit} of {clicks} hit an object)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--browser", action="store_true")
    options = parser.parse_args()
    gseg = Path(sys.executable).parent / "gseg"
    started = time.perf_counter()
    command = [str(gseg), "view", options.path, "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        address = next(found[0] for line in running.stdout if (found := re.search(r"http://\S+", line)))
        wall = time.perf_counter() - started
        print(f"start: {wall:.2f} s, of the processor {processor_seconds(running.pid):.2f} s")
        parts = urlsplit(address)
        cookie = f"gseg-page-token-{parts.port}={parse_qs(parts.query)['token'][0]}"
        own = f"http://{parts.netloc}"
        page = urllib.request.urlopen(urllib.request.Request(own, headers={"Cookie": cookie})).read().decode()
        meta = json.loads(html.unescape(page.partition('id="meta">')[2].partition("</script>")[0]))
        headers = {"Cookie": cookie, "Origin": own}
        with connect(f"ws://{parts.netloc}/session", additional_headers=headers, max_size=None) as socket:
            sizes = []
            while not isinstance(raw := socket.recv(60), str):
                sizes.append(len(raw))
            print(f"{meta['splats']} Gaussians; what a browser is sent first: {sum(sizes) / 1e6:.1f} MB")
            view = [*pose(meta["view"]["eye"], meta["view"]["target"]), meta["view"]["fov"], WIDTH, HEIGHT]
            places = np.random.default_rng(0).uniform([0, 0], [WIDTH, HEIGHT], (options.prompts + 5, 2))
            walls, used, hits = [], [], 0
            for number, place in enumerate(places.tolist()):
                before, start = processor_seconds(running.pid), time.perf_counter()
                answer = asked(socket, number, "click", view=view, points=[place])
                if number >= 5:  # the first ones compile
                    walls.append(time.perf_counter() - start)
                    used.append(processor_seconds(running.pid) - before)
                    hits += answer["well"]
            for name, values in (("wall", walls), ("processor", used)):
                print(
                    f"a click to the answer, {name}: median {statistics.median(values):.3f} s, "
                    f"longest {max(values):.3f} s ({hits} of {len(values)} hit an object)"
                )
        if options.browser:
            in_browser(address)
        running.terminate()


if __name__ == "__main__":
    main()
