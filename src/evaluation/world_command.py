"""Measuring imagined worlds: `evaluate.py --world`."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from algorithms.base import World
from data import Spaces
from errors import UserError
from evaluation.records import commit
from evaluation.world_film import check_rollout_folder, film, save_rollouts
from evaluation.world_measure import Measured, measure_world
from evaluation.world_recordings import RANDOM, find_recordings
from evaluation.world_report import draw_figure, make_table, write_json
from evaluation.world_segments import record
from evaluation.world_summary import count_segments, summarise
from rl.policy import Critic, Policy
from run.arguments import positive
from run.device import choose_device, choose_precision, make_current
from trained.opening import find_spaces, open_agent
from trained.source import Source

FOLDER = "evaluation"
"""Holds a folder for each measured version of a run's weights."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of worlds to the command line."""
    group = parser.add_argument_group("with --world")
    group.add_argument("--horizon", type=positive, default=50, metavar="T", help="steps to imagine (50)")
    group.add_argument("--segments", type=positive, default=256, metavar="N", help="segments to imagine (256)")
    group.add_argument("--samples", type=positive, default=4, metavar="K", help="samples of each segment (4)")
    group.add_argument(
        "--data", metavar="DIR", help=f"recordings to compare with, or {RANDOM}: play them now (the run's test data)"
    )
    group.add_argument("--save-rollouts", type=Path, metavar="DIR", help="write the frames and actions of all segments")


def evaluate_worlds(arguments: argparse.Namespace, sources: Iterable[Source]) -> int:
    """Measure the worlds of these sources; returns the exit code.

    Prints a table for each, and writes `world.json`, `world.png` and `world.mp4` to `evaluation/<version>` in its run
    folder.
    """
    device = choose_device(arguments.device, setting="--device ")
    make_current(device)
    if arguments.save_rollouts is not None:
        check_rollout_folder(arguments.save_rollouts)
    for source in sources:
        _evaluate(arguments, source, device)
    return 0


@dataclass(frozen=True)
class Opened:
    """What is measured of a source."""

    world: World
    policy: Policy | None
    spaces: Spaces
    precision: torch.dtype


def _evaluate(arguments: argparse.Namespace, source: Source, device: torch.device) -> None:
    opened = _open(source, arguments, device)
    world, policy = opened.world, opened.policy
    recordings = find_recordings(source, opened.spaces, arguments.data, arguments.segments, arguments.seed)
    critic = policy if isinstance(policy, Critic) and recordings.are_own else None
    gamma = None if critic is None else critic.gamma
    recorded = record(recordings, world.num_context_steps, arguments.horizon, arguments.segments, arguments.seed, gamma)
    measured = measure_world(world, recorded, critic, arguments.samples, arguments.seed, device, opened.precision)
    metrics, counts = summarise(measured), count_segments(measured)
    facts = {
        "run": str(source.folder),
        "weights": source.version,
        "epoch": source.epoch,
        "commit": commit(),
        "data": recordings.origin,
        "seed": arguments.seed,
        "device": str(device),
        "precision": str(opened.precision).removeprefix("torch."),
        "horizon": arguments.horizon,
        "segments": len(recorded.mask),
        "samples": arguments.samples,
        "frames_per_second": round(measured.num_imagined / measured.seconds, 1),
    }
    folder = source.folder / FOLDER / source.version
    title = f"{source.folder.name}, {source.version}"
    write_json(facts, metrics, counts, folder / "world.json")
    draw_figure(metrics, title, folder / "world.png")
    film(recorded, measured.frames, folder / "world.mp4")
    print(f"\n{title}: {len(recorded.mask)} segments of {recordings.origin}")
    print(make_table(metrics, counts))
    print("\n".join(_notes(measured, world, policy, arguments.samples)))
    print(f"Figure, film and numbers: {folder}")
    if arguments.save_rollouts is not None:
        inside = arguments.save_rollouts / f"{source.folder.parent.name}_{source.folder.name}_{source.version}"
        save_rollouts(recorded, measured.frames, inside)
        print(f"Frames and actions: {inside}")


def _open(source: Source, arguments: argparse.Namespace, device: torch.device) -> Opened:
    precision, spaces = choose_precision(arguments.precision, device), find_spaces(source)
    algorithm = open_agent(source, spaces, device, precision, arguments.seed, _never_draw)
    world = algorithm.world(1)
    if world is None:
        raise UserError(f"{source.folder} was trained without a world model: there is no world to measure.")
    return Opened(world, algorithm.policy, spaces, precision)


def _never_draw(count: int, length: int, with_full_frames: bool) -> None:
    raise AssertionError("a world that is measured starts from the segments that it is compared with")


def _notes(measured: Measured, world: World, policy: Policy | None, num_samples: int) -> list[str]:
    """What the table shows, and what it lacks."""
    notes = [
        f"model: mean of {num_samples} samples; best: the best of them at each step; shuffled: the model under the "
        "actions of other segments; copy: the last real frame."
    ]
    if measured.shuffled is None:
        notes.append("All segments have the same actions: controllability cannot be measured.")
    if not world.shows_rewards:
        notes.append("This world predicts no rewards and ends: they are left out.")
    if not isinstance(policy, Critic):
        notes.append("This agent has no values of discounted signs of rewards: they are left out.")
    elif measured.real_value is None:
        notes.append("The agent has not played these episodes: its values, which depend on who plays, are left out.")
    else:
        notes.append("real: the policy's value of the real frames.")
    speed = measured.num_imagined / measured.seconds
    notes.append(f"Imagined {measured.num_imagined} frames, {speed:.0f} per second.")
    return notes
