"""What jobs cost: seconds of a device per model and worker class, learned from every completion.

Run time is a line through [1, steps*MP, steps*MP^2], fitted by recursive least squares with forgetting
(Ljung, System Identification, 2nd ed., section 11.2) on relative errors. Deterministic: no clock, no
randomness, plain floats, so that a fold of the log gives the same numbers wherever it runs. The struct is
part of live state and of its snapshots. How good the numbers were: projections/accuracy.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Kind = Literal["picture", "timed", "plain"]
"""What the size of a job is made of: megapixels, seconds it names itself, or steps alone."""

Three = tuple[float, float, float]
Symmetric = tuple[float, float, float, float, float, float]
"""The upper triangle of a symmetric 3x3 matrix, row by row."""

FORGETTING = 0.98  # of a 30 % slowdown a third is left after 50 jobs; 10 % noise averages out to 1 %
EWMA = 0.3  # of load and export seconds
NOISE_RATE = 0.05
LEARNING_JOBS = 5  # fewer completions than this: the numbers are a guess
CLAMP_AFTER_JOBS = 20  # from then on no single job is more than 100 % wrong
FREEDOM = 10.0  # how far a coefficient may be from its first guess, in units of that guess
SMALLEST_PIVOT = 1e-10  # rows nearly alike leave less than this to rounding
FLOOR = 0.1  # a prediction is at least this share of its terms' absolute sum: a fit may go below zero
MIN_S, MAX_S = 1e-3, 1e7
MAX_WORK, MIN_WORK = 1e9, 1e-12
MAX_ENTRIES = 256  # (model, worker class) pairs, the least recently used go; about 130 bytes each in a snapshot

START: Mapping[Kind, Three] = {
    # an SDXL-sized model on a consumer card: 20 steps at 1 MP in 4 s. Only the shape outlives a first completion
    "picture": (1.0, 0.1, 0.05),
    "timed": (0.01, 1.0, 0.001),
    "plain": (1.0, 0.1, 0.05),
}
"""Coefficients while nothing like it was seen: seconds, and seconds per unit of `Work.linear` and `Work.square`."""

START_LOAD_S: Mapping[Kind, float] = {"picture": 10.0, "timed": 0.0, "plain": 10.0}
START_NOISE = 0.25


class Work(msgspec.Struct, frozen=True, array_like=True):
    """How large a job is: the two features beside the constant 1, each 0 or 1e-12..1e9.

    What live state keeps of a job's params, so that every prediction for it costs a microsecond.

    `picture`: steps*MP and steps*MP^2, both times frames and times passes. `timed`: seconds and steps.
    `plain`: steps (times seconds of sound) and 0.
    """

    kind: Kind
    linear: float
    square: float

    @property
    def features(self) -> Three:
        """The row that the line is fitted on."""
        return (1.0, self.linear, self.square)


class Spent(msgspec.Struct, frozen=True):
    """Where an attempt's time went, seconds: on the device, waiting for weights (None: warm), writing files."""

    compute_s: float
    load_s: float | None
    export_s: float


class Prediction(msgspec.Struct, frozen=True):
    """What a job will take on a worker class, seconds, all finite; `run_s` > 0.

    The device is taken for `load_s` (when the model is cold) and `run_s`; the files are there `export_s`
    later. `noise` is the relative standard deviation of run times, for showing.
    """

    run_s: float
    load_s: float
    export_s: float
    noise: float
    is_learning: bool


class Learned(msgspec.Struct, array_like=True):
    """What is known of one model on one worker class."""

    model: str
    worker_class: str
    kind: Kind
    theta: Three
    information: Symmetric
    completions: int = 0
    load_s: float | None = None  # None until a load was seen
    export_s: float = 0.0
    noise: float = START_NOISE


class Costs(msgspec.Struct):
    """Everything learned, by "<model>\\n<worker class>", least recently used first."""

    entries: dict[str, Learned] = {}

    def learn(self, model: str, worker_class: str, work: Work, spent: Spent) -> None:
        """Take in a completion. Seconds that are not finite or below zero are a worker's mistake: ignored."""
        if not _is_sound(spent):
            return
        key = _key(model, worker_class)
        entry = self.entries.pop(key, None)
        observed_s = min(max(spent.compute_s, MIN_S), MAX_S)
        if entry is None or entry.kind != work.kind:
            theta, information = _scaled(self._neighbour(model, worker_class, work.kind), work, observed_s)
            entry = Learned(model, worker_class, work.kind, theta, information, export_s=spent.export_s)
        _fit(entry, work, observed_s)
        entry.export_s += EWMA * (spent.export_s - entry.export_s)
        if spent.load_s is not None:
            before = spent.load_s if entry.load_s is None else entry.load_s
            entry.load_s = before + EWMA * (spent.load_s - before)
        self.entries[key] = entry
        while len(self.entries) > MAX_ENTRIES:
            del self.entries[next(iter(self.entries))]

    def predict(self, model: str, worker_class: str, work: Work) -> Prediction:
        """What the job will take; for a pair never seen, what the nearest known one would, marked as learning."""
        entry = self.entries.get(_key(model, worker_class))
        if entry is not None and entry.kind != work.kind:
            entry = None
        near = entry if entry is not None else self._neighbour(model, worker_class, work.kind)
        load_s = near.load_s if near is not None else None
        if load_s is None:
            load_s = START_LOAD_S[work.kind]
        return Prediction(
            run_s=_predicted(START[work.kind] if near is None else near.theta, work.features),
            load_s=load_s,
            export_s=0.0 if near is None else near.export_s,
            noise=START_NOISE if near is None else near.noise,
            is_learning=entry is None or entry.completions < LEARNING_JOBS,
        )

    def _neighbour(self, model: str, worker_class: str, kind: Kind) -> Learned | None:
        """The most telling entry of the kind: the model elsewhere, then a model here, then any; newest first."""
        here = anywhere = None
        for entry in reversed(self.entries.values()):
            if entry.kind != kind:
                continue
            if entry.model == model:
                return entry
            if here is None and entry.worker_class == worker_class:
                here = entry
            anywhere = anywhere or entry
        return here or anywhere


def work_of(params: Mapping[str, Any]) -> Work:
    """How large a job with these params is. Total: what is missing or no number counts as 1, 1 MP for a size.

    Guidance above 1 needs two passes a step, the rule of service/worker/pipelines/text_to_image.py. With the
    model's own distilled guidance it does not; then every job has it, and the coefficients absorb the factor.
    """
    steps = steps_of(params)
    if "step_s" in params:
        return Work("timed", _bounded(steps * _number(params, "step_s", 0.0)), _bounded(steps))
    if "width" not in params or "height" not in params:
        return Work("plain", _bounded(steps * _number(params, "seconds", 1.0)), 0.0)
    megapixels = _number(params, "width", 1e3) * _number(params, "height", 1e3) / 1e6
    passes = 2.0 if _number(params, "guidance", 0.0) > 1.0 else 1.0
    linear = steps * megapixels * _number(params, "frames", 1.0) * passes
    return Work("picture", _bounded(linear), _bounded(linear * megapixels))


def steps_of(params: Mapping[str, Any]) -> float:
    """The steps that are run: of a text its tokens; from a picture on, the share of them that its strength says."""
    steps = _number(params, "steps", _number(params, "max_new_tokens", 1.0))
    return steps * min(1.0, _number(params, "strength", 1.0))


def spent_of(facts: Mapping[str, Any]) -> Spent | None:
    """Where the time went, from a completion's facts; None when they do not tell."""
    timings = facts.get("timings")
    if not isinstance(timings, dict):
        return None
    phases = {name: s for name, s in timings.items() if isinstance(s, int | float) and name != "step_s"}
    load_s = phases.pop("loading_model", None)
    export_s = phases.pop("exporting", 0.0)
    if not phases:
        return None
    compute_s = max(0.0, float(sum(phases.values())) - others_s(facts))
    return Spent(compute_s, None if load_s is None else float(load_s), float(export_s))


def others_s(facts: Mapping[str, Any]) -> float:
    """Seconds of a completed attempt in which its device worked for other jobs, beside it or before it."""
    batch = facts.get("batch")
    seconds = batch.get("others_s") if isinstance(batch, dict) else None
    return _number({"seconds": seconds}, "seconds", 0.0)


def _key(model: str, worker_class: str) -> str:
    return f"{model}\n{worker_class}"


def _number(params: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = params.get(name)
    if type(value) is not int and type(value) is not float:  # a bool is an int for isinstance, and slower
        return otherwise
    return min(float(value), MAX_WORK) if 0 <= value < math.inf else otherwise


def _bounded(work: float) -> float:
    """At most MAX_WORK, and 0 below MIN_WORK: a tiny feature would make its coefficient overflow."""
    return min(work, MAX_WORK) if work >= MIN_WORK else 0.0


def _is_sound(spent: Spent) -> bool:
    seconds = (spent.compute_s, spent.load_s or 0.0, spent.export_s)
    return all(0.0 <= s <= MAX_S for s in seconds)


def _predicted(theta: Three, x: Three) -> float:
    terms = (theta[0] * x[0], theta[1] * x[1], theta[2] * x[2])
    least_s = FLOOR * (abs(terms[0]) + abs(terms[1]) + abs(terms[2]))
    return min(max(terms[0] + terms[1] + terms[2], least_s, MIN_S), MAX_S)


def _scaled(near: Learned | None, work: Work, observed_s: float) -> tuple[Three, Symmetric]:
    """A first guess: the shape of the nearest line, the scale of the first observation, and much freedom."""
    x = work.features
    shape = START[work.kind] if near is None else near.theta
    scale = observed_s / _predicted(shape, x)
    theta = (shape[0] * scale, shape[1] * scale, shape[2] * scale)
    # a coefficient that is nearly 0 in the shape may still turn out to be a tenth of the whole
    least = [0.1 * observed_s / feature if feature else observed_s for feature in x]
    known = [(FREEDOM * max(abs(t), least_t)) ** -2 for t, least_t in zip(theta, least, strict=True)]
    return theta, (known[0], 0.0, 0.0, known[1], 0.0, known[2])


def _fit(entry: Learned, work: Work, observed_s: float) -> None:
    """One step of recursive least squares in relative error.

    Row and target are divided by the geometric mean of the observed and the predicted time. By the observed
    time alone, log-normal noise of 10 / 25 / 50 % pulls predictions 1 / 8 / 26 % too low; like this 0 / 2 / 9 %,
    and a slow first run is forgotten three times as fast as when dividing by the prediction (measured over five
    cost laws, 15 seeds, 120 jobs).
    """
    x = work.features
    predicted_s = _predicted(entry.theta, x)
    scale_s = math.sqrt(observed_s * predicted_s)
    error = (observed_s - sum(t * feature for t, feature in zip(entry.theta, x, strict=True))) / scale_s
    if entry.completions >= CLAMP_AFTER_JOBS:
        error = min(max(error, -1.0), 1.0)
    row = (x[0] / scale_s, x[1] / scale_s, x[2] / scale_s)
    entry.information = _informed(entry.information, row)
    gain = _solved(entry.information, row)
    entry.theta = (
        entry.theta[0] + gain[0] * error,
        entry.theta[1] + gain[1] * error,
        entry.theta[2] + gain[2] * error,
    )
    if entry.completions >= LEARNING_JOBS:
        rate = max(NOISE_RATE, 1.0 / (entry.completions - LEARNING_JOBS + 1))
        # 1.2533 turns the mean absolute deviation of a normal distribution into its standard deviation
        deviation = 1.2533 * min(abs(math.log(observed_s / predicted_s)), 2.0)
        entry.noise += rate * (deviation - entry.noise)
    entry.completions += 1


def _informed(information: Symmetric, row: Three) -> Symmetric:
    """What is known after one more `row`: the old knowledge fades, but never below a weak belief in the line.

    Jobs of one size teach one direction only; without that floor the others would fade to nothing, and one
    odd job would then throw the line anywhere. A feature that this job lacks does not fade.
    """
    a, b, c, d, e, f = information
    r0, r1, r2 = row
    w0, w1, w2 = (FORGETTING if r else 1.0 for r in row)
    floor = 1.0 + (1.0 - FORGETTING) / FREEDOM**2
    return (
        a * w0 + r0 * r0 * floor,
        b * math.sqrt(w0 * w1) + r0 * r1,
        c * math.sqrt(w0 * w2) + r0 * r2,
        d * w1 + r1 * r1 * floor,
        e * math.sqrt(w1 * w2) + r1 * r2,
        f * w2 + r2 * r2 * floor,
    )


def _solved(matrix: Symmetric, right: Three) -> Three:
    """x in matrix @ x = right for a positive matrix, by Cholesky on the matrix scaled to a diagonal of ones."""
    a, b, c, d, e, f = matrix
    s0, s1, s2 = a**-0.5, d**-0.5, f**-0.5
    l10, l20, l21 = b * s0 * s1, c * s0 * s2, e * s1 * s2
    l11 = math.sqrt(max(1.0 - l10 * l10, SMALLEST_PIVOT))
    l21 = (l21 - l20 * l10) / l11
    l22 = math.sqrt(max(1.0 - l20 * l20 - l21 * l21, SMALLEST_PIVOT))
    y0 = right[0] * s0
    y1 = (right[1] * s1 - l10 * y0) / l11
    y2 = (right[2] * s2 - l20 * y0 - l21 * y1) / l22
    x2 = y2 / l22
    x1 = (y1 - l21 * x2) / l11
    x0 = y0 - l10 * x1 - l20 * x2
    return (x0 * s0, x1 * s1, x2 * s2)
