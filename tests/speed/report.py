"""`ftbench report` on 2,000 synthetic records with run files of full size, in a process of its own: seconds and memory.

Also how its time is split: reading records, reading run files with intervals and rank groups, making and writing pages.
The records are made first (four minutes), or kept: --keep DIR. For a quick look: python tests/speed/report.py --records
200 --queries 200
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import Figures

ROOT = Path(__file__).resolve().parents[2]
SECONDS, MEMORY_BYTES, PAGE_BYTES = 10.0, 1e9, 3e6

# Told apart in a second process: the first is as a person runs it.
PARTS = """
import sys, time
from pathlib import Path
from ftbench.report import aggregate, quiet, site
results, folder = map(Path, sys.argv[1:])
start = time.perf_counter()
entries = aggregate.load(results)
loaded = time.perf_counter()
tables = aggregate.tables(entries)
tabled = time.perf_counter()
site.load, site.tables = lambda *_: entries, lambda *_: tables
site.render(results, folder, quiet, quiet)
print(loaded - start, tabled - loaded, time.perf_counter() - tabled)
"""


def timed(*words: str) -> tuple[float, float]:
    """Run Python to its end: its seconds, its start included, and its peak resident memory in bytes."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)} ended with exit code {process.returncode}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # kilobytes on Linux


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=2000, help="queries, and items, of each run")
    parser.add_argument("--keep", type=Path, help="make the records in this folder, or take those that are there")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    import synthetic

    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        results = options.keep or Path(folder) / "results"
        if not results.exists():
            synthetic.many(results, options.records, options.queries, options.queries)
        size = sum(path.stat().st_size for path in results.rglob("*") if path.is_file())
        figures.say(f"{len(list(results.glob('*/*/*.json'))):,} records, {size / 1e6:,.0f} MB")
        pages = Path(folder) / "site"
        seconds, memory = timed("-m", "ftbench", "report", "--results", str(results), "--site", str(pages))
        figures.most("ftbench report", seconds, SECONDS, " s")
        figures.most("its peak memory", memory / 1e9, MEMORY_BYTES / 1e9, " GB")
        figures.most("index.html", (pages / "index.html").stat().st_size / 1e6, PAGE_BYTES / 1e6, " MB")
        parts = subprocess.run([sys.executable, "-c", PARTS, str(results), str(Path(folder) / "again")], cwd=ROOT,
                               capture_output=True, text=True, check=True).stdout.split()[-3:]  # fmt: skip
        for name, part in zip(("records", "run files, intervals and rank groups", "pages"), parts, strict=True):
            figures.say(f"{name}: {float(part):.2f} s")
    figures.end()


if __name__ == "__main__":
    main()
