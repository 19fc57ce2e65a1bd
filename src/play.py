"""Step into a trained world model: play, watch, record, or look through what was stored."""

import argparse
import secrets
import sys
from dataclasses import fields

from omegaconf import OmegaConf

from algorithms import read_settings
from envs import EnvConfig, RecordedGameConfig, action_layout
from game.benchmark import measure
from game.build import PlayConfig, action_names, build_play_env
from game.dataset_env import DatasetEnv, open_datasets
from game.film import make_film
from game.options import ASK, read_arguments
from game.painter import Painter
from game.play_env import PlayEnv
from game.view import Playable
from game.window import Window, open_display, screen_size
from run.config import register_resolvers
from run.device import choose_device, make_current
from run.door import explain
from run.folder import PROJECT
from run.interrupt import Interrupts
from run.media import check_film_path
from run.random_state import seed_everything
from trained.pretrained import ask_for_game, find_game, load_pretrained, pretrained_env, pretrained_folder
from trained.source import Source, find_run, list_datasets, load_config, load_source

FPS = 15


def main() -> int:
    """The exit code: 0 done, 2 a mistake of the user, 130 stopped while loading."""
    register_resolvers()
    arguments = read_arguments()
    return explain(lambda: browse(arguments) if arguments.dataset else play(arguments), "Stopped.")


def play(arguments: argparse.Namespace) -> int:
    """Play mode: in a window, as a film, or as fast as possible."""
    device = choose_device(arguments.device, setting="--device ")
    make_current(device)
    if not arguments.benchmark:
        check_output(arguments)
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    seed_everything(seed)
    chosen = {field.name: getattr(arguments, field.name) for field in fields(PlayConfig) if field.name != "seed"}
    config = PlayConfig(**chosen, seed=seed)
    source = load(arguments)
    playable = build_play_env(source, config, device, is_for_people(arguments))
    print(f"Playing {source.folder} ({source.version}, {device})")
    if arguments.benchmark:
        print(measure(playable, Painter(arguments.size, arguments.header), arguments.benchmark, device))
        return 0
    if arguments.video is None:
        print(f"Keys: {playable.keys.describe()}")
    game = source.config.env.test
    show(playable, f"{game.id} · {source.version}", arguments, game)
    tell_recordings(playable)
    return 0


def browse(arguments: argparse.Namespace) -> int:
    """Data set mode."""
    check_output(arguments)
    if arguments.pretrained is not None:
        game = choose_game(arguments)
        folder, env = pretrained_folder(PROJECT / "outputs", game), pretrained_env(game)
        paths = list_datasets(folder, OmegaConf.create())
    else:
        folder = find_run(arguments.run, needs_weights=False)
        config = load_config(folder)
        paths, env = list_datasets(folder, config), read_settings(config, arguments.trust)[1].env.train
    datasets = open_datasets(paths)
    print(f"Data sets: {', '.join(f'{name} ({data.num_episodes} episodes)' for name, data in datasets.items())}")
    playable = DatasetEnv(datasets, action_names(env, arguments.trust), action_layout(env))
    if arguments.video is not None:
        playable.press("space")
    show(playable, str(folder), arguments, env)
    return 0


def load(arguments: argparse.Namespace) -> Source:
    if arguments.pretrained is not None:
        return load_pretrained(choose_game(arguments), arguments.local_dir, PROJECT / "outputs", arguments.overrides)
    run = find_run(arguments.run, needs_weights=True)
    return load_source(run, arguments.epoch, arguments.best, arguments.overrides, arguments.trust)


def choose_game(arguments: argparse.Namespace) -> str:
    return ask_for_game() if arguments.pretrained == ASK else find_game(arguments.pretrained)


def is_for_people(arguments: argparse.Namespace) -> bool:
    """Whether there is a window, in which a person can play."""
    return arguments.video is None and not arguments.benchmark


def check_output(arguments: argparse.Namespace) -> None:
    """Raise UserError where nothing can be shown, before anything is loaded."""
    if arguments.video is None:
        open_display()
    else:
        check_film_path(arguments.video)


def show(playable: Playable, title: str, arguments: argparse.Namespace, env: EnvConfig) -> None:
    fps = arguments.fps or (env.fps if isinstance(env, RecordedGameConfig) else FPS)
    painter = Painter(screen_size() if arguments.fullscreen else arguments.size, arguments.header)
    interrupts = Interrupts()
    interrupts.listen()
    if arguments.video is None:
        Window(title, painter, fps, interrupts, arguments.fullscreen).show(playable)
    else:
        count = make_film(playable, painter, arguments.video, arguments.steps, fps, interrupts)
        print(f"Film of {count} steps: {arguments.video}")


def tell_recordings(playable: PlayEnv) -> None:
    recorder = playable.recorder
    for name, count in recorder.counts.items() if recorder is not None else ():
        print(f"Recorded: {recorder.root / name} holds {count} episode{'s' if count != 1 else ''}")


if __name__ == "__main__":
    sys.exit(main())
