"""A submission as a form (RFC 7578): JSON in the part `job`, and a picture in each part named like a param."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.artifacts import MAX_PICTURE_BYTES
from service.refusals import InvalidField
from service.tasks.registry import TASKS
from web.artifacts_api import store_picture
from web.errors import Problem
from web.requests import MAX_JSON_BYTES, check_not_encoded, headers_of, media_type_of, read_json
from web.submissions import Submission

PICTURES = tuple(dict.fromkeys(name for kind in TASKS.values() for name in kind.INPUTS))
"""The parts that may hold a picture: every task's inputs."""

MAX_FORM_BYTES = MAX_JSON_BYTES + len(PICTURES) * MAX_PICTURE_BYTES
CHUNK_BYTES = 1 << 20


def is_form(headers: Mapping[str, str]) -> bool:
    """Whether a body is declared to be a form with files."""
    return media_type_of(headers) == "multipart/form-data"


async def read_form(request: Request) -> tuple[Submission, bytes]:
    """The submission with its pictures stored and named, and bytes that are the same for the same content.

    Raises a Problem, or refuses a picture that is given twice.
    """
    check_not_encoded(headers_of(request))
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=1 + len(PICTURES),
        max_fields=1,
        max_part_size=MAX_JSON_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Problem(400, "bad-form", f"the body is no form that is read here ({error.message})") from None
    try:
        raw = await _job_part(form)
        submission = read_json(raw, Submission)
        digests = await _stored(request, form, submission)
    finally:
        await form.close()
    whole = msgspec.structs.replace(submission, params={**submission.params, **digests})
    return whole, raw + msgspec.json.encode(digests, order="sorted")


async def _job_part(form: FormData) -> bytes:
    part = form.get("job")
    if part is None:
        raise InvalidField("job", "this part is missing; send the JSON of the job in it")
    raw = part.encode() if isinstance(part, str) else await part.read(MAX_JSON_BYTES + 1)
    if len(raw) > MAX_JSON_BYTES:
        raise Problem(413, "too-large", f"part job is over {MAX_JSON_BYTES} bytes, the limit for JSON")
    return raw


async def _stored(request: Request, form: FormData, submission: Submission) -> dict[str, str]:
    """The digest of each picture of the form, by the param it is."""
    digests: dict[str, str] = {}
    for name, part in form.multi_items():
        if name == "job":
            continue
        if name not in PICTURES or not isinstance(part, UploadFile):
            detail = f"part {name[:80]!r} is not accepted: send job and, as files, {' or '.join(PICTURES)}"
            raise Problem(422, "invalid-field", detail, field=name[:80])
        if name in digests or name in submission.params:
            raise InvalidField(name, "it is given more than once; send one file, or its digest in params")
        stored, _ = await store_picture(request, name, media_type_of(part.headers), _chunks(part))
        digests[name] = stored.digest
    return digests


async def _chunks(part: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await part.read(CHUNK_BYTES):
        yield chunk
