"""DIAMOND's policy: actions are sampled from the actor-critic."""

import torch
from torch import Tensor

from models.actor_critic import ActorCritic
from models.blocks import LstmState
from models.losses import sample_categorical


class ActorCriticPolicy:
    """A `Policy` whose memory is the LSTM's state after the last frame."""

    def __init__(self, actor_critic: ActorCritic) -> None:
        self.actor_critic = actor_critic
        self.gamma = actor_critic.loss_config.gamma

    def initial(self, batch_size: int) -> LstmState:
        return self.actor_critic.initial_memory(batch_size)

    def act(self, obs: Tensor, memory: LstmState, is_first: Tensor) -> tuple[Tensor, LstmState]:
        hx_cx = tuple(torch.where(is_first[:, None], 0, part) for part in memory)
        logits, _, hx_cx = self.actor_critic.predict(obs, hx_cx)
        return sample_categorical(logits), hx_cx

    def thoughts(self, memory: LstmState) -> tuple[Tensor, Tensor]:
        logits, value = self.actor_critic.heads(memory[0])
        return logits.softmax(dim=-1), value
