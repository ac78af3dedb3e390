"""Fetching what an entry names from the hub, at its pinned commits, into the hub's own cache.

The only code that goes online. Weights are downloaded to where huggingface_hub looks for them (`blobs/<etag>`), so
that a pull can go on in the middle of a file; it then fetches the small files and links all of them.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath

import msgspec

from service.tasks.catalog import Lora, Model, Weights
from service.tasks.models_file import SINGLE_FILE
from service.worker.downloads import DownloadFailed, download
from service.worker.weights import DIFFUSERS, STEMS, components, located

SETTINGS = (".json", ".txt", ".model", ".jinja")
WEIGHTS_NAME = re.compile(rf"(?:{'|'.join(STEMS)})(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?\.safetensors")


class PullFailed(Exception):
    """The hub did not give what was asked for; says what it was and what to do."""


class Fetch(msgspec.Struct, frozen=True):
    """What is about to be fetched, for people."""

    source: str
    files: int
    bytes: int


def pull(model: Model, tell: Callable[[Fetch], None], advance: Callable[[int], None]) -> None:
    """Fetch every part of `model` that is on the hub. Raises PullFailed.

    `tell` is called before each part, `advance` with the bytes of weights that are there more.
    """
    for role, part in model.parts.items():
        if part.revision is not None:
            _pull_part(role, part, model.variant, tell, advance)


def _pull_part(
    role: str,
    part: Weights,
    variant: str | None,
    tell: Callable[[Fetch], None],
    advance: Callable[[int], None],
) -> None:
    import huggingface_hub as hub
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()  # they would tell of the small files only
    with _in_our_words(part):
        tree = hub.HfApi().list_repo_tree(part.source, revision=part.revision, recursive=True)
        sizes = {file.path: file.size for file in tree if isinstance(file, hub.RepoFile)}
        if DIFFUSERS in sizes:
            hub.hf_hub_download(part.source, DIFFUSERS, revision=part.revision)
        wanted = _wanted(role, part, variant, sizes)
        tell(Fetch(part.source, len(wanted), sum(sizes[name] for name in wanted)))
        for name in wanted:
            if name.endswith(SINGLE_FILE):
                _download(part, name, advance)
            else:
                advance(sizes[name])
        names = [glob.escape(name) for name in wanted]
        hub.snapshot_download(part.source, revision=part.revision, allow_patterns=names)


@contextmanager
def _in_our_words(part: Weights) -> Iterator[None]:
    """Whatever goes wrong in the block as PullFailed, with what to do."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    at = f"{part.source} at {part.revision}"
    try:
        yield
    except GatedRepoError as error:
        why = f"{at} is given to accounts only that accept its licence; do so, then set HF_TOKEN"
        raise PullFailed(why) from error
    except RevisionNotFoundError as error:
        raise PullFailed(f"{part.source} has no commit {part.revision}; copy one from the hub's page") from error
    except RepositoryNotFoundError as error:
        raise PullFailed(f"the hub has no {part.source}, or not for you; correct it, or set HF_TOKEN") from error
    except Exception as error:  # huggingface_hub lets those of its HTTP library through, and has changed that twice
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise PullFailed(f"{at} could not be fetched: {reason}; what has come is kept: pull again") from error


def _download(part: Weights, name: str, advance: Callable[[int], None]) -> None:
    """One file of weights into the cache, if it is not there."""
    import huggingface_hub as hub
    from huggingface_hub.utils import build_hf_headers

    url = hub.hf_hub_url(part.source, name, revision=part.revision)
    about = hub.get_hf_file_metadata(url)
    if about.etag is None or about.size is None:
        raise DownloadFailed(f"{name}: the hub does not say its size and its etag")
    blob = located(part).parents[1] / "blobs" / about.etag
    if blob.exists():
        advance(about.size)
        return
    try:
        download(url, build_hf_headers(), blob, about.size, advance)
    except DownloadFailed as error:
        raise DownloadFailed(f"{name}: {error}") from error


def _wanted(role: str, part: Weights, variant: str | None, names: Iterable[str]) -> list[str]:
    if isinstance(part, Lora):
        at_top = [name for name in names if "/" not in name and name.endswith(SINGLE_FILE)]
        return at_top if part.file is None else [name for name in names if name == part.file]
    folders = {"", *(components(located(part)) if DIFFUSERS in names else ())}
    return chosen(names, folders, variant, has_weights=role != "config")


def chosen(names: Iterable[str], folders: Iterable[str], variant: str | None, *, has_weights: bool) -> list[str]:
    """Of a repository's files those that loading needs: settings, and safetensors under the names it looks for.

    Of these a folder gives those of the variant where it has any, else the plain ones. Only what lies in one of
    `folders` itself counts; "" is the top, where a repository may have the same weights again as a single file.
    """
    of_folder: dict[str, list[str]] = {folder: [] for folder in folders}
    for name in names:
        folder = str(PurePosixPath(name).parent).removeprefix(".")
        if folder in of_folder:
            of_folder[folder].append(name)
    found = []
    for files in of_folder.values():
        found += [name for name in files if name.endswith(SETTINGS)]
        if has_weights:
            found += _of_variant({name: PurePosixPath(name).name for name in files}, variant)
    return sorted(found)


def _of_variant(files: Mapping[str, str], variant: str | None) -> list[str]:
    kinds = {path: match["variant"] for path, name in files.items() if (match := WEIGHTS_NAME.fullmatch(name))}
    wanted = variant if variant in kinds.values() else None
    return [path for path, kind in kinds.items() if kind == wanted]
