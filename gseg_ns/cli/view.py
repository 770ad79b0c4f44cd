"""`gseg view`: the page of our own, or Nerfstudio's viewer, on whatever there is."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from gseg_ns.choices import UpAxis
from gseg_ns.errors import GsegError

_LAST_PORT = 65_535


@dataclass
class ViewRun:
    """Open a page on a run, a result or a PLY: the browser draws; selections, edits and exports are done here.

    It is opened in the browser, and its address written. Whoever has the address can see and change the scene.
    """

    run: tyro.conf.Positional[Path]
    """config.yml of a run, or its folder; a folder NAME.gseg; or a PLY, with labels or without"""
    port: int = 7007
    """Port of the page; another where it is in use"""
    host: str | None = None
    """Address that it is bound to; this machine alone unless given"""
    data: Path | None = None
    """The run's scene. Default: where its config.yml says, or of that name beside the run"""
    up: UpAxis | None = None
    """Which way is up in the scene. Default: what a PLY says of itself, else z, as in Nerfstudio; what
    other trainers write has y-down"""
    open: bool = True
    """Open the page in the browser; --no-open writes its address alone"""
    nerfstudio: bool = False
    """Nerfstudio's own viewer with its Segment tab, which draws here and not in the browser"""

    def main(self) -> None:
        """Open it; it runs until it is stopped."""
        if not 0 <= self.port <= _LAST_PORT:
            raise GsegError(f"--port {self.port}: ports are numbers from 0 (any that is free) to {_LAST_PORT}.")
        if self.nerfstudio:
            if self.up is not None or not self.open:
                raise GsegError("--up and --no-open are of the page: Nerfstudio's viewer has neither. Leave them out.")
            self._nerfstudio()
            return
        from gseg_ns.page.served import page_files
        from gseg_ns.serving import open_desk, serve

        up = "-y" if self.up == "y-down" else self.up
        desk, meta = open_desk(self.run, self.data, up)
        serve(desk, page_files(meta), self.port, self.host, self._ready)

    def _ready(self, address: str, port: int) -> None:
        from gseg_ns.terminal import CONSOLE, warn
        from gseg_ns.viewer.entrance import LOOPBACK, is_loopback

        if self.port not in (0, port):
            warn(f"Port {self.port} is in use, by another viewer perhaps: this one is at {port}. Choose with --port N")
        if not is_loopback(self.host or LOOPBACK):
            warn("The page is open to the network: everyone who has its address can see and change this scene.")
        CONSOLE.print(f"Viewer at: {address}\nCtrl+C stops it.", markup=False, highlight=False, soft_wrap=True)
        # Without a desktop, a browser of the terminal would take it over.
        desktop = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
        if self.open and desktop:
            import webbrowser

            webbrowser.open(address)

    def _nerfstudio(self) -> None:
        from threading import Event

        from gseg_ns.cli.pack import start_viewer
        from gseg_ns.runs.run import load_run

        # viser would take any that is free for 0, and not say which.
        port = self.port or _free_port(self.host)
        start_viewer(load_run(self.run, self.data, allow_unfinished=True), port, self.host)
        Event().wait()


def _free_port(host: str | None) -> int:
    import socket

    from gseg_ns.viewer.entrance import LOOPBACK

    asked = host or LOOPBACK
    try:
        family = socket.getaddrinfo(asked, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        with socket.create_server((asked, 0), family=family) as server:
            port: int = server.getsockname()[1]
            return port
    except OSError as error:
        raise GsegError(
            f"Cannot listen on {asked}: {error.strerror}. Give an address of this machine with --host, or leave --host "
            "out for this machine alone."
        ) from error
