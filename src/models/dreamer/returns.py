"""Returns of imagined and of replayed rows, and their range."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

PERCENTILES = (0.05, 0.95)


def imagined_returns(rew: Tensor, value: Tensor, continues: Tensor, lambda_: float) -> Tensor:
    """λ-returns (n, h) of imagined states (n, h + 1); the discount is part of `continues`.

    A reward belongs to the state it arrives with: the return of a state begins with the reward of the next one.
    """
    later, results = value[:, -1], []
    for step in range(rew.size(1) - 1, 0, -1):
        later = rew[:, step] + continues[:, step] * ((1 - lambda_) * value[:, step] + lambda_ * later)
        results.append(later)
    return torch.stack(results[::-1], dim=1)


def replayed_returns(
    rew: Tensor, is_last: Tensor, is_terminal: Tensor, bootstrap: Tensor, discount: float, lambda_: float
) -> Tensor:
    """λ-returns (b, t - 1) of replayed rows (b, t), with values `bootstrap` (b, t) that end them."""
    alive, same_episode = discount * (~is_terminal).float(), lambda_ * (~is_last).float()
    later, results = bootstrap[:, -1], []
    for step in range(rew.size(1) - 1, 0, -1):
        share = same_episode[:, step]
        later = rew[:, step] + alive[:, step] * ((1 - share) * bootstrap[:, step] + share * later)
        results.append(later)
    return torch.stack(results[::-1], dim=1)


class ReturnRange(nn.Module):
    """Moving averages, from 0, of the 5th and 95th percentiles of returns."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    @torch.no_grad()
    def update(self, returns: Tensor, rate: float) -> None:
        """Take over a share `rate` of the percentiles of these returns, and those of all other ranks."""
        returns = _of_all_ranks(returns.float().flatten())
        levels = torch.tensor(PERCENTILES, device=returns.device)
        low, high = torch.quantile(returns, levels)
        self.low.lerp_(low, rate)
        self.high.lerp_(high, rate)

    def scale(self, limit: float) -> Tensor:
        """The width of the range, at least `limit`."""
        return (self.high - self.low).clamp(min=limit)


def _of_all_ranks(values: Tensor) -> Tensor:
    if not (dist.is_available() and dist.is_initialized()):
        return values
    gathered = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, values.contiguous())
    return torch.cat(gathered)
