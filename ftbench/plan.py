"""What a run needs, loaded and checked, and what its record says apart from what was measured. Must not know how a run
goes, the page or the terminal."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path

from ftbench import provenance, record
from ftbench.catalogue import Catalogue, downloads_folder, open_catalogue
from ftbench.encoders.base import Encoder, load_encoder
from ftbench.encoders.cache import NUMERICS
from ftbench.errors import FtbenchError, MethodError, RunError, SettingsError, counted, place
from ftbench.items import Progress, silent
from ftbench.method import Method, unusable
from ftbench.request import Request, check, default_encoder, device_of
from ftbench.runfile import Run
from ftbench.settings import TrainerConfig
from ftbench.sources import source_for, terms
from ftbench.store import prepare
from ftbench.task import Task, Trial, load_task, trials

_LONGEST_ERROR = 20_000  # characters, as the schema has it
RESULTS, PRIVATE_RESULTS = Path("results"), Path("private-results")


@dataclass
class Session:
    """What several runs of one command share: catalogues, encoders, and where progress is shown.

    results: the folder of records; None: RESULTS, and PRIVATE_RESULTS for catalogues that a person imported.
    tell: shows a line to the person.
    """

    results: Path | None
    progress: Callable[[str], Progress]
    source: Path | None = None
    force: bool = False
    tell: Callable[[str], None] = lambda line: None
    _catalogues: dict[str, Catalogue] = field(default_factory=dict)
    _encoders: dict[str, Encoder] = field(default_factory=dict)

    def catalogue(self, name: str) -> Catalogue:
        """The prepared catalogue of a data set; prepared now where it is not."""
        if name not in self._catalogues:
            source = source_for(name, self.source, downloads_folder()) if name.startswith("studio") else None
            found = open_catalogue(name)
            if found is not None and source is not None and found.info.version != source.info.version:
                found = None
            if found is None:
                source = source or source_for(name, self.source, downloads_folder())
                self.tell(terms(source.info))
                found = prepare(source, self.progress(f"Preparing {name}"))
            self._catalogues[name] = found
        return self._catalogues[name]

    def folder(self, catalogue: Catalogue) -> Path:
        """Where records of a data set go."""
        return self.results or (PRIVATE_RESULTS if catalogue.info.private else RESULTS)

    def encoder(self, name: str) -> Encoder:
        if name not in self._encoders:
            self._encoders[name] = load_encoder(name)
        return self._encoders[name]


@lru_cache(maxsize=1)
def worker_session(source: Path | None) -> Session:
    """The session of a process that makes runs for another: silent, one per process, so that catalogues and encoders
    are opened once."""
    return Session(None, lambda title: silent, source)


@dataclass(frozen=True)
class Plan:
    """A request with everything it names loaded and checked."""

    request: Request
    task: Task
    catalogue: Catalogue
    method: Method
    encoder: Encoder | None
    config: TrainerConfig
    track: str

    @cached_property
    def trials(self) -> list[Trial]:
        found = trials(self.task, self.catalogue, latents=not self.method.ranked)
        return [trial for trial in found if trial.needs <= set(self.method.modalities)]


def plan(request: Request, session: Session) -> Plan:
    """Load and check everything a request names before any work is done. Raises FtbenchError."""
    names = check(request)
    task, method, config, track = names.task, names.method, names.config, names.track
    catalogue = session.catalogue(request.data)
    gallery = len(catalogue.rows(task.gallery))
    if request.depth > gallery:
        said = f"{request.data} has {counted(gallery, 'item')} to search, and"
        if gallery < Request.depth:  # the least that --depth takes
            example = ", such as --data studio@200" if request.data.startswith("studio") else ""
            raise RunError(f"{said} a run file keeps at least {Request.depth} ranks. Take a larger data set{example}.")
        raise RunError(
            f"{said} the run file keeps {request.depth} ranks: expected at most as many. Type: --depth {gallery}"
        )
    if not method.ranked and not any(catalogue.assets.image_reveals):
        raise RunError(
            f"{request.method} reads latent attributes, which {request.data} does not have. Try: --data studio"
        )
    encoder = None
    if method.trained:
        encoder = session.encoder(request.encoder or default_encoder(request.data))
        if encoder.locked:
            config = replace(config, budget=0.0)
    if not method.seeded or (track == "zero-shot" and method.trained and not encoder.locked):
        request = replace(request, seed=0)
    filled = replace(request, encoder=encoder.name if encoder else None)
    return Plan(filled, task, catalogue, method, encoder, config, track)


def identity(request: Request, session: Session) -> str:
    """The id that the record of a run will have, without making the run."""
    return record.record_id(record.key(draft_of(plan(request, session))))


def failed(request: Request, session: Session, problem: Exception) -> dict:
    """The record, all but the run file, of a run that raised `problem`, be it that its method cannot be loaded."""
    try:
        planned = plan(request, session)
    except (MethodError, SettingsError):
        return _of_unusable(request, session, problem)
    return whole(planned, error(planned, problem))


def _of_unusable(request: Request, session: Session, problem: Exception) -> dict:
    """A failed run's record where the method or its settings cannot be used: its settings are those that were typed."""
    task = load_task(request.task, request.data)
    task = task.on_validation() if request.split == "valid" else task
    catalogue, method = session.catalogue(request.data), unusable(request.method)
    planned = Plan(request, task, catalogue, method, None, TrainerConfig(), request.track or task.track)
    draft = draft_of(planned)
    draft |= {"method": draft["method"] | {"config": dict(request.settings)}}
    return whole(planned, error(planned, problem), draft)


def draft_of(planned: Plan) -> dict:
    """The half of the record that is known before the run; its id follows from it."""
    task, catalogue, method, encoder = planned.task, planned.catalogue, planned.method, planned.encoder
    described = None
    if encoder:
        described = {"name": encoder.name, "weights_sha256": encoder.weights, "parameters": encoder.parameters,
                     "image_flops": encoder.image_flops, "text_flops": encoder.text_flops,
                     "image_size": encoder.image_size}  # fmt: skip
    settings = asdict(planned.config) if method.trained else {}
    if settings and planned.track == "zero-shot":
        settings |= {"budget": 0.0, "steps": 0}
    manifest = catalogue.manifest
    return {
        "task": {"name": task.name, "title": task.title, "kind": task.kind, "headline": task.headline,
                 "measures": list(task.measures), "relevant_from": task.relevant_from, "gallery": task.gallery,
                 "definition_sha256": task.definition_sha256,
                 "pairs": [{"name": pair.name, "title": pair.title} for pair in task.pairs]},
        "data": {"name": catalogue.name, "version": catalogue.info.version, "fingerprint": catalogue.fingerprint,
                 "licence": catalogue.info.licence, "redistributable": catalogue.info.redistributable,
                 "counts": manifest["counts"],
                 "coverage": {"broken_images": len(manifest["broken"]), "dropped": manifest["dropped"]}},
        "method": {"name": method.name, "title": provenance.method_title(method.path),
                   "config": asdict(method.config), "sha256": _source(method.path),
                   "ranked": method.ranked, "trained": method.trained,
                   "parts": {part.name: provenance.source_sha256(part.path) for part in method.parts}},
        "track": planned.track,
        "board": planned.request.board,
        "encoder": described,
        "trainer": settings,
        "seed": planned.request.seed,
        "precision": "float32",
        "numerics": NUMERICS,
    }  # fmt: skip


def _source(path: Path) -> str:
    """The SHA-256 of what a method's file does; of its bytes where it is no Python."""
    try:
        return provenance.source_sha256(path)
    except FtbenchError:
        return hashlib.sha256(path.read_bytes()).hexdigest()


def whole(planned: Plan, found: dict, draft: dict | None = None) -> dict:
    """A record, all but the run file: what was known before the run, what was found, when and where."""
    draft = draft or draft_of(planned)
    return {
        "schema_version": record.SCHEMA_VERSION,
        "id": record.record_id(record.key(draft)),
        "command": planned.request.command,
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **draft,
        "environment": provenance.environment(planned.config.threads, device_of(planned.request.device).type),
        "git": provenance.git_state(),
        **found,
        "run_file": None,
    }


def error(planned: Plan, problem: Exception) -> dict:
    """The measured half of a failed run's record: nothing was measured."""
    nothing = record.measure(Run({}), planned.task.measures, tuple(pair.name for pair in planned.task.pairs))
    return nothing | {
        "status": "error",
        "error": in_words(problem, planned.method),
        "cost": record.cost(),
        "training": {"curve": []},
    }


def in_words(problem: Exception, method: Method) -> str:
    """`KeyError: 'x' (line 9 of my_method.py: return words[x])`: what a run raised, and where in its method's files
    that was, unless it is a message of ours, which says what to do."""
    text, more = f"{type(problem).__name__}: {problem}", ""
    if not isinstance(problem, FtbenchError):
        more = place(problem, [one.path for one in (method, *method.parts)])
    if isinstance(problem, AttributeError) and problem.obj is method.config and "Config" not in vars(type(method)):
        more += (
            f". The class Method of {method.name} has no Config of its own. Give it one, a frozen dataclass, with "
            f"{problem.name}: float = 0.1"
        )
    return text[: _LONGEST_ERROR - len(more)] + more
