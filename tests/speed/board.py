"""The board page of 2,000 synthetic records: its size; in headless Chromium its first paint, sorting and filtering.

First paint is what the browser reports; an action lasts from the reader's event to the frame that shows its outcome.
The records are made first (a minute). For a quick look: python tests/speed/board.py --records 200
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from figures import Figures

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import synthetic

from ftbench.report import render

PAGE_BYTES, PAINT_SECONDS, ACTION_SECONDS, TIMES = 3e6, 1.0, 0.1, 9
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
# The median and the longest time of an action, in ms: from its event until the frame after the one it is drawn in.
MEASURE = """async ([action, times]) => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const run = new Function("i", action);
  const found = [];
  for (let i = 0; i < times; i += 1) {
    await frame();
    const started = performance.now();
    run(i);
    await frame();
    found.push(performance.now() - started);
  }
  return found.sort((a, b) => a - b);
}"""
ACTIONS = {
    "sorting by a column": "document.querySelectorAll('.scores thead button')[i % 6].click()",
    "a letter in the search box": "controls.find.value = 'mean pooling'.slice(0, i + 1);"
    "controls.find.dispatchEvent(new Event('input', { bubbles: true }))",
    "filtering by track": "change({ track: i % 2 ? 'supervised' : '' })",
    "another measure": "change({ measure: i % 2 ? '' : 'rr@10' })",
    "another table": "change({ table: data.tables[i % data.tables.length].key })",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--results", type=Path, help="a folder of records, in place of synthetic ones")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    figures = Figures()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        results = options.results or synthetic.many(Path(folder) / "results", options.records)
        page = render(results, Path(folder) / "site")
        figures.most("index.html", page.stat().st_size / 1e6, PAGE_BYTES / 1e6, " MB")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        paints = []
        for _ in range(5):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.goto(page.as_uri())
            tab.wait_for_function(PAINT)
            paints.append(tab.evaluate(PAINT) / 1000)
            tab.close()
        figures.most("first paint, longest of 5", max(paints), PAINT_SECONDS, " s")
        for width in (1280, 390):
            tab = browser.new_page(viewport={"width": width, "height": 900})
            tab.goto(page.as_uri())
            tab.evaluate("change({ table: data.tables.reduce((a, b) => (a.rows.length < b.rows.length ? b : a)).key })")
            for name, action in ACTIONS.items():
                taken = tab.evaluate(MEASURE, [action, TIMES])
                figures.most(f"{name} at {width} pixels, longest of {TIMES}", taken[-1] / 1000, ACTION_SECONDS, " s")
            tab.close()
        browser.close()
    figures.end()


if __name__ == "__main__":
    main()
