"""Discrete SAC: its networks, and a policy that samples actions."""

import copy

import torch
from torch import Tensor

from agent import Agent
from algorithms.base import Surroundings
from algorithms.model_free.config import require_numbered
from algorithms.model_free.frames import FrameStack
from algorithms.model_free.off_policy import OffPolicy
from algorithms.model_free.sac.config import SacConfig
from models.losses import sample_categorical
from models.model_free import DiscreteSacLearner, Network, Temperature
from run.device import autocast

NAME = "sac"
FRAMES, LOGITS = "frames", "logits"
Memory = dict[str, Tensor]


def make_sac(config: SacConfig, around: Surroundings) -> OffPolicy:
    """Make the networks for the given data, and the component that trains them if there is experience."""
    frame, num_actions = around.spaces.frame, require_numbered(around.spaces, NAME)
    actor, first, second = (Network(config.agent, frame, num_actions) for _ in range(3))
    critics = (first, second)
    targets = tuple(copy.deepcopy(each).requires_grad_(False) for each in critics)
    temperature = Temperature(config.sac.temperature)
    networks = {"actor": actor, "critic_1": first, "critic_2": second, "target_1": targets[0], "target_2": targets[1]}
    agent = Agent({**networks, "temperature": temperature}).to(around.device)
    policy = SacPolicy(actor, critics, FrameStack(config.agent.num_frames, frame, around.device), around.precision)
    learner = DiscreteSacLearner(actor, critics, targets, temperature, config.sac.target_entropy(num_actions))
    return OffPolicy(NAME, config, config.sac, agent, policy, learner, config.explore, around)


class SacPolicy:
    """A `Policy` whose memory is the latest frames, and the logits there."""

    def __init__(
        self, actor: Network, critics: tuple[Network, Network], stack: FrameStack, precision: torch.dtype
    ) -> None:
        """Critics run in `precision`."""
        self._actor, self._critics, self._stack = actor, critics, stack
        self._precision = precision

    def initial(self, batch_size: int) -> Memory:
        head = self._actor.head
        return {FRAMES: self._stack.initial(batch_size), LOGITS: head.bias.new_zeros(batch_size, head.out_features)}

    def act(self, obs: Tensor, memory: Memory, is_first: Tensor) -> tuple[Tensor, Memory]:
        frames = self._stack.push(memory[FRAMES], obs, is_first)
        logits = self._actor(frames)
        return sample_categorical(logits), {FRAMES: frames, LOGITS: logits}

    def thoughts(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """The probabilities, and the expected value; only here, the critics are needed for acting."""
        probs, frames = memory[LOGITS].softmax(dim=-1), memory[FRAMES]
        with autocast(frames.device, self._precision):
            values = torch.minimum(*(critic(frames) for critic in self._critics))
        return probs, (probs * values).sum(dim=-1)
