"""Random batches for one component, read when they are needed or prefetched by threads."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.batch import Batch
from data.experience import Experience
from data.segments import Segments, chunk_episodes, draw_inside, draw_segments


@dataclass(frozen=True)
class SegmentConfig:
    """The length of a component's segments, and how they are drawn (see `draw_segments`).

    With `only_inside`, every segment that lies inside an episode is drawn as often as any other, whatever its age.
    `reads_full_frames`: whether batches also hold the frames in full size.
    """

    length: int
    age_weights: tuple[float, ...] | None
    beyond_end: bool = False
    reads_full_frames: bool = False
    only_inside: bool = False


class Draws:
    """Draws segments with its own random generator, and gathers their batches.

    Batches from disk are prefetched by threads during training. The state that is saved is the generator's state before
    the first prefetched batch that has not been used, so that a resumed run draws the same batches.
    """

    def __init__(
        self,
        config: SegmentConfig,
        experience: Experience,
        generator: np.random.Generator,
        device: torch.device,
        num_workers: int = 0,
    ) -> None:
        """With `num_workers=0`, nothing is prefetched."""
        self.config = config
        self._experience = experience
        self._generator = generator
        self._device = device
        self._num_ahead = 2 * num_workers if experience.is_on_disk or config.reads_full_frames else 0
        self._pool = ThreadPoolExecutor(num_workers) if self._num_ahead > 0 else None
        self._ahead: deque[_Ahead] = deque()

    def __call__(self, batch_size: int) -> Batch:
        """A batch of `batch_size` segments, on the device."""
        if self._pool is None:
            segments = self._draw(batch_size)
            return self._join(segments, *self._read(segments))
        if self._ahead and len(self._ahead[0].segments) != batch_size:
            self.load_state_dict(self.state_dict())
        while len(self._ahead) <= self._num_ahead:
            before = self._generator.bit_generator.state
            segments = self._draw(batch_size)
            self._ahead.append(_Ahead(before, segments, self._pool.submit(self._read, segments)))
        first = self._ahead.popleft()
        return self._join(first.segments, *first.files.result())

    def test_segments(self, experience: Experience, batch_size: int, at_most: int | None) -> list[Segments]:
        """All episodes of `experience` cut into consecutive segments, in batches; `at_most` limits their number."""
        chunks = chunk_episodes(experience.replay.episode_lengths, self.config.length)
        return list(chunks.batches(batch_size, at_most))

    def gather(self, experience: Experience, segments: Segments) -> Batch:
        """The batch of the given segments of `experience`, on the device."""
        return experience.gather(segments, self.config.reads_full_frames).to(self._device)

    def state_dict(self) -> dict[str, Any]:
        return self._ahead[0].before if self._ahead else self._generator.bit_generator.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for each in self._ahead:
            each.files.cancel()
        self._ahead.clear()
        self._generator.bit_generator.state = state

    def _draw(self, batch_size: int) -> Segments:
        config, lengths = self.config, self._experience.replay.episode_lengths
        if config.only_inside:
            return draw_inside(self._generator, lengths, batch_size, config.length)
        return draw_segments(self._generator, lengths, batch_size, config.length, config.age_weights, config.beyond_end)

    def _read(self, segments: Segments) -> tuple[Batch | None, Tensor | None]:
        """The parts of a batch that are read from files."""
        experience = self._experience
        batch = experience.replay.gather(segments) if experience.is_on_disk else None
        return batch, experience.full.gather(segments) if self.config.reads_full_frames else None

    def _join(self, segments: Segments, batch: Batch | None, full_obs: Tensor | None) -> Batch:
        # The replay in memory is read in the main thread: see `data.stored.cut`.
        batch = self._experience.replay.gather(segments) if batch is None else batch
        return replace(batch, full_obs=full_obs).to(self._device)


@dataclass(frozen=True)
class _Ahead:
    """Segments whose files are being read, and the generator's state before they were drawn."""

    before: dict[str, Any]
    segments: Segments
    files: Future[tuple[Batch | None, Tensor | None]]
