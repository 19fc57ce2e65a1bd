"""Denoising diffusion with numbered steps, where the right answer is known in closed form."""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from data import Batch
from models.diffusion import (
    ConditionalUNetConfig,
    CosineScheduleConfig,
    Denoiser,
    DenoiserConfig,
    DiffusionSampler,
    DiffusionSamplerConfig,
    InnerModelConfig,
    LinearScheduleConfig,
    RespacedSamplerConfig,
    Schedule,
    SigmaDistributionConfig,
)
from models.diffusion.parameterisation import VariancePreserving
from models.diffusion.samplers import ddim, euler
from models.diffusion.schedules import respaced_steps
from ranges import BadSetting

CENTRES, WIDTH, SHARE = (-0.5, 0.4), 0.15, 0.3
"""Two Gaussians per pixel, and the share of the first."""
MEAN = SHARE * CENTRES[0] + (1 - SHARE) * CENTRES[1]
VARIANCE = WIDTH**2 + SHARE * (1 - SHARE) * (CENTRES[1] - CENTRES[0]) ** 2


def two_gaussians(x: Tensor, sigma: Tensor) -> Tensor:
    """The best denoiser of that distribution."""
    level = sigma[:, None, None, None] ** 2
    total = WIDTH**2 + level
    logits = torch.stack([-((x - centre) ** 2) / (2 * total) for centre in CENTRES])
    shares = torch.tensor([SHARE, 1 - SHARE]).log()[:, None, None, None, None]
    weights = (logits + shares).softmax(dim=0)
    means = torch.stack([(centre * level + x * WIDTH**2) / total for centre in CENTRES])
    return (weights * means).sum(dim=0)


@pytest.mark.parametrize(
    ("schedule", "num_steps", "eta", "bias"),
    [
        (LinearScheduleConfig(1000), 1000, 1.0, 0.002),
        (LinearScheduleConfig(1000), 250, 1.0, 0.004),
        (LinearScheduleConfig(1000), 100, 0.0, 0.004),
        (LinearScheduleConfig(1000), 100, 0.5, 0.006),
        (CosineScheduleConfig(100), 100, 1.0, 0.008),
        (CosineScheduleConfig(100), 50, 0.0, 0.008),
    ],
    ids=["ancestral", "respaced", "DDIM", "between", "cosine", "cosine DDIM"],
)
def test_mean_and_variance_of_samples(schedule: LinearScheduleConfig, num_steps: int, eta: float, bias: float) -> None:
    """Samples have the mean and the variance of the data.

    `bias` is what the finite number of steps may change. Beyond it, the mean and the variance of n samples are off by
    five of their standard errors in fewer than one of 10^6 runs; the kurtosis of the data is below 3, so that of the
    variance is at most sqrt(2 / n)·variance.
    """
    levels = Schedule(schedule).sigmas[respaced_steps(schedule.num_steps, num_steps)].tolist()
    count = 40_000
    x = torch.randn(count, 1, 1, 1) * math.sqrt(1 + levels[0] ** 2)
    sample = ddim(two_gaussians, x, [*levels, 0.0], eta)[-1]
    assert float(sample.mean()) == pytest.approx(MEAN, abs=bias + 5 * math.sqrt(VARIANCE / count))
    assert float(sample.var()) == pytest.approx(VARIANCE, abs=bias + 5 * math.sqrt(2 / count) * VARIANCE)
    # Both Gaussians have their share, whose standard error is sqrt(p (1 - p) / n).
    share = float((sample < sum(CENTRES) / 2).float().mean())
    assert share == pytest.approx(SHARE + OVERLAP, abs=2 * bias + 5 * math.sqrt(SHARE * (1 - SHARE) / count))


def below(limit: float, centre: float) -> float:
    """The probability that a Gaussian of this centre is below a limit."""
    return 0.5 * (1 + math.erf((limit - centre) / (WIDTH * math.sqrt(2))))


LIMIT = sum(CENTRES) / 2
OVERLAP = SHARE * below(LIMIT, CENTRES[0]) + (1 - SHARE) * below(LIMIT, CENTRES[1]) - SHARE


def test_the_posterior_of_one_step_for_a_jump_is_wrong() -> None:
    """What the published Breakout does with its ten of a hundred steps: the variance is far off."""
    schedule = Schedule(CosineScheduleConfig(100))
    steps = [int(step) for step in np.linspace(99, 0, 10)]
    x = torch.randn(20_000, 1, 1, 1)
    for step in steps:
        before = float(schedule.sigmas[step - 1]) if step > 0 else 0.0
        scaled = x * math.sqrt(1 + schedule.sigmas[step] ** 2)
        x = ddim(two_gaussians, scaled, [float(schedule.sigmas[step]), before], 1.0)[-1] / math.sqrt(1 + before**2)
    assert abs(float(x.var()) - VARIANCE) > 0.05


def test_without_noise_it_is_eulers_method() -> None:
    levels, x = [4.0, 2.0, 0.7, 0.0], 4 * torch.randn(2, 1, 3, 3)
    for ours, theirs in zip(ddim(two_gaussians, x, levels), euler(two_gaussians, x, levels), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_published_values_of_the_schedules() -> None:
    linear, cosine = Schedule(LinearScheduleConfig(1000)), Schedule(CosineScheduleConfig(100))
    assert linear.alphas_cumprod[[0, 250, 500, 750]] == pytest.approx([0.9999, 0.5214, 0.0778, 0.0033], abs=5e-5)
    assert linear.alphas_cumprod[999] == pytest.approx(4.04e-5, rel=1e-2)
    assert (cosine.betas[0], cosine.alphas_cumprod[50]) == pytest.approx((6e-4, 0.478), rel=6e-2)
    assert cosine.alphas_cumprod[99] == pytest.approx(2.4e-8, rel=2e-2)
    assert sum(Schedule(CosineScheduleConfig(1000)).betas <= 1e-4) == 13


def test_respaced_steps() -> None:
    assert respaced_steps(1000, 3) == [666, 333, 0]
    assert respaced_steps(1000, 1) == [500]
    assert respaced_steps(8, 8) == [7, 6, 5, 4, 3, 2, 1, 0]
    with pytest.raises(ValueError, match="9 steps of a schedule of 8"):
        respaced_steps(8, 9)


def test_a_denoiser_without_steps_has_none_to_take() -> None:
    with pytest.raises(BadSetting, match="schedule=null needs a denoiser with a schedule"):
        DiffusionSampler(make_denoiser(Choice("inner model", "edm", None)), RespacedSamplerConfig(3))
    denoiser = make_denoiser(Choice("inner model", "eps", LinearScheduleConfig(8)))
    with pytest.raises(BadSetting, match="num_steps_denoising=9 is too many: there are 8"):
        DiffusionSampler(denoiser, RespacedSamplerConfig(9))


@dataclass(frozen=True)
class Choice:
    network: str
    parameterisation: str
    schedule: LinearScheduleConfig | CosineScheduleConfig | None


NETWORKS = {
    "inner model": InnerModelConfig(3, 1, 8, (1, 1), (8, 8), (0, 0), 4),
    "conditional U-Net": ConditionalUNetConfig(
        3,
        1,
        8,
        (1, 1),
        1,
        (4,),
        8,
        16,
        0.0,
        initial_img_resolution=8,
        num_heads_attn=2,
        num_groups_norm=4,
        num_actions=4,
    ),
}
NOISES = (None, LinearScheduleConfig(20), CosineScheduleConfig(20))
CHOICES = [Choice(*each) for each in itertools.product(NETWORKS, ("edm", "eps", "v"), NOISES)]
SAMPLERS = {
    "Euler": DiffusionSamplerConfig(3, order=1),
    "Heun": DiffusionSamplerConfig(3, order=2),
    "ancestral": RespacedSamplerConfig(3, 1.0, LinearScheduleConfig(20)),
    "DDIM": RespacedSamplerConfig(3, 0.0, LinearScheduleConfig(20)),
}


def make_denoiser(choice: Choice) -> Denoiser:
    sigma_data = 0.5 if choice.parameterisation == "edm" else None
    config = DenoiserConfig(
        NETWORKS[choice.network], sigma_data, 0.1, None, None, choice.parameterisation, choice.schedule
    )
    return Denoiser(config, SigmaDistributionConfig())


def make_batch(b: int, t: int) -> Batch:
    blank = torch.zeros(b, t)
    frames, act = torch.randint(256, (b, t, 3, 8, 8), dtype=torch.uint8), torch.randint(4, (b, t))
    return Batch(frames, act, blank, blank.byte(), blank.byte(), torch.ones(b, t, dtype=torch.bool), frames[:, 0])


@pytest.mark.parametrize("choice", CHOICES, ids=lambda each: f"{each.network}-{each.parameterisation}-{each.schedule}")
def test_every_choice_goes_with_every_other(choice: Choice) -> None:
    denoiser = make_denoiser(choice)
    loss, _ = denoiser(make_batch(2, 2))
    loss.backward()
    assert all(each.grad.isfinite().all() for each in denoiser.parameters() if each.grad is not None)
    obs, act = torch.zeros(2, 1, 3, 8, 8), torch.zeros(2, 1, dtype=torch.int64)
    for sampler in SAMPLERS.values():
        sample, trajectory = DiffusionSampler(denoiser, sampler).sample(obs, act)
        assert (len(trajectory), sample.shape) == (4, (2, 3, 8, 8))
        levels = (sample + 1) / 2 * 255
        torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("parameterisation", ["edm", "eps", "v"])
@pytest.mark.parametrize("sigma", [0.01, 1.0, 50.0])
def test_the_target_of_the_network_gives_the_frame_back(parameterisation: str, sigma: float) -> None:
    denoiser, clean = make_denoiser(Choice("inner model", parameterisation, None)), torch.rand(2, 3, 8, 8) * 2 - 1
    scales = denoiser.parameterisation.conditioners(torch.full((2,), sigma))
    noisy = denoiser.parameterisation.add_noise(clean, torch.full((2,), sigma), torch.randn)
    torch.testing.assert_close(scales.denoised(noisy, scales.target(clean, noisy)), clean, atol=1e-4, rtol=0)


def test_targets_of_the_noise_and_of_its_mixture_with_the_frame() -> None:
    """ε, and v = sqrt(ᾱ)·ε − sqrt(1 − ᾱ)·x_0, at ᾱ = 0.2, without offset noise."""
    clean, noise, kept = torch.rand(2, 1, 4, 4), torch.randn(2, 1, 4, 4), 0.2
    sigma = torch.full((2,), math.sqrt((1 - kept) / kept))
    wanted = {"eps": noise, "v": math.sqrt(kept) * noise - math.sqrt(1 - kept) * clean}
    for name, target in wanted.items():
        scales = VariancePreserving(name, 0.0).conditioners(sigma)
        noisy = clean + sigma[:, None, None, None] * noise
        torch.testing.assert_close(scales.target(clean, noisy), target, atol=1e-5, rtol=0)
        in_network = math.sqrt(kept) * clean + math.sqrt(1 - kept) * noise
        torch.testing.assert_close(scales.network_input(noisy), in_network, atol=1e-5, rtol=0)


def test_levels_between_two_steps_lie_between_their_numbers() -> None:
    denoiser = make_denoiser(Choice("conditional U-Net", "eps", LinearScheduleConfig(1000)))
    steps = torch.arange(1000)
    assert torch.equal(denoiser.embed_level(denoiser.sigmas), steps.float())
    between = (denoiser.sigmas[300] * denoiser.sigmas[301]).sqrt()[None]
    assert float(denoiser.embed_level(between)) == pytest.approx(300.5, abs=0.02)
    beyond = torch.tensor([1e-6, 1e6])
    assert denoiser.embed_level(beyond).tolist() == [0, 999]


def test_networks_without_conditioning_ignore_actions() -> None:
    choice = Choice("inner model", "eps", LinearScheduleConfig(20))
    denoiser = make_denoiser(choice)
    config = replace(denoiser.config, conditioning="none").with_actions(2)
    blind = Denoiser(config)
    assert not any(name.startswith("inner_model.act_emb") for name, each in blind.named_parameters() if each.numel())
    obs, sigma = torch.zeros(2, 1, 3, 8, 8), torch.ones(2)
    found = [blind.denoise(obs[:, 0], sigma, obs, torch.full((2, 1), act)) for act in (0, 1)]
    assert torch.equal(*found)
