"""The server: one page, one socket a visitor, and films of stored episodes."""

import json
import logging
import secrets
import socket
import sys
import threading
import time
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from errors import UserError
from game.web.guard import Guard, is_local
from game.web.messages import LARGEST_MESSAGE, Malformed, Seen, SetRate, SetRun, Shown, read_message, write_view
from game.web.players import Hall, Player
from game.web.stored import film_of_episode

PAGE = Path(__file__).with_name("page.html")
SECONDS_BETWEEN_PINGS, SECONDS_UNTIL_GONE = 3, 5
SECONDS_BETWEEN_THREADS = 0.0005
SECONDS_OF_GOODBYE = 0.1
MESSAGES_PER_SECOND, MOST_VISITORS = 400, 32
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class WebServer:
    """Serves what a hall's players play. Raises UserError if the port is taken."""

    def __init__(self, hall: Hall, host: str, port: int, title: str, is_smooth: bool = False) -> None:
        self._hall = hall
        self._title = title
        self._is_smooth = is_smooth
        self._visitors = threading.Semaphore(MOST_VISITORS)
        listening = _listen(host, port)
        self._guard = Guard(secrets.token_urlsafe(24), host, listening.getsockname()[1])
        logging.getLogger("websockets").setLevel(logging.CRITICAL)
        self._server: Server = serve(
            self._receive,
            sock=listening,
            process_request=self._answer,
            max_size=LARGEST_MESSAGE,
            compression=None,
            ping_interval=SECONDS_BETWEEN_PINGS,
            ping_timeout=SECONDS_UNTIL_GONE,
            close_timeout=0.5,
            open_timeout=5,
            server_header=None,
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="server", daemon=True)

    @property
    def url(self) -> str:
        """The whole URL, with the token."""
        host = "localhost" if is_local(self._guard.host) or self._guard.host in ("0.0.0.0", "::") else self._guard.host
        return f"http://{host}:{self._guard.port}/?token={self._guard.token}"

    def start(self) -> None:
        # Messages pass through several threads: the one that computes must not keep them waiting for long.
        sys.setswitchinterval(SECONDS_BETWEEN_THREADS)
        self._thread.start()

    def stop(self) -> None:
        """Store what is recorded, then let the visitors go."""
        self._hall.close()
        # A client that does not answer is not waited for.
        goodbye = partial(self._server.shutdown, reason="The server was stopped.")
        thread = threading.Thread(target=goodbye, name="goodbye", daemon=True)
        thread.start()
        thread.join(SECONDS_OF_GOODBYE)

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """An HTTP response; None goes on to the socket."""
        is_socket = urlsplit(request.path).path == "/socket"
        verdict = self._guard.check(request.path, _as_mapping(request.headers), is_socket)
        if verdict.status == HTTPStatus.FOUND:
            return _respond(HTTPStatus.FOUND, b"", "text/plain", Location="/", **{"Set-Cookie": self._guard.set_cookie})
        if verdict.status != HTTPStatus.OK:
            return _respond(verdict.status, f"{verdict.reason}\n".encode(), "text/plain; charset=utf-8")
        match urlsplit(request.path).path:
            case "/socket":
                return None
            case "/":
                return _respond(HTTPStatus.OK, PAGE.read_bytes(), "text/html; charset=utf-8")
            case "/episode.mp4":
                return self._film(parse_qs(urlsplit(request.path).query))
        return _respond(HTTPStatus.NOT_FOUND, b"There is no such page.\n", "text/plain")

    def _film(self, query: dict[str, list[str]]) -> Response:
        player = self._hall.first()
        try:
            film = film_of_episode(None if player is None else player.playable, query)
        except UserError as error:
            return _respond(HTTPStatus.NOT_FOUND, f"{error}\n".encode(), "text/plain; charset=utf-8")
        return _respond(HTTPStatus.OK, film, "video/mp4", **{"Content-Disposition": "attachment; filename=episode.mp4"})

    def _receive(self, connection: ServerConnection) -> None:
        """One visitor, until it leaves."""
        if not self._visitors.acquire(blocking=False):
            connection.close(1013, "There are too many visitors.")
            return
        try:
            Visitor(connection, self._hall, self._title, self._is_smooth).stay()
        finally:
            self._visitors.release()


class Visitor:
    """A page that is open: it plays, or watches until there is a seat."""

    def __init__(self, connection: ServerConnection, hall: Hall, title: str, is_smooth: bool) -> None:
        self._connection = connection
        self._hall = hall
        self._hello = {"title": title, "smooth": is_smooth}
        self._player = hall.sit_down()
        self._seen = threading.Event()
        self._seen.set()
        self._is_gone = False
        self._bucket, self._filled = float(MESSAGES_PER_SECOND), time.monotonic()

    def stay(self) -> None:
        sender = threading.Thread(target=self._send, name="sender", daemon=True)
        sender.start()
        try:
            for text in self._connection:
                self._take(text)
        except Malformed as error:
            self._connection.close(1008, f"Malformed: {error}.")
        except ConnectionClosed:
            pass
        finally:
            self._is_gone = True
            self._seen.set()
            if self._player is not None:
                self._hall.stand_up(self._player)

    def _take(self, text: str | bytes) -> None:
        now = time.monotonic()
        self._bucket = min(MESSAGES_PER_SECOND, self._bucket + (now - self._filled) * MESSAGES_PER_SECOND) - 1
        self._filled = now
        if self._bucket < 0:
            raise Malformed("more messages than hands can send")
        message, sequence = read_message(text)
        match message:
            case Seen():
                self._seen.set()
            case SetRate(fps) if self._player is not None:
                self._player.set_rate(fps)
            case SetRun(name) if self._player is not None:
                try:
                    self._player = self._hall.move(self._player, name)
                except UserError as error:
                    self._player.say(str(error))
            case SetRate() | SetRun():
                """A watcher changes nothing."""
            case event if self._player is not None:
                self._player.take(event, sequence)

    def _send(self) -> None:
        """One picture in flight: a slow page misses pictures, and nobody waits for it."""
        version, watched = 0, None
        try:
            while not self._is_gone:
                if self._player is None and (seat := self._hall.sit_down()) is not None:
                    self._player = seat
                player = self._player or self._hall.first()
                if player is None:
                    time.sleep(0.1)
                    continue
                if player is not watched:
                    version, watched = 0, player
                    self._greet(player)
                self._seen.wait()
                sight = player.wait(version, 0.5)
                if sight is None:
                    # A player that left is not watched any longer.
                    if player.is_over:
                        time.sleep(0.1)
                    continue
                version = sight.version
                is_player = player is self._player
                shown = Shown(sight.rate, sight.fps, sight.banner, sight.message, sight.is_thinking, is_player)
                self._seen.clear()
                self._connection.send(write_view(sight.view, shown))
        except ConnectionClosed:
            pass

    def _greet(self, player: Player) -> None:
        playable = player.playable
        keys = {"help": playable.help, "game_keys": sorted(playable.game_keys)}
        hello = {**self._hello, **keys, "run": player.run, "runs": list(self._hall.runs)}
        self._connection.send(json.dumps(hello))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "Choose another one with --port N, or 0 for any that is free."
        raise UserError(f"Port {port} of {host} cannot be served: {reason}. {hint}") from None


def _as_mapping(headers: Headers) -> dict[str, str]:
    """Without repeated headers, of which no browser sends these."""
    return {name: headers.get_all(name)[0] for name in ("Host", "Origin", "Cookie") if headers.get_all(name)}


def _respond(status: HTTPStatus, body: bytes, kind: str, **more: Any) -> Response:
    headers = Headers(
        {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Connection": "close",
            **more,
        }
    )
    return Response(int(status), status.phrase, headers, body)
