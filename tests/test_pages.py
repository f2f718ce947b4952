"""Every kind of page of the committed site: valid HTML, no serious accessibility finding, no network; and made anew,
the same bytes."""

import warnings
from pathlib import Path

import pytest

from ftbench.report import render

ROOT = Path(__file__).parent.parent
SITE = ROOT / "site"
KINDS = ("index.html", "compare.html", "gallery.html", "data.html", "data/studio.html", "methods.html", "cite.html")


def one_of_each():
    """A page of each kind; of the run pages, that of a trained method and one with the fewest facts."""
    runs = sorted(path.relative_to(SITE).as_posix() for path in (SITE / "runs").glob("*.html"))
    trained = next(name for name in runs if "/factorized_transport-" in name)
    return (*KINDS, trained, next(name for name in runs if "/random-" in name))


def test_the_committed_site_is_what_the_committed_records_render(tmp_path):
    render(ROOT / "results", tmp_path / "site")

    def files(folder):
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    made, committed = files(tmp_path / "site"), files(SITE)
    assert made == committed
    # matplotlib draws letters by the version and the fonts of the machine: the board's figures are looked at elsewhere
    compared = sorted(name for name in made if not name.startswith("figures/"))
    assert [name for name in compared if (tmp_path / "site" / name).read_bytes() != (SITE / name).read_bytes()] == []


@pytest.mark.parametrize("name", one_of_each())
def test_html_is_valid(name):
    html5lib = pytest.importorskip("html5lib")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        html5lib.HTMLParser(strict=True).parse((SITE / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", one_of_each())
def test_no_serious_accessibility_finding_no_noise_no_network(browser, name, scheme):
    axe = pytest.importorskip("axe_playwright_python")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    tab, noise, asked = context.new_page(), [], []
    tab.on("console", lambda message: noise.append(message.text))
    tab.on("pageerror", lambda error: noise.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((SITE / name).as_uri())
    assert noise == [] and all(url.startswith("file:") for url in asked)
    tab.evaluate(script)
    found = tab.evaluate("axe.run({preload: false})")["violations"]
    context.close()
    assert [(v["impact"], v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] != "minor"] == []
