"""Settings of small runs of the model-free algorithms; a game has to be added."""

COMMON = (
    "agent.num_frames=2",
    "agent.features=16",
    "agent.channels=[8,8]",
    "agent.down=[1,1]",
    "collection.test.num_envs=2",
    "collection.test.num_episodes=2",
    "collection.test.num_final_episodes=3",
    "evaluation.every=2",
    "evaluation.untrained=false",
    "training.compile=false",
    "common.device=cpu",
    "common.seed=3",
)
ROLLOUT, UPDATES_PER_ROLLOUT, NUM_STEPS = 32, 4, 200
PREFILL, UPDATES_PER_STEP = 40, 0.5
OFF_POLICY = (
    "collection.train.num_envs=2",
    f"collection.train.num_steps_total={NUM_STEPS}",
    "collection.train.first_epoch.min=80",
    "collection.train.first_epoch.max=80",
    "collection.train.steps_per_epoch=60",
)
SMALL = {
    "ppo": (
        "algorithm=ppo",
        *COMMON,
        "collection.train.num_envs=4",
        "collection.train.num_groups=2",
        f"collection.train.num_steps_total={NUM_STEPS}",
        f"collection.train.steps_per_epoch={2 * ROLLOUT}",
        "ppo.num_steps=8",
        "ppo.epochs=2",
        "ppo.minibatches=2",
    ),
    **{
        name: (
            f"algorithm={name}",
            *COMMON,
            *OFF_POLICY,
            f"{name}.batch_size=4",
            f"{name}.prefill={PREFILL}",
            f"{name}.updates_per_step={UPDATES_PER_STEP}",
            f"{name}.num_steps=3",
            f"{name}.target.every=7",
            f"{name}.target.rate=0.5",
        )
        for name in ("ddqn", "sac")
    },
}
