"""DIAMOND's networks, sized for the frames and actions of the data."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from agent import Agent, AgentConfig
from data import Spaces
from errors import UserError
from models.actor_critic import ActorCritic, ActorCriticLossConfig
from models.diffusion import Denoiser, SigmaDistributionConfig
from models.rew_end_model import RewEndModel
from ranges import BadSetting


class DiamondAgent(Agent):
    """A denoiser, and optionally an upsampler, a reward and termination model, and an actor-critic."""

    denoiser: Denoiser
    upsampler: Denoiser | None
    rew_end_model: RewEndModel | None
    actor_critic: ActorCritic | None

    def __init__(
        self,
        config: AgentConfig,
        noise: SigmaDistributionConfig | None = None,
        upsampler_noise: SigmaDistributionConfig | None = None,
        policy_loss: ActorCriticLossConfig | None = None,
    ) -> None:
        """`noise`, `upsampler_noise` and `policy_loss` are used in training only."""
        upsampler, rew_end_model, actor_critic = config.upsampler, config.rew_end_model, config.actor_critic
        super().__init__(
            {
                "denoiser": Denoiser(config.denoiser, noise or SigmaDistributionConfig()),
                "upsampler": upsampler and Denoiser(upsampler, upsampler_noise or SigmaDistributionConfig()),
                "rew_end_model": rew_end_model and RewEndModel(rew_end_model),
                "actor_critic": actor_critic and ActorCritic(actor_critic, policy_loss or ActorCriticLossConfig()),
            }
        )


def fit_to_data(config: AgentConfig, spaces: Spaces) -> AgentConfig:
    """The configuration adapted to the data's frames and actions.

    Raises UserError if there is a policy and the actions are not numbered.
    """
    channels, height, width = spaces.frame
    frame = {"img_channels": channels, "img_size": height if height == width else (height, width)}
    if config.actor_critic is not None and spaces.actions.kind != "numbered":
        raise UserError(
            f"The actions of this data are {spaces.actions.kind}, and the actor-critic needs numbered ones: "
            "set agent.actor_critic=null."
        )
    fitted = {}
    for name in ("denoiser", "upsampler"):
        if (own := getattr(config, name)) is not None:
            try:
                fitted[name] = own.fit(channels, height, width)
            except BadSetting as error:
                raise UserError(f"agent.{name}.inner_model.{error}") from None
    for name in ("rew_end_model", "actor_critic"):
        if (own := getattr(config, name)) is not None:
            fitted[name] = replace(own, **frame)
    return replace(config, num_actions=spaces.actions.size, **fitted)


def count_actions(weights: Mapping[str, Tensor]) -> int:
    """The number of actions that an agent was made for; raises UserError if it has no denoiser."""
    embedding = weights.get("denoiser.inner_model.act_emb.0.weight")
    if embedding is None:
        raise UserError("These weights have no denoiser: there is no world model to play.")
    return len(embedding)
