"""The demo model's language: how a scene is said in words, plainly or as people would type it."""

from __future__ import annotations

import random
import string

from service.worker.demo_model.shapes import COLOURS, PLACES, SHAPES, SIZES, Scene

_OPENERS = ["photo of", "drawing of", "picture of", "icon of", "image of"]
# One token each; those that vary() never says are likely to be typed and mean nothing.
_FILLERS = [
    "a",
    "an",
    "and",
    "at",
    "background",
    "flat",
    "in",
    "nice",
    "of",
    "on",
    "shape",
    "simple",
    "the",
    "with",
]

WORDS = sorted({*COLOURS, *SHAPES, *SIZES, *PLACES, *_FILLERS, *" ".join(_OPENERS).split()})


def describe(scene: Scene) -> str:
    """The full prompt of a scene: "a small red star on a blue background, left" (the middle is not said)."""
    place = "" if scene.place == "middle" else f", {scene.place}"
    return f"a {scene.size} {scene.colour} {scene.shape} on a {scene.background} background{place}"


def vary(scene: Scene, rng: random.Random) -> str:
    """A random phrasing of a scene: attributes may be left out and a nonsense word may follow.

    A word left out means that any value will do, so the model learns to fill it in at random.
    """
    subject = _subject(scene, rng)
    backdrop = "" if rng.random() < 0.12 else _backdrop(scene.background, rng)
    if scene.place != "middle" and rng.random() < 0.94:
        where = rng.choice([f"on the {scene.place}", scene.place, f"at the {scene.place}"])
        if rng.random() < 0.5:
            subject = f"{subject} {where}"
        else:
            backdrop = f"{backdrop}, {where}"
    nonsense = f" {_nonsense(rng)}" if rng.random() < 0.06 else ""
    return subject + backdrop + nonsense


def _subject(scene: Scene, rng: random.Random) -> str:
    words = [scene.size] * (rng.random() < 0.85)
    words += [scene.colour] * (rng.random() < 0.94)
    words += [scene.shape] * (rng.random() < 0.96)
    subject = " ".join(words) or scene.shape
    if rng.random() < 0.5:
        subject = f"a {subject}"
    return f"{rng.choice(_OPENERS)} {subject}" if rng.random() < 0.15 else subject


def _backdrop(background: str, rng: random.Random) -> str:
    plain = f" on a {background} background"
    return rng.choice([plain, plain, f" on {background}", f", {background} background"])


def _nonsense(rng: random.Random) -> str:
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 6)))
