"""What stands in two splits is found, wherever it was planted, and nothing else is; near-duplicates by a naive loop."""

import time

import numpy as np
import pyarrow as pa
import pytest
from conftest import Toy
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ftbench import inventory, leaks
from ftbench.catalogue import Catalogue
from ftbench.errors import DataError
from ftbench.items import Interaction, Item, Judgement, Queries, Query, SourceInfo, View, silent
from ftbench.store import prepare


class Changed(Catalogue):
    """A catalogue with some tables replaced after it was prepared, as damage or a faulty tool would leave it."""

    def __init__(self, catalogue, photographs=False, **tables):
        super().__init__(catalogue.folder, catalogue.manifest | {"info": {**catalogue.manifest["info"],
                                                                          "photographs": photographs}})  # fmt: skip
        self._changed = {name: pa.table(columns) for name, columns in tables.items()}

    def table(self, name):
        return self._changed.get(name) or super().table(name)


def changed(catalogue, name, photographs=False, **values):
    """The catalogue with cells replaced: column=(row, value)."""
    columns = catalogue.table(name).to_pydict()
    for column, (row, value) in values.items():
        columns[column][row] = value
    return Changed(catalogue, photographs, **{name: columns})


def test_a_clean_catalogue_has_no_problem(toy):
    assert leaks.problems(toy) == []


@pytest.mark.parametrize(
    ("table", "cells", "said"),
    [
        ("items", {"group": (30, "item05")}, "group 'item05' stands in test and train"),
        ("items", {"item_id": (30, "item05")}, "item id 'item05' stands in test and train"),
        ("queries", {"text": (22, "  LAMP for\troom 3")}, "query 'lamp for room 3' stands in train and valid"),
        ("queries", {"query_id": (30, "q21")}, "query id 'q21' stands in test and valid"),
        ("judgements", {"item_id": (0, "nowhere")}, "judgements: 'q20', 'nowhere' names something that does not exist"),
        ("interactions", {"query_id": (0, "q99")}, "interactions: 'q99', 'item00' names something"),
        ("interactions", {"item_id": (0, "item39")}, "'item39' is not between a train query and a train item"),
        ("interactions", {"query_id": (0, "q39")}, "'q39', 'item00' is not between a train query and a train item"),
    ],
)
def test_what_is_planted_is_found(toy, table, cells, said):
    found = leaks.problems(changed(toy, table, **cells))
    assert any(said in problem for problem in found), found


def test_only_the_planted_group_is_named(toy):
    assert leaks.leaks(changed(toy, "items", group=(30, "item05"))) == ["group 'item05' stands in test and train"]
    assert leaks.leaks(changed(toy, "items", group=(30, "item39"))) == [], "two items of one split may share a group"


def test_identical_photographs_count_and_identical_drawings_do_not(toy):
    digests = toy.table("images").column("sha256").to_pylist()
    planted = {"sha256": (len(digests) - 1, digests[0])}
    assert leaks.leaks(changed(toy, "images", photographs=True, **planted)) == [
        f"image {digests[0]!r} stands in test and train"
    ]
    assert leaks.leaks(changed(toy, "images", photographs=False, **planted)) == []


def test_many_leaks_are_counted_not_listed(toy):
    columns = toy.table("items").to_pydict()
    columns["group"] = [f"group{i % 20}" for i in range(40)]
    found = leaks.leaks(Changed(toy, items=columns))
    assert len(found) == 11 and found[-1] == "group: 10 more in two splits"


def test_a_split_without_items_is_a_problem(toy):
    columns = toy.table("items").to_pydict()
    columns["split"] = ["train" if split == "valid" else split for split in columns["split"]]
    assert "the split 'valid' has no items" in leaks.problems(Changed(toy, items=columns))


def test_verify_lists_all_problems_at_once(toy, monkeypatch):
    wrong = changed(toy, "items", group=(30, "item05"), item_id=(31, "item06"))
    monkeypatch.setattr(inventory, "open_catalogue", lambda name, verify: wrong)
    with pytest.raises(DataError, match=r"(?s)toy does not hold: \d problems.*item id 'item06'.*group 'item05'"):
        inventory.verify("toy")
    monkeypatch.setattr(inventory, "open_catalogue", lambda name, verify: toy)
    assert "nothing in two splits" in inventory.verify("toy")


# --- near-duplicates


def naive(hashes, marks):
    return [
        (i, j) for i in range(len(hashes)) for j in range(i + 1, len(hashes))
        if 1 <= (int(hashes[i]) ^ int(hashes[j])).bit_count() <= 3 and (int(marks[i]) | int(marks[j])).bit_count() > 1
    ]  # fmt: skip


def pairs(hashes, marks):
    found = leaks.near_pairs(np.array(hashes, dtype=np.uint64), np.array(marks, dtype=np.uint8))
    return [tuple(pair) for pair in found.tolist()]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_near_pairs_are_those_of_a_naive_loop(data):
    centres = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    flips = st.lists(st.integers(0, 63), max_size=4)
    hashes = {centre for centre in centres}
    for _ in range(data.draw(st.integers(0, 14))):
        value = data.draw(st.sampled_from(centres))
        for bit in data.draw(flips):
            value ^= 1 << bit
        hashes.add(value)
    hashes = sorted(hashes)
    marks = data.draw(st.lists(st.integers(1, 7), min_size=len(hashes), max_size=len(hashes)))
    assert pairs(hashes, marks) == naive(hashes, marks)


def test_every_choice_of_three_bits_is_near_and_of_four_is_not():
    rng = np.random.default_rng(0)
    base = 0x5A5A_0FF0_1234_FEDC
    for _ in range(300):
        bits = [1 << int(b) for b in rng.choice(64, size=4, replace=False)]
        assert pairs(sorted([base, base ^ sum(bits[:3])]), [1, 4]) == [(0, 1)]
        assert pairs(sorted([base, base ^ sum(bits)]), [1, 4]) == []
    assert pairs([base, base ^ 1], [1, 1]) == [] and pairs([base, base ^ 1], [2, 2]) == []
    assert pairs([], []) == [] and pairs([base], [3]) == []


def test_a_hundred_thousand_hashes_take_seconds():
    """Skewed as photographs on white are: bits of the margins are nearly always unset. 1 to 6 s on one core."""
    rng = np.random.default_rng(1)
    chance = np.clip(rng.beta(0.5, 0.8, 64), 0.05, 0.95)
    chance[:12], chance[52:] = 0.04, 0.06
    bits = rng.random((100_000, 64)) < chance
    hashes = np.unique(np.packbits(bits, axis=1).view(np.uint64).ravel())
    marks = rng.choice(np.array([1, 2, 4], dtype=np.uint8), size=len(hashes), p=[0.9, 0.05, 0.05])
    started = time.perf_counter()
    found = leaks.near_pairs(hashes, marks)
    assert time.perf_counter() - started < 90
    some = found[:: max(1, len(found) // 200)]
    assert all(1 <= (int(hashes[a]) ^ int(hashes[b])).bit_count() <= 3 for a, b in some)
    assert all(marks[a] != marks[b] for a, b in some)


def picture(seed, shift=0):
    """A smooth photograph-like picture (200, 160, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    return np.roll(np.asarray(Image.fromarray(coarse).resize((160, 200), Image.Resampling.BICUBIC)), shift, axis=1)


class Photographs:
    """Items with one photograph each; (seed, split, how it was saved)."""

    def __init__(self, folder, rows):
        self.info = SourceInfo("photos", "photos-v1", "Photos", "none", False, "Photographs.", True)
        self.dropped, self.folder, self.products = {}, folder, rows

    def items(self, progress):
        for i, (seed, split, quality) in enumerate(self.products):
            pixels = np.full((200, 160, 3), 255, dtype=np.uint8) if seed is None else picture(seed)
            file = self.folder / f"{i}.{'jpg' if quality else 'png'}"
            Image.fromarray(pixels).save(file, **({"quality": quality} if quality else {"compress_level": i % 9}))
            views = (View("image", "main", "primary", file), View("text", "title", "primary", f"Blue mug, no. {i}"))
            yield Item(f"p{i}", f"p{i}", split, "mug", views)

    def queries(self):
        return Queries()


def test_photographs_saved_anew_in_another_split_are_found(tmp_path):
    rows = [(1, "train", None), (1, "test", 50), (2, "train", None), (3, "train", None), (3, "train", 60),
            (None, "train", None), (None, "test", 80), (4, "valid", None), (5, "test", None)]  # fmt: skip
    catalogue = prepare(Photographs(tmp_path, rows), silent, tmp_path / "cache")
    near = leaks.near_duplicates(catalogue)
    assert (near.compared, near.blank) == (7, 2), "blank pictures say nothing"
    assert (near.images, near.pairs, near.checked, near.same) == (2, 1, 1, 1)
    assert near.examples == (("p0", "p1"),)
    (said,) = leaks.remarks(catalogue)
    assert said.startswith(
        "2 of 7 photographs are within 3 bits of 64 of one in another split; of 1 pairs looked at, 1 "
    )
    assert said.endswith("show the same picture; 2 nearly blank ones are left out: p0–p1")


def test_images_that_share_a_hash_are_counted_in_pairs_and_looked_at_once(tmp_path):
    rows = [(1, "train", None)] * 3 + [(1, "test", None)] * 2 + [(1, "valid", None), (2, "valid", None)]
    near = leaks.near_duplicates(prepare(Photographs(tmp_path, rows), silent, tmp_path / "cache"))
    assert (near.images, near.pairs) == (6, 3 * 2 + 3 * 1 + 2 * 1)
    assert (near.checked, near.same) == (1, 1)


def test_same_pictures_differ_by_less_than_the_limit_and_shifted_ones_by_more(tmp_path):
    for seed in range(20):
        Image.fromarray(picture(seed)).save(tmp_path / "a.jpg", quality=50)
        again = np.asarray(Image.open(tmp_path / "a.jpg"))
        small = np.asarray(Image.fromarray(picture(seed)).resize((128, 160), Image.Resampling.LANCZOS))
        assert leaks.picture_difference(picture(seed), again) < leaks.SAME_PICTURE / 2
        assert leaks.picture_difference(picture(seed), small) < leaks.SAME_PICTURE / 2
        assert leaks.picture_difference(picture(seed), picture(seed, shift=24)) > leaks.SAME_PICTURE
        assert leaks.picture_difference(picture(seed), picture(seed + 100)) > leaks.SAME_PICTURE


def test_drawings_have_no_near_duplicates(toy):
    assert leaks.near_duplicates(toy) is None


# --- contamination


class Asked(Toy):
    """Queries of test items (titles are "red lamp N", descriptions "a fine lamp for room N") at chosen gains."""

    def __init__(self, texts, judgements):
        super().__init__()
        self.texts, self.judged = texts, judgements

    def queries(self):
        queries = tuple(Query(f"q{i}", text, "test") for i, text in enumerate(self.texts))
        return Queries((*queries, Query("t", "red lamp 1", "train")), tuple(self.judged),
                       (Interaction("t", "item01"),))  # fmt: skip


def test_contamination_counts_queries_that_stand_in_a_relevant_item(tmp_path):
    texts = ["Red  LAMP 30!", "lamp 3", "red lamp 31", "fine-lamp, for room 32", "room 33", "lamp 30 a fine", "?!", "x"]
    judged = [Judgement(f"q{i}", item, gain) for i, item, gain in (
        (0, "item30", 1.0),  # yes: case, spaces and punctuation do not count
        (1, "item30", 1.0),  # no: "lamp 3" is not a word of "lamp 30"
        (2, "item30", 1.0), (2, "item31", 0.5),  # no: stands only in an item of lower gain
        (3, "item31", 2.0), (3, "item32", 2.0),  # yes: in one of two that are equally relevant
        (4, "item33", 1.0),  # yes, but of two words
        (5, "item30", 1.0),  # no: a query does not run from the title into the description
        (6, "item30", 1.0),  # no: no words
        (7, "item30", 0.0),  # not asked: nothing is relevant
    )]  # fmt: skip
    found = leaks.contamination(prepare(Asked(texts, judged), silent, tmp_path))
    assert (found.split, found.queries, found.verbatim, found.longer) == ("test", 7, 3, 2)
    assert found.examples == ("q0", "q3", "q4") and found.share == 3 / 7


def test_contamination_of_a_catalogue_without_queries(tmp_path):
    catalogue = prepare(Photographs(tmp_path, [(1, "train", None)]), silent, tmp_path / "cache")
    found = leaks.contamination(catalogue)
    assert found.queries == 0 and found.share == 0
    assert len(leaks.remarks(catalogue)) == 1, "only photographs are spoken of"


def test_remarks_name_queries_by_id_and_never_by_text(toy):
    (said,) = leaks.remarks(toy)
    assert said.startswith("13 of 16 test queries (81.2%) occur word for word") and "q24" in said
    assert "lamp" not in said
