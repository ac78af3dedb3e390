"""Workers over HTTP whose requests and answers get lost, that freeze and die, while the service is killed too."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.http_worker import HttpWorker, artifact, png
from tests.service_process import ServiceProcess, running_service, wait_for

ENDINGS = {"job-completed", "job-failed", "job-cancelled", "job-expired"}
LEASE_S = 2.0
SEED = int(os.environ.get("SAFELIGHT_CHAOS_SEED", "1"))


class Lossy(httpx.BaseTransport):
    """A network that loses one request in twelve before the service has it, and one answer in six after."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._real = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        chance = self._rng.random()
        if chance < 1 / 12:
            raise httpx.ConnectError("the request was lost", request=request)
        if chance < 2 / 12:  # the client hangs up while the service may still think, or wait
            request.extensions["timeout"] = dict.fromkeys(("connect", "write", "pool"), 5.0) | {"read": 0.05}
        answer = self._real.handle_request(request)
        answer.read()
        if chance > 5 / 6:
            raise httpx.ReadError("the answer was lost", request=request)
        return answer


class Worker(threading.Thread):
    """A careful worker on a bad network: repeats what was not answered, says hello again, drops what is stale.

    Now and then it does not speak for longer than its lease, or dies and is started anew with nothing.
    """

    def __init__(self, service: ServiceProcess, name: str, rng: random.Random) -> None:
        super().__init__(name=name, daemon=True)
        self._rng = rng
        self._wire = HttpWorker(service, name)
        self._wire.client._transport = Lossy(rng)
        self._held: dict[str, Any] = {}
        self._claims = 0
        self.stopping = threading.Event()
        self.seen: Counter[str] = Counter()

    def run(self) -> None:
        self._start_anew()
        while not self.stopping.is_set():
            self._claims += 1
            lease = self._say("claim", claim=f"claim-{self._claims}", wait_s=0.5)
            if lease:
                self._held = {name: lease[name] for name in ("job", "attempt", "token")}
                self._work(lease)
                self._held = {}

    def _work(self, lease: dict[str, Any]) -> None:
        steps, accident = lease["params"]["steps"], self._rng.random()
        for step in range(1, 4):
            orders = self._say("progress", step=step, steps=3, phase="denoising")
            if orders is None or any(order["job"] == lease["job"] for order in orders["cancel"]):
                self._say("stopped", step=step)
                return
        if accident < 0.05:
            self.seen["froze"] += 1
            self.stopping.wait(LEASE_S * 1.5)
        elif accident < 0.1:
            self.seen["died"] += 1
            self._held = {}
            self._start_anew()
            return
        elif accident < 0.2 and lease["attempt"] == 1:
            self._say("fail", kind="internal", message="a cable came loose")
            return
        picture = png(steps)
        while self._held:
            with suppress(httpx.TransportError):
                answer = self._wire.upload(self._held, picture)
                if answer.status_code == 409:
                    self._held = {}
                elif answer.status_code in (200, 201):
                    self._say("complete", artifacts=[artifact(picture)])
                    return

    def _say(self, word: str, **fields: Any) -> Any:
        """The answer to a word; None once the attempt it is about is not ours."""
        is_about_one = word != "claim"
        while self._held or not is_about_one:
            with suppress(httpx.TransportError):
                answer = self._wire.say(word, self._held if is_about_one else None, **fields)
                if answer.status_code == 409:
                    assert answer.json()["type"] == "/problems/stale-attempt", answer.text
                    self.seen["stale"] += 1
                    self._held = {}
                elif answer.status_code == 404:
                    self._hello()
                elif answer.status_code < 300:
                    return answer.json() if answer.content else None
                else:
                    assert answer.status_code >= 500, answer.text
            self.stopping.wait(0.01)
        return None

    def _hello(self) -> None:
        with suppress(httpx.TransportError):  # then the same word is said again, and found to have no session
            for verdict in self._wire.hello(*([self._held] if self._held else []))["verdicts"]:
                self.seen["kept" if verdict["keep"] else "not kept"] += 1
                self._held = {**self._held, "token": verdict["token"]} if verdict["keep"] else {}

    def _start_anew(self) -> None:
        self._wire.who["boot"] = f"{self._rng.random()}"
        self._wire.session = "none"
        self._hello()


def test_every_job_ends_once_with_its_own_picture(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    with running_service(tmp_path, "--no-worker", "--lease", str(LEASE_S)) as service:
        workers = [Worker(service, f"w{number}", random.Random(rng.random())) for number in range(4)]
        for worker in workers:
            worker.start()
        jobs = {submit(service, number): number for number in range(60)}
        for most in (15, 35):
            wait_for(lambda: completed(service) > most, 60, "some jobs to be done", service.log)  # noqa: B023
            service.kill()
            service.restart()
        wait_for(lambda: unfinished(service) == 0, 120, "every job to end", service.log)
        seen = sum((worker.seen for worker in workers), Counter())
        for worker in workers:
            worker.stopping.set()
        for job, number in jobs.items():
            types = types_of(service, job)
            assert [kind for kind in types if kind in ENDINGS] == ["job-completed"], (types, seen)
            assert httpx.get(f"{service.url}/v1/jobs/{job}/result").content == png(number), (types, seen)


def submit(service: ServiceProcess, steps: int) -> str:
    return str(
        httpx.post(f"{service.url}/v1/jobs", json={"task": "pretend", "params": {"steps": steps}}).json()["id"]
    )


def counts(service: ServiceProcess) -> dict[str, int]:
    return httpx.get(f"{service.url}/v1/queues/default").json()["counts"]  # type: ignore[no-any-return]


def completed(service: ServiceProcess) -> int:
    return counts(service).get("completed", 0)


def unfinished(service: ServiceProcess) -> int:
    return sum(counts(service).get(status, 0) for status in ("scheduled", "queued", "running"))


def types_of(service: ServiceProcess, job: str) -> list[str]:
    return [event["type"] for event in httpx.get(f"{service.url}/v1/jobs/{job}/events").json()["events"]]
