"""The queue from the command line: batches, times, hold, move, edit, bulk, rules, limits, quarantine."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.receiver import receiving
from tests.service_process import ServiceProcess, running_service, wait_for
from tests.web.test_cli import facts, run
from web.arguments import When

PRETEND = ("submit", "--task", "pretend")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    options = ("--worker-model", "pretend", "--webhook-allow", "127.0.0.1")
    with running_service(tmp_path_factory.mktemp("cli"), *options) as service:
        wait_for(lambda: httpx.get(f"{service.url}/v1/workers").json()["workers"], 60, "the worker", service.log)
        yield service


@pytest.fixture
def paused(service: ServiceProcess) -> Iterator[str]:
    """The address of the service while nothing starts; without waiting jobs before and after."""
    run("pause", url=service.url)
    run("cancel", "--all", "--yes", url=service.url)
    yield service.url
    run("cancel", "--all", "--yes", url=service.url)
    run("resume", url=service.url)


def waiting(url: str, **fields: Any) -> str:
    answer = httpx.post(f"{url}/v1/jobs", json={"task": "pretend", "params": {}, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def job_of(url: str, job: str) -> Any:
    return httpx.get(f"{url}/v1/jobs/{job}").json()


def test_a_batch_is_followed_to_its_end(service: ServiceProcess) -> None:
    done = facts(*PRETEND, "--count", "3", "--param", "steps=2", "--tag", "wall", url=service.url)
    assert done["batch"]["counts"] == {"completed": 3}
    assert [job["status"] for job in done["jobs"]] == ["completed"] * 3
    listed = facts("jobs", "--batch", done["batch"]["id"], "--tag", "wall", url=service.url)["jobs"]
    assert {job["id"] for job in listed} == {job["id"] for job in done["jobs"]}
    many = run(*PRETEND, "--count", "20", url=service.url)
    assert (many.returncode, many.stdout.count("completed; it made no file")) == (0, 20)


def test_every_picture_of_a_batch_is_saved(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        words = ("--prompt", "a small green star", "--seeds", "7,8", "--steps", "1", "-o", str(tmp_path / "p.png"))
        done = run("submit", "a red circle", *words, url=service.url)
    assert done.returncode == 0, done.stderr
    saved = sorted(path.name for path in tmp_path.glob("p-*.png"))
    assert saved == ["p-1.png", "p-2.png", "p-3.png", "p-4.png"]
    assert re.findall(r"seed (\d)", done.stdout) == ["7", "8", "7", "8"]


def test_a_submission_says_everything_it_can(paused: str) -> None:
    words = ("--hold", "--background", "--meta", "order=1138", "--finish-deadline", "2h", "--start-deadline", "1h")
    done = run(*PRETEND, *words, url=paused)
    assert done.returncode == 0
    assert "held" in done.stdout
    assert "safelight release" in done.stdout
    job = httpx.get(f"{paused}/v1/jobs/latest").json()
    assert (job["status"], job["background"], job["metadata"]) == ("held", True, {"order": "1138"})
    ahead = datetime.fromisoformat(job["finish_deadline"]) - datetime.now(UTC)
    assert timedelta(minutes=118) < ahead < timedelta(minutes=121)
    assert job["start_deadline"] < job["finish_deadline"]
    scheduled = facts(*PRETEND, "--not-before", "90m", "--no-wait", url=paused)
    assert scheduled["status"] == "scheduled"
    shown = run("jobs", job["id"], url=paused).stdout
    assert "order=1138" in shown
    assert "finish by" in shown


def test_a_submission_names_the_job_it_is_made_from_and_who_is_told_of_its_end(service: ServiceProcess) -> None:
    with receiving() as receiver:
        first = facts(*PRETEND, "--callback", f"{receiver.url}/one", url=service.url)["id"]
        told = wait_for(lambda: receiver.to("/one"), 30, "the callback", service.log)
        assert (told[0].payload["type"], told[0].payload["data"]["id"]) == ("job.completed", first)
        words = ("--count", "2", "--parent", first, "--callback", f"{receiver.url}/many")
        batch = facts(*PRETEND, *words, url=service.url)
        wait_for(lambda: len(receiver.to("/many")) == 2, 30, "a callback for each job", service.log)
    assert [job["parent"] for job in batch["jobs"]] == [first, first]
    shown = run("jobs", batch["jobs"][0]["id"], url=service.url).stdout
    assert re.search(rf"parent +{first}", shown)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--parent", "nobody"), "job nobody is not known"),
        (("--callback", "ftp://example.org/hook"), "callback: "),
        (("--callback", "http://example.org/hook"), "callback: "),
        (("--callback", "nonsense"), "callback: "),
    ],
)
def test_an_unknown_parent_and_an_address_that_cannot_be_told_are_refused_in_one_line(
    paused: str, words: tuple[str, ...], says: str
) -> None:
    done = run(*PRETEND, "--no-wait", *words, url=paused)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {says}")
    assert done.stderr.count("\n") == 1
    assert facts("jobs", "--status", "queued", url=paused)["jobs"] == []


def test_a_job_that_expires_ends_the_command_with_its_reason(paused: str) -> None:
    done = run(*PRETEND, "--start-deadline", "1s", url=paused)
    assert done.returncode == 1
    assert "expired: its start deadline has passed" in done.stderr


def test_hold_release_and_move(paused: str) -> None:
    first, second = waiting(paused), waiting(paused)
    assert f"{first} held" in run("hold", first, url=paused).stdout
    assert f"{first} queued, number 1 in line" in run("release", first, url=paused).stdout
    assert "number 1 in line" in run("move", second, "--top", url=paused).stdout
    assert "number 2 in line" in run("move", second, "--after", first, url=paused).stdout
    refused = run("move", second, "--before", "nobody", url=paused)
    assert refused.returncode == 1
    assert "job nobody is not in line" in refused.stderr
    listed = run("jobs", "--status", "queued", url=paused).stdout
    assert "place" in listed.splitlines()[0]


def test_edit_changes_what_is_said_and_nothing_else(paused: str) -> None:
    job = waiting(paused, params={"steps": 5}, tags=["wall"])
    edited = facts("edit", job, "--priority", "80", "--param", "step_s=0.5", url=paused)
    assert (edited["priority"], edited["tags"]) == (80, ["wall"])
    assert (edited["params"]["steps"], edited["params"]["step_s"]) == (5, 0.5)
    assert facts("edit", job, "--background", "--tag", "a", "--tag", "b", url=paused)["tags"] == ["a", "b"]
    run("cancel", job, url=paused)
    assert facts("edit", job, "--steps", "2", url=paused)["status"] == "queued"


def test_all_that_match_are_counted_asked_for_and_changed(paused: str) -> None:
    tagged, kept = [waiting(paused, tags=["wall"]) for _ in range(3)], waiting(paused)
    asked = run("cancel", "--all", "--tag", "wall", url=paused)
    assert asked.returncode == 1  # nobody said yes
    assert "cancel 3 jobs?" in asked.stderr
    assert job_of(paused, tagged[0])["status"] == "queued"
    done = run("cancel", "--all", "--tag", "wall", "--yes", url=paused)
    assert "3 of 3 done" in done.stdout
    assert {job_of(paused, job)["status"] for job in tagged} == {"cancelled"}
    assert job_of(paused, kept)["status"] == "queued"
    assert facts("retry", "--all", "--tag", "wall", "--since", "1h", "--yes", url=paused)["done"] == 3
    assert facts("hold", "--all", "--status", "queued", "--yes", url=paused)["done"] == 4
    assert facts("release", "--all", "--tag", "wall", "--yes", url=paused)["done"] == 3


def test_what_finds_no_room_to_come_back_to_is_told_apart(paused: str) -> None:
    run("queue", "set", "small", "--capacity", "3", url=paused)
    run("pause", "small", url=paused)
    jobs = [waiting(paused, queue="small", tags=["back"]) for _ in range(3)]
    run("cancel", *jobs, url=paused)
    run("queue", "set", "small", "--capacity", "1", url=paused)
    done = run("retry", "--all", "--tag", "back", "--yes", url=paused)
    assert (done.returncode, done.stdout) == (0, "1 of 3 done, 2 found no room\n")
    left = next(job for job in jobs if job_of(paused, job)["status"] == "cancelled")
    refused = run("retry", left, url=paused)
    assert refused.returncode == 1
    assert "queue small takes no more jobs now: 1 of 1 places are taken" in refused.stderr


def test_the_answer_to_the_question_decides(paused: str) -> None:
    job = waiting(paused)
    command = [sys.executable, "-m", "web.cli", "cancel", "--all", "--url", paused]
    for answer, status in (("n\n", "queued"), ("y\n", "cancelled")):
        subprocess.run(command, input=answer, capture_output=True, text=True, timeout=60, check=False)
        assert job_of(paused, job)["status"] == status


def test_a_queue_gets_rules_one_at_a_time(paused: str) -> None:
    run("queue", "set", "night", "--policy", "fair", url=paused)
    done = run("queue", "set", "night", "--capacity", "2", "--keep", "7d", "--keep-jobs", "500", url=paused)
    assert done.stdout == "queue night: fair, 2 may wait, keeps 7d, 500 jobs\n"
    waiting(paused, queue="night", hold=True)
    shown = next(line for line in run("queues", url=paused).stdout.splitlines() if line.startswith("night"))
    assert shown.split()[:5] == ["night", "running", "fair", "1", "of"]
    assert "drained" in run("drain", "night", url=paused).stdout
    assert httpx.post(f"{paused}/v1/jobs", json={"params": {}, "task": "pretend", "queue": "night"}).is_error
    assert "running" in run("resume", "night", url=paused).stdout
    rules = facts("queue", "set", "night", "--capacity", "none", url=paused)["rules"]
    assert rules == {"policy": "fair", "capacity": None, "keep_s": 7 * 86400.0, "keep_jobs": 500}


def test_prune_asks_and_empties_the_lists(paused: str) -> None:
    job = waiting(paused)
    run("cancel", job, url=paused)
    assert "ended jobs out of every list?" in run("prune", url=paused).stderr
    assert job_of(paused, job)["status"] == "cancelled"
    assert run("prune", "--yes", url=paused).returncode == 0
    assert job_of(paused, job)["type"].endswith("unknown-job")


def test_a_key_is_limited_one_bound_at_a_time(paused: str) -> None:
    made = facts("keys", "create", "station", "--scope", "submitter", url=paused)
    run("keys", "limit", made["id"], "--weight", "2", "--max-waiting", "1", url=paused)
    done = run("keys", "limit", made["id"], "--per-minute", "30", url=paused)
    assert "weight 2, 1 waiting, 30 a minute" in done.stdout
    assert "30 a minute" in run("keys", "list", url=paused).stdout
    assert run(*PRETEND, "--no-wait", "--key", made["key"], url=paused).returncode == 0
    refused = run(*PRETEND, "--no-wait", "--key", made["key"], url=paused)
    assert refused.returncode == 1
    assert "1 waiting jobs" in refused.stderr
    assert run("keys", "limit", "nobody", "--weight", "2", url=paused).returncode == 1


def test_while_a_job_waits_its_place_and_time_are_told(service: ServiceProcess) -> None:
    long = {"steps": 100, "step_s": 0.1}
    running = waiting(service.url, params=long)
    wait_for(lambda: job_of(service.url, running)["status"] == "running", 30, "the start", service.log)
    behind = waiting(service.url, params=long)
    wait_for(lambda: (job_of(service.url, behind)["eta"] or {}).get("done_at"), 30, "an estimate", service.log)
    assert re.search(rf"{behind} +queued +1 +\d\d:\d\d", run("jobs", url=service.url).stdout)
    assert re.search(r"number 1 in line; about \d\d:\d\d", run("jobs", behind, url=service.url).stdout)
    run("cancel", running, url=service.url)
    httpx.patch(f"{service.url}/v1/jobs/{behind}", json={"params": {"step_s": 0.0}})
    watched = run("watch", behind, url=service.url).stdout
    assert re.search(r"number 1 in line|about \d\d:\d\d|job-leased", watched)
    assert "job-completed" in watched


def test_a_job_that_nobody_can_run_says_so(paused: str) -> None:
    done = run("submit", "a star", "--no-wait", url=paused)
    assert "no worker can run it: no worker can run task text-to-image" in done.stdout
    assert re.search(r"queued +no worker +demo", run("jobs", url=paused).stdout)


def test_a_quarantined_worker_is_shown_and_released(service: ServiceProcess) -> None:
    for _ in range(3):
        run(*PRETEND, "--param", "outcome=crash", "--no-wait", url=service.url)
    worker = wait_for(
        lambda: next((w for w in facts("workers", url=service.url)["workers"] if w["quarantine"]), None),
        60, "the quarantine", service.log,
    )["name"]  # fmt: skip
    shown = run("workers", url=service.url).stdout
    assert "quarantined" in shown
    assert f"safelight release --worker {worker}" in shown
    run("cancel", "--all", "--yes", url=service.url)
    assert "gets jobs again" in run("release", "--worker", worker, url=service.url).stdout
    assert facts("workers", url=service.url)["workers"][0]["quarantine"] is None
    assert run("release", "--worker", "nobody", url=service.url).returncode == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["submit", "--count", "0"], "1<=x<=1000"),
        (["submit", "--seeds", "7;8"], "are no seeds"),
        (["submit", "--seeds", "7", "--seed", "8"], "leave --count and --seed out"),
        (["submit", "--not-before", "soon"], "'soon' is no instant"),
        (["submit", "--meta", "order"], "'order' is not NAME=VALUE"),
        (["cancel", "x", "--all"], "not both"),
        (["cancel", "x", "--tag", "wall"], "go with --all"),
        (["retry", "--all", "--error", "bad"], "'bad' is not one of"),
        (["release", "x", "--worker", "w"], "--worker goes alone"),
        (["move", "x"], "say one place"),
        (["move", "x", "--top", "--after", "y"], "say one place"),
        (["edit", "x"], "say what to change"),
        (["edit", "x", "--priority", "101"], "0<=x<=100"),
        (["queue", "set", "night", "--policy", "lifo"], "'lifo' is not one of"),
        (["queue", "set", "night", "--capacity", "0"], "use 1 or more, or none"),
        (["queue", "set", "night", "--keep", "long"], "'long' is no span of time"),
        (["keys", "limit", "x"], "say a limit"),
        (["keys", "limit", "x", "--weight", "0"], "x>0"),
    ],
)
def test_misuse_ends_with_code_2_and_says_what_was_expected(words: list[str], says: str) -> None:
    done = run(*words)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr


@pytest.mark.parametrize(
    ("text", "back", "minutes"), [("90m", False, 90), ("+2h", False, 120), ("1d", True, -1440), ("30s", False, 0.5)]
)
def test_a_span_is_an_instant_from_now(text: str, back: bool, minutes: float) -> None:
    at = datetime.fromisoformat(When(back=back).convert(text, None, None))
    assert abs(at - datetime.now(UTC) - timedelta(minutes=minutes)) < timedelta(seconds=5)


def test_a_time_of_day_is_the_next_one_or_looking_back_the_last_one() -> None:
    now = datetime.now().astimezone()
    for back in (False, True):
        for hour in ("00:00", "12:00", "23:59"):
            at = datetime.fromisoformat(When(back=back).convert(hour, None, None))
            assert (at < now) == back
            assert abs(at - now) <= timedelta(days=1)
            assert at.strftime("%H:%M") == hour
