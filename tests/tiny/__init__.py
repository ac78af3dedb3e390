"""Pipelines of the real diffusers classes with small random weights: built in a second, in the ordinary format."""
