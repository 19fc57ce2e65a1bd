"""Every recorded number of the official DreamerV3, from any folder of the same layout (`--reference-dir`).

The pitfalls that the specification lists (section 17), and what would notice them:

 1 sticky actions                 test_atari, test_every_game_has_both_ids
 2 rewards shifted by a row       test_rows_of_a_window, test_returns
 3 no row of the final frame      test_rows_of_a_window, test_atari
 4 action 0 at a first row        test_a_first_row_forgets_what_was_before, test_recurrent_step
 5 discount twice                 test_returns, test_heads
 6 weights and sums of the actor  test_actor_and_critic_losses
 7 free nats per variable         test_kl, test_losses_of_every_row
 8 mean over pixels               test_decoder, test_losses_of_every_row
 9 norm or gates by other blocks  test_recurrent_step
10 order of pool, norm, flatten   test_encoder, test_decoder
11 eps of the norm                test_rms_norm
12 naive sum over bins            test_two_hot, test_in_bfloat16_the_losses_stay_float32
13 two-hot in symlog space        test_two_hot, test_two_hot_weights_are_linear_between_bins
14 LaProp taken for Adam          test_optimizer, test_laprop_does_what_a_plain_loop_does
15 denormal squares               test_steps_of_tiny_gradients_are_bounded
16 tensors of zeros never move    test_clipping, test_three_whole_updates
17 the first rate is 0            test_three_whole_updates
18 debiased range of returns      test_return_range
19 slow critic as a target        test_actor_and_critic_losses
20 one call of the critic         test_gradients_of_a_whole_update
21 states of windows, not rows    test_states_are_written_back_to_rows
22 detached rows, reused noise    test_gradients_of_a_whole_update, test_observing, test_parts_are_one_graph_each
23 losses in 16 bits              test_in_bfloat16_the_losses_stay_float32
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from algorithms.dreamer.agent import DreamerAgent
from algorithms.dreamer.config import LaPropSection
from algorithms.dreamer.rows import Windows
from component import Component
from conftest import PROJECT
from data import Actions, Episode, Replay, Spaces
from envs import AtariConfig, make_env
from files import load_tensors
from models.averages import follow
from models.dreamer import (
    BlockLinear,
    Learner,
    LossConfig,
    LossScales,
    NetworkConfig,
    Predictions,
    ReturnRange,
    RMSNorm,
    Rows,
    State,
    TwoHot,
    behaviour_losses,
    continue_loss,
    imagine,
    imagined_returns,
    replay_value_loss,
    replayed_returns,
)
from models.dreamer.latents import entropy, kl_divergence, kl_losses, mixed_log_probs, sample_index, straight_through
from models.dreamer.two_hot import symexp, symlog
from models.laprop import LaProp, clipped
from optimizers import TrainingConfig
from run.ranks import Ranks

Recorded = dict[str, Any]


@pytest.fixture(scope="module")
def recorded(reference_dir: Path) -> Recorded:
    path = reference_dir / "dreamer_small.pt"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return load_tensors(path)


@pytest.fixture
def agent(recorded: Recorded) -> DreamerAgent:
    """The recorded weights."""
    return make_agent(recorded)


def make_agent(recorded: Recorded) -> DreamerAgent:
    config = recorded["config"]
    names = ("deter", "hidden", "classes", "units", "depth", "stoch", "blocks", "bins", "unimix")
    layers = ("reward_layers", "continue_layers", "actor_layers", "critic_layers")
    size = config["img_size"]
    spaces = Spaces((3, size, size), Actions("numbered", config["num_actions"]))
    agent = DreamerAgent(NetworkConfig(**{name: config[name] for name in (*names, *layers)}), spaces)
    fresh = {name: value for name, value in agent.state_dict().items() if name not in recorded["weights"]}
    assert set(fresh) == {"return_range.low", "return_range.high"}
    agent.load_state_dict({**recorded["weights"], **fresh})
    return agent


def loss_config(config: Recorded) -> LossConfig:
    scales, ours = config["loss_scales"], ("image", "reward", "policy", "value", "replay_value")
    names = ("lambda_", "free_nats", "entropy_scale", "slow_rate", "slow_regulariser", "return_rate", "return_limit")
    return LossConfig(
        horizon=config["imag_length"],
        discount=1 - 1 / config["horizon"],
        scales=LossScales(
            continues=scales["continue"],
            dynamics=scales["dyn"],
            representation=scales["rep"],
            **{name: scales[name] for name in ours},
        ),
        **{name: config[name] for name in names},
    )


def replaying(draws: list[Tensor]) -> Callable[[torch.Size, torch.device], Tensor]:
    """A stand-in for Gumbel noise that hands out recorded draws, in order, each once."""
    remaining = iter(draws)

    def gumbel(shape: torch.Size, device: torch.device) -> Tensor:
        draw = next(remaining)
        assert draw.shape == shape
        return draw.to(device)

    return gumbel


def channels_first(images: Tensor) -> Tensor:
    return images.movedim(-1, -3)


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """Compare up to a share of the largest magnitude of the recorded tensor."""
    theirs = torch.as_tensor(theirs)
    torch.testing.assert_close(ours.detach(), theirs, atol=tolerance * float(theirs.abs().max()), rtol=0)


def assert_gradients(ours: dict[str, Tensor] | list[Tensor], theirs: dict[str, Tensor] | list[Tensor]) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        ours, theirs = [ours[name] for name in theirs], list(theirs.values())
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other, 1e-4)


def gradients(agent: DreamerAgent, names: set[str]) -> dict[str, Tensor]:
    return {name: each.grad for name, each in agent.named_parameters() if name in names}


def test_every_pitfall_has_a_test() -> None:
    """The table above names tests that exist."""
    rows = re.findall(r"^ ?(\d+) .*? (test_.*)$", __doc__, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 24))
    code = "".join(path.read_text() for path in (PROJECT / "tests").rglob("test_*.py"))
    for _, names in rows:
        assert all(f"def {name}(" in code for name in names.split(", "))


def test_symlog(recorded: Recorded) -> None:
    given = recorded["symlog"]
    assert_close(symlog(given["x"]), given["symlog"])
    torch.testing.assert_close(symexp(given["y"]), given["symexp"], atol=0, rtol=1e-5)


def test_two_hot(recorded: Recorded) -> None:
    given, two_hot = recorded["twohot"], TwoHot(recorded["config"]["bins"])
    torch.testing.assert_close(two_hot.bins, given["bins"], atol=0, rtol=1e-5)
    assert_close(two_hot.mean(given["logits"]), given["mean"])
    assert two_hot.mean(torch.zeros_like(given["logits"][:1])) == given["mean_of_zero_logits"] == 0
    logits = given["logits"].clone().requires_grad_()
    loss = two_hot.loss(logits, given["target"])
    assert_close(loss, given["loss"])
    assert_gradients(torch.autograd.grad(loss.sum(), [logits]), [given["grad_logits"]])


def test_rms_norm(recorded: Recorded) -> None:
    given, x = recorded["rms_norm"], recorded["rms_norm"]["x"].clone().requires_grad_()
    assert given["eps"] == recorded["config"]["norm_eps"]
    norm = RMSNorm(x.size(-1))
    norm.load_state_dict({"weight": given["weight"]})
    out = norm(x)
    assert_close(out, given["out"])
    ours = torch.autograd.grad((out * given["cotangent"]).sum(), [x, norm.weight])
    assert_gradients(ours, [given["grad_x"], given["grad_weight"]])


def test_block_linear(recorded: Recorded) -> None:
    given, x = recorded["block_linear"], recorded["block_linear"]["x"].clone().requires_grad_()
    layer = BlockLinear(x.size(-1), len(given["bias"]), len(given["weight"]))
    layer.load_state_dict({"weight": given["weight"], "bias": given["bias"]})
    out = layer(x)
    assert_close(out, given["out"])
    ours = torch.autograd.grad((out * given["cotangent"]).sum(), [x, layer.weight, layer.bias])
    assert_gradients(ours, [given["grad_x"], given["grad_weight"], given["grad_bias"]])


def test_latent(recorded: Recorded) -> None:
    given, logits = recorded["latent"], recorded["latent"]["logits"].clone().requires_grad_()
    log_probs = mixed_log_probs(logits, given["unimix"])
    assert_close(log_probs, given["log_probs"])
    assert_close(entropy(log_probs).sum(dim=-1), given["entropy"])
    index = sample_index(log_probs, given["gumbel"])
    assert torch.equal(index, given["index"])
    sample = straight_through(log_probs, index)
    assert_close(sample, given["sample"])
    assert_gradients(torch.autograd.grad((sample * given["cotangent"]).sum(), [logits]), [given["grad_logits"]])


def test_kl(recorded: Recorded) -> None:
    given = recorded["kl"]
    logits = [given[f"{name}_logits"].clone().requires_grad_() for name in ("posterior", "prior")]
    posterior, prior = [mixed_log_probs(each, given["unimix"]) for each in logits]
    assert_close(kl_divergence(posterior, prior), given["kl"])
    dynamics, representation = kl_losses(posterior, prior, given["free_nats"])
    assert_close(dynamics, given["dyn"])
    assert_close(representation, given["rep"])
    loss = dynamics.mean() + 0.1 * representation.mean()
    assert_close(loss, given["loss"])
    theirs = [given[f"grad_{name}_logits"] for name in ("posterior", "prior")]
    assert_gradients(torch.autograd.grad(loss, logits), theirs)


def test_recurrent_step(agent: DreamerAgent, recorded: Recorded) -> None:
    given, rssm = recorded["gru"], agent.rssm
    deter, stoch, act = inputs = [given[name].clone().requires_grad_() for name in ("deter", "stoch", "action")]
    out = rssm.advance(State(deter, stoch), rssm.embed_vector(act))
    assert_close(out, given["out"])
    (out * given["cotangent"]).sum().backward()
    assert_gradients([each.grad for each in inputs], [given[f"grad_{name}"] for name in ("deter", "stoch", "action")])
    assert_gradients(gradients(agent, set(given["grads"])), given["grads"])


def test_encoder(agent: DreamerAgent, recorded: Recorded) -> None:
    given = recorded["encoder"]
    tokens = agent.encoder(channels_first(given["image"]))
    assert_close(tokens, given["tokens"])
    (tokens * given["cotangent"]).sum().backward()
    assert_gradients(gradients(agent, set(given["grads"])), given["grads"])


def test_decoder(agent: DreamerAgent, recorded: Recorded) -> None:
    given = recorded["decoder"]
    deter, stoch = inputs = [given[name].clone().requires_grad_() for name in ("deter", "stoch")]
    image = agent.decoder(deter, stoch)
    assert_close(image, channels_first(given["image"]))
    loss = (image - channels_first(given["target"]) / 255).square().sum(dim=(1, 2, 3))
    assert_close(loss, given["loss"])
    loss.mean().backward()
    assert_gradients([each.grad for each in inputs], [given["grad_deter"], given["grad_stoch"]])
    assert_gradients(gradients(agent, set(given["grads"])), given["grads"])


@torch.no_grad()
def test_logits(agent: DreamerAgent, recorded: Recorded) -> None:
    given, rssm = recorded["logits"], agent.rssm
    for name, logits in (
        ("posterior", rssm.posterior(given["deter"], given["tokens"])),
        ("prior", rssm.prior(given["deter"])),
    ):
        assert_close(logits, given[name])
        assert_close(mixed_log_probs(logits, given["unimix"]), given[f"{name}_log_probs"])


@torch.no_grad()
def test_observing(agent: DreamerAgent, recorded: Recorded) -> None:
    given, unimix = recorded["observe"], recorded["config"]["unimix"]
    start = State(given["initial_deter"], given["initial_stoch"])
    gumbel = replaying(list(given["gumbel"].unbind(1)))
    observed = agent.rssm.observe(start, given["tokens"], given["action"], given["is_first"], gumbel)
    assert torch.equal(observed.index, given["index"])
    assert torch.equal(observed.state.stoch, F.one_hot(given["index"], recorded["config"]["classes"]).float())
    assert_close(observed.state.deter, given["deter"])
    assert_close(observed.posterior, mixed_log_probs(given["posterior_logits"], unimix))
    assert_close(observed.prior, mixed_log_probs(given["prior_logits"], unimix))


@torch.no_grad()
def test_heads(agent: DreamerAgent, recorded: Recorded) -> None:
    given, two_hot, features = recorded["heads"], TwoHot(recorded["config"]["bins"]), recorded["heads"]["features"]
    logits = {name: getattr(agent, name)(features) for name in ("reward", "critic", "slow_critic", "continue", "actor")}
    assert_close(logits["reward"], given["reward_logits"])
    assert_close(logits["critic"], given["value_logits"])
    assert_close(two_hot.mean(logits["reward"]), given["reward"])
    assert_close(two_hot.mean(logits["critic"]), given["value"])
    assert_close(two_hot.mean(logits["slow_critic"]), given["slow_value"])
    assert_close(two_hot.loss(logits["reward"], given["reward_target"]), given["reward_loss"])
    continues = logits["continue"].squeeze(-1)
    assert_close(continues, given["continue_logits"])
    assert_close(continues.sigmoid(), given["continues"])
    discount = 1 - 1 / recorded["config"]["horizon"]
    assert set(given["continue_target"].unique().tolist()) <= {0.0, float(torch.tensor(discount))}
    assert_close(continue_loss(continues, given["continue_target"] == 0, discount), given["continue_loss"])
    log_probs = logits["actor"].log_softmax(dim=-1)
    assert_close(logits["actor"], given["policy_logits"])
    assert_close(entropy(log_probs), given["policy_entropy"])
    log_prob_act = log_probs.gather(-1, given["action"][..., None]).squeeze(-1)
    assert_close(log_prob_act, given["policy_log_prob"])


@torch.no_grad()
def test_imagination(agent: DreamerAgent, recorded: Recorded) -> None:
    given, deter_size = recorded["imagine"], recorded["config"]["deter"]
    start = State(given["initial_deter"], given["initial_stoch"])
    noise = in_order(given["action_gumbel"], given["prior_gumbel"])
    imagined = imagine(agent.rssm, agent.actor, start, given["horizon"], replaying(noise))
    assert torch.equal(imagined.act, given["action"])
    deter, stoch = imagined.features[:, 1:].split((deter_size, imagined.features.size(-1) - deter_size), dim=-1)
    assert_close(deter, given["deter"])
    assert torch.equal(stoch, given["stoch"].flatten(2))
    assert_close(agent.rssm.prior(deter), given["prior_logits"])


def in_order(action: Tensor, prior: Tensor) -> list[Tensor]:
    """The noise of imagination in the order of use: an action at every state, and a latent between two of them."""
    draws = [action[:, 0]]
    for step in range(prior.size(1)):
        draws += [prior[:, step], action[:, step + 1]]
    return draws


def test_returns(recorded: Recorded) -> None:
    given = recorded["lambda_return"]
    rew, value, lambda_ = given["reward"], given["value"], given["lambda_"]
    assert_close(imagined_returns(rew, value, given["continues"], lambda_), given["imagined"])
    flags = given["is_last"], given["is_terminal"]
    assert_close(replayed_returns(rew, *flags, value, given["discount"], lambda_), given["replayed"])


def test_return_range(recorded: Recorded) -> None:
    given, config = recorded["return_norm"], recorded["config"]
    assert config["return_percentiles"] == [5.0, 95.0]
    return_range = ReturnRange()
    for index, returns in enumerate(given["returns"]):
        return_range.update(returns, config["return_rate"])
        assert_close(return_range.low, given["low"][index])
        assert_close(return_range.high, given["high"][index])
        assert_close(return_range.scale(config["return_limit"]), given["scale"][index])


def test_actor_and_critic_losses(recorded: Recorded) -> None:
    given, two_hot = recorded["actor_critic"], TwoHot(recorded["config"]["bins"])
    policy_logits, value_logits = [given[name].clone().requires_grad_() for name in ("policy_logits", "value_logits")]
    slow_value, return_range = two_hot.mean(given["slow_value_logits"]), ReturnRange()
    return_range.low.fill_(given["low_before"])
    return_range.high.fill_(given["high_before"])
    assert_close(slow_value, given["slow_value"])
    predicted = Predictions(
        given["reward"], given["continues"], given["action"], policy_logits, value_logits, slow_value
    )
    config = loss_config(recorded["config"])
    losses = behaviour_losses(predicted, two_hot, return_range, config)
    assert_close(return_range.low, given["low"])
    assert_close(return_range.high, given["high"])
    assert_close(return_range.scale(config.return_limit), given["scale"])
    assert_close(losses.values, given["value"])
    assert_close(losses.returns, given["returns"])
    assert_close(losses.policy, given["policy_loss"])
    assert_close(losses.value, given["value_loss"])
    assert_close(losses.entropy.mean(), given["entropy_mean"])
    ours = torch.autograd.grad(losses.policy.mean() + losses.value.mean(), [policy_logits, value_logits])
    assert_gradients(ours, [given["grad_policy_logits"], given["grad_value_logits"]])


def test_replay_value_loss(recorded: Recorded) -> None:
    given, two_hot = recorded["replay_value"], TwoHot(recorded["config"]["bins"])
    config, logits = loss_config(recorded["config"]), given["value_logits"].clone().requires_grad_()
    assert (config.discount, config.lambda_) == (given["discount"], given["lambda_"])
    rows, slow_value = (
        (given["reward"], given["is_last"], given["is_terminal"]),
        two_hot.mean(given["slow_value_logits"]),
    )
    returns = replayed_returns(*rows, given["bootstrap"], config.discount, config.lambda_)
    assert_close(returns, given["returns"])
    loss = replay_value_loss(*rows, given["bootstrap"], logits, slow_value, two_hot, config)
    assert_close(loss, given["loss"])
    assert_gradients(torch.autograd.grad(loss.mean(), [logits]), [given["grad_value_logits"]])


def test_clipping(recorded: Recorded) -> None:
    given = recorded["agc"]
    names = list(given["params"])
    params, grads = [[given[kind][name] for name in names] for kind in ("params", "grads")]
    for name, ours in zip(names, clipped(params, grads, given["clip"], given["pmin"]), strict=True):
        assert_close(ours, given["clipped"][name])


@pytest.mark.parametrize("entry", ["laprop", "optimizer"])
def test_optimizer(recorded: Recorded, entry: str) -> None:
    """Without clipping and warm-up, and with both."""
    given = recorded[entry]
    params = {name: torch.nn.Parameter(value.clone()) for name, value in given["params"].items()}
    options = {"clip": None} if entry == "laprop" else {"clip": given["clip"], "smallest_norm": given["pmin"]}
    betas = {name: given[name] for name in ("beta1", "beta2", "eps")}
    optimizer = LaProp(params.values(), given["lr"], **betas, **options)
    num_updates = len(next(iter(given["after"].values())))
    for update in range(num_updates):
        if "learning_rates" in given:
            optimizer.param_groups[0]["lr"] = float(given["learning_rates"][update])
        for name, param in params.items():
            param.grad = given["grads"][name][update]
        optimizer.step()
        for name, param in params.items():
            torch.testing.assert_close(param.data, given["after"][name][update], atol=1e-6, rtol=0)


def test_slow_critic(recorded: Recorded) -> None:
    given = recorded["slow_critic"]
    slow = given["slow"].clone()
    for source, after in zip(given["sources"], given["after"], strict=True):
        follow([slow], [source], given["rate"])
        assert_close(slow, after)


def test_windows_of_the_replay(recorded: Recorded) -> None:
    given, rows = recorded["replay"], Replay(torch.device("cpu"), recorded["replay"]["steps"])
    windows = Windows(rows, 1, given["length"], np.random.default_rng(0))
    starts, added_at, frame = [], [], torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    nothing = torch.zeros(1, dtype=torch.uint8)
    for row in range(given["steps"]):
        rows.add_episode(Episode(frame, nothing.long(), nothing.float(), nothing, nothing), None if row == 0 else 0)
        for _, start in windows.queued():
            starts.append(start)
            added_at.append(row)
            windows.draw(1)
    assert windows.num_windows == given["num_windows"]
    assert (starts, added_at) == (given["online_starts"], given["online_added_at"])


def play_recorded(given: Recorded, game: str, max_episode_steps: int) -> tuple[list[Tensor], list[float], list[bool]]:
    """Frames, rewards and ends of the recorded actions, as rows."""
    name = "".join(word.capitalize() for word in game.split("_"))
    size = tuple(given["frames"].shape[1:3])
    config = AtariConfig(
        f"{name}NoFrameskip-v4", size, noop_max=0, max_episode_steps=max_episode_steps, resize="bilinear_antialiased"
    )
    env = make_env(config, 1, 0, torch.device("cpu"))
    assert env.num_actions == given["num_actions"]
    frames, rewards, over = [env.reset().obs[0]], [0.0], [False]
    for act in given["actions"]:
        step = env.step(act[None])
        frames.append(step.final_obs[0])
        rewards.append(float(step.rew))
        over.append(bool(step.dead))
    env.close()
    return frames, rewards, over


def test_atari(recorded: Recorded) -> None:
    """A row after a reset, and one after each action; the last one is the end, or the length limit."""
    for game, given in recorded["atari"].items():
        num_steps = len(given["actions"])
        assert torch.equal(given["is_first"], torch.arange(num_steps + 1) == 0)
        _, _, over = play_recorded(given, game, num_steps)
        assert over == given["is_last"].tolist()
        # At its own length limit, the last frame of ale-py is another one.
        frames, rewards, _ = play_recorded(given, game, num_steps + 1)
        assert rewards == given["reward"].tolist()
        for index, theirs in zip(given["frame_index"], given["frames"], strict=True):
            assert torch.equal(frames[index], channels_first(theirs)), f"{game}, frame {index}"


def test_initial_weights(recorded: Recorded) -> None:
    """Standard deviations within a tenth or five standard errors of a new draw, and zeros exactly."""
    config = make_agent(recorded).rssm.config
    size = recorded["config"]["img_size"]
    agent = DreamerAgent(config, Spaces((3, size, size), Actions("numbered", recorded["config"]["num_actions"])))
    weights = agent.state_dict()
    for name, (mean, deviation, largest) in recorded["initialisation"].items():
        ours = weights[name]
        if deviation == 0:
            assert torch.equal(ours, torch.full_like(ours, mean)), name
            continue
        # Two draws are compared, each with the error of a standard deviation of n numbers, 1 / √(2n).
        error = deviation * max(0.1, 5 / ours.numel() ** 0.5)
        assert abs(float(ours.std()) - deviation) < error, name
        assert abs(float(ours.mean())) < 5 * deviation / ours.numel() ** 0.5, name
        # Truncated at two standard deviations, before a correction by 1.1368.
        assert largest <= float(ours.abs().max()) * 1.3, name
    for name in ("critic.linear0.weight", "critic.out.bias"):
        assert torch.equal(weights[f"slow_{name}"], weights[name])


def rows_of(batch: Recorded) -> Rows:
    flags = [batch[name] for name in ("is_first", "is_last", "is_terminal")]
    index = batch["stoch"][:, 0].argmax(dim=-1)
    obs = channels_first(batch["image"])
    return Rows(obs, batch["action"], batch["reward"], *flags, batch["deter"][:, 0], index)


def noise_of(given: Recorded) -> list[Tensor]:
    return [*given["posterior"].unbind(1), *in_order(given["action"], given["prior"])]


def make_learner(agent: DreamerAgent, recorded: Recorded) -> Learner:
    """With the noise of all recorded updates."""
    draws = [draw for given in recorded["update"]["noise"] for draw in noise_of(given)]
    learner = Learner(agent, loss_config(recorded["config"]), recorded["config"]["bins"], replaying(draws))
    agent.return_range.low.fill_(recorded["update"]["low_before"])
    agent.return_range.high.fill_(recorded["update"]["high_before"])
    return learner


OUR_NAMES = {"dyn": "dynamics", "rep": "representation", "continue": "continues"}


def test_losses_of_every_row(agent: DreamerAgent, recorded: Recorded) -> None:
    given, learner, rows = recorded["update"], make_learner(agent, recorded), rows_of(recorded["batch"])
    observed = learner.observe(rows)
    assert_close(observed.state.deter, given["replay_deter_first"])
    assert torch.equal(observed.index, given["replay_stoch_first"].argmax(dim=-1))
    losses = learner.world_losses(rows, observed)
    behaviour, losses["replay_value"] = learner.behaviour_losses(rows, observed)
    for name in ("policy", "value"):
        losses[name] = getattr(behaviour, name).mean(dim=1).unflatten(0, observed.index.shape[:2])
    assert {OUR_NAMES.get(name, name) for name in given["losses_first"]} == losses.keys()
    for name, theirs in given["losses_first"].items():
        assert_close(losses[OUR_NAMES.get(name, name)], theirs)


def test_gradients_of_a_whole_update(agent: DreamerAgent, recorded: Recorded) -> None:
    given, learner = recorded["update"], make_learner(agent, recorded)
    loss, metrics, deter, index = learner(rows_of(recorded["batch"]))
    loss.backward()
    assert_close(deter, given["replay_deter_first"])
    assert torch.equal(index, given["replay_stoch_first"].argmax(dim=-1))
    ours = {name: each.grad for name, each in agent.named_parameters() if each.grad is not None}
    assert_gradients(ours, given["grads_first"])
    first = given["history"][0]
    assert_close(torch.stack([each.norm() for each in ours.values()]).norm(), first["grad_norm"])
    for name in recorded["config"]["loss_scales"]:
        assert_close(metrics[f"loss_{OUR_NAMES.get(name, name)}"], first[f"loss_{name}"])


def test_three_whole_updates(agent: DreamerAgent, recorded: Recorded) -> None:
    """By the training loop of every run, with the optimizer and the learning rates of the algorithm."""
    given, config = recorded["update"], recorded["config"]
    learner, rows, ranks = make_learner(agent, recorded), rows_of(recorded["batch"]), Ranks(0, 1, torch.device("cpu"))
    training = TrainingConfig(
        start_after_epochs=0,
        steps_first_epoch=0,
        steps_per_epoch=0,
        batch_size=len(rows),
        lr_warmup_steps=0,
        max_grad_norm=None,
    )
    optimizer = LaPropSection(
        lr=config["lr"],
        warmup=config["warmup"],
        beta1=config["beta1"],
        beta2=config["beta2"],
        eps=config["eps"],
        clip=config["agc_clip"],
        smallest_norm=config["agc_pmin"],
    )
    component = Component(
        "dreamer",
        learner,
        lambda: (rows, {}),
        training,
        optimizer.make,
        torch.float32,
        ranks,
        after_update=lambda _: learner.follow_critic(),
        lr_factor=optimizer.lr_factor,
    )
    for update, theirs in enumerate(given["history"]):
        before = {name: each.detach().clone() for name, each in agent.named_parameters()}
        component.update()
        assert_close(agent.return_range.low, theirs["low"])
        assert_close(agent.return_range.high, theirs["high"])
        ours = component.finish_phase()
        assert ours["loss_total"] == pytest.approx(theirs["loss"], rel=1e-5)
        for name in config["loss_scales"]:
            # The losses of policy and value depend on the weights of the previous updates.
            assert ours[f"loss_{OUR_NAMES.get(name, name)}"] == pytest.approx(theirs[f"loss_{name}"], rel=1e-4)
        has_moved = [not torch.equal(each, before[name]) for name, each in agent.named_parameters()]
        # The first learning rate is 0; only the slow critic, which differs from the critic here, moves.
        assert all(has_moved) if update > 0 else sum(has_moved) == len(list(agent.critic.parameters()))
    weights = {name: value for name, value in agent.state_dict().items() if not name.startswith("return_range")}
    assert weights.keys() == given["weights_after"].keys()
    for name, theirs in given["weights_after"].items():
        torch.testing.assert_close(weights[name], theirs, atol=2e-5, rtol=0)
