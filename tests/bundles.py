"""Bundles that no data set made: they fit the results folders of `synthetic`."""

from dataclasses import replace

import numpy as np
import synthetic

from ftbench import bundle
from ftbench.bundle import Asked, Bundle, Picture, Shown, Words
from ftbench.items import Query
from ftbench.report import gallery, quiet, site


def strip(count, shade=0):
    """Pictures of one colour each, so that a test can tell which is which."""
    pixels = [np.full((48, 48, 3), (20 * k, shade, 100), dtype=np.uint8) for k in range(count)]
    return bundle._strip(pixels, photographs=False)


def shown(name, motif="star", pictures=("main", "back", "back2", "detail")):
    """An item whose back alone shows its motif, and whose tags alone tell its occasion."""
    reveals = {"back": ("motif",), "back2": ("motif",), "detail": ("closure",), "main": ("kind",)}
    return Shown(
        {"kind": "hat", "motif": motif, "closure": "zip", "occasion": "party"},
        tuple(Picture(p, reveals[p]) for p in pictures),
        (Words("title", f"seller's {name}"), Words("tags", "for parties", ("occasion",))),
        strip(len(pictures), len(name) * 7 % 255),
    )


def made_for(results, **about):
    """A bundle that fits a results folder of `synthetic`: its queries, and the items that its runs retrieve."""
    board = site.gather(results, quiet)
    table = gallery._table_of(board.tables, "studio")
    ranked = [ranking for _, ranking in gallery.rankings(table)]
    queries = [Query(q, f"text of {q}", "test", (synthetic.SLICES[i % 3],)) for i, q in enumerate(table.units)]
    chosen = bundle.sample(queries, 9)
    tops = [bundle.top(ranking, {q.query_id for q in chosen}) for ranking in ranked]
    items = {item for found in tops for row in found.values() for item, _ in row}
    asked = [Asked(q.query_id, q.text, q.slices, {"kind": "hat", "motif": "star", "occasion": "party"}, min(items))
             for q in chosen]  # fmt: skip
    made = Bundle(
        {"name": "studio", "version": "studio-v1", "fingerprint": synthetic.sha("studio"), "licence": "Apache-2.0"},
        bundle.RULE, tuple(asked),
        {item: shown(item, "moon" if item[-1] in "02468" else "star") for item in sorted(items)},
        {q.query_id: q.text for q in queries},
    )  # fmt: skip
    return replace(made, **about)
