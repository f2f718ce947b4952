"""Opening a catalogue of 1,000,000 items, in the studio's tables: at once, in memory that hardly grows with it.

Nothing is drawn, which would take hours: 2,048 items with 8 tiny raw images (4 x 4 pixels) and 3 texts each go through
`prepare`, and their rows are repeated with new numbers and ids, in batches of the same sizes, until there are enough.
Measured in fresh processes, after Python and the libraries have been imported:

opening  `open_catalogue`, then the first item's id, its first image's pixels and its first text
memory   what the process itself holds more than before, pages of the mapped files not counted: those are the system's.
         At most 100 bytes per item, where 8 studio images have 55,296: Arrow keeps some kB for each batch of rows
using    `rows("test")` and `view_ids` of both kinds, each once: two seconds at most together; one item's views

For a quick look: python tests/speed/catalogue.py --items 100000
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from figures import Figures, own_memory, peak_memory

ITEMS, SMALLER, REPEATED, IMAGES, TEXTS = 1_000_000, 10, 2_048, 8, 3
MOST_SECONDS, MOST_GROWTH, MOST_USING = 1.0, 100e6, 2.0
NAME = "tiny"


class Tiny:
    """Some items as the studio's are: raw images, three texts, queries for each split."""

    def __init__(self):
        from ftbench.items import SourceInfo

        self.info = SourceInfo(NAME, f"{NAME}-v1", "Tiny", "Apache-2.0", True, "Random pixels, repeated.", False)
        self.dropped = {}

    def items(self, progress):
        from ftbench.items import Item, View

        rng = np.random.default_rng(0)
        for i in range(REPEATED):
            pixels = rng.integers(0, 256, (IMAGES, 4, 4, 3), dtype=np.uint8)
            views = [View("image", f"v{m}", "auxiliary" if m else "primary", p) for m, p in enumerate(pixels)]
            views += [View("text", name, "auxiliary" if m else "primary", f"{name} of a lamp, number {i}")
                      for m, name in enumerate(("title", "description", "tags"))]  # fmt: skip
            yield Item(f"item{i:04d}", f"item{i:04d}", ("train", "train", "valid", "test")[i % 4], "lamp", tuple(views))

    def queries(self):
        from ftbench.items import Judgement, Queries, Query

        return Queries((Query("q", "a lamp", "test"),), (Judgement("q", "item0003", 1.0),))


def enlarge(folder: Path, cache: Path, times: int) -> int:
    """Write a catalogue of `times` times the rows of the one in `folder`; returns its bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from ftbench.catalogue import TABLES, file_sha256, note_hashed

    target = cache / "data" / NAME
    target.mkdir(parents=True)
    sizes = {"item": REPEATED, "images": REPEATED * IMAGES, "texts": REPEATED * TEXTS}

    def column(name: str, values: pa.Array, number: int) -> pa.Array:
        """A column of repetition `number`: ids with the number, numbers of rows moved on."""
        if name in ("item_id", "group"):
            return pc.binary_join_element_wise(values, pa.array([f"-{number}"] * len(values)), "")
        if name == "item":
            return pc.add(values, pa.scalar(number * sizes[name], values.type))
        if name in sizes:  # lists of numbers of assets
            moved = pc.add(values.values, pa.scalar(number * sizes[name], values.type.value_type))
            return pa.ListArray.from_arrays(values.offsets, moved, type=values.type)
        return values

    for name in TABLES:
        table = pa.ipc.open_stream(pa.memory_map(str(folder / f"{name}.arrow"))).read_all()
        with pa.OSFile(str(target / f"{name}.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
            for number in range(times if name in ("items", "images", "texts") else 1):
                for batch in table.to_batches():
                    columns = [column(n, batch.column(n), number) for n in batch.schema.names]
                    out.write_batch(pa.RecordBatch.from_arrays(columns, schema=batch.schema))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {file: target / file for file in manifest["files"]}
    manifest["files"] = {n: {"bytes": p.stat().st_size, "sha256": file_sha256(p)} for n, p in files.items()}
    (target / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    note_hashed(target, files)  # as `prepare` leaves it
    return sum(path.stat().st_size for path in files.values())


def open_and_tell(cache: Path) -> None:
    """What a measured process does: open the catalogue, look at it, print seconds and memory as JSON."""
    import pyarrow.compute  # noqa: F401 (so that its import is not measured)

    from ftbench.catalogue import open_catalogue

    told: dict[str, float] = {"before": own_memory()}

    def timed(name, work):
        started = time.perf_counter()
        result = work()
        told[name] = time.perf_counter() - started
        return result

    def first():
        catalogue = open_catalogue(NAME, cache)
        assets = catalogue.assets
        assert catalogue.item_ids[0] == "item0000-0" and assets.texts[0] == "title of a lamp, number 0"
        assert assets.pixels([0])[0].shape == (4, 4, 3)
        return catalogue

    catalogue = timed("opening", first)
    told["opened"], told["peak"] = own_memory(), peak_memory()
    rows = timed("rows", lambda: catalogue.rows("test"))
    images = timed("image ids", lambda: catalogue.view_ids("image"))
    texts = timed("text ids", lambda: catalogue.view_ids("text"))
    row = rows[int(0.7 * len(rows))]

    def views():
        return catalogue.assets.pixels(images[row]), [catalogue.assets.texts[i] for i in texts[row]]

    assert timed("one item's views", views)[1][0].endswith(f"number {row % REPEATED}")
    assert len(images) == len(texts) == len(catalogue.item_ids) and 4 * len(rows) == len(images)
    print(json.dumps(told))


def measure(figures: Figures, folder: Path, times: int) -> dict[str, float]:
    """Seconds and bytes of a fresh process that opens a catalogue of so many repetitions."""
    with tempfile.TemporaryDirectory() as name:
        started = time.perf_counter()
        size = enlarge(folder, Path(name), times)
        items = times * REPEATED
        figures.say(f"{items:,} items, {items * IMAGES:,} images: {size / 1e9:.2f} GB, written in "
                    f"{time.perf_counter() - started:.0f} s")  # fmt: skip
        ran = subprocess.run([sys.executable, __file__, "--open", name], stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        sys.exit(f"opening the catalogue ended with exit code {ran.returncode}")
    return json.loads(ran.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        return open_and_tell(options.open)
    from ftbench.items import silent
    from ftbench.store import prepare

    figures, times = Figures(), -(-options.items // REPEATED)
    with tempfile.TemporaryDirectory() as name:
        folder = prepare(Tiny(), silent, Path(name)).folder
        small, large = (measure(figures, folder, n) for n in (-(-times // SMALLER), times))
    figures.most("opening a million items, with the first image and text", large["opening"], MOST_SECONDS, " s")
    figures.say(f"a tenth of them: {small['opening']:.3f} s")
    grown = [told["opened"] - told["before"] for told in (small, large)]
    figures.most("memory that opening takes, files' pages apart", grown[1] / 1e6, MOST_GROWTH / 1e6, " MB")
    figures.say(f"a tenth of them: {grown[0] / 1e6:.1f} MB; peak of the whole process with mapped pages, libraries "
                f"included: {small['peak'] / 1e6:.0f} MB, {large['peak'] / 1e6:.0f} MB")  # fmt: skip
    for name in ("rows", "image ids", "text ids", "one item's views"):
        figures.say(f"{name}: {1000 * large[name]:.1f} ms, of a tenth of the items {1000 * small[name]:.1f} ms")
    using = sum(large[name] for name in ("rows", "image ids", "text ids"))
    figures.most("rows of a split and view ids of all items", using, MOST_USING, " s")
    figures.end()


if __name__ == "__main__":
    main()
