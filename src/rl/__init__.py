"""Acting: rollouts of a policy in any environment, returns, and the collection of episodes."""
