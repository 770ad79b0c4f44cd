"""What the tab's script is told, and what it may ask for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from viser._messages import GuiUpdateMessage

from gseg_ns.viewer.commands import read_commands
from gseg_ns.viewer.page import Page


class Server:
    """As much of viser's server as a page needs. While it tells of browsers, it does not answer questions on them."""

    def __init__(self) -> None:
        self.arrived: list[Callable[[Any], None]] = []
        self.left: list[Callable[[Any], None]] = []
        self.received: list[Callable[[int, GuiUpdateMessage], None]] = []
        self.sent: list[Any] = []
        self._websock_server = SimpleNamespace(
            register_handler=lambda kind, handler: self.received.append(handler), queue_message=self.sent.append
        )
        self.gui = SimpleNamespace(add_text=lambda label, value: SimpleNamespace(_impl=SimpleNamespace(id="field")))
        self.on_client_connect = self.arrived.append
        self.on_client_disconnect = self.left.append

    def get_clients(self) -> None:
        raise AssertionError("waits forever")


def browser(number: int) -> Any:
    told: list[str] = []
    connection = SimpleNamespace(queue_message=lambda message: told.append(message.source))
    return SimpleNamespace(client_id=number, _websock_connection=connection, told=told)


@pytest.fixture
def server() -> Any:
    return Server()


def test_browsers_are_told_when_they_come_and_what_is_new(server: Any) -> None:
    page = Page(server, lambda *command: None)
    page.show(said="a")
    first, second = browser(0), browser(1)
    for one in (first, second):
        server.arrived[0](one)
        assert len(one.told) == 1
        assert '"said":"a"' in one.told[0]
    page.show(said="a")
    assert len(first.told) == 1
    page.show(said="b")
    page.show_one(1, mode="add")
    assert (len(first.told), len(second.told)) == (2, 3)
    server.left[0](first)
    page.show(said="c")
    assert (len(first.told), len(second.told)) == (2, 4)


def test_what_was_told_last_has_the_largest_number(server: Any) -> None:
    """Whatever order it comes in: one thread may be held up between two others that tell something newer."""
    page, one = Page(server, lambda *command: None), browser(0)
    server.arrived[0](one)
    values = list(range(200))

    def tell(thread: int) -> None:
        for value in values[thread::4]:
            page.show(**{f"of {thread}": value})
            page.show_one(0, **{f"alone {thread}": value})

    threads = [threading.Thread(target=tell, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [json.loads(source.split("push(", 1)[1].split(");window", 1)[0]) for source in one.told]
    assert len({number for number, _ in found}) == len(found)
    shown: dict[str, Any] = {}
    for _, patch in sorted(found, key=lambda told: told[0]):
        shown |= patch
    assert shown == {f"{kind} {thread}": values[thread::4][-1] for kind in ("of", "alone") for thread in range(4)}


def test_a_command_is_done_once(server: Any) -> None:
    done: list[Any] = []
    Page(server, lambda *command: done.append(command))
    queue = [[1, "undo"], [2, "name", 3, "mug"]]
    for count in (1, 2, 2):
        message = GuiUpdateMessage("field", {"value": json.dumps(["page", queue[:count]])})
        server.received[0](7, message)
    server.received[0](7, GuiUpdateMessage("another", {"value": json.dumps(["page", [[3, "undo"]]])}))
    assert done == [(7, "undo", []), (7, "name", [3, "mug"])]


@pytest.mark.parametrize(
    "text",
    [None, 3, "", "{", "[]", '["p"]', '["p", 3]', '["p", [[]]]', '["p", [["1", "undo"]]]', '["p", [[true, "undo"]]]',
     '["p", [[1, "name", 2147483648, "x"]]]', '["p", [[1, "name", -1e300, "x"]]]', '["p", [[1, "x", NaN]]]',
     '["p", [[1, "x", Infinity]]]', '["p", [[1, "x", 1e999]]]', '["p", [[1' + "0" * 40 + ', "undo"]]]',
     "[" * 4000, '["p", [[1, "x", ' + "9" * 4050 + "]]]",
     '["p", [[1, 2]]]', '["p", [[1, "name", [1]]]]', '[3, [[1, "undo"]]]', '["p", [[1, "' + "x" * 5000 + '"]]]'],
)  # fmt: skip
def test_what_is_no_command_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="no "):
        read_commands(text)
