"""Slow: kills at random while many submit and one watches, then everything is counted. Run by `make soak`."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import httpx
import psutil
import pytest

from events.envelope import encode, leaf_hash
from events.sqlite_reader import SqliteLogReader
from projections.store import ViewStore
from tests.crash.test_kill import processes
from tests.service_process import ServiceProcess, running_service, wait_for
from web.client import Client, ClientError
from web.follow import follow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]

ROUNDS = int(os.environ.get("SAFELIGHT_CHAOS_ROUNDS", "40"))
SEED = int(os.environ.get("SAFELIGHT_CHAOS_SEED", "1"))
SOAK_S = float(os.environ.get("SAFELIGHT_SOAK_S", "120"))
ENDINGS = {"job-completed", "job-failed", "job-cancelled"}


class Submitter(threading.Thread):
    """Submits one job after the other, each until it is acknowledged; a few are cancelled right after."""

    def __init__(self, service: ServiceProcess, name: str, rng: random.Random) -> None:
        super().__init__(name=name, daemon=True)
        self._service = service
        self._rng = rng
        self.stopping = threading.Event()
        self.acknowledged: dict[str, str] = {}  # idempotency key -> job id

    def run(self) -> None:
        while not self.stopping.is_set():
            key = f"{self.name}-{len(self.acknowledged)}"
            steps = self._rng.choice([0, 0, 1, 5])
            job = self._submit(key, {"task": "pretend", "params": {"steps": steps, "step_s": 0.02}})
            self.acknowledged[key] = job
            if self._rng.random() < 0.1:
                with suppress(httpx.HTTPError):
                    httpx.post(f"{self._service.url}/v1/jobs/{job}/cancel", timeout=10)
            self.stopping.wait(self._rng.uniform(0, 0.3))

    def _submit(self, key: str, body: dict[str, Any]) -> str:
        while True:
            with suppress(httpx.HTTPError):
                headers = {"Idempotency-Key": key}
                answer = httpx.post(f"{self._service.url}/v1/jobs", json=body, headers=headers, timeout=10)
                assert answer.status_code in (200, 201), answer.text
                return str(answer.json()["id"])
            threading.Event().wait(0.05)  # the service is away


class Watcher(threading.Thread):
    """Follows the push over every restart and remembers the positions it was given."""

    def __init__(self, service: ServiceProcess) -> None:
        super().__init__(daemon=True)
        self._service = service
        self.positions: list[int] = []

    def run(self) -> None:
        with suppress(ClientError):  # the service is gone for good: the test is over
            for message in follow(Client(self._service.url, None), after=0):
                if message["op"] == "event":
                    self.positions.append(message["position"])


def disturb(service: ServiceProcess, rng: random.Random) -> str:
    """One thing that goes wrong; gives its name."""
    agents = processes("service.worker.cli", service.process.pid)
    children = [child for agent in agents for child in processes("service.worker.child", agent)]
    what = rng.choice(["service", "agent", "child", "frozen agent"])
    with suppress(ProcessLookupError):
        if what == "service":
            service.kill()
            service.restart()
        elif what == "agent" and agents:
            os.kill(agents[0], signal.SIGKILL)
        elif what == "child" and children:
            os.kill(children[0], signal.SIGKILL)
        elif what == "frozen agent" and agents:
            os.kill(agents[0], signal.SIGSTOP)
            threading.Event().wait(rng.uniform(1, 5))  # the lease is 3 s: sometimes it lapses
            os.kill(agents[0], signal.SIGCONT)
    return what


def test_random_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    with running_service(tmp_path, "--worker-model", "pretend", "--lease", "3") as service:
        watcher = Watcher(service)
        watcher.start()
        submitters = [Submitter(service, f"client-{n}", random.Random(rng.random())) for n in range(4)]
        for submitter in submitters:
            submitter.start()
        done: Counter[str] = Counter()
        for _ in range(ROUNDS):
            threading.Event().wait(rng.uniform(0.2, 2))
            done[disturb(service, rng)] += 1
        for submitter in submitters:
            submitter.stopping.set()
            submitter.join(60)
            assert not submitter.is_alive()
        acknowledged = [job for submitter in submitters for job in submitter.acknowledged.values()]
        wait_for(lambda: _unfinished(service) == 0, 600, "every job to end", service.log)
        head = httpx.get(f"{service.url}/v1/health").json()["log"]["head"]
        wait_for(lambda: watcher.positions[-1:] == [head], 60, "the watcher to come up", service.log)
        assert watcher.positions == list(range(1, head + 1)), f"after {done}"
        assert service.stop() == 0
        log = SqliteLogReader(service.data / "log.db")
        try:
            _check_history(log, acknowledged)
            _check_views(log, service.data / "views.db", tmp_path / "fresh.db")
        finally:
            log.close()


def test_load_for_minutes_leaves_memory_and_files_as_they_were(tmp_path: Path) -> None:
    with running_service(tmp_path, "--worker-model", "pretend") as service:
        watchers = [Watcher(service) for _ in range(20)]
        submitters = [Submitter(service, f"client-{n}", random.Random(n)) for n in range(4)]
        for thread in (*watchers, *submitters):
            thread.start()
        process = psutil.Process(service.process.pid)
        threading.Event().wait(SOAK_S / 4)  # caches and pools have filled
        before, files = process.memory_info().rss, process.num_fds()
        threading.Event().wait(SOAK_S * 3 / 4)
        after, files_after = process.memory_info().rss, process.num_fds()
        for submitter in submitters:
            submitter.stopping.set()
            submitter.join(60)
        wait_for(lambda: _unfinished(service) == 0, 600, "every job to end", service.log)
        head = httpx.get(f"{service.url}/v1/health").json()["log"]["head"]
        for watcher in watchers:
            wait_for(lambda w=watcher: w.positions[-1:] == [head], 60, "a watcher to come up", service.log)
            assert watcher.positions == list(range(1, head + 1))
        jobs = sum(len(submitter.acknowledged) for submitter in submitters)
        assert after - before < 48 << 20, f"{(after - before) >> 20} MiB more after {jobs} jobs"
        assert files_after <= files + 10


def _unfinished(service: ServiceProcess) -> int:
    counts = httpx.get(f"{service.url}/v1/queues/default").json()["counts"]
    return int(counts.get("queued", 0) + counts.get("running", 0))


def _check_history(log: SqliteLogReader, acknowledged: list[str]) -> None:
    """Dense positions, true leaves, one submission for each acknowledgement, one end for each submission."""
    submitted: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for position, record in enumerate(_records(log), start=1):
        assert record.position == position
        event = record.event
        leaf = leaf_hash(
            record.position, record.stream, record.version, record.event_id, event.type, event.SCHEMA,
            record.at_us, record.actor, record.cause, encode(event), record.private_digest,
        )  # fmt: skip
        assert log.leaf(position) == leaf
        submitted[record.subject] += event.type == "job-submitted"
        ended[record.subject] += event.type in ENDINGS
    assert len(set(acknowledged)) == len(acknowledged), "two keys were given one job"
    jobs = {job for job, count in submitted.items() if count}
    assert jobs == set(acknowledged)
    assert {ended[job] for job in jobs} == {1}


def _check_views(log: SqliteLogReader, kept: Path, fresh: Path) -> None:
    """What was folded over all the restarts is, row for row, what folding from the first record gives."""
    store = ViewStore(fresh, log)
    store.close()
    for table in ("jobs", "job_counts", "queues", "workers", "artifacts"):
        assert list(_rows(kept, table)) == list(_rows(fresh, table)), table


def _records(log: SqliteLogReader) -> Iterator[Any]:
    position = 0
    while page := log.read(position, 5_000):
        yield from page
        position = page[-1].position


def _rows(path: Path, table: str) -> Iterator[Any]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    order = {"job_counts": "queue, status", "artifacts": "digest, job", "jobs": "id"}.get(table, "name")
    where = " WHERE jobs > 0" if table == "job_counts" else ""
    yield from connection.execute(f"SELECT * FROM {table}{where} ORDER BY {order}")
    connection.close()
