"""Fills the replay columns of PPO again, if a checkpoint has lost them."""

import numpy as np
import torch
from tqdm import tqdm

from algorithms.model_free.frames import frames_before
from algorithms.model_free.ppo.policy import LOG_PROB, VALUE
from data import Replay, Segments
from models.model_free import PpoNetwork
from run.compiled import uncompiled

BATCH = 256


@torch.no_grad()
def rebuild(replay: Replay, network: PpoNetwork, num_frames: int, device: torch.device) -> None:
    """Log-probabilities and values of all steps, as if the network had acted as it is now."""
    lengths = replay.episode_lengths
    ids = np.repeat(np.arange(len(lengths)), lengths)
    steps = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    count = -(-len(ids) // BATCH)
    with uncompiled():
        for places in tqdm(Segments(ids, steps, 1).batches(BATCH), "Recomputing values", count, leave=False, delay=1):
            frames, _ = frames_before(replay, places, num_frames)
            logits, value = network.predict(frames.to(device))
            act = replay.gather(places).act.to(device)
            replay.write(LOG_PROB, places, logits.log_softmax(dim=-1).gather(-1, act))
            replay.write(VALUE, places, value[:, None])
