"""A run: its folder, its checkpoints, its mirror on wandb, and the job itself."""
