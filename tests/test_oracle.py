"""What the oracle reads of an item: its primary views, its images, its texts, or all; its scores against loops."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

from ftbench.errors import FtbenchError
from ftbench.method import load_method


@pytest.mark.parametrize(
    ("reads", "known"),
    [("primary", {"kind", "colour"}), ("images", {"kind", "back"}), ("texts", {"colour", "use"}),
     ("all", {"kind", "back", "colour", "use"})],
)  # fmt: skip
def test_it_reads_what_its_setting_says(reads, known):
    """Primary image: kind; the other: back. Title: colour; description: use."""
    latents = {"kind": "cup", "back": "dots", "colour": "red", "use": "tea"}
    assets = SimpleNamespace(image_reveals=(("kind",), ("back",)), text_reveals=(("colour",), ("use",)))

    class Item(SimpleNamespace):
        def __len__(self):
            return 1

    item = Item(assets=assets, images=np.array([[0, 1]]), texts=np.array([[0, 1]]), latents=(latents,))
    method = load_method("oracle", {"reads": reads})
    found = {name for name in latents if method._codes(name, {latents[name]: 0}, item, method.config.reads)[0] == 0}
    assert found == known


VALUES = {"kind": ["bag", "cup"], "colour": ["blue", "red", "teal"], "use": ["tea", "wine"]}


def _views(latents, shown, query=False):
    """Rows with a text each, that reveals some attributes."""
    rows = np.arange(len(latents))[:, None]
    assets = SimpleNamespace(text_reveals=tuple(map(tuple, shown)), text_names=("query" if query else "title",))

    class Rows(SimpleNamespace):
        def __len__(self):
            return len(latents)

    return Rows(assets=assets, images=np.full_like(rows, -1), texts=rows, latents=tuple(latents))


GALLERY = [dict(zip(VALUES, row, strict=True)) for row in itertools.product(*VALUES.values())]
PATTERNS = list(itertools.product((True, False), repeat=3))
SHOWN = [list(itertools.compress(VALUES, PATTERNS[i % len(PATTERNS)])) for i in range(len(GALLERY))]


def _expected_gain(asked, latents, shown):
    """3 where the item is all that is asked, 1 where it is all but one of three or more: over all that it may be."""
    hidden = [name for name in VALUES if name not in shown]
    gains = []
    for values in itertools.product(*(VALUES[name] for name in hidden)):
        item = {name: latents[name] for name in shown} | dict(zip(hidden, values, strict=True))
        met = sum(item[name] == value for name, value in asked.items())
        gains.append(3 if met == len(asked) else 1 if met == len(asked) - 1 and len(asked) >= 3 else 0)
    return sum(gains) / len(gains)


def test_a_query_ranks_by_the_gain_expected_over_what_no_view_shows():
    asked = [{"kind": "cup"}, {"kind": "cup", "use": "tea"}, {"kind": "bag", "colour": "red", "use": "wine"}]
    probes = _views(asked, [list(own) for own in asked], query=True)
    found = load_method("oracle").score(probes, _views(GALLERY, SHOWN))
    expected = [[_expected_gain(own, *item) for item in zip(GALLERY, SHOWN, strict=True)] for own in asked]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_view_ranks_by_the_likelihood_that_the_item_is_its_own():
    probe = {"kind": "cup", "colour": "red", "use": "tea"}
    found = load_method("oracle").score(_views([probe], [["kind", "colour"]]), _views(GALLERY, SHOWN))[0]
    for value, latents, shown in zip(found, GALLERY, SHOWN, strict=True):
        both = [name for name in ("kind", "colour") if name in shown]
        if all(latents[name] == probe[name] for name in both):
            assert value == pytest.approx(sum(math.log(len(VALUES[name])) for name in both), abs=1e-6)
        else:
            assert value < -900


def test_another_reading_is_refused():
    with pytest.raises(FtbenchError, match="one of primary, images, texts, all"):
        load_method("oracle", {"reads": "titles"})
