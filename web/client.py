"""A typed client of our own API, for the command line. Errors say what to do, not what was raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from events.queues import Rules
from service.pictures import BadPicture
from service.videos import read_input
from web.resources import (
    ArtifactResource,
    BatchResource,
    BulkResource,
    EventList,
    JobList,
    JobResource,
    ModelList,
    QueueList,
    QueueResource,
    WorkerList,
)

T = TypeVar("T")
TIMEOUT_S = 30.0


class ClientError(Exception):
    """The service did not do what was asked; the message is for people."""


class Client:
    """One service, as seen with one key."""

    def __init__(self, url: str, key: str | None) -> None:
        """Speak to the service at `url`; nothing is sent yet."""
        self.url = url.rstrip("/")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=self.url, headers=self.headers, timeout=TIMEOUT_S)

    def submit(self, body: dict[str, Any], idempotency_key: str | None = None) -> JobResource:
        """Put a job in a queue."""
        return self._ask("POST", "/v1/jobs", JobResource, json=body, headers=_repeatable(idempotency_key))

    def submit_batch(self, body: dict[str, Any], idempotency_key: str | None = None) -> BatchResource:
        """Put several jobs in a queue: `body` has count, seeds or prompts."""
        return self._ask("POST", "/v1/jobs", BatchResource, json=body, headers=_repeatable(idempotency_key))

    def upload(self, path: Path) -> ArtifactResource:
        """Store the picture or video in a file, for jobs to start from."""
        try:
            data = path.read_bytes()
            media_type = read_input(data).media_type
        except OSError as error:
            raise ClientError(f"cannot read {path} ({error.strerror}); name a picture or video file") from error
        except BadPicture as error:
            raise ClientError(f"{path}: {error}") from error
        headers = {"Content-Type": media_type}
        return self._ask("POST", "/v1/artifacts", ArtifactResource, content=data, headers=headers)

    def batch(self, batch: str) -> BatchResource:
        """How a batch stands."""
        return self._ask("GET", f"/v1/batches/{batch}", BatchResource)

    def batch_jobs(self, batch: str) -> list[JobResource]:
        """The jobs of a batch in the order in which they were asked for."""
        return self.jobs(batch=batch, order="oldest", limit=1000).jobs

    def job(self, job: str) -> JobResource:
        """One job; `latest` is the newest."""
        return self._ask("GET", f"/v1/jobs/{job}", JobResource)

    def jobs(self, **query: Any) -> JobList:
        """A page of jobs."""
        return self._ask("GET", "/v1/jobs", JobList, params={k: v for k, v in query.items() if v})

    def events(self, job: str) -> EventList:
        """The history of one job."""
        return self._ask("GET", f"/v1/jobs/{job}/events", EventList)

    def act(self, job: str, action: str) -> JobResource:
        """Cancel, retry, hold or release a job."""
        return self._ask("POST", f"/v1/jobs/{job}/{action}", JobResource)

    def change(self, method: str, path: str, body: dict[str, Any]) -> JobResource:
        """Move or edit a job."""
        return self._ask(method, path, JobResource, json=body)

    def bulk(self, action: str, which: dict[str, Any], expected: int | None = None) -> BulkResource:
        """Do the same to all jobs that match, or without `expected` tell how many those are."""
        body = {"action": action, "which": which, "expected": expected}
        return self._ask("POST", "/v1/jobs/bulk", BulkResource, json=body)

    def queues(self) -> QueueList:
        """Every queue."""
        return self._ask("GET", "/v1/queues", QueueList)

    def queue(self, queue: str) -> QueueResource:
        """One queue."""
        return self._ask("GET", f"/v1/queues/{queue}", QueueResource)

    def control(self, queue: str, action: str) -> QueueResource:
        """Pause, drain, resume or prune a queue."""
        return self._ask("POST", f"/v1/queues/{queue}/{action}", QueueResource)

    def configure(self, queue: str, rules: Rules) -> QueueResource:
        """Run a queue by these rules."""
        return self._ask("PUT", f"/v1/queues/{queue}", QueueResource, json=msgspec.to_builtins(rules))

    def workers(self) -> WorkerList:
        """Every worker."""
        return self._ask("GET", "/v1/workers", WorkerList)

    def models(self) -> ModelList:
        """The catalogue."""
        return self._ask("GET", "/v1/models", ModelList)

    def raw(self, method: str, path: str, body: Any = None) -> Any:
        """Any other route, as plain JSON values."""
        return self._ask(method, path, object, json=body)

    def download(self, path: str) -> bytes:
        """The bytes behind a path."""
        return self._send("GET", path).content

    def _ask(self, method: str, path: str, kind: type[T], **request: Any) -> T:
        content = self._send(method, path, **request).content
        return msgspec.json.decode(content or b"null", type=kind)

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ClientError(
                f"no answer from {self.url} ({error}); start `safelight serve`, or set --url or SAFELIGHT_URL"
            ) from error
        if response.is_error:
            raise ClientError(_words(response))
        return response


def _repeatable(idempotency_key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": idempotency_key} if idempotency_key else {}


def _words(response: httpx.Response) -> str:
    """The detail of a problem document, or the status where the answer is none."""
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{response.request.url} answered {response.status_code}; is that a Safelight service?"
    if response.status_code == 401:
        return f"{detail} (set --key or SAFELIGHT_KEY)"
    return detail
