"""`ftbench report` on 2,000 synthetic records with run files of full size, in a process of its own: seconds and memory.

Also how its time is split: reading records, reading run files with intervals and rank groups, making and writing pages.
The records are made first (four minutes), or kept: --keep DIR. For a quick look: python tests/speed/report.py --records
200 --queries 200
"""

import argparse
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


def timed(*words: str) -> float:
    """Run Python to its end: its seconds, its start included."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def peak_memory(*words: str) -> float:
    """Run Python to its end: the most bytes that it and the processes it starts have at a time, what they share once.

    Looked at twenty times a second, which takes time: so in a run of its own. Linux alone.
    """
    process, most = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL), 0
    while process.poll() is None:
        most = max(most, sum(map(_proportional, _family(process.pid))))
        time.sleep(0.05)
    if process.returncode:
        sys.exit(f"{' '.join(words)} ended with exit code {process.returncode}")
    return most


def _family(pid: int) -> list[int]:
    """A process and those it started."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return [pid]
    return [pid, *(each for child in text.split() for each in _family(int(child)))]


def _proportional(pid: int) -> int:
    """Bytes of a process, each page divided by how many processes share it."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


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
        report = ("-m", "ftbench", "report", "--results", str(results), "--site")
        figures.most("ftbench report", timed(*report, str(pages)), SECONDS, " s")
        memory = peak_memory(*report, str(Path(folder) / "watched"))
        figures.most("its peak memory, all its processes", memory / 1e9, MEMORY_BYTES / 1e9, " GB")
        figures.most("index.html", (pages / "index.html").stat().st_size / 1e6, PAGE_BYTES / 1e6, " MB")
        parts = subprocess.run([sys.executable, "-c", PARTS, str(results), str(Path(folder) / "again")], cwd=ROOT,
                               capture_output=True, text=True, check=True).stdout.split()[-3:]  # fmt: skip
        for name, part in zip(("records", "run files, intervals and rank groups", "pages"), parts, strict=True):
            figures.say(f"{name}: {float(part):.2f} s")
    figures.end()


if __name__ == "__main__":
    main()
