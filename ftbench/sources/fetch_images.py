"""Pictures from the internet, scaled and kept, with a manifest of what became of every address.

Must not know any source. `manifest.jsonl` has one line an address, the last of which counts; a line is written when its
picture is stored, so a process killed at any moment loses at most the pictures then on their way.
"""

import hashlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from ftbench.errors import DataError
from ftbench.images import STORED_SIDE, BrokenImage, load_photograph
from ftbench.items import Progress
from ftbench.sources.connections import Client, Patience, Refused, Trouble, is_temporary
from ftbench.sources.fetch_files import held
from ftbench.sources.rows import image_key

QUALITY = 90  # of the JPEG files that are encoded here (ours)
MANIFEST = "manifest.jsonl"
_MOST_BYTES = 32 << 20  # a larger file is no picture of a product (ours)
_LONGEST = 120.0  # seconds for one picture, however steadily its bytes drip (ours)
_DOWN = 20  # addresses in a row that a server fails for, all attempts counted: the rest of its are not asked (ours)
_PATIENCE = Patience(attempts=4, first=0.5, longest=30.0, timeout=20.0)  # ours
_PASSING = ("unreachable", "cut", "slow")  # statuses that a later call asks again, beside those that are numbers
_SEGMENT = 100_000  # lines of a manifest that are indexed together
_MOST_SEGMENTS = 64  # then they are merged


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of an address.

    status: "ok"; a status code ("404"); "not an image", "truncated or damaged" and the like; "unreachable", "cut" and
    "slow" for connections. sha256: of the file as the server sent it; width, height: pixels as stored; path: the stored
    JPEG. Where status is not "ok": "", 0, 0, None.
    """

    url: str
    status: str
    sha256: str = ""
    width: int = 0
    height: int = 0
    path: Path | None = None


def fetch_images(
    urls: Iterable[str],
    folder: Path,
    progress: Progress,
    connections: int = 16,
    patience: Patience = _PATIENCE,
) -> dict[str, Fetched]:
    """Fetch pictures into `folder`, each address once ever; what may pass (5xx, 429, lost connections) is asked again.

    Stored is a JPEG of at most STORED_SIDE pixels: the server's own file where it is one, else scaled and encoded.
    progress: addresses. Raises DataError: another command fetches into the folder, it cannot be written, or no server
    at all can be reached.
    """
    folder = Path(folder)
    asked = list(dict.fromkeys(urls))
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / MANIFEST) as file:
        index = _index(folder.resolve() / MANIFEST)
        file.truncate(index.refresh())
        known = {url: found for url, found in index.find(asked, folder) if not passing(found.status)}
        progress(len(known), len(asked), "fetching images")
        answered, new = bool(known), [url for url in asked if url not in known]
        with closing(_fetch_all(new, folder, (connections, patience))) as results:
            for fetched, size in results:
                if fetched is None:
                    file.flush()
                    continue
                known[fetched.url] = fetched
                answered |= not passing(fetched.status)
                file.write(_line(fetched, size))
                progress(len(known), len(asked), "fetching images")
        file.flush()
        os.fsync(file.fileno())
    if not answered and len(asked) >= _DOWN:
        raise DataError(
            f"None of {len(asked):,} pictures can be had at present; {asked[0]}: {known[asked[0]].status}. Check the "
            "connection and type the same command again; it goes on from there."
        )
    return {url: known[url] for url in asked}


def passing(status: str) -> bool:
    """Whether a later request may be answered otherwise."""
    return status in _PASSING or (status.isdecimal() and is_temporary(int(status)))


def stored_path(folder: Path, url: str) -> Path:
    """Where the picture of an address is stored."""
    digest = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
    return folder / digest[:2] / f"{digest}.jpg"


def _line(fetched: Fetched, size: int) -> bytes:
    """A line of the manifest. size: bytes stored, by which a damaged file is told."""
    facts = {"url": fetched.url, "status": fetched.status, "sha256": fetched.sha256}
    facts |= {"width": fetched.width, "height": fetched.height, "bytes": size}
    return json.dumps(facts).encode() + b"\n"


def _fetch_all(urls: list[str], folder: Path, how: tuple[int, Patience]) -> Iterator[tuple[Fetched | None, int]]:
    """(what became of an address, bytes stored) as they are done; (None, 0) after each bunch of them."""
    connections, patience = how
    waiting, servers = iter(urls), _Servers()
    with Client(patience) as client, ThreadPoolExecutor(max(1, connections)) as pool:
        running: set[Future] = set()
        try:
            while True:
                for url in islice(waiting, 4 * connections - len(running)):
                    running.add(pool.submit(_fetch_one, url, folder, client, servers))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                yield None, 0
        finally:
            client.halt()
            pool.shutdown(cancel_futures=True)


class _Servers:
    """Which servers are not to be asked any more: those that failed for _DOWN addresses in a row."""

    def __init__(self) -> None:
        self._failed: Counter[str] = Counter()  # server -> addresses in a row

    def down(self, url: str) -> bool:
        return self._failed[_server(url)] >= _DOWN

    def note(self, url: str, status: str) -> None:
        self._failed[_server(url)] = self._failed[_server(url)] + 1 if passing(status) else 0


def _server(url: str) -> str:
    return url.partition("//")[2].partition("/")[0]


def _fetch_one(url: str, folder: Path, client: Client, servers: _Servers) -> tuple[Fetched, int]:
    """(what became of one address, bytes stored). Raises Stopped, DataError."""
    if servers.down(url):
        return Fetched(url, "unreachable"), 0
    failures = 0
    while True:
        try:
            data, status = _read(client, url), ""
            break
        except Refused as refusal:
            data, status = b"", refusal.status
            break
        except Trouble as trouble:
            failures += 1
            try:
                if failures >= client.patience.attempts or servers.down(url):
                    raise trouble
                client.pause(failures, trouble)
            except Trouble as last:
                data, status = b"", last.status
                break
    servers.note(url, status)
    return (Fetched(url, status), 0) if status else _store(data, url, folder)


def _read(client: Client, url: str) -> bytes:
    """The file at an address."""
    pieces, size, until = [], 0, time.monotonic() + _LONGEST
    with client.get(url) as answer:
        if answer.status != 200:
            raise Refused(str(answer.status))
        for piece in answer.pieces():
            pieces.append(piece)
            size += len(piece)
            if size > _MOST_BYTES:
                raise Refused("too large")
            if time.monotonic() > until:
                raise Trouble("slow")
    return b"".join(pieces)


def _store(data: bytes, url: str, folder: Path) -> tuple[Fetched, int]:
    """Scale and store a picture; it has its name only when it is whole."""
    from PIL import Image

    path = stored_path(folder, url)
    draft = path.with_suffix(".new")
    try:
        path.parent.mkdir(exist_ok=True)
        draft.write_bytes(data)
        photograph = load_photograph(draft)
        height, width = photograph.pixels.shape[:2]
        if width * height == 1:  # what some servers send instead of a picture that they do not have
            raise BrokenImage("a single pixel")
        if not photograph.jpeg:
            out = io.BytesIO()
            Image.fromarray(photograph.pixels).save(out, "JPEG", quality=QUALITY)
            data = out.getvalue()
            draft.write_bytes(data)
        os.replace(draft, path)
    except BrokenImage as problem:
        draft.unlink(missing_ok=True)
        return Fetched(url, str(problem).partition(":")[0]), 0
    except OSError as problem:
        raise DataError(
            f"{path.parent} cannot be written: {problem.strerror}. Make room and type this again."
        ) from None
    return Fetched(url, "ok", photograph.sha256, width, height, path), len(data)


@lru_cache(maxsize=4)
def _index(path: Path) -> "_Index":
    """The index of a manifest, kept for the next call: a catalogue of millions fetches in hundreds of calls."""
    return _Index(path)


class _Index:
    """Where in a manifest the lines of an address stand: 16 bytes a line, since there may be millions."""

    def __init__(self, path: Path):
        self._path = path
        self._identity, self._end = 0, 0  # inode, and how many of the file's bytes are indexed
        self._segments: list[tuple[np.ndarray, np.ndarray]] = []  # (keys sorted, offsets), the oldest first

    def refresh(self) -> int:
        """Index the lines that are new. Returns the end of the last whole line, in bytes: a torn one follows it."""
        stat = os.stat(self._path)
        if stat.st_ino != self._identity or stat.st_size < self._end:
            self._identity, self._end, self._segments = stat.st_ino, 0, []
        with open(self._path, "rb") as file:
            file.seek(self._end)
            while lines := list(islice(self._whole_lines(file), _SEGMENT)):
                self._segments.append(_sorted(np.array(lines, dtype=np.uint64)))
        if len(self._segments) > _MOST_SEGMENTS:
            keys, offsets = (np.concatenate(parts) for parts in zip(*self._segments, strict=True))
            self._segments = [_sorted(np.stack([keys, offsets], axis=1))]
        return self._end

    def _whole_lines(self, file: io.BufferedReader) -> Iterator[tuple[int, int]]:
        """(key, offset) of each line from the file's place on that is one."""
        for line in file:
            if not line.endswith(b"\n"):
                return
            start, self._end = self._end, self._end + len(line)  # before the yield, which may be the last
            if row := _row(line):
                yield image_key(row["url"]), start

    def find(self, urls: Iterable[str], folder: Path) -> Iterator[tuple[str, Fetched]]:
        """(address, what became of it) of those in the manifest whose picture still lies where it was stored."""
        urls = np.array(list(urls), dtype=object)
        keys = np.array([image_key(url) for url in urls], dtype=np.uint64)
        offsets = np.full(len(urls), -1, dtype=np.int64)
        for known, places in self._segments:
            last = np.searchsorted(known, keys, side="right") - 1  # (urls,): the latest of several lines
            hit = (last >= 0) & (known[last] == keys)
            offsets[hit] = places[last[hit]]
        with open(self._path, "rb") as file:
            for number in np.argsort(offsets, kind="stable"):
                if offsets[number] < 0:
                    continue
                file.seek(offsets[number])
                row = _row(file.readline())
                if row and row["url"] == urls[number] and (found := _as_fetched(row, folder)):
                    yield found.url, found


def _sorted(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint64 (n, 2) of keys and offsets -> keys (n,) ascending, int64 offsets (n,); equal keys stay in order."""
    order = np.argsort(lines[:, 0], kind="stable")
    return lines[order, 0], lines[order, 1].astype(np.int64)


def _row(line: bytes) -> Mapping | None:
    """A manifest's line; None for what is none."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("url"), str) else None


def _as_fetched(row: Mapping, folder: Path) -> Fetched | None:
    """What a line says; None where its picture is gone or has another size."""
    path = stored_path(folder, row["url"])
    try:
        if row["status"] != "ok":
            return Fetched(row["url"], str(row["status"]))
        if path.stat().st_size != row["bytes"] or max(row["width"], row["height"]) > STORED_SIDE:
            return None
        return Fetched(row["url"], "ok", row["sha256"], row["width"], row["height"], path)
    except (OSError, KeyError, TypeError):
        return None
