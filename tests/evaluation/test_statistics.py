"""Statistics against numbers that are computed by hand, and against direct calls of SciPy."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap, trim_mean

from evaluation.published import game_name, human_normalised, read_published
from evaluation.returns import Evaluated, returns_table
from evaluation.runs import Identity, group_runs, identify
from evaluation.statistics import (
    interquartile_mean,
    interquartile_mean_interval,
    mean_interval,
    probability_of_improvement,
)
from evaluation.table import comma_separated, in_words, markdown
from rl.results import Results


def test_interval_of_the_mean() -> None:
    # The mean of two draws from {0, 1} is 0, ½ or 1, with probabilities ¼, ½ and ¼.
    assert mean_interval([0, 1]) == (0, 1)
    assert mean_interval([3, 3, 3]) == (3, 3)
    assert mean_interval([3]) is None
    assert mean_interval([]) is None
    values = np.random.default_rng(1).normal(5, 2, 100)
    low, high = mean_interval(values)
    found = bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    # Two bootstraps of 10,000 resamples each: their limits differ by a few hundredths of the standard error.
    error = values.std() / 10
    assert (low, high) == pytest.approx((found.low, found.high), abs=0.15 * error)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.3 * error)
    assert mean_interval(values) == (low, high)


def test_probability_of_improvement() -> None:
    # Of nine pairs, (2, 2) twice counts half, and 3 is larger than 2 twice.
    assert probability_of_improvement([1, 2, 3], [2, 2, 5]) == 3 / 9
    assert probability_of_improvement([2, 2, 5], [1, 2, 3]) == 6 / 9
    assert probability_of_improvement([4, 4], [4, 4, 4]) == 0.5
    assert probability_of_improvement([1], [0]) == 1


def test_interquartile_mean() -> None:
    games = {"a": [0.0, 1.0, 2.0, 3.0], "b": [100.0, 5.0, 4.0, -50.0]}
    # Without the two smallest (-50, 0) and the two largest (5, 100).
    assert interquartile_mean(games) == (1 + 2 + 3 + 4) / 4
    low, high = interquartile_mean_interval(games)
    rng = np.random.default_rng(5)
    resampled = np.concatenate([rng.choice(runs, (20_000, 4)) for runs in games.values()], axis=1)
    # The distribution is coarse: limits are compared by the share of resamples beyond them.
    means = trim_mean(resampled, 0.25, axis=1)
    assert (means < low).mean() <= 0.03
    assert (means <= low).mean() >= 0.02
    assert (means > high).mean() <= 0.03
    assert (means >= high).mean() >= 0.02
    assert interquartile_mean_interval({"a": [1.0], "b": [2.0]}) is None
    # A game with one run is the same in every resample.
    assert interquartile_mean_interval({"a": [1.0, 1.0], "b": [2.0]}) == pytest.approx((4 / 3, 4 / 3))


def test_human_normalised_scores() -> None:
    published = read_published()
    assert human_normalised("Breakout", 30.5, published) == pytest.approx(1.0, abs=0.01)
    assert human_normalised("Breakout", 1.7, published) == pytest.approx(0.0, abs=0.01)
    assert human_normalised("Chase-v0", 3, published) is None
    assert human_normalised("Breakout", 3, read_published(Path("nowhere.csv"))) is None
    assert [game_name(name) for name in ("BreakoutNoFrameskip-v4", "ALE/Pong-v5")] == ["Breakout", "Pong"]


def run(path: str, seed: int, game: str = "Pong", algorithm: str = "diamond", **settings: str) -> Identity:
    return Identity(Path(path), game, algorithm, seed, settings)


def evaluated(identity: Identity, *returns: float, epoch: int = 9) -> Evaluated:
    return Evaluated(identity, f"agent_epoch_{epoch:05d}", epoch, Results(returns, tuple(10 for _ in returns)))


def test_table_of_two_runs_with_known_returns() -> None:
    first, second = (1.0, 2.0, 3.0, 6.0), (2.0, 5.0, 5.0, 8.0)
    random = (0.0, 1.0, 2.0, 2.0)
    rows = returns_table(
        [evaluated(run("a", 0), *first), evaluated(run("b", 1, lr="1e-3"), *second)],
        {"Pong": Results(random, (3, 4, 5, 6))},
        {"Human": {"Pong": [14.6]}, "Random": {"Pong": [-20.7]}},
    )
    assert [row["agent"] for row in rows] == ["diamond (lr=absent)", "diamond (lr=1e-3)", "random"]
    assert [row["mean"] for row in rows] == [3, 5, 1.25]
    # Deviations from the mean: -2, -1, 0, 3 and -3, 0, 0, 3 and -1.25, -0.25, 0.75, 0.75.
    assert [row["std"] for row in rows] == pytest.approx([3.5**0.5, 4.5**0.5, (2.75 / 4) ** 0.5])
    assert [row["median"] for row in rows] == [2.5, 5, 1.5]
    assert [(row["min"], row["max"]) for row in rows] == [(1, 6), (2, 8), (0, 2)]
    assert [row["length"] for row in rows] == [10, 10, 4.5]
    assert [row["episodes"] for row in rows] == [4, 4, 4]
    assert [row["human normalised"] for row in rows] == pytest.approx([(mean + 20.7) / 35.3 for mean in (3, 5, 1.25)])
    # Of 16 pairs: 2 beats 1, ties with 2; each 5 beats 1, 2, 3; 8 beats all.
    assert [row["P(> first)"] for row in rows] == [None, (1.5 + 3 + 3 + 4) / 16, (0.5 + 1.5 + 1.5) / 16]
    # 1 beats 0, ties with 1; 2 beats two, ties with two; 3 and 6 beat all. 2: 3; 5, 5, 8: all.
    assert [row["P(> random)"] for row in rows] == [(1.5 + 3 + 4 + 4) / 16, (3 + 4 + 4 + 4) / 16, None]
    assert [row["95% interval"] for row in rows] == [mean_interval(first), mean_interval(second), mean_interval(random)]


def test_runs_that_differ_in_the_seed_have_a_row_together() -> None:
    agents = [
        evaluated(run("a", 0), 1.0, 3.0),
        evaluated(run("b", 1), 4.0, 4.0),
        evaluated(run("c", 2), 9.0, 9.0),
        evaluated(run("d", 0, game="Boxing"), 7.0),
        evaluated(run("e", 0, algorithm="dreamer"), 5.0, 3.0),
    ]
    rows = {(row["game"], row["agent"], row["run"]): row for row in returns_table(agents, {}, {})}
    assert len(rows) == 7
    assert rows["Boxing", "diamond", "d"]["P(> first)"] is None
    group = rows["Pong", "diamond", "all 3"]
    # Statistics of the runs' means, which are 2, 4 and 9; the interval is that of three values.
    assert (group["seed"], group["episodes"], group["mean"], group["median"]) == ("0, 1, 2", 6, 5, 4)
    assert group["std"] == pytest.approx(((9 + 1 + 16) / 3) ** 0.5)
    assert group["95% interval"] == mean_interval([2, 4, 9])
    # 5 beats 1, 3, 4, 4; 3 beats 1, ties with 3: of twelve pairs of episodes.
    assert rows["Pong", "dreamer", "all 1"]["P(> first)"] == (4 + 1.5) / 12
    assert group["P(> first)"] is None


def test_weights_of_several_epochs() -> None:
    agents = [
        evaluated(run(path, seed), value, value, epoch=epoch)
        for path, seed in (("a", 0), ("b", 1))
        for epoch, value in ((5, 1.0 + seed), (10, 8.0 + seed))
    ]
    rows = returns_table(agents, {}, {}, by_epoch=True)
    assert [(row["weights"], row["mean"]) for row in rows[4:]] == [("epoch 5", 1.5), ("epoch 10", 8.5)]
    assert [row["P(> first)"] for row in rows] == [None, 1, 1, 1, None, 1]


def test_groups() -> None:
    runs = [
        run("a", 0, lr="1"),
        run("b", 1, lr="1"),
        run("c", 0, lr="2", horizon="5"),
        run("d", 0, game="Boxing", lr="3"),
    ]
    groups = group_runs(runs)
    assert [(group.game, group.label, group.members) for group in groups] == [
        ("Pong", "diamond (lr=1, horizon=absent)", (0, 1)),
        ("Pong", "diamond (lr=2, horizon=5)", (2,)),
        ("Boxing", "diamond", (3,)),
    ]
    assert len(group_runs([run("a", 0, a="1", b="1", c="1", d="1"), run("b", 0)])[0].label.split(",")) == 4


def test_identity() -> None:
    config = {
        "algorithm": {"name": "diamond"},
        "common": {"seed": 3, "device": "cpu"},
        "env": {"train": {"id": "PongNoFrameskip-v4"}, "test": {"id": "PongNoFrameskip-v4"}},
        "denoiser": {"optimizer": {"lr": 1e-4}},
        "training": {"precision": "auto", "num_final_epochs": 5},
        "wandb": {"mode": "disabled"},
    }
    identity = identify(Path("a"), config)
    assert (identity.game, identity.algorithm, identity.seed) == ("Pong", "diamond", 3)
    assert identity.settings == {
        "algorithm.name": '"diamond"',
        "env.train.id": '"PongNoFrameskip-v4"',
        "denoiser.optimizer.lr": "0.0001",
        "training.num_final_epochs": "5",
    }


def test_tables() -> None:
    rows = [
        {"name": "a", "mean": 1.23456, "interval": (0.5, 123.456), "empty": None, "count": 3},
        {"name": "long name", "mean": None, "interval": None, "empty": None, "count": 1},
    ]
    assert markdown(rows).splitlines() == [
        "| name      | mean  | interval       | count |",
        "|-----------|-------|----------------|-------|",
        "| a         | 1.235 | 0.500 to 123.5 | 3     |",
        "| long name |       |                | 1     |",
    ]
    assert comma_separated(rows) == (
        "name,mean,interval low,interval high,empty,count\na,1.23456,0.5,123.456,,3\nlong name,,,,,1\n"
    )
    assert in_words(-21.0) == "-21.0"
