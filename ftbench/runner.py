"""A run from its request to its record: the steps of the design, in order. Must not know the page or the terminal."""

import shutil
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ftbench import outputs, provenance, record, search
from ftbench.catalogue import cache_folder
from ftbench.embedder import Embedder
from ftbench.errors import FtbenchError, RunError
from ftbench.plan import Plan, Session, draft_of, error, failed, identity, in_words, plan, whole
from ftbench.request import Request, device_of
from ftbench.runfile import Run
from ftbench.task import Trial, training_sets
from ftbench.trainer import Trained, Trainer
from ftbench.vectors import vectors_of

__all__ = ["Attempt", "Outcome", "Session", "attempt", "failed", "finished", "identity", "keep", "measured", "run"]


@dataclass(frozen=True)
class Outcome:
    """record: what was written or found; None where the method cannot enter the task. skipped: why nothing ran.
    problem: why the run failed, its record having an `error`."""

    request: Request
    record: dict | None
    path: Path | None
    skipped: str = ""
    problem: FtbenchError | None = None


@dataclass(frozen=True)
class Attempt:
    """A run that was made, not yet written. record: all but the run file; None where the method cannot enter the task.
    judgements: of each pair. problem: what it raised."""

    request: Request
    record: dict | None
    ranked: Run | None = None
    judgements: dict = field(default_factory=dict)
    skipped: str = ""
    problem: FtbenchError | None = None


def run(request: Request, session: Session) -> Outcome:
    """Make one run and write its record and run file; a finished run of the same id is found, not made again.

    Raises what the run raises, once its record is written with the error.
    """
    outcome = finished(request, session) or keep(attempt(request, session), session)
    if outcome.problem:
        raise outcome.problem
    return outcome


def finished(request: Request, session: Session) -> Outcome | None:
    """The finished run of a request, found by its id, or None where it is still to be made. Raises FtbenchError for
    what cannot be run and where records cannot be written, so that it is known before any work."""
    planned = plan(request, session)
    folder = session.folder(planned.catalogue)
    record.check_writable(folder)
    found = record.find(folder, record.record_id(record.key(draft_of(planned))))
    if found is None or found[1]["run_file"]["depth"] < request.depth or session.force:
        return None
    return Outcome(planned.request, found[1], found[0], "finished before; --force runs it again")


def attempt(request: Request, session: Session) -> Attempt:
    """Make one run without writing it. What the run raises is in the answer; what its request does wrong is raised."""
    planned = plan(request, session)
    if not planned.trials:
        have = " and ".join(planned.method.modalities)
        why = f"it needs {have} on both sides of a search, which no part of {request.task} has"
        return Attempt(request, None, skipped=why)
    try:
        ranked, found = _measure(planned, session)
    except Exception as problem:
        own = problem if isinstance(problem, FtbenchError) else _unexpected(problem, planned)
        return Attempt(planned.request, whole(planned, error(planned, problem)), problem=own)
    judgements = {trial.pair: trial.gains for trial in planned.trials}
    return Attempt(planned.request, whole(planned, found), ranked, judgements)


def keep(made: Attempt, session: Session) -> Outcome:
    """Write a run that was made: its record and its run file."""
    if made.record is None:
        return Outcome(made.request, None, None, made.skipped)
    folder = session.folder(session.catalogue(made.request.data))
    if made.problem:
        path = record.write(folder, made.record, {})
        return Outcome(made.request, made.record, path, problem=made.problem)
    path = record.write(folder, made.record, made.ranked.rankings, made.judgements, made.ranked.slices)
    shutil.rmtree(stages_folder(made.record["id"]), ignore_errors=True)
    return Outcome(made.request, record.read(path), path)


def _unexpected(problem: Exception, planned: Plan) -> RunError:
    """What no code of ours foresaw, as a message; its traceback is a note, which also comes back from a process."""
    told = RunError(f"the run failed: {in_words(problem, planned.method)}")
    told.add_note("".join(traceback.format_exception(problem)))
    return told


def measured(request: Request, session: Session) -> tuple[dict, Run]:
    """Make one run without writing it: its record, all but the run file, and what it ranked. Raises what the run
    raises."""
    planned = plan(request, session)
    ranked, found = _measure(planned, session)
    made = whole(planned, found)
    shutil.rmtree(stages_folder(made["id"]), ignore_errors=True)
    return made, ranked


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


def stages_folder(record_id: str) -> Path:
    """Where a run that trains in stages keeps them until it is written."""
    return cache_folder() / "stages" / record_id


def _fit(planned: Plan, session: Session) -> Trained | None:
    train, valid = training_sets(planned.task, planned.catalogue, planned.track)
    folder = stages_folder(record.record_id(record.key(draft_of(planned))))
    if session.force:
        shutil.rmtree(folder, ignore_errors=True)
    trainer = Trainer(
        encoder=planned.encoder,
        config=planned.config,
        board=planned.request.board,
        seed=planned.request.seed,
        device=device_of(planned.request.device),
        progress=session.progress,
        zero_shot=planned.track == "zero-shot",
        folder=folder,
    )
    return planned.method.fit(train, valid, trainer)


def _measure(planned: Plan, session: Session) -> tuple[Run, dict]:
    """Fit, embed, search and measure, threads pinned: what was ranked, and the measured half of the record."""
    with _threads(planned.config.threads):
        return _measured(planned, session)


def _measured(planned: Plan, session: Session) -> tuple[Run, dict]:
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
    if trained and trained.stages:
        training["generations"] = [_of_stage(stage, planned, session) for stage in trained.stages]
    if trained and trained.adaptations:
        training["adaptations"] = list(trained.adaptations)
        session.tell(f"{planned.method.name}: {'; '.join(trained.adaptations)}")
    cost = _cost(trained, embedder, clock, serving)
    return ranked, scored | {"cost": cost, "training": training, "status": "ok", "error": None}


def _of_stage(stage, planned: Plan, session: Session) -> dict:
    """What a record says of a stage: what its method told, and the scores of its model."""
    embedder = Embedder(
        stage.trained, planned.encoder, device_of(planned.request.device), session.progress("Embedding")
    )
    clock = {"embed": 0.0, "search": 0.0}
    own = replace(planned, method=stage.method)
    ranked = Run({trial.pair: _rank(own, trial, embedder, clock)[0] for trial in planned.trials})
    scored = record.measure(ranked, planned.task.measures, tuple(pair.name for pair in planned.task.pairs))
    return stage.told | {"scores": {name: score["mean"] for name, score in scored["scores"].items()}}


def _rank(planned: Plan, trial: Trial, embedder: Embedder | None, clock: dict):
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
        scores = outputs.scores(method.name, method.score(*given), trial.query_ids, trial.item_ids)
        ranking = search.rank_scores(scores, **common)
        clock["search"] += time.perf_counter() - started
        return ranking, None, None
    gallery = outputs.vectors(method.name, method.embed(trial.gallery, embedder), trial.item_ids, "item")
    probes = outputs.vectors(method.name, method.embed(trial.probes, embedder), trial.query_ids, "query")
    outputs.alike(method.name, probes, gallery)
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
