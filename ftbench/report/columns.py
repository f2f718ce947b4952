"""What the columns of a table are, and which of its views shows each. Must not know HTML."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ftbench.report import words
from ftbench.report.aggregate import Row, Table

VIEWS = (("overview", "Overview"), ("measures", "Measures"), ("cost", "Cost"))


@dataclass(frozen=True)
class Cost:
    """A column of cost. views: names of VIEWS that show it; kind: "number", "count" or "size", how it is written;
    training: where it is zero nothing was trained, and a dash is shown."""

    name: str
    title: str
    help: str
    views: tuple[str, ...]
    kind: str
    of: Callable[[Mapping], float | None]
    training: bool = False

    def value(self, row: Row) -> float | None:
        """The median over the row's seeds, as `Row.cost` has it."""
        return self.of(row.cost)

    def text(self, value: float | None) -> str:
        return {"size": words.size, "count": words.number, "number": words.amount}[self.kind](value)

    def shown(self, row: Row) -> str:
        """A row's cell."""
        value = self.value(row)
        return self.text(None if self.training and not value else value)


def passes_per_item(cost: Mapping) -> float | None:
    """Encoder passes per training item, images and texts together; None unless both are known."""
    images, texts = cost["image_passes_per_item"], cost["text_passes_per_item"]
    return None if images is None or texts is None else images + texts


def _field(
    name: str, title: str, help_: str, views: str = "cost", kind: str = "number", training: bool = False
) -> Cost:
    return Cost(name, title, help_, tuple(views.split()), kind, lambda cost: cost[name], training)


COSTS = (
    Cost("passes_per_item", "passes / item", "Encoder passes in training per training item, images and texts",
         ("overview",), "number", passes_per_item),
    _field("train_seconds", "train s", "Seconds of training, median over seeds", "overview cost", training=True),
    _field("index_bytes_per_item", "index / item", "Bytes of the search index per item", "overview cost", "size"),
    _field("search_p95_ms", "p95 ms", "Milliseconds per query of flat search, 95th percentile", "overview cost"),
    _field("forward_equivalents", "fwd-equiv.",
           "Training in forward-equivalents of the image tower: a training pass counts 3", training=True),
    _field("steps", "steps", "Optimiser steps", kind="count", training=True),
    _field("image_passes_per_item", "image / item", "Image passes in training per training item"),
    _field("text_passes_per_item", "text / item", "Text passes in training per training item"),
    _field("embed_seconds", "embed s", "Seconds to embed probes and gallery"),
    _field("total_seconds", "total s", "Seconds of the whole run"),
    _field("search_p50_ms", "p50 ms", "Milliseconds per query of flat search, median"),
    _field("peak_memory_bytes", "memory", "Most memory that the process held", kind="size"),
)  # fmt: skip
HARDWARE_HELP = "First letters of the machine's fingerprint; times compare within one machine"
COST_GAP = (
    f"{words.GAP} in a cost: the row has none (it trains nothing, encodes nothing or searches no vectors), or it was "
    "not measured."
)


@dataclass(frozen=True)
class Part:
    """A part of a table's queries that has scores of its own: a slice, or a pair of views."""

    name: str
    title: str
    field: str  # of a record: "slices" or "pairs"


def parts(table: Table) -> list[Part]:
    """The pairs of a table and the slices of its rows, in the order of the records."""
    pairs = [Part(pair["name"], pair["title"], "pairs") for pair in table.task["pairs"]]
    slices = dict.fromkeys(name for row in table.all_rows for name in row.slices)
    return [*pairs, *(Part(name, words.spaced(name), "slices") for name in slices)]
