"""How fast this machine trains and imagines: the straightforward way against this project's, in one process.

python scripts/benchmark.py                      # a table, and results/benchmarks/<device>.json
python scripts/benchmark.py --only imagination --device cuda:0 --eager
python scripts/benchmark.py --profile            # what an imagined rollout does, and that the host never waits in it

Straightforward is float32 (TF32 on CUDA), eager, NCHW, batches assembled segment by segment from float32 frames.
Needs PyTorch and NumPy alone. With ale-py, Gymnasium, OmegaConf and TensorBoard, the collection of experience is
measured too, and with h5py the reading of full-size frames.
"""

import argparse
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "src"), str(PROJECT / "scripts")]

import torch

from benchmarks.optional import NEEDS, has, measure_collection, measure_full_frames
from benchmarks.parts import PARTS
from benchmarks.report import Numbers, duration, table, write_numbers
from benchmarks.rollout_profile import profile_rollout
from benchmarks.ways import QUICK, Sizes, make_bench
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
    bench = make_bench(QUICK if arguments.quick else Sizes(), device, "auto" if arguments.compile else False)
    if arguments.profile:
        print(profile_rollout(bench, arguments.output))
        return

    wanted = arguments.only or (*PARTS, *NEEDS)
    results = []
    for name, measure in PARTS.items():
        if name in wanted:
            print(f"Measuring {name} ...", file=sys.stderr, flush=True)
            results += measure(bench)
    print(table(results))
    rates, full_frames = {}, None
    if "collection" in wanted and has("collection"):
        rates = measure_collection(bench)
        for name, rate in rates.items():
            print(f"{name}: {rate:,.0f} steps a second")
    if "full_frames" in wanted and has("full_frames"):
        full_frames = measure_full_frames(bench.sizes)
        print(f"batch of 4×3 full-size frames from HDF5: {duration(full_frames)}")
    print(f"Numbers: {write_numbers(Numbers(results, rates, full_frames), bench, arguments.output)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N")
    parser.add_argument("--only", nargs="+", choices=(*PARTS, *NEEDS), help="these parts alone")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--eager", dest="compile", action="store_false", help="with training.compile=false")
    parser.add_argument("--profile", action="store_true", help="profile one imagined rollout instead")
    parser.add_argument("--output", type=Path, default=PROJECT / "results" / "benchmarks", help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
