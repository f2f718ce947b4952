"""Tasks: TOML files that fix probe, gallery, judgements and measures, and the trials they make of a catalogue.

Must not know methods or records. A trial is one search problem: probes, a gallery, and the gain of each item.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from ftbench.batches import TrainingSet
from ftbench.catalogue import Catalogue
from ftbench.errors import RunError, several, unknown
from ftbench.items import SPLITS, Query
from ftbench.sources import DATA
from ftbench.views import Views, auxiliary_probes, near_duplicates, text_probes, views_of

KINDS = ("query2item", "cross_view")
TRACKS = ("zero-shot", "aligned", "supervised", "weak", "weak-validated")
PROBES = ("title", "description", "primary_image", "auxiliary_image")
OWN_DATA = "own"  # the section [data.own] of a task is that of catalogues people imported
GALLERIES = ("title", "primary_image", "images", "item")


@dataclass(frozen=True)
class Pair:
    """One probe → gallery pair of a cross-view task."""

    name: str
    title: str
    probe: str
    gallery: str


@dataclass(frozen=True)
class Task:
    """A task as its file defines it, for one data set (`gallery` may differ between data sets)."""

    name: str
    title: str
    summary: str
    kind: str
    track: str
    headline: str
    measures: tuple[str, ...]
    relevant_from: float
    gallery: str
    pairs: tuple[Pair, ...] = ()
    split: str = "test"

    def on_validation(self) -> "Task":
        """The same task asked with the validation split's probes, to choose settings by; a task of another name."""
        gallery = "valid" if self.gallery == "test" else self.gallery
        name, title = f"{self.name}-valid", f"{self.title} (validation split)"
        return replace(self, name=name, title=title, gallery=gallery, split="valid")

    @property
    def definition_sha256(self) -> str:
        """Hash of everything that defines the task; part of every record's id."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def task_names() -> list[str]:
    """The tasks in the package, in order of name."""
    return sorted(f.name.removesuffix(".toml") for f in files("ftbench.tasks").iterdir() if f.name.endswith(".toml"))


def load_task(name: str, data: str) -> Task:
    """A task by name, or from a TOML file, for a data set. All problems of the file are reported together."""
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise RunError(f"--task {name}: there is no such file. Known tasks: {', '.join(task_names())}.")
        text = Path(name).read_text(encoding="utf-8")
    elif name in task_names():
        text = files("ftbench.tasks").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    else:
        raise unknown("task", name, task_names(), "A path to a TOML file works, too.")
    return parse_task(text, name, data)


def parse_task(text: str, name: str, data: str) -> Task:
    """Task from TOML text. Raises RunError listing every missing, unknown or ill-typed key."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise RunError(f"task {name}: not valid TOML: {problem}") from None
    special = raw.pop("data", {})
    family = data.partition("@")[0]
    raw |= special.get(family if family in DATA else OWN_DATA, {})
    pairs = raw.pop("pairs", [])
    types = {"name": str, "title": str, "summary": str, "kind": str, "track": str, "headline": str, "measures": list,
             "relevant_from": (int, float), "gallery": str}  # fmt: skip
    problems = [f"{key} is missing" for key in types if key not in raw]
    problems += [str(unknown("key", key, [*types, "pairs", "data"])) for key in raw if key not in types]
    problems += [f"{key} is {raw[key]!r}, of the wrong type" for key, kind in types.items()
                 if key in raw and not isinstance(raw[key], kind)]  # fmt: skip
    choices = {"kind": KINDS, "track": TRACKS, "gallery": ("test", "all")}
    problems += [f"{key} is {raw[key]!r}, expected one of {', '.join(allowed)}" for key, allowed in choices.items()
                 if isinstance(raw.get(key), str) and raw[key] not in allowed]  # fmt: skip
    if isinstance(raw.get("measures"), list) and isinstance(raw.get("headline"), str):
        if raw["headline"] not in raw["measures"]:
            problems.append(f"headline {raw['headline']!r} is not among the measures")
    for number, pair in enumerate(pairs):
        for key, allowed in (("name", None), ("title", None), ("probe", PROBES), ("gallery", GALLERIES)):
            if key not in pair:
                problems.append(f"pair {number}: {key} is missing")
            elif allowed and pair[key] not in allowed:
                problems.append(f"pair {number}: {key} is {pair[key]!r}, expected one of {', '.join(allowed)}")
    if raw.get("kind") == "cross_view" and not pairs:
        problems.append("a cross_view task needs [[pairs]]")
    if problems:
        raise several(f"task {name}", problems, RunError)
    return Task(**(raw | {"measures": tuple(raw["measures"]), "pairs": tuple(Pair(**pair) for pair in pairs)}))


@dataclass(frozen=True)
class Trial:
    """One search problem. gains: {query id: {item id: gain}}; slices: {slice: positions of its queries}."""

    pair: str
    probes: Views
    gallery: Views
    query_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    gains: Mapping[str, Mapping[str, float]]
    slices: Mapping[str, np.ndarray]
    needs: frozenset[str]  # the kinds of view a method must be able to embed


def trials(task: Task, catalogue: Catalogue, latents: bool = False) -> list[Trial]:
    """The trials of a task on a catalogue. `latents` adds the attributes that the oracle reads."""
    rows = catalogue.rows(task.gallery)
    gallery = views_of(catalogue, rows, latents)
    item_ids = tuple(catalogue.item_ids[i] for i in rows)
    if task.kind == "query2item":
        return [_query_trial(catalogue, task, gallery, item_ids, latents)]
    asks = np.isin(rows, catalogue.rows(task.split))
    return [_pair_trial(pair, gallery, item_ids, asks) for pair in task.pairs]


def _query_trial(catalogue: Catalogue, task: Task, gallery: Views, item_ids: tuple[str, ...], latents: bool) -> Trial:
    queries = catalogue.queries(task.split)
    if not queries:
        raise RunError(f"{catalogue.name} has no {task.split} queries; {task.name} needs them. Try: --task cross_view")
    gains: dict[str, dict[str, float]] = {query.query_id: {} for query in queries}
    known = set(item_ids)
    for judgement in catalogue.judgements(task.split):
        if judgement.item_id in known:
            gains[judgement.query_id][judgement.item_id] = judgement.gain
    names = sorted({name for query in queries for name in query.slices})
    return Trial(
        pair="",
        probes=text_probes([q.text for q in queries], tuple(q.attributes for q in queries) if latents else None),
        gallery=gallery,
        query_ids=tuple(query.query_id for query in queries),
        item_ids=item_ids,
        gains=gains,
        slices={name: np.array([i for i, q in enumerate(queries) if name in q.slices]) for name in names},
        needs=frozenset({"text"}),
    )


def probe_assets(pair: Pair, views: Views, item_ids: tuple[str, ...]) -> np.ndarray:
    """The probe asset of each item (n,) int64, -1 where an item has none."""
    if pair.probe == "primary_image":
        return views.images[:, 0]
    if pair.probe == "auxiliary_image":
        return auxiliary_probes(views, item_ids)
    return _named_text(views, pair.probe)


def _named_text(views: Views, name: str) -> np.ndarray:
    """The text asset of a name in each row (n,) int64; "title" is the primary text, whatever its source calls it."""
    if name == "title":
        return views.texts[:, 0]
    found = np.full(len(views), -1, dtype=np.int64)
    for row, ids in enumerate(views.texts):
        for i in ids[ids >= 0]:
            if views.assets.text_names[i] == name:
                found[row] = i
    return found


def _pair_trial(pair: Pair, views: Views, item_ids: tuple[str, ...], may_ask: np.ndarray) -> Trial:
    kind = "image" if pair.probe.endswith("image") else "text"
    assets = np.where(may_ask, probe_assets(pair, views, item_ids), -1)
    gallery = leave_out(views, kind, assets)
    if pair.gallery in ("title", "primary_image"):
        target = "text" if pair.gallery == "title" else "image"
        gallery = gallery.single(target, (gallery.texts if target == "text" else gallery.images)[:, 0])
    elif pair.gallery == "images":
        gallery = gallery.only(images=True, texts=False)
    found = (gallery.images >= 0).any(axis=1) | (gallery.texts >= 0).any(axis=1)
    asks = np.flatnonzero((assets >= 0) & found)
    needs = {kind} | ({"text"} if pair.gallery == "title" else {"image"} if pair.gallery != "item" else set())
    kept = np.flatnonzero(found)
    return Trial(
        pair=pair.name,
        probes=views.single(kind, assets).take(asks),
        gallery=gallery.take(kept),
        query_ids=tuple(item_ids[i] for i in asks),
        item_ids=tuple(item_ids[i] for i in kept),
        gains={item_ids[i]: {item_ids[i]: 1.0} for i in asks},
        slices={},
        needs=frozenset(needs),
    )


def leave_out(views: Views, kind: str, assets: np.ndarray) -> Views:
    """The gallery without the probes' own assets, and without assets equal to one of them.

    An image (or text) used as a probe must not also be inside the item that it should find. assets (n,) int64, -1 none.
    """
    asked = assets[assets >= 0]
    if kind == "image":
        return views.without_images(near_duplicates(views.assets, asked))
    hashes = {views.assets.text_sha256[i] for i in asked}
    used = [i for i, digest in enumerate(views.assets.text_sha256) if digest in hashes]
    return replace(views, texts=np.where(np.isin(views.texts, used), -1, views.texts))


def training_sets(task: Task, catalogue: Catalogue, track: str) -> tuple[TrainingSet, TrainingSet]:
    """The train and validation splits as `fit` may see them on a track. Nothing of the test split is in them."""
    sets = []
    for split in SPLITS[:2]:
        rows = catalogue.rows(split)
        item_ids = tuple(catalogue.item_ids[i] for i in rows)
        plain = TrainingSet(item_ids, _own_assets(views_of(catalogue, rows)))
        if track in ("supervised", "weak", "weak-validated"):
            plain = _with_queries(plain, catalogue, split, track)
        sets.append(plain)
    train, valid = sets
    if track == "supervised" and not len(train.interactions):
        raise RunError(
            f"{catalogue.name} has no train interactions; {task.name} trains on them. Try: --track zero-shot"
        )
    return train, valid


def _own_assets(views: Views) -> Views:
    """The same views without other items' texts and without what each view reveals of latent attributes."""
    assets, own = views.assets, set(views.texts[views.texts >= 0].tolist())
    nothing = replace(
        assets,
        texts=tuple(text if i in own else "" for i, text in enumerate(assets.texts)),
        image_reveals=((),) * len(assets.image_reveals),
        text_reveals=((),) * len(assets.text_reveals),
    )
    return replace(views, assets=nothing)


def _with_queries(plain: TrainingSet, catalogue: Catalogue, split: str, track: str) -> TrainingSet:
    """The same with a split's queries and what a track may know of them: interactions on the supervised track, the
    validation split's judgements there and where a person chose to give them.

    Where nothing may be known of a query but its text, its place tells nothing, either: sources list queries item by
    item, and name them after items.
    """
    weak = track.startswith("weak")
    queries = sorted(catalogue.queries(split), key=_scattered) if weak else catalogue.queries(split)
    places = {query.query_id: i for i, query in enumerate(queries)}
    items = {item_id: i for i, item_id in enumerate(plain.item_ids)}
    pairs = [(places[p.query_id], items[p.item_id]) for p in catalogue.interactions() if p.query_id in places]
    judged = split == "valid" and track != "weak"
    return replace(
        plain,
        query_ids=tuple(query.query_id for query in queries) if judged else (),
        query_texts=tuple(query.text for query in queries),
        interactions=np.array([] if weak else pairs, dtype=np.int64).reshape(-1, 2),
        judgements=tuple(catalogue.judgements(split)) if judged else (),
    )


def _scattered(query: Query) -> str:
    return hashlib.sha256(f"{query.text} {query.query_id}".encode()).hexdigest()
