"""Board versions: a frozen list of records with their hashes, so that a citation names what does not move.

Must not know pages. A release is one file, results/releases/<name>.json; the records stay where they are.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ftbench import record as records
from ftbench import rescore
from ftbench.errors import DataError, FtbenchError, several, unknown
from ftbench.files import write_atomic

FOLDER = "releases"
FORMAT = 2  # of the manifest
_NAME = re.compile(r"[1-9][0-9]{3}\.[1-9][0-9]{0,2}")
_SHOWN = 10  # problems of one kind that a message lists


def names(results: Path) -> list[str]:
    """The releases of a results folder, oldest first."""
    found = [path.stem for path in (Path(results) / FOLDER).glob("*.json") if _NAME.fullmatch(path.stem)]
    return sorted(found, key=lambda name: tuple(map(int, name.split("."))))


def freeze(results: Path, name: str) -> Path:
    """Write the manifest of all records as they are; returns its path.

    Raises FtbenchError for a name that is none or is taken, and listing records that were not re-scored as they are.
    """
    results = Path(results)
    path = results / FOLDER / f"{name}.json"
    if not _NAME.fullmatch(name):
        raise FtbenchError(f"release {name!r}: expected YEAR.NUMBER, such as 2026.1.")
    if path.exists():
        raise FtbenchError(f"release {name} exists, and does not change. Choose the next: {_next(results, name)}.")
    found, note = records.read_all(results), rescore.read_note(results)
    if not found:
        raise FtbenchError(f"{results} has no records to release.")
    stale = [file.name for file, record in found if not rescore.has_passed(note, file, record)]
    if stale:
        shown = ", ".join(stale[:_SHOWN]) + (" …" if len(stale) > _SHOWN else "")
        many = f"{len(stale)} records are not re-scored as they are"
        many = many if len(stale) > 1 else "1 record is not re-scored as it is"
        raise FtbenchError(f"{many} now ({shown}). Type: ftbench rescore --results {results}")
    manifest = _manifest(results, name, found)
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as problem:
        raise FtbenchError(f"cannot make the folder {path.parent}: {problem.strerror}. Remove what is there.") from None
    write_atomic(path, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
    return path


def _next(results: Path, name: str) -> str:
    year = name.partition(".")[0]
    taken = [int(known.partition(".")[2]) for known in names(results) if known.startswith(f"{year}.")]
    return f"{year}.{max(taken) + 1}"


def _manifest(results: Path, name: str, found: list[tuple[Path, dict]]) -> dict:
    listed, judgements, data = {}, {}, {}
    for path, record in found:
        hashes, run_file = rescore.hashes(path, record), None
        if record["run_file"]:
            run_file = path.with_name(record["run_file"]["name"]).relative_to(results).as_posix()
            judged = records.judgements_path(path, record).relative_to(results).as_posix()
            judgements[judged] = hashes["judgements"]
        listed[path.relative_to(results).as_posix()] = {
            "id": record["id"], "sha256": hashes["record"], "run_file": run_file, "run_file_sha256": hashes["run_file"],
        }  # fmt: skip
        data.setdefault(record["data"]["name"], set()).add(record["data"]["fingerprint"])
    manifest = {
        "format": FORMAT,
        "release": name,
        "digest": digest(distinct(found)),
        "newest": max(record["date"] for _, record in found),
        "records": listed,
        "judgements": judgements,
        "data": {dataset: sorted(fingerprints) for dataset, fingerprints in data.items()},
    }
    return manifest | {"sha256": _seal(manifest)}


def _seal(manifest: Mapping) -> str:
    """SHA-256 of a manifest's canonical JSON, without the seal itself."""
    plain = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(records.canonical_json(plain).encode()).hexdigest()


def distinct(found: Iterable[tuple[Path, dict]]) -> list[dict]:
    """The records of a board, each once: reproductions are left out beside their originals."""
    shown: dict[tuple[str, str], dict] = {}
    for _, record in sorted(found, key=lambda one: records.is_reproduction(one[0])):
        shown.setdefault(records.apart(record), record)
    return list(shown.values())


def digest(found: Iterable[Mapping]) -> str:
    """12 hexadecimal digits that say which board it is, in any order: they change with every field of every record.

    Made of the records' canonical JSON; the sha256 of the run file is a field of each.
    """
    contents = sorted(hashlib.sha256(records.canonical_json(record).encode()).hexdigest() for record in found)
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()[:12]


def read(results: Path, name: str) -> dict:
    """A release's manifest. Raises FtbenchError with near matches, and for one that was changed."""
    if name not in names(results):
        raise unknown("release", name, names(results), "Make one: ftbench release YEAR.NUMBER")
    path = Path(results) / FOLDER / f"{name}.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"it has format {manifest['format']}, this ftbench reads {FORMAT}")
        if manifest["release"] != name or manifest["sha256"] != _seal(manifest):
            raise ValueError("it was changed after it was written")
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise DataError(
            f"release {path}: {problem}. Take it from the repository again: git checkout -- {path}"
        ) from None
    return manifest


def frozen(results: Path, name: str) -> list[tuple[Path, dict]]:
    """The records of a release with their paths, as `record.read_all` gives those of a folder.

    Raises FtbenchError listing every record, run file and set of judgements that is missing, or is not the one frozen.
    """
    results, manifest = Path(results), read(results, name)
    expected = dict(manifest["judgements"])
    for file, about in manifest["records"].items():
        expected[file] = about["sha256"]
        if about["run_file"]:
            expected[about["run_file"]] = about["run_file_sha256"]
    problems = [text for file in sorted(expected) for text in _changed(results, file, expected[file])]
    if problems:
        hint = f"Take them from the repository as they were, such as: git log -- {results / FOLDER / name}.json"
        raise several(f"release {name} cannot be shown", problems, DataError, hint, _SHOWN)
    return [(results / file, records.read(results / file)) for file in sorted(manifest["records"])]


def _changed(results: Path, file: str, digest: str) -> list[str]:
    path = results / file
    if not path.resolve().is_relative_to(results.resolve()):
        return [f"{file} lies outside of {results}"]
    if not path.is_file():
        return [f"{file} is missing"]
    return [] if hashlib.sha256(path.read_bytes()).hexdigest() == digest else [f"{file} was changed since"]


def changes(results: Path, name: str | None) -> dict | None:
    """What changed since the release before: {since, added, removed, replaced}, counts of records; None where none was.

    name: the release that is shown, None for the records as they are. replaced: the same run with another file, such
    as after a rerun.
    """
    known = names(results)
    before = known[: known.index(name)] if name in known else known
    if not before:
        return None
    earlier = {file: about["sha256"] for file, about in read(results, before[-1])["records"].items()}
    if name is None:
        now = {path.relative_to(results).as_posix(): path for path in Path(results).glob("*/*/*.json")}
        now = {file: hashlib.sha256(path.read_bytes()).hexdigest() for file, path in now.items()}
    else:
        now = {file: about["sha256"] for file, about in read(results, name)["records"].items()}
    return {
        "since": before[-1],
        "added": len(now.keys() - earlier.keys()),
        "removed": len(earlier.keys() - now.keys()),
        "replaced": sum(now[file] != earlier[file] for file in now.keys() & earlier.keys()),
    }
