"""Making a record's run again, from its checked fields alone, and what the second numbers say. Must not know pages.

A record is a stranger's text: its method must be installed, its encoder one that has a name, its settings fit the
method's own; its `command` is never read. Nothing goes through a shell.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ftbench import checks, rescore, runfile, runner
from ftbench import record as records
from ftbench.errors import FtbenchError, several
from ftbench.items import Progress
from ftbench.method import method_names
from ftbench.request import Request, check
from ftbench.task import task_names


@dataclass(frozen=True)
class Difference:
    """One measure of both runs: stored, its interval, and what it is now."""

    measure: str
    stored: float | None
    low: float | None
    high: float | None
    again: float | None

    @property
    def inside(self) -> bool:
        """Whether the second number lies within the first one's 95% interval; both missing is inside, too."""
        if self.stored is None or self.again is None:
            return self.stored is self.again
        return self.low <= self.again <= self.high or self.again == self.stored


@dataclass(frozen=True)
class Reproduction:
    """A second run. path: its record, in the scratch folder; same: {what: whether it is the first one's}; kept: where
    it was stored beside the original, None where it was not, for the reason in `not_kept` if that was asked for."""

    path: Path
    same: Mapping[str, bool]
    differences: tuple[Difference, ...]
    same_run_file: bool
    kept: Path | None = None
    not_kept: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether the same run was made and every number lies within its interval."""
        inputs = all(same for what, same in self.same.items() if what != "hardware")
        return inputs and all(difference.inside for difference in self.differences)


def request_of(record: Mapping) -> Request:
    """The request that makes a record's run again. Raises FtbenchError, all reasons together, for a method that is not
    installed, a weights file, and settings that the installed method does not have."""
    problems = []
    method, task, encoder = record["method"]["name"], record["task"]["name"], record["encoder"]
    split = "valid" if task.endswith("-valid") and task not in task_names() else "test"
    task = task.removesuffix("-valid") if split == "valid" else task
    if method not in method_names():
        problems.append(f"method {method} is not installed: put its file into baselines/, if you trust it")
    if task not in task_names():
        problems.append(f"task {task} is not installed")
    if encoder and not _has_name(encoder["name"]):
        problems.append(f"encoder {encoder['name']} is a weights file; only named encoders are loaded: tiny, lite, MODEL/PRETRAINED")  # noqa: E501  # fmt: skip
    settings = {}
    for prefix, given in (("", record["method"]["config"]), ("trainer.", record["trainer"])):
        for key, value in given.items():
            if not isinstance(value, str | int | float):
                problems.append(f"setting {prefix}{key} is {value!r}, expected a name, a number or true or false")
            settings[prefix + key] = str(value).lower() if isinstance(value, bool) else str(value)
    if problems:
        raise several(f"the run of {method} on {task} cannot be made again", problems)
    request = Request(
        method=method, task=task, data=record["data"]["name"], encoder=encoder and encoder["name"],
        track=record["track"], board=record["board"], seed=record["seed"], settings=tuple(settings.items()),
        depth=record["run_file"]["depth"] if record["run_file"] else 10, split=split,
    )  # fmt: skip
    config = asdict(check(request).method.config)
    if config != record["method"]["config"]:
        other = sorted(key for key in config if config[key] != record["method"]["config"].get(key))
        raise FtbenchError(f"the installed {method} has settings that the record does not name: {', '.join(other)}.")
    return request


def _has_name(encoder: str) -> bool:
    """Whether an encoder is named by this package or by open_clip; a path is not, be there a file of it or not."""
    if encoder in ("tiny", "lite"):
        return True
    import open_clip

    architecture, _, weights = encoder.partition("/")
    return architecture in open_clip.list_models() and weights in open_clip.list_pretrained_tags_by_model(architecture)


def reproduce(path: Path, record: Mapping, session: runner.Session, keep: bool = False) -> Reproduction:
    """Make a record's run again, into the session's results folder, which is not the record's own.

    keep: store the second run beside the first ("….repro-<hardware>"), where it is the same run on other hardware.
    Raises FtbenchError where it cannot be made.
    """
    outcome = runner.run(request_of(record), session)
    if outcome.record is None:
        raise FtbenchError(f"the run cannot be made again: {outcome.skipped}.")
    again = outcome.record
    parts = {
        "code": lambda r: r["method"]["sha256"],
        "settings": lambda r: (r["method"]["config"], r["trainer"], r["track"], r["board"], r["seed"], r["precision"]),
        "data": lambda r: r["data"]["fingerprint"],
        "task": lambda r: r["task"]["definition_sha256"],
        "encoder weights": lambda r: r["encoder"] and r["encoder"]["weights_sha256"],
        "numerics": lambda r: r["numerics"],
        "hardware": lambda r: r["environment"]["fingerprint"],
    }
    means = {name: score["mean"] for name, score in again["scores"].items()}
    differences = [
        Difference(name, score["mean"], score["low"], score["high"], means.get(name))
        for name, score in record["scores"].items()
    ]
    made = Reproduction(
        outcome.path,
        {what: of(record) == of(again) for what, of in parts.items()},
        tuple(differences),
        bool(record["run_file"]) and record["run_file"]["sha256"] == again["run_file"]["sha256"],
    )
    return _keep(path, again, made) if keep else made


def verify(path: Path, record: Mapping) -> list[str]:
    """What is wrong with a record that was read: its run file's and judgements' hashes, scores, invariants, costs,
    chance."""
    if record["status"] != "ok":
        return ["a failed run: there is nothing to verify. Make it again: ftbench run …"]
    try:
        run = records.run_of(path, record)
        return rescore.number_problems(record, run) + checks.findings(record, run)
    except FtbenchError as problem:
        return [str(problem)]


def rerun(path: Path, record: Mapping, progress: Callable[[str], Progress], keep: bool = False) -> Reproduction:
    """`reproduce` into a scratch folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="ftbench-rerun-") as scratch:
        session = runner.Session(Path(scratch), progress, tell=lambda line: print(line, file=sys.stderr))
        return reproduce(path, record, session, keep)


def told(made: Reproduction) -> list[str]:
    """A reproduction for a person: what is the same, then each measure with its difference."""
    lines = [f"the same {what}: {'yes' if same else 'no'}" for what, same in made.same.items()]
    lines.append(f"the same run file, byte for byte: {'yes' if made.same_run_file else 'no'}")
    for one in made.differences:
        if one.stored is None or one.again is None:
            lines += [f"{one.measure}: {one.stored} stored, {one.again} now"] if one.stored is not one.again else []
            continue
        place = "inside" if one.inside else "OUTSIDE"
        lines.append(f"{one.measure}: {one.stored:.6f} stored, {one.again:.6f} now, difference "
                     f"{one.again - one.stored:+.2e}, {place} the interval {one.low:.4f}–{one.high:.4f}")  # fmt: skip
    lines += [f"kept: {made.kept}"] if made.kept else []
    return lines + ([f"not kept: {made.not_kept}"] if made.not_kept else [])


def _keep(path: Path, again: Mapping, made: Reproduction) -> Reproduction:
    """Store a second run beside the first, unless it is another run, or of the same machine."""
    other = [what for what, same in made.same.items() if not same and what != "hardware"]
    if other:
        return replace(made, not_kept=f"it is another run than {path.name}: {', '.join(other)} differ")
    if made.same["hardware"]:
        return replace(made, not_kept="it ran on the same hardware as the original; a rerun elsewhere says more")
    if not records.path_of(path.parents[2], again).is_file():
        return replace(made, not_kept=f"{path.name} does not lie in a results folder under its own name")
    run = records.run_of(made.path, again)
    judgements = runfile.read_judgements(records.judgements_path(made.path, again))
    kept = records.write(path.parents[2], again, run.rankings, judgements, run.slices)
    return replace(made, kept=kept)
