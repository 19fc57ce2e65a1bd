"""Losses, gradients and weights that are infinite or not a number: found without waiting for the device."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class NotFinite(Exception):
    """Raised when a loss, gradients or weights are infinite or not a number."""

    def __init__(self, what: str, component: str, when: str) -> None:
        super().__init__(f"The {what} of the {component} {'is' if what.endswith('loss') else 'are'} not finite {when}.")


class FiniteGuard:
    """Notes the first update of a component with a loss, or with gradients, that are not finite.

    From that update on, `step` leaves the weights as they are. Nothing waits for the device until `check`.
    """

    def __init__(self, component: str, device: torch.device) -> None:
        self._component = component
        # Numbers of updates, counted from 1; 0 if all were finite.
        self._first_bad_loss = torch.zeros((), dtype=torch.int64, device=device)
        self._first_bad_gradients = self._first_bad_loss.clone()

    def see_loss(self, loss: Tensor, update: int) -> Tensor:
        """Note whether the loss is finite. Returns the loss to go backward from.

        One that is not finite spoils the gradients on every rank, so that all of them stop.
        """
        is_finite = loss.detach().isfinite()
        self._first_bad_loss = _first(self._first_bad_loss, ~is_finite, update)
        return loss * torch.where(is_finite, 1.0, torch.nan)

    def see_gradients(self, norm: Tensor, update: int) -> None:
        """Note whether the norm of the gradients is finite."""
        self._first_bad_gradients = _first(self._first_bad_gradients, ~norm.isfinite(), update)

    def step(self, optimizer: Optimizer) -> None:
        """Step the optimizer, unless some gradients were not finite.

        An optimizer that cannot skip a step on the device waits for it here.
        """
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            # As `torch.amp.GradScaler` does: the fused kernels read on the device whether to leave out the step.
            optimizer.found_inf = (self._first_bad_gradients > 0).float()
        else:
            self.check()
        optimizer.step()

    def check(self) -> None:
        """Raise NotFinite if a loss or gradients so far were infinite or not a number. Waits for the device."""
        bad_loss, bad_gradients = torch.stack((self._first_bad_loss, self._first_bad_gradients)).tolist()
        if bad_loss or bad_gradients:
            what = "loss" if bad_loss else "gradients"
            raise NotFinite(what, self._component, f"at its update {bad_loss or bad_gradients}")

    def check_weights(self, module: nn.Module, num_updates: int) -> None:
        """Raise NotFinite if the sum of the squares of the weights is not finite. Waits for the device."""
        weights = [each.detach() for each in module.parameters()]
        if not bool(nn.utils.get_total_norm(weights).isfinite()):
            raise NotFinite("weights", self._component, f"after its update {num_updates}")


def _first(known: Tensor, is_bad: Tensor, update: int) -> Tensor:
    return torch.where((known == 0) & is_bad, update, known)
