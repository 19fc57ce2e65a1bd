"""The parts of training that are measured in both ways: the three updates, imagination, and batches."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.dreamer import measure_dreamer
from benchmarks.timing import Result, Work, compare
from benchmarks.ways import CONDITIONING, NUM_ACTIONS, Bench, Way
from component import Component
from envs import WorldModelEnv, WorldModelEnvConfig
from models.metrics import Metrics
from optimizers import OptimizerConfig, TrainingConfig
from rl.rollout import Rollouts
from run.device import autocast
from run.ranks import Ranks

DENOISER_LENGTH, REW_END_LENGTH = 6, 19


def measure_denoiser(bench: Bench) -> Iterator[Result]:
    def make(way: Way) -> Work:
        return make_update(bench, way, "denoiser", lambda: (way.draw(bench.sizes.batch, DENOISER_LENGTH, False), {}))

    yield compare("denoiser update", bench, make, bench.sizes.repeats)


def measure_rew_end_model(bench: Bench) -> Iterator[Result]:
    def make(way: Way) -> Work:
        return make_update(bench, way, "rew_end_model", lambda: (way.draw(bench.sizes.batch, REW_END_LENGTH, True), {}))

    yield compare("reward/end update", bench, make, bench.sizes.repeats)


def measure_actor_critic(bench: Bench) -> Iterator[Result]:
    """Updates from rollouts in imagination, which are part of what is measured."""

    def make(way: Way) -> Work:
        rollouts = make_rollouts(bench, way)

        def next_batch() -> tuple[Any, Metrics]:
            with autocast(bench.device, way.precision):
                return rollouts.collect()

        return make_update(bench, way, "actor_critic", next_batch)

    yield compare("actor-critic update", bench, make, bench.sizes.repeats)


def measure_imagination(bench: Bench) -> Iterator[Result]:
    """Steps of the imagined environment under random actions."""

    def make(way: Way, batch: int) -> Work:
        env = make_imagination(way, batch)
        with autocast(bench.device, way.precision):
            env.reset()

        def step() -> None:
            with autocast(bench.device, way.precision):
                env.prepare(1)
                env.step(torch.randint(NUM_ACTIONS, (batch,), device=bench.device))

        return step

    for batch, rounds in ((1, 20), (bench.sizes.batch, 2)):
        name, repeats = f"imagined step, batch {batch}", rounds * bench.sizes.repeats
        yield compare(name, bench, partial(make, batch=batch), repeats, frames=batch)


def measure_batches(bench: Bench) -> Iterator[Result]:
    """Batches on the device, as the denoiser and the reward and termination model take them."""
    batch = bench.sizes.batch
    for length, beyond_end in ((DENOISER_LENGTH, False), (REW_END_LENGTH, True)):

        def make(way: Way, length: int = length, beyond_end: bool = beyond_end) -> Work:
            return lambda: way.draw(batch, length, beyond_end)

        name = f"batch of {batch}×{length} frames"
        yield compare(name, bench, make, bench.sizes.batch_repeats, counts_operations=False)


PARTS: dict[str, Callable[[Bench], Iterator[Result]]] = {
    "denoiser": measure_denoiser,
    "rew_end_model": measure_rew_end_model,
    "actor_critic": measure_actor_critic,
    "imagination": measure_imagination,
    "batches": measure_batches,
    "dreamer": measure_dreamer,
}
"""By the names that `--only` takes; each yields its results one after the other."""


def make_update(bench: Bench, way: Way, name: str, next_batch: Callable[[], tuple[Any, Metrics]]) -> Work:
    """An update of a component as the trainer makes it, in one of the two ways."""
    training = TrainingConfig(
        start_after_epochs=0,
        steps_first_epoch=0,
        steps_per_epoch=0,
        batch_size=bench.sizes.batch,
        lr_warmup_steps=100,
        max_grad_norm=1.0,
    )
    module, make_optimizer = getattr(way.agent, name), OptimizerConfig(lr=1e-5, weight_decay=1e-2).make
    component = Component(name, module, next_batch, training, make_optimizer, way.precision, Ranks(0, 1, bench.device))
    # A component is channels-last, which only one of the ways is.
    module.to(memory_format=way.memory_format)
    return component.update


def make_rollouts(bench: Bench, way: Way) -> Rollouts:
    """Rollouts of the policy in imagination."""
    policy = way.agent.actor_critic
    return Rollouts(make_imagination(way, bench.sizes.batch), policy, policy.loss_config)


def make_imagination(way: Way, num_envs: int) -> WorldModelEnv:
    agent = way.agent.eval()
    draw_starts = partial(way.draw, length=CONDITIONING, beyond_end=False)
    return WorldModelEnv(agent.denoiser, agent.rew_end_model, draw_starts, WorldModelEnvConfig(), num_envs)
