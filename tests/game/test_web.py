"""The server of the browser's front end: who is let in, and what is answered to visitors of every kind."""

import contextlib
import json
import re
import shutil
import socket as sockets
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
import torch
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from data import Dataset
from errors import UserError
from game.build import PlayConfig, open_stage
from game.dataset_env import DatasetEnv, open_datasets
from game.engine import Engine
from game.inputs import FocusLost, GoTo, KeyDown, Moved, SetDataset, SetHorizon
from game.view import Field, View
from game.web.guard import Guard
from game.web.messages import Malformed, Seen, SetRate, Shown, encode, read_message, read_view, write_view
from game.web.players import Hall
from game.web.server import PAGE, WebServer
from game_runs import CPU
from run.folder import RunFolder
from slow import Slow
from trained.source import Source, load_source
from web_client import FPS, SECONDS, address, chosen, get, look, look_until, say, serving, shown, visit


@pytest.fixture(scope="module")
def stage(source: Source):
    return open_stage(source, PlayConfig(env="test", seed=3, precision="fp32"), CPU)


@pytest.fixture(scope="module")
def url(stage) -> Iterator[str]:
    with serving(stage.player) as where:
        yield where


GUARD = Guard("secret", "127.0.0.1", 8000)
OURS = {"Host": "localhost:8000", "Cookie": "play-8000=secret", "Origin": "http://localhost:8000"}


@pytest.mark.parametrize(
    ("path", "changes", "is_socket", "status"),
    [
        ("/", {}, False, HTTPStatus.OK),
        ("/socket", {}, True, HTTPStatus.OK),
        ("/?token=secret", {"Cookie": ""}, False, HTTPStatus.FOUND),
        ("/?token=wrong", {"Cookie": ""}, False, HTTPStatus.FORBIDDEN),
        ("/", {"Cookie": ""}, False, HTTPStatus.FORBIDDEN),
        ("/", {"Cookie": "play-8001=secret"}, False, HTTPStatus.FORBIDDEN),
        ("/", {"Cookie": "play-8000=wrong"}, False, HTTPStatus.FORBIDDEN),
        ("/", {"Host": "evil.example:8000"}, False, HTTPStatus.FORBIDDEN),
        ("/?token=secret", {"Host": "evil.example:8000"}, False, HTTPStatus.FORBIDDEN),
        ("/", {"Host": ""}, False, HTTPStatus.FORBIDDEN),
        ("/", {"Host": "192.168.1.7:8000"}, False, HTTPStatus.FORBIDDEN),
        ("/socket", {"Origin": "http://evil.example"}, True, HTTPStatus.FORBIDDEN),
        ("/socket", {"Origin": "http://localhost:9000"}, True, HTTPStatus.FORBIDDEN),
        ("/socket", {"Origin": "null"}, True, HTTPStatus.FORBIDDEN),
        ("/socket", {"Origin": ""}, True, HTTPStatus.FORBIDDEN),
    ],
)
def test_the_guard(path: str, changes: dict[str, str], is_socket: bool, status: HTTPStatus) -> None:
    assert GUARD.check(path, {**OURS, **changes}, is_socket).status == status


def test_an_open_server_is_called_by_its_address_in_digits_only() -> None:
    guard = Guard("secret", "0.0.0.0", 8000)
    assert guard.check("/", {**OURS, "Host": "192.168.1.7:8000"}, False).status == HTTPStatus.OK
    assert guard.check("/", {**OURS, "Host": "evil.example:8000"}, False).status == HTTPStatus.FORBIDDEN


def test_the_token_is_exchanged_for_a_cookie(url: str) -> None:
    _, cookie = address(url)
    answer = get(url, f"/{url.split('/', 3)[3]}")
    assert (answer.status, answer.getheader("Location")) == (302, "/")
    assert answer.getheader("Set-Cookie") == f"{cookie}; HttpOnly; SameSite=Lax; Path=/"
    page = get(url, "/", Cookie=cookie)
    assert page.status == 200
    assert page.read() == PAGE.read_bytes()
    assert "default-src 'none'" in page.getheader("Content-Security-Policy")
    for path in ("/", "/?token=x", "/socket"):
        assert get(url, path).status == 403
    assert get(url, "/", Cookie=cookie, Host="evil.example").status == 403


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/page.html", "/%2e%2e/play.py", "/episode.mp4?dataset=/etc&episode=0"]
)
def test_no_path_of_the_disk_can_be_read(url: str, path: str) -> None:
    assert get(url, path, Cookie=address(url)[1]).status == 404


def test_the_page_is_small_and_needs_nothing_else() -> None:
    page = PAGE.read_text()
    assert len(page.encode()) < 60_000
    for word in ("src=", "@import", "fetch(", "import(", "<script "):
        assert word not in page
    assert re.findall(r'href="([^"]*)"', page) == ["data:,"]


@pytest.mark.parametrize("origin", ["http://evil.example", None])
def test_foreign_pages_may_not_connect(url: str, origin: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused, visit(url, origin=origin):
        pass
    assert refused.value.response.status_code == 403


def test_playing_through_the_socket(url: str) -> None:
    with visit(url) as socket:
        hello = json.loads(socket.recv(60))
        assert hello["title"] == "A game"
        assert set(hello["game_keys"]) == {"a", "d", "space"}
        assert look(socket)["shown"]["is_player"]
        say(socket, 1, do="set", name="controller", value="human")
        say(socket, 2, do="down", key="d")
        view = look_until(socket, lambda view: view["sequence"] >= 2)
        assert shown(view)["action"] == "RIGHT"
        assert view["held"] == ["d"]
        assert chosen(view)["controller"] == "human"
        say(socket, 3, do="blur")
        assert shown(look_until(socket, lambda view: view["sequence"] >= 3))["action"] == "NOOP"
        say(socket, 4, do="set", name="env", value="wm")
        view = look_until(socket, lambda view: view["sequence"] >= 4)
        assert chosen(view)["env"] == "wm"
        say(socket, 5, do="set", name="env", value="moon")
        view = look_until(socket, lambda view: view["message"] != "")
        assert view["message"] == "There is no env 'moon': it is one of test, train, wm."
        say(socket, 6, do="hidden")
        assert "paused" in look_until(socket, lambda view: view["sequence"] >= 6)["status"]
        say(socket, 7, do="set", name="fps", value=50)
        assert look_until(socket, lambda view: view["sequence"] >= 6 and view["shown"]["fps"] == 50)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("no json", 1008),
        ('{"do": "down", "key": "no key", "n": 1}', 1008),
        ('{"do": "exec", "n": 1}', 1008),
        (b"\x00\x01", 1008),
        ("[" * 900, 1008),
        ('{"do": "down", "key": "a", "n": 1, "x": "' + 2000 * "x" + '"}', 1009),
    ],
)
def test_malformed_messages_close_that_client_only(stage, message: str | bytes, code: int) -> None:
    with serving(stage.player, 2) as url, visit(url) as good, visit(url) as bad:
        look(good)
        bad.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            look_until(bad, lambda view: False)
        assert closed.value.rcvd.code == code
        assert look(good)["number"] > 0


def test_a_client_that_sends_too_much_is_closed(stage) -> None:
    with serving(stage.player) as url, visit(url) as socket:
        with contextlib.suppress(ConnectionClosed):
            for number in range(100_000):
                say(socket, number, do="blur")
        assert socket.close_code == 1008


def test_every_player_has_a_world_and_further_visitors_watch_until_a_seat_is_free(stage) -> None:
    with serving(stage.player, 2) as url, contextlib.ExitStack() as stack:
        # Each comes when the one before it has its seat.
        one, two = [stack.enter_context(visit_and_play(url)) for _ in range(2)]
        three = stack.enter_context(visit(url))
        for number, socket in enumerate((one, two)):
            say(socket, 1, do="set", name="horizon", value=7 + number)
            say(socket, 2, do="set", name="env", value="wm")
        for number, socket in enumerate((one, two)):
            assert chosen(look_until(socket, lambda view: view["sequence"] >= 2))["horizon"] == 7 + number
        assert not look(three)["shown"]["is_player"]
        # A watcher's keys move nothing.
        say(three, 1, do="set", name="horizon", value=3)
        assert chosen(look_until(three, lambda view: chosen(view)["env"] == "wm"))["horizon"] == 7
        one.close()
        look_until(three, lambda view: view["shown"]["is_player"])


@contextlib.contextmanager
def visit_and_play(url: str) -> Iterator[ClientConnection]:
    """A visitor who has a seat."""
    with visit(url) as socket:
        assert look(socket)["shown"]["is_player"]
        yield socket


def test_a_server_that_is_stopped_waits_neither_for_frames_nor_for_clients() -> None:
    """It would wait forever: a frame takes until it is let go, no client reads, and another world is to be opened."""
    playables, engine = [Slow(), Slow()], Engine()
    server = WebServer(Hall(playables.__getitem__, engine, 1000, 2), "127.0.0.1", 0, "A game")
    server.start()
    with visit(server.url):
        assert playables[0].is_ticking.wait(60)
        with visit(server.url):
            server.stop()
            assert playables[0].is_closed
            assert [playable.ticks for playable in playables] == [0, 0]
            engine.stop()
            playables[0].may_go.set()


def test_players_leave_together_while_their_frames_are_computed() -> None:
    playables, engine = [Slow() for _ in range(4)], Engine()
    hall = Hall(playables.__getitem__, engine, 1000, 4)
    for playable in playables:
        playable.may_go.set()
        assert hall.sit_down() is not None
    for playable in playables:
        playable.may_go.clear()
        playable.is_ticking.clear()
    assert any(playable.is_ticking.wait(1) for playable in 60 * playables)
    hall.close()
    assert all(playable.is_closed for playable in playables)
    assert hall.first() is hall.sit_down() is None
    engine.stop()
    for playable in playables:
        playable.may_go.set()


def test_a_client_that_stops_reading_delays_nobody(stage) -> None:
    with serving(stage.player, 2) as url, visit(url) as lazy, visit(url) as eager:
        while isinstance(lazy.recv(60), str):
            pass
        first = look(eager)["number"]
        last = [look(eager)["number"] for _ in range(15)][-1]
        assert last >= first + 15
        # One picture is in flight: the next one comes after the answer, and is a recent one.
        with pytest.raises(TimeoutError):
            lazy.recv(0.5)
        say(lazy, 0, do="seen", number=1)
        assert look(lazy)["number"] > 10


@pytest.mark.slow
def test_a_client_that_vanishes_frees_its_seat(stage) -> None:
    """Its connection stays open, but nobody answers there any more."""
    with serving(stage.player) as url:
        host, cookie = address(url)
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13"
        words = f"Host: {host}\r\nOrigin: http://{host}\r\nCookie: {cookie}\r\n{key}"
        with sockets.create_connection(tuple(host.split(":"))) as gone:
            gone.sendall(
                f"GET /socket HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{words}\r\n\r\n".encode()
            )
            received = b""
            while b"title" not in received:
                part = gone.recv(1 << 16)
                assert part, received
                received += part
            with visit(url) as watcher:
                assert not look(watcher)["shown"]["is_player"]
                look_until(watcher, lambda view: view["shown"]["is_player"], SECONDS * FPS)


def test_what_a_closed_page_recorded_is_kept(shared_run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(shared_run.path, tmp_path / "run")
    config = PlayConfig(env="test", seed=3, precision="fp32", record=True)
    stage = open_stage(load_source(tmp_path / "run", None, False), config, CPU)
    with serving(stage.player) as url:
        with visit(url) as socket:
            steps = int(shown(look_until(socket, lambda view: view["number"] >= 5))["step"])
        path = tmp_path / "run" / "dataset" / "rec_test_π"
        for _ in range(600):
            if Dataset.open_if_any(path) is not None:
                break
            time.sleep(0.1)
        assert Dataset.open(path).num_steps >= steps


def test_another_run_can_be_chosen(stage) -> None:
    runs = {"first": stage.player, "second": stage.player, "broken": lambda number: open_datasets([])}
    with serving(stage.player, runs=runs) as url, visit(url) as socket:
        hello = json.loads(socket.recv(60))
        assert (hello["run"], hello["runs"]) == ("first", ["first", "second", "broken"])
        look(socket)
        say(socket, 1, do="set", name="run", value="second")
        for _ in range(200):
            content = socket.recv(60)
            if isinstance(content, str):
                break
            say(socket, 0, do="seen", number=1)
        assert json.loads(content)["run"] == "second"
        assert look(socket)["shown"]["is_player"]
        for name, words in (("broken", "There is no data set"), ("../../etc", "There is no run ../../etc.")):
            say(socket, 2, do="set", name="run", value=name)
            assert look_until(socket, lambda view, words=words: words in view["message"])


def test_browsing_data(shared_run: RunFolder) -> None:
    datasets = open_datasets([shared_run.dataset("test"), shared_run.dataset("train")])
    with serving(lambda number: DatasetEnv(datasets, ())) as url:
        cookie = address(url)[1]
        with visit(url) as socket:
            assert chosen(look(socket)) == {"dataset": "train", "episode": 0, "step": 0}
            say(socket, 1, do="go", episode=0, step=3)
            assert chosen(look_until(socket, lambda view: view["sequence"] >= 1))["step"] == 3
            say(socket, 2, do="set", name="dataset", value="test")
            assert chosen(look_until(socket, lambda view: view["sequence"] >= 2))["dataset"] == "test"
            say(socket, 3, do="go", episode=10_000, step=0)
            assert "There is no episode 10000" in look_until(socket, lambda view: view["message"] != "")["message"]
            film = get(url, "/episode.mp4?dataset=test&episode=0", Cookie=cookie)
            assert film.status == 200
            assert film.getheader("Content-Type") == "video/mp4"
            assert film.read()[4:8] == b"ftyp"
            assert get(url, "/episode.mp4?dataset=test&episode=9999", Cookie=cookie).status == 404


def test_messages() -> None:
    assert read_message('{"do": "down", "key": "w", "n": 4}') == (KeyDown("w"), 4)
    assert read_message('{"do": "move", "x": -2.5, "y": 3, "n": 1}') == (Moved(-2.5, 3.0), 1)
    assert read_message('{"do": "set", "name": "horizon", "value": 9, "n": 1}') == (SetHorizon(9), 1)
    assert read_message('{"do": "set", "name": "dataset", "value": "x", "n": 1}') == (SetDataset("x"), 1)
    assert read_message('{"do": "go", "episode": 2, "step": 5, "n": 1}') == (GoTo(2, 5), 1)
    assert read_message('{"do": "seen", "number": 3}') == (Seen(3), 0)
    assert read_message('{"do": "set", "name": "fps", "value": 30}') == (SetRate(30), 0)
    assert read_message('{"do": "blur"}') == (FocusLost(), 0)
    for text in (
        '{"do": "move", "x": NaN, "y": 0}',
        '{"do": "move", "x": 1e9, "y": 0}',
        '{"do": "set", "name": "fps", "value": 0}',
        '{"do": "set", "name": "horizon", "value": true}',
        '{"do": "set", "name": "env", "value": 3}',
        '{"do": "go", "episode": -1, "step": 0}',
        '{"do": "blur", "n": -1}',
        '{"do": "blur", "n": 1e400}',
        "[]",
        "",
    ):
        with pytest.raises(Malformed):
            read_message(text)


def test_small_frames_travel_without_loss_and_large_ones_as_jpeg(stage) -> None:
    view = stage.player().view()
    header, picture = read_view(write_view(view, Shown(1.0, 15)))
    assert picture.startswith(b"\x89PNG")
    assert header["sizes"] == [len(picture)]
    assert encode(torch.zeros(3, 150, 280, dtype=torch.uint8)).startswith(b"\xff\xd8")


def test_fields_travel_as_values_and_as_text() -> None:
    """A number that is not finite, which JSON does not have, is unknown as a value and known as a text."""
    fields = (Field("step", 3, 12, unit=" of 0-9"), Field("value", float("nan"), 12))
    header, _ = read_view(write_view(View(torch.zeros(3, 8, 8, dtype=torch.uint8), fields), Shown(1.0, 15)))
    assert [(each["value"], each["text"]) for each in header["fields"]] == [(3, "3 of 0-9"), (None, "nan")]


def test_a_taken_port_is_one_line(stage) -> None:
    with sockets.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port} of 127.0.0.1 cannot be served: Address already in use"):
            WebServer(Hall(stage.player, Engine(), 15, 1), "127.0.0.1", port, "A game")
