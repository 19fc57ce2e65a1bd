"""Does the fast way learn the same? Loss curves of the denoiser on real frames: bf16 compiled, and float32 eager.

python scripts/precision.py --networks quickstart

All see the same segments and the same noise. Training is chaotic, so a third curve shows how far two runs of the plain
way diverge when their first weights differ by a ten-thousandth. Writes a picture and numbers to results/benchmarks/.
"""

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

import matplotlib
import numpy as np
import torch
from omegaconf import OmegaConf
from tqdm import tqdm

from agent import AgentConfig
from algorithms.diamond.policy import ActorCriticPolicy
from component import Component, Metrics
from data import Batch, Replay, draw_segments
from envs import AtariConfig, make_env
from models.actor_critic import ActorCritic, ActorCriticConfig
from models.diffusion import Denoiser, DenoiserConfig
from optimizers import OptimizerConfig, TrainingConfig
from rl.collector import Collector
from run.allocator import keep_freed_memory
from run.compiled import compile_networks
from run.config import build, register_resolvers
from run.device import choose_device, set_backends
from run.ranks import Ranks
from run.settings import load_yaml

matplotlib.use("Agg")
from matplotlib import pyplot as plt

LAST = 50
NUM_STEPS = 2000


@dataclass(frozen=True)
class Way:
    """One of the ways to train; `perturbation` is the relative change of its first weights."""

    name: str
    precision: torch.dtype
    is_compiled: bool
    perturbation: float = 0.0


PLAIN = Way("float32 eager", torch.float32, False)
FAST = Way("bf16 compiled", torch.bfloat16, True)
NEARBY = Way("float32 eager, weights 1e-4 apart", torch.float32, False, perturbation=1e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--predictions", type=int, default=1, help="predictions in each segment, each on top of earlier ones"
    )
    parser.add_argument("--networks", choices=("default", "quickstart"), default="default")
    parser.add_argument("--game", default="BreakoutNoFrameskip-v4")
    parser.add_argument("--eager", action="store_true", help="bf16 without compilation")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=PROJECT / "results" / "benchmarks", help="folder")
    arguments = parser.parse_args()
    register_resolvers()
    device = choose_device(arguments.device, setting="--device ")
    if device.type == "cpu":
        keep_freed_memory()
    replay, num_actions = collect(arguments.game, device)
    curves = {
        way.name: train(replay, load_denoiser(num_actions, arguments.networks), arguments, device, way)
        for way in (PLAIN, FAST, NEARBY)
    }
    report(curves, arguments)


def collect(game: str, device: torch.device) -> tuple[Replay, int]:
    """Steps of a policy that acts at random, in the real game."""
    torch.manual_seed(0)
    env = make_env(AtariConfig(game, done_on_life_loss=True), 1, 0, torch.device("cpu"))
    replay = Replay(device)
    network = ActorCritic(ActorCriticConfig(8, 3, 64, (8, 8, 8, 8), (1, 1, 1, 1), env.num_actions))
    collector = Collector(env, ActorCriticPolicy(network), replay.add_episode, epsilon=1.0)
    collector.begin()
    for _ in tqdm(range(NUM_STEPS), "Collecting"):
        collector.step()
    collector.store_unfinished()
    return replay, env.num_actions


def train(
    replay: Replay, config: DenoiserConfig, arguments: argparse.Namespace, device: torch.device, way: Way
) -> list[float]:
    """The loss of each update."""
    set_backends(device, way.precision)
    torch.manual_seed(0)
    rng, denoiser = np.random.default_rng(0), Denoiser(config)
    with torch.no_grad():
        noise = torch.Generator().manual_seed(1)
        for parameter in denoiser.parameters():
            parameter.mul_(1 + way.perturbation * torch.randn(parameter.shape, generator=noise))
    length = denoiser.num_steps_conditioning + arguments.predictions
    compile_networks([denoiser.network_to_compile], way.is_compiled and not arguments.eager, device, is_first=True)

    def next_batch() -> tuple[Batch, Metrics]:
        segments = draw_segments(rng, replay.episode_lengths, arguments.batch_size, length, None, beyond_end=False)
        return replay.gather(segments), {}

    schedule = {"start_after_epochs": 0, "steps_first_epoch": 0, "steps_per_epoch": 0, "lr_warmup_steps": 100}
    training = TrainingConfig(**schedule, batch_size=arguments.batch_size, max_grad_norm=1.0)
    make_optimizer, ranks = OptimizerConfig(lr=1e-4, weight_decay=1e-2).make, Ranks(0, 1, device)
    component = Component("denoiser", denoiser, next_batch, training, make_optimizer, way.precision, ranks)
    losses = []
    for _ in tqdm(range(arguments.updates), way.name):
        component.update()
        losses.append(component.finish_phase()["loss_denoising"])
    return losses


def load_denoiser(num_actions: int, networks: str) -> DenoiserConfig:
    """The denoiser of `config/agent/default.yaml`, or of the quickstart."""
    folder = PROJECT / "config"
    settings = OmegaConf.create({"agent": load_yaml(folder / "agent" / "default.yaml"), "env": {"train": {"size": 64}}})
    if networks == "quickstart":
        settings.agent = OmegaConf.merge(
            settings.agent, load_yaml(folder / "scale" / "quickstart" / "diamond.yaml").agent
        )
    return replace(build(AgentConfig, settings.agent, "agent"), num_actions=num_actions).denoiser


def report(curves: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    """Write the numbers and the picture, and print by how much the last losses differ from the plain way's."""
    last = {name: float(np.mean(losses[-LAST:])) for name, losses in curves.items()}
    differences = {name: last[name] / last[PLAIN.name] - 1 for name in (FAST.name, NEARBY.name)}
    settings = {name: value for name, value in vars(arguments).items() if name != "output"}
    numbers = {"settings": settings, f"mean_of_last_{LAST}": last, "difference": differences, "losses": curves}
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "precision.json").write_text(json.dumps(numbers, indent=1) + "\n")
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, losses in curves.items():
        axis.plot(losses, label=f"{name}: {last[name]:.4f} in the last {LAST}", linewidth=1)
    title = f"{arguments.game}, {arguments.networks} networks, batch {arguments.batch_size}"
    axis.set(xlabel="update", ylabel="denoiser loss", yscale="log", title=title)
    axis.legend()
    axis.grid(alpha=0.3)
    figure.savefig(arguments.output / "precision.png", dpi=110)
    plt.close(figure)
    print(f"Mean of the last {LAST} updates, {PLAIN.name}: {last[PLAIN.name]:.4f}")
    for name, difference in differences.items():
        print(f"{name}: {last[name]:.4f} ({difference:+.2%})")
    print(f"Numbers and picture: {arguments.output}/precision.json, .png")


if __name__ == "__main__":
    main()
