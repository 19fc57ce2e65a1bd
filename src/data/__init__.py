"""Experience: episodes, the data set on disk, the replay in memory, batches of segments."""

from data.actions import ActionLayout
from data.batch import Batch
from data.dataset import Dataset, find_splits
from data.episode import Episode
from data.frames import to_bytes, to_unit_range
from data.full_frames import FullFrames
from data.replay import Replay, segment_by_segment
from data.segments import Segments, chunk_episodes, draw_segments, episode_probabilities
from data.step import Start, Step
from data.store import ExperienceStore
from data.stored import StoredReplay

__all__ = [
    "ActionLayout",
    "Batch",
    "Dataset",
    "Episode",
    "ExperienceStore",
    "FullFrames",
    "Replay",
    "Segments",
    "Start",
    "Step",
    "StoredReplay",
    "chunk_episodes",
    "draw_segments",
    "episode_probabilities",
    "find_splits",
    "segment_by_segment",
    "to_bytes",
    "to_unit_range",
]
