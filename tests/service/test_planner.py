"""When estimates are told: over a real handler, with time as an argument."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import commands as ask
from service.config import Config
from service.planner import LEAST_S, Planner
from tests.history import register, submission
from web.app import open_app

pytestmark = pytest.mark.anyio


async def test_a_job_that_comes_back_in_line_is_told_anew(tmp_path: Path) -> None:
    async with open_app(Config(data=tmp_path)) as app:
        handler = app._app.state.handler
        told: list[str] = []
        now = [0.0]
        planner = Planner(
            handler,
            monotonic=lambda: now[0],
            clock=lambda: 1_000_000,
            progress={},
            connected=lambda: {"w": "b1"},
            tell=lambda job, queue, eta, at_us: told.append(job),
        )

        async def after(command: ask.Command) -> list[str]:
            """What is told by the forecast behind a command."""
            await handler.ask(command, actor="tester", cause="test")
            now[0] += LEAST_S
            told.clear()
            planner.tick()
            return list(told)

        await after(register())
        assert await after(submission("j")) == ["j"]
        assert await after(ask.HoldJob(job="j")) == []
        assert await after(ask.ReleaseJob(job="j")) == ["j"]
