"""Starts of imagination, drawn a little ahead of their use."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import Batch, Segments


class StartPool:
    """Starts in the order in which they are drawn; environments that end take them without waiting for the device.

    Only as many batches are drawn as the next steps may need. They wait in a ring of constant size. A checkpoint holds
    only their segments, from which they are made again.
    """

    def __init__(
        self,
        draw: Callable[[int], Batch],
        gather: Callable[[Segments], Batch] | None,
        make: Callable[[Batch], Sequence[Tensor]],
        batch_size: int,
        num_batches: int,
    ) -> None:
        """`make(batch)` returns the columns of the starts. `gather` returns given segments again, after restoring.

        `num_batches` is the largest argument of `fill`.
        """
        self._draw = draw
        self._gather = gather
        self._make = make
        self._batch_size = batch_size
        # The batch that is being used comes on top.
        self._num_slots = num_batches + 1
        self.forget()

    def forget(self) -> None:
        """Drop every start; the next ones are drawn when they are needed."""
        self._ring: list[Tensor] | None = None
        self._used: Tensor | None = None
        self._num_drawn = 0
        self._unused: deque[Segments | None] = deque()
        self._to_make_again: list[Segments] = []

    @torch.no_grad()
    def fill(self, num_batches: int) -> None:
        """Draw until there are this many batches of unused starts. Waits for the device, to read how many were used."""
        self._make_again()
        missing = num_batches * self._batch_size - self._num_unused()
        for _ in range(-(-missing // self._batch_size)):
            self._add(self._draw(self._batch_size))

    def take(self, mask: Tensor) -> list[Tensor]:
        """The next start for each masked environment, in order; for the others, the result is arbitrary."""
        self._make_again()
        places = (self._used + mask.cumsum(0) - 1) % len(self._ring[0])
        self._used = self._used + mask.sum()
        return [column.index_select(0, places) for column in self._ring]

    def state_dict(self) -> dict[str, Any]:
        """The segments of the batches with unused starts, and how many of the first batch were used."""
        if not self._to_make_again:
            self._num_unused()
        return {
            "segments": [(each.episode_ids, each.starts, each.length) for each in self._to_make_again or self._unused],
            "used": None if self._used is None else self._used % self._batch_size,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.forget()
        self._to_make_again = [Segments(*each) for each in state["segments"]]
        self._used = None if state["used"] is None else state["used"].to(device)

    def _make_again(self) -> None:
        """Make the starts of a restored state, once."""
        segments, self._to_make_again = self._to_make_again, []
        for each in segments:
            self._add(self._gather(each))

    def _num_unused(self) -> int:
        used = 0 if self._used is None else int(self._used)
        while len(self._unused) * self._batch_size > self._num_drawn - used // self._batch_size * self._batch_size:
            self._unused.popleft()
        return self._num_drawn - used

    def _add(self, batch: Batch) -> None:
        columns = self._make(batch)
        if self._ring is None:
            size = self._num_slots * self._batch_size
            self._ring = [column.new_empty(size, *column.shape[1:]) for column in columns]
        if self._used is None:
            self._used = torch.zeros((), dtype=torch.int64, device=columns[0].device)
        first = self._num_drawn % len(self._ring[0])
        for ring, column in zip(self._ring, columns, strict=True):
            ring[first : first + self._batch_size] = column
        self._num_drawn += self._batch_size
        self._unused.append(batch.segments)


def origins(batch: Batch) -> Tensor:
    """Episode and step of each segment's last frame, int64 (b, 2); -1 if they are unknown."""
    if batch.segments is None:
        return torch.full((len(batch), 2), -1)
    last_steps = batch.segments.starts + batch.segments.length - 1
    return torch.from_numpy(np.stack((batch.segments.episode_ids, last_steps), axis=1))


def choose(mask: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """`first` in the rows where `mask` bool (b) is set, `second` elsewhere; both (b, …)."""
    return torch.where(mask.view(-1, *[1] * (first.ndim - 1)), first, second)
