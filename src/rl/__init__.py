"""Policies: rollouts in any environment, λ-returns, and the collection of episodes."""
