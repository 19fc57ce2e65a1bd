"""DreamerV3's policy: it follows the frames with the recurrent model, and samples actions."""

from collections.abc import Mapping

import torch
from torch import Tensor

from algorithms.dreamer.agent import DreamerAgent
from algorithms.dreamer.rows import DETER, INDEX
from data import to_bytes
from models.dreamer import State, TwoHot
from models.losses import sample_categorical

Memory = dict[str, Tensor]
ACT = "act"


class DreamerPolicy:
    """A `Policy` whose memory is the state after the last frame, and the action taken at it."""

    def __init__(self, agent: DreamerAgent) -> None:
        self.agent = agent
        self._two_hot = TwoHot(agent.rssm.config.bins).to(agent.rssm.gates.weight.device)

    def initial(self, batch_size: int) -> Memory:
        state = self.agent.rssm.initial(batch_size)
        act = torch.zeros(batch_size, dtype=torch.int64, device=state.deter.device)
        return {DETER: state.deter, INDEX: state.stoch.argmax(dim=-1), ACT: act}

    def act(self, obs: Tensor, memory: Memory, is_first: Tensor) -> tuple[Tensor, Memory]:
        agent = self.agent
        tokens = agent.encoder(to_bytes(obs))
        observed = agent.rssm.observe(self._state(memory), tokens[:, None], memory[ACT][:, None], is_first[:, None])
        deter, index = observed.state.deter[:, 0], observed.index[:, 0]
        act = sample_categorical(agent.actor(observed.state.features[:, 0]))
        return act, {DETER: deter, INDEX: index, ACT: act}

    def took(self, memory: Memory, act: Tensor) -> Memory:
        """The memory, if the actions (b) were taken instead of those that `act` returned."""
        return {**memory, ACT: act}

    def columns(self, memory: Memory) -> Mapping[str, Tensor]:
        """The state (b, …) to store in the replay with the step."""
        return {name: memory[name] for name in (DETER, INDEX)}

    def thoughts(self, memory: Memory) -> tuple[Tensor, Tensor]:
        features = self._state(memory).features
        return self.agent.actor(features).softmax(dim=-1), self._two_hot.mean(self.agent.critic(features))

    def _state(self, memory: Memory) -> State:
        return State(memory[DETER], self.agent.rssm.one_hot(memory[INDEX]))
