"""Every network with frames of any shape and actions of any kind."""

import dataclasses

import pytest
import torch
from torch import Tensor

from data import Batch
from errors import UserError
from models.actor_critic import ActorCritic, ActorCriticConfig
from models.diffusion import Denoiser, DenoiserConfig, DiffusionSampler, DiffusionSamplerConfig, InnerModelConfig
from models.rew_end_model import RewEndModel, RewEndModelConfig

B, T, N = 2, 3, 2
SHAPES = [(1, 16, 24), (3, 24, 16), (1, 10, 7)]


def make_batch(shape: tuple[int, int, int], act: Tensor) -> Batch:
    flags = torch.zeros(B, T, dtype=torch.uint8)
    frames = torch.randint(256, (B, T, *shape), dtype=torch.uint8)
    return Batch(frames, act, torch.randn(B, T), flags, flags, torch.ones(B, T, dtype=torch.bool), frames[:, 0])


def make_denoiser(channels: int, num_actions: int) -> Denoiser:
    network = InnerModelConfig(channels, N, 16, (1, 1), (8, 8), (0, 0), num_actions)
    return moved(Denoiser(DenoiserConfig(network, 0.5, 0.3)))


def make_rew_end_model(shape: tuple[int, int, int], num_actions: int) -> RewEndModel:
    channels, *size = shape
    return moved(RewEndModel(RewEndModelConfig(8, channels, tuple(size), 8, (1, 1), (8, 8), (0, 0), num_actions)))


def moved(module: torch.nn.Module) -> torch.nn.Module:
    """The module with every parameter changed, because layers at zero block gradients."""
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module


@pytest.mark.parametrize("shape", SHAPES)
def test_frames_of_any_shape(shape: tuple[int, int, int]) -> None:
    channels, *size = shape
    batch = make_batch(shape, torch.randint(4, (B, T)))
    for model in (make_denoiser(channels, 4), make_rew_end_model(shape, 4)):
        model(batch)[0].backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    sampler = DiffusionSampler(make_denoiser(channels, 4), DiffusionSamplerConfig(2))
    assert sampler.sample(batch.frames[:, :N], batch.act[:, :N])[0].shape == (B, *shape)
    policy = ActorCritic(ActorCriticConfig(8, channels, tuple(size), (8, 8), (1, 1), 4))
    logits, value, _ = policy.predict(batch.obs[:, 0], policy.initial_memory(B))
    assert (logits.shape, value.shape) == ((B, 4), (B,))


def test_one_number_is_the_side_of_a_square() -> None:
    config = ActorCriticConfig(8, 3, 16, (8, 8), (1, 1), 4)
    policies = [ActorCritic(dataclasses.replace(config, img_size=size)) for size in (16, (16, 16))]
    names = [{name: value.shape for name, value in policy.state_dict().items()} for policy in policies]
    assert names[0] == names[1]
    with pytest.raises(UserError, match=r"img_size=\[16, 16, 3\]"):
        ActorCritic(dataclasses.replace(config, img_size=(16, 16, 3)))


ACTIONS = {
    "numbered": (4, lambda: torch.randint(4, (B, T))),
    "multi-hot": (5, lambda: torch.randint(2, (B, T, 5), dtype=torch.uint8)),
    "continuous": (6, lambda: torch.randn(B, T, 6)),
    "none": (0, lambda: torch.zeros(B, T, 0)),
}


@pytest.mark.parametrize("kind", ACTIONS)
def test_actions_of_any_kind(kind: str) -> None:
    num_actions, draw = ACTIONS[kind]
    batch = make_batch((3, 8, 8), draw())
    denoiser, rew_end_model = make_denoiser(3, num_actions), make_rew_end_model((3, 8, 8), num_actions)
    other = dataclasses.replace(batch, act=draw())
    for model in (denoiser, rew_end_model):
        losses = []
        for each in (batch, other):
            torch.manual_seed(1)
            losses.append(model(each)[0])
        losses[0].backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters() if "act_emb" in name}
        (gradient,) = gradients.values()
        assert len(gradient) == num_actions
        if kind == "none":
            assert losses[0] == losses[1]
        else:
            assert losses[0] != losses[1]
            assert gradient.norm() > 0
    sampler = DiffusionSampler(denoiser, DiffusionSamplerConfig(2))
    assert sampler.sample(batch.frames[:, :N], batch.act[:, :N])[0].shape == (B, 3, 8, 8)
    logits_rew, logits_end, _ = rew_end_model.predict(batch.frames, batch.act, batch.frames)
    assert (logits_rew.shape, logits_end.shape) == ((B, T, 3), (B, T, 2))


def test_a_numbered_action_is_the_multi_hot_one_with_one_entry() -> None:
    model, frames, act = make_rew_end_model((3, 8, 8), 4), torch.rand(B, T, 3, 8, 8), torch.randint(4, (B, T))
    as_vectors = torch.nn.functional.one_hot(act, 4).to(torch.uint8)
    numbered, multi_hot = model.predict(frames, act, frames)[0], model.predict(frames, as_vectors, frames)[0]
    torch.testing.assert_close(numbered, multi_hot)


def test_layer_numbers_skip_missing_pooling() -> None:
    """A level without pooling has no layer there, so later layers have smaller numbers (REFERENCE, section 8)."""
    policy = ActorCritic(ActorCriticConfig(8, 3, 16, (8, 8, 16), (1, 0, 1), 4))
    numbers = {int(name.split(".")[2]) for name in policy.state_dict() if name.startswith("encoder.")}
    # Convolution, block, pooling, block, block, pooling: layers 2 and 5 have no weights.
    assert numbers == {0, 1, 3, 4}
    assert policy.lstm.input_size == 16 * 4 * 4
    assert policy.encode(torch.zeros(B, 3, 16, 16)).shape == (B, 16 * 4 * 4)
