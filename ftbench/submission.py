"""Packing a method's records for one pull request: what strangers send. Must not know how it is judged but by asking.

The folder holds records and run files below results/, the method's one file below baselines/, a README with the
numbers, and submission.json: the hashes of all these and of the judgements that the runs were measured with.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from ftbench import inspection, provenance, runfile, validation
from ftbench import record as records
from ftbench.errors import DataError, several
from ftbench.items import Progress, silent
from ftbench.method import load_method
from ftbench.validation import FORMAT, MANIFEST, METHOD_NAME, README, Board, Finding


@dataclass(frozen=True)
class Packed:
    """folder: what was written; records: how many; left: records of earlier code of the method, not in it; there: those
    that are committed already, not in it; unnamed: the method's file, where no commit names it."""

    folder: Path
    records: int
    left: int
    there: int = 0
    unnamed: Path | None = None


def submit(folder: Path, method: str, results: Path, progress: Progress = silent) -> Packed:
    """Pack all finished runs of a method's present code into a new folder, and check it as `validate` will.

    method: a name, or a path to its file. Runs that the checkout has committed are left out: they are on the board.
    Raises DataError or FtbenchError, all reasons together, where runs are missing, failed, made from uncommitted code,
    or do not pass their own checks; nothing is then written.
    """
    if folder.exists():
        raise DataError(f"{folder} is there already. Name a new folder, or remove it.")
    path = Path(method) if method.endswith(".py") else load_method(method).path
    name, digest = path.stem, records.source_sha256(path)
    if not METHOD_NAME.fullmatch(name):
        raise DataError(f"{path.name}: a submitted method's file is named with letters, digits and underscores alone.")
    mine = [
        (p, r) for p, r in records.read_all(results) if r["method"]["name"] == name and not records.is_reproduction(p)
    ]
    present = [(p, r) for p, r in mine if r["method"]["sha256"] == digest]
    if not present:
        raise DataError(
            f"{results} has no runs of {name} as {path.name} is now ({len(mine)} of earlier code). "
            f"Type: ftbench run --method {method} --task query2item --seed 0 --seed 1 --seed 2"
        )
    known = provenance.committed(results) or ()
    new = [(p, r) for p, r in present if p.relative_to(results).as_posix() not in known]
    if not new:
        raise DataError(
            f"all runs of {name} in {results} are committed, and so on the board already ({present[0][0].name}, "
            f"{len(present)} in all): there is nothing to submit. Submit runs that are new."
        )
    there, present = len(present) - len(new), new
    problems = [
        f"{p.name}: {text}" for p, r in present for text in validation.provenance_problems(r, {name: digest}, name)
    ]
    problems += validation.seed_problems([r for _, r in present])
    if problems:
        raise several(f"the runs of {name} cannot be submitted", problems)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as problem:
        raise _cannot_write(folder, problem) from None
    try:
        _write(draft, path, present, folder.name if folder.is_absolute() else folder.as_posix())
        verdict = validation.validate(draft, results, Board(results), progress=progress)
        if not verdict.passed:
            raise several(f"the runs of {name} cannot be submitted", [_told(f) for f in verdict.problems])
        os.chmod(draft, 0o755)  # mkdtemp makes it private
        os.replace(draft, folder)
    except OSError as problem:
        raise _cannot_write(folder, problem) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    inside = path.resolve().is_relative_to(Path(provenance.__file__).resolve().parent.parent)
    earlier = len(mine) - there - len(present)
    return Packed(folder, len(present), earlier, there, None if inside else path)


def _cannot_write(folder: Path, problem: OSError) -> DataError:
    return DataError(f"cannot write {folder}: {problem.strerror}. Name a new folder where you may write.")


def _told(finding: Finding) -> str:
    return f"{finding.file}: {finding.text}" if finding.file else finding.text


def _write(draft: Path, method: Path, present: Sequence[tuple[Path, Mapping]], title: str) -> None:
    contents = {f"baselines/{method.name}": method.read_bytes()}
    hashes: dict[str, dict] = {}
    for path, record in present:
        place = records.path_of(Path("results"), record).as_posix()
        contents[place] = path.read_bytes()
        contents[place.removesuffix(".json") + ".parquet"] = path.with_name(record["run_file"]["name"]).read_bytes()
        key = f"{record['data']['name']}/{record['task']['name']}"
        if key not in hashes:
            judgements = runfile.read_judgements(records.judgements_path(path, record))
            hashes[key] = inspection.judgement_hashes(judgements)
    contents[README] = _readme(method, [record for _, record in present], title).encode()
    files = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
    manifest = {"format": FORMAT, "method": method.stem, "files": files, "judgements": hashes}
    contents[MANIFEST] = (json.dumps(manifest, indent=1) + "\n").encode()
    for name, content in contents.items():
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).write_bytes(content)


def _readme(method: Path, found: Sequence[Mapping], title: str) -> str:
    """The numbers, a row per setting, as means over seeds; and how to check them."""
    rows: dict[str, list[Mapping]] = {}
    for record in found:
        rows.setdefault(records.canonical_json(records.key(record) | {"seed": None}), []).append(record)
    lines = [
        f"# {method.stem}", "",
        "| task | data | track | board | seeds | measure | mean |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for group in rows.values():
        first, headline = group[0], group[0]["task"]["headline"]
        means = [record["scores"][headline]["mean"] for record in group]
        shown = "—" if None in means else f"{fmean(means):.3f}"
        cells = (
            first["task"]["name"],
            first["data"]["name"],
            first["track"],
            first["board"],
            len(group),
            headline,
            shown,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "", f"The method is `baselines/{method.name}`. Check all of it, from a checkout of the board:", "",
        "```sh", f"ftbench validate {title}", "```", "", "Accepted, it enters the board by", "",
        "```sh", f"cp -r {title}/baselines {title}/results . && ftbench rescore && ftbench report", "```", "",
    ]  # fmt: skip
    return "\n".join(lines)
