"""The child alone, as its agent sees it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import psutil

from service.tasks.catalog import EMBEDDED
from service.worker import frames
from service.worker.child_process import ChildProcess, death


def setup(folder: Path, **changed: Any) -> frames.Setup:
    models = (EMBEDDED["pretend"],)
    whole = {"device": "auto", "threads": 1, "models": models, "preload": None, "spool": str(folder)}
    return frames.Setup(**{"parent": os.getpid(), **whole, **changed})


def talk_to_child(setup: frames.Setup, *said: frames.ToChild) -> tuple[list[frames.FromChild], str]:
    """What a child answers to `said` until it has ended an attempt or itself, and how it ended."""

    async def work() -> tuple[list[frames.FromChild], str]:
        child = await ChildProcess.start(setup)
        for frame in said:
            child.send(frame)
        answers = []
        async for frame in child.frames():
            answers.append(frame)
            if isinstance(frame, frames.Finished | frames.Broke | frames.Halted):
                break
        return answers, await child.end()

    return asyncio.run(work())


def begin(**params: Any) -> frames.Begin:
    return frames.Begin(job="j", attempt=1, task="pretend", model="pretend", params=params)


def test_it_says_what_it_computes_on_and_with(tmp_path: Path) -> None:
    (up, *_), _ = talk_to_child(setup(tmp_path), begin())
    assert isinstance(up, frames.Up)
    assert (up.label, up.device.kind) == ("cpu", "cpu")
    assert up.versions["torch"]


def test_it_ends_by_itself_when_its_agent_closes_the_pair(tmp_path: Path) -> None:
    _, words = talk_to_child(setup(tmp_path), begin())
    assert words == "the process running the job ended with exit code 0"


def test_a_device_that_is_not_there_ends_it_with_words(tmp_path: Path) -> None:
    (unfit,), _ = talk_to_child(setup(tmp_path, device="cuda:88", models=(EMBEDDED["demo"],)))
    assert isinstance(unfit, frames.Unfit)
    assert "cuda:88" in unfit.why


def test_an_attempt_halted_before_its_turn_never_begins(tmp_path: Path) -> None:
    first = frames.Begin(job="a", attempt=1, task="pretend", model="pretend", params={"step_s": 0.3})
    second = frames.Begin(job="b", attempt=1, task="pretend", model="pretend", params={"step_s": 60})

    async def work() -> list[frames.FromChild]:
        child = await ChildProcess.start(setup(tmp_path))
        for frame in (first, second, frames.Halt(job="b", attempt=1)):
            child.send(frame)
        answers = []
        async for frame in child.frames():
            answers.append(frame)
            if isinstance(frame, frames.Halted):
                break
        await child.end()
        return answers

    answers = asyncio.run(work())
    assert [frame.job for frame in answers if isinstance(frame, frames.Entered)] == ["a"]


def test_signals_for_the_whole_group_do_not_end_it(tmp_path: Path) -> None:
    async def work() -> bool:
        child = await ChildProcess.start(setup(tmp_path))
        await anext(child.frames())  # it is up
        process = psutil.Process(child._process.pid)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        child.send(begin())
        async for frame in child.frames():
            if isinstance(frame, frames.Finished):
                break
        is_running = process.is_running()
        await child.end()
        return is_running

    assert asyncio.run(work())


def test_how_a_process_ended_is_told_in_words() -> None:
    assert death(-9) == "the process running the job was killed by signal 9 (SIGKILL)"
    assert death(-11) == "the process running the job was killed by signal 11 (SIGSEGV)"
    assert death(70) == "the process running the job ended with exit code 70"
