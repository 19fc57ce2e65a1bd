"""The command line of play mode."""

import argparse
from pathlib import Path

from game.choices import CONTROLLERS
from game.starts import NUM_COLLECTED_STEPS
from run.arguments import OneLineParser, positive, whole

ASK = "?"
HOST, PORT = "127.0.0.1", 8000
LARGEST_SIZE = 8192


def read_arguments() -> argparse.Namespace:
    words = "Step into a trained world model: play, watch, record, or look through data."
    parser = OneLineParser(prog="src/play.py", description=words)
    what = parser.add_argument_group("what to play")
    what.add_argument(
        "--run", type=Path, metavar="DIR", help="run folder (the one around the current directory, else the newest)"
    )
    version = what.add_mutually_exclusive_group()
    version.add_argument("--epoch", type=int, metavar="N", help="weights of that epoch instead of the newest kept")
    version.add_argument("--best", action="store_true", help="weights of the best test return")
    what.add_argument(
        "-p", "--pretrained", nargs="?", const=ASK, metavar="GAME", help="published weights; without GAME: a menu"
    )
    what.add_argument("--repo", metavar="NAME", help="with --pretrained: another repository of the same layout")
    what.add_argument("--local-dir", type=Path, metavar="DIR", help="local copy of the published repository")
    what.add_argument(
        "overrides", nargs="*", metavar="world_model_env=NAME", help="settings of imagination: fast, higher_quality, …"
    )
    what.add_argument(
        "-d",
        "--dataset",
        "--dataset-mode",
        dest="dataset",
        action="store_true",
        help="look through the data sets of the run",
    )
    what.add_argument(
        "--trust", action="store_true", help="import the modules that the run's settings name, which runs their code"
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--env",
        choices=("wm", "test", "train", "data", "live"),
        help="imagined, real, or predictions beside data, a kitchen",
    )
    how.add_argument("--controller", choices=tuple(CONTROLLERS), help="who acts at first (policy, else human)")
    how.add_argument(
        "--horizon",
        type=positive,
        metavar="N",
        help="steps of an imagined episode (50; 1000 without a policy)",
    )
    how.add_argument(
        *("-n", "--num-steps-initial-collect"),
        dest="initial_steps",
        type=positive,
        default=NUM_COLLECTED_STEPS,
        metavar="N",
        help=f"real steps to play where there is no data to start from ({NUM_COLLECTED_STEPS})",
    )
    how.add_argument("--threads", type=auto_or_number, default="auto", metavar="N", help="of the processor (auto)")
    how.add_argument("--seed", type=whole, metavar="N", help="seed of starts, actions and imagination")
    how.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N (auto)")
    how.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="of the networks (auto)")
    how.add_argument("--compile", action="store_true", help="compile the networks: half a minute once, then faster")
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--fps", type=positive, metavar="N", help="steps a second (15, or the recorded game's)")
    room = shown.add_mutually_exclusive_group()
    room.add_argument("--size", type=positive, default=640, metavar="PIXELS", help="room for the frame (640)")
    room.add_argument("--fullscreen", action="store_true", help="the whole screen")
    shown.add_argument(
        "--scale", choices=("nearest", "smooth"), help="enlarge pixels, or interpolate (smooth for recorded games)"
    )
    shown.add_argument(
        "--mouse-sensitivity", type=factor, default=1.0, metavar="X", help="factor on the motion of the mouse (1)"
    )
    shown.add_argument("--no-header", dest="header", action="store_false", help="the frame alone")
    kept = parser.add_argument_group("what is kept")
    kept.add_argument("-r", "--record", action="store_true", help="store what is played in dataset/rec_*")
    kept.add_argument(
        "--store-denoising-trajectory", action="store_true", help="with -r: also how frames emerge from noise"
    )
    kept.add_argument(
        "--store-original-obs", action="store_true", help="with -r: also frames in the game's own size, or full size"
    )
    web = parser.add_argument_group("in the browser")
    web.add_argument("--web", action="store_true", help="serve a page instead of opening a window; prints its URL")
    web.add_argument("--port", type=port, metavar="N", help=f"of the page ({PORT})")
    web.add_argument("--host", metavar="ADDRESS", help=f"network to serve on ({HOST}: this machine only)")
    web.add_argument("--max-players", type=positive, metavar="N", help="further visitors watch (1)")
    without = parser.add_argument_group("without a window")
    without.add_argument("--video", type=Path, metavar="FILE", help="write a film, .mp4 or .gif")
    without.add_argument("--steps", type=positive, default=200, metavar="N", help="steps of the film (200)")
    without.add_argument("--benchmark", type=positive, metavar="N", help="measure N steps in each world")
    arguments = parser.parse_intermixed_args()
    if (conflict := find_conflict(arguments)) is not None:
        parser.error(conflict)
    return arguments


def auto_or_number(word: str) -> int | str:
    return word if word == "auto" else positive(word)


def port(word: str) -> int:
    """A port, 1 to 65535; 0 is a free one."""
    if whole(word) > 65535:
        raise argparse.ArgumentTypeError(f"{word} is no port: 0 to 65535")
    return int(word)


def factor(word: str) -> float:
    """A number above 0, up to 100."""
    try:
        value = float(word)
    except ValueError:
        value = 0.0
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f"{word} is not a number above 0, up to 100")
    return value


def find_conflict(arguments: argparse.Namespace) -> str | None:
    """What is wrong, if some of the options exclude each other."""
    wants_more = arguments.store_denoising_trajectory or arguments.store_original_obs
    names_run = arguments.run is not None or arguments.best or arguments.epoch is not None
    conflicts = {
        "--store-denoising-trajectory and --store-original-obs need -r": wants_more and not arguments.record,
        "--pretrained cannot be combined with --run, --epoch or --best": arguments.pretrained is not None and names_run,
        "--local-dir needs --pretrained": arguments.local_dir is not None and arguments.pretrained is None,
        "--fullscreen needs a window: it cannot be combined with --video or --benchmark": arguments.fullscreen
        and (arguments.video is not None or arguments.benchmark),
        "-d cannot be combined with -r, --benchmark or settings of imagination": arguments.dataset
        and (arguments.record or arguments.benchmark or arguments.overrides),
        "--benchmark cannot be combined with -r or --video": arguments.benchmark
        and (arguments.record or arguments.video is not None),
        "--web cannot be combined with --fullscreen or --video": arguments.web
        and (arguments.fullscreen or arguments.video is not None),
        "--port, --host and --max-players need --web": not arguments.web
        and any(value is not None for value in (arguments.port, arguments.host, arguments.max_players)),
        "--env data and live cannot be combined with -r, --controller or --horizon": arguments.env in ("data", "live")
        and (arguments.record or arguments.controller is not None or arguments.horizon is not None),
        "--env live cannot be combined with --benchmark": arguments.env == "live" and arguments.benchmark,
        "--repo needs --pretrained": arguments.repo is not None and arguments.pretrained is None,
        f"--size {arguments.size} is too large: {LARGEST_SIZE} at most": arguments.size > LARGEST_SIZE,
    }
    return next((words for words, holds in conflicts.items() if holds), None)
