"""Sweep files in wandb's format: read, checked, run without a server, gathered."""
