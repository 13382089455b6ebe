"""Training of the three networks: one loop, three stages."""
