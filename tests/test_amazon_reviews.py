"""Amazon Reviews 2023 in both published forms: each known trap at its row, no leak, rows that add up whatever comes."""

import gzip
from collections import Counter

import amazon_files as files
import pytest
from amazon_files import CATEGORY, META, META_LINES, REVIEWS, TIMES, A, B, C

from ftbench.errors import DataError, FtbenchError
from ftbench.items import SPLITS, normalize_query, silent, split_of, unit_hash
from ftbench.sources.amazon_images import most_images
from ftbench.sources.amazon_reviews import (
    CATEGORIES,
    MOST_QUERIES,
    TIME_CUTS,
    AmazonReviews,
    image_lists,
    parse_reviews,
    period,
)
from ftbench.sources.amazon_rows import (
    LONGEST_QUERY,
    parse_review,
    query_text,
)
from ftbench.sources.rows import LARGE_SHARES, Tally
from ftbench.store import prepare

HOST = files.HOST
FORMS = ("jsonl", "parquet")


def source_of(folder, tier=None, **options):
    return AmazonReviews(CATEGORY, tier, folder, f"amazon-reviews@{CATEGORY}", **{"with_images": False} | options)


def adds_up(source):
    for name, counts in source.rows.items():
        assert counts["read"] == counts["kept"] + counts["merged"] + counts["dropped"], (name, counts)
    assert sum(source.dropped.values()) >= sum(counts["dropped"] for counts in source.rows.values())


@pytest.fixture(scope="module", params=FORMS)
def source(request, tmp_path_factory):
    made = source_of(files.write(tmp_path_factory.mktemp(request.param), request.param))
    made.form, made.read = request.param, {item.item_id: item for item in made.items(silent)}
    made.found = made.queries()
    return made


def drafts_of(source):
    """Item id -> addresses of the images it keeps."""
    lost = Counter()
    source.with_images = True
    found = {item.item_id: list(images) for item, images in source._drafts(source._planned(silent), silent, lost)}
    source.with_images = False
    return found, lost


def ids(addresses):
    return [address.removeprefix(HOST).partition("._SL256_")[0] for address in addresses]


def test_every_row_is_kept_merged_or_dropped(source):
    lines = len(META_LINES) - 1 if source.form == "jsonl" else 0  # the empty one is no row
    assert source.rows["items"]["read"] == len(META) + lines
    assert source.rows["items"]["kept"] == len(source.read) == (60 if source.form == "jsonl" else 56)
    assert source.rows["items"]["merged"] == source.rows["reviews"]["merged"] == 1
    adds_up(source)
    reasons = {
        "item without a title": 2,
        "item without an id": 2 if source.form == "jsonl" else 1,
        "review of fewer than 4 stars": 1,
        "review without a rating of 1 to 5": 3 if source.form == "jsonl" else 1,
        "review without a time, or with a negative one": 2 if source.form == "jsonl" else 1,
        "review of an item without usable metadata": 1,
        "review of at most 30 characters": 1,
        "review of another time than its item's split": 2,
        "review without an item id": 1,
        "review whose text is a query of another split": 1,
    }
    unreadable = {"line that is not JSON": 4, "line that is not UTF-8": 2, "line nested too deeply": 1,
                  "line that is not an object": 1}  # fmt: skip
    assert source.dropped == reasons | (unreadable if source.form == "jsonl" else {})


def test_both_forms_give_the_same_items(tmp_path):
    read = [{i.item_id: i for i in source_of(files.write(tmp_path / f, f)).items(silent)} for f in FORMS]
    assert read[1].items() <= read[0].items()
    assert read[0].keys() - read[1].keys() == {"B0BOM00000", "B0HUGE0000", "B0SURROG00", "B0TYPES000"}
    for form in FORMS:
        folder = files.write_synthetic(tmp_path / f"large {form}", 500, 2_000, 900, form)
        read.append([(item, images) for item, images in [*drafts_of(source_of(folder))[0].items()]])
        read.append((list(source_of(folder).items(silent)), source_of(folder).queries()))
    assert read[2] == read[4] and read[3] == read[5]
    assert len(read[3][0]) == 500 and len(read[3][1].queries) > 300


def texts(item):
    return {view.name: view.content for view in item.views if view.kind == "text"}


def test_texts_are_plain_and_in_their_places(source):
    assert texts(source.read[A]) == {"title": "Lamp & Shade"}, "the first row of an id stays"
    assert texts(source.read[B]) == {"title": "Brush", "description": "Soft bristles"}
    assert texts(source.read[C]) == {
        "title": "Mirror",
        "description": "Round Two sides <b For the wall > or the desk",
        "tags": "Tools, Mirrors, acme, Red, Glass",
    }
    assert source.read[C].category == "Beauty & Personal Care"
    assert source.read[A].category == "All Beauty", "the file's, where the row names none"
    assert [view.role for view in source.read[C].views] == ["primary", "auxiliary", "auxiliary"]
    if source.form == "jsonl":
        assert texts(source.read["B0TYPES000"]) == {"title": "Types", "description": "one string words"}
        assert texts(source.read["B0SURROG00"]) == {"title": "Half and all"}
        assert len(texts(source.read["B0HUGE0000"])["description"]) <= 100_000


def test_images_are_ordered_deduplicated_and_asked_for_in_their_small_form(source):
    found, lost = drafts_of(source_of(source.folder, 10_000))
    assert found[A] == [f"{HOST}41a._SL256_.jpg"], "large, where there is no hi_res"
    assert ids(found["B0ORDER000"]) == ["72a", "72b", "72c", "72d", "72e"], "MAIN, then by variant, then without one"
    assert ids(found["B0REPEAT00"]) == ["73a", "73c"], "a repeat of either id is one photograph"
    assert found["B0FORMS000"] == [
        f"{HOST}74+a-B._SL256_.jpg", f"{HOST}44b._SL256_.png", f"{HOST}44c._SL256_.gif"
    ]  # fmt: skip
    assert ids(found["B0NOWHERE0"]) == ["75b"], "the id is that of hi_res, where there is no large"
    assert ids(found["B0MANY0000"]) == [f"76{i}" for i in range(1, 9)]
    assert ids(found["B0PLACE007"]) == ["717"], "what 21 items have is a placeholder"
    assert ids(found["B0LIMIT007"]) == ["72x"], "what 20 items have is not"
    assert lost == {
        "image without an address": 3,
        "image shared by more than 20 products": 21,
        "image beyond the first 8 of an item": 3,
    }
    most = most_images(None)
    found, lost = drafts_of(source)
    assert len(found["B0MANY0000"]) == most and lost[f"image beyond the first {most} of an item"] >= 11 - most


def test_other_data_sets_may_ask_for_the_photographs_of_their_items(source):
    found = image_lists(source.folder, [CATEGORY], {A, "B0MANY0000", "B0BARE0000", "B0STRANGER"}, silent)
    assert found == {
        A: (f"{HOST}41a._SL256_.jpg",), "B0MANY0000": tuple(f"{HOST}76{i}._SL256_.jpg" for i in range(1, 12))
    }  # fmt: skip


def test_items_that_share_a_photograph_are_one_group(source):
    group = {source.read[i].group for i in (files.LATE, files.BRIDGE, files.EARLY)}
    assert group == {files.EARLY}, "also where only one of two listings has the hi_res form"
    assert {source.read[i].split for i in (files.LATE, files.BRIDGE, files.EARLY)} == {"test"}
    assert source.read["B0PLACE003"].group == "B0PLACE003", "a placeholder ties nothing"
    assert source.read["B0LIMIT013"].group == "B0LIMIT000"
    for item in source.read.values():
        assert item.split == split_of("item", item.group, LARGE_SHARES)


def test_nothing_leaks(source):
    splits = {query.query_id: query.split for query in source.found.queries}
    assert len(splits) == len(source.found.queries)
    assert len({normalize_query(query.text) for query in source.found.queries}) == len(splits)
    for pair in source.found.interactions:
        assert splits[pair.query_id] == source.read[pair.item_id].split == "train"
    for pair in source.found.judgements:
        assert splits[pair.query_id] == source.read[pair.item_id].split != "train"
    assert {j.query_id for j in source.found.judgements} | {i.query_id for i in source.found.interactions} == set(
        splits
    )


def test_reviews_become_queries(source):
    of = {text: {query.text for query in source.found.queries if query.split == text} for text in SPLITS}
    assert of["valid"] == {"Five Stars Smells of oranges and lasts the whole day."}
    assert of["test"] >= {"Five Stars Holds my hair all day without pulling.",
                          "Five Stars The hinge is sturdier than on my old one."}  # fmt: skip
    assert of["train"] >= {"The softest brush that I have ever owned", f"{files.SHORT} y"}
    shared = next(query for query in source.found.queries if files.GOOD in query.text)
    assert [p.item_id for p in source.found.interactions if p.query_id == shared.query_id] == [A, B]
    assert all(j.gain == 1.0 for j in source.found.judgements)
    twice = [query.split for query in source.found.queries if "my mother" in query.text]
    assert twice == ["test" if split_of("query", normalize_query(_text("in two splits")), LARGE_SHARES) == "test" else
                     "train"]  # fmt: skip
    if source.form == "jsonl":
        assert max(len(query.text) for query in source.found.queries) in (LONGEST_QUERY, LONGEST_QUERY - 1)


def _text(name):
    return query_text(REVIEWS[name])


def test_times_are_cut_where_the_maintainers_cut_them():
    assert TIME_CUTS == (1628643414042, 1658002729837)
    assert [period(t) for t in (0, TIME_CUTS[0] - 1, TIME_CUTS[0], TIME_CUTS[1] - 1, TIME_CUTS[1])] == [
        "train", "train", "valid", "valid", "test"
    ]  # fmt: skip
    assert isinstance(parse_review(REVIEWS["negative time"]), str)
    assert parse_review(REVIEWS["train"] | {"timestamp": 5.0}).written == 5
    assert isinstance(parse_review(REVIEWS["train"] | {"timestamp": 5.5}), str)
    assert isinstance(parse_review(REVIEWS["train"] | {"timestamp": True}), str)


def test_a_text_of_several_splits_stays_in_that_of_its_hash_or_the_strictest():
    for wanted in SPLITS:
        text = next(t for i in range(9999) if split_of("query", t := f"a text of more than thirty characters {i}",
                                                       LARGE_SHARES) == wanted)  # fmt: skip
        places = {split: split for split in SPLITS}
        for asked, stays in ((SPLITS, wanted), (("train", "valid"), wanted if wanted != "test" else "valid")):
            rows = [files.review(split, text, TIMES[split], "") for split in asked]
            tally = Tally(read=len(rows))
            assert [q.split for q in parse_reviews(rows, places, tally, MOST_QUERIES).queries] == [stays]
            assert (tally.kept, tally.dropped) == (1, len(asked) - 1)


def test_a_tier_holds_the_smaller_ones_and_the_reviews_of_its_items(tmp_path):
    whole = source_of(files.write_synthetic(tmp_path, 300, 900, 2_000))
    items = {item.item_id: item for item in whole.items(silent)}
    order = sorted(items, key=lambda item_id: (unit_hash("tier", item_id), item_id))
    before = set()
    for tier in (1, 30, 299, 1000):
        source = source_of(tmp_path, tier)
        found = {item.item_id: item for item in source.items(silent)}
        assert set(found) == set(order[:tier]) > before
        assert found.items() <= items.items(), "groups and splits do not depend on the tier"
        queries = source.queries()
        assert {pair.item_id for pair in (*queries.judgements, *queries.interactions)} <= set(found)
        assert source.rows["items"]["kept"] == len(found)
        assert ("review of an item beyond the tier" in source.dropped) == (tier < 300)
        adds_up(source)
        before = set(found)
    assert {q.query_id for q in whole.queries().queries} == {q.query_id for q in queries.queries}


def test_only_the_queries_of_smallest_hash_stay(tmp_path):
    folder = files.write_synthetic(tmp_path, 300, 0, 5_000)
    whole, few = source_of(folder), source_of(folder)
    few.most_queries = {"train": 40, "valid": 3, "test": 5}
    for split, most in few.most_queries.items():
        named = [{q.query_id for q in s.queries().queries if q.split == split} for s in (whole, few)]
        assert len(named[0]) > most and named[1] == set(sorted(named[0])[:most])
    adds_up(few)
    assert few.dropped["review beyond the first 40 queries of its split"] > 1000


def test_raw_files_of_the_mirror_and_incomplete_ones(tmp_path):
    folder = files.write(tmp_path)
    for path in [*folder.glob("raw/*/*.jsonl")]:
        (path.parent / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert len(list(source_of(folder).items(silent))) == 60
    files.write(tmp_path / "parquet", "parquet")
    (tmp_path / "parquet" / f"raw_meta_{CATEGORY}" / "full-00001-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="1 Parquet files that announce 00002: full-00000-of-00002.parquet"):
        list(source_of(tmp_path / "parquet").items(silent))


def test_an_unknown_category_gives_near_matches(tmp_path):
    assert len(CATEGORIES) == 34 and CATEGORIES == sorted(CATEGORIES)
    with pytest.raises(FtbenchError, match="All_Beauty"):
        AmazonReviews("all_beauty", None, tmp_path, "x")


def test_the_whole_way_into_the_store(source, tmp_path):
    catalogue = prepare(source, silent, tmp_path)
    assert catalogue.manifest["counts"]["items"] == len(source.read)
    assert catalogue.manifest["dropped"] == source.dropped
    assert not source.info.redistributable
