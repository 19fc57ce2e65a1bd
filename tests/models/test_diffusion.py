"""The four choices of a diffusion model, each on its own, where the right answer is known in closed form."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.diffusion import (
    Denoiser,
    DenoiserConfig,
    DiffusionSampler,
    DiffusionSamplerConfig,
    InnerModelConfig,
    SigmaDistributionConfig,
    build_sigmas,
)
from models.diffusion.parameterisation import EDM
from models.diffusion.samplers import NO_CHURN, Churn, euler, heun

SIGMA_DATA = 0.5


class Counting:
    """`torch.randn` that remembers the shapes it was asked for."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, *shape: int, device: torch.device) -> Tensor:
        self.shapes.append(shape)
        return torch.randn(*shape, device=device)


def gaussian_denoise(x: Tensor, sigma: Tensor) -> Tensor:
    """The best denoiser of frames whose every pixel is drawn from N(0, SIGMA_DATA²)."""
    assert sigma.shape == (len(x),)
    return x * (SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2))[:, None, None, None]


def gaussian_sample(x: Tensor, sigma_max: float) -> Tensor:
    """Where the probability flow of that distribution leads from `x` at level `sigma_max` to level 0."""
    return x * SIGMA_DATA / math.sqrt(SIGMA_DATA**2 + sigma_max**2)


def test_target_and_denoised_frame_are_inverse() -> None:
    scales = EDM(SIGMA_DATA, 0.3).conditioners(torch.tensor([0.01, 1.0, 10.0]))
    clean, noisy = torch.randn(2, 3, 1, 4, 4).double()
    torch.testing.assert_close(scales.denoised(noisy, scales.target(clean, noisy)), clean, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.02, 0.5, 10.0])
def test_network_inputs_and_targets_have_unit_variance(sigma: float) -> None:
    edm, count = EDM(SIGMA_DATA, 0.3), 100_000
    levels, clean = torch.full((count,), sigma), SIGMA_DATA * torch.randn(count, 1, 1, 1)
    noisy, scales = edm.add_noise(clean, levels, torch.randn), edm.conditioners(levels)
    # The variance of n draws is off by more than 5 · sqrt(2 / n) in fewer than one of 10^6 tests.
    for values in (scales.network_input(noisy), scales.target(clean, noisy), edm.history_input(clean)):
        assert float(values.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / count))


def test_training_levels_are_log_normal_and_clipped() -> None:
    levels = SigmaDistributionConfig(loc=-1.0, scale=0.5, sigma_min=0.2, sigma_max=0.6).draw(
        10_000, torch.device("cpu")
    )
    assert levels.shape == (10_000,)
    assert (float(levels.min()), float(levels.max())) == pytest.approx((0.2, 0.6))
    # 5 standard deviations of a median: sqrt(π / 2n) of the logarithm's scale.
    assert float(levels.log().median()) == pytest.approx(-1, abs=5 * 0.5 * math.sqrt(math.pi / 20_000))


def test_offset_noise_is_constant_over_each_channel() -> None:
    frames = torch.zeros(2, 3, 4, 5)
    moved = EDM(SIGMA_DATA, 0.3).add_noise(frames, torch.zeros(2), torch.randn)
    assert torch.equal(moved, moved[:, :, :1, :1].expand_as(moved))
    assert moved[:, :, 0, 0].unique().numel() == 6


@pytest.mark.parametrize(("sampler", "gain"), [(euler, 1.8), (heun, 3.6)])
def test_the_error_falls_with_the_order_of_the_solver(sampler: Callable[..., list[Tensor]], gain: float) -> None:
    """Twice the steps halve the error of Euler's method, and quarter Heun's (Karras et al. 2022, sec. 3)."""
    x, errors = 5 * torch.randn(2, 1, 4, 4), []
    for num_steps in (16, 32, 64):
        config = DiffusionSamplerConfig(num_steps, sigma_min=0.02, sigma_max=5.0)
        trajectory = sampler(gaussian_denoise, x, build_sigmas(config, torch.device("cpu")).tolist())
        assert len(trajectory) == num_steps + 1
        assert trajectory[0] is x
        errors.append(float((trajectory[-1] - gaussian_sample(x, 5.0)).abs().max()))
    assert errors[0] > gain * errors[1] > gain**2 * errors[2]


@pytest.mark.parametrize("sampler", [euler, heun])
def test_churn_adds_noise_only_between_its_levels(sampler: Callable[..., list[Tensor]]) -> None:
    sigmas, x = [4.0, 2.0, 1.0, 0.5, 0.0], torch.randn(2, 1, 4, 4)
    for churn, count in ((NO_CHURN, 0), (Churn(1.0), 4), (Churn(1.0, s_tmin=0.9, s_tmax=2.0), 2)):
        randn = Counting()
        sampler(gaussian_denoise, x, sigmas, churn, randn)
        assert randn.shapes == [tuple(x.shape)] * count


@pytest.mark.parametrize(("order", "evaluations"), [(1, 3), (2, 5)])
def test_history_noise_is_new_at_each_evaluation(order: int, evaluations: int) -> None:
    denoiser = Denoiser(DenoiserConfig(InnerModelConfig(3, 2, 16, (1,), (8,), (0,), 4), 0.5, 0.1, True))
    histories = []
    denoiser.inner_model.register_forward_pre_hook(lambda _, given: histories.append(given[2] * 0.5))
    randn = Counting()
    sampler = DiffusionSampler(denoiser, DiffusionSamplerConfig(3, order=order, s_cond=0.1))
    sampler.sample(torch.zeros(2, 2, 3, 8, 8), torch.zeros(2, 2, dtype=torch.int64), randn)
    assert randn.shapes == [(2, 3, 8, 8)] + [(2, 6, 8, 8)] * evaluations
    # It is added to what was added before, so that its variance grows.
    for number, history in enumerate(histories, start=1):
        assert float(history.std()) == pytest.approx(0.1 * math.sqrt(number), rel=0.2)
