"""Experience: episodes, the data set on disk, the replay in memory, batches of segments."""

from data.batch import Batch
from data.dataset import Dataset, find_splits
from data.episode import Episode
from data.frames import to_bytes, to_unit_range
from data.replay import Replay, segment_by_segment
from data.segments import Segments, chunk_episodes, draw_segments, episode_probabilities
from data.step import Start, Step
from data.store import ExperienceStore

__all__ = [
    "Batch",
    "Dataset",
    "Episode",
    "ExperienceStore",
    "Replay",
    "Segments",
    "Start",
    "Step",
    "chunk_episodes",
    "draw_segments",
    "episode_probabilities",
    "find_splits",
    "segment_by_segment",
    "to_bytes",
    "to_unit_range",
]
