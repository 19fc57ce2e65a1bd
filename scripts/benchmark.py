"""How fast this machine trains and imagines: the straightforward way against this project's, in one process.

python scripts/benchmark.py                      # a table, and results/benchmarks/<device>.json
python scripts/benchmark.py --only imagination --device cuda:0 --eager
python scripts/benchmark.py --profile            # what an imagined rollout does, and that the host never waits in it

Straightforward is float32 (TF32 on CUDA), eager, NCHW, batches assembled segment by segment from float32 frames.
Needs PyTorch and NumPy alone; with ale-py and Gymnasium, the collection of experience is measured too, and with
h5py the reading of full-size frames.
"""

import argparse
import copy
import functools
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from agent import Agent, AgentConfig
from component import Component, Metrics, OptimizerConfig, TrainingConfig
from data import (
    Batch,
    Dataset,
    Episode,
    FullFrames,
    Replay,
    Segments,
    draw_segments,
    segment_by_segment,
    to_unit_range,
)
from data.full_frames import FILE_ID, write_hdf5
from envs import AtariConfig, WorldModelEnv, WorldModelEnvConfig, make_env
from models.actor_critic import ActorCriticConfig
from models.diffusion import DenoiserConfig, InnerModelConfig
from models.rew_end_model import RewEndModelConfig
from rl.collector import Collector
from rl.rollout import Rollouts
from run.compiled import compile_networks, uncompiled
from run.device import autocast, choose_device, choose_precision
from run.measure import BytesMoved, begin_peak, device_name, file_name, read_peak_gb, time_once
from run.memory import keep_freed_memory
from run.ranks import Ranks

NUM_ACTIONS = 4
FULL_SIZE = (150, 280)
CONDITIONING, DENOISER_LENGTH, REW_END_LENGTH = 4, 6, 19


@dataclass(frozen=True)
class Sizes:
    """How much is measured; the default is the published recipe."""

    image: int = 64
    width: int = 64
    depth: int = 2
    lstm: int = 512
    batch: int = 32
    replay_steps: int = 100_000
    plain_steps: int = 20_000
    episodes: int = 3_000
    repeats: int = 3
    batch_repeats: int = 200


QUICK = Sizes(16, 16, 1, 32, 4, 2_000, 1_000, 40, 1, 3)


@dataclass(frozen=True)
class Way:
    """One of the two ways, ready to work."""

    name: str
    agent: Agent
    precision: torch.dtype
    draw: Callable[[int, int, bool], Batch]
    """Draws a batch of that many segments of that length, which may reach behind their episode's end or not."""
    is_compiled: bool


@dataclass(frozen=True)
class Result:
    """Seconds of one run in both ways; where they are counted, its operations and the bytes that its tensors have."""

    name: str
    plain_seconds: float
    default_seconds: float
    plain_peak_gb: float | None
    default_peak_gb: float | None
    tflop: float = 0.0
    eager_gb_moved: float = 0.0
    frames: int = 0

    @property
    def ratio(self) -> float:
        return self.plain_seconds / self.default_seconds


def main() -> None:
    arguments = parse_arguments()
    device = choose_device(arguments.device, setting="--device ")
    sizes = QUICK if arguments.quick else Sizes()
    torch.manual_seed(0)
    # As in training. Both ways have it, which flatters the straightforward one.
    keep_freed_memory()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    plain, default = make_ways(sizes, device, "auto" if arguments.compile else False)
    if arguments.profile:
        print(profile_rollout(default, sizes, device, arguments.output))
        return
    results = []
    for name, measure in PARTS.items():
        if arguments.only is None or name in arguments.only:
            print(f"Measuring {name} ...", file=sys.stderr, flush=True)
            results += measure(plain, default, sizes, device)
    print(table(results, sizes))
    rates = {}
    if (arguments.only is None or "collection" in arguments.only) and has("ale_py", "gymnasium"):
        rates = measure_collection(default, sizes, device)
        for name, rate in rates.items():
            print(f"{name}: {rate:,.0f} steps a second")
    full_frames = None
    if (arguments.only is None or "full_frames" in arguments.only) and has("h5py"):
        full_frames = measure_full_frames(sizes)
        print(f"batch of 4×3 full-size frames from HDF5: {duration(full_frames)}")
    write(results, rates, full_frames, default, sizes, device, arguments.output)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N")
    parser.add_argument("--only", nargs="+", choices=(*PARTS, "collection", "full_frames"), help="these parts alone")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--eager", dest="compile", action="store_false", help="with training.compile=false")
    parser.add_argument("--profile", action="store_true", help="profile one imagined rollout instead")
    parser.add_argument("--output", type=Path, default=PROJECT / "results" / "benchmarks", help="folder of the results")
    return parser.parse_args()


def make_ways(sizes: Sizes, device: torch.device, compiles: bool | str) -> tuple[Way, Way]:
    """The same weights in both ways, each with its own kind of replay on synthetic frames."""
    agent = Agent(make_agent_config(sizes)).to(device)
    with torch.no_grad():
        # Networks begin with zeros in places, which would make work that training does not have.
        for parameter in agent.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    fast = copy.deepcopy(agent).to(memory_format=torch.channels_last)
    is_compiled = compile_networks(fast.large_networks, compiles, device, is_first=True)
    dice = np.random.default_rng(0)
    replay = fill_replay(sizes, device)
    episodes = make_float_episodes(sizes)
    lengths = np.array([len(episode) for episode in episodes])

    def draw_plainly(batch_size: int, length: int, beyond_end: bool) -> Batch:
        segments = draw_segments(dice, lengths, batch_size, length, None, beyond_end)
        return segment_by_segment(episodes, segments).to(device)

    def draw(batch_size: int, length: int, beyond_end: bool) -> Batch:
        segments = draw_segments(dice, replay.episode_lengths, batch_size, length, None, beyond_end)
        return replay.gather(segments).to(device)

    plain = Way("plain", agent, torch.float32, draw_plainly, False)
    return plain, Way("default", fast, choose_precision("auto", device), draw, is_compiled)


def make_agent_config(sizes: Sizes) -> AgentConfig:
    """The networks of config/agent/default.yaml, which a test compares."""
    depths, no_attention, half = (sizes.depth,) * 4, (0,) * 4, sizes.width // 2
    inner_model = InnerModelConfig(3, CONDITIONING, 4 * sizes.width, depths, (sizes.width,) * 4, no_attention)
    return AgentConfig(
        DenoiserConfig(inner_model, sigma_data=0.5, sigma_offset_noise=0.3),
        RewEndModelConfig(sizes.lstm, 3, sizes.image, 2 * sizes.width, depths, (half,) * 4, no_attention),
        ActorCriticConfig(sizes.lstm, 3, sizes.image, (half, half, sizes.width, sizes.width), (1,) * 4),
        num_actions=NUM_ACTIONS,
    )


def fill_replay(sizes: Sizes, device: torch.device) -> Replay:
    replay = Replay(device if device.type == "cuda" else torch.device("cpu"), sizes.replay_steps)
    length = sizes.replay_steps // sizes.episodes
    for _ in range(sizes.episodes):
        replay.add_episode(make_episode(length, sizes.image))
    return replay


def make_float_episodes(sizes: Sizes) -> list[Episode]:
    """As many episodes, whose float32 frames share some memory, so that a small machine has room for them."""
    length = sizes.replay_steps // sizes.episodes
    whole = make_episode(sizes.plain_steps, sizes.image)
    frames = to_unit_range(whole.obs)
    starts = np.random.default_rng(1).integers(0, sizes.plain_steps - length, sizes.episodes)
    columns = (frames, whole.act, whole.rew, whole.end, whole.trunc)
    return [Episode(*[column[start : start + length] for column in columns]) for start in starts]


def make_episode(length: int, image: int) -> Episode:
    flags = torch.zeros(length, dtype=torch.uint8)
    obs = torch.randint(256, (length, 3, image, image), dtype=torch.uint8)
    return Episode(obs, torch.randint(NUM_ACTIONS, (length,)), torch.randint(-1, 2, (length,)).float(), flags, flags)


def measure_update(
    component: str, words: str, plain: Way, default: Way, sizes: Sizes, device: torch.device
) -> list[Result]:
    return [compare(words, lambda way: make_update(way, component, sizes, device), plain, default, sizes, device)]


def measure_imagination(plain: Way, default: Way, sizes: Sizes, device: torch.device) -> list[Result]:
    """Steps of the imagined environment under random actions."""
    results = []
    for batch in (1, sizes.batch):

        def make_step(way: Way, batch: int = batch) -> Callable[[], None]:
            env = make_imagination(way, batch)
            with autocast(device, way.precision):
                env.reset()

            def step() -> None:
                with autocast(device, way.precision):
                    env.prepare(1)
                    env.step(torch.randint(NUM_ACTIONS, (batch,), device=device))

            return step

        repeats = sizes.repeats * (20 if batch == 1 else 2)
        name = f"imagined step, batch {batch}"
        results.append(compare(name, make_step, plain, default, sizes, device, frames=batch, repeats=repeats))
    return results


def measure_batches(plain: Way, default: Way, sizes: Sizes, device: torch.device) -> list[Result]:
    """A batch as the networks read it: in [-1, 1], on the device."""
    results = []
    for length, beyond_end in ((DENOISER_LENGTH, False), (REW_END_LENGTH, True)):

        def make_draw(way: Way, length: int = length, beyond_end: bool = beyond_end) -> Callable[[], None]:
            return lambda: way.draw(sizes.batch, length, beyond_end)

        name = f"batch of {sizes.batch}×{length} frames"
        repeats = sizes.batch_repeats
        results.append(compare(name, make_draw, plain, default, sizes, device, counts=False, repeats=repeats))
    return results


PARTS = {
    "denoiser": functools.partial(measure_update, "denoiser", "denoiser update"),
    "rew_end_model": functools.partial(measure_update, "rew_end_model", "reward/end update"),
    "actor_critic": functools.partial(measure_update, "actor_critic", "actor-critic update"),
    "imagination": measure_imagination,
    "batches": measure_batches,
}


def make_update(way: Way, name: str, sizes: Sizes, device: torch.device) -> Callable[[], None]:
    """An update of a component as the trainer makes it, in one of the two ways."""
    rollouts = make_rollouts(way, sizes)

    def next_batch() -> tuple[object, Metrics]:
        match name:
            case "denoiser":
                return way.draw(sizes.batch, DENOISER_LENGTH, False), {}
            case "rew_end_model":
                return way.draw(sizes.batch, REW_END_LENGTH, True), {}
        with autocast(device, way.precision):
            return rollouts.collect()

    training = TrainingConfig(
        start_after_epochs=0,
        steps_first_epoch=0,
        steps_per_epoch=0,
        batch_size=sizes.batch,
        lr_warmup_steps=100,
        max_grad_norm=1.0,
    )
    module = getattr(way.agent, name)
    optimizer = OptimizerConfig(lr=1e-5, weight_decay=1e-2)
    component = Component(name, module, next_batch, training, optimizer, way.precision, Ranks(0, 1, device))
    if way.name == "plain":
        module.to(memory_format=torch.contiguous_format)
    return component.update


def make_rollouts(way: Way, sizes: Sizes) -> Rollouts:
    return Rollouts(make_imagination(way, sizes.batch), way.agent.actor_critic, way.agent.actor_critic.loss_config)


def make_imagination(way: Way, batch: int) -> WorldModelEnv:
    agent = way.agent.eval()
    draw_starts = lambda count: way.draw(count, CONDITIONING, False)  # noqa: E731
    return WorldModelEnv(agent.denoiser, agent.rew_end_model, draw_starts, WorldModelEnvConfig(), batch)


def compare(
    name: str,
    make: Callable[[Way], Callable[[], None]],
    plain: Way,
    default: Way,
    sizes: Sizes,
    device: torch.device,
    frames: int = 0,
    repeats: int | None = None,
    counts: bool = True,
) -> Result:
    """Medians of runs in turn, after one of each that is not counted."""
    works = {way.name: make(way) for way in (plain, default)}
    tflop = moved = 0.0
    if counts:
        with FlopCounterMode(display=False) as flops:
            works["plain"]()
        tflop = flops.get_total_flops() / 1e12
        with torch.compiler.set_stance("force_eager"), BytesMoved() as counter:
            works["default"]()
        moved = counter.gigabytes
    seconds: dict[str, list[float]] = {"plain": [], "default": []}
    peaks: dict[str, list[float | None]] = {"plain": [], "default": []}
    for work in works.values():
        work()
    for _ in range(repeats or sizes.repeats):
        for way_name, work in works.items():
            begin_peak(device)
            seconds[way_name].append(time_once(work, device))
            peaks[way_name].append(read_peak_gb(device))
    medians = [statistics.median(seconds[way_name]) for way_name in works]
    highest = [None if None in values else max(values) for values in peaks.values()]
    return Result(name, *medians, *highest, tflop, moved, frames)


def table(results: list[Result], sizes: Sizes) -> str:
    """Both ways side by side, with what the default one achieves."""
    header = ("", "plain", "default", "ratio", "TFLOP/s", "GB moved eagerly", "peak GB")
    rows = [header, *[table_row(result) for result in results]]
    updates = [result for result in results if result.name.endswith("update")]
    if len(updates) == 3:
        plain, default = [sum(getattr(each, f"{way}_seconds") for each in updates) for way in ("plain", "default")]
        rows.append(("whole update", duration(plain), duration(default), f"{plain / default:.1f}×", "", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    if len(updates) == 3:
        lines.append(f"Updates of a full Atari 100k run at this pace: {full_run_hours(updates):.1f} hours")
    return "\n".join(lines)


def table_row(result: Result) -> tuple[str, ...]:
    rate = f"{result.tflop / result.default_seconds:.2f}" if result.tflop else ""
    moved = f"{result.eager_gb_moved:.1f}" if result.eager_gb_moved else ""
    peak = "" if result.default_peak_gb is None else f"{result.plain_peak_gb:.1f} → {result.default_peak_gb:.1f}"
    cells = [
        duration(result.plain_seconds),
        duration(result.default_seconds),
        f"{result.ratio:.1f}×",
        rate,
        moved,
        peak,
    ]
    per_second = f" ({result.frames / result.default_seconds:.1f} frames/s)" if result.frames else ""
    return (result.name + per_second, *cells)


def full_run_hours(updates: list[Result]) -> float:
    """First epoch, then about 1,000 epochs of 400 updates (REFERENCE: 10,000, 10,000 and 5,000 in the first)."""
    first = dict(zip((each.name for each in updates), (10_000, 10_000, 5_000), strict=True))
    return sum(each.default_seconds * (first[each.name] + 400 * 1_000) for each in updates) / 3600


def duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.2f} ms"


def has(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def measure_full_frames(sizes: Sizes) -> float:
    """Seconds that an upsampler's batch takes to be read, from files that were read before."""
    with tempfile.TemporaryDirectory() as folder:
        dataset, length = Dataset(Path(folder) / "low_res"), 100
        for number in range(4):
            frames = np.random.default_rng(number).integers(0, 256, (length, *FULL_SIZE, 3), np.uint8)
            write_hdf5(Path(folder) / "full_res" / f"{number}.hdf5", frames, np.zeros((length, 51)))
            episode = make_episode(length, 8)
            dataset.add_episode(replace(episode, info={FILE_ID: f"{number}.hdf5"}))
        full, dice = FullFrames(Path(folder) / "full_res", dataset), np.random.default_rng(0)
        segments = [Segments(np.arange(4), dice.integers(0, length - 3, 4), 3) for _ in range(sizes.batch_repeats)]
        device = torch.device("cpu")
        return statistics.median(time_once(lambda each=each: full.gather(each), device) for each in segments)


def measure_collection(way: Way, sizes: Sizes, device: torch.device) -> dict[str, float]:
    """Emulator steps a second: collection at one environment, rollouts of 32 for model-free training, no policy."""
    game, policy = AtariConfig("BreakoutNoFrameskip-v4", sizes.image), way.agent.actor_critic
    env = make_env(game, 1, 0, device)
    collector = Collector(env, policy, lambda episode, episode_id: 0, epsilon=0.01, precision=way.precision)
    collector.begin()
    # As a run collects, which has many shapes that would each be compiled.
    with uncompiled():
        rates = {"collection, 1 environment": steps_per_second(collector.step, 1, 20 * sizes.batch, sizes)}
    env.close()
    env = make_env(game, 32, 0, device)
    rollouts = Rollouts(env, policy, policy.loss_config)

    def collect() -> None:
        with autocast(device, way.precision):
            rollouts.collect()

    steps = 32 * policy.loss_config.backup_every
    rates["model-free rollouts, 32 environments"] = steps_per_second(collect, steps, max(1, sizes.batch // 4), sizes)
    act = torch.randint(NUM_ACTIONS, (32,))
    rates["emulators alone, 32 environments"] = steps_per_second(lambda: env.step(act), 32, 4 * sizes.batch, sizes)
    env.close()
    return rates


def steps_per_second(work: Callable[[], None], num_steps: int, count: int, sizes: Sizes) -> float:
    """The median of rounds of `count` calls, each of which makes `num_steps`, after one that is not counted."""
    rounds = []
    for _ in range(1 + sizes.repeats):
        started = time.perf_counter()
        for _ in range(count):
            work()
        rounds.append(count * num_steps / (time.perf_counter() - started))
    return statistics.median(rounds[1:])


def profile_rollout(way: Way, sizes: Sizes, device: torch.device, output: Path) -> str:
    """Profile an imagined rollout, behind `prepare`; on CUDA, raises if the host waits for the device in it."""
    rollouts = make_rollouts(way, sizes)
    for _ in range(2):
        with autocast(device, way.precision):
            rollouts.collect()
    rollouts.env.prepare(way.agent.actor_critic.loss_config.backup_every)
    # From here on the rollout finds everything prepared.
    rollouts.env.prepare = lambda num_steps: None
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
        torch.cuda.synchronize(device)
        torch.cuda.set_sync_debug_mode("error")
    with torch.profiler.profile(activities=kinds) as profile, autocast(device, way.precision):
        rollouts.collect()
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("default")
    averages = profile.key_averages()
    waits = {event.key: event.count for event in averages if event.key in READS_ON_THE_HOST}
    sort_by = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    text = (
        f"One imagined rollout of {way.agent.actor_critic.loss_config.backup_every} steps, batch {sizes.batch}, on "
        f"{device_name(device)}.\nOperations in which the host waits for a value: {waits or 'none'}.\n"
        f"{averages.table(sort_by=sort_by, row_limit=25, max_name_column_width=60)}\n"
    )
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{file_name(device)}_rollout_profile.txt").write_text(text)
    return text


READS_ON_THE_HOST = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "cudaStreamSynchronize")


def write(
    results: list[Result],
    rates: dict[str, float],
    full_frames: float | None,
    way: Way,
    sizes: Sizes,
    device: torch.device,
    output: Path,
) -> None:
    """The numbers as JSON, with what is needed to read them again later."""
    content = {
        "device": device_name(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "default_precision": str(way.precision),
        "default_is_compiled": way.is_compiled,
        "sizes": asdict(sizes),
        "results": [{**asdict(result), "ratio": result.ratio} for result in results],
        "steps_per_second": rates,
        "full_frames_seconds": full_frames,
    }
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{file_name(device)}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"Numbers: {path}")


if __name__ == "__main__":
    main()
