"""Every score of records computed again from their run files, and the note of what agreed. Must not know pages.

The note, `rescored.json` in the results folder, says of which bytes each agreement holds: a record, run file or set of
judgements that was changed since is no longer re-scored.
"""

import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ftbench import record as records
from ftbench.catalogue import file_sha256
from ftbench.errors import FtbenchError
from ftbench.files import write_atomic
from ftbench.items import Progress

NOTE = "rescored.json"
_ALONE = 8  # records that one process computes sooner than others have started and imported numpy (about 0.4 s each)


@dataclass(frozen=True)
class Rescored:
    """Of one record: problems, one text per score that differs, [] where all agree; hashes: what agreed, as noted."""

    path: Path
    key: str
    problems: tuple[str, ...]
    hashes: Mapping[str, str | None]


def note_key(path: Path, record: Mapping) -> str:
    """A record's key in the note: its id; a reproduction's is followed by the end of its file's name."""
    return record["id"] + "".join(path.stem.partition(".repro-")[1:])


def differences(stored: Mapping, again: Mapping, where: str = "") -> Iterator[tuple[str, object, object]]:
    """(place, stored, recomputed) of every value that is not the same, to the last digit; "—" where one is missing."""
    for name in sorted({*stored, *again}):
        place, pair = f"{where}.{name}" if where else name, (stored.get(name, "—"), again.get(name, "—"))
        if all(isinstance(value, Mapping) for value in pair):
            yield from differences(*pair, place)
        elif pair[0] != pair[1]:
            yield place, *pair


def number_problems(record: Mapping, run: "records.Run") -> list[str]:
    """What a record's scores say that its run file does not, in words; [] where every score follows from it."""
    again = records.rescore(record, run)
    found = differences({name: record[name] for name in again}, again)
    return [f"{place}: the record says {told}, the run file gives {got}" for place, told, got in found]


def hashes(path: Path, record: Mapping) -> dict[str, str | None]:
    """SHA-256 of a record's file, its run file and its judgements, as they are on disk; null where there is none."""
    beside = {"record": path, "run_file": None, "judgements": None}
    if record["run_file"]:
        beside["run_file"] = path.with_name(record["run_file"]["name"])
        beside["judgements"] = records.judgements_path(path, record)
    return {name: _hash(file) if file and file.is_file() else None for name, file in beside.items()}


def _hash(file: Path) -> str:
    now = file.stat()
    return _hash_of(file, (now.st_mtime_ns, now.st_size, now.st_ino))


@lru_cache(maxsize=64)  # many records share their judgements
def _hash_of(file: Path, state: tuple[int, ...]) -> str:
    """SHA-256 of a file. state: what a change of it changes, so that a new file is read."""
    return file_sha256(file)


def rescore_one(path: Path) -> Rescored:
    """One record's scores, computed again. What stands in the way (no run file, no record) is a problem, too."""
    try:
        record = records.read(path)
        run = records.run_of(path, record) if record["run_file"] else records.Run({})  # a failed run ranked nothing
        return Rescored(path, note_key(path, record), tuple(number_problems(record, run)), hashes(path, record))
    except FtbenchError as problem:
        return Rescored(path, path.stem, (str(problem),), {})


def rescore(paths: Sequence[Path], progress: Progress) -> list[Rescored]:
    """All of some records, in their order; in as many processes as there are cores, where that is sooner."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores == 1 or len(paths) <= _ALONE:
        return _watched(map(rescore_one, paths), len(paths), progress)
    # a fork would copy threads of pyarrow that no longer run
    with ProcessPoolExecutor(min(cores, len(paths)), multiprocessing.get_context("spawn")) as pool:
        return _watched(pool.map(rescore_one, paths, chunksize=4), len(paths), progress)


def _watched(results: Iterable[Rescored], total: int, progress: Progress) -> list[Rescored]:
    found = []
    for result in results:
        found.append(result)
        progress(len(found), total)
    return found


def read_note(results: Path) -> dict[str, dict]:
    """{key of a record: {record, run_file, judgements}}, hashes of what agreed; {} where nothing was re-scored."""
    try:
        note = json.loads((Path(results) / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def has_passed(note: Mapping[str, Mapping], path: Path, record: Mapping) -> bool:
    """Whether a record was re-scored as it is now, by the note of its results folder."""
    return note.get(note_key(path, record)) == hashes(path, record)


def write_note(results: Path, done: Sequence[Rescored]) -> Path:
    """Note what agreed, and drop what did not, or what is no longer there; the rest of the note stays."""
    note = read_note(results)
    failed = {result.key for result in done if result.problems}
    note |= {result.key: dict(result.hashes) for result in done if not result.problems}
    there = {_short(file) for file in Path(results).glob("*/*/*.json")}
    kept = {key: note[key] for key in sorted(note) if key not in failed and key[:12] in there}
    path = Path(results) / NOTE
    write_atomic(path, (json.dumps(kept, indent=1) + "\n").encode())
    return path


def _short(path: Path) -> str:
    """The first 12 digits of the id that a record's file name ends with."""
    return path.stem.partition(".repro-")[0][-12:]
