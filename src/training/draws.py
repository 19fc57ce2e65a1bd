"""Batches for one component, drawn at once or read ahead by workers."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import Batch, ExperienceStore, FullFrames, Segments


class Draws:
    """Draws segments by a generator of its own, and gathers their batches.

    What comes from disk (small frames of a store that is there, frames in full size) is read ahead in threads while
    other batches are learnt from. The state is that before the first batch which nobody took, so that a run goes on as
    if nothing was read ahead.
    """

    def __init__(
        self,
        generator: np.random.Generator,
        draw: Callable[[np.random.Generator, int], Segments],
        store: ExperienceStore,
        full: FullFrames | None,
        device: torch.device,
        num_workers: int,
    ) -> None:
        """`draw` makes segments of that number; `num_workers=0` reads everything when it is needed."""
        self._generator = generator
        self._draw = draw
        self._store = store
        self._full = full
        self._device = device
        reads_files = store.is_on_disk or full is not None
        self._num_ahead = 2 * num_workers if reads_files else 0
        self._pool = ThreadPoolExecutor(num_workers) if self._num_ahead > 0 else None
        self._ahead: deque[_Ahead] = deque()

    def __call__(self, batch_size: int) -> Batch:
        if self._pool is None:
            segments = self._draw(self._generator, batch_size)
            return self._join(segments, *self._read(segments))
        if self._ahead and len(self._ahead[0].segments) != batch_size:
            self.load_state_dict(self.state_dict())
        while len(self._ahead) <= self._num_ahead:
            before = self._generator.bit_generator.state
            segments = self._draw(self._generator, batch_size)
            self._ahead.append(_Ahead(before, segments, self._pool.submit(self._read, segments)))
        first = self._ahead.popleft()
        return self._join(first.segments, *first.files.result())

    def _read(self, segments: Segments) -> tuple[Batch | None, Tensor | None]:
        """What of a batch comes from files."""
        batch = self._store.replay.gather(segments) if self._store.is_on_disk else None
        return batch, None if self._full is None else self._full.gather(segments)

    def _join(self, segments: Segments, batch: Batch | None, full_obs: Tensor | None) -> Batch:
        batch = self._store.replay.gather(segments) if batch is None else batch
        return replace(batch, full_obs=full_obs).to(self._device)

    def state_dict(self) -> dict[str, Any]:
        return self._ahead[0].before if self._ahead else self._generator.bit_generator.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for each in self._ahead:
            each.files.cancel()
        self._ahead.clear()
        self._generator.bit_generator.state = state


@dataclass(frozen=True)
class _Ahead:
    """Segments whose files are being read, and the generator's state before they were drawn."""

    before: dict[str, Any]
    segments: Segments
    files: Future[tuple[Batch | None, Tensor | None]]
