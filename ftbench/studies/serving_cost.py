"""A method's index against that of single views, in turn in one process. What the cells of online_overhead call."""

import time
from collections.abc import Callable, Mapping

import numpy as np

from ftbench.search import Serving

TRAINING_STEPS = 10  # enough for embeddings of the method's own; what they find is no part of this
ROUNDS, QUERIES = 20, 500
SINGLE = "single_view_clip"
_BEST = 10  # items that a query is answered with
_RESAMPLES, _SEED = 10_000, 20250412


def served(method: str, data: str, **settings: str) -> dict:
    """Bytes per item and milliseconds of a single query for a method's index and for one of single views. settings: of
    the method, as typed, in the place of those it is tuned to.

    Both are flat FAISS indexes over all items of `data`, embedded by the same towers: those that the method trained for
    TRAINING_STEPS. In each of ROUNDS rounds QUERIES test queries are searched in both, which comes first in turn.
    own, single: bytes, p50 and p95 (medians over rounds). p50_ratio, p95_ratio: the median over rounds of the method's
    percentile over that of single views, with its 95% bootstrap interval over rounds. encode_ms: the median time of
    making a query's vector, from its text, which is no part of the others.
    """
    from ftbench.items import silent
    from ftbench.search import serve_index
    from ftbench.views import text_probes

    own, single, embedder, catalogue = _embedded(method, data, settings)
    texts = _queries(catalogue)
    probes = np.asarray(load(SINGLE).embed(text_probes(texts), embedder), dtype=np.float32)

    def searched(gallery):
        return serve_index(gallery, probes, kind="flat", threads=1, most=QUERIES)

    told = _in_turn(lambda: searched(own), lambda: searched(single))
    return told | {"encode_ms": _encoding(texts, embedder, silent), "items": len(single), "queries": len(probes)}


def served_words(method: str, data: str) -> dict:
    """As `served`, for a method that searches an index of words, be it bm25 or a fusion of it with a dense method.

    A search scores the items for the query's words, already split, and takes the ten best; a fusion scores all vectors,
    too, and adds up the two rankings. Bytes are those of the postings and the vocabulary, and of the vectors.
    """
    from ftbench.baselines.hybrid_rrf import fused
    from ftbench.method import load_method
    from ftbench.search import serve_index
    from ftbench.vectors import as_float32, scorer
    from ftbench.views import text_probes, views_of

    loaded = load(method)
    words, dense = loaded.parts if loaded.trained else (load_method(method, track="zero-shot"), None)
    own, single, embedder, catalogue = _embedded(dense.name if dense else SINGLE, data, {})
    texts, views = _queries(catalogue), views_of(catalogue, catalogue.rows("all"))
    index, asked = _index_of_words(words, text_probes(texts), views)
    probes = np.asarray(load(SINGLE).embed(text_probes(texts), embedder), dtype=np.float32)
    score, size = scorer(as_float32(own)), _bytes_of(index) / len(single)
    size += serve_index(own, probes, kind="flat", threads=1, most=1).bytes_per_item if dense else 0

    def search(place: int) -> np.ndarray:
        scores = type(words)._scores(index, asked[place], len(views))
        if dense:
            scores = fused((scores[None], score(probes[place : place + 1])), loaded.config.constant)[0]
        best = np.argpartition(-scores, _BEST)[:_BEST]
        return best[np.argsort(-scores[best], kind="stable")]

    def searched():
        times = []
        for place in range(len(asked)):
            started = time.perf_counter()
            search(place)
            times.append(1000 * (time.perf_counter() - started))
        p50, p95 = np.percentile(times, [50, 95]).tolist()
        return Serving(p50, p95, size, 1.0)

    told = _in_turn(searched, lambda: serve_index(single, probes, kind="flat", threads=1, most=QUERIES))
    return told | {"items": len(single), "queries": len(probes)}


def _queries(catalogue) -> list[str]:
    return [query.text for query in catalogue.queries("test")][:QUERIES]


def _in_turn(own: Callable[[], Serving], single: Callable[[], Serving]) -> dict:
    """Two searches, in turn: what `served` tells of both and of their ratios."""
    found: dict[str, list] = {"own": [], "single": []}
    for place in range(ROUNDS + 1):  # the first warms up
        for name, search in [("own", own), ("single", single)][:: 1 if place % 2 else -1]:
            found[name].append(search())
    table = {
        name: np.array([(one.p50_ms, one.p95_ms) for one in rounds[1:]]) for name, rounds in found.items()
    }  # (rounds, 2)
    ratios = table["own"] / table["single"]
    bytes_of = {name: rounds[0].bytes_per_item for name, rounds in found.items()}
    told = {
        name: {"bytes": bytes_of[name], "p50_ms": float(p50), "p95_ms": float(p95)}
        for name, (p50, p95) in ((name, np.median(rounds, axis=0)) for name, rounds in table.items())
    }
    return told | {
        "bytes_ratio": bytes_of["own"] / bytes_of["single"],
        "p50_ratio": _interval(ratios[:, 0]), "p95_ratio": _interval(ratios[:, 1]),
        "recall_at_10": found["own"][0].recall_at_10,
    }  # fmt: skip


def _index_of_words(words, probes, gallery):
    """bm25's index of a gallery and the words of each query that it looks up, as its own `score` makes them."""
    kept = []

    def looked_up(index, query, items):
        kept.append((index, query))
        return np.zeros(items, dtype=np.float32)

    words._scores = looked_up
    words.score(probes, gallery)
    del words._scores
    return kept[0][0], [query for _, query in kept]


def _bytes_of(index) -> int:
    """Bytes of bm25's postings, its vocabulary in UTF-8 and 4 bytes for each word's number."""
    postings = sum(np.asarray(index.scores[name]).nbytes for name in ("data", "indices", "indptr"))
    return postings + sum(len(word.encode()) + 4 for word in index.vocab_dict)


def load(method: str, settings: Mapping[str, str] | None = None):
    """A method as it is tuned for queries, but for settings as typed."""
    from ftbench.method import load_method

    return load_method(method, dict(settings or {}), track="supervised")


def _embedded(method: str, data: str, settings: Mapping[str, str]):
    """A method's item vectors of all items, those of single views through the same towers, its embedder, the data."""
    from dataclasses import replace

    import torch

    from ftbench.encoders.base import load_encoder
    from ftbench.items import silent
    from ftbench.method import Embedder, trainer_settings
    from ftbench.request import default_encoder
    from ftbench.runner import Session
    from ftbench.task import load_task, training_sets
    from ftbench.trainer import Trainer
    from ftbench.views import views_of

    catalogue = Session(None, lambda title: silent).catalogue(data)
    loaded, encoder, device = load(method, settings), load_encoder(default_encoder(data)), torch.device("cpu")
    train, valid = training_sets(load_task("query2item", data), catalogue, "supervised")
    config = replace(trainer_settings(loaded), steps=TRAINING_STEPS, threads=1)
    trained = loaded.fit(train, valid, Trainer(encoder, config, "equal-steps", 0, device, lambda title: silent))
    embedder = Embedder(trained, encoder, device, silent)
    views = views_of(catalogue, catalogue.rows("all"))
    return loaded.embed(views, embedder), load(SINGLE).embed(views, embedder), embedder, catalogue


def _interval(ratios: np.ndarray) -> list[float]:
    """The median of ratios (r,) and its 95% bootstrap interval."""
    generator = np.random.default_rng(_SEED)
    drawn = np.median(generator.choice(ratios, (_RESAMPLES, len(ratios))), axis=1)
    return [float(np.median(ratios)), *np.percentile(drawn, [2.5, 97.5]).tolist()]


def _encoding(texts: list[str], embedder, progress) -> float:
    """Median milliseconds from a query's text to its vector, one query at a time."""
    import torch

    times = []
    for text in texts[:100]:
        started = time.perf_counter()
        inputs = embedder.encoder.text_inputs((text,), np.zeros(1, dtype=np.int64), progress)
        with torch.inference_mode():
            embedder.trained.model.text(inputs.gather(np.zeros(1, dtype=np.int64))).numpy()
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))
