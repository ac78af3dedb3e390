"""Artifacts over HTTP: reading a stored file, and a worker's upload of one."""

from __future__ import annotations

import errno

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from projections.artifacts import find_artifact
from service.artifacts import MAX_BYTES, ArtifactRejected, ArtifactStore
from service.decisions.report import holding
from web.errors import Problem
from web.requests import handler_of, integer, json_response, views_of


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
        "Content-Disposition": f'inline; filename="{digest[:16]}.{media_type.partition("/")[2]}"',
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=media_type, headers=headers)


async def show(request: Request) -> Response:
    """The bytes of a file that a completed job links."""
    digest = request.path_params["digest"]
    artifact = find_artifact((await views_of(request)).reader(), digest)
    if artifact is None:
        raise Problem(404, "not-found", f"no job has an artifact {digest[:64]!r}")
    return file_response(request, artifact.digest, artifact.media_type)


async def upload(request: Request) -> Response:
    """A worker stores a file of the attempt it holds: 201, or 200 when these bytes are stored already.

    The upload links nothing: a job has the file only once its Completed names it under a valid token.
    """
    store: ArtifactStore = request.app.state.artifacts
    job = request.query_params.get("job", "")
    attempt = integer(request, "attempt", 0, 1, 1 << 31)
    token = integer(request, "token", 0, 1, 1 << 53)
    holding(handler_of(request).state, job, attempt, token)
    _check_length(request)
    digest = request.path_params["digest"]
    if store.path(digest) is not None:
        return json_response({"digest": digest})
    media_type = request.headers.get("content-type", "").strip().lower()
    try:
        size = await store.store(digest, media_type, request.stream())
    except ArtifactRejected as error:
        raise Problem(422, "invalid-artifact", str(error), field="body") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        detail = "the disk of the artifact store is full; free space, the worker will try again"
        raise Problem(507, "store-full", detail) from error
    return json_response({"digest": digest, "bytes": size}, 201)


ROUTES = [
    Route("/v1/artifacts/{digest}", show, methods=["GET", "HEAD"]),
    Route("/v1/worker/artifacts/{digest}", upload, methods=["PUT"]),
]


def _check_length(request: Request) -> None:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > MAX_BYTES:
        raise Problem(413, "too-large", f"{declared} bytes are not stored; the limit is {MAX_BYTES} bytes")
