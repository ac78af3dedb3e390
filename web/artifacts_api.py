"""Artifacts over HTTP: reading a file, a client's upload of a picture, what a worker brings and what it takes."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from projections.artifacts import find_artifact
from projections.live_job import LiveJob
from service.artifacts import INPUT_TYPES, MAX_BYTES, ArtifactRejected, ArtifactStore, file_name
from service.decisions.report import holding
from service.pictures import Picture
from service.tasks.registry import TASKS
from service.tasks.task import inputs_of
from web.errors import Problem
from web.requests import check_not_encoded, handler_of, headers_of, integer, json_response, media_type_of, views_of
from web.resources import ArtifactResource


def file_response(request: Request, digest: str, media_type: str) -> Response:
    """A stored file's bytes: immutable, with ranges, and harmless when a browser opens it."""
    store: ArtifactStore = request.app.state.artifacts
    path = store.path(digest)
    if path is None:
        raise Problem(404, "not-found", f"artifact {digest[:64]} is not in the store any more")
    headers = {
        "ETag": f'"{digest}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": f'inline; filename="{file_name(digest[:16], media_type)}"',
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=media_type, headers=headers)


async def show(request: Request) -> Response:
    """The bytes of a file that a completed job links, or of a stored picture."""
    store: ArtifactStore = request.app.state.artifacts
    digest = request.path_params["digest"]
    artifact = find_artifact((await views_of(request)).reader(), digest) or store.picture(digest)
    if artifact is None:
        raise Problem(404, "not-found", f"no job has an artifact {digest[:64]!r}, and no such picture is stored")
    return file_response(request, digest, artifact.media_type)


async def take_in(request: Request) -> Response:
    """Store a picture that jobs may start from: 201, or 200 when these bytes are stored already."""
    headers = headers_of(request)
    check_not_encoded(headers)
    stored, is_new = await store_picture(request, "body", media_type_of(headers), request.stream())
    return json_response(stored, 201 if is_new else 200, {"Location": stored.url})


async def store_picture(
    request: Request, field: str, media_type: str, chunks: AsyncIterator[bytes]
) -> tuple[ArtifactResource, bool]:
    """The picture that `chunks` yield, stored, and whether it was not before. Raises a Problem naming `field`."""
    if media_type not in INPUT_TYPES:
        detail = f"content type {media_type[:80]!r} is not accepted; send {' or '.join(INPUT_TYPES)}"
        raise Problem(415, "unsupported-media-type", detail, field=field)
    store: ArtifactStore = request.app.state.artifacts
    with _storing(field):
        picture, is_new = await store.store_picture(media_type, chunks)
    shape = ArtifactResource(
        digest=picture.digest,
        media_type=media_type,
        bytes=picture.bytes,
        width=picture.width,
        height=picture.height,
        url=f"/v1/artifacts/{picture.digest}",
    )
    return shape, is_new


async def stored_pictures(request: Request, params: Mapping[str, object]) -> dict[str, Picture]:
    """The stored pictures that `params` name, by digest."""
    store: ArtifactStore = request.app.state.artifacts
    texts = {value for value in params.values() if isinstance(value, str)}
    found = {text: await asyncio.to_thread(store.picture, text) for text in texts if store.path(text) is not None}
    return {digest: picture for digest, picture in found.items() if picture is not None}


async def upload(request: Request) -> Response:
    """A worker stores a file of the attempt it holds: 201, or 200 when these bytes are stored already.

    The upload links nothing: a job has the file only once its Completed names it under a valid token.
    """
    store: ArtifactStore = request.app.state.artifacts
    _held(request)
    _check_length(request)
    digest = request.path_params["digest"]
    if store.path(digest) is not None:
        return json_response({"digest": digest})
    media_type = request.headers.get("content-type", "").strip().lower()
    with _storing("body"):
        size = await store.store(digest, media_type, request.stream())
    return json_response({"digest": digest, "bytes": size}, 201)


async def hand_out(request: Request) -> Response:
    """A worker reads a picture that the job of the attempt it holds starts from; no other file is given to it."""
    store: ArtifactStore = request.app.state.artifacts
    digest = request.path_params["digest"]
    job = _held(request)
    if digest not in inputs_of(TASKS[job.task], job.params).values():
        raise Problem(404, "not-found", f"job {job.id} does not start from {digest[:64]!r}; take what it names")
    picture = store.picture(digest)
    return file_response(request, digest, picture.media_type if picture else "application/octet-stream")


ROUTES = [
    Route("/v1/artifacts", take_in, methods=["POST"]),
    Route("/v1/artifacts/{digest}", show, methods=["GET", "HEAD"]),
    Route("/v1/worker/artifacts/{digest}", upload, methods=["PUT"]),
    Route("/v1/worker/artifacts/{digest}", hand_out, methods=["GET"]),
]


def _held(request: Request) -> LiveJob:
    """The job whose attempt the request names and holds. Refuses a stale one."""
    job = request.query_params.get("job", "")
    attempt = integer(request, "attempt", 0, 1, 1 << 31)
    token = integer(request, "token", 0, 1, 1 << 53)
    return holding(handler_of(request).state, job, attempt, token)


@contextmanager
def _storing(field: str) -> Iterator[None]:
    """What goes wrong with storing, as a Problem that names `field`."""
    try:
        yield
    except ArtifactRejected as error:
        raise Problem(422, "invalid-artifact", str(error), field=field) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        detail = "the disk of the artifact store is full; nothing was kept, try again when there is room"
        raise Problem(507, "store-full", detail) from error


def _check_length(request: Request) -> None:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > MAX_BYTES:
        raise Problem(413, "too-large", f"{declared} bytes are not stored; the limit is {MAX_BYTES} bytes")
