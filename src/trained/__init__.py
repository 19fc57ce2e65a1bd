"""Trained agents: the weights of a run or published ones, opened to act, imagine and be measured."""
