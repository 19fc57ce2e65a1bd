"""Means over part of a batch, and what a loss hands back."""

import torch
import torch.distributed as dist
from torch import Tensor

Metrics = dict[str, Tensor]
"""Numbers to average over updates: 0-dimensional tensors without gradient; counts in 2-dimensional ones are summed."""


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is set; 0 where it is set nowhere.

    While training data-parallel, the count is that of all ranks' batches together, so that the ranks' averaged
    gradient is the gradient of the joined batch.
    """
    count = mask.sum().to(values.dtype)
    if torch.is_grad_enabled() and dist.is_available() and dist.is_initialized():
        dist.all_reduce(count, dist.ReduceOp.AVG if dist.get_backend() == "nccl" else dist.ReduceOp.SUM)
        if dist.get_backend() != "nccl":
            count = count / dist.get_world_size()
    # Where, not times: a value that is not finite on padding must not reach the sum.
    return torch.where(mask, values, 0).sum() / count.clamp(min=1 / 1024)


def sample_categorical(logits: Tensor) -> Tensor:
    """Draw one class for each row of logits (…, classes), without waiting for the device (Gumbel-max)."""
    noise = torch.empty_like(logits, dtype=torch.float32).exponential_()
    return (logits.float().softmax(dim=-1) / noise).argmax(dim=-1)
