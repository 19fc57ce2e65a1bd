"""Copies between main memory and devices. PyTorch's `meta` stands in for a GPU: a device without values."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from data import Batch, Episode, Replay, Segments, Start, Step
from rl.collector import Collector
from run.ranks import in_main_memory

CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")


class Copies(TorchDispatchMode):
    """Lists the copies between devices: the tensor, its new device, and whether the host continues meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, torch.device, bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("device", args[0].device) != args[0].device:
            self.seen.append((args[0], kwargs["device"], bool(kwargs.get("non_blocking"))))
        return func(*args, **kwargs)


def make_batch() -> Batch:
    flags, frames = torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(2, 3, 3, 8, 8, dtype=torch.uint8)
    column = {"latents": torch.zeros(2, 3, 4)}
    return Batch(frames, flags.long(), flags.float(), flags, flags, flags.bool(), frames[:, 0], extra=column)


def test_the_host_waits_for_copies_from_ordinary_memory() -> None:
    """Otherwise the memory could be freed, or written again, before it is copied."""
    with Copies() as copies:
        moved = make_batch().to(ELSEWHERE)
    assert moved.obs.device == moved.extra["latents"].device == ELSEWHERE
    assert len(copies.seen) == 8
    assert not any(non_blocking for *_, non_blocking in copies.seen)


def test_the_host_waits_for_positions_sent_to_a_replay() -> None:
    replay = Replay(ELSEWHERE)
    frames, flags = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.uint8)
    replay.add_episode(Episode(frames, flags.long(), flags.float(), flags, flags))
    with Copies() as copies:
        replay.gather(Segments(np.array([0]), np.array([0]), 2))
    assert copies.seen
    assert not any(non_blocking for *_, non_blocking in copies.seen)


class Still(nn.Module):
    """A policy on another device; its actions are known without looking."""

    def initial(self, batch_size: int) -> None:
        return None

    def act(self, obs: Tensor, memory: None, is_first: Tensor) -> tuple[Tensor, None]:
        assert obs.device == is_first.device == ELSEWHERE
        return torch.zeros(len(obs), dtype=torch.int64), None


class Games:
    """Two games that last three steps, with frames in main memory."""

    num_envs, num_actions = 2, 3

    def __init__(self) -> None:
        self.age = 0

    def reset(self) -> Start:
        return Start(self.draw())

    def send(self, act: Tensor) -> None:
        assert act.device == CPU

    def receive(self) -> Step:
        self.age += 1
        over = torch.tensor([self.age % 3 == 0] * 2)
        return Step(self.draw(), torch.zeros(2), over, torch.zeros_like(over), self.draw())

    def draw(self) -> Tensor:
        return torch.full((2, 3, 8, 8), self.age, dtype=torch.uint8)


def test_collected_frames_travel_once() -> None:
    """To the policy; what is stored never leaves main memory."""
    episodes: list[Episode] = []

    def store(episode: Episode, episode_id: int | None) -> int:
        episodes.append(episode)
        return len(episodes) - 1

    collector = Collector(Games(), Still(), store, epsilon=0.0, device=ELSEWHERE)
    collector.begin()
    with Copies() as copies:
        for _ in range(6):
            collector.step()
    frames = [device for tensor, device, _ in copies.seen if tensor.dtype == torch.uint8]
    assert frames == [ELSEWHERE] * 6
    assert [episode.obs.device for episode in episodes] == [CPU] * 4
    assert episodes[-1].obs[:, 0, 0, 0].tolist() == [3, 4, 5]


@pytest.mark.parametrize("given", [{"a": [torch.zeros(2), None], "b": (1, "text")}, [], 3.5])
def test_gathered_values_keep_their_form(given: Any) -> None:
    assert str(in_main_memory(given)) == str(given)
