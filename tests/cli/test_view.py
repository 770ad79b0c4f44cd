"""`gseg view`: ports of addresses of either family."""

from __future__ import annotations

import socket
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from gseg_ns.cli.view import _free_port
from gseg_ns.errors import GsegError


@pytest.mark.parametrize("host", [None, "127.0.0.1"])
def test_a_free_port(host: str | None) -> None:
    assert 0 < _free_port(host) < 1 << 16


@pytest.mark.parametrize(("host", "family"), [("::1", socket.AF_INET6), ("0.0.0.0", socket.AF_INET)])
def test_the_family_is_the_address_s(host: str, family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, int]] = []

    def serve(address: tuple[str, int], *, family: int) -> Any:
        asked.append((address, family))
        return nullcontext(SimpleNamespace(getsockname=lambda: (host, 4321)))

    monkeypatch.setattr(socket, "create_server", serve)  # a machine may have no IPv6
    assert _free_port(host) == 4321
    assert asked == [((host, 0), family)]


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_that_is_not_of_this_machine(host: str) -> None:
    with pytest.raises(GsegError, match=f"Cannot listen on {host}: .* with --host, or leave --host out"):
        _free_port(host)
