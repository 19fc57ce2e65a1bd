"""Double DQN: its networks, and a policy that takes the action of the largest value."""

import copy

from torch import Tensor
from torch.nn import functional as F

from agent import Agent
from algorithms.base import Surroundings
from algorithms.model_free.config import require_numbered
from algorithms.model_free.ddqn.config import DdqnConfig
from algorithms.model_free.frames import FrameStack
from algorithms.model_free.off_policy import OffPolicy
from models.model_free import DoubleDqnLearner, Network

NAME = "ddqn"
FRAMES, VALUES = "frames", "values"
Memory = dict[str, Tensor]


def make_ddqn(config: DdqnConfig, around: Surroundings) -> OffPolicy:
    """Make the networks for the given data, and the component that trains them if there is experience."""
    frame = around.spaces.frame
    online = Network(config.agent, frame, require_numbered(around.spaces, NAME))
    target = copy.deepcopy(online).requires_grad_(False)
    agent = Agent({"online": online, "target": target}).to(around.device)
    policy = DdqnPolicy(online, FrameStack(config.agent.num_frames, frame, around.device))
    return OffPolicy(NAME, config, config.ddqn, agent, policy, DoubleDqnLearner(online, target), config.explore, around)


class DdqnPolicy:
    """A `Policy` whose memory is the latest frames, and the values of the actions there."""

    def __init__(self, online: Network, stack: FrameStack) -> None:
        self._online, self._stack = online, stack

    def initial(self, batch_size: int) -> Memory:
        head = self._online.head
        return {FRAMES: self._stack.initial(batch_size), VALUES: head.bias.new_zeros(batch_size, head.out_features)}

    def act(self, obs: Tensor, memory: Memory, is_first: Tensor) -> tuple[Tensor, Memory]:
        frames = self._stack.push(memory[FRAMES], obs, is_first)
        values = self._online(frames)
        return values.argmax(dim=-1), {FRAMES: frames, VALUES: values}

    def thoughts(self, memory: Memory) -> tuple[Tensor, Tensor]:
        values = memory[VALUES]
        return F.one_hot(values.argmax(dim=-1), values.size(-1)).float(), values.amax(dim=-1)
