"""Episodes, the data set on disk, and the replay against its plain twin."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import PROJECT
from data import (
    Dataset,
    Draws,
    Episode,
    Experience,
    Replay,
    SegmentConfig,
    Segments,
    chunk_episodes,
    draw_segments,
    episode_probabilities,
    segment_by_segment,
    to_bytes,
    to_unit_range,
)
from errors import UserError
from files import load_tensors, save_tensors


def make_episode(length: int, over: bool = True, size: int = 4) -> Episode:
    end = torch.zeros(length, dtype=torch.uint8)
    end[-1] = over
    info = {"final_observation": torch.randint(256, (3, size, size), dtype=torch.uint8)} if over else {}
    return Episode(
        torch.randint(256, (length, 3, size, size), dtype=torch.uint8),
        torch.randint(5, (length,)),
        torch.randint(-2, 3, (length,)).float(),
        end,
        torch.zeros(length, dtype=torch.uint8),
        info,
    )


def assert_same(ours: Episode, theirs: Episode) -> None:
    for name in ("obs", "act", "rew", "end", "trunc"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert ours.info.keys() == theirs.info.keys()
    for name, value in theirs.info.items():
        assert torch.equal(ours.info[name], value)


def test_bytes_and_unit_range_are_inverse() -> None:
    frames = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(to_unit_range(frames)), frames)
    assert to_unit_range(frames).min() == -1
    assert to_unit_range(frames).max() == 1


def test_episode_round_trip(tmp_path: Path) -> None:
    episode = make_episode(7)
    episode.save(tmp_path / "0.pt")
    assert_same(Episode.load(tmp_path / "0.pt"), episode)
    stored = load_tensors(tmp_path / "0.pt")
    assert stored["info"]["final_observation"].dtype == torch.float32


def test_episode_file_holds_only_its_own_bytes(tmp_path: Path) -> None:
    long = make_episode(1000, size=16)
    long.first(2).save(tmp_path / "0.pt")
    assert (tmp_path / "0.pt").stat().st_size < 10_000


def test_dataset_layout_and_round_trip(tmp_path: Path) -> None:
    dataset, episodes = Dataset(tmp_path / "train"), [make_episode(length) for length in range(1, 13)]
    for episode in episodes:
        dataset.add_episode(episode)
    dataset.save_info()
    assert (tmp_path / "train" / "000" / "10" / "0" / "10.pt").is_file()
    again = Dataset.open(tmp_path / "train")
    assert again.lengths == list(range(1, 13))
    assert (again.info.counter_rew, again.info.counter_end) == (dataset.info.counter_rew, dataset.info.counter_end)
    for ours, theirs in zip(again.episodes(), episodes, strict=True):
        assert_same(ours, theirs)
    assert load_tensors(dataset.info_path)["start_idx"].tolist() == np.cumsum([0, *range(1, 12)]).tolist()


@pytest.mark.parametrize(
    ("episode_id", "path"),
    [(0, "000/00/0/0.pt"), (10, "000/10/0/10.pt"), (99, "000/90/9/99.pt"), (123, "100/20/3/123.pt"),
     (4567, "500/60/7/4567.pt")],
)  # fmt: skip
def test_episode_paths(episode_id: int, path: str) -> None:
    assert Dataset(Path("d")).episode_path(episode_id) == Path("d") / path


def test_unfinished_episode_is_extended(tmp_path: Path) -> None:
    dataset, first, second = Dataset(tmp_path), make_episode(3, over=False), make_episode(4)
    episode_id = dataset.add_episode(first)
    dataset.add_episode(make_episode(2))
    dataset.add_episode(second, episode_id)
    assert dataset.lengths == [7, 2]
    assert_same(dataset.load_episode(0), Episode.joined([first, second]))
    assert sum(dataset.info.counter_end.values()) == 9


def test_rewind_removes_later_steps(tmp_path: Path) -> None:
    dataset, first = Dataset(tmp_path), make_episode(3, over=False)
    dataset.add_episode(first)
    dataset.add_episode(make_episode(5))
    dataset.save_info()
    state = load_tensors(dataset.info_path)
    dataset.add_episode(make_episode(4), 0)
    dataset.add_episode(make_episode(6))
    again = Dataset(tmp_path)
    again.rewind(state)
    assert again.lengths == [3, 5]
    assert_same(again.load_episode(0), first)
    assert not again.episode_path(2).exists()
    assert Dataset.open(tmp_path).lengths == [3, 5]


def test_dataset_without_info_counts_its_files(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path)
    for length in (3, 4):
        dataset.add_episode(make_episode(length))
    assert Dataset.open(tmp_path).state_dict()["lengths"].tolist() == [3, 4]


def test_dataset_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Dataset.open(tmp_path / "nothing")
    with pytest.raises(UserError, match="is empty"):
        Dataset.open(tmp_path)
    (tmp_path / "info.pt").write_bytes(b"not a data set")
    with pytest.raises(UserError, match=r"info\.pt is damaged"):
        Dataset.open(tmp_path)
    save_tensors({"lengths": 3}, tmp_path / "info.pt")
    with pytest.raises(UserError, match=r"is not the info\.pt of a data set"):
        Dataset.open(tmp_path)


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_damaged_episode_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "0.pt"
    make_episode(3).save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"0\.pt is damaged"):
        Episode.load(path)


class Attack:
    def __reduce__(self) -> tuple:
        return os.system, ("touch owned",)


def test_loading_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"obs": Attack()}, tmp_path / "zip.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Attack(), protocol=2))
    for name in ("zip.pt", "pickle.pt"):
        with pytest.raises(UserError, match=f"{name} is "):
            load_tensors(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    """A file size limit stands in for a full disk."""
    path = tmp_path / "0.pt"
    make_episode(3).save(path)
    before = path.read_bytes()
    code = f"""
import resource, sys
sys.path[:0] = [{str(PROJECT / "src")!r}]
from pathlib import Path
from data import Episode
import torch
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
t = 100
Episode(torch.zeros(t, 3, 8, 8, dtype=torch.uint8), *[torch.zeros(t)] * 4).save(Path({str(path)!r}))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UserError: The disk is full" in result.stderr
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["0.pt"]


def test_gather_equals_segment_by_segment() -> None:
    episodes = [make_episode(length, over=length % 3 > 0) for length in (1, 2, 30, 7, 12, 3)]
    replay = Replay(torch.device("cpu"))
    # Stored in pieces, out of order, as several environments would.
    parts = [replay.add_episode(episode.first(1)) for episode in episodes]
    for episode_id, episode in zip(parts, episodes, strict=True):
        if len(episode) > 1:
            columns = [getattr(episode, name)[1:] for name in ("obs", "act", "rew", "end", "trunc")]
            replay.add_episode(Episode(*columns, info=episode.info), episode_id)
    assert replay.episode_lengths.tolist() == [len(episode) for episode in episodes]
    rng = np.random.default_rng(0)
    for beyond_end in (False, True):
        segments = draw_segments(rng, replay.episode_lengths, 200, 6, (0.3, 0.7), beyond_end)
        ours, theirs = replay.gather(segments), segment_by_segment(episodes, segments)
        for name in ("act", "rew", "end", "trunc", "mask_padding", "frames"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        over = theirs.end.bool().any(1)
        assert over.any()
        assert torch.equal(ours.final_obs[over], theirs.final_obs[over])


def test_padding_is_grey() -> None:
    replay = Replay(torch.device("cpu"))
    replay.add_episode(make_episode(2))
    batch = replay.gather(Segments(np.array([0]), np.array([-1]), 4))
    assert batch.mask_padding.tolist() == [[False, True, True, False]]
    assert (batch.frames[0, [0, 3]] == 0).all()


@pytest.mark.parametrize("beyond_end", [False, True])
def test_segments_hold_a_uniform_step(beyond_end: bool) -> None:
    """The drawn step is uniform in the episode, and its place in the segment uniform where the episode allows it."""
    lengths, length, count = np.array([50]), 5, 40_000
    segments = draw_segments(np.random.default_rng(0), lengths, count, length, None, beyond_end)
    starts = segments.starts
    if beyond_end:
        assert (starts.min(), starts.max()) == (-4, 49)
        inner = starts[(starts >= 0) & (starts <= 45)]
    else:
        assert (starts.min(), starts.max()) == (-4, 45)
        inner = starts[(starts >= 0) & (starts < 45)]
    counts = np.bincount(inner)
    expected = count / 50
    # 6 standard deviations: fails by chance in fewer than one of 10^7 tests.
    assert np.abs(counts - expected).max() < 6 * expected**0.5


def test_episode_probabilities() -> None:
    weights = (0.1, 0.1, 0.1, 0.7)
    few = episode_probabilities(np.array([1, 2, 3]), weights)
    assert few.tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    many = episode_probabilities(np.arange(1, 11), weights)
    # Groups of 10 // 4 = 2 episodes; the remainder goes to the last.
    assert many.tolist() == pytest.approx([0.05] * 6 + [0.7 / 4] * 4)
    plain = episode_probabilities(np.array([1, 3]), None)
    assert plain.tolist() == pytest.approx([0.25, 0.75])


def test_drawn_episodes_follow_the_probabilities() -> None:
    lengths, weights, count = np.arange(1, 11), (0.1, 0.1, 0.1, 0.7), 50_000
    segments = draw_segments(np.random.default_rng(0), lengths, count, 3, weights, False)
    expected = episode_probabilities(lengths, weights) * count
    # 6 standard deviations: fails by chance in fewer than one of 10^7 tests.
    assert (np.abs(np.bincount(segments.episode_ids) - expected) < 6 * expected**0.5).all()


def test_chunks_cover_all_steps_except_single_ones() -> None:
    chunks = chunk_episodes(np.array([7, 3, 1, 4]), 3)
    pairs = list(zip(chunks.episode_ids.tolist(), chunks.starts.tolist(), strict=True))
    # Episode 0 ends in a chunk of one step, which is dropped, like the whole of episode 2 and the end of episode 3.
    assert pairs == [(0, 0), (0, 3), (1, 0), (3, 0)]


def test_experience_keeps_disk_and_memory_in_step(tmp_path: Path) -> None:
    store = Experience(Dataset(tmp_path), torch.device("cpu"))
    store.add_episode(make_episode(3, over=False))
    store.add_episode(make_episode(4))
    store.add_episode(make_episode(2), 0)
    follower = Experience(Dataset(tmp_path / "none"), torch.device("cpu"))
    follower.follow(store.take_added())
    assert store.take_added() == []
    store.dataset.save_info()
    loaded = Experience(Dataset.open(tmp_path), torch.device("cpu"))
    loaded.load()
    segments = Segments(np.array([0, 1, 0]), np.array([1, -2, 3]), 4)
    for other in (follower, loaded):
        batch = other.replay.gather(segments)
        assert torch.equal(batch.frames, store.replay.gather(segments).frames)


def make_experience(tmp_path: Path, lengths: tuple[int, ...]) -> Experience:
    experience = Experience(Dataset(tmp_path), torch.device("cpu"))
    for length in lengths:
        experience.add_episode(make_episode(length))
    return experience


def test_an_added_column_is_written_back_and_drawn(tmp_path: Path) -> None:
    experience = make_experience(tmp_path, (4, 3))
    replay = experience.replay
    replay.add_column("latent", (2,), torch.float32)
    replay.clear()
    experience.load()
    assert replay.gather(Segments(np.array([0]), np.array([0]), 4)).extra["latent"].abs().sum() == 0
    segments = Segments(np.array([0, 1]), np.array([-1, 1]), 3)
    values = torch.arange(12.0).view(2, 3, 2)
    replay.write("latent", segments, values)
    batch = replay.gather(segments)
    # Steps outside of the episodes are neither written nor read.
    expected = values * batch.mask_padding[..., None]
    assert torch.equal(batch.extra["latent"], expected)
    assert batch.mask_padding.tolist() == [[False, True, True], [True, True, False]]
    whole = replay.gather(Segments(np.array([0, 1]), np.array([0, 0]), 4)).extra["latent"]
    assert torch.equal(whole[0, :2], values[0, 1:])
    assert torch.equal(whole[1, 1:3], values[1, :2])
    assert whole[0, 2:].abs().sum() == whole[1, 0].abs().sum() == 0


def test_added_columns_survive_a_restart_although_episodes_grew_in_turn(tmp_path: Path) -> None:
    experience = Experience(Dataset(tmp_path), torch.device("cpu"))
    experience.replay.add_column("value", (), torch.float32)
    first, second = experience.add_episode(make_episode(2, over=False)), experience.add_episode(make_episode(3))
    experience.add_episode(make_episode(4), first)
    segments = Segments(np.array([first, second]), np.array([0, 0]), 6)
    experience.replay.write("value", segments, torch.arange(12.0).view(2, 6))
    experience.dataset.save_info()
    again = Experience(Dataset.open(tmp_path), torch.device("cpu"))
    again.replay.add_column("value", (), torch.float32)
    again.load()
    again.load_state_dict(experience.state_dict())
    ours, theirs = again.replay.gather(segments), experience.replay.gather(segments)
    assert torch.equal(ours.extra["value"], theirs.extra["value"])
    assert ours.extra["value"][0].tolist() == list(range(6))


def test_unfinished_episodes_are_written_when_they_are_saved(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path)
    parts = [make_episode(length, over=length == 5) for length in (2, 3, 5)]
    episode_id = dataset.add_episode(parts[0])
    dataset.add_episode(parts[1], episode_id)
    assert not dataset.episode_path(0).exists()
    assert_same(dataset.load_episode(0), Episode.joined(parts[:2]))
    dataset.save_info()
    assert len(Dataset.open(tmp_path).load_episode(0)) == 5
    dataset.add_episode(parts[2], episode_id)
    # It is over now, and written at once; `info.pt` follows.
    assert len(Episode.load(dataset.episode_path(0))) == 10
    assert len(Dataset.open(tmp_path).load_episode(0)) == 5
    dataset.save_info()
    assert_same(Dataset.open(tmp_path).load_episode(0), Episode.joined(parts))


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_batches_read_ahead_equal_batches_drawn_one_by_one(tmp_path: Path, device: torch.device | None) -> None:
    make_experience(tmp_path, (9, 7, 12)).dataset.save_info()
    dataset = Dataset.open(tmp_path)

    def make(num_workers: int) -> Draws:
        experience = Experience(dataset, device)
        experience.load()
        rng = np.random.default_rng(0)
        return Draws(SegmentConfig(4, None), experience, rng, torch.device("cpu"), num_workers)

    plain, ahead = make(0), make(2)
    first = [plain(3) for _ in range(2)]
    for batch in first:
        assert torch.equal(ahead(3).obs, batch.obs)
    # What was read ahead and not taken is drawn again after a restart.
    resumed = make(2)
    resumed.load_state_dict(ahead.state_dict())
    for _ in range(3):
        assert torch.equal(resumed(3).obs, plain(3).obs)


def test_leftovers_do_not_shadow(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path)
    dataset.add_episode(make_episode(3))
    dataset.clear()
    assert dataset.num_episodes == 0
    assert not tmp_path.exists() or not any(tmp_path.iterdir())
    dataset.add_episode(make_episode(2))
    assert dataset.lengths == [2]


def test_an_empty_dataset_can_be_read_back(tmp_path: Path) -> None:
    Dataset(tmp_path).save_info()
    assert load_tensors(tmp_path / "info.pt")["lengths"].shape == (0,)
