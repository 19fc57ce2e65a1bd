"""λ-returns."""

import torch
from torch import Tensor


def lambda_returns(
    rew: Tensor, end: Tensor, trunc: Tensor, val_bootstrap: Tensor, gamma: float, lambda_: float
) -> Tensor:
    """λ-returns of sign-clipped rewards (Sutton and Barto 2018, ch. 12.1).

    `rew` float32 (t, b), `end` and `trunc` bool (t, b). `val_bootstrap` float32 (t, b): the value of the next
    observation, which is the final observation where the episode is over. Returns float32 (t, b).
    """
    rew, alive = rew.sign(), (~end).float()
    continues = (~(end | trunc)).float()
    bootstrap_share = (1 - lambda_) + lambda_ * trunc.float()
    returns = rew + alive * gamma * bootstrap_share * val_bootstrap
    later = val_bootstrap[-1]
    results = []
    for step in range(len(rew) - 1, -1, -1):
        later = returns[step] + continues[step] * gamma * lambda_ * later
        results.append(later)
    return torch.stack(results[::-1])
