"""The part of the Segment tab that viser has no widgets for: its script, what it is told, and what it asks for.

viser runs a script in the browsers (its way to bring Plotly along). What the script asks for comes as the value of a
text field that it hides; see `gseg_ns.viewer.commands`.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

from viser import _messages

from gseg_ns.viewer.commands import read_commands

if TYPE_CHECKING:
    import viser

_FIELD = "Segment"
"""Label of the text field. No one sees it."""

Command = Callable[[int, str, list[Any]], None]
"""Called with the client's id, the name of what it wants, and values that are numbers, texts, booleans or None."""


class Page:
    """The script's other end."""

    def __init__(self, server: viser.ViserServer, command: Command) -> None:
        """Add the script to the container of the GUI that is being filled.

        Args:
            server: whose browsers.
            command: called in the order in which one browser asks, from viser's threads.
        """
        self._command = command
        self._lock = threading.Lock()
        self._taken: dict[tuple[int, str], int] = {}
        self._told: dict[int, dict[str, str]] = {}
        # viser holds its lock while it tells of a browser that comes or goes: asking it for them then would wait
        # forever, and with it the thread that serves all of them.
        self._clients: dict[int, viser.ClientHandle] = {}
        self._state: dict[str, Any] = {}
        # Of what is told, in the order of what it says: viser delivers what several threads tell in any order.
        self._numbers = itertools.count(1)
        self._field = server.gui.add_text(_FIELD, "")
        # The field's value is that of the browser which wrote last; the message says which one wrote what.
        server._websock_server.register_handler(_messages.GuiUpdateMessage, self._received)
        script = resources.files("gseg_ns.viewer").joinpath("page.js").read_text(encoding="utf-8")
        # viser evaluates it among its own names, of which one is `Option`; this way it sees the browser's alone, and
        # what viser keeps of its page.
        kept = "typeof viewer === 'undefined' ? null : viewer"
        source = f"(0,eval)({json.dumps(f'({script})')})({json.dumps(self._field._impl.id)}, {kept})"
        server._websock_server.queue_message(_messages.RunJavascriptMessage(source))
        server.on_client_connect(self._arrived)
        server.on_client_disconnect(lambda client: self._forget(client.client_id))

    def show(self, **state: Any) -> None:
        """Tell all browsers, those that come later too, what to show; what they know already is not sent again."""
        with self._lock:
            self._state.update(state)
            clients = list(self._clients)
        for client in clients:
            self._tell(client)

    def show_one(self, client: int, **state: Any) -> None:
        """Tell one browser what the others do not see, such as its tool."""
        with self._lock:
            number = next(self._numbers)
        self._send(client, number, {name: json.dumps(value) for name, value in state.items()})

    def _arrived(self, client: viser.ClientHandle) -> None:
        with self._lock:
            self._clients[client.client_id] = client
        self._tell(client.client_id)

    def _tell(self, client: int) -> None:
        with self._lock:
            if client not in self._clients:
                return
            told = self._told.setdefault(client, {})
            found = {name: json.dumps(value) for name, value in self._state.items()}
            new = {name: text for name, text in found.items() if told.get(name) != text}
            told.update(new)
            number = next(self._numbers)
        self._send(client, number, new)

    def _send(self, client: int, number: int, state: dict[str, str]) -> None:
        with self._lock:
            handle = self._clients.get(client)
        if handle is None or not state:
            return
        # JSON is JavaScript, and pure ASCII here: what is in it stays a text.
        patch = ",".join(f"{json.dumps(name)}:{text}" for name, text in state.items())
        source = f"(window.gsegLater=window.gsegLater||[]).push([{number},{{{patch}}}]);"
        source += "window.gsegTab&&window.gsegTab.take()"
        handle._websock_connection.queue_message(_messages.RunJavascriptMessage(source))

    def _forget(self, client: int) -> None:
        with self._lock:
            self._clients.pop(client, None)
            self._told.pop(client, None)
            self._taken = {key: last for key, last in self._taken.items() if key[0] != client}

    def _received(self, client: int, message: _messages.GuiUpdateMessage) -> None:
        if message.id != self._field._impl.id:
            return
        try:
            page, commands = read_commands(message.updates.get("value"))
        except ValueError:
            return
        with self._lock:
            last = self._taken.get((client, page), 0)
            for number, name, values in commands:
                if number > last:
                    last = number
                    self._command(client, name, values)
            self._taken[client, page] = last
