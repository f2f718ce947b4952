"""Records: one JSON per run, checked against a schema, written whole. Must not know methods, models or how to search.

A record's id is a hash of everything that its numbers depend on (`key`); hardware is never part of it. Beside each
record lies its run file, from which `measure` gives every score again, exactly.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path

from ftbench import schema
from ftbench.encoders.cache import NUMERICS
from ftbench.errors import DataError, FtbenchError, RunError, several
from ftbench.files import write_atomic
from ftbench.provenance import environment, git_state, method_title, peak_memory, source_sha256
from ftbench.runfile import Run, read_judgements, read_run, read_slices, write_judgements, write_run
from ftbench.scores import measure
from ftbench.search import Ranking

__all__ = ["NUMERICS", "SCHEMA_VERSION", "Run", "apart", "check_writable", "cost", "environment", "find", "git_state",
           "key", "measure", "method_title", "peak_memory", "read", "read_all", "record_id", "rescore", "run_of",
           "source_sha256", "write"]  # fmt: skip

SCHEMA_VERSION = 1
COST_FIELDS = (
    "image_passes", "text_passes", "image_passes_per_item", "text_passes_per_item", "forward_equivalents", "steps",
    "train_seconds", "embed_seconds", "search_seconds", "total_seconds", "search_p50_ms", "search_p95_ms",
    "peak_memory_bytes", "index_bytes_per_item", "flops",
)  # fmt: skip

FILE_NAME = re.compile(r".+-[0-9a-f]{12}(\.repro-[0-9a-f]{12})?\.json")  # of a record's file

# --- identity


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. Raises ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def record_id(key: Mapping) -> str:
    """SHA-256 (hexadecimal) of a key's canonical JSON."""
    return hashlib.sha256(canonical_json(key).encode()).hexdigest()


def key(record: Mapping) -> dict:
    """What a record's numbers depend on, taken from the record itself or from a draft of it without scores.

    Task definition, data (its splits are in the fingerprint), method file, those of other methods that it calls, and
    config, trainer settings, board (null for
    a method that does not train), track, encoder and weights, seed, precision, numerics. Hardware is not among them.
    """
    method, encoder = record["method"], record["encoder"]
    return {
        "task": record["task"]["definition_sha256"],
        "data": record["data"]["fingerprint"],
        "method": {"sha256": method["sha256"], "config": method["config"]}
        | ({"parts": method["parts"]} if method.get("parts") else {}),
        "trainer": record["trainer"] or None,
        "board": record["board"] if method["trained"] else None,
        "track": record["track"],
        "encoder": [encoder["name"], encoder["weights_sha256"]] if encoder else None,
        "seed": record["seed"],
        "precision": record["precision"],
        "numerics": record["numerics"],
    }


def apart(record: Mapping) -> tuple[str, str]:
    """What tells a folder's records apart: the method's name and the id. Files of the same code share an id, and each
    has its record."""
    return record["method"]["name"], record["id"]


def cost(**known: float | None) -> dict:
    """A record's `cost`: all fields, null where not given. Raises TypeError for a field that does not exist."""
    extra = sorted(set(known) - set(COST_FIELDS))
    if extra:
        raise TypeError(f"unknown cost fields {extra}; known: {COST_FIELDS}")
    return {name: known.get(name) for name in COST_FIELDS}


# --- scores


def rescore(record: Mapping, run: Run) -> dict:
    """The record's score fields computed again from its run file; equal to those in the record, to the last digit."""
    return measure(run, tuple(record["task"]["measures"]), tuple(pair["name"] for pair in record["task"]["pairs"]))


# --- checking


def _schema() -> dict:
    return json.loads(files("ftbench").joinpath("record.schema.json").read_text(encoding="utf-8"))


@cache
def _accepts() -> schema.Check:
    return schema.compiled(_schema())


@cache
def _validator():
    from jsonschema import Draft202012Validator

    return Draft202012Validator(_schema())


def problems(record: object) -> list[str]:
    """All that is wrong with a record, in words; [] for a valid one."""
    if not isinstance(record, dict):
        return [f"a record is a JSON object, this is {type(record).__name__}"]
    version = record.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        return [
            f"it has schema version {version}, this ftbench reads up to {SCHEMA_VERSION}. "
            "Upgrade: pip install --upgrade ftbench"
        ]
    found = [] if _accepts()(record) else _explained(record)
    if not found and record["id"] != record_id(key(record)):
        found.append(f"id: {record['id'][:12]}… is not the hash of the record's own key; a field of it was changed")
    return found


def _explained(record: dict) -> list[str]:
    return [
        f"{'.'.join(map(str, error.absolute_path)) or 'record'}: {error.message[:300]}"
        for error in sorted(_validator().iter_errors(record), key=lambda error: str(list(error.absolute_path)))
    ]


def read(path: Path) -> dict:
    """One record. Raises DataError listing everything wrong with it; says so where its schema is newer than this."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        raise DataError(f"record {path} cannot be read: {problem.strerror}.") from None
    except ValueError as problem:
        hint = "Expected METHOD-ID.json, as a results folder has it."
        if FILE_NAME.fullmatch(Path(path).name):
            hint = "Remove the file; the same run, made again, writes it anew."
        raise DataError(f"record {path} is not JSON: {problem}. {hint}") from None
    found = problems(record)
    if found:
        raise several(f"record {path}", found, DataError)
    return record


def read_all(results: Path) -> list[tuple[Path, dict]]:
    """All records under a results folder with their paths, in order of path; reproductions included.

    Raises DataError, listing the problems of all records together.
    """
    results = Path(results)
    if not results.is_dir():
        raise DataError(f"there is no folder {results}. Make a run first: ftbench run, or name it: --results")
    found, bad = [], []
    for path in sorted(results.glob("*/*/*.json")):
        try:
            found.append((path, read(path)))
        except FtbenchError as problem:
            bad.append(str(problem))
    if bad:
        raise several(f"{results}", bad, DataError)
    return found


def is_reproduction(path: Path) -> bool:
    """Whether a record's file name says that it is a rerun on other hardware."""
    return ".repro-" in path.name


# --- writing


def check_writable(results: Path) -> None:
    """Make the results folder and write a trial file into it, before any work. Raises RunError where that fails."""
    trial = Path(results) / f".writable.{os.getpid()}.tmp"
    try:
        trial.parent.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"")
    except OSError as problem:
        raise RunError(
            f"cannot write to the results folder {results}: {problem.strerror}. "
            "Name a folder you may write to: --results DIR"
        ) from None
    finally:
        with suppress(OSError):
            trial.unlink(missing_ok=True)


def path_of(results: Path, record: Mapping) -> Path:
    """Where a record belongs: results/<data>/<task>/<method>-<first 12 digits of the id>.json."""
    name = f"{record['method']['name']}-{record['id'][:12]}.json"
    return Path(results) / record["data"]["name"] / record["task"]["name"] / name


def find(results: Path, identity: str) -> tuple[Path, dict] | None:
    """The finished record of an id with its path, or None where the run is still to be done.

    Failed runs, damaged records, reproductions, and records whose run file is missing or another do not count. Raises
    DataError for a record of a newer schema: it must not be replaced by an older one.
    """
    for path in sorted(Path(results).glob(f"*/*/*-{identity[:12]}.json")):
        _refuse_newer(path)
        try:
            record = read(path)
            if record["id"] == identity and record["status"] == "ok" and run_of(path, record):
                return path, record
        except FtbenchError:
            continue
    return None


def judgements_path(path: Path, record: Mapping) -> Path:
    """Where the judgements of a record lie: once per data set and task, one folder above the records."""
    name = f"judgements-{record['task']['name']}-{record['data']['fingerprint'][:12]}.parquet"
    return path.parent.parent / name


def _refuse_newer(path: Path) -> None:
    try:
        version = json.loads(path.read_text(encoding="utf-8")).get("schema_version")
    except (OSError, ValueError, AttributeError):
        return
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise several(f"record {path}", problems({"schema_version": version}), DataError)


def run_of(path: Path, record: Mapping) -> Run:
    """The run beside a record, its sha256 checked. Raises DataError."""
    judged = judgements_path(path, record)
    changed = judged.stat().st_mtime_ns if judged.is_file() else 0
    return read_run(path.with_name(record["run_file"]["name"]), _judgements(judged, changed), record["run_file"])


def slices_of(path: Path, record: Mapping) -> dict[str, tuple[str, ...]]:
    """The queries of each slice in the run beside a record, its sha256 checked. Raises DataError."""
    return read_slices(path.with_name(record["run_file"]["name"]), record["run_file"])


@lru_cache(maxsize=8)
def _judgements(path: Path, changed: int) -> dict:
    """The judgements of a file; many records share them. changed: its time of change, so that a new file is read."""
    return read_judgements(path)


def write(
    results: Path,
    record: Mapping,
    rankings: Mapping[str, Ranking],
    judgements: Mapping | None = None,
    slices: Mapping[str, tuple[str, ...]] | None = None,
) -> Path:
    """Write a record with its run file; returns the record's path.

    record: every field but `id` and `run_file`, which are filled in. rankings: by pair ("" for query2item); {} for a
    failed run. judgements: {pair: {query id: {item id: gain}}}, written once per data set and task. slices: the query
    ids of each slice. The run file is written first: a record exists only beside a whole run file. A run of the same id
    on other hardware goes beside the original as "<name>.repro-<fingerprint>.json"; a failed run never replaces a
    finished one. Raises RunError listing all that is wrong with the record, DataError where a file cannot be written;
    nothing is then half-written.
    """
    run = Run(rankings, slices or {}) if rankings else None
    record = {**record, "id": record_id(key(record)), "run_file": None}
    path = path_of(results, record)
    original = _finished(path)
    if original and record["status"] == "error":
        return path
    fingerprint = record["environment"]["fingerprint"]
    if original and original["environment"]["fingerprint"] != fingerprint:
        path = path.with_name(f"{path.stem}.repro-{fingerprint[:12]}.json")
    _check({**record, "run_file": run and {"name": "draft.parquet", "sha256": "0" * 64, "bytes": 0, "depth": 1}})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DataError(f"cannot make {path.parent}: {problem.strerror}. Name another folder: --results") from None
    if run is not None:
        write_judgements(judgements_path(path, record), judgements or {})
        record["run_file"] = write_run(path.with_suffix(".parquet"), run, judgements or {})
    write_atomic(path, (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
    return path


def _check(record: dict) -> None:
    try:
        record = json.loads(canonical_json(record))  # as it will be read: tuples are lists
    except (TypeError, ValueError) as problem:
        raise RunError(f"the record cannot be written as JSON: {problem}") from None
    found = problems(record)
    if found:
        raise several(f"the record of {record.get('command', 'this run')!r} is not valid", found, RunError)


def _finished(path: Path) -> dict | None:
    """The finished record at a path, or None."""
    try:
        record = read(path) if path.is_file() else None
    except FtbenchError:
        return None
    return record if record and record["status"] == "ok" else None
