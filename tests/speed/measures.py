"""Time of all measures on 10,000 queries x top 1,000: ftbench on one thread against ranx on two, and the same numbers.

Both start from what they hold in memory: ftbench a Ranking of arrays, ranx its Qrels and Run. Not the same work: a
Ranking's gains already stand beside its ranks (search.rank puts them there), ranx looks up every judgement each time.
Another size for a quick look: python tests/speed/measures.py --queries 500
"""

import argparse
import os
import time
import warnings

os.environ["NUMBA_NUM_THREADS"] = "2"  # ranx runs on numba's threads; this must be set before it is imported

import numpy as np
from figures import Figures
from threadpoolctl import threadpool_limits

from ftbench import metrics, search

RANX_NAMES = {
    "recall@1": "recall@1", "recall@10": "recall@10", "recall@100": "recall@100", "recall@500": "recall@500",
    "hit@10": "hit_rate@10", "ndcg@10": "ndcg@10", "rr@10": "mrr@10", "ap@100": "map@100",
}  # fmt: skip
ITEMS, DEPTH, JUDGED, FOUND = 20_000, 1_000, 20, 15  # of a query's judged items, those among its top 1,000
ROUNDS = 5
LEAST = 3.0


def ranking(queries: int, rng: np.random.Generator) -> search.Ranking:
    """Random rankings, all kept to rank 1,000 and, as in a run file, the relevant items that lie below."""
    kept = DEPTH + JUDGED - FOUND
    ranks = np.empty((queries, kept), dtype=np.int32)
    gain = np.zeros((queries, kept))
    for q in range(queries):
        ranks[q, :DEPTH] = np.arange(1, DEPTH + 1)
        ranks[q, DEPTH:] = np.sort(rng.choice(ITEMS - DEPTH, JUDGED - FOUND, replace=False)) + DEPTH + 1
        # ranks of judged items crowd towards the top: squares of uniform numbers
        places = np.unique((rng.random(4 * FOUND) ** 2 * DEPTH).astype(int))
        gain[q, rng.choice(places, FOUND, replace=False)] = rng.integers(1, 4, FOUND)
        gain[q, DEPTH:] = rng.integers(1, 4, JUDGED - FOUND)
    # distinct items of a query: steps of a stride that shares no factor with the gallery's size
    item = (rng.integers(0, ITEMS, (queries, 1)) + 7_919 * np.arange(kept)) % ITEMS
    return search.Ranking(
        query_ids=[f"q{q:05d}" for q in range(queries)],
        item_ids=[f"i{i:05d}" for i in range(ITEMS)],
        offsets=kept * np.arange(queries + 1, dtype=np.int64),
        item=item.astype(np.int32).reshape(-1),
        rank=ranks.reshape(-1),
        score=(1 / ranks).astype(np.float32).reshape(-1),
        gain=gain.reshape(-1),
        tie_first=ranks.reshape(-1),
        tie_size=np.ones(queries * kept, dtype=np.int32),
        ideal_offsets=JUDGED * np.arange(queries + 1, dtype=np.int64),
        ideal=-np.sort(-gain[gain > 0].reshape(queries, JUDGED), axis=1).reshape(-1),
        relevant_from=1.0,
        depth=DEPTH,
    )


def ranx_objects(made: search.Ranking):
    """The same judgements and runs as ranx's Qrels and Run."""
    from ranx import Qrels, Run

    names = np.array(made.item_ids, dtype=object)
    qrels, run = {}, {}
    for q, query in enumerate(made.query_ids):
        span = slice(made.offsets[q], made.offsets[q + 1])
        ids, gains = names[made.item[span]].tolist(), made.gain[span]
        run[query] = dict(zip(ids[:DEPTH], made.score[span][:DEPTH].tolist(), strict=True))
        qrels[query] = {ids[i]: int(gains[i]) for i in np.flatnonzero(gains)}
    return Qrels(qrels), Run(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=10_000)
    queries = parser.parse_args().queries
    figures = Figures()

    made = ranking(queries, np.random.default_rng(0))
    qrels, run = ranx_objects(made)
    from ranx import evaluate

    warnings.filterwarnings("ignore", module="ranx")  # of numba's casts in ranx's recall

    names = list(RANX_NAMES.values())

    def theirs() -> dict:
        return evaluate(qrels, run, names, return_mean=False, threads=2, save_results_in_run=False)

    with threadpool_limits(1):
        ours, reference = metrics.evaluate(made, list(RANX_NAMES)), theirs()  # warm-up: numba compiles, caches fill
        for name, other in RANX_NAMES.items():
            np.testing.assert_allclose(ours[name], reference[other], rtol=1e-9, atol=1e-12, err_msg=name)
        seconds = np.empty((ROUNDS, 2))
        for i in range(ROUNDS):  # one after the other, so that both meet the same machine
            for j, measure in enumerate((lambda: metrics.evaluate(made, list(RANX_NAMES)), theirs)):
                started = time.perf_counter()
                measure()
                seconds[i, j] = time.perf_counter() - started
    own, other = np.median(seconds, axis=0)
    figures.say(f"{queries:,} queries x top {DEPTH:,}, {len(RANX_NAMES)} measures, same numbers per query")
    figures.say(f"ftbench on one thread {own:.3f} s, ranx on two {other:.3f} s, medians of {ROUNDS}")
    figures.least("measures: ranx / ftbench", other / own, LEAST)
    figures.end()


if __name__ == "__main__":
    main()
