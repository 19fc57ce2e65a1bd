"""Numbers of any scale as distributions over exponentially spaced bins."""

import torch
from torch import Tensor, nn

LARGEST_EXPONENT = 20


def symlog(x: Tensor) -> Tensor:
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """The inverse of `symlog`."""
    return x.sign() * x.abs().expm1()


class TwoHot(nn.Module):
    """Predictions and losses of numbers whose distribution over bins is given by logits (…, bins).

    The bins are those of Hafner et al. 2023, eq. 10: an odd number of them, symmetric around zero.
    """

    def __init__(self, num_bins: int) -> None:
        super().__init__()
        half = symexp(torch.linspace(-LARGEST_EXPONENT, 0, num_bins // 2 + 1, device="cpu"))
        self.register_buffer("bins", torch.cat((half, -half[:-1].flip(0))), persistent=False)

    def mean(self, logits: Tensor) -> Tensor:
        """The expected number (…), float32. Mirrored bins are added first, so that a uniform distribution gives 0."""
        weighted = logits.float().softmax(dim=-1) * self.bins
        half = len(self.bins) // 2
        negative, zero, positive = weighted.split((half, 1, half), dim=-1)
        return zero.squeeze(-1) + (negative.flip(-1) + positive).sum(dim=-1)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy (…) with the two bins around the target (…), which share the weight linearly."""
        bins, target = self.bins, target.detach().float().contiguous()
        above = torch.searchsorted(bins, target, right=True)
        below, above = (above - 1).clamp(min=0), above.clamp(max=len(bins) - 1)
        to_below, to_above = (bins[below] - target).abs(), (bins[above] - target).abs()
        # Beyond the ends, both are the last bin.
        share_below = torch.where(below == above, 1.0, to_above / (to_below + to_above))
        log_probs = logits.float().log_softmax(dim=-1)
        at_below, at_above = [log_probs.gather(-1, each[..., None]).squeeze(-1) for each in (below, above)]
        return -(share_below * at_below + (1 - share_below) * at_above)
