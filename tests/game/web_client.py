"""A server in the test's own process, and visitors without a browser."""

import contextlib
import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.sync.client import ClientConnection, connect

from game.engine import Engine
from game.view import Playable
from game.web.messages import read_view
from game.web.players import Hall
from game.web.server import WebServer

FPS = 20
SECONDS = 60


@contextlib.contextmanager
def serving(
    open_player: Callable[[int], Playable],
    num_players: int = 1,
    fps: float = FPS,
    runs: dict[str, Callable[[int], Playable]] | None = None,
) -> Iterator[str]:
    """The URL of a running server."""
    engine = Engine()
    server = WebServer(Hall(open_player, engine, fps, num_players, runs), "127.0.0.1", 0, "A game")
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
        engine.stop()


def address(url: str) -> tuple[str, str]:
    """Host with port, and the cookie that the token is exchanged for."""
    parts = urlsplit(url)
    return parts.netloc, f"play-{parts.port}={parse_qs(parts.query)['token'][0]}"


def get(url: str, path: str, **headers: str) -> http.client.HTTPResponse:
    host, _ = address(url)
    connection = http.client.HTTPConnection(host, timeout=SECONDS)
    connection.request("GET", path, headers={"Host": host, **headers})
    return connection.getresponse()


def visit(url: str, **options: Any) -> ClientConnection:
    """A visitor with the cookie, from the page's own origin."""
    host, cookie = address(url)
    headers = {"Cookie": cookie, **options.pop("headers", {})}
    origin = options.pop("origin", f"http://{host}")
    return connect(f"ws://{host}/socket", origin=origin, additional_headers=headers, **options)


def look(socket: ClientConnection) -> dict[str, Any]:
    """The next view's header; the page's answer is sent, so that another one can come."""
    while isinstance(content := socket.recv(SECONDS), str):
        pass
    header, _ = read_view(content)
    say(socket, do="seen", number=header["number"])
    return header


def look_until(socket: ClientConnection, holds: Callable[[dict[str, Any]], bool], count: int = 300) -> dict[str, Any]:
    """The first of the next views for which it holds."""
    return next(view for view in (look(socket) for _ in range(count)) if holds(view))


def say(socket: ClientConnection, n: int = 0, **message: Any) -> None:
    socket.send(json.dumps({**message, "n": n}))


def shown(view: dict[str, Any]) -> dict[str, str]:
    """The values of a view's fields by their labels."""
    return {field["label"]: field["text"] for field in view["fields"]}


def chosen(view: dict[str, Any]) -> dict[str, Any]:
    return {choice["name"]: choice["value"] for choice in view["choices"]}
