"""What the trainer is put together from: settings, schedule, parts, evaluation, and the summary of a run."""
