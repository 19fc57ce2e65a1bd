"""Networks and losses of the model-free agents; the losses are those of TorchRL, in numbers and gradients."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from models.model_free import (
    DiscreteSacLearner,
    DoubleDqnLearner,
    EncoderConfig,
    Minibatch,
    NatureCnnConfig,
    Network,
    PpoLossConfig,
    PpoNetwork,
    Temperature,
    Transitions,
    Trunk,
    TrunkConfig,
)
from ranges import BadSetting

NUM_ACTIONS, FRAME, NUM_FRAMES, BATCH = 4, (3, 16, 16), 2, 12
SMALL = EncoderConfig(NUM_FRAMES, 16, (8, 8), (1, 1))
GAMMA, ENTROPY = 0.9, 0.5
OWN_TARGETS = pytest.mark.filterwarnings("ignore:No target network updater")


def draw_frames(count: int, num_frames: int = NUM_FRAMES, frame: tuple[int, int, int] = FRAME) -> Tensor:
    return torch.randint(0, 256, (count, num_frames, *frame), dtype=torch.uint8)


def draw_transitions() -> Transitions:
    ends = torch.arange(BATCH) % 3 == 0
    act, rew = torch.randint(NUM_ACTIONS, (BATCH,)), torch.randn(BATCH)
    return Transitions(draw_frames(BATCH), act, rew, draw_frames(BATCH), GAMMA * ~ends)


def make_network() -> Network:
    network = Network(SMALL, FRAME, NUM_ACTIONS)
    # Values far from each other.
    nn.init.normal_(network.head.weight)
    return network


@pytest.mark.parametrize(
    ("config", "frame", "num_inputs"),
    [
        (EncoderConfig(4, 32, (32, 32, 64, 64), (1, 1, 1, 1)), (3, 64, 64), 64 * 4 * 4),
        (EncoderConfig(1, 32, (8, 16), (1, 0)), (1, 17, 30), 16 * 8 * 15),
        (NatureCnnConfig(4, 512), (1, 84, 84), 64 * 7 * 7),
        (NatureCnnConfig(4, 512), (3, 64, 64), 64 * 4 * 4),
        (NatureCnnConfig(1, 8), (3, 36, 36), 64),
    ],
)
def test_trunks_fit_their_frames(config: TrunkConfig, frame: tuple[int, int, int], num_inputs: int) -> None:
    config.check(frame)
    trunk = Trunk(config, frame)
    assert trunk.linear.in_features == num_inputs
    features = trunk(draw_frames(2, config.num_frames, frame))
    assert features.shape == (2, config.features)
    assert features.dtype == torch.float32


def test_the_nature_network_is_as_published() -> None:
    """Mnih et al. 2015 with four grey frames of 84×84 and 18 actions: 1,693,362 parameters."""
    network = Network(NatureCnnConfig(4, 512), (1, 84, 84), 18)
    assert sum(each.numel() for each in network.parameters()) == 1_693_362


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (NatureCnnConfig(4, 512), "img_size=[16, 35] is too small for the strides of agent=nature_cnn: at least 36"),
        (EncoderConfig(1, 8, (8,) * 5, (1,) * 5), "is too small for down=[1, 1, 1, 1, 1]: at least 32"),
    ],
)
def test_small_frames_are_refused(config: TrunkConfig, words: str) -> None:
    with pytest.raises(BadSetting) as refused:
        config.check((3, 16, 35))
    assert words in str(refused.value)


def test_heads_are_float32_inside_autocast() -> None:
    network, frames = make_network(), draw_frames(2)
    with torch.autocast("cpu", torch.bfloat16):
        values = network(frames)
    assert values.dtype == torch.float32
    assert not torch.equal(values, values.bfloat16().float())


def test_ppo_has_the_loss_of_torchrl() -> None:
    """Ratios, values and advantages are such that some are clipped, and others are not."""
    objectives = pytest.importorskip("torchrl.objectives")
    from tensordict import TensorDict
    from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule

    config = PpoLossConfig(clip=0.1, weight_value_loss=0.5, weight_entropy_loss=0.01)
    network = PpoNetwork(SMALL, FRAME, NUM_ACTIONS, config)
    nn.init.normal_(network.actor.weight)
    nn.init.normal_(network.critic.weight)
    frames, act = draw_frames(BATCH), torch.randint(NUM_ACTIONS, (BATCH,))
    logits, value = network.predict(frames)
    log_prob = logits.detach().log_softmax(-1).gather(-1, act[:, None])[:, 0] + 0.15 * torch.randn(BATCH)
    old_value, advantage = value.detach() + 0.2 * torch.randn(BATCH), torch.randn(BATCH)
    batch = Minibatch(frames, act, log_prob, old_value, advantage, old_value + advantage)
    ours, metrics = network(batch)
    assert 0 < metrics["clipped_share"] < 1

    actor = ProbabilisticTensorDictSequential(
        TensorDictModule(lambda frames: network.predict(frames)[0], ["observation"], ["logits"]),
        ProbabilisticTensorDictModule(["logits"], ["action"], distribution_class=torch.distributions.Categorical),
    )
    critic = TensorDictModule(lambda frames: network.predict(frames)[1][:, None], ["observation"], ["state_value"])
    # TorchRL's value loss lacks the factor 1/2, and its deviation of advantages is the same as ours.
    loss = objectives.ClipPPOLoss(
        actor,
        critic,
        clip_epsilon=config.clip,
        clip_value=config.clip,
        entropy_coeff=config.weight_entropy_loss,
        critic_coeff=config.weight_value_loss / 2,
        loss_critic_type="l2",
        normalize_advantage=True,
        functional=False,
    )
    loss.set_keys(sample_log_prob="log_prob")
    columns = {"log_prob": log_prob, "advantage": advantage[:, None], "state_value": old_value[:, None]}
    given = TensorDict(
        {"observation": frames, "action": act, "value_target": batch.returns[:, None], **columns}, [BATCH]
    )
    parts = loss(given)
    theirs = parts["loss_objective"] + parts["loss_critic"] + parts["loss_entropy"]
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(metrics["entropy"], parts["entropy"])
    same_gradients(network, ours, theirs)


@OWN_TARGETS
def test_double_dqn_has_the_loss_of_torchrl() -> None:
    objectives = pytest.importorskip("torchrl.objectives")
    from tensordict.nn import TensorDictModule
    from torchrl.modules import QValueActor

    online, target = make_network(), make_network()
    batch = draw_transitions()
    ours, _ = DoubleDqnLearner(online, target)(batch)
    values = QValueActor(TensorDictModule(online, ["observation"], ["action_value"]), action_space="categorical")
    loss = objectives.DQNLoss(values, double_dqn=True, loss_function="smooth_l1", action_space="categorical")
    loss.make_value_estimator(gamma=GAMMA)
    put(target, loss.target_value_network_params)
    theirs = loss(as_tensordict(batch))["loss"]
    torch.testing.assert_close(ours, theirs)
    same_gradients(online, ours, theirs)


@OWN_TARGETS
def test_discrete_sac_has_the_losses_of_torchrl() -> None:
    objectives = pytest.importorskip("torchrl.objectives")
    from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule

    actor, critics, targets = make_network(), (make_network(), make_network()), (make_network(), make_network())
    batch, temperature, start = draw_transitions(), Temperature(0.3), 0.3
    learner = DiscreteSacLearner(actor, critics, targets, temperature, ENTROPY * math.log(NUM_ACTIONS))
    ours, metrics = learner(batch)
    policy = ProbabilisticTensorDictSequential(
        TensorDictModule(actor, ["observation"], ["logits"]),
        ProbabilisticTensorDictModule(["logits"], ["action"], distribution_class=torch.distributions.Categorical),
    )
    modules = [TensorDictModule(copy.deepcopy(each), ["observation"], ["action_value"]) for each in critics]
    loss = objectives.DiscreteSACLoss(
        policy,
        modules,
        action_space="categorical",
        num_actions=NUM_ACTIONS,
        loss_function="l2",
        alpha_init=start,
        target_entropy_weight=ENTROPY,
    )
    loss.make_value_estimator(gamma=GAMMA)
    weights = [dict(each.named_parameters()) for each in targets]
    put({name: torch.stack([each[name] for each in weights]) for name in weights[0]}, loss.target_qvalue_network_params)
    parts = loss(as_tensordict(batch))
    for name, theirs in (("critics", "qvalue"), ("actor", "actor"), ("temperature", "alpha")):
        torch.testing.assert_close(metrics[f"loss_{name}"], parts[f"loss_{theirs}"].detach())
    torch.testing.assert_close(metrics["entropy"], parts["entropy"])
    whole = parts["loss_qvalue"] + parts["loss_actor"] + parts["loss_alpha"]
    same_gradients(actor, ours, whole)
    torch.testing.assert_close(temperature.log.grad, loss.log_alpha.grad)
    for number, critic in enumerate(critics):
        for name, parameter in critic.named_parameters():
            theirs = loss.qvalue_network_params["module", *name.split(".")].grad[number]
            torch.testing.assert_close(parameter.grad, theirs, rtol=1e-4, atol=1e-4)


def test_no_loss_of_sac_moves_the_networks_of_another_one() -> None:
    """With the critics as good as their targets, only the actor and the temperature move."""
    actor, critic = make_network(), make_network()
    learner = DiscreteSacLearner(actor, (critic, critic), (critic, critic), Temperature(1.0), 0.5)
    batch = draw_transitions()
    exact = Transitions(
        batch.frames,
        batch.act,
        critic(batch.frames).detach().gather(-1, batch.act[:, None])[:, 0],
        batch.next_frames,
        torch.zeros(BATCH),
    )
    loss, metrics = learner(exact)
    loss.backward()
    assert metrics["loss_critics"] < 1e-9
    assert all(each.grad.abs().max() < 1e-4 for each in critic.parameters())
    assert actor.head.weight.grad.abs().max() > 1e-3


def test_targets_follow() -> None:
    online, target = make_network(), make_network()
    before = target.head.weight.clone()
    learner = DoubleDqnLearner(online, target)
    learner.follow(0.25)
    torch.testing.assert_close(target.head.weight, 0.75 * before + 0.25 * online.head.weight)
    learner.follow(1.0)
    assert all(torch.equal(one, other) for one, other in zip(online.parameters(), target.parameters(), strict=True))


def put(source: nn.Module | dict[str, Tensor], params: nn.Module) -> None:
    """Copy weights into TorchRL's nest of parameters."""
    given = source if isinstance(source, dict) else dict(source.named_parameters())
    places = list(params.keys(include_nested=True, leaves_only=True))
    for name, value in given.items():
        (place,) = [each for each in places if ".".join(each).endswith(name)]
        params[place].data.copy_(value.detach())


def as_tensordict(batch: Transitions) -> nn.Module:
    from tensordict import TensorDict

    ends = (batch.discount == 0)[:, None]
    following = {"observation": batch.next_frames, "reward": batch.rew[:, None], "done": ends, "terminated": ends}
    return TensorDict({"observation": batch.frames, "action": batch.act, "next": following}, [BATCH])


def same_gradients(network: nn.Module, ours: Tensor, theirs: Tensor) -> None:
    network.zero_grad()
    ours.backward()
    own = [each.grad.clone() for each in network.parameters()]
    network.zero_grad()
    theirs.backward()
    for mine, each in zip(own, network.parameters(), strict=True):
        torch.testing.assert_close(mine, each.grad)
