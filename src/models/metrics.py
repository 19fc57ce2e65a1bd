"""Metrics of a batch, and their averages over many batches."""

from typing import Any

import torch
from torch import Tensor

Metrics = dict[str, Tensor]
"""Tensors without gradient: 0-dimensional ones are averaged over updates, 2-dimensional ones are counts to sum."""


class MetricAverages:
    """Weighted averages of numbers, and sums of confusion matrices, kept on the device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}

    def add(self, metrics: Metrics, weight: float = 1.0) -> None:
        for name, value in metrics.items():
            weighted = value * weight if value.ndim == 0 else value
            self._sums[name] = self._sums[name] + weighted if name in self._sums else weighted.clone()
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def read(self) -> dict[str, float]:
        """The averages; a matrix of (true, predicted) counts is converted to recall and precision of each class."""
        numbers = {}
        for name, total in self._sums.items():
            if total.ndim == 0:
                numbers[name] = float(total) / self._weights[name]
            else:
                numbers |= _recall_and_precision(name, total.cpu())
        return numbers

    def since(self, earlier: "MetricAverages") -> "MetricAverages":
        """The averages of what was added after an `earlier` copy of these."""
        later = MetricAverages()
        for name, total in self._sums.items():
            if self._weights[name] > earlier._weights.get(name, 0.0):
                later._sums[name] = total - earlier._sums[name] if name in earlier._sums else total
                later._weights[name] = self._weights[name] - earlier._weights.get(name, 0.0)
        return later

    def copy(self) -> "MetricAverages":
        """The averages of now, which later additions leave alone."""
        return self.since(MetricAverages())

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._weights = dict(state["weights"])


def _recall_and_precision(name: str, counts: Tensor) -> dict[str, float]:
    numbers = {}
    for index in range(len(counts)):
        for kind, total in (("recall", counts[index].sum()), ("precision", counts[:, index].sum())):
            # A class that never occurred has no recall; a class that was never predicted has no precision.
            if total > 0:
                numbers[f"{name}/{kind}_{index}"] = float(counts[index, index] / total)
    return numbers
