"""Variants of studio that studies ask for: views left out, views of another product, fewer queries."""

from collections import Counter

import numpy as np
import pytest

from ftbench.errors import FtbenchError
from ftbench.items import silent
from ftbench.sources.studio import Studio, parse_name
from ftbench.sources.studio_words import WORDS


def auxiliaries(source, count=500):
    """{(item, position among the auxiliary views of its kind): view}; the primary views stand apart."""
    found, primary = {}, {}
    for index in range(count):
        item = source.item(index)
        for view in item.views:
            (primary if view.role == "primary" else found).setdefault((index, view.kind), []).append(view)
    return found, primary


PLAIN = auxiliaries(Studio())


def total(found, kind):
    return sum(len(views) for (_, of), views in found.items() if of == kind)


@pytest.mark.parametrize("percent", [25, 50, 75])
@pytest.mark.parametrize("kind", ["image", "text"])
def test_the_stated_share_of_auxiliary_views_is_missing(percent, kind):
    found, primary = auxiliaries(Studio(missing=percent))
    share = 1 - total(found, kind) / total(PLAIN[0], kind)
    assert abs(share - percent / 100) < 0.04
    assert {key: len(views) for key, views in primary.items()} == {key: len(views) for key, views in PLAIN[1].items()}


@pytest.mark.parametrize("percent", [25, 50])
@pytest.mark.parametrize("kind", ["image", "text"])
def test_the_stated_share_of_auxiliary_views_is_of_another_product(percent, kind):
    found, primary = auxiliaries(Studio(wrong=percent))
    replaced, whole = 0, 0
    for key, views in PLAIN[0].items():
        if key[1] == kind:
            assert len(found[key]) == len(views)
            for before, after in zip(views, found[key], strict=True):
                whole += 1
                changed = not np.array_equal(before.content, after.content)
                replaced += changed
                assert (
                    (after.name, after.probe, after.reveals) == ("wrong", False, ())
                    if changed
                    else after.name == before.name
                )
    assert abs(replaced / whole - percent / 100) < 0.04
    for key, views in primary.items():
        assert all(np.array_equal(a.content, b.content) for a, b in zip(views, PLAIN[1][key], strict=True))


def test_a_wrong_text_names_attributes_that_are_mostly_not_the_items():
    source = Studio(wrong=100)
    owner = {word: (a, v) for a, values in WORDS.items() for v, (sellers, _) in values.items() for word in sellers}
    right, said = 0, 0
    for index in range(200):
        for view in source.item(index).views:
            if view.kind == "text" and view.role == "auxiliary":
                named = dict(owner[word] for word in view.content.split() if word in owner)
                said += len(named)
                right += sum(source.latent(index)[a] == v for a, v in named.items())
    assert said > 500 and right / said < 0.25


def test_a_larger_share_holds_a_smaller_one():
    few, many = ({(i, v.name) for i in range(100) for v in Studio(missing=p).item(i).views} for p in (25, 50))
    assert many < few
    few, many = (
        {(i, k) for i in range(100) for k, v in enumerate(Studio(wrong=p).item(i).views) if v.name == "wrong"}
        for p in (25, 50)
    )
    assert few < many


def test_the_drawing_of_what_stays_does_not_change():
    for index in range(30):
        whole = {v.name: v.content for v in Studio().item(index).views}
        for view in Studio(missing=50).item(index).views:
            assert np.array_equal(view.content, whole[view.name])


def test_queries_and_judgements_are_those_of_the_whole_catalogue():
    plain = parse_name("studio@200").queries()
    for name in ("studio@200-missing50", "studio@200-wrong50"):
        assert parse_name(name).queries() == plain


def test_at_most_so_many_queries_of_held_out_splits():
    plain, few = parse_name("studio@200"), parse_name("studio@200-queries10")
    assert few.sizes == plain.sizes
    found, whole = few.queries(), plain.queries()
    counts = Counter(query.split for query in found.queries)
    assert counts["test"] == 10 and counts["valid"] == 10
    assert found.interactions == whole.interactions
    kept = {query.query_id for query in found.queries}
    assert found.judgements == tuple(j for j in whole.judgements if j.query_id in kept)


def test_names_of_variants():
    made = parse_name("studio@200-missing50")
    assert (made.missing, made.wrong, made.name) == (50, 0, "studio@200-missing50") and "50%" in made.info.description
    assert parse_name("studio@200-wrong25").wrong == 25
    assert parse_name("studio@200").info.description == Studio().info.description
    for wrong in ("studio-missing50", "studio@200-missing", "studio@200-missing101", "studio@200-torn5"):
        with pytest.raises(FtbenchError, match="missing50"):
            parse_name(wrong)


def test_workers_make_the_same_items():
    alone, together = (
        [[v.name for v in item.views] for item in Studio(90, 12, 40, wrong=50, workers=n).items(silent)] for n in (1, 2)
    )
    assert alone == together
