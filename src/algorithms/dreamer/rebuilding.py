"""Computes stored states again, from episodes and the present weights."""

import numpy as np
import torch
from tqdm import tqdm

from algorithms.dreamer.agent import DreamerAgent
from algorithms.dreamer.rows import DETER, INDEX
from data import Replay, Segments
from models.dreamer import State

NUM_EPISODES, LENGTH = 16, 64
"""Episodes that are followed at the same time, and steps that are encoded at once."""


@torch.no_grad()
def rebuild(replay: Replay, agent: DreamerAgent, device: torch.device) -> None:
    """Follow every episode of the replay from its beginning, and store the state after each step."""
    by_length = np.argsort(replay.episode_lengths, kind="stable")
    with tqdm(total=replay.num_steps, desc="Computing stored states", leave=False, disable=None, delay=1) as bar:
        for first in range(0, len(by_length), NUM_EPISODES):
            _follow(replay, agent, by_length[first : first + NUM_EPISODES], device, bar)


def _follow(replay: Replay, agent: DreamerAgent, ids: np.ndarray, device: torch.device, bar: tqdm) -> None:
    rssm, lengths = agent.rssm, replay.episode_lengths[ids]
    state, before = rssm.initial(len(ids)), torch.zeros(len(ids), 1, dtype=torch.int64, device=device)
    for start in range(0, int(lengths.max()), LENGTH):
        segments = Segments(ids, np.full(len(ids), start), LENGTH)
        batch = replay.gather(segments).to(device)
        is_first = torch.zeros(len(ids), LENGTH, dtype=torch.bool, device=device)
        is_first[:, 0] = start == 0
        acts = torch.cat((before, batch.act[:, :-1]), dim=1)
        observed = rssm.observe(state, agent.encoder(batch.obs), acts, is_first)
        # Steps beyond the end of an episode are not written.
        replay.write(DETER, segments, observed.state.deter)
        replay.write(INDEX, segments, observed.index)
        state, before = State(observed.state.deter[:, -1], observed.state.stoch[:, -1]), batch.act[:, -1:]
        bar.update(int(np.clip(lengths - start, 0, LENGTH).sum()))
