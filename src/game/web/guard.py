"""Who may talk to the server: a token, a cookie, and the names under which it is called."""

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Verdict:
    """`status` OK: let in; FOUND: the token was right, exchange it for the cookie; else refuse, for this `reason`."""

    status: HTTPStatus
    reason: str = ""


@dataclass(frozen=True)
class Guard:
    """Checks requests to a server on `host` and `port`.

    A page of another site can make the browser send requests here, but it does not know the token, does not get the
    cookie, and has another origin. A domain of somebody else that leads to this machine (DNS rebinding) has another
    host.
    """

    token: str
    host: str
    port: int

    @property
    def cookie(self) -> str:
        """The name of the cookie: browsers keep one jar for all ports."""
        return f"play-{self.port}"

    @property
    def set_cookie(self) -> str:
        return f"{self.cookie}={self.token}; HttpOnly; SameSite=Lax; Path=/"

    def check(self, path: str, headers: Mapping[str, str], is_socket: bool) -> Verdict:
        """Whether a request for a path, with these headers, is allowed."""
        if not self._is_ours(headers.get("Host", "")):
            return Verdict(HTTPStatus.FORBIDDEN, "This server is called under another name than its own.")
        if is_socket and not self._is_same_origin(headers):
            return Verdict(HTTPStatus.FORBIDDEN, "Pages of other sites may not connect.")
        offered = parse_qs(urlsplit(path).query).get("token", [""])[0]
        if offered and self._is_token(offered):
            return Verdict(HTTPStatus.FOUND)
        if self._is_token(_cookie(headers.get("Cookie", ""), self.cookie)):
            return Verdict(HTTPStatus.OK)
        return Verdict(HTTPStatus.FORBIDDEN, "Open the whole URL that the server printed: it ends in a token.")

    def _is_token(self, word: str) -> bool:
        return hmac.compare_digest(word.encode(), self.token.encode())

    def _is_ours(self, host: str) -> bool:
        """Local names, the name that was bound to, and addresses in digits, if the server is open to others."""
        name = (urlsplit(f"//{host}").hostname or "") if host else ""
        if name in (*LOCAL, self.host):
            return True
        return not is_local(self.host) and _is_address(name)

    def _is_same_origin(self, headers: Mapping[str, str]) -> bool:
        origin = urlsplit(headers.get("Origin", ""))
        return origin.scheme in ("http", "https") and origin.netloc == headers.get("Host", "")


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server on that host."""
    return host in LOCAL


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _cookie(header: str, name: str) -> str:
    try:
        cookies = SimpleCookie(header)
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""
