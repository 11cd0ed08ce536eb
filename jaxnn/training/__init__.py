"""A training run: configuration, step, loop, devices and sweeps."""
