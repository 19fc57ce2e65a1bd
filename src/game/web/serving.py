"""From what can be played to a server that runs until somebody stops it."""

import sys
import time
from collections.abc import Callable, Mapping

from game.engine import Engine
from game.view import Playable
from game.web.guard import is_local
from game.web.players import Hall
from game.web.server import WebServer
from run.interrupt import Interrupts

SECONDS_BETWEEN_LOOKS = 0.02
WARNING = (
    "warning: --host {host} lets other machines connect, without encryption. Whoever has the whole URL can play, and "
    "record with -r. Safer: leave --host out, and forward the port with ssh -L."
)


def serve_until_stopped(
    open_player: Callable[[int], Playable],
    title: str,
    address: tuple[str, int],
    fps: float,
    num_players: int,
    is_smooth: bool,
    interrupts: Interrupts,
    runs: Mapping[str, Callable[[int], Playable]] | None = None,
) -> None:
    """Print the URL and serve until a signal comes; what was recorded is stored then. `runs` as in `Hall`."""
    host, port = address
    engine = Engine()
    hall = Hall(open_player, engine, fps, num_players, runs)
    server = WebServer(hall, host, port, title, is_smooth)
    if not is_local(host):
        print(WARNING.format(host=host), file=sys.stderr)
    server.start()
    try:
        print(f"Open {server.url}\nCtrl-C stops it.", flush=True)
        while interrupts.received is None:
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        server.stop()
        engine.stop()
