"""Networks: properties that recorded numbers do not show."""

import dataclasses

import pytest
import torch

from data import Batch, to_unit_range
from models.actor_critic import ActorCritic, ActorCriticConfig, Rollout
from models.blocks import SelfAttention2d
from models.diffusion import Denoiser, DenoiserConfig, DiffusionSampler, DiffusionSamplerConfig, InnerModelConfig
from models.losses import masked_mean, sample_categorical
from models.rew_end_model import RewEndModel, RewEndModelConfig


@pytest.fixture
def denoiser() -> Denoiser:
    return noisy(Denoiser(DenoiserConfig(InnerModelConfig(3, 2, 16, (1, 1), (8, 8), (0, 1), 4), 0.5, 0.3)))


@pytest.fixture
def rew_end_model() -> RewEndModel:
    return noisy(RewEndModel(RewEndModelConfig(16, 3, 8, 16, (1, 1), (8, 8), (0, 0), 4)))


@pytest.fixture
def actor_critic() -> ActorCritic:
    return noisy(ActorCritic(ActorCriticConfig(16, 3, 8, (8, 8), (1, 1), 4)))


def noisy(module: torch.nn.Module) -> torch.nn.Module:
    """The module with every parameter moved, so that zero-initialised layers have an effect."""
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module


def make_batch(b: int = 4, t: int = 4, size: int = 8) -> Batch:
    flags = torch.zeros(b, t, dtype=torch.uint8)
    frames = torch.randint(256, (b, t, 3, size, size), dtype=torch.uint8)
    final_obs = torch.randint(256, (b, 3, size, size), dtype=torch.uint8)
    mask = torch.ones(b, t, dtype=torch.bool)
    return Batch(frames, torch.randint(4, (b, t)), torch.randn(b, t).sign(), flags, flags.clone(), mask, final_obs)


def test_denoiser_loss_ignores_padded_targets(denoiser: Denoiser) -> None:
    batch = make_batch()
    mask = batch.mask_padding.clone()
    mask[0, -1] = False
    other = batch.obs.clone()
    other[0, -1] = 255
    losses = []
    for obs in (batch.obs, other):
        torch.manual_seed(1)
        losses.append(denoiser(dataclasses.replace(batch, obs=obs, mask_padding=mask))[0])
    assert losses[0] == losses[1]


def test_denoiser_feeds_predictions_into_later_steps(denoiser: Denoiser) -> None:
    """What the network sees at the second prediction: the first one, quantised, in place of the true frame."""
    batch, seen = make_batch(t=4), []
    denoiser.inner_model.register_forward_hook(lambda _, given, output: seen.append((*given, output)))
    denoiser(batch)
    (noisy, c_noise, first_obs, *_, output), (_, _, second_obs, *_) = seen
    history = second_obs * denoiser.config.sigma_data
    torch.testing.assert_close(first_obs * denoiser.config.sigma_data, batch.frames[:, :2].flatten(1, 2))
    torch.testing.assert_close(history[:, :3], batch.frames[:, 1])
    sigma = ((4 * c_noise).exp() ** 2 - denoiser.config.sigma_offset_noise**2).sqrt()
    scales = denoiser.parameterisation.conditioners(sigma)
    predicted = scales.denoised(noisy / scales.c_in, output).clamp(-1, 1)
    # Truncation to bytes takes away less than one grey level.
    assert ((predicted - history[:, 3:]) > -1e-3).all()
    assert ((predicted - history[:, 3:]) < 2 / 255 + 1e-3).all()
    assert not torch.allclose(history[:, 3:], batch.frames[:, 2], atol=0.05)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (21, 24)])
def test_any_frame_size(denoiser: Denoiser, size: tuple[int, int]) -> None:
    sampler = DiffusionSampler(denoiser, DiffusionSamplerConfig(2))
    frame, trajectory = sampler.sample(torch.zeros(2, 2, 3, *size), torch.zeros(2, 2, dtype=torch.int64))
    assert frame.shape == (2, 3, *size)
    assert len(trajectory) == 3
    levels = (frame + 1) / 2 * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)


def test_attention_plain_and_fused_agree() -> None:
    """bfloat16 on the CPU takes the plain operations, float32 the fused one."""
    attention = noisy(SelfAttention2d(32))
    x = torch.randn(2, 32, 8, 8)
    fused = attention(x)
    with torch.autocast("cpu", torch.bfloat16):
        plain = attention(x)
    assert (fused - plain).abs().max() < 0.05 * fused.abs().max()


def test_rew_end_model_sees_the_final_observation(rew_end_model: RewEndModel) -> None:
    batch = make_batch()
    batch.end[1, 1] = 1
    mask = batch.mask_padding.clone()
    mask[1, 2:] = False
    batch = dataclasses.replace(batch, mask_padding=mask)
    loss = rew_end_model(batch)[0]
    elsewhere = batch.final_obs.clone()
    elsewhere[[0, 2, 3]] = 0
    assert rew_end_model(dataclasses.replace(batch, final_obs=elsewhere))[0] == loss
    there = batch.final_obs.clone()
    there[1] = 0
    assert rew_end_model(dataclasses.replace(batch, final_obs=there))[0] != loss


def test_rew_end_model_memory_can_be_carried(rew_end_model: RewEndModel) -> None:
    frames, act = torch.rand(2, 6, 3, 8, 8), torch.randint(4, (2, 5))
    whole, *_ = rew_end_model.predict(frames[:, :-1], act, frames[:, 1:])
    first, _, hx_cx = rew_end_model.predict(frames[:, :3], act[:, :3], frames[:, 1:4])
    second, _, _ = rew_end_model.predict(frames[:, 3:5], act[:, 3:], frames[:, 4:], hx_cx)
    assert torch.allclose(whole, torch.cat((first, second), dim=1), atol=1e-6)


@pytest.mark.parametrize("how_often", [0.0, 0.2, 0.7, 1.1])
def test_actor_critic_replays_what_it_did(actor_critic: ActorCritic, how_often: float) -> None:
    """The batched pass has the loss and gradient of acting step by step, however many episodes begin in it."""
    t, b = 6, 3
    obs = torch.randint(256, (t, b, 3, 8, 8), dtype=torch.uint8)
    dead = torch.rand(t, b) < how_often
    before = (torch.randn(b, 16), torch.randn(b, 16))
    history = torch.randint(256, (t, b, 2, 3, 8, 8), dtype=torch.uint8)
    mask = torch.rand(t, b, 2) < 0.7
    hx_cx, logits, values = before, [], []
    for step in range(t):
        logit, value, hx_cx = actor_critic.predict(obs[step], hx_cx)
        logits.append(logit)
        values.append(value)
        fresh = actor_critic.burn_in(to_unit_range(history[step]) * mask[step, ..., None, None, None])
        hx_cx = tuple(torch.where(dead[step, :, None], new, old) for new, old in zip(fresh, hx_cx, strict=True))
    act, returns = torch.randint(4, (t, b)), torch.randn(t, b)
    logits, values = torch.stack(logits), torch.stack(values)
    policy = torch.distributions.Categorical(logits=logits)
    expected = (
        -(policy.log_prob(act) * (returns - values).detach()).mean()
        + (values - returns).pow(2).mean()
        - 0.001 * policy.entropy().mean()
    )
    loss, metrics = actor_critic(Rollout(obs, act, returns, before, dead, history, mask))
    assert torch.allclose(loss, expected, atol=1e-6)
    ours, theirs = [torch.autograd.grad(each, list(actor_critic.parameters())) for each in (loss, expected)]
    for gradient, wanted in zip(ours, theirs, strict=True):
        assert (gradient - wanted).norm() < 1e-4 * wanted.norm()
    assert torch.allclose(metrics["entropy"], policy.entropy().mean())


def test_masked_mean() -> None:
    values, mask = torch.tensor([1.0, 2.0, float("nan")]), torch.tensor([True, True, False])
    assert masked_mean(values, mask) == 1.5
    assert masked_mean(values, torch.zeros(3, dtype=torch.bool)) == 0


def test_sample_categorical_follows_the_logits() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    count = 100_000
    drawn = torch.bincount(sample_categorical(logits.expand(count, 4)), minlength=4)
    expected = logits.softmax(0) * count
    # 6 standard deviations: fails by chance in fewer than one of 10^7 tests.
    assert ((drawn - expected).abs() < 6 * expected.sqrt()).all()


def test_bf16_losses_are_close(denoiser: Denoiser, rew_end_model: RewEndModel) -> None:
    for model, batch in ((denoiser, make_batch(t=3)), (rew_end_model, make_batch())):
        losses = []
        for enabled in (False, True):
            torch.manual_seed(3)
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                losses.append(model(batch)[0])
        assert torch.allclose(*losses, rtol=0.02)
