"""The step engine: several jobs on one device, each in its own pipeline call, together at the denoiser."""
