"""DIAMOND's training: the batches of each component, the order of updates, and the imagined environment."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from agent import read_moments
from algorithms.base import Phase, Surroundings, Update
from algorithms.diamond.agent import DiamondAgent, fit_to_data
from algorithms.diamond.config import ActorCriticSection, DenoiserSection, DiamondConfig, RewEndSection
from algorithms.diamond.policy import ActorCriticPolicy
from component import Component, share_of_batch
from data import Draws, SegmentConfig, room_inside
from envs import WorldModelEnv
from errors import UserError
from models.actor_critic import Rollout
from models.blocks import recompute_activations
from models.metrics import Metrics
from optimizers import Moments
from rl.rollout import Rollouts
from run.device import autocast
from run.random_state import numpy_generator


def make_diamond(config: DiamondConfig, around: Surroundings) -> "Diamond":
    """Make the networks for the given data, and the components if there is experience to train them on."""
    agent = DiamondAgent(
        fit_to_data(config.agent, around.spaces),
        config.denoiser.sigma_distribution,
        config.upsampler and config.upsampler.sigma_distribution,
        config.actor_critic.actor_critic_loss,
    ).to(around.device)
    initialization = config.initialization
    # An agent that only acts gets whole weights afterwards; those it started from may be gone.
    if initialization.path_to_ckpt is not None and around.experience is not None:
        agent.load(Path(initialization.path_to_ckpt), initialization.components)
    if config.training.gradient_checkpointing:
        recompute_activations(agent)
    return Diamond(config, agent, around)


class Diamond:
    """Denoiser, upsampler and reward model are trained on segments, the policy in imagined rollouts.

    With `training.model_free` only the policy is trained, in the real game.
    """

    def __init__(self, config: DiamondConfig, agent: DiamondAgent, around: Surroundings) -> None:
        self.agent = agent
        self.policy = None if agent.actor_critic is None else ActorCriticPolicy(agent.actor_critic)
        self.components: dict[str, Component] = {}
        self._around = around
        self._collection = config.collection.train
        self._static = config.static_dataset
        self._world_model_env = config.world_model_env
        self._model_free = config.training.model_free
        self._offload_idle = config.training.offload_idle
        self._moments: dict[str, Moments] = {}
        if config.initialization.load_optimizer and around.experience is not None:
            self._moments["denoiser"] = read_moments(Path(config.initialization.path_to_ckpt))
        self._draws: dict[str, Draws] = {}
        self._rollouts: Rollouts | None = None
        if around.experience is None:
            return
        if not self._model_free:
            self._learn_the_world(config.denoiser, config.upsampler, config.rew_end_model)
            self._draw_starts(config.actor_critic.training.sample_weights)
        if agent.actor_critic is not None:
            self._learn_to_act(config.actor_critic)

    def phases(self, epoch: int) -> list[Phase]:
        """Collect, then update every component; each comes after the components that it depends on."""
        learning = [Update(name, each.training.updates(epoch)) for name, each in self.components.items()]
        if self._model_free or self._static.path is not None:
            return learning
        return [self._collection.collect(epoch), *learning]

    def world(self, num_envs: int) -> WorldModelEnv | None:
        if self._model_free:
            return None
        agent = self.agent
        n = agent.denoiser.num_steps_conditioning
        if draws := self._draws.get("starts"):
            draw, gather = draws, partial(draws.gather, self._around.experience)
        else:
            draw = partial(self._around.draw_starts, length=n, with_full_frames=agent.upsampler is not None)
            gather = None
        return WorldModelEnv(
            agent.denoiser, agent.rew_end_model, draw, self._world_model_env, num_envs, agent.upsampler, gather
        )

    def state_of_rank(self) -> dict[str, Any]:
        return {
            "draws": {name: draws.state_dict() for name, draws in self._draws.items()},
            "rollouts": None if self._rollouts is None else self._rollouts.state_dict(),
        }

    def load_state_of_rank(self, state: dict[str, Any]) -> None:
        if self._rollouts is not None:
            self._rollouts.load_state_dict(state["rollouts"])
        for name, draws in self._draws.items():
            draws.load_state_dict(state["draws"][name])

    def _learn_the_world(
        self, denoiser: DenoiserSection, upsampler: DenoiserSection | None, rew_end_model: RewEndSection
    ) -> None:
        self._learn_frames("denoiser", denoiser)
        if self.agent.upsampler is not None:
            self._check_full_frames()
            self._learn_frames("upsampler", upsampler, reads_full_frames=True)
        if self.agent.rew_end_model is not None:
            training = rew_end_model.training
            segments = SegmentConfig(training.seq_length, training.sample_weights, beyond_end=True)
            self._learn_segments("rew_end_model", rew_end_model, segments)

    def _draw_starts(self, sample_weights: tuple[float, ...] | None) -> None:
        """Let imagination start from experience."""
        n, has_upsampler = self.agent.denoiser.num_steps_conditioning, self.agent.upsampler is not None
        segments = SegmentConfig(n, sample_weights, reads_full_frames=has_upsampler)
        self._draws["starts"] = self._make_draws("starts", segments)

    def _learn_frames(self, name: str, section: DenoiserSection, reads_full_frames: bool = False) -> None:
        training = section.training
        length = getattr(self.agent, name).num_steps_conditioning + 1 + training.num_autoregressive_steps
        segments = SegmentConfig(
            length, training.sample_weights, False, reads_full_frames, training.only_whole_segments
        )
        room = room_inside(self._around.experience.replay.episode_lengths, length)
        if training.only_whole_segments:
            section = replace(section, training=training.over(name, int(room.sum())))
        self._learn_segments(name, section, segments)

    def _learn_segments(self, name: str, section: DenoiserSection | RewEndSection, segments: SegmentConfig) -> None:
        draws = self._draws[name] = self._make_draws(name, segments)
        share = share_of_batch(name, section.training, self._around.ranks)
        self._add(name, section, lambda: (draws(share), {}), test_draws=draws)

    def _learn_to_act(self, section: ActorCriticSection) -> None:
        around, loss = self._around, section.actor_critic_loss
        num_envs = share_of_batch("actor_critic", section.training, around.ranks)
        before_phase = None
        if self._model_free:
            env = around.make_env(num_envs, around.seed + 2 + around.ranks.rank)
        else:
            env = self.world(num_envs)
            env.check_rollout(loss.backup_every)
            # The experience and the networks have changed since these starts were drawn.
            before_phase = env.forget_starts
        self._rollouts = Rollouts(env, self.agent.actor_critic, loss)
        self._add("actor_critic", section, self._next_rollout, before_phase=before_phase)

    def _next_rollout(self) -> tuple[Rollout, Metrics]:
        with autocast(self._around.device, self._around.precision):
            return self._rollouts.collect()

    def _make_draws(self, name: str, segments: SegmentConfig) -> Draws:
        around = self._around
        if self._static.path is not None and self._static.ignore_sample_weights:
            segments = replace(segments, age_weights=None)
        generator = numpy_generator(around.seed, around.ranks.rank, *name.encode())
        return Draws(segments, around.experience, generator, around.device, self._static.num_workers)

    def _add(
        self,
        name: str,
        section: DenoiserSection | RewEndSection | ActorCriticSection,
        next_batch: Callable[[], tuple[Any, Metrics]],
        **options: Any,
    ) -> None:
        self.components[name] = Component(
            name,
            getattr(self.agent, name),
            next_batch,
            section.training,
            partial(section.optimizer.make, moments=self._moments.get(name)),
            self._around.precision,
            self._around.ranks,
            rests_in_memory=self._offload_idle,
            **options,
        )

    def _check_full_frames(self) -> None:
        """Raise UserError unless full-size frames are as large as the upsampler makes them."""
        full, factor = self._around.experience.full, self.agent.upsampler.config.upsampling_factor
        channels, height, width = self._around.spaces.frame
        if full.frame_shape != (channels, factor * height, factor * width):
            raise UserError(
                f"The frames in {full.folder} are {full.frame_shape}, but the upsampler makes them {factor} times as "
                f"large as {self._around.spaces.frame}: set agent.upsampler.upsampling_factor, or env.train.size."
            )
