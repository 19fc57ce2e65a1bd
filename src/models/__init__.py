"""Networks with their configurations and losses: `forward(batch) -> (loss, metrics)`."""
