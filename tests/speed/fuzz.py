"""Every loader fed with 10,000 cases per property: mutated rows, encodings, nesting, huge fields.

Runs the loaders' hypothesis tests with FTBENCH_FUZZ=10000, one process per loader: none may crash, and the rows read
must be rows kept, merged or dropped with a reason. A line per loader says how many cases passed, as hypothesis counts
them, and in how many seconds. For a quick look, or one loader alone: python tests/speed/fuzz.py --cases 200 abo
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from figures import Figures

ROOT = Path(__file__).resolve().parents[2]
CASES = 10_000
# loader: the file of its tests, and what the names of its fuzz tests have in common
TESTS = {
    "amazon_reviews": ("test_amazon_reviews_fuzz.py", "test"),
    "amazon_c4": ("test_amazon_c4.py", "test_any_"),
    "amazon_esci": ("test_amazon_esci.py", "test_any_"),
    "abo": ("test_abo.py", "is_lost or of_any_bytes"),
    "marqo_gs": ("test_marqo_gs.py", "test_any_"),
    "shopify": ("test_shopify.py", "is_lost or of_any_bytes"),
    "folder": ("test_folder.py", "row_is_lost"),
    "magento": ("test_magento_fuzz.py", "test"),
    "tables": ("test_tables.py", "test_any_bytes"),  # what the loaders read files with
}


def fuzz(loader: str, cases: int) -> tuple[list[int], float, str]:
    """Cases passed by each property, seconds, and what pytest said where one failed ("" otherwise)."""
    file, names = TESTS[loader]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-show-statistics",
               f"tests/{file}", "-k", names]  # fmt: skip
    started = time.perf_counter()
    ran = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"FTBENCH_FUZZ": str(cases)}, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    said = re.split(r"(?m)^tests/\S+::(?=\w+:$)", ran.stdout)[1:]  # the statistics of each property
    passed = [sum(map(int, re.findall(r"(\d+) passing", property))) for property in said]
    return passed, seconds, (ran.stdout + ran.stderr)[-3000:] if ran.returncode else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loaders", nargs="*", metavar="LOADER", help=f"some of {', '.join(TESTS)}; all where none is")
    parser.add_argument("--cases", type=int, default=CASES)
    options = parser.parse_args()
    if unknown := set(options.loaders) - TESTS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(TESTS)}")
    figures = Figures()
    for loader in options.loaders or TESTS:
        passed, seconds, problem = fuzz(loader, options.cases)
        counts = " + ".join(f"{count:,}" for count in passed)
        name = f"{loader}: {counts} cases in {seconds:.0f} s; fewest of a property"
        figures.least(name, 0 if problem or not passed else min(passed), options.cases)
        if problem:
            print(problem)
    figures.end()


if __name__ == "__main__":
    main()
