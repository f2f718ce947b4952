"""Whether a submission may enter the board, for people and for CI. Must not know how one is packed, nor pages.

All of it is untrusted: no code of it is imported or run, nothing is unpickled, no path leads out of its folder, and
what decodes its files has bounded memory and time (`untrusted`). Ground truth is the board's own, never a stranger's.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from ftbench import inspection, provenance, runfile
from ftbench import record as records
from ftbench.errors import DataError, counted
from ftbench.items import Progress, silent
from ftbench.untrusted import LIMITS, Limits, bounded, parse_json, plain, read_bytes, walk

MANIFEST, README = "submission.json", "README.md"
FORMAT = 1
SEEDS = 3  # of a trained row: METRICS.md
METHOD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")  # the name of a module
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,79}"
_RECORD = re.compile(rf"results/({_NAME})/({_NAME})/([A-Za-z][A-Za-z0-9_]{{0,79}})-([0-9a-f]{{12}})\.(json|parquet)")
_METHOD = re.compile(r"baselines/([A-Za-z][A-Za-z0-9_]{0,79})\.py")
_COMMAND = re.compile(r"ftbench run( [A-Za-z0-9_.,@=/:+-]+)+")  # people copy it: nothing that a shell acts upon


@dataclass(frozen=True)
class Finding:
    """check: which of the checks; file: of the submission, "" for all of it; text: what is wrong, and what to do."""

    check: str
    file: str
    text: str


@dataclass
class Verdict:
    """What came of a submission. problems keep it out, warnings are for whoever decides. own: how many of its records
    lie in the results folder, too, not committed."""

    folder: Path
    method: str = ""
    records: int = 0
    own: int = 0
    problems: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.problems

    def add(self, check: str, file: str, *texts: str) -> None:
        self.problems += [Finding(check, file, text) for text in texts]

    def warn(self, check: str, file: str, text: str) -> None:
        self.warnings.append(Finding(check, file, text))

    def as_json(self) -> str:
        """The outcome for a program: passed, method, records, problems and warnings with check, file and text."""
        told = {name: [{k: plain(v, 1000) for k, v in vars(f).items()} for f in getattr(self, name)]
                for name in ("problems", "warnings")}  # fmt: skip
        about = {"passed": self.passed, "method": plain(self.method), "records": self.records, "own": self.own}
        return json.dumps(about | told | {"limits": vars(LIMITS)}, indent=1) + "\n"

    def as_text(self) -> str:
        """The outcome for a person; no line begins with a stranger's text."""
        about = f"{counted(self.records, 'record')} of {plain(self.method) or 'no method'}"
        lines = [f"{plain(self.folder)}: {about if self.records else 'no records'}"]
        if self.own:
            lines.append(f"  {self.own} of them in the results folder, not committed: your own runs, not the board's")
        for name in ("problems", "warnings"):
            for found in getattr(self, name):
                where = f"{plain(found.file)}: " if found.file else ""
                lines.append(f"  {name[:-1]} ({found.check}): {where}{plain(found.text, 1000)}")
        lines.append("passed" if self.passed else f"failed: {counted(len(self.problems), 'problem')}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Board:
    """The committed records that a submission is compared with. own: records beside them that are not committed, the
    submitter's own runs: they are compared with nothing, as CI does not have them."""

    results: Path
    found: Sequence[tuple[Path, dict]] = ()
    own: Sequence[tuple[Path, dict]] = ()

    @classmethod
    def of(cls, results: Path) -> "Board":
        """The records of a folder that its checkout has committed; all of them where it lies in no checkout."""
        everything, known = records.read_all(results), provenance.committed(results)
        parts = ([], [])
        for path, record in everything:
            parts[known is not None and path.relative_to(results).as_posix() not in known].append((path, record))
        return cls(results, *map(tuple, parts))

    @cached_property
    def ids(self) -> dict[str, Path]:
        return {record["id"]: path for path, record in self.found}

    @cached_property
    def run_files(self) -> dict[str, Path]:
        return {record["run_file"]["sha256"]: path for path, record in self.found if record["run_file"]}

    @cached_property
    def methods(self) -> dict[str, set[str]]:
        """{name without capitals: the code of that name}."""
        known: dict[str, set[str]] = {}
        for _, record in self.found:
            known.setdefault(record["method"]["name"].lower(), set()).add(record["method"]["sha256"])
        return known

    def newest(self, record: Mapping) -> tuple[Path, dict] | None:
        """The newest finished record on the same data set and task, of those with the most pairs."""
        same = [
            (path, other) for path, other in self.found
            if other["status"] == "ok" and other["run_file"]
            and (other["data"]["name"], other["task"]["name"]) == (record["data"]["name"], record["task"]["name"])
        ]  # fmt: skip
        if not same:
            return None
        newest = max(same, key=lambda one: (one[1]["date"], one[1]["id"]))[1]
        alike = [one for one in same if one[1]["data"]["fingerprint"] == newest["data"]["fingerprint"]
                 and one[1]["task"]["definition_sha256"] == newest["task"]["definition_sha256"]]  # fmt: skip
        return max(alike, key=lambda one: (len(one[1]["pairs"]), one[1]["date"], one[1]["id"]))


def validate(
    folder: Path, results: Path, board: Board | None = None, limits: Limits = LIMITS, progress: Progress = silent
) -> Verdict:
    """All checks of a submission. results: where the committed judgements lie; board: the records it is compared with,
    those of `results` by default; one without records leaves comparisons out, as the submitter's own check does.

    Raises DataError where the folder or the board cannot be read at all; what is wrong with the submission itself is in
    the verdict.
    """
    verdict, board = Verdict(folder), board or Board.of(results)
    if Path.cwd().resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{folder} is where you are, or above it. Go to your checkout, and name the folder from there.")
    sizes, problems = walk(folder, limits)
    if MANIFEST not in sizes:  # what else such a folder holds says nothing
        text = f"this is not a submission: no {MANIFEST}. Name the folder that `ftbench submit` wrote, or pack it again"
        problems = [(name, told) for name, told in problems if name in ("", MANIFEST)] or [("", text)]
    for name, text in problems:
        verdict.add("files", name, text)
    if MANIFEST not in sizes:
        return verdict
    names = _known_names(verdict, sizes)
    manifest = _manifest(verdict, folder, sizes, limits)
    code = _code(verdict, folder, sizes, limits)
    found = {}
    for name in names:
        record = _record(verdict, folder, name, limits)
        if record is not None:
            found[name] = record
    verdict.records, verdict.method = len(found), str(manifest.get("method", ""))
    verdict.own = len({record["id"] for record in found.values()} & {record["id"] for _, record in board.own})
    if board.own and not board.found:
        text = f"{results} has no committed records to compare with: validate in the board's checkout"
        verdict.warn("board", "", text)
    if not found:
        verdict.add("files", "", "it holds no record that can be read")
    for name, record in found.items():
        verdict.add("provenance", name, *provenance_problems(record, code, verdict.method))
        if board.found:
            _compare(verdict, board, name, record)
    verdict.add("seeds", "", *seed_problems(list(found.values())))
    _same_runs(verdict, found)
    for done, (name, record) in enumerate(found.items(), start=1):
        _run_file(verdict, folder, results, board, name, record, limits)
        progress(done, len(found))
    if manifest:
        verdict.add("judgements", MANIFEST, *_judgement_problems(manifest, found, folder, results))
    return verdict


# --- files


def _known_names(verdict: Verdict, sizes: Mapping[str, int]) -> list[str]:
    """The paths of the records; every other file must be one that a submission has."""
    names = []
    for name in sizes:
        matched = _RECORD.fullmatch(name)
        if matched and matched[5] == "json":
            names.append(name)
        other = name.removesuffix(".parquet") + ".json"
        if matched and matched[5] == "parquet" and other not in sizes:
            verdict.add("files", name, "a run file without a record")
        if not matched and name not in (MANIFEST, README) and not _METHOD.fullmatch(name):
            verdict.add("files", name, "not a file of a submission: records and run files below results/, one "
                        f"baselines/METHOD.py, {README} and {MANIFEST}")  # fmt: skip
    return names


def _manifest(verdict: Verdict, folder: Path, sizes: Mapping[str, int], limits: Limits) -> dict:
    """submission.json, checked; {} where it is missing or wrong."""
    try:
        value = parse_json(read_bytes(folder / MANIFEST, limits.record), limits.depth)
        expected = {"format": int, "method": str, "files": dict, "judgements": dict}
        if not isinstance(value, dict) or {key: type(inner) for key, inner in value.items()} != expected:
            raise DataError(f"expected an object with {', '.join(expected)}. Pack it again: ftbench submit")
        if value["format"] != FORMAT or not METHOD_NAME.fullmatch(value["method"]):
            raise DataError(f"expected format {FORMAT} and the name of a method. Pack it again: ftbench submit")
    except DataError as problem:
        verdict.add("files", MANIFEST, str(problem))
        return {}
    there = {name for name in sizes if name != MANIFEST}
    for name in sorted(there ^ set(value["files"])):
        verdict.add("files", name, "in the folder, not in its list" if name in there else "listed, not in the folder")
    for name in sorted(there & set(value["files"])):
        try:
            digest = hashlib.sha256(read_bytes(folder / name, limits.folder)).hexdigest()
        except DataError as problem:
            verdict.add("files", name, str(problem))
            continue
        if value["files"][name] != digest:
            verdict.add("files", name, f"not the file that {MANIFEST} lists: its sha256 is another")
    return value


def _code(verdict: Verdict, folder: Path, sizes: Mapping[str, int], limits: Limits) -> dict[str, str]:
    """{method: sha256} of the method files; parsed, never imported."""
    found = {}
    for name in sizes:
        matched = _METHOD.fullmatch(name)
        if not matched and name != README:
            continue
        try:
            read_bytes(folder / name, limits.text).decode("utf-8")
            if matched:
                found[matched[1]] = bounded("ftbench.inspection:code_hash", str((folder / name).absolute()), limits)
                if found[matched[1]] is None:
                    raise DataError("cannot be read as Python")
        except (DataError, ValueError) as problem:
            verdict.add("code", name, plain(problem))
    if len(found) != 1:
        verdict.add("code", "", f"{len(found)} method files in baselines/; expected one")
    return found


def _record(verdict: Verdict, folder: Path, name: str, limits: Limits) -> dict | None:
    """A record that is valid and lies where it belongs, or None."""
    try:
        record = parse_json(read_bytes(folder / name, limits.record), limits.depth)
    except DataError as problem:
        verdict.add("schema", name, str(problem))
        return None
    found = records.problems(record)
    if not found:
        belongs = records.path_of(Path("results"), record).as_posix()
        if name != belongs:
            found.append(f"a record of this content lies in {plain(belongs)}")
        if record["run_file"] and record["run_file"]["name"] != Path(name).with_suffix(".parquet").name:
            found.append("its run file is not the one of the same name")
    verdict.add("schema", name, *found[:20])
    return None if found else record


# --- one record


def provenance_problems(record: Mapping, code: Mapping[str, str], method: str) -> list[str]:
    """Why a record's making cannot be trusted or repeated: failed, uncommitted code, other code, unsafe command."""
    found, own = [], record["method"]
    if record["status"] != "ok":
        found.append("a failed run; only finished runs are submitted. Make it again: ftbench run … --force")
    if record["git"]["commit"] is None:
        found.append(
            "no commit could be named: ftbench did not run from a git checkout. Clone the repository, commit your "
            "method there, and run again with --force"
        )
    elif record["git"]["dirty"] is not False:
        found.append("made from code that is not committed: commit everything, then run again with --force")
    if method and own["name"] != method:
        found.append(f"a record of {own['name']}, but the submission is of {plain(method)}")
    elif code and code.get(own["name"]) != own["sha256"]:
        found.append(f"made with other code than baselines/{own['name']}.py: run again with that file")
    if not own["ranked"]:
        found.append("of a method that is not ranked; ceilings are the board's own")
    if own["trained"] != (record["encoder"] is not None):
        found.append("a trained method has an encoder, and no other has")
    if not _COMMAND.fullmatch(record["command"]):
        found.append("its command is not a plain `ftbench run` with names and numbers")
    try:
        early = datetime.fromisoformat(record["date"]) <= datetime.now(UTC) + timedelta(days=1)
    except ValueError:  # the 31st of June, and the like
        early = False
    if not early:
        found.append(f"its date is none, or is yet to come: {record['date']}. Set the clock, and run again")
    for part, settings in (("method.config", own["config"]), ("trainer", record["trainer"])):
        if not all(isinstance(value, str | int | float | bool | None) for value in settings.values()):
            found.append(f"{part} holds more than names, numbers and yes or no")
    return found


def seed_problems(found: Sequence[Mapping]) -> list[str]:
    """Trained rows with fewer seeds than three."""
    rows: dict[str, dict] = {}
    for record in found:
        if record["method"]["trained"] and record["track"] != "zero-shot":
            row = records.canonical_json(records.key(record) | {"seed": None})
            rows.setdefault(row, {})[record["seed"]] = record
    return [
        f"{first['method']['name']} on {first['task']['name']}, {first['data']['name']}, {first['board']}: "
        f"seeds {', '.join(map(str, sorted(seeds)))}; a trained row has at least {SEEDS}. Run the others: --seed"
        for seeds in rows.values() if len(seeds) < SEEDS for first in [next(iter(seeds.values()))]
    ]  # fmt: skip


def _compare(verdict: Verdict, board: Board, name: str, record: Mapping) -> None:
    """Duplicates, names that are taken, and data or tasks that the board no longer has."""
    own, method = record["run_file"] or {}, record["method"]
    if record["id"] in board.ids:
        verdict.add("duplicate", name, f"the board has this run: {board.ids[record['id']].name}")
    elif own.get("sha256") in board.run_files:
        verdict.add("duplicate", name, f"its run file is that of {board.run_files[own['sha256']].name}")
    if board.methods.get(method["name"].lower(), {method["sha256"]}) != {method["sha256"]}:
        verdict.add("duplicate", name, f"the board has other code by the name {method['name']}: choose another name")
    found = board.newest(record)
    where = f"{record['task']['name']} on {record['data']['name']}"
    if found is None:
        verdict.add("stale", name, f"the board has no records of {where}, so no judgements that it could be checked by")
        return
    newest = found[1]
    for part, title in (("data", "data set"), ("task", "task definition")):
        if record[part] != newest[part]:
            fields = sorted(key for key in newest[part] if record[part].get(key) != newest[part][key])
            text = f"another {title} than the board's newest ({', '.join(fields)}): update, prepare the data, run again"
            verdict.add("stale", name, text)
    if record["numerics"] != newest["numerics"]:
        verdict.add(
            "stale", name, f"numerics {record['numerics']}, the board has {newest['numerics']}: update, run again"
        )
    weights = {r["encoder"]["name"]: r["encoder"]["weights_sha256"] for _, r in board.found if r["encoder"]}
    encoder = record["encoder"]
    if encoder and encoder["name"] not in weights:
        verdict.warn("encoder", name, f"the board has no run with the encoder {encoder['name']}")
    elif encoder and weights[encoder["name"]] != encoder["weights_sha256"]:
        verdict.add("stale", name, f"other weights of {encoder['name']} than the board's")


def _same_runs(verdict: Verdict, found: Mapping[str, Mapping]) -> None:
    seen: dict[str, str] = {}
    for name, record in found.items():
        if not record["run_file"]:
            continue
        other = seen.setdefault(record["run_file"]["sha256"], name)
        if other != name:
            verdict.add("duplicate", name, f"its run file is that of {other}")


# --- run files, in a process of their own


def _run_file(verdict: Verdict, folder: Path, results: Path, board: Board, name: str, record: dict, limits: Limits):
    if not record["run_file"]:
        return
    file, reference = name.removesuffix(".json") + ".parquet", board.newest(record)
    judged = records.judgements_path(results / Path(name).relative_to("results"), record)
    if not judged.is_file():
        verdict.add("judgements", file, "the board has no judgements of its data and task to check it by")
        return
    payload = {"path": str((folder / name).absolute()), "limits": vars(limits), "judgements": str(judged.absolute()),
               "reference": str(reference[0].absolute()) if reference else None}  # fmt: skip
    try:
        for check, text in bounded("ftbench.inspection:run_file_problems", payload, limits):
            verdict.add(check, file, text)
    except DataError as problem:
        verdict.add("files", file, str(problem))


# --- judgements


def _judgement_problems(manifest: Mapping, found: Mapping[str, Mapping], folder: Path, results: Path) -> list[str]:
    """Where the submitter's judgements are not the committed ones."""
    told, problems = manifest.get("judgements", {}), []
    for key in sorted({f"{r['data']['name']}/{r['task']['name']}" for r in found.values() if r["run_file"]}):
        name, record = next((n, r) for n, r in found.items() if f"{r['data']['name']}/{r['task']['name']}" == key)
        path = records.judgements_path(results / Path(name).relative_to("results"), record)
        if not path.is_file():
            continue  # told beside the run files
        committed, own = inspection.judgement_hashes(runfile.read_judgements(path)), told.get(key)
        if not isinstance(own, dict) or not own or any(committed.get(pair) != value for pair, value in own.items()):
            problems.append(f"the judgements of {key} are not the board's: prepare the data again, and run again")
    return problems
