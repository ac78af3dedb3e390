"""What happened: event types, the recorded event, and the append-only log with its engines."""

PROJECT = "safelight"
