"""DreamerV3's networks, sized for the frames and actions of the data."""

import copy
from collections.abc import Mapping

from torch import Tensor, nn

from agent import Agent
from data import Spaces
from errors import UserError
from models.dreamer import Decoder, Encoder, Mlp, NetworkConfig, ReturnRange, Rssm

ACTOR_SCALE = 0.01
"""Scale of the actor's initial output weights. The output weights of reward and critic begin at zero."""


class DreamerAgent(Agent):
    """The world model (encoder, rssm, decoder, reward, continue), actor, critic, slow critic and range of returns."""

    encoder: Encoder
    rssm: Rssm
    decoder: Decoder
    actor: Mlp
    critic: Mlp

    def __init__(self, config: NetworkConfig, spaces: Spaces) -> None:
        """Raises UserError if the actions are not numbered, or the frames of another size than 16 to 128."""
        frame, actions = spaces.frame, spaces.actions
        if actions.kind != "numbered":
            raise UserError(f"The actions of this data are {actions.kind}, and algorithm=dreamer needs numbered ones.")
        encoder, num_features = Encoder(config, frame), config.num_features
        critic = Mlp(num_features, config.bins, config.units, config.critic_layers, output_scale=0.0)
        slow_critic = copy.deepcopy(critic).requires_grad_(False)
        super().__init__(
            {
                "encoder": encoder,
                "rssm": Rssm(config, actions.size, encoder.num_tokens),
                "decoder": Decoder(config, frame),
                "reward": Mlp(num_features, config.bins, config.units, config.reward_layers, output_scale=0.0),
                "continue": Mlp(num_features, 1, config.units, config.continue_layers),
                "actor": Mlp(num_features, actions.size, config.units, config.actor_layers, ACTOR_SCALE),
                "critic": critic,
                "slow_critic": slow_critic,
                "return_range": ReturnRange(),
            }
        )

    @property
    def trained_networks(self) -> dict[str, nn.Module]:
        """The networks that gradients reach, by name."""
        return {name: each for name, each in self.named_children() if any(p.requires_grad for p in each.parameters())}


def count_actions(weights: Mapping[str, Tensor]) -> int:
    """The number of actions that an agent was made for; raises UserError if it has no actor."""
    bias = weights.get("actor.out.bias")
    if bias is None:
        raise UserError("These weights have no actor: they are not of algorithm=dreamer.")
    return len(bias)
