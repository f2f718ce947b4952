"""Files of data sets on the Hugging Face hub, in the hub's own cache. Must not know any source.

`hf_hub_download` (checked in 2.4.0) begins a file again when its process was killed, gives up where a file's server
answers 500, and checks no digest. So `download` brings the files to that place in the cache where the library finds
them.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ftbench.errors import DataError
from ftbench.items import Progress
from ftbench.sources.connections import Patience, is_temporary, retry_after
from ftbench.sources.fetch_files import Remote, download, wrong_kind

_COMMIT = re.compile("[0-9a-f]{40}")
_PATIENCE = Patience()
_Result = TypeVar("_Result")


def hub_files(
    repo: str, paths: Sequence[str], revision: str | None, progress: Progress, patience: Patience = _PATIENCE
) -> list[Path]:
    """Files of a data set's repository, in the cache after the call. revision: a commit, branch or tag; None for main.

    Honours HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE. progress: bytes of what is not in the cache yet. Raises
    DataError: no such repository, revision or file; the hub cannot be reached; a file is damaged.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    endpoint, cache = _place()
    known = {"repo_type": "dataset", "revision": revision, "cache_dir": cache}
    cached = {path: try_to_load_from_cache(repo, path, **known) for path in paths}
    new, remotes = [path for path in paths if not isinstance(cached[path], str)], []
    for path in new:
        if (remote := _announced(repo, path, revision, patience)) is not None:
            remotes.append(remote)
    blobs = _folder(repo, cache) / "blobs"
    if remotes := list({remote.name: remote for remote in remotes}.values()):  # equal files have one blob
        download(remotes, blobs, progress, patience=patience)
    for remote in remotes:
        if _COMMIT.fullmatch(remote.name) and _git_digest(blobs / remote.name) != remote.name:
            (blobs / remote.name).unlink()
            raise DataError(f"{remote.url}: other bytes arrived than the hub announced. Type the same command again.")
    found = []
    for path in paths:
        if not _pinned(revision) or path in new:  # a branch may have moved
            ask = lambda path=path: hf_hub_download(repo, path, endpoint=endpoint, **known)  # noqa: E731
            cached[path] = _explained(repo, path, ask)
        found.append(Path(cached[path]))
        _refuse_wrong_kind(found[-1], repo, path)
    for remote in remotes:
        (blobs / f".{remote.name}.json").unlink(missing_ok=True)
    return found


def hub_tree(repo: str, under: str, revision: str | None) -> list[str]:
    """Paths of all files below a folder of a data set's repository, sorted; [] where there is no such folder.

    What a commit holds is asked once: its listing is kept beside the files. Raises DataError: no such repository or
    revision; the hub cannot be reached.
    """
    from huggingface_hub import HfApi, errors

    kept = _folder(repo, _place()[1]) / "trees" / f"{revision}-{hashlib.sha256(under.encode()).hexdigest()[:16]}.json"
    if _pinned(revision) and (known := _kept_listing(kept)) is not None:
        return known

    def listed() -> list[str]:
        try:
            entries = HfApi(endpoint=_place()[0]).list_repo_tree(
                repo, under or None, recursive=True, revision=revision, repo_type="dataset"
            )
            return sorted(entry.path for entry in entries if hasattr(entry, "size"))
        except errors.EntryNotFoundError:
            return []

    paths = _explained(repo, under, listed)  # the library itself asks again here
    if _pinned(revision):
        with suppress(OSError):  # a cache that may only be read
            kept.parent.mkdir(parents=True, exist_ok=True)
            draft = kept.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(paths), encoding="utf-8")
            os.replace(draft, kept)
    return paths


def _pinned(revision: str | None) -> bool:
    """Whether a revision is a commit, which cannot change."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def _kept_listing(path: Path) -> list[str] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _refuse_wrong_kind(place: Path, repo: str, path: str) -> None:
    """Raises DataError for a pointer or a page in the place of a file, which does not stay in the cache."""
    with open(place, "rb") as file:
        kind = wrong_kind(file.read(1024), path)
    if kind:
        for file in {place.resolve(), place}:
            file.unlink(missing_ok=True)
        raise DataError(f"{repo}, {path}: the hub sent {kind} instead of the file. See {_page(repo)}")


def _git_digest(path: Path) -> str:
    """What a Git repository calls a file, hexadecimal: the hub's ETag of one that is not in Git LFS."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _place() -> tuple[str | None, Path | None]:
    """(endpoint, cache folder) by the environment as it is now (the library reads it once); None: its own."""
    endpoint, cache, home = (os.environ.get(name) for name in ("HF_ENDPOINT", "HF_HUB_CACHE", "HF_HOME"))
    return (endpoint or "").rstrip("/") or None, Path(cache) if cache else Path(home) / "hub" if home else None


def _folder(repo: str, cache: Path | None) -> Path:
    """Where the library's cache has a repository: `blobs` holds its files, each under its ETag."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(cache or constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="dataset")


def _announced(repo: str, path: str, revision: str | None, patience: Patience) -> Remote | None:
    """A file as the hub announces it; None where the hub says too little to resume and check it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repo, path, repo_type="dataset", revision=revision, endpoint=_place()[0])
    facts = _explained(repo, path, lambda: _patiently(lambda: get_hf_file_metadata(url), patience))
    if facts.size is None or not re.fullmatch(r"[\w-]+", facts.etag or ""):
        return None
    if facts.commit_hash:  # the address of these bytes, whatever the branch has by the time a download is resumed
        url = hf_hub_url(repo, path, repo_type="dataset", revision=facts.commit_hash, endpoint=_place()[0])
    sha256 = facts.etag if re.fullmatch("[0-9a-f]{64}", facts.etag) else None  # Git LFS files have it as their ETag
    return Remote(url, facts.etag, facts.size, sha256)


def _patiently(ask: Callable[[], _Result], patience: Patience) -> _Result:
    """Ask the library again where the failure may pass."""
    for attempt in range(1, patience.attempts + 1):
        try:
            return ask()
        except Exception as problem:  # the library's errors for broken connections differ between its versions
            wait = _wait(problem)
            if wait is None or wait > patience.longest_asked or attempt == patience.attempts:
                raise
            time.sleep(max(wait, min(patience.longest, patience.first * 2 ** (attempt - 1))))
    raise AssertionError("unreachable")


def _wait(problem: Exception) -> float | None:
    """The least seconds to wait before the same question; None where it would get the same answer."""
    response = getattr(problem, "response", None)
    if response is not None:
        wait = retry_after(response.headers.get("Retry-After")) or 0.0
        return wait if is_temporary(response.status_code) else None
    return 0.0 if _lost_connection(problem) else None


def _lost_connection(problem: Exception) -> bool:
    """Whether an error is the HTTP client's, which has been requests, httpx and httpx2."""
    return type(problem).__module__.partition(".")[0] in ("requests", "urllib3", "httpx", "httpx2", "httpcore")


def _page(repo: str) -> str:
    return f"{_place()[0] or 'https://huggingface.co'}/datasets/{repo}"


def _explained(repo: str, path: str, ask: Callable[[], _Result]) -> _Result:
    """The library's answer, its errors as DataError."""
    from huggingface_hub import errors

    def error(what: str) -> DataError:
        return DataError(f"{repo}{f', {path}' if path else ''}: {what}")

    try:
        return ask()
    except errors.GatedRepoError:
        raise error(f"accept the data set's terms on {_page(repo)} and type: hf auth login") from None
    except errors.RepositoryNotFoundError:
        raise error(f"the hub has no such data set, or shows it to no stranger. See {_page(repo)}") from None
    except errors.RevisionNotFoundError:
        raise error(f"the hub has no such revision of the data set. See {_page(repo)}/commits/main") from None
    except errors.LocalEntryNotFoundError as problem:
        cause = problem.__cause__ or problem
        raise error(
            f"not in the cache, and the hub cannot be asked ({_brief(cause)}). Try again when it can."
        ) from None
    except errors.EntryNotFoundError:
        raise error(f"the hub has no such file at that revision. See {_page(repo)}/tree/main") from None
    except errors.OfflineModeIsEnabled:
        raise error("not in the cache, and HF_HUB_OFFLINE forbids asking. Type: unset HF_HUB_OFFLINE") from None
    except DataError:
        raise
    except Exception as problem:
        known = isinstance(problem, (OSError, ValueError, errors.HfHubHTTPError)) or _lost_connection(problem)
        if not known:
            raise
        raise error(f"the hub cannot be used ({_brief(problem)}). Type the same command again later.") from None


def _brief(problem: BaseException) -> str:
    return " ".join(str(problem).split())[:200] or type(problem).__name__
