"""Who runs next: pure functions over live state, no clock, no randomness, no I/O."""
