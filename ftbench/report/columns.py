"""What the columns of a table are, and which of its three views shows each. Must not know HTML."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ftbench.report import words
from ftbench.report.aggregate import Row, Table

VIEWS = (("o", "Overview"), ("m", "Measures"), ("c", "Cost"))


@dataclass(frozen=True)
class Column:
    """title, its explanation, the views that show it (letters of VIEWS), a row's value for sorting and as text."""

    title: str
    help: str
    views: str
    value: Callable[[Row], float | None]
    text: Callable[[Row], str]
    group: str = ""


def _score_column(title: str, help_: str, views: str, group: str, part: str, name: str) -> Column:
    def value(row: Row) -> float | None:
        found = getattr(row, part).get(name)
        return found.mean if found else None

    return Column(title, help_, views, value, lambda row: words.score(value(row)), group)


def _cost_column(title: str, help_: str, views: str, value: Callable, text: Callable = words.number) -> Column:
    return Column(title, help_, views, lambda row: value(row.cost), lambda row: text(value(row.cost)), "Cost")


def _field(name: str) -> Callable[[Mapping], float | None]:
    return lambda cost: cost[name]


def passes_per_item(cost: Mapping) -> float | None:
    """Encoder passes per training item, images and texts together; None unless both are known."""
    images, texts = cost["image_passes_per_item"], cost["text_passes_per_item"]
    return None if images is None or texts is None else images + texts


_COSTS = (
    _cost_column("passes / item", "Encoder passes in training per training item, images and texts", "o",
                 passes_per_item),
    _cost_column("train s", "Seconds of training, median over seeds", "oc", _field("train_seconds")),
    _cost_column("index / item", "Bytes of the search index per item", "oc", _field("index_bytes_per_item"),
                 words.size),
    _cost_column("p95 ms", "Milliseconds per query of flat search, 95th percentile", "oc", _field("search_p95_ms")),
    _cost_column("fwd-equiv.", "Training in forward-equivalents of the image tower: a training pass counts 3", "c",
                 _field("forward_equivalents")),
    _cost_column("steps", "Optimiser steps", "c", _field("steps")),
    _cost_column("image / item", "Image passes in training per training item", "c", _field("image_passes_per_item")),
    _cost_column("text / item", "Text passes in training per training item", "c", _field("text_passes_per_item")),
    _cost_column("embed s", "Seconds to embed probes and gallery", "c", _field("embed_seconds")),
    _cost_column("total s", "Seconds of the whole run", "c", _field("total_seconds")),
    _cost_column("p50 ms", "Milliseconds per query of flat search, median", "c", _field("search_p50_ms")),
    _cost_column("memory", "Most memory that the process held", "c", _field("peak_memory_bytes"), words.size),
)  # fmt: skip


def columns(table: Table) -> list[Column]:
    """The columns after the method and the headline, in order."""
    headline = table.task["headline"]
    shown = words.measure(headline)
    found = [
        _score_column(pair["title"], f"{shown} of {pair['title']}", "o", f"{shown} by pair", "pairs", pair["name"])
        for pair in table.task["pairs"]
    ]
    slices = dict.fromkeys(name for row in table.all_rows for name in row.slices)
    found += [
        _score_column(words.spaced(name), f"{shown} on the queries of the slice “{words.spaced(name)}”", "o",
                      f"{shown} by slice", "slices", name)
        for name in slices
    ]  # fmt: skip
    found += [
        _score_column(words.measure(name), words.meaning(name), "m", "Measures", "scores", name)
        for name in table.task["measures"] if name != headline
    ]  # fmt: skip
    hardware = Column("hardware", "Fingerprint of the machine; times compare within one", "oc",
                      lambda row: None, lambda row: " ".join(tag[:4] for tag in row.hardware), "Cost")  # fmt: skip
    return [*found, *_COSTS, hardware]
