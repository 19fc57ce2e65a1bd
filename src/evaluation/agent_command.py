"""Evaluating agents: they play, and a table tells how well; the results are kept in their run folders."""

import argparse
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from errors import UserError
from evaluation.episodes import Playing, Watch, check_playable, has_human_score, play_agent, play_at_random
from evaluation.films import record_films
from evaluation.published import game_name, human_normalised, read_published
from evaluation.records import append_record
from evaluation.returns import Evaluated, returns_table
from evaluation.runs import identify
from evaluation.statistics import mean_interval
from evaluation.table import markdown
from rl.results import Results
from run.device import choose_device, choose_precision, make_current
from trained.source import Source


def evaluate_agents(arguments: argparse.Namespace, sources: Iterable[Source], watch: Watch | None) -> int:
    """Let each agent play, print the table, and append the results to `evaluation.jsonl`; returns the exit code.

    `watch` shows what happens, if it is to be shown.
    """
    device = choose_device(arguments.device, setting="--device ")
    make_current(device)
    playing = Playing(
        arguments.episodes,
        arguments.env,
        arguments.num_envs,
        arguments.seed,
        arguments.policy == "greedy",
        device,
        arguments.precision,
    )
    if arguments.record is not None:
        check_folder(arguments.record)
    agents: list[Evaluated] = []
    random: dict[str, Results] = {}
    random_by_settings: dict[str, Results] = {}
    whole_games = True
    for source in sources:
        check_playable(source, playing)
        check_folder(source.folder)
        run = identify(_from_here(source.folder), asdict(source.config))
        store = None if arguments.record is None else record_films(arguments.record, film_name(source))
        results = play_agent(source, playing, store, watch)
        is_first_of_run = all(agent.run.path != run.path for agent in agents)
        agents.append(Evaluated(run, source.version, source.epoch, results))
        append_record(source.folder, record_of("agent", source, playing, results))
        if not arguments.no_random and is_first_of_run:
            settings = repr(playing.game(source))
            if settings not in random_by_settings:
                random_by_settings[settings] = play_at_random(source, playing)
            random.setdefault(run.game, random_by_settings[settings])
            append_record(source.folder, record_of("random", source, playing, random_by_settings[settings]))
        whole_games = whole_games and has_human_score(source, playing)
    if not agents:
        raise UserError("There are no weights to evaluate any more: the run keeps newer ones instead.")
    published = read_published() if whole_games else {}
    print(markdown(returns_table(agents, random, published, by_epoch=arguments.every is not None)))
    return 0


def record_of(player: str, source: Source, playing: Playing, results: Results) -> dict[str, Any]:
    """A line of `evaluation.jsonl`: who played how, and what came of it. The random policy has no weights."""
    is_agent, precision = player == "agent", choose_precision(playing.precision, playing.device)
    how = {
        "env": playing.env,
        "env_id": playing.game(source).id,
        "policy": ("greedy" if playing.is_greedy else "sample") if is_agent else "random",
        "num_envs": playing.num_envs,
        "epsilon": playing.epsilon(source) if is_agent else None,
        "precision": str(precision).removeprefix("torch.") if is_agent else None,
        "threads": torch.get_num_threads(),
    }
    return {
        "player": player,
        "weights": source.version if is_agent else None,
        "epoch": source.epoch if is_agent else None,
        "seed": playing.seed,
        "device": str(playing.device),
        "settings": how,
        **results.metrics(),
        "return_median": float(np.median(results.returns)),
        "return_interval": mean_interval(results.returns),
        "human_normalised": _normalised(source, playing, results),
        "returns": results.returns,
        "lengths": results.lengths,
    }


def film_name(source: Source) -> str:
    """The beginning of the names of an agent's films. Runs of one name are told apart by the folder around them."""
    return f"{source.folder.parent.name}_{source.folder.name}_{source.version}"


def check_folder(folder: Path) -> None:
    """Raise UserError if no file can be written in a folder, which is made if it is missing."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder: nothing can be written there.")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder} cannot be written to: change its permissions, or evaluate a copy of it.")


def _from_here(folder: Path) -> Path:
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) and folder != here else folder


def _normalised(source: Source, playing: Playing, results: Results) -> float | None:
    if not has_human_score(source, playing):
        return None
    return human_normalised(game_name(playing.game(source).id), results.mean_return, read_published())
