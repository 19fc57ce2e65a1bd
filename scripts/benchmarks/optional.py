"""What is measured only where libraries beside PyTorch and NumPy are installed: collection, and full-size frames."""

import importlib.util
import statistics
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import steps_per_second
from benchmarks.ways import NUM_ACTIONS, Bench, Sizes, make_episode
from data import Dataset, FullFrames, Segments
from data.full_frames import FILE_ID, write_hdf5
from envs import AtariConfig, make_env, make_groups
from rl.collector import Collector
from rl.rollout import Rollouts
from run.compiled import uncompiled
from run.device import autocast
from run.measure import time_once

NEEDS = {"collection": ("ale_py", "gymnasium", "omegaconf", "tensorboard"), "full_frames": ("h5py",)}
"""The libraries that each measurement needs, by the name that `--only` takes."""

GAME = "BreakoutNoFrameskip-v4"
NUM_ENVS, PPO_ENVS = 32, 8
PPO_GROUPS = {"encoder": 1, "nature_cnn": 4}
"""The fastest numbers on two cores: the encoder takes most of its time itself."""
SMALLEST_FOR_NATURE_CNN = 36
FULL_SIZE = (150, 280)


def has(name: str) -> bool:
    """Whether the libraries that a measurement needs are installed."""
    return all(importlib.util.find_spec(module) is not None for module in NEEDS[name])


def measure_collection(bench: Bench) -> dict[str, float]:
    """Emulator steps a second: collection in one environment, rollouts in 32 for model-free training, no policy."""
    # Not at the top: the package of the algorithm needs libraries that the other measurements do without.
    from algorithms.diamond.policy import ActorCriticPolicy

    way, sizes, game = bench.default, bench.sizes, AtariConfig(GAME, bench.sizes.image)
    network, rates = way.agent.actor_critic, {}

    env = make_env(game, 1, 0, torch.device("cpu"))
    policy, store = ActorCriticPolicy(network), lambda episode, episode_id: 0
    collector = Collector(env, policy, store, epsilon=0.01, precision=way.precision, device=bench.device)
    collector.begin()
    # As a run collects, which has many shapes that would each be compiled.
    with uncompiled():
        rates["collection, 1 environment"] = steps_per_second(collector.step, 1, 20 * sizes.batch, sizes.repeats)
    env.close()

    env = make_env(game, NUM_ENVS, 0, bench.device)
    rollouts = Rollouts(env, network, network.loss_config)

    def collect() -> None:
        with autocast(bench.device, way.precision):
            rollouts.collect()

    steps, count = NUM_ENVS * network.loss_config.backup_every, max(1, sizes.batch // 4)
    rates[f"model-free rollouts, {NUM_ENVS} environments"] = steps_per_second(collect, steps, count, sizes.repeats)

    act, count = torch.randint(NUM_ACTIONS, (NUM_ENVS,)), 4 * sizes.batch
    rate = steps_per_second(lambda: env.step(act), NUM_ENVS, count, sizes.repeats)
    rates[f"emulators alone, {NUM_ENVS} environments"] = rate
    env.close()
    return rates | measure_ppo(bench)


def measure_ppo(bench: Bench) -> dict[str, float]:
    """Steps a second of PPO's collection in 8 environments, without learning, for both kinds of networks."""
    from algorithms.model_free.frames import FrameStack
    from algorithms.model_free.ppo.policy import PpoPolicy
    from models.model_free import EncoderConfig, NatureCnnConfig, PpoNetwork

    image, device, rates = bench.sizes.image, bench.device, {}
    configs = {"encoder": EncoderConfig(4, 512, (32, 32, 64, 64), (1, 1, 1, 1)), "nature_cnn": NatureCnnConfig(4, 512)}
    for name, config in configs.items():
        if name == "nature_cnn" and image < SMALLEST_FOR_NATURE_CNN:
            continue
        frame = (3, image, image)
        network = PpoNetwork(config, frame, NUM_ACTIONS).to(device, memory_format=torch.channels_last)
        policy = PpoPolicy(network, FrameStack(config.num_frames, frame, device))
        envs = make_groups(AtariConfig(GAME, image), PPO_ENVS, PPO_GROUPS[name], 0, torch.device("cpu"))
        collector = Collector(envs, policy, lambda episode, episode_id: 0, 0.0, bench.default.precision, device)
        collector.begin()
        steps = 4 * bench.sizes.batch
        rate = steps_per_second(partial(collector.step, ahead=True), PPO_ENVS, steps, bench.sizes.repeats)
        rates[f"PPO collection, {PPO_ENVS} environments, agent={name}"] = rate
        for env in envs:
            env.close()
    return rates


def measure_full_frames(sizes: Sizes) -> float:
    """Seconds in which an upsampler's batch is read from files that were read before."""
    with tempfile.TemporaryDirectory() as folder:
        dataset, length = Dataset(Path(folder) / "low_res"), 100
        for number in range(4):
            frames = np.random.default_rng(number).integers(0, 256, (length, *FULL_SIZE, 3), np.uint8)
            write_hdf5(Path(folder) / "full_res" / f"{number}.hdf5", frames, np.zeros((length, 51)))
            dataset.add_episode(replace(make_episode(length, 8), info={FILE_ID: f"{number}.hdf5"}))
        full, rng = FullFrames(Path(folder) / "full_res", dataset), np.random.default_rng(0)
        segments = [Segments(np.arange(4), rng.integers(0, length - 3, 4), 3) for _ in range(sizes.batch_repeats)]
        device = torch.device("cpu")
        return statistics.median(time_once(lambda each=each: full.gather(each), device) for each in segments)
