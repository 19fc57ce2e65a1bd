"""Experience that stays on disk: batches of segments without a copy of everything in memory."""

import numpy as np

from data.batch import Batch
from data.dataset import Dataset
from data.replay import segment_by_segment
from data.segments import Segments


class StoredReplay:
    """A data set drawn from as a `Replay` is; a batch reads those parts of the episodes' files that it needs."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.episode_lengths = np.array(dataset.lengths, np.int64)

    def gather(self, segments: Segments) -> Batch:
        """The batch of the given segments, in memory."""
        episodes = {int(each): self._dataset.load_episode(int(each)) for each in np.unique(segments.episode_ids)}
        return segment_by_segment(episodes, segments)
