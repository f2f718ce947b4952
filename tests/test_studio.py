"""The drawn catalogue: the same for ever, honest about what each view shows, and leak-free."""

import hashlib
from collections import Counter
from functools import cache
from itertools import islice

import numpy as np
import pytest

from ftbench.errors import FtbenchError
from ftbench.items import SPLITS, normalize_query, silent, split_of
from ftbench.sources import studio, studio_words
from ftbench.sources.studio import Studio, captioned_drawing, parse_name, vocabulary
from ftbench.sources.studio_draw import draw
from ftbench.sources.studio_words import HELD_OUT, HIDDEN_IMAGE, HIDDEN_TEXT, PRIMARY, WORDS, Dice

SHOWN = {
    "main": {"kind", "colour", "pattern"},
    "angle": {"kind", "colour", "pattern"},
    "back": {"kind", "colour", "motif"},
    "crop": {"colour", "motif"},
    "detail": {"colour", "pattern", "closure"},
    "context": {"kind", "colour", "pattern", "accessory"},
    "inside": {"kind", "colour", "lining"},
    "card": set(),
}
LONGEST = {"title": 10, "description": 20, "tags": 8, "query": 10}  # words; the tiny encoder reads 22


def digest(images):
    return hashlib.sha256(b"".join(np.ascontiguousarray(image).tobytes() for image in images)).hexdigest()


def pictures(item):
    return [view.content for view in item.views if view.kind == "image"]


def texts(item):
    return [view for view in item.views if view.kind == "text"]


@cache
def some_items(count=200):
    return tuple(Studio().item(index) for index in range(count))


@cache
def default_queries():
    source = Studio()
    return source, source.queries()


def test_the_same_version_draws_the_same_pixels():
    """Golden hashes: if they move, VERSION must move too, and every record made with it is void."""
    assert studio.VERSION == "studio-v1"
    assert digest([p for i in (0, 1, 7, 123, 6499) for p in pictures(Studio().item(i))])[:16] == "b761dda292ab1055"
    assert digest([captioned_drawing(7_000_000, i)[0] for i in range(40)])[:16] == "e1619c4a30a2e4cc"
    confirm = parse_name("studio-confirm")
    assert digest(pictures(confirm.item(0)))[:16] == "2be01ce4a0bb3154"


def test_pictures_are_small_integers():
    for picture in pictures(Studio().item(3)):
        assert picture.shape == (48, 48, 3) and picture.dtype == np.uint8


def test_an_item_is_the_same_by_index_and_in_the_catalogue():
    source = Studio(24, 4, 12)
    for item, (index, split) in zip(source.items(silent), source.indices(), strict=True):
        alone = source.item(index)
        assert (item.item_id, item.split, item.attributes) == (alone.item_id, split, source.latent(index))
        assert item.group == item.item_id and item.category == item.attributes["kind"]
        assert [(v.name, v.role, v.probe, v.reveals) for v in item.views] == [
            (v.name, v.role, v.probe, v.reveals) for v in alone.views
        ]
        assert digest(pictures(item)) == digest(pictures(alone))
        assert [v.content for v in texts(item)] == [v.content for v in texts(alone)]


def test_the_number_of_workers_changes_nothing():
    calls = []
    alone = list(Studio(90, 12, 40, workers=1).items(silent))
    together = list(Studio(90, 12, 40, workers=2).items(lambda done, total, *_: calls.append((done, total))))
    assert [i.item_id for i in alone] == [i.item_id for i in together]
    assert digest([p for i in alone for p in pictures(i)]) == digest([p for i in together for p in pictures(i)])
    assert calls[-1] == (142, 142)


def test_any_index_of_a_huge_catalogue_without_the_others():
    source = Studio(615_385, 76_923, 307_692)
    assert source.item(999_999).attributes == source.latent(999_999)
    first = list(islice(source.indices(), 1000))
    assert [index for index, _ in first] == list(range(1000))


@pytest.mark.parametrize(
    "source", [Studio(), parse_name("studio@200"), parse_name("studio-confirm@26")], ids=["full", "200", "confirm"]
)
def test_splits_have_their_exact_sizes_and_share_no_item(source):
    placed = list(source.indices())
    assert Counter(split for _, split in placed) == dict(zip(SPLITS, source.sizes, strict=True))
    assert len({index for index, _ in placed}) == sum(source.sizes)
    for index, split in placed[:500]:
        assert split == split_of("item", source.item_id(index), source.shares)


def test_names_say_size_and_seed():
    assert parse_name("studio").sizes == (4000, 500, 2000)
    assert sum(parse_name("studio@200").sizes) == 200 and min(parse_name("studio@200").sizes) >= 15
    assert parse_name("studio@1000000").sizes == (615_385, 76_923, 307_692)
    assert parse_name("studio@200").info.name == "studio@200"
    assert parse_name("studio-confirm").sizes == parse_name("studio").sizes
    assert parse_name("studio-confirm").seed != parse_name("studio").seed
    assert parse_name("studio-confirm").latent(0) != parse_name("studio").latent(0)
    for wrong in ("studio@", "studio@3", "studio@-5", "studios", "studio@2e3"):
        with pytest.raises(FtbenchError, match="studio@N"):
            parse_name(wrong)


def test_about_eight_images_and_the_stated_share_of_each_view():
    items = some_items()
    counts = [len(pictures(item)) for item in items]
    assert 7.9 <= np.mean(counts) <= 8.7 and min(counts) >= 3 and max(counts) <= 12
    names = Counter(view.name for item in items for view in item.views)
    for name, (percent, _, _) in studio._AUXILIARY.items():
        assert abs(names[name] / len(items) - percent / 100) < 0.12, name
    assert names["main"] == names["title"] == len(items)
    assert abs(names["description"] / len(items) - 0.93) < 0.06 and abs(names["tags"] / len(items) - 0.85) < 0.08


def test_one_primary_view_of_each_kind_and_no_probe_that_shows_nothing_or_another_item():
    for item in some_items():
        for kind, name in (("image", "main"), ("text", "title")):
            assert [v.name for v in item.views if v.kind == kind and v.role == "primary"] == [name]
        for view in item.views:
            assert view.probe == (view.name not in ("card", "wrong"))
            assert view.probe or view.reveals == ()
            assert set(view.reveals) <= set(item.attributes)


def test_a_picture_depends_on_what_it_reveals_and_on_nothing_else():
    """Each attribute is changed alone, with the same dice: pixels move if and only if the view claims to show it."""
    for view, shown in SHOWN.items():
        for index in range(6):
            latent = Studio().latent(index)
            before = draw(view, latent, Dice("test", view, index))
            for attribute, values in WORDS.items():
                for other in values:
                    moved = (draw(view, latent | {attribute: other}, Dice("test", view, index)) != before).any()
                    assert moved == (attribute in shown and other != latent[attribute]), (view, attribute, other)


def test_views_claim_what_their_drawing_shows():
    for item in some_items():
        for view in item.views:
            if view.kind == "image" and view.name != "wrong":
                assert set(view.reveals) == SHOWN[view.name.rstrip("2")], view.name


def test_a_text_reveals_exactly_the_values_whose_word_it_holds():
    for item in some_items():
        for view in texts(item):
            held = set(view.content.split())
            named = {a for a, value in item.attributes.items() if held & set(WORDS[a][value][0])}
            assert set(view.reveals) == named, (view.content, view.reveals)


def test_hidden_attributes_are_hidden():
    """Occasion and material are in no picture; motif, closure, accessory and lining are in one family of views each."""
    homes = {"motif": ("back", "crop"), "closure": ("detail", "detail2"), "accessory": ("context", "context2"),
             "lining": ("inside", "inside2")}  # fmt: skip
    named = Counter()
    for item in some_items():
        for view in item.views:
            if view.kind == "image":
                assert not set(view.reveals) & set(HIDDEN_TEXT)
                assert all(view.name in homes[a] for a in view.reveals if a in HIDDEN_IMAGE)
            else:
                named.update((view.name, a) for a in view.reveals)
    assert not [pair for pair in named if pair[0] != "description" and pair[1] in HIDDEN_IMAGE]
    assert not [pair for pair in named if pair[0] == "title" and pair[1] in HIDDEN_TEXT]
    rare = sum(named["description", a] for a in HIDDEN_IMAGE) / 4 / len(some_items())
    assert 0.02 <= rare <= 0.10 and 0.7 <= named["description", "occasion"] / len(some_items()) <= 0.88


def test_an_oracle_can_tell_values_from_any_set_of_views():
    item = some_items()[0]
    seen = {a: item.attributes[a] for view in item.views if view.kind == "image" for a in view.reveals}
    assert set(PRIMARY) <= set(seen) <= set(WORDS) - set(HIDDEN_TEXT)


def test_vocabulary_is_closed_and_texts_fit_the_encoder():
    words = vocabulary()
    assert words == sorted(set(words)) and 100 < len(words) < 500
    assert all(word.isascii() and word.isalnum() and word == word.lower() for word in words)
    found = {"query": [query.text for query in default_queries()[1].queries], "caption": []}
    source = Studio()
    for index in range(2000):
        latent = source.latent(index)
        for name, write in (("title", studio_words.title), ("description", studio_words.description),
                            ("tags", studio_words.tags)):  # fmt: skip
            found.setdefault(name, []).append(write(Dice(name, 0, index), latent)[0])
    found["caption"] = [captioned_drawing(7_000_000, index)[1] for index in range(300)]
    for name, lines in found.items():
        assert {word for line in lines for word in line.split()} <= set(words), name
        assert max(len(line.split()) for line in lines) <= LONGEST.get(name, 22), name
        assert all(line and line == normalize_query(line) for line in lines)


def test_no_word_stands_for_two_values_and_the_vocabularies_overlap_only_in_part():
    owners = Counter()
    for values in WORDS.values():
        for sellers, buyers in values.values():
            assert 2 <= len(sellers) <= 3 and 2 <= len(buyers) <= 3 and set(sellers) != set(buyers)
            owners.update({*sellers, *buyers})
    assert [word for word, count in owners.items() if count > 1] == []
    shared = [bool({*s} & {*b}) for values in WORDS.values() for s, b in values.values()]
    assert 0.3 <= np.mean(shared) <= 0.6


def test_no_query_stands_in_two_splits():
    source, found = default_queries()
    splits = {}
    for query in found.queries:
        assert query.split == split_of("query", normalize_query(query.text), source.shares)
        splits.setdefault(normalize_query(query.text), []).append(query.split)
    assert all(len(s) == 1 for s in splits.values())
    assert len({query.query_id for query in found.queries}) == len(found.queries)


def test_every_held_out_item_has_a_query_or_is_counted_as_without():
    source, found = default_queries()
    counts = Counter(query.split for query in found.queries)
    missing = sum(source.dropped.values())
    assert counts["test"] + counts["valid"] + missing >= 2500 and missing <= 50
    assert 3.8 * source.train <= len(found.interactions) <= 4 * source.train


def test_families_are_exclusive_and_equally_frequent():
    _, found = default_queries()
    test = [query for query in found.queries if query.split == "test"]
    for query in test:
        hidden = {a for a in query.attributes if a not in PRIMARY}
        family = "primary" if not hidden else "aux_image" if hidden <= set(HIDDEN_IMAGE) else "aux_text"
        assert query.slices == ((family,) if family == "primary" else (family, "aux"))
        assert 2 <= len(query.attributes) <= 4 and set(query.attributes) & set(PRIMARY)
        assert family != "aux_text" or hidden <= set(HIDDEN_TEXT)
    shares = Counter(query.slices[0] for query in test)
    assert all(0.28 <= count / len(test) <= 0.39 for count in shares.values()), shares


def test_queries_hold_buyers_words_of_what_they_ask():
    for query in default_queries()[1].queries[::7]:
        held = set(query.text.split())
        named = {a: v for a, values in WORDS.items() for v, (_, buyers) in values.items() if held & set(buyers)}
        assert named == dict(query.attributes), query.text


def test_judgements_are_those_of_a_naive_loop():
    source = parse_name("studio@200")
    found = source.queries()
    placed = list(source.indices())
    expected = {}
    for query in found.queries:
        for index, split in placed:
            if query.split == "train" or split != query.split:
                continue
            latent = source.latent(index)
            wrong = sum(latent[a] != value for a, value in query.attributes.items())
            if wrong == 0:
                expected[query.query_id, source.item_id(index)] = 3.0
            elif wrong == 1 and len(query.attributes) >= 3:
                expected[query.query_id, source.item_id(index)] = 1.0
    assert {(j.query_id, j.item_id): j.gain for j in found.judgements} == expected
    assert len(found.judgements) == len(expected) > 100


def test_few_items_satisfy_a_query_and_always_one():
    _, found = default_queries()
    full = Counter(j.query_id for j in found.judgements if j.gain == 3)
    held = [full[query.query_id] for query in found.queries if query.split == "test"]
    assert min(held) >= 1 and 2 <= np.median(held) <= 6


def test_interactions_join_train_queries_with_train_items_that_satisfy_them():
    source, found = default_queries()
    queries = {query.query_id: query for query in found.queries}
    items = {source.item_id(index): (index, split) for index, split in source.indices()}
    for pair in found.interactions[::5]:
        query, (index, split) = queries[pair.query_id], items[pair.item_id]
        assert query.split == split == "train"
        assert query.attributes.items() <= source.latent(index).items()
    assert len(set(found.interactions)) == len(found.interactions)


def test_the_foundation_never_sees_held_out_values(monkeypatch):
    drawn, shown = [], Counter()

    def spy(view, latent, dice):
        drawn.append(latent)
        shown[view] += 1
        return draw(view, latent, dice)

    monkeypatch.setattr(studio, "draw", spy)
    captions = [captioned_drawing(7_000_000, index)[1] for index in range(2500)]
    assert len(drawn) == len(captions) and set(shown) == {"main", "back", "crop", "detail", "context", "inside"}
    held = {(a, v) for a, values in HELD_OUT.items() for v in values}
    assert not held & {pair for latent in drawn for pair in latent.items()}
    said = {word for caption in captions for word in caption.split()}
    assert not said & {word for a, v in held for word in WORDS[a][v][0]}
    drawn_values = {pair for latent in drawn for pair in latent.items()}
    assert drawn_values == {(a, v) for a, values in WORDS.items() for v in values} - held
    for attribute in HIDDEN_IMAGE:
        assert 1 / 9 <= len(HELD_OUT[attribute]) / len(WORDS[attribute]) <= 1 / 4
    assert len(HELD_OUT["kind"]) == 1


def test_captions_name_in_sellers_words_only_what_the_drawing_shows(monkeypatch):
    drawn = []
    monkeypatch.setattr(studio, "draw", lambda view, latent, dice: drawn.append((view, latent)))
    owner = {w: (a, v) for a, values in WORDS.items() for v, (sellers, _) in values.items() for w in sellers}
    buyers_only = {w for values in WORDS.values() for said, asked in values.values() for w in {*asked} - {*said}}
    for index in range(600):
        _, caption = captioned_drawing(7_000_000, index)
        view, latent = drawn[-1]
        held = set(caption.split())
        assert not held & buyers_only, caption
        named = dict(owner[word] for word in held if word in owner)
        assert named.items() <= latent.items()
        assert set(named) <= SHOWN[view] | ({"kind"} if view == "crop" else set()), (view, caption)  # see below
        assert set(named) & set(HIDDEN_IMAGE) == SHOWN[view] & set(HIDDEN_IMAGE), (view, caption)


def test_the_caption_of_a_crop_does_not_name_the_kind(monkeypatch):
    drawn = []
    monkeypatch.setattr(studio, "draw", lambda view, latent, dice: drawn.append(view))
    kinds = {word for sellers, _ in WORDS["kind"].values() for word in sellers}
    said = [captioned_drawing(7_000_000, index)[1] for index in range(100)]
    assert "crop" in drawn
    assert not [c for c, view in zip(said, drawn, strict=True) if view == "crop" and kinds & set(c.split())]


def test_asking_twice_gives_the_same_and_counts_what_was_dropped_once(monkeypatch):
    monkeypatch.setattr(studio, "_TRIES", 2)
    source = Studio(0, 200, 0)
    first = source.queries()
    once = dict(source.dropped)
    assert source.queries() == first
    assert once and source.dropped == once


def test_it_says_what_it_is():
    info = Studio().info
    assert (info.name, info.version, info.licence) == ("studio", "studio-v1", "Apache-2.0")
    assert info.redistributable and not info.photographs
    said = " ".join(info.disclosures)
    assert "foundation" in said and "frozen" in said and "vocabulary" in said
