"""LaProp, with adaptive gradient clipping."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LaProp(Optimizer):
    """LaProp (Ziyin et al. 2020): momentum of gradients that are normalised by a moving average of their squares.

    Gradients are clipped before (Brock et al. 2021): the norm of each tensor's gradient is at most `clip` times the
    norm of the tensor, or times `smallest_norm` for tensors near zero. Both averages are corrected for starting at 0.

    If the attribute `found_inf`, a tensor on the device, is above 0, a step leaves the parameters as they are, whatever
    the gradients. As with PyTorch's fused optimizers, the host need not know.
    """

    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-20,
        clip: float | None = 0.3,
        smallest_norm: float = 1e-3,
    ) -> None:
        """`clip=None` leaves the gradients as they are."""
        defaults = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "clip": clip, "smallest_norm": smallest_norm}
        super().__init__(params, {**defaults, "num_updates": 0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            params = [each for each in group["params"] if each.grad is not None]
            if params:
                group["num_updates"] += 1
                self._update(group, params, [each.grad for each in params])

    def _update(self, group: dict, params: list[Tensor], grads: list[Tensor]) -> None:
        beta1, beta2, count = group["beta1"], group["beta2"], group["num_updates"]
        length = -group["lr"] / (1 - beta1**count)
        if (found_inf := getattr(self, "found_inf", None)) is not None:
            grads = [torch.where(found_inf > 0, 0.0, each) for each in grads]
            length = length * (1 - found_inf)
        if group["clip"] is not None:
            grads = clipped(params, grads, group["clip"], group["smallest_norm"])
        for each in params:
            if each not in self.state:
                self.state[each] = {"square": torch.zeros_like(each), "momentum": torch.zeros_like(each)}
        squares, momenta = [[self.state[each][name] for each in params] for name in ("square", "momentum")]
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        roots = torch._foreach_div(squares, 1 - beta2**count)
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_mul_(momenta, beta1)
        torch._foreach_addcdiv_(momenta, grads, roots, 1 - beta1)
        torch._foreach_add_(params, torch._foreach_mul(momenta, length))


def clipped(params: list[Tensor], grads: list[Tensor], clip: float, smallest_norm: float) -> list[Tensor]:
    """The gradients, each scaled so that its norm is at most `clip` · max(`smallest_norm`, its parameter's norm)."""
    limits = torch._foreach_norm(params)
    torch._foreach_clamp_min_(limits, smallest_norm)
    torch._foreach_mul_(limits, clip)
    factors = torch._foreach_div(torch._foreach_norm(grads), limits)
    torch._foreach_clamp_min_(factors, 1.0)
    return torch._foreach_div(grads, factors)
