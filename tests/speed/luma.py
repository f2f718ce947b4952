"""A real store from its export to a board, as subprocesses: `ftbench data prepare magento-luma`, then methods on it.

The cache is a new folder, so photographs are read and embeddings made anew. The board is that of one seed: the default
methods on query2item and cross_view, encoder `lite`, two threads. Needs the store's folder, as the tests of it do
(FTBENCH_MAGENTO_LUMA); without it, nothing is measured. The first part alone: python tests/speed/luma.py --prepare
"""

import argparse
import json
import os
import tempfile
from collections import Counter
from pathlib import Path

from figures import Figures
from run import ftbench

from ftbench.sources.magento_luma import luma_folder

PREPARE_SECONDS, BOARD_SECONDS, THREADS = 60, 600, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true", help="leave the board out")
    options = parser.parse_args()
    figures = Figures()
    if luma_folder(None) is None:
        figures.say("not measured: the store's folder is not here; name it in FTBENCH_MAGENTO_LUMA")
        figures.end()
    os.environ |= {f"{library}_NUM_THREADS": str(THREADS) for library in ("OMP", "OPENBLAS", "MKL")}
    figures.say(f"{os.cpu_count()} cores, {THREADS} threads; load of the machine before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        cache, results = Path(folder) / "cache", Path(folder) / "results"
        seconds, peak = ftbench("data", "prepare", "magento-luma", cache=cache)
        figures.most("ftbench data prepare magento-luma", seconds, PREPARE_SECONDS, " s")
        figures.say(f"its peak memory: {peak / 1e9:.2f} GB")
        if not options.prepare:
            words = ["--task", "query2item", "--task", "cross_view", "--data", "magento-luma", "--encoder", "lite"]
            words = ["run", "--method", "default", *words, "--seed", "0", "--results", str(results)]
            seconds, peak = ftbench(*words, cache=cache)
            records = [json.loads(path.read_text(encoding="utf-8")) for path in results.rglob("*.json")]
            made = Counter((record["task"]["name"], record["status"]) for record in records)
            figures.most("a board of all default methods, encoder lite", seconds, BOARD_SECONDS, " s")
            figures.say(f"its peak memory: {peak / 1e9:.2f} GB; records: "
                        + ", ".join(f"{n} {task} {status}" for (task, status), n in sorted(made.items())))  # fmt: skip
            figures.most("its records that are not ok", sum(record["status"] != "ok" for record in records), 0)
    figures.end()


if __name__ == "__main__":
    main()
