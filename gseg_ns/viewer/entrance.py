"""What is asked of those who come to a server of ours: where their page is from, and a token.

docs/safety.md says what is checked here and what is not.
"""

from __future__ import annotations

import hmac
import http
import ipaddress
import os
import socket
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit

ORIGINS = "GSEG_VIEWER_ORIGINS"
"""Environment variable: further origins, with commas between them, whose pages may drive the viewer."""

TOKEN = "GSEG_VIEWER_TOKEN"
"""Environment variable: what is asked of every browser. Empty: Nerfstudio's viewers ask for nothing, and the page of
`gseg view` for a token that it makes up."""

LOOPBACK = "127.0.0.1"

Answer = tuple[http.HTTPStatus, Any, bytes]
"""Status, headers and body with which a request ends."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def origins_of_environment() -> frozenset[str]:
    """The origins that the user lists."""
    listed = os.environ.get(ORIGINS, "").split(",")
    return frozenset(origin.strip().rstrip("/").lower() for origin in listed if origin.strip())


def in_address(token: str) -> str:
    """A token as addresses and cookies have it, whatever is in it."""
    return quote(token, safe="")


@dataclass
class Door:
    """What is asked of those who come to one server."""

    host: str
    """What the server is bound to."""
    root: Path | None = None
    """Folder whose files are served; None: none are."""
    token: str = ""
    """To be brought by every request, in the address of the first one and in a cookie afterwards; "": none is."""
    origins: set[str] = field(default_factory=set)
    """Origins that may come, beside the server's own."""
    framed: bool = True
    """Whether pages of other sites may show the viewer in a frame."""
    cookie: str = "gseg-viewer-token"
    """Name of the cookie. Cookies know hosts and no ports, so that it has the port in it."""

    def answer(self, path: str, headers: Any) -> Answer | None:
        """The answer to a request that may not come in as it is, or None. Never raises.

        Args:
            path: of the request, with its query.
            headers: of the request, `websockets.datastructures.Headers`.
        """
        try:
            # Asked as viser asks, which serves a file to everything else.
            if headers.get("Upgrade") == "websocket":
                return self._refuse_origin(headers) or self._refuse_token(path, headers)
            return self._refuse_file(path) or self._take_token(path) or self._refuse_token(path, headers)
        except Exception:  # a header that comes twice, for one
            return _refusal(http.HTTPStatus.BAD_REQUEST, "This request is not understood.")

    def _refuse_file(self, path: str) -> Answer | None:
        missing = _refusal(http.HTTPStatus.NOT_FOUND, "404")
        relative = path.partition("?")[0]
        if self.root is None or not relative.startswith("/") or "\\" in relative or "\0" in relative:
            return missing
        parts = relative[1:].split("/")
        if any(part in (".", "..") for part in parts) or relative.startswith("//"):
            return missing
        file = self.root.joinpath(*parts) if any(parts) else self.root / "index.html"
        try:
            inside = file.is_file() and file.resolve().is_relative_to(self.root.resolve())
        except (OSError, ValueError):  # too long a name
            return missing
        return None if inside else missing

    def _refuse_origin(self, headers: Any) -> Answer | None:
        """A browser names the site of the page that opens a WebSocket; programs need not, and say what they like."""
        origin = headers.get("Origin")
        if origin is None:
            return None
        if origin.lower() in self.origins:
            return None
        asked, came = urlsplit(f"//{headers.get('Host', '')}"), urlsplit(origin)
        usual = {"http": 80, "https": 443}.get(came.scheme)
        same = came.hostname is not None and (came.hostname, came.port or usual) == (
            asked.hostname,
            asked.port or usual,
        )
        if usual is not None and same and (self.token or not is_loopback(self.host) or self._is_mine(asked.hostname)):
            return None
        return _refusal(
            http.HTTPStatus.FORBIDDEN,
            f"A page of {origin} may not drive this viewer. If it shall, start the viewer with {ORIGINS}={origin}",
        )

    def _is_mine(self, name: str | None) -> bool:
        """Whether a host name means this machine in any case; another may be made to by whoever owns it."""
        if name is None:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            mine = socket.gethostname().lower()
            return name in ("localhost", mine, mine.partition(".")[0]) or name.endswith(".localhost")
        return True

    def _refuse_token(self, path: str, headers: Any) -> Answer | None:
        if not self.token or self._brought(path) or self._kept(headers):
            return None
        return _refusal(
            http.HTTPStatus.UNAUTHORIZED,
            "This viewer asks for a token: open the address with ?token=... that it wrote to the terminal.",
        )

    def _take_token(self, path: str) -> Answer | None:
        """Turn the token in an address into a cookie: viser's page tells its address to a counter of visits."""
        if not self.token or not self._brought(path):
            return None
        file, _, query = path.partition("?")
        rest = urlencode([(name, value) for name, value in parse_qsl(query) if name != "token"])
        cookie = f"{self.cookie}={in_address(self.token)}; Path=/; HttpOnly; SameSite=Lax"
        said = [("Location", f"{file}?{rest}" if rest else file), ("Set-Cookie", cookie), ("Cache-Control", "no-store")]
        return http.HTTPStatus.SEE_OTHER, said, b""

    def _brought(self, path: str) -> bool:
        return any(self._is_token(token) for token in parse_qs(path.partition("?")[2]).get("token", []))

    def _kept(self, headers: Any) -> bool:
        try:
            cookies = SimpleCookie("; ".join(headers.get_all("Cookie")))
        except CookieError:
            return False
        return self.cookie in cookies and self._is_token(unquote(cookies[self.cookie].value))

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(errors="replace"), self.token.encode())

    def headers(self) -> list[tuple[str, str]]:
        """What is said with a file that is served."""
        if self.framed:
            return []
        return [("Content-Security-Policy", " ".join(["frame-ancestors 'self'", *sorted(self.origins)]))]


def _refusal(status: http.HTTPStatus, text: str) -> Answer:
    return status, [("Content-Type", "text/plain; charset=utf-8")], f"{text}\n".encode()
