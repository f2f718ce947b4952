"""What is decoded of a submission: run files and a method's syntax, in a process of their own (`untrusted.bounded`).

Must not know the rest of a submission. Nothing is imported or run; whatever hostile bytes raise becomes a text.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ftbench import checks, rescore, runfile
from ftbench import record as records
from ftbench.errors import DataError, FtbenchError
from ftbench.untrusted import Limits, parquet_problems, parse_json, plain, read_bytes


def code_hash(path: str) -> str | None:
    """SHA-256 of what a Python file does (`provenance.source_sha256`); None where it is not Python."""
    try:
        return records.source_sha256(Path(path))
    except (FtbenchError, RecursionError):
        return None


def run_file_problems(payload: Mapping) -> list[tuple[str, str]]:
    """[(check, problem)] of one record and its run file; called by `untrusted.bounded`.

    payload: path of the record, that of the judgements, that of a committed record of the same task or null, limits.
    """
    limits, path = Limits(**payload["limits"]), Path(payload["path"])
    record = parse_json(read_bytes(path, limits.record), limits.depth)
    try:
        data = read_bytes(path.with_suffix(".parquet"), limits.run_file)
    except DataError as problem:
        return [("files", str(problem))]
    if (hashlib.sha256(data).hexdigest(), len(data)) != (record["run_file"]["sha256"], record["run_file"]["bytes"]):
        return [("rescore", "not the run file that its record names: its sha256 or size is another")]
    found = parquet_problems(data, runfile.COLUMNS, limits)
    if found:
        return [("files", text) for text in found]
    try:
        run = runfile.read_run(path.with_suffix(".parquet"), runfile.read_judgements(Path(payload["judgements"])))
        found = checks.findings(record, run)
        differ = [] if found else rescore.number_problems(record, run)
    except MemoryError:
        raise
    except Exception as problem:  # whatever arrays that do not fit raise
        return [("invariants", f"not a run file of the board's judgements: {plain(problem)}")]
    made = [("invariants", text) for text in found] + [("rescore", text) for text in differ[:20]]
    if payload["reference"] and not found:
        other = Path(payload["reference"])
        made += [("stale", text) for text in _other_questions(run, records.run_of(other, records.read(other)))]
    return made


def _other_questions(run: "records.Run", committed: "records.Run") -> list[str]:
    """Queries, items and slices of a run that are not those of a committed one: none may be left out."""
    found = []
    for pair in sorted(set(run.rankings) & set(committed.rankings)):
        for part, title in (("query_ids", "queries"), ("item_ids", "gallery items")):
            own, theirs = (set(getattr(one.rankings[pair], part)) for one in (run, committed))
            if own != theirs:
                where = f" (pair {pair!r})" if pair else ""
                found.append(
                    f"{len(theirs - own)} of the board's {title} are missing, {len(own - theirs)} are new{where}"
                )
    if {name: set(inside) for name, inside in run.slices.items()} != {n: set(i) for n, i in committed.slices.items()}:
        found.append("its slices are not those of the board")
    return found


def judgement_hashes(judgements: Mapping) -> dict[str, str]:
    """{pair: SHA-256 of its judgements as canonical JSON}: the same whatever version of pyarrow wrote them."""
    return {
        pair: hashlib.sha256(records.canonical_json(gains).encode()).hexdigest()
        for pair, gains in sorted(judgements.items())
    }
