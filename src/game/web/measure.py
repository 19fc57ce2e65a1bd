"""Frame rates and latency of players, through the same socket as a browser's."""

import json
import statistics
import threading
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from tqdm import tqdm
from websockets.sync.client import ClientConnection, connect

from game.engine import Engine
from game.view import Playable
from game.web.messages import read_view
from game.web.players import Hall
from game.web.server import WebServer

WARM_UP = 5


def measure_players(open_player: Callable[[int], Playable], fps: float, num_players: int, num_frames: int) -> str:
    """Let that many clients on this machine see so many frames; a line for each: its frame rate and latency.

    The latency is the median time from a key event to the picture that shows its effect.
    """
    engine = Engine()
    server = WebServer(Hall(open_player, engine, fps, num_players), "127.0.0.1", 0, "benchmark")
    server.start()
    lines: list[str] = [""] * num_players
    begin = threading.Barrier(num_players)
    bar = tqdm(total=num_frames * num_players, desc=f"{num_players} players", leave=False)

    def play(index: int) -> None:
        parts = urlsplit(server.url)
        cookie = f"play-{parts.port}={parse_qs(parts.query)['token'][0]}"
        origin = f"http://{parts.netloc}"
        with connect(f"ws://{parts.netloc}/socket", origin=origin, additional_headers={"Cookie": cookie}) as socket:
            lines[index] = f"player {index + 1}: {_play(socket, num_frames, begin, bar)}"

    threads = [threading.Thread(target=play, args=(index,), daemon=True) for index in range(num_players)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bar.close()
    server.stop()
    engine.stop()
    return "\n".join(lines)


def _play(socket: ClientConnection, num_frames: int, begin: threading.Barrier, bar: tqdm) -> str:
    """Press and let go a key at every frame. A frame that is announced again, as it takes long, counts once."""
    sent: dict[int, float] = {}
    latencies: list[float] = []
    last, started, count = 0, 0.0, -WARM_UP
    number = None
    while count <= num_frames:
        content = socket.recv()
        if isinstance(content, str):
            continue
        now, (header, _) = time.perf_counter(), read_view(content)
        socket.send(json.dumps({"do": "seen", "number": header["number"], "n": 0}))
        if header["number"] == number:
            continue
        number = header["number"]
        if count > 0:
            latencies += [now - sent[each] for each in range(last + 1, header["sequence"] + 1) if each in sent]
            bar.update()
        last, count = header["sequence"], count + 1
        if count == 0:
            begin.wait()
            started = time.perf_counter()
        # At different moments between two frames, as people press keys.
        time.sleep(0.02 * (count % 3))
        sequence = count + WARM_UP
        sent[sequence] = time.perf_counter()
        socket.send(json.dumps({"do": "down" if sequence % 2 else "up", "key": "d", "n": sequence}))
    rate = num_frames / (time.perf_counter() - started)
    return f"{rate:.1f} frames per second, latency {1000 * statistics.median(latencies):.0f} ms (median)"
