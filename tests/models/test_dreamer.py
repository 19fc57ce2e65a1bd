"""DreamerV3's networks at every size, and in half precision; the optimizer against a plain loop."""

import math

import pytest
import torch
from torch import Tensor, nn

from algorithms.dreamer.agent import DreamerAgent
from algorithms.dreamer.config import SIZES, Widths
from data import Actions, Spaces
from errors import UserError
from models.dreamer import BlockLinear, Learner, LossConfig, NetworkConfig, Rows, TwoHot
from models.dreamer.images import convolve_doubled, double
from models.laprop import LaProp
from ranges import BadSetting

SMALL = NetworkConfig(deter=16, hidden=8, classes=4, units=8, depth=2, stoch=4)
NO_WIDTHS = {"deter": None, "hidden": None, "classes": None, "units": None, "depth": None}


def make_agent(config: NetworkConfig, side: int = 64, channels: int = 3, num_actions: int = 4) -> DreamerAgent:
    return DreamerAgent(config, Spaces((channels, side, side), Actions("numbered", num_actions)))


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("1M", 686_198),
        ("12M", 10_491_590),
        ("25M", 23_485_478),
        ("50M", 41_644_934),
        ("100M", 93_460_550),
        ("200M", 165_938_438),
        ("400M", 372_881_030),
    ],
)
def test_sizes(size: str, count: int) -> None:
    """The published numbers of parameters, without the slow critic."""
    widths = Widths(**NO_WIDTHS, stoch=32, blocks=8, bins=255, unimix=0.01)
    with torch.device("meta"):
        agent = make_agent(widths.of_size(size))
    assert sum(each.numel() for each in agent.parameters() if each.requires_grad) == count
    assert size in SIZES


def test_parameters_of_each_network() -> None:
    widths = Widths(**NO_WIDTHS, stoch=32, blocks=8, bins=255, unimix=0.01)
    with torch.device("meta"):
        agent = make_agent(widths.of_size("12M"))
    counts = [sum(each.numel() for each in network.parameters()) for network in agent.children()]
    assert counts == [220_416, 5_979_136, 1_272_003, 721_407, 656_129, 788_996, 853_503, 853_503, 0]


@pytest.mark.parametrize("side", [16, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_frames_of_every_size(side: int, channels: int) -> None:
    agent = make_agent(SMALL, side, channels)
    obs = torch.randint(256, (2, 3, channels, side, side), dtype=torch.uint8)
    tokens = agent.encoder(obs)
    assert tokens.shape == (2, 3, 4 * 4 * 4 * SMALL.depth)
    # Single frames and sequences of them are encoded alike.
    torch.testing.assert_close(agent.encoder(obs[0]), tokens[0])
    state = agent.rssm.initial(3)
    assert agent.decoder(state.deter, state.stoch).shape == obs.shape[1:]


@pytest.mark.parametrize("side", [8, 20, 48, 256])
def test_frames_that_lead_nowhere_are_refused(side: int) -> None:
    with pytest.raises(BadSetting, match=rf"size=\[{side},{side}\] .* must be one of 16, 32, 64, 128"):
        make_agent(SMALL, side)


@pytest.mark.parametrize(
    ("widths", "words"),
    [({"deter": 20}, "deter=20"), ({"depth": 3}, "depth=3"), ({"bins": 4}, "bins=4"), ({"blocks": 3}, "deter=16")],
)
def test_widths_that_do_not_fit_are_refused(widths: dict[str, int], words: str) -> None:
    with pytest.raises(BadSetting, match=f"^{words} "):
        NetworkConfig(**{**vars(SMALL), **widths})


def test_actions_that_are_not_numbered_are_refused() -> None:
    with pytest.raises(UserError, match="The actions of this data are continuous"):
        DreamerAgent(SMALL, Spaces((3, 64, 64), Actions("continuous", 2)))


def test_blocks_do_not_see_each_other() -> None:
    layer, x = BlockLinear(6, 4, 2), torch.randn(3, 6)
    expected = torch.cat((x[:, :3] @ layer.weight[0], x[:, 3:] @ layer.weight[1]), dim=1) + layer.bias
    torch.testing.assert_close(layer(x), expected)


def test_two_hot_weights_are_linear_between_bins() -> None:
    """A target a quarter of the way from one bin to the next, and targets beyond the ends."""
    two_hot, logits = TwoHot(255), torch.randn(255)
    low, high = two_hot.bins[130:132]
    log_probs = logits.log_softmax(dim=-1)
    loss = two_hot.loss(logits, 0.75 * low + 0.25 * high)
    torch.testing.assert_close(loss, -(0.75 * log_probs[130] + 0.25 * log_probs[131]))
    assert float(two_hot.loss(logits, torch.tensor(1e12))) == pytest.approx(float(-log_probs[-1]))
    assert float(two_hot.loss(logits, torch.tensor(-1e12))) == pytest.approx(float(-log_probs[0]))


def make_rows(agent: DreamerAgent, b: int = 2, t: int = 4) -> Rows:
    config = agent.rssm.config
    flags = [torch.zeros(b, t + 1, dtype=torch.bool) for _ in range(3)]
    obs = torch.randint(256, (b, t + 1, 3, 16, 16), dtype=torch.uint8)
    index = torch.randint(config.classes, (b, config.stoch))
    act = torch.randint(agent.rssm.num_actions, (b, t + 1))
    return Rows(obs, act, torch.randn(b, t + 1), *flags, torch.randn(b, config.deter), index)


@pytest.mark.parametrize(("channels", "height", "width"), [((2, 3), 4, 4), ((5, 1), 1, 3)])
def test_convolution_of_doubled_maps(channels: tuple[int, int], height: int, width: int) -> None:
    """Against the plain way, and so are its gradients."""
    conv = nn.Conv2d(*channels, kernel_size=5, padding=2).double()
    x = torch.randn(3, channels[0], height, width, dtype=torch.float64, requires_grad=True)
    ours, plain = convolve_doubled(conv, x), conv(double(x))
    torch.testing.assert_close(ours, plain, atol=1e-12, rtol=0)
    inputs = (x, conv.weight, conv.bias)
    for one, other in zip(*[torch.autograd.grad(y.pow(3).sum(), inputs) for y in (ours, plain)], strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_a_first_row_forgets_what_was_before() -> None:
    """The state, and the action, of which nothing remains: action 0 is another input."""
    agent = make_agent(SMALL, 16)
    rows, rssm = make_rows(agent), agent.rssm
    is_first = torch.zeros(2, 4, dtype=torch.bool)
    is_first[:, 2] = True
    rssm.in_action.bias.data.normal_()
    acts = rssm.embed_action(rows.act[:, 1:], is_first)
    nothing = rssm.embed_vector(torch.zeros(2, agent.rssm.num_actions))
    torch.testing.assert_close(acts[:, 2], nothing)
    assert (rssm.embed_action(torch.zeros(2, dtype=torch.int64)) - nothing).abs().max() > 1e-3
    tokens = agent.encoder(rows.obs[:, 1:])
    observed = rssm.observe(rssm.initial(2), tokens, rows.act[:, :-1], is_first)
    torch.testing.assert_close(observed.state.deter[:, 2], rssm.advance(rssm.initial(2), nothing))


def test_in_bfloat16_the_losses_stay_float32() -> None:
    """And near those in float32; the same noise is drawn."""
    agent, losses = make_agent(SMALL, 16), {}
    rows, learner = make_rows(agent), Learner(agent, LossConfig(horizon=2), SMALL.bins)
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(1)
        agent.return_range.low.zero_()
        agent.return_range.high.zero_()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss, metrics, deter, _ = learner(rows)
        assert deter.dtype == dtype
        assert all(value.dtype == torch.float32 for value in metrics.values())
        assert loss.dtype == torch.float32
        losses[dtype] = float(loss.detach())
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.02)


def plain_laprop(param: Tensor, grads: list[Tensor], lr: float, clip: float) -> Tensor:
    """One tensor, one formula at a time, in float64."""
    p, n, m = param.double(), torch.zeros_like(param, dtype=torch.float64), 0.0
    for k, grad in enumerate(grads, start=1):
        g = grad.double()
        g = g / max(1.0, float(g.norm()) / (clip * max(1e-3, float(p.norm()))))
        n = 0.999 * n + 0.001 * g**2
        m = 0.9 * m + 0.1 * g / ((n / (1 - 0.999**k)).sqrt() + 1e-20)
        p = p - lr * m / (1 - 0.9**k)
    return p


def test_laprop_does_what_a_plain_loop_does() -> None:
    params = [nn.Parameter(torch.randn(shape) * scale) for shape, scale in (((5, 3), 1.0), ((7,), 0.0), ((2, 3), 1e-5))]
    grads = [[torch.randn_like(each) * 10 ** -float(step) for step in range(6)] for each in params]
    expected = [plain_laprop(each.data, some, 0.01, 0.3) for each, some in zip(params, grads, strict=True)]
    optimizer = LaProp(params, 0.01)
    for step in range(6):
        for param, some in zip(params, grads, strict=True):
            param.grad = some[step].clone()
        optimizer.step()
        if step == 2:  # as in a run that is resumed
            state = optimizer.state_dict()
            optimizer = LaProp(params, 0.5)
            optimizer.load_state_dict(state)
    for param, theirs in zip(params, expected, strict=True):
        torch.testing.assert_close(param.detach().double(), theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_laprop_can_leave_out_a_step(value: float) -> None:
    """As soon as a tensor on the device says so, and with gradients that are not finite."""
    param = nn.Parameter(torch.ones(4))
    optimizer = LaProp([param], 0.1)
    for found, grad, moves in ((0.0, 1.0, True), (1.0, value, False), (1.0, 1.0, False)):
        before, optimizer.found_inf = param.detach().clone(), torch.tensor(found)
        param.grad = torch.full((4,), grad)
        optimizer.step()
        assert torch.equal(param.detach(), before) != moves


@pytest.mark.parametrize("scale", [1e-19, 1e-22, 0.0])
def test_steps_of_tiny_gradients_are_bounded(scale: float) -> None:
    """Their squares are not normal numbers in float32; no step is larger than the learning rate, about."""
    param = nn.Parameter(torch.ones(4))
    optimizer = LaProp([param], 0.1)
    param.grad = torch.full((4,), scale)
    optimizer.step()
    assert math.isfinite(float(param.detach().sum()))
    assert float((param.detach() - 1).abs().max()) <= 0.11
