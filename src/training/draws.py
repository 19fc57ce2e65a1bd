"""Batches for one component, drawn at once or read ahead by workers."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from data import Batch, Segments


class Draws:
    """Draws segments by a generator of its own, and gathers their batches.

    With workers, batches are read in threads while others are learnt from: reading files leaves the interpreter free.
    The state is that before the first batch which nobody took, so that a run goes on as if nothing was read ahead.
    """

    def __init__(
        self,
        generator: np.random.Generator,
        draw: Callable[[np.random.Generator, int], Segments],
        gather: Callable[[Segments], Batch],
        device: torch.device,
        num_workers: int = 0,
    ) -> None:
        self._generator = generator
        self._draw = draw
        self._gather = gather
        self._device = device
        self._num_workers = num_workers
        self._pool = ThreadPoolExecutor(num_workers) if num_workers > 0 else None
        self._ahead: deque[tuple[dict[str, Any], int, Future[Batch]]] = deque()

    def __call__(self, batch_size: int) -> Batch:
        if self._pool is None:
            return self._gather(self._draw(self._generator, batch_size)).to(self._device)
        if self._ahead and self._ahead[0][1] != batch_size:
            self.load_state_dict(self.state_dict())
        while len(self._ahead) <= 2 * self._num_workers:
            before = self._generator.bit_generator.state
            segments = self._draw(self._generator, batch_size)
            self._ahead.append((before, batch_size, self._pool.submit(self._read, segments)))
        _, _, future = self._ahead.popleft()
        return future.result().to(self._device)

    def _read(self, segments: Segments) -> Batch:
        batch = self._gather(segments)
        return batch.pin_memory() if self._device.type == "cuda" else batch

    def state_dict(self) -> dict[str, Any]:
        return self._ahead[0][0] if self._ahead else self._generator.bit_generator.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for _, _, future in self._ahead:
            future.cancel()
        self._ahead.clear()
        self._generator.bit_generator.state = state
