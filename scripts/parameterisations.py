"""Does a DDPM drift sooner than EDM? Imagined rollouts of both, after equal updates on the same data.

python scripts/parameterisations.py --env atari --game BreakoutNoFrameskip-v4 --networks quickstart

Three denoisers with the same network see the same segments of random play: EDM (agent=default), DDPM with a linear
schedule (agent=ddpm) and with a cosine schedule (agent=ddpm_cosine). Each imagines the same new segments under their
actions with 1, 3, 10 and all sampling steps: 1000 and 100 for the DDPMs; EDM, whose steps have no end, takes 100.
Writes a table, a figure and all numbers.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

import hydra
import matplotlib
import numpy as np
import torch
from tqdm import tqdm

from algorithms import read_settings
from algorithms.diamond.agent import fit_to_data
from algorithms.diamond.config import DiamondConfig
from component import Component, Metrics
from data import Actions, Batch, Episode, Replay, Spaces, draw_segments
from envs import EnvConfig, WorldModelEnv, frame_shape, make_env
from evaluation.world_measure import measure_world
from evaluation.world_segments import Recorded, Recordings, record
from evaluation.world_summary import summarise
from models.diffusion import Denoiser
from rl.collector import Collector
from rl.policy import RandomPolicy
from run.config import register_resolvers
from run.device import choose_device, set_backends
from run.ranks import Ranks

matplotlib.use("Agg")
from matplotlib import pyplot as plt

AGENTS = {"EDM": "default", "DDPM, linear": "ddpm", "DDPM, cosine": "ddpm_cosine"}
ALL, ALL_OF_EDM = "all", 100
METRICS = ("psnr", "psnr_moving")
SHOWN = (1, 10, 25, 50)


@dataclass(frozen=True)
class Drift:
    """One way to imagine: curves over the horizon, dB, for each of `METRICS`; `copy` repeats the last real frame."""

    agent: str
    num_steps: int
    curves: dict[str, list[float]]
    copy: dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", choices=("gym", "atari"), default="gym")
    parser.add_argument(
        "--game", default="pixel_game:Chase-v0", help="for Gymnasium also module:Id (pixel_game:Chase-v0)"
    )
    parser.add_argument("--networks", default="tiny", help="a file of config/experiment (tiny)")
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=5000, help="steps of random play to learn from")
    parser.add_argument("--horizon", type=int, default=50)
    parser.add_argument("--segments", type=int, default=64)
    parser.add_argument("--sampling-steps", nargs="+", default=["1", "3", "10", ALL], metavar="N", help="1 3 10 all")
    parser.add_argument("--predictions", nargs="+", choices=AGENTS, default=list(AGENTS), help="only these")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="overrides", help="a setting of all of them"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=PROJECT / "results" / "parameterisations", help="folder")
    arguments = parser.parse_args()
    register_resolvers()
    device = choose_device(arguments.device, setting="--device ")
    set_backends(device, torch.float32)
    settings = {name: read(arguments, AGENTS[name]) for name in arguments.predictions}
    env = next(iter(settings.values())).env.train
    episodes, num_actions = play(env, arguments.steps, arguments.seed)
    others, _ = play(env, max(arguments.steps, 4 * arguments.horizon), arguments.seed + 1)
    found = []
    for name, config in settings.items():
        denoiser = train(name, config, episodes, num_actions, arguments, device)
        recorded = choose_segments(others, denoiser.num_steps_conditioning, arguments)
        every = ALL_OF_EDM if denoiser.schedule is None else len(denoiser.schedule)
        for num_steps in dict.fromkeys(every if word == ALL else int(word) for word in arguments.sampling_steps):
            found.append(measure(name, config, denoiser, num_steps, recorded, arguments, device))
    report(found, arguments)


def read(arguments: argparse.Namespace, agent: str) -> DiamondConfig:
    """The settings of a run with this agent. Episodes are long enough for the horizon."""
    words = [f"env={arguments.env}", f"env.train.id={arguments.game}", f"+experiment={arguments.networks}"]
    words += [f"agent={agent}", f"common.seed={arguments.seed}", f"env.train.max_episode_steps={8 * arguments.horizon}"]
    words += arguments.overrides
    with hydra.initialize_config_dir(str(PROJECT / "config"), version_base="1.3"):
        return read_settings(hydra.compose("trainer", words))[1]


def play(env: EnvConfig, num_steps: int, seed: int) -> tuple[list[Episode], int]:
    """Whole episodes of random actions, with at least that many steps; and the number of actions."""
    torch.manual_seed(seed)
    real, episodes = make_env(env, 1, seed, torch.device("cpu")), []

    def keep(episode: Episode, episode_id: int | None) -> int:
        episodes.append(episode)
        return len(episodes) - 1

    collector = Collector(real, RandomPolicy(real.num_actions), keep, epsilon=0.0)
    collector.begin()
    for _ in tqdm(range(num_steps), "Playing at random"):
        collector.step()
    collector.store_unfinished()
    return episodes, real.num_actions


def train(
    name: str,
    config: DiamondConfig,
    episodes: list[Episode],
    num_actions: int,
    arguments: argparse.Namespace,
    device: torch.device,
) -> Denoiser:
    """A denoiser after `--updates` updates; the first weights and the segments depend on the seed only."""
    torch.manual_seed(arguments.seed)
    agent = fit_to_data(config.agent, Spaces(frame_shape(config.env.train), Actions("numbered", num_actions)))
    denoiser = Denoiser(agent.denoiser, config.denoiser.sigma_distribution).to(device)
    replay, rng = Replay(device), np.random.default_rng(arguments.seed)
    for episode in episodes:
        replay.add_episode(episode)
    training = replace(config.denoiser.training, num_autoregressive_steps=0)
    length = denoiser.num_steps_conditioning + 1

    def next_batch() -> tuple[Batch, Metrics]:
        segments = draw_segments(rng, replay.episode_lengths, training.batch_size, length, None, beyond_end=False)
        return replay.gather(segments), {}

    make_optimizer, ranks = config.denoiser.optimizer.make, Ranks(0, 1, device)
    component = Component("denoiser", denoiser, next_batch, training, make_optimizer, torch.float32, ranks)
    for _ in tqdm(range(arguments.updates), f"Training {name}"):
        component.update()
    component.check_finite()
    return denoiser.eval()


def choose_segments(episodes: list[Episode], num_context_steps: int, arguments: argparse.Namespace) -> Recorded:
    lengths = np.array([len(episode) for episode in episodes], np.int64)
    recordings = Recordings(f"random play of {arguments.game}", lengths, episodes.__getitem__)
    return record(recordings, num_context_steps, arguments.horizon, arguments.segments, arguments.seed, None)


def measure(
    name: str,
    config: DiamondConfig,
    denoiser: Denoiser,
    num_steps: int,
    recorded: Recorded,
    arguments: argparse.Namespace,
    device: torch.device,
) -> Drift:
    """Imagine all segments with that many sampling steps."""
    sampler = replace(config.world_model_env.diffusion_sampler, num_steps_denoising=num_steps)
    imagination = replace(config.world_model_env, diffusion_sampler=sampler)
    world = WorldModelEnv(denoiser, None, never_draw, imagination, 1)
    print(f"{name}, {num_steps} sampling steps")
    measured = measure_world(world, recorded, None, 1, arguments.seed, device, torch.float32)
    metrics = {metric.name: metric.curves for metric in summarise(measured)}
    model, copy = ({each: metrics[each][way].value.tolist() for each in METRICS} for way in ("model", "copy"))
    return Drift(name, num_steps, model, copy)


def never_draw(count: int) -> Batch:
    raise AssertionError("the world starts from the segments that it is compared with")


def report(found: list[Drift], arguments: argparse.Namespace) -> None:
    """Print the table, and write it with the numbers and the figure."""
    folder, name = arguments.output, arguments.game.rpartition(":")[2]
    folder.mkdir(parents=True, exist_ok=True)
    shown = [step for step in SHOWN if step <= arguments.horizon]
    titles = [f"{metric}, step {step}" for metric in METRICS for step in shown]
    lines = [f"| prediction | sampling steps | {' | '.join(titles)} |", "|---" * (len(titles) + 2) + "|"]
    for agent, steps, curves in [
        *((each.agent, str(each.num_steps), each.curves) for each in found),
        ("copy of the last frame", "", found[0].copy),
    ]:
        cells = [f"{curves[metric][step - 1]:.2f}" for metric in METRICS for step in shown]
        lines.append(f"| {agent} | {steps} | {' | '.join(cells)} |")
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n")
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    numbers = {"settings": settings, "drift": [asdict(each) for each in found]}
    (folder / f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n")
    shape, size = (len(METRICS), len(arguments.predictions)), (4 * len(arguments.predictions), 6)
    figure, axes = plt.subplots(*shape, figsize=size, squeeze=False, sharex=True, sharey="row", layout="constrained")
    for row, metric in zip(axes, METRICS, strict=True):
        for axis, agent in zip(row, arguments.predictions, strict=True):
            for each in (each for each in found if each.agent == agent):
                axis.plot(range(1, arguments.horizon + 1), each.curves[metric], label=f"{each.num_steps} steps")
            axis.plot(range(1, arguments.horizon + 1), found[0].copy[metric], "k:", label="copy")
            axis.set(title=agent, xlabel="step", ylabel=f"{metric} (dB)")
            axis.grid(alpha=0.3)
            axis.legend(fontsize="small")
    figure.suptitle(f"{name}, {arguments.networks} networks after {arguments.updates} updates")
    figure.savefig(folder / f"{name}.png", dpi=110)
    plt.close(figure)
    print("\n".join(lines))
    print(f"Table, numbers and figure: {folder}/{name}.md, .json, .png")


if __name__ == "__main__":
    main()
