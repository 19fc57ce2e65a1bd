"""Published files of pairs are read, and nothing that is pickled in them runs."""

import builtins
import collections
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data import Dataset
from errors import UserError
from files import load_tensors
from preparation.minari_episodes import FrameOptions
from preparation.pairs import read_pairs, write_pairs

COLOUR = np.arange(5 * 4 * 6 * 3, dtype=np.uint8).reshape(5, 4, 6, 3)


class Calls:
    """Pickled, it is a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self._reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def grey_pairs(count: int = 3) -> list[tuple[Any, ...]]:
    frames = torch.linspace(-1, 1, count * 8).view(count, 1, 2, 4)
    return [(frames[step], frames[min(step + 1, count - 1)], "name", 0, step) for step in range(count)]


def write(folder: Path, content: Any, protocol: int = pickle.DEFAULT_PROTOCOL) -> Path:
    path = folder / "pairs_k1_4x4.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def test_published_pairs(reference_dir: Path, tmp_path: Path) -> None:
    path = reference_dir / "kitchen_run" / "pairs" / "pairs_k3_32x32.pkl"
    recorded = load_tensors(reference_dir / "kitchen_small.pt")["run"]["pairs"]
    frames = read_pairs(path)
    steps = collections.Counter(number for number, _ in recorded["episode_and_step"])
    assert {f"episode_{number}": count for number, count in steps.items()} == {
        name: len(each) for name, each in frames.items()
    }
    levels = (recorded["current"] + 1) * 127.5
    ours = np.concatenate(list(frames.values()))[: len(levels), ..., 0]
    assert np.abs(ours - levels[:, 0].numpy()).max() <= 1
    lengths, counts = write_pairs(path, tmp_path, FrameOptions((32, 32)), None)
    assert (lengths, counts) == ([4] * 6, {"train": 6, "test": 0})
    episode = Dataset.open(tmp_path / "train").load_episode(0)
    assert np.array_equal(episode.obs[:, 0].numpy(), frames["episode_0"][..., 0])
    assert episode.act.shape == (4, 0)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_colour_pairs(tmp_path: Path, protocol: int) -> None:
    pairs = [(COLOUR[step], COLOUR[min(step + 2, 4)], "name", 7, step) for step in (2, 0, 1, 4, 3)]
    (frames,) = read_pairs(write(tmp_path, pairs, protocol)).values()
    assert np.array_equal(frames, COLOUR)


@pytest.mark.parametrize(
    "hostile",
    [
        lambda path: Calls(os.system, f"touch {path}"),
        lambda path: Calls(builtins.eval, f"open({str(path)!r}, 'w')"),
        lambda path: Calls(builtins.open, str(path), "w"),
        lambda path: Calls(builtins.__import__, "this"),
        lambda path: Calls(torch.storage._load_from_bytes, saved(Calls(os.system, f"touch {path}"))),
        lambda path: Calls(torch.storage._load_from_bytes, pickle.dumps(Calls(os.system, f"touch {path}"))),
        lambda path: Calls(collections.OrderedDict, [("a", Calls(os.system, f"touch {path}"))]),
        lambda path: np.array([Calls(os.system, f"touch {path}")], dtype=object),
        lambda path: Calls(collections.OrderedDict, state={"__class__": Calls(os.system, f"touch {path}")}),
    ],
)
@pytest.mark.parametrize("place", ["frame", "number", "whole"])
def test_hostile_pickles(tmp_path: Path, hostile: Callable[[Path], Any], place: str) -> None:
    canary = tmp_path / "canary"
    bad = hostile(canary)
    pairs = grey_pairs()
    content = {"frame": [(bad, *pairs[0][1:])], "number": [(*pairs[0][:3], bad, 0)], "whole": bad}[place]
    with pytest.raises(UserError, match=r"pairs_k1_4x4\.pkl (is refused|cannot be read)"):
        read_pairs(write(tmp_path, content))
    assert not canary.exists()


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def rebuilt(offset: int, size: tuple[int, ...], stride: tuple[int, ...], state: Any = None) -> Calls:
    """A tensor cut out of eight numbers."""
    function, (storage, _, _, _, *others) = torch.linspace(-1, 1, 8).__reduce_ex__(2)
    return Calls(function, storage, offset, size, stride, *others, state=state)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "holds no list of pairs"),
        ({}, "holds no list of pairs"),
        ([grey_pairs()[0][:3]], "not enough values"),
        ([(*grey_pairs()[0][:3], "0", 0)], "are not numbers"),
        ([grey_pairs()[0], grey_pairs()[2]], "episode 0 lacks the frames of some steps"),
        ([("text", *grey_pairs()[0][1:])], "neither a tensor nor an array"),
        ([(torch.full((1, 2, 2), 1.5), *grey_pairs()[0][1:])], "is not in"),
        ([(torch.full((1, 2, 2), float("nan")), *grey_pairs()[0][1:])], "is not in"),
        ([(torch.zeros(1, 2, 2, dtype=torch.int64), *grey_pairs()[0][1:])], "does not hold float32"),
        ([(np.zeros((2, 2, 3)), *grey_pairs()[0][1:])], "and not bytes"),
        ([(np.zeros((2, 2), np.uint8), *grey_pairs()[0][1:])], "is not a picture"),
        ([(rebuilt(0, (1, 2, 5), (8, 4, 1)), *grey_pairs()[0][1:])], "goes beyond its storage"),
        ([(rebuilt(-1, (1, 2, 2), (4, 2, 1)), *grey_pairs()[0][1:])], "goes beyond its storage"),
        ([(rebuilt(0, (1, 2, 2), (4, 2, 1), {"values": "text"}), *grey_pairs()[0][1:])], "a state of its own"),
        ([(rebuilt(0, (1, 9000, 9000), (0, 0, 0)), *grey_pairs()[0][1:])], "is not a frame"),
    ],
)
def test_damaged_pairs(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_pairs(write(tmp_path, content))


def test_cut_files(tmp_path: Path) -> None:
    path = write(tmp_path, grey_pairs())
    assert [len(frames) for frames in read_pairs(path).values()] == [3]
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="cannot be read as a file of pairs"):
            read_pairs(path)
    with pytest.raises(UserError, match="There is no file"):
        read_pairs(tmp_path / "nowhere.pkl")


def test_grey_pairs_have_no_colours(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="The pictures are grey: leave out --color"):
        write_pairs(write(tmp_path, grey_pairs()), tmp_path / "out", FrameOptions((2, 4), is_grey=False), None)
