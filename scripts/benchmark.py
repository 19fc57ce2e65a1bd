"""How fast this machine trains and imagines: the straightforward way against this project's, in one process.

python scripts/benchmark.py                      # a table, and results/benchmarks/<device>.json
python scripts/benchmark.py --only imagination --device cuda:0 --eager
python scripts/benchmark.py --only dreamer --dreamer-unit 32    # DreamerV3 of size 50M
python scripts/benchmark.py --profile            # what an imagined rollout does, and that the host never waits in it

Straightforward is float32 (TF32 on CUDA), eager, NCHW, batches assembled segment by segment from float32 frames.
Needs PyTorch and NumPy alone. With ale-py, Gymnasium, OmegaConf and TensorBoard, the collection of experience is
measured too, and with h5py the reading of full-size frames.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "src"), str(PROJECT / "scripts")]

import torch

from benchmarks.optional import NEEDS, has, measure_collection, measure_full_frames
from benchmarks.parts import PARTS
from benchmarks.report import Numbers, duration, table, write_numbers
from benchmarks.rollout_profile import profile_rollout
from benchmarks.ways import QUICK, Bench, Sizes, make_bench
from run.allocator import keep_freed_memory
from run.device import choose_device, make_current, set_backends


def main() -> None:
    arguments = parse_arguments()
    device = choose_device(arguments.device, setting="--device ")
    make_current(device)
    torch.manual_seed(0)
    # As in training. Both ways have it, which flatters the straightforward one.
    keep_freed_memory()
    # Both ways may use TF32, too.
    set_backends(device, torch.bfloat16)
    sizes = QUICK if arguments.quick else Sizes()
    if arguments.dreamer_unit is not None:
        sizes = replace(sizes, dreamer_unit=arguments.dreamer_unit)
    bench = make_bench(sizes, device, "auto" if arguments.compile else False)
    if arguments.profile:
        print(profile_rollout(bench, arguments.output))
        return

    numbers, path = Numbers(), arguments.output
    for name in [each for each in (*PARTS, *NEEDS) if each in (arguments.only or (*PARTS, *NEEDS))]:
        print(f"Measuring {name} ...", file=sys.stderr, flush=True)
        # Written after each measurement: what is stopped keeps what it has.
        for _ in measure(name, bench, numbers):
            path = write_numbers(numbers, bench, arguments.output)
    print(table(numbers.results))
    for name, rate in numbers.steps_per_second.items():
        print(f"{name}: {rate:,.0f} steps a second")
    if numbers.full_frames_seconds is not None:
        print(f"batch of 4×3 full-size frames from HDF5: {duration(numbers.full_frames_seconds)}")
    print(f"Numbers: {path}")


def measure(name: str, bench: Bench, numbers: Numbers) -> Iterator[None]:
    """Measure a part, and add what it gives to the numbers, one after the other."""
    if name in PARTS:
        for result in PARTS[name](bench):
            numbers.results.append(result)
            yield
    elif has(name):
        if name == "collection":
            numbers.steps_per_second = measure_collection(bench)
        else:
            numbers.full_frames_seconds = measure_full_frames(bench.sizes)
        yield


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N")
    parser.add_argument("--only", nargs="+", choices=(*PARTS, *NEEDS), help="these parts alone")
    units = "widths of DreamerV3: 4 is size 1M, 16 (default) 12M, 24 25M, 32 50M, 48 100M, 64 200M, 96 400M"
    parser.add_argument("--dreamer-unit", type=int, choices=(4, 16, 24, 32, 48, 64, 96), help=units)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--eager", dest="compile", action="store_false", help="with training.compile=false")
    parser.add_argument("--profile", action="store_true", help="profile one imagined rollout instead")
    parser.add_argument("--output", type=Path, default=PROJECT / "results" / "benchmarks", help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
