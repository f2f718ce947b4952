"""Files from the internet: several at a time, resumed, checked.

Must not know any source. A file's name stands for a whole, checked file: what is still arriving lies beside it as
`NAME.part`, and `.NAME.json` says where it is from, so that a process killed at any moment is carried on by the next.
"""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ftbench.errors import DataError, several
from ftbench.items import Progress
from ftbench.sources.connections import Answer, Client, Patience, Refused, Trouble
from ftbench.sources.rows import file_digest, safe_path

_POINTER = b"version https://git-lfs.github.com/spec/"  # how a Git LFS pointer begins (its specification, v1)
_SMALL = 1 << 16  # bytes; no pointer and no error page is larger, so a smaller answer is read before it is judged
_PATIENCE = Patience()
_TOLD_EVERY = 0.2  # seconds between two reports of progress
_DAMAGED = 2  # times that a file may arrive whole and wrong: once more from the start, since a resumed one may be mixed


@dataclass(frozen=True)
class Remote:
    """A file to download. name: where it is stored, relative; sha256: hexadecimal, the whole or its beginning."""

    url: str
    name: str
    bytes: int | None = None
    sha256: str | None = None


class _Damaged(Exception):
    """A file that arrived whole and is not the one expected."""


def wrong_kind(start: bytes, name: str) -> str | None:
    """What a file is instead of data, judged by its first bytes: a Git LFS pointer or a web page; None where neither.

    >>> wrong_kind(b"<!DOCTYPE html><title>Log in", "a.parquet")
    'a web page'
    """
    if start.startswith(_POINTER):
        return "a Git LFS pointer"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")) and not name.lower().endswith((".html", ".htm")):
        return "a web page"
    return None


def download(
    remotes: Sequence[Remote],
    folder: Path,
    progress: Progress,
    connections: int = 4,
    patience: Patience = _PATIENCE,
) -> list[Path]:
    """Download files into `folder`; those that lie there already are checked, not asked for. Returns their paths.

    Each file has one connection, `connections` files at a time. Connections that break, 429 and 5xx are tried again as
    `patience` says, from where they broke off. progress: bytes. Raises DataError: refused, unreachable for too long,
    another size or SHA-256 than expected, a web page or a Git LFS pointer instead of data.
    """
    folder = Path(folder)
    names = [safe_path(remote.name) for remote in remotes]
    if None in names or len(set(names)) != len(names):
        raise DataError(f"names to store under must differ and stay in the folder: {[r.name for r in remotes]}")
    folder.mkdir(parents=True, exist_ok=True)
    with Client(patience) as client, ThreadPoolExecutor(max(1, connections)) as pool:
        transfers = [_Transfer(remote, folder / name, client) for remote, name in zip(remotes, names, strict=True)]
        running = {pool.submit(transfer.run) for transfer in transfers}
        try:
            left = running
            while left:
                done, left = wait(left, timeout=_TOLD_EVERY, return_when=FIRST_EXCEPTION)
                sizes = [transfer.size for transfer in transfers]
                progress(sum(t.done for t in transfers), None if None in sizes else sum(sizes), "downloading", "B")
                if any(future.exception() for future in done):
                    break
        finally:
            client.halt()
            pool.shutdown(cancel_futures=True)
        failures = [f.exception() for f in running if not f.cancelled() and f.exception()]
        if problems := sorted(str(failure) for failure in failures if isinstance(failure, DataError)):
            raise several(f"download into {folder}", problems, DataError)
        for failure in failures:
            raise failure
    return [transfer.path for transfer in transfers]


@contextmanager
def held(path: Path) -> Iterator[BinaryIO]:
    """A file open for appending that no other process has open so. Raises DataError where one has."""
    while True:
        file = open(path, "ab")
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: two commands at once are not kept apart
            break
        except OSError:
            file.close()
            raise DataError(f"{path} is being written by another command; wait for it, then type this again.") from None
        if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            break
        file.close()  # the other command gave the file its final name between our opening and locking it
    with file:
        yield file


class _Transfer:
    """One file on its way. `done`: bytes that are here; `size`: bytes in all, None until known."""

    def __init__(self, remote: Remote, path: Path, client: Client):
        self.remote, self.path, self.client = remote, path, client
        self.done, self.size = 0, remote.bytes
        self._digest = ""
        self._part = path.with_name(f"{path.name}.part")
        self._note = path.with_name(f".{path.name}.json")

    def run(self) -> None:
        """Have the file in place. Raises DataError, or Stopped."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._in_place():
            return
        with held(self._part) as part:
            if self._in_place():  # the other command, which had the part, has just finished it
                os.unlink(self._part)
                return
            try:
                self._arrive(part)
                self._settle(part)
            except BaseException:
                if not part.tell():
                    os.unlink(self._part)
                raise
        try:
            os.replace(self._part, self.path)
        except FileNotFoundError:  # another command found the part whole, and was faster to name it
            if not self._in_place():
                raise

    def _in_place(self) -> bool:
        """Whether the file is here and right: by its note where we fetched it, else (laid there by hand) by itself."""
        if not self.path.is_file():
            return False
        stat, note = self.path.stat(), self._noted()
        if self.remote.bytes is not None and stat.st_size != self.remote.bytes:
            return False
        untouched = (note.get("bytes"), note.get("modified")) == (stat.st_size, stat.st_mtime_ns)
        if wanted := self.remote.sha256 or (not untouched and note.get("sha256")):
            digest = note["sha256"] if untouched else file_digest(self.path)
            right = digest.startswith(wanted.lower())
        elif untouched:
            right = note.get("url") == self.remote.url
        else:
            with open(self.path, "rb") as file:
                right = wrong_kind(file.read(1024), self.path.name) is None
        if right:
            self.done = self.size = stat.st_size
        return right

    def _noted(self) -> dict:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def _write_note(self, **facts: object) -> None:
        draft = self._note.with_name(f"{self._note.name}.new")
        with open(draft, "w", encoding="utf-8") as file:
            json.dump({"url": self.remote.url, **facts}, file)
        os.replace(draft, self._note)

    def _arrive(self, part: BinaryIO) -> None:
        """Bring the part to its end, however often the connection breaks."""
        failures = damaged = 0
        furthest = part.tell()
        while True:
            try:
                self._continue(part)
                part.flush()
                self._check(part)
                return
            except Refused as refusal:
                raise self._error(_answered(refusal.status)) from None
            except _Damaged as problem:
                damaged += 1
                _empty(part)
                if damaged == _DAMAGED:
                    raise self._error(str(problem)) from None
            except Trouble as trouble:
                failures = 1 if part.tell() > furthest else failures + 1
                furthest = max(furthest, part.tell())
                try:
                    if failures >= self.client.patience.attempts:
                        raise trouble
                    self.client.pause(failures, trouble)
                except Trouble as last:
                    tried = f", {failures} times in a row" if failures > 1 else ""
                    kept = f" What has arrived is kept ({part.tell():,} bytes)." if part.tell() else ""
                    raise DataError(
                        f"{self.remote.url}: {last.reason}{tried}.{kept} Type the same command again later, or put "
                        f"the file into {self.path.parent} as {self.path.name}."
                    ) from None

    def _continue(self, part: BinaryIO) -> None:
        """Ask for what is missing, and append what comes."""
        have, note = part.tell(), self._noted()
        validator, same = note.get("validator"), note.get("url") == self.remote.url
        if have and not (same and (validator or self.remote.sha256)):
            have = 0  # nothing says that these bytes are the beginning of this file
        elif have and have == (self.remote.bytes or note.get("bytes")):
            self.done = self.size = have
            return
        headers = {}
        if have:
            headers = {"Range": f"bytes={have}-"} | ({"If-Range": validator} if validator else {})
        with self.client.get(self.remote.url, headers) as answer:
            start, total = _extent(answer)
            if answer.status == 416 or start not in (0, have):
                if answer.status == 416 and have and total == have:
                    self.done = self.size = have
                    return
                _empty(part)
                raise Trouble(str(answer.status), f"the server has other bytes than those from {have:,} on")
            self._expect(total)
            if start == 0:
                _empty(part)
                self._write_note(validator=_validator(answer))
            self.done, self.size = start, total if total is not None else self.remote.bytes
            for piece in answer.pieces():
                part.write(piece)
                self.done += len(piece)

    def _expect(self, total: int | None) -> None:
        """Refuse a file of another size before it is downloaded, unless it is so small that it can tell what it is."""
        if self.remote.bytes is not None and total is not None and total > _SMALL and total != self.remote.bytes:
            raise self._error(f"has {total:,} bytes where {self.remote.bytes:,} were expected: not the file pinned")

    def _check(self, part: BinaryIO) -> None:
        """Raises DataError for what is no data, _Damaged for a wrong size or digest."""
        size = part.tell()
        with open(self._part, "rb") as file:
            start = file.read(1024)
        if kind := wrong_kind(start, self.path.name):
            _empty(part)
            seen = b" ".join(start.split())[:120].decode("utf-8", "replace")
            raise self._error(f"the server sent {kind} instead of the file: {seen!r}")
        if self.remote.bytes not in (None, size):
            raise _Damaged(f"{size:,} bytes arrived where {self.remote.bytes:,} were expected")
        self._digest = file_digest(self._part)
        if not self._digest.startswith((self.remote.sha256 or "").lower()):
            raise _Damaged(f"its SHA-256 is {self._digest}, expected {self.remote.sha256}")

    def _settle(self, part: BinaryIO) -> None:
        """Make the part durable, and note what it is before it gets its name: a note without a file does no harm."""
        os.fsync(part.fileno())
        stat = os.fstat(part.fileno())
        self._write_note(
            validator=self._noted().get("validator"),
            bytes=stat.st_size, sha256=self._digest, modified=stat.st_mtime_ns,
        )  # fmt: skip

    def _error(self, what: str) -> DataError:
        return DataError(
            f"{self.remote.url}: {what}. Get the file another way and put it into {self.path.parent} as "
            f"{self.path.name}, then type the same command again."
        )


def _empty(part: BinaryIO) -> None:
    part.seek(0)
    part.truncate()


def _answered(status: str) -> str:
    if not status.isdecimal():
        return status
    meaning = {"401": "not allowed", "403": "not allowed", "404": "not there", "410": "not there any more"}.get(status)
    return f"the server answered {status}" + (f" ({meaning})" if meaning else "")


def _validator(answer: Answer) -> str | None:
    """What If-Range may name: a strong ETag, else a date."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified")


def _extent(answer: Answer) -> tuple[int | None, int | None]:
    """(first byte of an answer's body in the file, bytes of the whole file), None where it is not told."""
    if answer.status == 200:
        return 0, answer.length
    unit, _, extent = answer.headers.get("Content-Range", "").partition(" ")
    first, _, total = extent.partition("/")
    first = first.partition("-")[0]
    return (
        int(first) if unit == "bytes" and first.isdecimal() else None,
        int(total) if unit == "bytes" and total.isdecimal() else None,
    )
