"""A results folder that no model made: plausible records, written through the library's own path."""

import hashlib
import json
import shutil
from itertools import count, islice
from pathlib import Path

import numpy as np

from ftbench import record, search

MEASURES = ["recall@1", "recall@10", "recall@100", "recall@500", "hit@10", "ndcg@10", "rr@10", "ap@100"]
PAIRS = (
    ("title-primary_image", "title → primary image"),
    ("primary_image-title", "primary image → title"),
    ("auxiliary_image-title", "auxiliary image → title"),
    ("auxiliary_image-item", "auxiliary image → rest of item"),
    ("description-images", "description → images"),
)
# name: (title, signal on query2item, signal on cross_view, config, seconds on the whole, steps)
METHODS = {
    "random": ("Random vectors", 0.0, 0.0, {}, 1.0, None),
    "bm25": ("BM25 over an item's texts", 1.3, None, {"k1": 1.2, "b": 0.75}, 2.4, None),
    "single_view_clip": ("Single-view CLIP", 1.55, 2.0, {"alignment_weight": 0.3}, 61.0, 620),
    "mean_pooling": ("Mean pooling", 1.6, 2.05, {"alignment_weight": 0.3}, 63.0, 620),
    "mean_pooling_all_views": ("Mean pooling with all views encoded at every step", 2.12, 2.6,
                               {"alignment_weight": 0.3}, 74.0, 160),
    "factorized_transport": ("Factorized transport", 1.9, 2.62,
                             {"loss": "fused", "primary_share": 0.25, "alignment_weight": 0.3}, 60.0, 330),
    "factorized_transport_cached": ("Factorized transport with cached views", 2.14, 2.58,
                                    {"primary_share": 0.25, "gate": True, "alignment_weight": 0.3}, 66.0, 290),
    "oracle": ("Oracle", 6.0, None, {"views": "all"}, 3.0, None),
}  # fmt: skip
SLICES = ("primary", "auxiliary image", "auxiliary text")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def draft(method="single_view_clip", task="query2item", data="studio", seed=0, track=None, board="equal-compute",
          config=None, date="2026-01-15T10:00:00Z"):  # fmt: skip
    """A valid record without its id, run file and scores."""
    title, _, _, settings, seconds, steps = METHODS[method]
    trained = steps is not None
    track = track or ({"query2item": "supervised", "cross_view": "aligned"}[task] if trained else "zero-shot")
    spends = trained and track != "zero-shot"
    encoder = "tiny" if data == "studio" else "lite"
    jitter = 1 + 0.03 * seed
    return {
        "schema_version": record.SCHEMA_VERSION,
        "status": "ok",
        "error": None,
        "command": f"ftbench run --method {method} --task {task} --data {data} --seed {seed}",
        "date": date,
        "task": {
            "name": task,
            "title": {"query2item": "Query to item", "cross_view": "Cross-view"}[task],
            "kind": task,
            "headline": {"query2item": "ndcg@10", "cross_view": "recall@10"}[task],
            "measures": MEASURES,
            "relevant_from": 3.0 if task == "query2item" else 1.0,
            "gallery": "test",
            "definition_sha256": sha(task),
            "pairs": [{"name": n, "title": t} for n, t in PAIRS] if task == "cross_view" else [],
        },
        "data": {
            "name": data,
            "version": f"{data}-v1",
            "fingerprint": sha(data),
            "licence": "Apache-2.0" if data == "studio" else "OSL-3.0",
            "redistributable": data == "studio",
            "counts": {"items": 6500, "images": 52000, "texts": 19000},
            "coverage": {"broken_images": 0, "dropped": {}},
        },
        "method": {"name": method, "title": title, "config": settings if config is None else config,
                   "sha256": sha(method), "ranked": method != "oracle", "trained": trained},
        "track": track,
        "board": board,
        "encoder": {"name": encoder, "weights_sha256": sha(encoder), "parameters": 512_000, "image_flops": 9.1e6,
                    "text_flops": 2.2e6, "image_size": 48} if trained else None,
        "trainer": {"budget": 700_000.0 if spends else 0.0, "steps": 300, "batch_size": 128} if trained else {},
        "seed": seed,
        "precision": "float32",
        "numerics": record.NUMERICS,
        "cost": record.cost(
            image_passes=101_000 if spends else 0 if trained else None,
            text_passes=99_000 if spends else 0 if trained else None,
            image_passes_per_item=25.2 if spends else None,
            text_passes_per_item=24.8 if spends else None,
            forward_equivalents=350_000.0 if spends else 0.0 if trained else None,
            steps=steps if spends else 0 if trained else None,
            train_seconds=0.72 * seconds * jitter if spends else None,
            embed_seconds=0.2 * seconds * jitter if trained else None,
            search_seconds=0.31 * jitter,
            total_seconds=(seconds if spends or not trained else 0.3 * seconds) * jitter,
            search_p50_ms=0.11 if trained else None,
            search_p95_ms=0.14 * jitter if trained else None,
            peak_memory_bytes=1.4e9,
            index_bytes_per_item=512.0 if trained else None,
        ),
        "training": {"curve": [[0, 4.8], [100, 3.1], [200, 2.4]] if spends else []},
        "environment": {
            "python": "3.11.7", "platform": "Linux-x86_64", "cpu": "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz",
            "cores": 2, "threads": {"torch": 2, "faiss": 2, "blas": 2}, "gpu": None,
            "packages": {"ftbench": "0.1.0", "torch": "2.8.0", "numpy": "2.2.0"}, "fingerprint": sha("cpu")[:12],
        },
        "git": {"commit": sha("commit")[:40], "dirty": False},
    }  # fmt: skip


def rankings(signal, pairs, n_queries, n_items, rng, ties=False):
    """Rankings by pair with their gains and slices; the higher the signal, the better."""
    items = [f"item-{i:05d}" for i in range(n_items)]
    found, gains = {}, {}
    truth = np.random.default_rng(7)  # the same relevance for every method and seed
    for pair in pairs:
        queries = [f"q{i:05d}" for i in range(n_queries)] if pair == "" else items[:n_queries]
        level = np.zeros((n_queries, n_items), dtype=np.float32)
        gains[pair] = {}
        for q in range(n_queries):
            if pair:
                level[q, q], gains[pair][queries[q]] = 1, {items[q]: 1.0}
                continue
            near = truth.choice(n_items, size=min(12, n_items), replace=False)
            level[q, near[4:]], level[q, near[:4]] = 0.55, 1
            gains[pair][queries[q]] = {items[i]: 1.0 if k >= 4 else 3.0 for k, i in enumerate(near)}
        noise = rng.standard_normal((n_queries, n_items), dtype=np.float32)
        hard = 1 - 0.5 * (np.arange(n_queries) % 3 == 1)  # every third query is harder: the second slice
        scores = 0.1 * (signal * 1.6 * hard[:, None] * level + noise)
        if ties:
            scores = np.round(scores)
        found[pair] = search.rank_scores(
            scores.astype(np.float32), query_ids=queries, item_ids=items, gains=gains[pair],
            relevant_from=1.0 if pair else 3.0,
        )  # fmt: skip
    slices = {}
    if "" in pairs:
        queries = [f"q{i:05d}" for i in range(n_queries)]
        slices = {name: tuple(queries[i :: len(SLICES)]) for i, name in enumerate(SLICES)}
    return found, gains, slices


def add(results: Path, n_queries=60, n_items=150, hardware=None, ties=False, **about) -> Path:
    """One record with its run file."""
    entry = draft(**about)
    name, task, seed = entry["method"]["name"], entry["task"]["name"], entry["seed"]
    signal = METHODS[name][1 if task == "query2item" else 2]
    signal *= 0.72 if entry["track"] == "zero-shot" and entry["method"]["trained"] else 1
    signal *= 1 if entry["data"]["name"] == "studio" else 0.8
    pairs = [pair for pair, _ in PAIRS] if task == "cross_view" else [""]
    rng = np.random.default_rng([seed, *sha(name + task + entry["track"]).encode()[:6]])
    ranked, gains, slices = rankings(signal, pairs, n_queries, n_items, rng, ties)
    if hardware:
        entry["environment"]["fingerprint"] = hardware
    measured = record.measure(record.Run(ranked, slices), MEASURES, [pair for pair in pairs if pair])
    return record.write(results, entry | measured, ranked, gains, slices)


def board(results: Path, n_queries=60, n_items=150, seeds=3) -> Path:
    """All methods x seeds x both tasks x both data sets, with zero-shot rows, as far as a method can enter."""
    for data in ("studio", "magento-luma"):
        for task in ("query2item", "cross_view"):
            for name, (_, on_queries, on_views, _, _, steps) in METHODS.items():
                signal = on_queries if task == "query2item" else on_views
                if signal is None or (name == "oracle" and data != "studio"):
                    continue
                size = {"n_queries": n_queries, "n_items": n_items, "method": name, "task": task, "data": data}
                for seed in range(seeds if steps or name == "random" else 1):
                    add(results, seed=seed, **size)
                if name in ("single_view_clip", "mean_pooling"):
                    add(results, track="zero-shot", **size)
    return results


def many(results: Path, n_records=2000, n_queries=20, n_items=60) -> Path:
    """A board of that many records in 24 tables, for what grows with them: settings and seeds of every trained method.

    Runs of one method, task, seed and every third setting share their rankings: their run files are copied, so that
    making them takes seconds rather than minutes.
    """
    made = {}
    for one in islice(_endless(), n_records):
        entry = draft(**one)
        pairs = [pair["name"] for pair in entry["task"]["pairs"]] or [""]
        variant = round(100 * entry["method"]["config"].get("alignment_weight", 0)) % 3
        key = (one["method"], one["task"], entry["seed"], variant)
        if key in made:
            _copy(results, entry, *made[key])
            continue
        signal = METHODS[one["method"]][1 if one["task"] == "query2item" else 2] * (0.9 + 0.1 * variant)
        rng = np.random.default_rng([entry["seed"], variant, *sha(one["method"] + one["task"]).encode()[:6]])
        ranked, gains, slices = rankings(signal, pairs, n_queries, n_items, rng)
        scored = record.measure(record.Run(ranked, slices), MEASURES, [pair for pair in pairs if pair])
        path = record.write(results, entry | scored, ranked, gains, slices)
        made[key] = path, record.read(path)
    return results


def _copy(results: Path, entry: dict, path: Path, earlier: dict) -> None:
    """A record with the scores, run file and judgements of an earlier one."""
    entry = {**earlier, **entry, "id": record.record_id(record.key(entry))}
    to = record.path_of(results, entry)
    entry["run_file"] = earlier["run_file"] | {"name": to.with_suffix(".parquet").name}
    judgements = record.judgements_path(to, entry)
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path.with_suffix(".parquet"), to.with_suffix(".parquet"))
    if not judgements.is_file():
        shutil.copyfile(record.judgements_path(path, earlier), judgements)
    to.write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _endless():
    """What runs a large board has: a setting on all tables before the next, so that every table grows alike."""
    for step in count():
        for data in ("studio", "magento-luma", "shop-a", "shop-b", "shop-c", "studio-confirm"):
            for task in ("query2item", "cross_view"):
                where = {"data": data, "task": task}
                for name, (_, on_queries, on_views, *_, steps) in METHODS.items():
                    if (on_queries if task == "query2item" else on_views) is None:
                        continue
                    if steps is None and step == 0:
                        yield {"method": name, **where}
                    for board in ("equal-compute", "equal-steps") if steps else ():
                        for seed in range(3):
                            config = {"alignment_weight": step / 100}
                            yield {"method": name, "board": board, "seed": seed, "config": config, **where}
