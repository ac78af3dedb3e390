"""The embedded model: a tiny text-conditioned diffusion model, its training code and its measurement.

The weights are an ordinary diffusers folder shipped in the package, so that a machine without GPU, network or
downloads runs a real StableDiffusionPipeline. Nothing heavy is imported here.
"""

from pathlib import Path

WEIGHTS: Path = Path(__file__).parent / "weights"
