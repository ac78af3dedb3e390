"""Pipelines of the real diffusers classes with small random weights, made in a second."""
