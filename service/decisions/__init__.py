"""Whether a command may happen: pure functions from live state and command to events or a refusal."""
