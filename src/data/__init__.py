"""Experience: episodes, data sets on disk, the replay in memory, and batches of segments."""

from data.actions import ActionLayout
from data.batch import Batch, to_device
from data.dataset import Dataset, find_splits
from data.draws import Draws, SegmentConfig
from data.episode import Episode
from data.experience import Experience
from data.frames import to_bytes, to_unit_range
from data.full_frames import FullFrames
from data.replay import Replay, segment_by_segment
from data.segments import Segments, chunk_episodes, draw_segments, episode_probabilities, room_inside
from data.spaces import Actions, Spaces
from data.step import Imagined, Start, Step
from data.stored import StoredReplay
from data.strided import every_nth, with_stride

__all__ = [
    "ActionLayout",
    "Actions",
    "Batch",
    "Dataset",
    "Draws",
    "Episode",
    "Experience",
    "FullFrames",
    "Imagined",
    "Replay",
    "SegmentConfig",
    "Segments",
    "Spaces",
    "Start",
    "Step",
    "StoredReplay",
    "chunk_episodes",
    "draw_segments",
    "episode_probabilities",
    "every_nth",
    "find_splits",
    "room_inside",
    "segment_by_segment",
    "to_bytes",
    "to_device",
    "to_unit_range",
    "with_stride",
]
