"""kill -9 in the middle of deliveries: everything that was owed arrives after the restart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import httpx
from starlette.responses import Response

from tests.receiver import receiving
from tests.service_process import running_service, wait_for

JOBS = 12


def cancelled_job(url: str) -> str:
    job = httpx.post(f"{url}/v1/jobs", json={"task": "pretend", "params": {}}).json()["id"]
    httpx.post(f"{url}/v1/jobs/{job}/cancel")
    return str(job)


def test_a_service_killed_in_the_middle_of_retries_delivers_everything_after_its_restart(tmp_path: Path) -> None:
    with (
        receiving() as receiver,
        running_service(tmp_path, "--no-worker", "--webhook-allow", "127.0.0.1") as service,
    ):
        # At the kill one has failed once, four are on their way and the others are not tried yet.
        receiver.answers["/hook"] += [Response(status_code=500), *[receiver.hanging()] * 4]
        made = httpx.post(f"{service.url}/v1/webhooks", json={"url": f"{receiver.url}/hook"}).json()
        jobs = [cancelled_job(service.url) for _ in range(JOBS)]
        wait_for(lambda: len(receiver.messages) == 5, 10, "attempts", service.log)
        first = receiver.messages[0]
        wait_for(
            lambda: httpx.get(f"{service.url}/v1/webhooks/{made['id']}/deliveries/{first.id}").json()["attempts"],
            10, "the failed attempt to be kept", service.log,
        )  # fmt: skip
        service.kill()
        receiver.let_go()
        before = len(receiver.messages)
        service.restart()

        def all_delivered() -> bool:
            listed = httpx.get(f"{service.url}/v1/webhooks/{made['id']}/deliveries").json()["deliveries"]
            return len(listed) == JOBS and all(d["status"] == "delivered" for d in listed)

        wait_for(all_delivered, 30, "every delivery", service.log)
        later = receiver.messages[before:]
        told = Counter(message.verified(made["secret"])["data"]["id"] for message in later)
        assert set(told) == set(jobs)
        assert set(told.values()) == {1}, "after the restart each was sent once more, and no more"
        ids = {message.id: message.payload["data"]["id"] for message in receiver.messages}
        assert len(ids) == JOBS, "a message sent twice has the same id"
        kept = httpx.get(f"{service.url}/v1/webhooks/{made['id']}/deliveries/{first.id}").json()
        assert [a["status"] for a in kept["attempts"]] == [500, 204]


def test_what_happened_while_no_outbox_was_there_is_told_and_nothing_that_was_told_before(tmp_path: Path) -> None:
    with (
        receiving() as receiver,
        running_service(tmp_path, "--no-worker", "--webhook-allow", "127.0.0.1") as service,
    ):
        httpx.post(f"{service.url}/v1/webhooks", json={"url": f"{receiver.url}/hook"})
        told = cancelled_job(service.url)

        def is_settled() -> bool:
            events = httpx.get(f"{service.url}/v1/events?after=0").json()["events"]
            return any(e["type"] == "webhook-delivered" for e in events)

        wait_for(is_settled, 10, "the log to know", service.log)
        receiver.always["/hook"] = receiver.hanging()
        owed = cancelled_job(service.url)
        wait_for(lambda: len(receiver.messages) == 2, 10, "the second attempt", service.log)
        service.kill()
        receiver.always.clear()
        for file in service.data.glob("outbox.db*"):
            file.unlink()
        service.restart()
        wait_for(lambda: len(receiver.messages) == 3, 10, "what was owed", service.log)
        assert [m.payload["data"]["id"] for m in receiver.messages] == [told, owed, owed]
        assert receiver.messages[1].id == receiver.messages[2].id
