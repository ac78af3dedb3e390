"""The command line as a person uses it: real processes against a real service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner

from tests.house.test_words import commands
from tests.service_process import ServiceProcess, running_service, wait_for
from web.cli import COMMANDS, SUMMARIES, main

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("cli"), "--worker-model", "pretend") as service:
        yield service


def run(
    *words: str, url: str = NOWHERE, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "web.cli", *words], capture_output=True, text=True, timeout=120, cwd=cwd,
        env={**os.environ, "SAFELIGHT_URL": url, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
    )  # fmt: skip


def facts(*words: str, url: str) -> Any:
    done = run(*words, "--json", url=url)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def submit(service: ServiceProcess, **params: object) -> str:
    return str(httpx.post(f"{service.url}/v1/jobs", json={"task": "pretend", "params": params}).json()["id"])


def test_a_job_is_submitted_followed_and_shown(service: ServiceProcess, tmp_path: Path) -> None:
    job = facts("submit", "--task", "pretend", "--param", "steps=3", "--priority", "60", url=service.url)
    assert (job["status"], job["params"]["steps"], job["priority"]) == ("completed", 3, 60)
    shown = facts("jobs", job["id"], url=service.url)
    assert shown["job"] == job
    assert shown["events"][-1]["type"] == "job-completed"
    assert facts("jobs", "latest", url=service.url)["job"]["id"] == job["id"]
    listed = facts("jobs", "--status", "completed", "--limit", "5", url=service.url)
    assert job["id"] in [j["id"] for j in listed["jobs"]]
    for words in (["jobs"], ["jobs", job["id"]], ["queues"], ["workers"], ["models"], ["tasks"], ["keys", "list"]):
        done = run(*words, url=service.url)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert done.stdout.strip()


def test_not_waiting_says_how_to_follow(service: ServiceProcess) -> None:
    done = run("submit", "--task", "pretend", "--no-wait", url=service.url)
    assert done.returncode == 0
    assert "safelight watch" in done.stdout


def test_a_job_that_fails_ends_the_command_with_its_reason(service: ServiceProcess) -> None:
    done = run("submit", "--task", "pretend", "--param", "outcome=failed", url=service.url)
    assert done.returncode == 1
    assert "failed (internal)" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_while_waiting_leaves_the_job_running(service: ServiceProcess) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "web.cli", "submit", "--task", "pretend", "--param", "steps=100", "--param",
         "step_s=0.1", "--tag", "ctrl-c"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "SAFELIGHT_URL": service.url},
    )  # fmt: skip

    def runs() -> str | None:
        jobs = httpx.get(f"{service.url}/v1/jobs?status=running").json()["jobs"]
        return next((job["id"] for job in jobs if "ctrl-c" in job["tags"] and job["progress"]), None)

    job = wait_for(runs, 60, "the job to run", service.log)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"safelight cancel {job}" in errors
    assert httpx.get(f"{service.url}/v1/jobs/{job}").json()["status"] == "running"
    assert run("cancel", job, url=service.url).returncode == 0
    wait_for(lambda: httpx.get(f"{service.url}/v1/jobs/{job}").json()["status"] == "cancelled", 30, "the cancel")


def test_cancel_and_retry_go_on_past_what_is_refused(service: ServiceProcess) -> None:
    httpx.post(f"{service.url}/v1/queues/default/pause")
    first, second = submit(service), submit(service)
    done = run("cancel", first, "nobody", second, url=service.url)
    assert done.returncode == 1
    assert "nobody is not known" in done.stderr
    assert done.stdout.count("cancelled") == 2
    assert facts("retry", first, url=service.url)["jobs"][0]["status"] == "queued"
    assert facts("resume", url=service.url)["is_paused"] is False


def test_pause_and_resume(service: ServiceProcess) -> None:
    assert "paused" in run("pause", url=service.url).stdout
    assert facts("queues", url=service.url)["queues"][0]["is_paused"]
    assert "running" in run("resume", "default", url=service.url).stdout
    assert run("pause", "nowhere", url=service.url).returncode == 1


def test_watch_prints_a_jobs_events_and_ends_with_it(service: ServiceProcess) -> None:
    job = submit(service, steps=2)
    done = run("watch", job, url=service.url)
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if "job-" in line]  # what it waits for stands before them
    assert "job-submitted" in lines[0]
    assert "job-completed" in lines[-1]
    events = [json.loads(line) for line in run("watch", job, "--json", url=service.url).stdout.splitlines()]
    assert [e["version"] for e in events] == list(range(len(events)))


def test_keys_are_made_listed_and_revoked(service: ServiceProcess) -> None:
    made = facts("keys", "create", "station", "--scope", "submitter", url=service.url)
    assert facts("jobs", "--key", made["key"], url=service.url)["jobs"] is not None
    assert made["id"] in run("keys", "list", url=service.url).stdout
    assert run("keys", "revoke", made["id"], url=service.url).returncode == 0
    refused = run("jobs", url=service.url, SAFELIGHT_KEY=made["key"])
    assert refused.returncode == 1
    assert "SAFELIGHT_KEY" in refused.stderr


def _open_jobs(service: ServiceProcess) -> list[object]:
    found = httpx.get(f"{service.url}/v1/jobs", params={"status": ["queued", "running"]})
    return found.json()["jobs"]  # type: ignore[no-any-return]


def test_replay_while_the_service_runs_gives_what_the_service_shows(
    service: ServiceProcess, tmp_path: Path
) -> None:
    submit(service)
    wait_for(lambda: not _open_jobs(service), 60, "quiet", service.log)
    counts = {q["name"]: q["counts"] for q in httpx.get(f"{service.url}/v1/queues").json()["queues"]}
    replayed = facts("replay", "--data", str(service.data), url=service.url)
    assert {q: {s: n for s, n in of.items() if n} for q, of in replayed["jobs"].items()} == counts
    head = replayed["position"]
    assert facts("replay", "--data", str(service.data), "--to", "3", url=service.url)["position"] == 3
    target = tmp_path / "log.jsonl"
    assert run("replay", "--data", str(service.data), "--export", str(target)).returncode == 0
    exported = [json.loads(line) for line in target.read_text().splitlines()]
    assert [e["position"] for e in exported] == list(range(1, head + 1))
    page = httpx.get(f"{service.url}/v1/events?after=0&limit=1000").json()["events"]
    assert exported[: len(page)] == page
    views = tmp_path / "views.db"
    assert run("replay", "--data", str(service.data), "--views", str(views)).returncode == 0
    assert views.exists()
    assert run("replay", "--data", str(service.data), "--views", str(views)).returncode == 2


def test_doctor_finds_the_service(service: ServiceProcess) -> None:
    done = run("doctor", "--data", str(service.data), "--json", url=service.url)
    found = {f["subject"]: f["verdict"] for f in json.loads(done.stdout)["findings"]}
    assert done.returncode == 0
    assert found["service"] == "ok"
    assert found["sqlite"] == "ok"
    assert set(found.values()) <= {"ok", "warn"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["submit", "--priority", "200"], "0<=x<=100"),
        (["submit", "x", "--param", "steps"], "'steps' is not NAME=VALUE"),
        (["jobs", "--status", "done"], "'done' is not one of"),
        (["jobs", "--limit", "0"], "1<=x<=1000"),
        (["cancel"], "Missing argument"),
        (["keys", "create", "x"], "Missing option '--scope'"),
        (["keys", "create", "x", "--scope", "king"], "'king' is not one of"),
        (["serve", "--port", "70000"], "0<=x<=65535"),
        (["serve", "--lease", "0"], "1<=x<=600"),
        (["watch", "--after", "-1"], "x>=0"),
        (["replay", "--to", "x"], "not a valid integer"),
    ],
)
def test_misuse_ends_with_code_2_and_says_what_was_expected(words: list[str], says: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize("words", [["jobs"], ["submit", "x"], ["queues"], ["keys", "list"], ["pause"]])
def test_where_no_service_answers_the_address_and_the_remedy_are_named(words: list[str]) -> None:
    done = run(*words)
    assert done.returncode == 1
    assert NOWHERE in done.stderr
    assert "safelight serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run("replay", "--data", str(tmp_path))
    assert done.returncode == 1
    assert "there is no log" in done.stderr
    (tmp_path / "log.db").write_bytes(b"no database" * 1000)
    assert "no log that can be read" in run("replay", "--data", str(tmp_path)).stderr


def test_a_foreign_package_under_one_of_our_names_is_refused(tmp_path: Path) -> None:
    intruder = tmp_path / "events"
    intruder.mkdir()
    (intruder / "__init__.py").write_text("# somebody else's")
    root = str(Path(__file__).parents[2])
    done = run("jobs", PYTHONPATH=f"{tmp_path}:{root}", cwd=tmp_path)
    assert done.returncode == 2
    assert str(intruder) in done.stderr


def test_help_lists_every_command_and_every_flag_says_its_default_or_bounds() -> None:
    listing = CliRunner().invoke(main, ["--help"]).output
    assert set(SUMMARIES) == set(COMMANDS)
    for words, command in commands(main):
        assert words[0] in listing
        assert command.help, words
        for option in (p for p in command.params if isinstance(p, click.Option)):
            told = (option.help or "") + ("[default" if option.show_default else "")
            assert option.help, (words, option.opts)
            assert "default" in told.lower() or option.required or option.multiple, (words, option.opts)
