"""Masked means, and samples from categorical distributions."""

import torch
import torch.distributed as dist
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is set; 0 if it is set nowhere.

    In data-parallel training, the sum is divided by the average count of all ranks, so that the average of the ranks'
    gradients is the gradient of the joined batch.
    """
    count = mask.sum().to(values.dtype)
    if torch.is_grad_enabled() and dist.is_available() and dist.is_initialized():
        dist.all_reduce(count, dist.ReduceOp.AVG if dist.get_backend() == "nccl" else dist.ReduceOp.SUM)
        if dist.get_backend() != "nccl":
            count = count / dist.get_world_size()
    # `where` instead of a product: values on padding may be not finite, and must not reach the sum.
    return torch.where(mask, values, 0).sum() / count.clamp(min=1 / 1024)


def sample_categorical(logits: Tensor) -> Tensor:
    """Sample one class for each row of logits (…, classes), without waiting for the device (Gumbel-max)."""
    noise = torch.empty_like(logits, dtype=torch.float32).exponential_()
    return (logits.float().softmax(dim=-1) / noise).argmax(dim=-1)
