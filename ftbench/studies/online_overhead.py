"""What a method costs when it serves: bytes per item in the index and latency of a query, against single views."""

import numpy as np

from ftbench.errors import listed
from ftbench.method import load_method, method_names
from ftbench.studies.base import Figure, Outcome, Study, Timed
from ftbench.studies.scaling import ratios
from ftbench.studies.serving_cost import QUERIES, ROUNDS, SINGLE, TRAINING_STEPS

LIMIT = 1.02
MORE = {"sinkhorn_transport": {"inference": "multi"}}  # methods that may keep a vector for every view, too
WORDS = ("bm25", "hybrid_rrf")  # they search an index of words
FUSED = ("factorized_transport", "factorized_transport_cached")


class OnlineOverhead(Study):
    name = "online-overhead"
    title = "What serving costs"
    question = (
        "How many bytes per item and how much time per query does the index of each method take, against single views? "
        "bm25 and a fusion with it search an index of words."
    )
    hours = 1.0

    def cells(self, full):
        names = [SINGLE, *FUSED]
        names += [name for name in method_names() if name not in names and _embeds(name)]
        function = "ftbench.studies.serving_cost:served"
        made = [Timed(name, function, {"method": name, "data": "studio"}, name) for name in names]
        for name, settings in MORE.items():
            made.append(Timed(f"{name}-multi", function, {"method": name, "data": "studio", **settings}, name))
        for name in WORDS:
            made.append(Timed(name, f"{function}_words", {"method": name, "data": "studio"}, name))
        return made

    def outcome(self, done):
        if not done:
            return Outcome(("No method was measured.",), ())
        some = next(iter(done.values()))
        encoding = [values["encode_ms"] for values in done.values() if "encode_ms" in values]
        order = sorted(done, key=lambda name: (round(done[name]["bytes_ratio"], 3), done[name]["p50_ratio"][0]))
        told = [
            *(_verdict(name, done[name]) for name in FUSED if name in done),
            *_more(done, [name for name in order if name not in WORDS]),
            *(_words(name, done[name]) for name in WORDS if name in done),
            *_floor(done),
            f"Flat FAISS indexes over all {some['items']:,} items, one thread, {some['queries']} test queries one "
            "by one. Each method's and that of single views through the same towers (trained for "
            f"{TRAINING_STEPS} steps: what is found is no part of this) in turn in one process, {ROUNDS} rounds; "
            "ratios are medians over rounds with 95% bootstrap intervals. Times are of the search alone: making a "
            f"query's vector takes {min(encoding):.2f} to {max(encoding):.2f} ms more, the same work for all of them.",
        ]
        return Outcome(tuple(told), tuple(_figures(done, order)))


def _embeds(name: str) -> bool:
    """Whether a method serves vectors that it trains; forms of weak supervision serve those of another method."""
    method = load_method(name)
    return method.trained and not method.lexical and method.ranked and not method.home


def _verdict(name: str, values) -> str:
    """Whether a fused method costs as little as single views by estimate, and which intervals hold the limit."""
    size = values["bytes_ratio"]
    measured = {
        "bytes": (size, size, size),
        "median latency": values["p50_ratio"],
        "latency at the 95th percentile": values["p95_ratio"],
    }
    missed = [what for what, (ratio, _, _) in measured.items() if ratio > LIMIT]
    unsure = [what for what, (_, low, high) in measured.items() if low <= LIMIT < high]
    return (
        f"{name}: {values['own']['bytes']:.0f} bytes an item, {size:.3f} times single views; median latency "
        f"{values['own']['p50_ms']:.3f} ms, {_times(values['p50_ratio'])}; 95th percentile "
        f"{_times(values['p95_ratio'])}. Target at most {LIMIT:g}: "
        + (f"not reached in {listed(missed)}" if missed else "reached")
        + (f"; the interval of {listed(unsure)} holds the limit." if unsure else ".")
    )


def _times(ratio) -> str:
    return f"{ratio[0]:.3f} times ({ratio[1]:.3f} to {ratio[2]:.3f})"


def _more(done, order) -> list[str]:
    """The methods whose index is larger than that of single views."""
    larger = [name for name in order if done[name]["bytes_ratio"] > LIMIT]
    told = [
        f"{name}: {done[name]['own']['bytes']:.0f} bytes an item, {done[name]['bytes_ratio']:.1f} times single views, "
        f"as it keeps a vector for every view; median latency {done[name]['own']['p50_ms']:.2f} ms, "
        f"{done[name]['p50_ratio'][0]:.1f} times."
        for name in larger
    ]
    alike = [done[name]["p50_ratio"][0] for name in order if name not in larger]
    if alike:
        told.append(
            f"{len(alike)} of {len(order)} indexes of vectors keep one an item: their bytes are those of single views, "
            f"their median latency {min(alike):.3f} to {max(alike):.3f} times."
        )
    return told


def _words(name: str, values) -> str:
    """A method that searches an index of words, alone or beside vectors."""
    own = values["own"]
    return (
        f"{name}, an index of words{'' if name == WORDS[0] else ' beside the vectors'}: {own['bytes']:.0f} bytes an "
        f"item, {values['bytes_ratio']:.1f} times single views; median latency {own['p50_ms']:.2f} ms, "
        f"{values['p50_ratio'][0]:.1f} times; 95th percentile {values['p95_ratio'][0]:.1f} times. A search in Python "
        "and NumPy, which scores all items."
    )


def _floor(done) -> list[str]:
    if SINGLE not in done:
        return []
    p50, p95 = done[SINGLE]["p50_ratio"], done[SINGLE]["p95_ratio"]
    return [
        f"Single views against themselves: median latency {_times(p50)}, 95th percentile {_times(p95)}. That is what "
        "the measurement can tell."
    ]


def _figures(done, order):
    height = 1.3 + 0.32 * len(order)
    named = {name: name.replace("_", " ") for name in order}
    latency = [(named[name], *done[name]["p50_ratio"]) for name in order]
    size = [(named[name], *[done[name]["bytes_ratio"]] * 3) for name in order]
    many = np.mean([values["items"] for values in done.values()])
    for stem, rows, label, what in (
        ("latency", latency, "median latency of a query / single views", f"Median latency of one of {QUERIES} queries"),
        ("bytes", size, "index bytes per item / single views", "Bytes per item in the index"),
    ):
        caption = (
            f"{what}, over that of an index of single views, {many:,.0f} items. Dashed: {LIMIT:g}, the target of the "
            "factorized methods; blue circles are within it, orange diamonds beyond; far beyond, it is written."
        )
        yield Figure(stem, caption, lambda canvas, rows=rows, label=label: ratios(canvas, rows, LIMIT, label),
                     (7.2, height))  # fmt: skip


STUDY = OnlineOverhead()
