"""Step into a trained world model: play, watch, record, or look through what was stored."""

import argparse
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

import torch
from omegaconf import OmegaConf

from algorithms import read_settings
from envs import EnvConfig, RecordedGameConfig, action_layout
from game.benchmark import measure
from game.build import PlayConfig, Player, action_names, open_stage
from game.dataset_env import DatasetEnv, open_datasets
from game.film import make_film
from game.options import ASK, HOST, PORT, read_arguments
from game.play_env import PlayEnv
from game.recorder import Recorder
from game.stages import Stages
from game.threads import choose_play_threads
from game.view import Playable
from game.web.measure import measure_players
from game.web.serving import serve_until_stopped
from game.window.painter import Painter
from game.window.window import KEYS as WINDOW_KEYS
from game.window.window import Window, open_display, screen_size
from run.config import register_resolvers
from run.device import choose_device, make_current
from run.door import explain
from run.folder import PROJECT
from run.interrupt import Interrupts
from run.media import check_film_path
from run.random_state import seed_everything
from trained.pretrained import (
    REPOSITORY,
    ask_for_game,
    find_game,
    find_shared,
    load_pretrained,
    load_shared,
    pretrained_env,
    pretrained_folder,
)
from trained.source import Source, find_run, full_size_folder, list_datasets, load_config, load_source

FPS = 15


def main() -> int:
    """The exit code: 0 done, 2 a mistake of the user, 130 stopped while loading."""
    register_resolvers()
    arguments = read_arguments()
    return explain(lambda: browse(arguments) if arguments.dataset else play(arguments), "Stopped.")


def play(arguments: argparse.Namespace) -> int:
    """Play mode: in a window, in browsers, as a film, or as fast as possible."""
    device = choose_device(arguments.device, setting="--device ")
    make_current(device)
    if not arguments.benchmark:
        check_output(arguments)
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    seed_everything(seed)
    threads = choose_play_threads(arguments.threads)
    torch.set_num_threads(threads)
    chosen = {field.name: getattr(arguments, field.name) for field in fields(PlayConfig) if field.name != "seed"}
    config = PlayConfig(**chosen, seed=seed)
    source = load(arguments)
    stage = open_stage(source, config, device, is_for_people(arguments))
    print(f"Playing {source.folder} ({source.version}, {device}) with {threads} thread{'s' if threads > 1 else ''}")
    game = source.config.env.test
    title = f"{game.id} · {source.version}"
    stages = Stages(stage, arguments.overrides, arguments.trust)
    if arguments.benchmark:
        benchmark(arguments, stages.player, device, frames_per_second(arguments, game))
        return 0
    if arguments.web:
        # What is wrong with the worlds is said before anybody visits.
        print_keys(stages.player(0))
        show_on_page(stages.player, title, arguments, game, stages.openers() if arguments.pretrained is None else None)
    else:
        playable = stages.player(0)
        if arguments.video is None:
            print_keys(playable)
        show(playable, title, arguments, game)
    tell_recordings(stages.recorders)
    return 0


def benchmark(
    arguments: argparse.Namespace,
    open_player: Callable[[int], Player],
    device: torch.device,
    fps: float,
) -> None:
    """Print how fast worlds and pictures are, or with `--web` what players in browsers get."""
    if arguments.web:
        print(measure_players(open_player, fps, arguments.max_players or 1, arguments.benchmark))
    else:
        print(measure(open_player(0), Painter(arguments.size, arguments.header), arguments.benchmark, device))


def browse(arguments: argparse.Namespace) -> int:
    """Data set mode."""
    check_output(arguments)
    if arguments.pretrained is not None:
        game = choose_game(arguments)
        folder, env = pretrained_folder(PROJECT / "outputs", game), pretrained_env(game)
        paths, full_res = list_datasets(folder, OmegaConf.create()), None
    else:
        folder = find_run(arguments.run, needs_weights=False)
        config = load_config(folder)
        typed = read_settings(config, arguments.trust)[1]
        paths, env, full_res = list_datasets(folder, config), typed.env.train, full_size_folder(typed)
    datasets = open_datasets(paths)
    print(f"Data sets: {', '.join(f'{name} ({data.num_episodes} episodes)' for name, data in datasets.items())}")
    names, layout = action_names(env, arguments.trust), action_layout(env)

    def open_player(number: int) -> DatasetEnv:
        return DatasetEnv(datasets, names, layout, full_res)

    if arguments.web:
        show_on_page(open_player, str(folder.name), arguments, env)
        return 0
    playable = open_player(0)
    if arguments.video is not None:
        playable.press("space")
    else:
        print_keys(playable)
    show(playable, str(folder), arguments, env)
    return 0


def load(arguments: argparse.Namespace) -> Source:
    if arguments.pretrained is None:
        run = find_run(arguments.run, needs_weights=True)
        return load_source(run, arguments.epoch, arguments.best, arguments.overrides, arguments.trust)
    outputs, local = PROJECT / "outputs", arguments.local_dir
    if (shared := find_shared(arguments.repo, local)) is not None:
        name = (arguments.repo or shared.resolve().name).replace("/", "--")
        return load_shared(shared, outputs, name, arguments.overrides, arguments.trust)
    return load_pretrained(choose_game(arguments), local, outputs, arguments.overrides, arguments.repo or REPOSITORY)


def choose_game(arguments: argparse.Namespace) -> str:
    return ask_for_game() if arguments.pretrained == ASK else find_game(arguments.pretrained)


def is_for_people(arguments: argparse.Namespace) -> bool:
    """Whether there is a window or a page, in which a person can play."""
    return arguments.video is None and not arguments.benchmark


def check_output(arguments: argparse.Namespace) -> None:
    """Raise UserError where nothing can be shown, before anything is loaded."""
    if arguments.video is not None:
        check_film_path(arguments.video)
    elif not arguments.web:
        open_display()


def frames_per_second(arguments: argparse.Namespace, env: EnvConfig) -> int:
    return arguments.fps or (env.fps if isinstance(env, RecordedGameConfig) else FPS)


def is_smooth(arguments: argparse.Namespace, env: EnvConfig) -> bool:
    """Whether frames are interpolated: those of recorded games are, if nothing else is asked for."""
    return arguments.scale == "smooth" or (arguments.scale is None and isinstance(env, RecordedGameConfig))


def show(playable: Playable, title: str, arguments: argparse.Namespace, env: EnvConfig) -> None:
    fps = frames_per_second(arguments, env)
    size = screen_size() if arguments.fullscreen else arguments.size
    painter = Painter(size, arguments.header, is_smooth(arguments, env))
    interrupts = Interrupts()
    interrupts.listen()
    if arguments.video is None:
        Window(title, painter, fps, interrupts, arguments.fullscreen, arguments.mouse_sensitivity).show(playable)
    else:
        count = make_film(playable, painter, arguments.video, arguments.steps, fps, interrupts)
        print(f"Film of {count} steps: {arguments.video}")


def show_on_page(
    open_player: Callable[[int], Playable],
    title: str,
    arguments: argparse.Namespace,
    env: EnvConfig,
    runs: Mapping[str, Callable[[int], Playable]] | None = None,
) -> None:
    interrupts = Interrupts()
    interrupts.listen()
    address = arguments.host or HOST, PORT if arguments.port is None else arguments.port
    fps, smooth = frames_per_second(arguments, env), is_smooth(arguments, env)
    serve_until_stopped(open_player, title, address, fps, arguments.max_players or 1, smooth, interrupts, runs)


def print_keys(playable: Playable) -> None:
    """All keys: the game's own with their chords, and those that the help shows."""
    if isinstance(playable, PlayEnv):
        print(f"Keys: {playable.keys.describe()}")
    print(f"Help: {', '.join(f'{key}: {words}' for key, words in (*playable.help, *WINDOW_KEYS))}")


def tell_recordings(recorders: Sequence[Recorder]) -> None:
    counts = {recorder.root / name: count for recorder in recorders for name, count in recorder.counts.items()}
    for path, count in counts.items():
        print(f"Recorded: {path} holds {count} episode{'s' if count != 1 else ''}")


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A frame that is still being computed in another thread is not waited for.
    os._exit(code)
