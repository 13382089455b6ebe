"""Training of the networks: one loop, a stage for each."""
