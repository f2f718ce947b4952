"""A loader and the store at the size of a large category: 1,000,000 Amazon listings that name 4,000,000 images.

Files in the published schemas are made in a temporary folder (tests/amazon_files.py), without photographs. One process
then prepares them as `ftbench data prepare` would: the whole category, no images, one thread. Measured in that process:

parsed   items / the CPU seconds of reading, decoding and parsing both of their rows: the loader makes two passes, one
         for the ids and photographs that settle groups and splits, one for texts. At least 20,000 per second
given    items / the CPU seconds until the loader has handed all of them over: parsing, and settling groups and splits.
         Nothing of the store counts here, nothing of the reviews
written  items / all seconds of `prepare`, by the clock: parsing, reviews, hashing texts and files, Arrow
memory   the process's peak resident memory, Python and its libraries included

JSON lines at full size, the Parquet form at a fifth. For a quick look: python tests/speed/loaders.py --items 20000
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import Figures, peak_memory

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import amazon_files  # noqa: E402 (lies beside this folder)

ITEMS, IMAGES_PER_ITEM, PARQUET_SHARE = 1_000_000, 4, 5
LEAST_PARSED, MOST_BYTES = 20_000, 2e9


class Timed:
    """A source, and the CPU seconds spent in it."""

    def __init__(self, source):
        self.source, self.item_seconds, self.query_seconds = source, 0.0, 0.0

    def __getattr__(self, name: str):
        return getattr(self.source, name)

    def items(self, progress):
        items = iter(self.source.items(progress))
        while True:
            started = time.process_time()
            item = next(items, None)
            self.item_seconds += time.process_time() - started
            if item is None:
                return
            yield item

    def queries(self):
        started = time.process_time()
        found = self.source.queries()
        self.query_seconds = time.process_time() - started
        return found


def prepare_and_tell(folder: Path) -> None:
    """What the measured process does: prepare the files of `folder`; prints seconds, counts and memory as JSON."""
    from ftbench.items import silent
    from ftbench.sources import amazon_reviews, amazon_rows
    from ftbench.sources.rows import Tally
    from ftbench.store import prepare

    category = amazon_files.CATEGORY
    source = Timed(
        amazon_reviews.AmazonReviews(category, None, folder, f"amazon-reviews@{category}", with_images=False)
    )
    started = time.perf_counter()
    catalogue = prepare(source, silent, folder / "cache")
    seconds = time.perf_counter() - started
    size = sum(file["bytes"] for file in catalogue.manifest["files"].values())
    started = time.process_time()
    paths = amazon_reviews.raw_files(folder, category, amazon_reviews._META, silent)
    columns = [name for name in amazon_rows.ITEM_COLUMNS if name != "images"]  # what the second pass reads here
    for row in amazon_reviews.raw_rows(paths, amazon_rows.HEAD_COLUMNS, Tally()):
        amazon_rows.parse_head(row)
    for row in amazon_reviews.raw_rows(paths, columns, Tally()):
        amazon_rows.parse_item(row, category)
    parse_seconds = time.process_time() - started
    print(json.dumps({"seconds": seconds, "item_seconds": source.item_seconds, "query_seconds": source.query_seconds,
                      "parse_seconds": parse_seconds,
                      "rows": catalogue.manifest["rows"], "counts": catalogue.manifest["counts"], "bytes": size,
                      "memory": peak_memory()}))  # fmt: skip


def measure(figures: Figures, form: str, items: int) -> None:
    """Make the files, prepare them in a process of one thread, state its figures."""
    with tempfile.TemporaryDirectory() as name:
        folder, images = Path(name), items * IMAGES_PER_ITEM
        started = time.perf_counter()
        amazon_files.write_synthetic(folder, items, images, items, form)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        figures.say(f"{form}: {items:,} items with {images:,} image rows and {items:,} reviews, {size / 1e9:.2f} GB, "
                    f"made in {time.perf_counter() - started:.0f} s")  # fmt: skip
        threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "ARROW_IO")}
        command = [sys.executable, __file__, "--prepare", name]
        ran = subprocess.run(command, env=os.environ | threads, stdout=subprocess.PIPE, text=True)
        if ran.returncode:
            sys.exit(f"preparing the {form} form ended with exit code {ran.returncode}")
    told = json.loads(ran.stdout)
    assert told["rows"]["items"]["read"] == told["counts"]["items"] == items
    items_s, reviews_s, seconds = told["item_seconds"], told["query_seconds"], told["seconds"]
    figures.least(f"{form}: items parsed per CPU second", items / told["parse_seconds"], LEAST_PARSED)
    figures.most(f"{form}: peak memory of prepare", told["memory"] / 1e9, MOST_BYTES / 1e9, " GB")
    figures.say(f"{form}: items given per CPU second, groups and splits settled: {items / items_s:,.0f}")
    figures.say(f"{form}: reviews parsed per CPU second: {items / reviews_s:,.0f}, of which "
                f"{told['counts']['queries']:,} queries were made")  # fmt: skip
    figures.say(f"{form}: whole prepare {seconds:.1f} s for {told['bytes'] / 1e9:.2f} GB of catalogue: "
                f"{items / seconds:,.0f} items per second, writing and hashing included")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        return prepare_and_tell(options.prepare)
    figures = Figures()
    measure(figures, "jsonl", options.items)
    measure(figures, "parquet", max(1, options.items // PARQUET_SHARE))
    figures.end()


if __name__ == "__main__":
    main()
