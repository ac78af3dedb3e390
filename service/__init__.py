"""What may happen and doing it: commands, decisions, scheduling, artifacts, and the GPU worker."""

PROJECT = "safelight"
