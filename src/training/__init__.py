"""The parts of the trainer: schedule, runners of phases, data, checkpoints, reports, and the summary of a run."""
