"""What a training step costs when items have more views: constant, linear, quadratic. Measured, not derived.

Whole steps of every method, and the pair terms of two losses without the encoders that hide them.
"""

from collections.abc import Mapping

import numpy as np

from ftbench.studies.base import Figure, Outcome, Study, Timed
from ftbench.studies.scaling import Axes, Exponent, curves, exponent
from ftbench.studies.step_cost import BATCH, MATCHED_ITEMS, MOST_VIEWS, STEPS, TERM_ITEMS, TERM_SWEEPS

VIEWS = (2, 4, 8, 16, MOST_VIEWS)
METHODS = {  # in the order of the findings, which is that of colours, too
    "factorized_transport": "factorized", "factorized_transport_cached": "factorized, cached",
    "mean_pooling_all_views": "all views", "all_pairs": "all pairs", "sinkhorn_transport": "Sinkhorn",
    "random_view": "random view", "m3g": "M3G",
}  # fmt: skip
MATCHED = "m3g"  # its cost is exponential in the views that it matches, so it has few
CONSTANT = ("factorized_transport", "factorized_transport_cached")
TERM_VIEWS, MATCHED_VIEWS = (8, 16, 32, 48, 64), (2, 3, 4)
TERMS = {"all_pairs": "all pairs", "sinkhorn_transport": "Sinkhorn"}
MEASURES = {
    "ratio": "seconds",
    "passes": "encoder passes",
    "operations": "operations",
    "memory": "peak memory",
}


class CostVsViews(Study):
    name = "cost-vs-views"
    title = "What more views cost in training"
    question = (
        "How do seconds, encoder passes, operations and peak memory of a training step grow with the number of views "
        "per item?"
    )
    hours = 1.0

    def cells(self, full):
        here = "ftbench.studies.step_cost:"
        steps = [(name, views) for name in METHODS for views in (VIEWS[:2] if name == MATCHED else VIEWS)]
        terms = [(name, views) for name in TERMS for views in TERM_VIEWS] + [(MATCHED, k) for k in MATCHED_VIEWS]
        return [
            Timed(f"{what}-{name}-{views}", f"{here}{what}", {"method": name, "views": views}, name)
            for what, asked in (("step", steps), ("term", terms))
            for name, views in asked
        ]

    def outcome(self, done):
        steps = _by_method(done, "step", METHODS)
        terms = _by_method(done, "term", (*TERMS, MATCHED))
        told = [
            *_verdicts(steps), *_term_verdicts(terms), *_matched(steps, terms), *_warm_up(steps),
            "Views are counted per modality: v views are v images and v texts of each item. A step is one of the "
            f"aligned track (no queries): {BATCH} items that have all their views, encoder tiny, one thread; medians "
            f"of {STEPS} steps, each in turn with a step at 2 views. Operations: matrix products and convolutions.",
        ]  # fmt: skip
        return Outcome(tuple(told), tuple(_figures(steps, terms)))


def _by_method(done: Mapping, what: str, names) -> dict[str, dict[int, Mapping]]:
    """{method: {views: values}} of the cells that there are."""
    found: dict[str, dict[int, Mapping]] = {}
    for name in names:
        own = {v: done[f"{what}-{name}-{v}"] for v in range(100) if f"{what}-{name}-{v}" in done}
        if own:
            found[name] = own
    return found


def _exponents(own: Mapping[int, Mapping]) -> dict[str, Exponent]:
    return {name: exponent(list(own), [values[name] for values in own.values()]) for name in MEASURES}


def _verdict(found: Exponent, least: float, most: float) -> str:
    """The exponent with its target, whether the estimate meets it, and whether a limit is within its error."""
    target = f"{least:g} to {most:g}" if np.isfinite(least) else f"at most {most:g}"
    met = "reached" if least <= found.slope <= most else "not reached"
    near = ", within the error of a limit" if any(abs(found.slope - x) <= found.error for x in (least, most)) else ""
    return f"{found} (target {target}: {met}{near})"


def _verdicts(steps) -> list[str]:
    told, plain = [], steps.get("mean_pooling_all_views", {})
    for name, shown in METHODS.items():
        own = steps.get(name, {})
        if len(own) < 2:
            continue
        found = _exponents(own)
        bounds = (-np.inf, 0.1) if name in CONSTANT else (0.9, 1.1) if name == "mean_pooling_all_views" else None
        bounds = bounds or ((0.8, 1.2) if name in TERMS else None)
        judged = {what: _verdict(one, *bounds) if bounds else str(one) for what, one in found.items()}
        judged["memory"] = str(found["memory"])
        few, many = min(own), max(own)
        half = max((views for views in own if views < many), default=many)
        told.append(
            f"{shown[0].upper() + shown[1:]}: exponents in the number of views, seconds {judged['ratio']}, encoder "
            f"passes {judged['passes']}, operations {judged['operations']}, peak memory {judged['memory']}. From "
            f"{half} to {many} views seconds grow {own[many]['ratio'] / own[half]['ratio']:.2f}-fold; at {many} views "
            f"a step takes {own[many]['ratio']:.2f} times that at {few} ({1000 * own[many]['seconds']:.0f} ms), "
            f"with {own[many]['passes']:.0f} encoder passes an item and {own[many]['memory'] / 1e6:.0f} MB."
        )
        if name in TERMS and few in plain and many in plain:
            shares = [f"{own[v]['seconds'] / plain[v]['seconds']:.2f} times at {v}" for v in (few, many)]
            told[-1] += f" Against the step of all views, which encodes as much: {' and '.join(shares)} views."
    return told


def _term_verdicts(terms) -> list[str]:
    told = []
    for name, shown in TERMS.items():
        own = terms.get(name, {})
        if len(own) < 2:
            continue
        found = exponent(list(own), [values["seconds"] for values in own.values()])
        told.append(
            f"The pair term of {shown} alone, {TERM_ITEMS} items, from {min(own)} to {max(own)} views: seconds "
            f"grow with exponent {_verdict(found, 1.7, 2.3)}. At {max(own)} views "
            f"it takes {1000 * own[max(own)]['seconds']:.0f} ms"
            + (f" ({TERM_SWEEPS} sweeps)." if name != "all_pairs" else ".")
        )
    return told


def _matched(steps, terms) -> list[str]:
    own = terms.get(MATCHED, {})
    if len(own) < 2:
        return []
    few, many = min(own), max(own)
    growth = (own[many]["seconds"] / own[few]["seconds"]) ** (1 / (many - few))
    told = (
        f"M3G matches k views of {MATCHED_ITEMS} items in a table of {MATCHED_ITEMS}^k costs: from {few} to {many} "
        f"views its term grows {growth:.1f}-fold in seconds with each view ({1000 * own[few]['seconds']:.1f} to "
        f"{1000 * own[many]['seconds']:.1f} ms), so it is measured to {many} alone."
    )
    step = steps.get(MATCHED, {})
    if len(step) > 1:
        told += (
            f" Our form draws 4 views of an item however many there are: its step takes "
            f"{1000 * step[2]['seconds']:.0f} ms at 2 views per modality and {1000 * step[4]['seconds']:.0f} ms at 4."
        )
    return [told]


def _warm_up(steps) -> list[str]:
    """What a bank's first pass costs: once per run, linear in views."""
    own = steps.get("factorized_transport_cached", {})
    if len(own) < 2:
        return []
    from ftbench.encoders.base import load_encoder
    from ftbench.settings import TrainerConfig

    encoder, budget, items = load_encoder("tiny"), TrainerConfig().budget, 4000
    passes = {views: values["warm_up_passes"] for views, values in own.items()}
    each = 1 + encoder.text_flops / encoder.image_flops  # a forward pass of an image and a text, in those of an image
    shares = [f"{items * passes[v] / 2 * each / budget:.0%} at {v}" for v in passes if v >= 8]
    return [
        "Cached views are not constant in one respect: the bank's warm-up encodes every view once per run, exponent "
        f"{exponent(list(passes), list(passes.values()))} in views, before the first step. On {items:,} training items "
        f"it takes this share of the default budget, which pays for it: {', '.join(shares)} views per modality."
    ]


# --- figures


def _figures(steps, terms):
    texts = {
        "ratio": ("seconds", "step time, in steps at 2 views", "How the time of a training step grows with views per "
                  "modality, against the same method's step at 2 views, timed in turn; both axes logarithmic."),
        "passes": ("passes", "encoder passes per item and step", "Encoder passes of a training step, per item. All "
                   "views, all pairs and Sinkhorn encode every view, random view two, both factorized forms and M3G "
                   "four."),
        "operations": ("operations", "operations of a step (billions)", "Floating-point operations of matrix products "
                       "and convolutions in a whole training step of 64 items, forward and backward. Curves of equal "
                       "cost lie on each other."),
        "memory": ("memory", "peak memory of a step (MB)", "Peak memory that training adds to the process."),
    }  # fmt: skip
    units = {"operations": 1e-9, "memory": 1e-6}
    order = list(METHODS.values())
    for measure, (stem, label, caption) in texts.items():
        lines = {
            METHODS[name]: (list(own), [values[measure] * units.get(measure, 1) for values in own.values()])
            for name, own in steps.items()
            if name in METHODS and len(own) > 1
        }
        slopes = (("constant", 0.0), ("linear", 1.0)) if measure == "ratio" else ()
        axes = Axes("views per modality", label, VIEWS, order, slopes)
        if lines:
            yield Figure(stem, caption, lambda canvas, lines=lines, axes=axes: curves(canvas, lines, axes))
    lines = {
        shown: (list(terms[name]), [1000 * values["seconds"] for values in terms[name].values()])
        for name, shown in TERMS.items()
        if len(terms.get(name, {})) > 1
    }
    if lines:
        axes = Axes("views per modality", "milliseconds of the pair term", TERM_VIEWS, order, (("quadratic", 2.0),))
        caption = (
            f"The pair terms alone, on given embeddings of {TERM_ITEMS} items: all pairs with its gradient, Sinkhorn's "
            f"plans with {TERM_SWEEPS} sweeps; both axes logarithmic."
        )
        yield Figure("pair-term", caption, lambda canvas: curves(canvas, lines, axes))


STUDY = CostVsViews()
