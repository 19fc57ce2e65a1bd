"""Step into a trained world model: play, watch, record, or look through what was stored."""

import argparse
import secrets
import sys
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from omegaconf import OmegaConf

from envs import AtariConfig
from game.benchmark import measure
from game.build import PlayConfig, action_names, build_play_env
from game.dataset_env import DatasetEnv, open_datasets
from game.film import make_film
from game.painter import Painter
from game.play_env import CONTROLLERS, PlayEnv
from game.pretrained import ask_for_game, find_game, load_pretrained, pretrained_folder
from game.source import Source, env_config, find_run, list_datasets, load_config, load_source
from game.view import Playable
from game.window import Window, open_display
from run.config import register_resolvers
from run.device import choose_device
from run.door import explain
from run.folder import PROJECT
from run.interrupt import Interrupts
from run.media import check_film_path
from run.random_state import seed_everything

ASK = "?"
LARGEST_SIZE = 8192


def main() -> int:
    """The exit code: 0 done, 2 a mistake that the user can mend, 130 stopped while loading."""
    register_resolvers()
    arguments = read_arguments()
    return explain(lambda: browse(arguments) if arguments.dataset else play(arguments), "Stopped.")


def play(arguments: argparse.Namespace) -> int:
    """Play mode: in a window, as a film, or as fast as possible."""
    device = choose_device(arguments.device, setting="--device ")
    if not arguments.benchmark:
        check_output(arguments)
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    seed_everything(seed)
    chosen = {field.name: getattr(arguments, field.name) for field in fields(PlayConfig) if field.name != "seed"}
    config = PlayConfig(**chosen, seed=seed)
    source = load(arguments)
    playable = build_play_env(source, config, device)
    print(f"Playing {source.folder} ({source.version}, {device})")
    if arguments.benchmark:
        print(measure(playable, Painter(arguments.size, arguments.header), arguments.benchmark, device))
        return 0
    if arguments.video is None:
        print(f"Keys: {playable.keys.describe()}")
    show(playable, f"{source.env_test.id} · {source.version}", arguments)
    tell_recordings(playable)
    return 0


def browse(arguments: argparse.Namespace) -> int:
    """Data set mode."""
    check_output(arguments)
    if arguments.pretrained is not None:
        game = choose_game(arguments)
        folder, env = pretrained_folder(PROJECT / "outputs", game), AtariConfig(f"{game}NoFrameskip-v4")
        paths = list_datasets(folder, OmegaConf.create())
    else:
        folder = find_run(arguments.run, needs_weights=False)
        config = load_config(folder)
        paths, env = list_datasets(folder, config), env_config(config.env.train)
    datasets = open_datasets(paths)
    print(f"Data sets: {', '.join(f'{name} ({data.num_episodes} episodes)' for name, data in datasets.items())}")
    playable = DatasetEnv(datasets, action_names(env))
    if arguments.video is not None:
        playable.press("space")
    show(playable, str(folder), arguments)
    return 0


def load(arguments: argparse.Namespace) -> Source:
    if arguments.pretrained is not None:
        return load_pretrained(choose_game(arguments), arguments.local_dir, PROJECT / "outputs")
    return load_source(find_run(arguments.run, needs_weights=True), arguments.epoch, arguments.best)


def choose_game(arguments: argparse.Namespace) -> str:
    return ask_for_game() if arguments.pretrained == ASK else find_game(arguments.pretrained)


def check_output(arguments: argparse.Namespace) -> None:
    """Raise UserError before anything is loaded that could not be shown."""
    if arguments.video is None:
        open_display()
    else:
        check_film_path(arguments.video)


def show(playable: Playable, title: str, arguments: argparse.Namespace) -> None:
    painter, interrupts = Painter(arguments.size, arguments.header), Interrupts()
    interrupts.listen()
    if arguments.video is None:
        Window(title, painter, arguments.fps, interrupts).show(playable)
    else:
        count = make_film(playable, painter, arguments.video, arguments.steps, arguments.fps, interrupts)
        print(f"Film of {count} steps: {arguments.video}")


def tell_recordings(playable: PlayEnv) -> None:
    recorder = playable.recorder
    for name, count in recorder.counts.items() if recorder is not None else ():
        print(f"Recorded: {recorder.root / name} holds {count} episode{'s' if count != 1 else ''}")


def read_arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__)
    what = parser.add_argument_group("what to play")
    what.add_argument("--run", type=Path, metavar="DIR", help="run folder; without: the one we are in, else the newest")
    version = what.add_mutually_exclusive_group()
    version.add_argument("--epoch", type=int, metavar="N", help="weights of that epoch instead of the newest kept")
    version.add_argument("--best", action="store_true", help="weights of the best test return")
    what.add_argument(
        "--pretrained", nargs="?", const=ASK, metavar="GAME", help="published weights; without GAME: a menu"
    )
    what.add_argument("--local-dir", type=Path, metavar="DIR", help="local copy of the published repository")
    what.add_argument("-d", "--dataset", action="store_true", help="look through the data sets of the run")
    how = parser.add_argument_group("how")
    how.add_argument("--env", choices=("wm", "test", "train"), help="world to begin in: world model, or real")
    how.add_argument("--controller", choices=tuple(CONTROLLERS), default="policy", help="who acts at first (policy)")
    how.add_argument("--horizon", type=positive, default=50, metavar="N", help="steps of an imagined episode (50)")
    how.add_argument("--seed", type=whole, metavar="N", help="seed of starts, actions and imagination")
    how.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N (auto)")
    how.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="of the networks (auto)")
    how.add_argument("--compile", action="store_true", help="compile the networks: half a minute once, then faster")
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--fps", type=positive, default=15, metavar="N", help="steps a second (15)")
    shown.add_argument("--size", type=positive, default=640, metavar="PIXELS", help="room for the frame (640)")
    shown.add_argument("--no-header", dest="header", action="store_false", help="the frame alone")
    kept = parser.add_argument_group("what is kept")
    kept.add_argument("-r", "--record", action="store_true", help="store what is played in dataset/rec_*")
    kept.add_argument(
        "--store-denoising-trajectory", action="store_true", help="with -r: also how frames emerge from noise"
    )
    kept.add_argument("--store-original-obs", action="store_true", help="with -r: also frames in the game's own size")
    without = parser.add_argument_group("without a window")
    without.add_argument("--video", type=Path, metavar="FILE", help="write a film, .mp4 or .gif")
    without.add_argument("--steps", type=positive, default=200, metavar="N", help="steps of the film (200)")
    without.add_argument("--benchmark", type=positive, metavar="N", help="measure N steps in each world")
    arguments = parser.parse_args()
    if (conflict := find_conflict(arguments)) is not None:
        parser.error(conflict)
    return arguments


def find_conflict(arguments: argparse.Namespace) -> str | None:
    """What is wrong with options that do not go together."""
    wants_more = arguments.store_denoising_trajectory or arguments.store_original_obs
    names_run = arguments.run is not None or arguments.best or arguments.epoch is not None
    conflicts = {
        "--store-denoising-trajectory and --store-original-obs need -r": wants_more and not arguments.record,
        "--pretrained stands instead of --run, --epoch and --best": arguments.pretrained is not None and names_run,
        "--local-dir needs --pretrained": arguments.local_dir is not None and arguments.pretrained is None,
        "-d only looks: it stands without -r and --benchmark": arguments.dataset
        and (arguments.record or arguments.benchmark),
        "--benchmark stands without -r and --video": arguments.benchmark
        and (arguments.record or arguments.video is not None),
        f"--size {arguments.size} is too large: {LARGEST_SIZE} at most": arguments.size > LARGEST_SIZE,
    }
    return next((words for words, holds in conflicts.items() if holds), None)


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other mistake is said."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}. python src/play.py --help lists all options.\n")


def whole(word: str) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) < 10):
        raise argparse.ArgumentTypeError(f"{word} is not a whole number from 0 to 999999999")
    return int(word)


def positive(word: str) -> int:
    if whole(word) == 0:
        raise argparse.ArgumentTypeError("0 is too small")
    return int(word)


if __name__ == "__main__":
    sys.exit(main())
