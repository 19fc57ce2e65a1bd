"""Algorithms that learn from real experience alone, without a model of the world: the baselines of world models."""
