"""A run from its request to its record: the steps of the design, in order. Must not know the page or the terminal."""

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import torch

from ftbench import provenance, record, search
from ftbench.catalogue import Catalogue, downloads_folder, open_catalogue
from ftbench.encoders.base import Encoder, load_encoder
from ftbench.encoders.cache import NUMERICS
from ftbench.errors import FtbenchError, RunError
from ftbench.items import Progress
from ftbench.method import Embedder, Method
from ftbench.request import Request, check, default_encoder, device_of
from ftbench.runfile import Run
from ftbench.settings import TrainerConfig
from ftbench.sources import source_for, terms
from ftbench.store import prepare
from ftbench.task import Task, Trial, training_sets, trials
from ftbench.trainer import Trained, Trainer
from ftbench.vectors import vectors_of

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


@dataclass(frozen=True)
class Outcome:
    """record: what was written or found; None where the method cannot enter the task. skipped: why nothing ran."""

    request: Request
    record: dict | None
    path: Path | None
    skipped: str = ""


@dataclass(frozen=True)
class _Plan:
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


def plan(request: Request, session: Session) -> _Plan:
    """Load and check everything a request names before any work is done. Raises FtbenchError."""
    names = check(request)
    task, method, config, track = names.task, names.method, names.config, names.track
    catalogue = session.catalogue(request.data)
    gallery = len(catalogue.rows(task.gallery))
    if request.depth > gallery:
        raise RunError(
            f"{request.data} has {gallery} items to search, and the run file keeps {request.depth} ranks: expected at "
            "most as many (--depth, at least 10)."
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
    return _Plan(filled, task, catalogue, method, encoder, config, track)


def run(request: Request, session: Session) -> Outcome:
    """Make one run and write its record and run file; a finished run of the same id is found, not made again."""
    planned = plan(request, session)
    folder = session.folder(planned.catalogue)
    record.check_writable(folder)
    if not planned.trials:
        have = " and ".join(planned.method.modalities)
        return Outcome(request, None, None, f"it works on {have} alone, and no part of {request.task} is open to that")  # noqa: E501  # fmt: skip
    draft = _draft(planned)
    found = record.find(folder, record.record_id(record.key(draft)))
    deep_enough = found is not None and found[1]["run_file"]["depth"] >= request.depth
    if deep_enough and not session.force:
        return Outcome(planned.request, found[1], found[0], "finished before; --force runs it again")
    try:
        ranked, measured = _measure(planned, session)
    except Exception as problem:
        path = record.write(folder, draft | _failed(planned, problem), {})
        if isinstance(problem, FtbenchError):
            raise
        raise RunError(f"the run failed: {type(problem).__name__}: {problem}. Its record: {path}") from problem
    judgements = {trial.pair: trial.gains for trial in planned.trials}
    path = record.write(folder, draft | measured, ranked.rankings, judgements, ranked.slices)
    return Outcome(planned.request, record.read(path), path)


def identity(request: Request, session: Session) -> str:
    """The id that the record of a run will have, without making the run."""
    return record.record_id(record.key(_draft(plan(request, session))))


def measured(request: Request, session: Session) -> tuple[dict, Run]:
    """Make one run without writing it: its record, all but the run file, and what it ranked. Raises what the run
    raises."""
    planned = plan(request, session)
    draft = _draft(planned)
    ranked, found = _measure(planned, session)
    return {**draft, **found, "id": record.record_id(record.key(draft)), "run_file": None}, ranked


def failed(request: Request, session: Session, problem: Exception) -> dict:
    """The record, all but the run file, of a run that raised `problem`."""
    planned = plan(request, session)
    draft = _draft(planned)
    return {**draft, **_failed(planned, problem), "id": record.record_id(record.key(draft)), "run_file": None}


@contextmanager
def _threads(count: int):
    """Pin the threads of torch, BLAS and FAISS for the time of a run, and demand deterministic kernels."""
    from threadpoolctl import threadpool_limits

    before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with threadpool_limits(limits=count):
            yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(deterministic)


def _fit(planned: _Plan, session: Session) -> Trained | None:
    train, valid = training_sets(planned.task, planned.catalogue, planned.track)
    trainer = Trainer(
        encoder=planned.encoder,
        config=planned.config,
        board=planned.request.board,
        seed=planned.request.seed,
        device=device_of(planned.request.device),
        progress=session.progress,
        zero_shot=planned.track == "zero-shot",
    )
    return planned.method.fit(train, valid, trainer)


def _measure(planned: _Plan, session: Session) -> tuple[Run, dict]:
    """Fit, embed, search and measure, threads pinned: what was ranked, and the measured half of the record."""
    with _threads(planned.config.threads):
        return _measured(planned, session)


def _measured(planned: _Plan, session: Session) -> tuple[Run, dict]:
    clock = {"total": time.perf_counter(), "embed": 0.0, "search": 0.0}
    provenance.restart_peak_memory()
    trained = _fit(planned, session)
    embedder = None
    if trained is not None:
        device = device_of(planned.request.device)
        embedder = Embedder(trained, planned.encoder, device, session.progress("Embedding"))
    rankings, served = {}, None
    for trial in planned.trials:
        rankings[trial.pair], gallery, probes = _rank(planned, trial, embedder, clock)
        # a pair whose gallery is single assets would hide what a method's items cost that keep a vector for each view
        if gallery is not None and (served is None or vectors_of(gallery) > vectors_of(served[0])):
            served = gallery, probes
    serving = search.serve_index(*served, kind="flat", threads=1) if served else None
    slices = {
        name: tuple(trial.query_ids[i] for i in chosen)
        for trial in planned.trials
        for name, chosen in trial.slices.items()
    }
    ranked = Run(rankings, slices)
    scored = record.measure(ranked, planned.task.measures, tuple(pair.name for pair in planned.task.pairs))
    clock["total"] = time.perf_counter() - clock["total"]
    training = {"curve": [list(point) for point in trained.curve] if trained else []}
    if trained and trained.adaptations:
        training["adaptations"] = list(trained.adaptations)
        session.tell(f"{planned.method.name}: {'; '.join(trained.adaptations)}")
    cost = _cost(trained, embedder, clock, serving)
    return ranked, scored | {"cost": cost, "training": training, "status": "ok", "error": None}


def _rank(planned: _Plan, trial: Trial, embedder: Embedder | None, clock: dict):
    """One trial's ranking, and its vectors (None for lexical methods)."""
    method, started = planned.method, time.perf_counter()
    common = {
        "query_ids": list(trial.query_ids),
        "item_ids": list(trial.item_ids),
        "gains": trial.gains,
        "relevant_from": planned.task.relevant_from,
        "depth": planned.request.depth,
    }
    if method.lexical:
        given = (trial.probes, trial.gallery, *([embedder] if method.trained else []))
        scores = method.score(*given)
        ranking = search.rank_scores(scores, **common)
        clock["search"] += time.perf_counter() - started
        return ranking, None, None
    gallery, probes = method.embed(trial.gallery, embedder), method.embed(trial.probes, embedder)
    embedded = time.perf_counter()
    ranking = search.rank(probes, gallery, **common)
    clock["embed"] += embedded - started
    clock["search"] += time.perf_counter() - embedded
    return ranking, gallery, probes


def _cost(trained: Trained | None, embedder: Embedder | None, clock: dict, serving: "search.Serving | None") -> dict:
    known = {
        "search_seconds": clock["search"],
        "total_seconds": clock["total"],
        "peak_memory_bytes": provenance.peak_memory(),
    }
    if trained:
        meter, items = trained.meter, trained.meter.training_items
        known |= {
            "image_passes": meter.image_passes,
            "text_passes": meter.text_passes,
            "image_passes_per_item": meter.image_passes / items if items else None,
            "text_passes_per_item": meter.text_passes / items if items else None,
            "forward_equivalents": meter.spent if meter.image_flops else None,
            "flops": meter.flops if meter.image_flops else None,
            "steps": trained.steps,
            "train_seconds": trained.seconds,
            "embed_seconds": clock["embed"] if embedder else None,
        }
    if serving:
        known |= {
            "search_p50_ms": serving.p50_ms,
            "search_p95_ms": serving.p95_ms,
            "index_bytes_per_item": serving.bytes_per_item,
        }
    return record.cost(**known)


def _draft(planned: _Plan) -> dict:
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
        "schema_version": record.SCHEMA_VERSION,
        "command": planned.request.command,
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "task": {"name": task.name, "title": task.title, "kind": task.kind, "headline": task.headline,
                 "measures": list(task.measures), "relevant_from": task.relevant_from, "gallery": task.gallery,
                 "definition_sha256": task.definition_sha256,
                 "pairs": [{"name": pair.name, "title": pair.title} for pair in task.pairs]},
        "data": {"name": catalogue.name, "version": catalogue.info.version, "fingerprint": catalogue.fingerprint,
                 "licence": catalogue.info.licence, "redistributable": catalogue.info.redistributable,
                 "counts": manifest["counts"],
                 "coverage": {"broken_images": len(manifest["broken"]), "dropped": manifest["dropped"]}},
        "method": {"name": method.name, "title": provenance.method_title(method.path),
                   "config": asdict(method.config), "sha256": provenance.source_sha256(method.path),
                   "ranked": method.ranked, "trained": method.trained,
                   "parts": {part.name: provenance.source_sha256(part.path) for part in method.parts}},
        "track": planned.track,
        "board": planned.request.board,
        "encoder": described,
        "trainer": settings,
        "seed": planned.request.seed,
        "precision": "float32",
        "numerics": NUMERICS,
        "environment": provenance.environment(planned.config.threads, device_of(planned.request.device).type),
        "git": provenance.git_state(),
    }  # fmt: skip


def _failed(planned: _Plan, problem: Exception) -> dict:
    """The measured half of a failed run's record: nothing was measured."""
    nothing = record.measure(Run({}), planned.task.measures, tuple(pair.name for pair in planned.task.pairs))
    return nothing | {
        "status": "error",
        "error": f"{type(problem).__name__}: {problem}",
        "cost": record.cost(),
        "training": {"curve": []},
    }
