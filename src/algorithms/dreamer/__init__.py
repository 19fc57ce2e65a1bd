"""DreamerV3 (Hafner et al. 2023): a recurrent latent model of the world, and a policy that learns in imagination."""
