"""PPO's policy: it samples actions, and keeps what it thought of them for the updates."""

from collections.abc import Mapping

import torch
from torch import Tensor

from algorithms.model_free.frames import FrameStack
from models.losses import sample_categorical
from models.model_free import PpoNetwork

Memory = dict[str, Tensor]
FRAMES, LOGITS, ACT = "frames", "logits", "act"
LOG_PROB, VALUE = "log_prob", "value"
"""Replay columns: of the policy that acted."""


class PpoPolicy:
    """A `Policy` whose memory is the latest frames, and its thoughts about them."""

    def __init__(self, network: PpoNetwork, stack: FrameStack) -> None:
        self._network, self._stack = network, stack

    def initial(self, batch_size: int) -> Memory:
        frames, actor = self._stack.initial(batch_size), self._network.actor
        logits = actor.bias.new_zeros(batch_size, actor.out_features)
        act = torch.zeros(batch_size, dtype=torch.int64, device=frames.device)
        return {FRAMES: frames, LOGITS: logits, VALUE: logits[:, 0], ACT: act}

    def act(self, obs: Tensor, memory: Memory, is_first: Tensor) -> tuple[Tensor, Memory]:
        frames = self._stack.push(memory[FRAMES], obs, is_first)
        logits, value = self._network.predict(frames)
        act = sample_categorical(logits)
        return act, {FRAMES: frames, LOGITS: logits, VALUE: value, ACT: act}

    def took(self, memory: Memory, act: Tensor) -> Memory:
        """The memory, if the actions (b) were taken instead of those that `act` returned."""
        return {**memory, ACT: act}

    def columns(self, memory: Memory) -> Mapping[str, Tensor]:
        """The log-probability of the action and the value (b), to store in the replay with the step."""
        log_probs = memory[LOGITS].log_softmax(dim=-1)
        return {LOG_PROB: log_probs.gather(-1, memory[ACT][:, None]).squeeze(-1), VALUE: memory[VALUE]}

    def thoughts(self, memory: Memory) -> tuple[Tensor, Tensor]:
        return memory[LOGITS].softmax(dim=-1), memory[VALUE]
