"""Categorical latent variables: probabilities, samples, entropy, and the divergence of two of them."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Gumbel = Callable[[torch.Size, torch.device], Tensor]
"""Draws standard Gumbel noise, float32, of a shape."""


def draw_gumbel(shape: torch.Size, device: torch.device) -> Tensor:
    return torch.empty(shape, device=device).exponential_().log_().neg_()


def mixed_log_probs(logits: Tensor, unimix: float) -> Tensor:
    """Log-probabilities (…, classes), float32, of the softmax mixed with a share `unimix` of the uniform."""
    probs = logits.float().softmax(dim=-1)
    return ((1 - unimix) * probs + unimix / logits.size(-1)).log()


def sample_index(log_probs: Tensor, noise: Tensor) -> Tensor:
    """Sample classes, int64 (…), by the Gumbel-max trick, with Gumbel noise (…, classes)."""
    return (log_probs + noise).argmax(dim=-1)


def straight_through(log_probs: Tensor, index: Tensor) -> Tensor:
    """The one-hot vectors of samples, with the gradient of the probabilities (Bengio et al. 2013)."""
    probs = log_probs.exp()
    return F.one_hot(index, log_probs.size(-1)) + (probs - probs.detach())


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy in nats of each distribution (…, classes)."""
    return -(log_probs.exp() * log_probs).sum(dim=-1)


def kl_divergence(log_probs: Tensor, others: Tensor) -> Tensor:
    """KL(p ‖ q) in nats, summed over the variables: from (…, variables, classes) to (…)."""
    return (log_probs.exp() * (log_probs - others)).sum(dim=(-2, -1))


def kl_losses(posterior: Tensor, prior: Tensor, free_nats: float) -> tuple[Tensor, Tensor]:
    """Losses (…) that pull the prior to the posterior, and the posterior to the prior (Hafner et al. 2023, eq. 3).

    Both are log-probabilities (…, variables, classes). Divergences below `free_nats` have no gradient.
    """
    dynamics = kl_divergence(posterior.detach(), prior).clamp(min=free_nats)
    representation = kl_divergence(posterior, prior.detach()).clamp(min=free_nats)
    return dynamics, representation
