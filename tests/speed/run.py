"""A newcomer's waits, as subprocesses: rendering the default studio, one run on it, and `ftbench --help`.

The catalogue goes into a temporary folder, so it is rendered anew; the run then finds it prepared. For a quick look:
python tests/speed/run.py --data studio@200 --budget 3000
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from figures import Figures

ROOT = Path(__file__).resolve().parents[2]
RENDER_SECONDS, RUN_SECONDS, RUN_BYTES, HELP_SECONDS, HELP_TIMES = 90, 90, 3e9, 0.5, 5


def ftbench(*words: str, cache: Path) -> tuple[float, float]:
    """Run a command to its end: its seconds, start of Python included, and its peak resident memory in bytes."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "ftbench", *words],
        cwd=ROOT,
        env=os.environ | {"FTBENCH_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)  # of this one process and its children
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"ftbench {' '.join(words)} ended with exit code {process.returncode}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # kilobytes on Linux


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="studio")
    parser.add_argument("--budget", help="trainer.budget of the run, where not the default")
    options = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        times = [ftbench("--help", cache=cache)[0] for _ in range(HELP_TIMES)]
        figures.most(f"ftbench --help, median of {HELP_TIMES}", float(np.median(times)), HELP_SECONDS, " s")

        seconds, _ = ftbench("data", "prepare", options.data, cache=cache)
        figures.most(f"ftbench data prepare {options.data}", seconds, RENDER_SECONDS, " s")

        words = ["run", "--method", "factorized_transport", "--task", "query2item", "--data", options.data]
        words += ["--seed", "0", "--force", "--results", str(Path(folder) / "results")]
        words += ["--set", f"trainer.budget={options.budget}"] if options.budget else []
        seconds, peak = ftbench(*words, cache=cache)
        figures.most("ftbench run --method factorized_transport --task query2item", seconds, RUN_SECONDS, " s")
        figures.most("its peak memory", peak / 1e9, RUN_BYTES / 1e9, " GB")
    figures.end()


if __name__ == "__main__":
    main()
