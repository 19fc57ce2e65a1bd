"""Metrics of worlds against numbers computed by hand, and against libraries."""

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap, pearsonr
from torchmetrics.functional.image import peak_signal_noise_ratio

from evaluation.world_metrics import (
    frame_errors,
    moving_errors,
    moving_pixels,
    psnr,
    returns_to_go,
    similarities,
)
from evaluation.world_segments import Recordings, choose_segments, other_actions
from evaluation.world_statistics import (
    correlation,
    make_curve,
    mean,
    mean_distance,
    psnr_difference,
    psnr_of_mean,
    ratio_of_sums,
)

NOTHING = np.nan


def no_episode(number: int) -> None:
    raise AssertionError(f"episode {number} was read")


def recordings(*lengths: int) -> Recordings:
    return Recordings("somewhere", np.array(lengths), no_episode)


def test_errors_of_frames() -> None:
    real = torch.zeros(1, 2, 1, 2, 2, dtype=torch.uint8)
    imagined = real.clone()
    imagined[0, 1, 0] = torch.tensor([[51, 0], [0, 102]])
    # (0.2² + 0.4²) / 4
    torch.testing.assert_close(frame_errors(imagined, real), torch.tensor([[0.0, 0.05]]))


def test_psnr_is_that_of_torchmetrics() -> None:
    frames = torch.randint(256, (2, 7, 3, 8, 8), dtype=torch.uint8)
    errors = frame_errors(*frames)
    ours, theirs = psnr(errors.double().mean().numpy()), peak_signal_noise_ratio(*frames.double() / 255, 1.0)
    assert ours == pytest.approx(theirs.item(), abs=1e-4)
    assert psnr(np.array(0.01)) == pytest.approx(20)
    assert psnr(np.array(0.0)) == np.inf


def test_moving_pixels_are_dilated_by_one() -> None:
    frames = torch.zeros(1, 3, 3, 5, 6, dtype=torch.uint8)
    frames[0, 1, 2, 0, 0] = 1
    frames[0, 2, 0, 3, 3] = 9
    moving = moving_pixels(frames).int()[0]
    still, corner, middle = [0] * 6, [1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0]
    assert moving[0].tolist() == [corner, corner, still, still, still]
    # The pixel in the corner changed back, so it moves again.
    assert moving[1].tolist() == [corner, corner, middle, middle, middle]


def test_errors_of_moving_pixels() -> None:
    real = torch.zeros(1, 3, 1, 3, 3, dtype=torch.uint8)
    real[0, 1, 0, 0, 0] = 255
    real[0, 2] = real[0, 1]
    imagined = torch.zeros(1, 2, 1, 3, 3, dtype=torch.uint8)
    # One pixel of the four that count is wrong; that at (2, 2) does not count.
    imagined[0, 0, 0, 2, 2] = 255
    errors = moving_errors(imagined, real[:, 1:], moving_pixels(real))
    assert errors[0, 0].item() == pytest.approx(0.25)
    assert errors[0, 1].isnan()


def test_similarity_of_plain_frames() -> None:
    """Without variance, SSIM is (2ab + c) / (a² + b² + c) with c = 0.01²."""
    for side in (16, 64):
        grey = torch.full((1, 2, 1, side, side), 51, dtype=torch.uint8)
        brighter = torch.full_like(grey, 102)
        wanted = (2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4)
        torch.testing.assert_close(similarities(brighter, grey), torch.full((1, 2), wanted), rtol=0, atol=1e-4)
        noise = torch.randint(256, (1, 2, 1, side, side), dtype=torch.uint8)
        torch.testing.assert_close(similarities(noise, noise), torch.ones(1, 2))
        assert similarities(noise, grey).max() < 0.2


def test_returns_to_go() -> None:
    assert returns_to_go(np.array([0.0, 2.0, -7.0]), True, 0.5).tolist() == [0.25, 0.5, -1.0]
    # Cut off: after the first step the missing rewards weigh 0.5⁵ = 0.03, after the second 0.06.
    returns = returns_to_go(np.array([1.0, 0.0, 0.0, 1.0, 0.0]), False, 0.5)
    assert returns[0] == 1.125
    assert np.isnan(returns[1:]).all()
    assert returns_to_go(np.ones(3), True, 1.0).tolist() == [3, 2, 1]
    assert np.isnan(returns_to_go(np.ones(3), False, 1.0)).all()


def test_statistics_leave_out_what_is_not_counted() -> None:
    errors = np.array([[0.1, 0.2], [NOTHING, 0.0], [0.3, 0.01]])
    np.testing.assert_allclose(mean(errors, axis=0), [0.2, 0.07])
    np.testing.assert_allclose(psnr_of_mean(errors, axis=0), [6.9897, 11.54902], atol=1e-5)
    other = np.array([[0.2, 0.2], [0.5, NOTHING], [0.6, 0.22]])
    # Means 0.2 and 0.4; 0.105 and 0.21.
    np.testing.assert_allclose(psnr_difference(errors, other, axis=0), [3.0103, 3.0103], atol=1e-4)
    np.testing.assert_allclose(mean_distance(errors, other, axis=0), [0.2, 0.105])
    assert psnr_difference(np.zeros((2, 1)), np.zeros((2, 1)), axis=0) == 0
    assert psnr_difference(np.zeros((2, 1)), np.ones((2, 1)), axis=0) == np.inf
    assert ratio_of_sums(np.array([1.0, 2.0]), np.array([4.0, 2.0]), axis=0) == 0.5


def test_correlation_is_pearsons() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 30, 2))
    theirs[4] = NOTHING
    known = np.delete(np.arange(30), 4)
    for column in range(2):
        wanted = pearsonr(ours[known, column], theirs[known, column]).statistic
        assert correlation(ours, theirs, axis=0)[column] == pytest.approx(wanted)
    with np.errstate(all="ignore"):
        assert np.isnan(correlation(np.ones((5, 1)), ours[:5, :1], axis=0))


def test_intervals_are_scipys() -> None:
    values = np.random.default_rng(1).exponential(size=(60, 3))
    curve = make_curve(mean, values)
    theirs = bootstrap((values,), np.mean, axis=0, method="percentile", n_resamples=1000, rng=0).confidence_interval
    # Ours are drawn values, theirs are interpolated between two of them.
    np.testing.assert_allclose(curve.value, values.mean(axis=0))
    np.testing.assert_allclose(curve.low, theirs.low, rtol=0.02)
    np.testing.assert_allclose(curve.high, theirs.high, rtol=0.02)
    narrow = make_curve(mean, values, confidence=0.5)
    assert (narrow.high - narrow.low < curve.high - curve.low).all()


def test_intervals_of_infinite_and_unknown_values() -> None:
    perfect = make_curve(psnr_of_mean, np.zeros((5, 1)))
    assert (perfect.value, perfect.low, perfect.high) == (np.inf, np.inf, np.inf)
    unknown = make_curve(mean, np.full((5, 1), NOTHING))
    assert np.isnan([unknown.value, unknown.low, unknown.high]).all()
    single = make_curve(mean, np.ones((1, 1)))
    assert single.value == 1
    assert np.isnan([single.low, single.high]).all()


def test_segments_cover_every_step_once() -> None:
    segments = choose_segments(recordings(3, 6, 1), 2, 4, count=100, seed=0)
    assert segments.length == 6
    found = sorted(zip(segments.episode_ids.tolist(), segments.starts.tolist(), strict=True))
    # A segment's second step is the last one of its context: there the first imagined action is taken.
    assert found == [(0, 0), (0, 1), *[(1, start) for start in range(5)]]


def test_worlds_with_other_contexts_get_the_same_segments() -> None:
    some, more = [choose_segments(recordings(40, 60), n, 5, count=1000, seed=3) for n in (1, 4)]
    first_steps = [
        list(zip(each.episode_ids.tolist(), (each.starts + n - 1).tolist(), strict=True))
        for each, n in ((some, 1), (more, 4))
    ]
    assert first_steps[1] == [(episode, step) for episode, step in first_steps[0] if step >= 3]
    again = choose_segments(recordings(40, 60), 1, 5, count=1000, seed=4)
    assert again.starts.tolist() != some.starts.tolist()


def test_shuffled_actions_are_of_a_segment_with_others() -> None:
    acts = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [2, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    others, found = other_actions(acts, mask, seed=0)
    # The first two have the same actions, as far as they are recorded; those of the third are repeated.
    assert others.tolist()[:2] == [[2, 3, 2, 3], [2, 3, 2, 3]]
    assert others.tolist()[2] == [1, 1, 1, 1]
    assert found.all()


def test_equal_actions_cannot_be_shuffled() -> None:
    acts = torch.zeros(3, 5, 0)
    others, found = other_actions(acts, torch.ones(3, 5).bool(), seed=0)
    assert others.shape == acts.shape
    assert not found.any()
