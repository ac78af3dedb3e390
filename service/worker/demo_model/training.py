"""What the training runs share: endless drawings, averaged weights, the rate schedule and checkpoints."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from service.worker.demo_model.latents import encode_drawing
from service.worker.demo_model.shapes import Drawing, Scene, draw, draw_scenes, render

WARM_UP_STEPS = 100


class Batch:
    """Scenes with their pictures (batch, 3, 64, 64) 0..1 and exact latents (batch, 10, 16, 16)."""

    def __init__(self, scenes: list[Scene], generator: torch.Generator) -> None:
        drawing: Drawing = draw(scenes, generator)
        self.scenes = scenes
        self.pictures: Tensor = render(drawing)
        self.latents: Tensor = encode_drawing(drawing, self.pictures)


class Run:
    """One optimisation of some weights, from step 0 to steps, that can stop and go on as if it had not.

    Holds the optimiser, an exponential moving average of the weights and the only two sources of chance.
    """

    def __init__(self, weights: list[nn.Parameter], steps: int, rate: float, seed: int, checkpoint: Path) -> None:
        self.weights = weights
        self.steps = steps
        self.rate = rate
        self.step = 0
        self.mean_loss = 0.0  # over about the last 100 steps
        self.checkpoint = checkpoint
        self.optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
        self.averages = [weight.detach().clone() for weight in weights]
        self.rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        if checkpoint.exists():
            self._restore()

    def batches(self, size: int) -> Iterator[Batch]:
        """A fresh batch of size pictures for every remaining step."""
        while self.step < self.steps:
            yield Batch(draw_scenes(size, self.rng), self.generator)

    def learn(self, loss: Tensor, average_decay: float) -> None:
        """One optimiser step on the loss, at the rate of this step; a checkpoint every 500 steps."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * rate_share(self.step, self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.mean_loss += (loss.item() - self.mean_loss) / min(self.step + 1, 100)
        # A young average follows fast, or the starting weights would linger in it.
        decay = min(average_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, list(self.weights), 1 - decay)
        self.step += 1
        if self.step % 500 == 0 or self.step == self.steps:
            self._save()

    def keep_averages(self) -> None:
        """Ends the run: the averages become the weights."""
        self._load_weights(self.averages)

    def _load_weights(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self.weights, values, strict=True):
                weight.copy_(value)

    def _save(self) -> None:
        state = {
            "step": self.step,
            "mean_loss": self.mean_loss,
            "weights": list(self.weights),
            "averages": self.averages,
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.getstate(),
            "generator": self.generator.get_state(),
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.checkpoint.with_suffix(".new")
        torch.save(state, fresh)
        fresh.replace(self.checkpoint)

    def _restore(self) -> None:
        state = torch.load(self.checkpoint, weights_only=False)
        self.step = state["step"]
        self.mean_loss = state["mean_loss"]
        self._load_weights(state["weights"])
        self.averages = state["averages"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.setstate(state["rng"])
        self.generator.set_state(state["generator"])


def learned_parameters(*networks: nn.Module) -> list[nn.Parameter]:
    """The parameters of the networks, in the order in which a checkpoint keeps them."""
    return [parameter for network in networks for parameter in network.parameters()]


def load_averages(weights: list[nn.Parameter], checkpoint: Path) -> None:
    """Sets the weights to a run's averages so far; they must be those of the run, in its order."""
    averages = torch.load(checkpoint, weights_only=False)["averages"]
    with torch.no_grad():
        for weight, average in zip(weights, averages, strict=True):
            weight.copy_(average)


def rate_share(step: int, steps: int) -> float:
    """The learning rate's share of its peak: warm-up, peak for 40 % of the run, straight line to 2 %."""
    falling = 1.0 if step < 0.4 * steps else max(0.02, (1 - step / steps) / 0.6)
    return min(1.0, (step + 1) / WARM_UP_STEPS) * falling
