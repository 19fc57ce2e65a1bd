"""What each process of `test_dreamer_ranks.py` does; a module of its own, as new processes import it by name."""

from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from algorithms.dreamer.agent import DreamerAgent
from data import Actions, Spaces
from models.dreamer import Learner, LossConfig, NetworkConfig, Rows
from run.ranks import Ranks

B, T = 4, 5
NETWORKS = NetworkConfig(deter=16, hidden=8, classes=4, units=8, depth=2, stoch=4)


class SharedNoise:
    """Gumbel noise for a share of the joined batch: draws for all, hands out the share's rows."""

    def __init__(self, part: int, num_parts: int) -> None:
        self.part, self.num_parts = part, num_parts
        self.rng = torch.Generator().manual_seed(0)

    def __call__(self, shape: torch.Size, device: torch.device) -> Tensor:
        whole = torch.empty(shape[0] * self.num_parts, *shape[1:]).exponential_(generator=self.rng)
        return whole.chunk(self.num_parts)[self.part].log().neg()


def make_learner(part: int, num_parts: int) -> Learner:
    """The same on every rank."""
    torch.manual_seed(0)
    agent = DreamerAgent(NETWORKS, Spaces((3, 16, 16), Actions("numbered", 4)))
    for each in agent.parameters():
        each.data.add_(0.1 * torch.randn_like(each))
    return Learner(agent, LossConfig(horizon=3, return_rate=0.5), NETWORKS.bins, SharedNoise(part, num_parts))


def make_rows(part: int, num_parts: int) -> Rows:
    torch.manual_seed(1)
    flags = [torch.rand(B, T + 1) < 0.2 for _ in range(3)]
    obs = torch.randint(256, (B, T + 1, 3, 16, 16), dtype=torch.uint8)
    index = torch.randint(NETWORKS.classes, (B, NETWORKS.stoch))
    act, deter = torch.randint(4, (B, T + 1)), torch.randn(B, NETWORKS.deter)
    rows = Rows(obs, act, torch.randn(B, T + 1), *flags, deter, index)
    return Rows(*[getattr(rows, field.name).chunk(num_parts)[part] for field in fields(Rows)])


def gradients(part: int, num_parts: int) -> dict[str, Tensor]:
    """Of the mean over all ranks, and the range of returns."""
    learner = make_learner(part, num_parts)
    module = learner if num_parts == 1 else DistributedDataParallel(learner, broadcast_buffers=False)
    module(make_rows(part, num_parts))[0].backward()
    result = {name: each.grad for name, each in learner.named_parameters() if each.grad is not None}
    return result | dict(learner.networks["return_range"].named_buffers())


def write_gradients(folder: Path, ranks: Ranks) -> int:
    with torch.enable_grad():
        torch.save(gradients(ranks.rank, ranks.world_size), folder / f"{ranks.rank}.pt")
    return 0
