"""A profile of one imagined rollout, and whether the host waits for the device in it."""

from pathlib import Path

import torch

from benchmarks.parts import make_rollouts
from benchmarks.ways import Bench
from run.device import autocast
from run.measure import device_name, file_name

READS_ON_THE_HOST = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "cudaStreamSynchronize")


def profile_rollout(bench: Bench, output: Path) -> str:
    """Profile an imagined rollout, after `prepare`; returns what is also written to a file in `output`.

    On CUDA, raises if the host waits for the device in the rollout.
    """
    way, device, num_steps = bench.default, bench.device, bench.default.agent.actor_critic.loss_config.backup_every
    rollouts = make_rollouts(bench, way)
    for _ in range(2):
        with autocast(device, way.precision):
            rollouts.collect()
    rollouts.env.prepare(num_steps)
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
        f"One imagined rollout of {num_steps} steps, batch {bench.sizes.batch}, on {device_name(device)}.\n"
        f"Operations in which the host waits for a value: {waits or 'none'}.\n"
        f"{averages.table(sort_by=sort_by, row_limit=25, max_name_column_width=60)}\n"
    )
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{file_name(device)}_rollout_profile.txt").write_text(text)
    return text
