"""What is true now: live state and views folded from the log, each with a checkpoint."""

PROJECT = "safelight"
