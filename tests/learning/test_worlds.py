"""Measurements tell an untrained world from a half-trained one, and that one from a trained one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from algorithms.base import Algorithm, World
from data import Batch
from evaluation.world_measure import measure_world
from evaluation.world_recordings import RANDOM, find_recordings
from evaluation.world_segments import Recorded, record
from evaluation.world_summary import summarise
from run.folder import RunFolder
from trained.opening import find_spaces, open_agent
from trained.source import Source, load_source
from training_helpers import CPU, make_trainer

pytestmark = pytest.mark.slow
FIRST_EPOCH, HALF_TRAINED = 1, 450
HORIZON, NUM_SEGMENTS, NUM_SAMPLES = 10, 100, 2
GAME = ["env=gym", "env.train.id=pixel_game:Chase-v0"]
QUICKER = ["denoiser.training.batch_size=16", "denoiser.training.lr_warmup_steps=20", "common.seed=0"]


def test_better_worlds_get_better_numbers(learnt: RunFolder, tmp_path: Path) -> None:
    """On new random episodes, the worlds of the run's first epoch, which learnt from such episodes, and of less.

    The half-trained world has a denoiser after 450 smaller updates instead of 800, and the trained world's model of
    rewards and ends, which sees worse frames. With four seeds of the half-trained world, its PSNR was 26.1 to 29.2 dB
    (10.8 untrained, 36.8 trained), its controllability 5.3 to 9.5 dB (0.0 and 17.1), and its measure of rewards 0.42 to
    0.73 (0.08 and 1).
    """
    trained = load_source(learnt.path, FIRST_EPOCH, False, trusts=True)
    spaces, world = find_spaces(trained), open_world(trained)
    recordings = find_recordings(trained, spaces, RANDOM, NUM_SEGMENTS, 1)
    recorded = record(recordings, world.num_context_steps, HORIZON, NUM_SEGMENTS, 1, None)
    learner = make_learner(learnt, tmp_path)
    rows = [numbers(learner.world(1), recorded)]
    for _ in range(HALF_TRAINED):
        learner.components["denoiser"].update()
    learner.agent.load(trained.weights_path, ("rew_end_model",))
    learner.agent.eval()
    rows += [numbers(each, recorded) for each in (learner.world(1), world)]
    for name, untrained in rows[0].items():
        half, most = rows[1][name], rows[2][name]
        print(f"{name}: {untrained:.3f} untrained, {half:.3f} half-trained, {most:.3f} trained")
        # On frames that are not sharp enough, the half-trained world may see no end at all.
        assert untrained < half or name == "end", name
        assert max(untrained, half) < most or half == most == 1, name
    assert abs(rows[0]["controllability"]) < 0.2


def test_values_are_better_in_a_better_world(learnt: RunFolder, tmp_path: Path) -> None:
    """On the test episodes, which the policy has played; a policy can be fooled by a half-trained world, too."""
    source = load_source(learnt.path, None, False, trusts=True)
    agent = open_agent(source, find_spaces(source), CPU, torch.float32, draw_starts=draw_nothing)
    world, critic = agent.world(1), agent.policy
    recordings = find_recordings(source, find_spaces(source), None, NUM_SEGMENTS, 1)
    recorded = record(recordings, world.num_context_steps, HORIZON, NUM_SEGMENTS, 1, critic.gamma)
    errors = []
    for each in (make_learner(learnt, tmp_path).world(1), world):
        metrics = summarise(measure_world(each, recorded, critic, 1, 0, CPU, torch.float32))
        curves = next(metric.curves for metric in metrics if metric.name == "value_error")
        errors.append({way: curve.value.mean() for way, curve in curves.items()})
        print(errors[-1])
    untrained, trained = errors
    assert untrained["real"] == trained["real"]
    assert trained["model"] < 0.6 * untrained["model"]
    assert trained["model"] < 0.6 * trained["shuffled"]


def numbers(world: World, recorded: Recorded) -> dict[str, float]:
    """Frames at the first step; rewards and ends up to the third one. Larger is better."""
    measured = measure_world(world, recorded, None, NUM_SAMPLES, 0, CPU, torch.float32)
    curves = {metric.name: metric.curves["model"].value for metric in summarise(measured)}
    found = {name: curves[name][0] for name in ("psnr", "psnr_moving", "ssim", "controllability")}
    # A guess of ends can have a high recall, but not a high precision, too: their harmonic mean counts.
    for event in ("reward_positive", "end"):
        parts = [curves[f"{event}_{part}"][2] for part in ("precision", "recall")]
        found[event] = 2 * np.prod(parts) / np.sum(parts) if np.nansum(parts) > 0 else 0.0
    return found


def open_world(source: Source) -> World:
    return open_agent(source, find_spaces(source), CPU, torch.float32, draw_starts=draw_nothing).world(1)


def make_learner(learnt: RunFolder, path: Path) -> Algorithm:
    """Untrained, with the run's training data to learn from."""
    data = [f"static_dataset.path={learnt.path}", "common.device=cpu", "training.precision=fp32"]
    learner = make_trainer(path / "learner", *data, *QUICKER, game=GAME, small=("+experiment=tiny",)).algorithm
    learner.agent.eval()
    return learner


def draw_nothing(count: int, length: int, with_full_frames: bool) -> Batch:
    raise AssertionError("worlds start from the recorded segments")
