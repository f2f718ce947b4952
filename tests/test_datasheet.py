"""The datasheet: its numbers are those of a naive count, its files hold what may be published and nothing else."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Toy
from PIL import Image
from test_report import Reader

from ftbench import datasheet
from ftbench.datasheet import numbers
from ftbench.datasheet.croissant import croissant, licences
from ftbench.datasheet.languages import UNDETERMINED, language
from ftbench.datasheet.page import _bins, _shown, page
from ftbench.errors import DataError
from ftbench.inventory import shown_items
from ftbench.items import Interaction, Item, Judgement, Queries, Query, SourceInfo, View, silent
from ftbench.sources.studio import parse_name
from ftbench.store import prepare

ROOT = Path(__file__).parent.parent
HOSTILE = '</script><script>alert("x")</script>{{ 7 * 7 }}'


class Shop:
    """Photographs with words that must not leave the machine; every oddity that a datasheet counts is planted."""

    def __init__(self, folder, redistributable=False, secret="zanzibar"):
        self.info = SourceInfo("shop@10k", "shop-v2", f"Shop {HOSTILE}", "CC BY-NC 4.0", redistributable,
                               f"Of a shop. {HOSTILE}", True, ("Nothing was asked of the shop.",))  # fmt: skip
        self.dropped = {"row without an id": 3, "row with too many cells": 7, "never happened": 0}
        self.rows = {"products": {"read": 1_015, "kept": 5, "merged": 1_000, "dropped": 10}}
        self.folder, self.secret = folder, secret

    def picture(self, seed):
        file = self.folder / f"{seed}.png"
        if not file.exists():
            coarse = np.random.default_rng(seed).integers(0, 256, (9, 8, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((200, 240), Image.Resampling.BICUBIC).save(file)
        return file

    def items(self, progress):
        rows = (  # id, group, split, category, pictures, texts
            ("a", "g", "train", "lamp", (1, 2, 2), ("red lamp", "the lamp of the house and of the garden")),
            ("b", "g", "train", "lamp", (2,), ("red lamp",)),
            ("c", "c", "valid", "", (), ("die Lampe für das Haus",)),
            ("d", "d", "test", f"mug {HOSTILE}", (3, 4), (f"mug {self.secret} {HOSTILE}", "een mok voor de thee")),
            ("e", "e", "test", "mug", (5, 6), ()),
        )
        for item_id, group, split, category, pictures, texts in rows:
            images = [View("image", f"v{m}", "auxiliary" if m else "primary", self.picture(seed), probe=m != 1)
                      for m, seed in enumerate(pictures)]  # fmt: skip
            words = [View("text", ("title", "description")[m], "auxiliary" if m else "primary", text)
                     for m, text in enumerate(texts)]  # fmt: skip
            yield Item(item_id, group, split, category, (*images, *words))

    def queries(self):
        asked = (("t", "a lamp", "train"), ("v", "lampe", "valid"), ("x", f"{self.secret} mug", "test"),
                 ("y", f"mug {self.secret}", "test"), ("z", "nothing fits this at all", "test"))  # fmt: skip
        judged = (("v", "c", 1.0), ("x", "d", 1.0), ("x", "e", 0.1), ("y", "d", 1.0), ("y", "e", 1.0), ("y", "c", 0.0))
        return Queries(
            tuple(Query(i, text, split, ("asked",) if i == "x" else ()) for i, text, split in asked),
            tuple(Judgement(*row) for row in judged), (Interaction("t", "a"),),
        )  # fmt: skip


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    """The shop whose pictures stay at home, and the same one with pictures that may be shown."""
    made = []
    for redistributable in (False, True):
        folder = tmp_path_factory.mktemp("shop")
        made.append(prepare(Shop(folder, redistributable), silent, folder / "cache"))
    return made


@pytest.fixture(scope="module")
def facts(shops):
    return datasheet.facts(shops[0])


@pytest.fixture(scope="module")
def pages(shops, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return [datasheet.write(shop, folder / str(i)) for i, shop in enumerate(shops)]


# --- counts


def test_counts_of_the_planted_shop(facts):
    train, valid, test = facts.splits
    assert (train.items, train.groups, train.images, train.texts) == (2, 1, 4, 3)
    assert (valid.items, valid.images, valid.texts, valid.queries, valid.judgements) == (1, 0, 1, 1, 1)
    assert (test.items, test.images, test.queries, test.judgements, test.interactions) == (2, 4, 3, 5, 0)
    assert (train.queries, train.judgements, train.interactions) == (1, 0, 1)
    assert facts.images_per_item == ((0, 1), (1, 1), (2, 2), (3, 1))
    assert dict(facts.missing) == {"no image": 1, "one image only": 1, "no text": 1, "no title": 1, "no description": 3}
    assert facts.categories[:2] == (("lamp", 2), ("none given", 1)) and facts.distinct_categories == 4
    assert facts.dropped == (("row with too many cells", 7), ("row without an id", 3))
    assert facts.pictures.names == (("v0", 4), ("v1", 3), ("v2", 1)) and facts.pictures.no_probe == 3
    assert facts.pictures.largest_size == (200, 240)


def test_duplicates_of_the_planted_shop(facts):
    found = facts.duplicates
    assert (found.images, found.in_items, found.shared, found.items) == (2, 1, 1, 2)
    assert (found.titles, found.groups, found.largest, found.grouped) == (2, 1, 2, 2)
    assert not facts.leaks and facts.near.same == 0


def test_languages_of_the_planted_shop(facts):
    assert dict(facts.languages) == {"English": 1, "German": 1, "Dutch": 1, UNDETERMINED: 2}
    assert facts.languages_of == 5


def test_judgements_of_the_planted_shop(facts):
    valid, test = facts.asked.coverage
    assert (valid.split, valid.queries, valid.answered, valid.items, valid.gallery) == ("valid", 1, 1, 1, 1)
    assert (test.queries, test.answered, test.items) == (3, 2, 3)
    assert test.gallery == 5, "an item of another split is judged, so all stand in the gallery"
    assert (test.median_judged, test.median_best, test.share) == (2.0, 1.5, 5 / 15)
    assert test.gains == ((1.0, 3), (0.1, 1), (0.0, 1))
    assert facts.asked.slices == (("asked", 1),) and facts.asked.train_items == 0.5
    assert (facts.contamination.queries, facts.contamination.verbatim, facts.contamination.examples) == (2, 1, ("y",))


def test_counts_of_the_toy_are_those_of_a_naive_loop(toy):
    found, items = datasheet.facts(toy), list(Toy().items(silent))
    images = Counter(sum(view.kind == "image" for view in item.views) for item in items)
    assert found.images_per_item == tuple((n, images[n]) for n in range(max(images) + 1))
    for text in found.lengths:
        words = [len(v.content.split()) for item in items for v in item.views if v.name == text.name]
        assert (text.items, text.most_words) == (len(words), max(words))
        np.testing.assert_allclose([text.median_words, text.p95_words], [np.median(words), np.percentile(words, 95)])
    for split in found.splits:
        chosen = [item for item in items if item.split == split.name]
        assert split.items == split.groups == len(chosen)
        assert split.images == sum(view.kind == "image" for item in chosen for view in item.views)
    assert found.near is None and dict(found.missing)["no description"] == 8


def test_a_catalogue_without_queries_images_or_texts(tmp_path):
    class Bare(Toy):
        def items(self, progress):
            yield Item("only", "only", "train", "", ())

        def queries(self):
            return Queries()

    catalogue = prepare(Bare(), silent, tmp_path)
    found = datasheet.facts(catalogue)
    assert (found.images, found.texts, found.asked, found.contamination) == (0, 0, None, None)
    assert found.images_per_item == ((0, 1),) and dict(found.missing)["no image"] == 1
    assert "no queries" in datasheet.as_text(found)
    page, *_ = datasheet.write(catalogue, tmp_path / "out")
    assert "This data set has no queries" in page.read_text() and "Nothing was dropped" in page.read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A lamp for the house, made of brass and with a shade", "English"),
        ("Eine Lampe aus Messing für das Haus, mit einem Schirm", "German"),
        ("Une lampe en laiton pour la maison avec un abat-jour", "French"),
        ("Una lámpara de latón para la casa con una pantalla", "Spanish"),
        ("Una lampada in ottone per la casa con il paralume", "Italian"),
        ("Uma luminária de latão para a casa com um abajur", "Portuguese"),
        ("Een lamp van messing voor het huis met een kap", "Dutch"),
        ("En lampa av mässing för huset och med en skärm", "Swedish"),
        ("Lampa z mosiądzu do domu i na taras oraz do ogrodu", "Polish"),
        ("Ev için pirinç bir lamba ve abajur ile birlikte", "Turkish"),
        ("家庭用の真鍮ランプ", "Japanese"), ("家用黄铜灯", "Chinese"), ("집을 위한 황동 램프", "Korean"),
        ("Латунная лампа для дома, USB", "Cyrillic"), ("Ορειχάλκινη λάμπα", "Greek"), ("مصباح نحاسي", "Arabic"),
        ("iPhone 12 ケース シリコン", "Japanese"),
        ("Acme Lamp 3000 Brass", UNDETERMINED), ("123 456 !!", UNDETERMINED), ("", UNDETERMINED),
    ],
)  # fmt: skip
def test_languages(text, said):
    assert language(text) == said


def test_rounding_never_says_none_or_all_where_it_is_not():
    shown = [numbers.percent(part, 100_000) for part in (0, 1, 100, 4_670, 99_900, 99_999, 100_000)]
    assert shown == ["0%", "< 0.1%", "0.1%", "4.7%", "99.9%", "> 99.9%", "100%"]
    assert numbers.percent(0, 0) == "0%"
    assert [numbers.number(value) for value in (3.0, 3.56, 29.96, 1234.4)] == ["3", "3.6", "30", "1,234"]


# --- text and page


def test_text_fits_a_terminal_and_names_no_words_of_the_shop(facts):
    said = datasheet.as_text(facts)
    assert max(map(len, said.splitlines())) <= 100 + len(HOSTILE)
    for part in ("CC BY-NC 4.0", "no: pages and results hold ids only", "row without an id", facts.fingerprint):
        assert part in said
    assert "zanzibar" not in said


def test_three_files_are_written_and_the_same_again(pages, shops, tmp_path):
    for shop, files in zip(shops, pages, strict=True):
        assert [file.name for file in files] == ["shop@10k.html", "shop@10k.croissant.json", "shop@10k-sheet.png"]
        assert sorted(file.name for file in files[0].parent.iterdir()) == sorted(file.name for file in files)
        again = datasheet.write(shop, tmp_path / shop.fingerprint[:4] / "again")
        assert [file.read_bytes() for file in again] == [file.read_bytes() for file in files]
        assert Image.open(files[2]).size > (200, 200)


class Page(Reader):
    VOID = Reader.VOID | {"img", "col"}


def test_the_page_is_one_well_formed_file_without_network(pages):
    for html in (files[0].read_text(encoding="utf-8") for files in pages):
        page = Page()
        page.feed(html)
        assert page.open == [] and len(page.ids) == len(set(page.ids))
        beside = "shop%4010k.croissant.json"
        assert all(link.startswith("data:") or link[1:] in page.ids or link == beside for link in page.links)
        assert not re.search(r"@import|url\(|<link[^>]*https?:|src=\"http", html)


def test_what_others_wrote_is_escaped(pages):
    for html in (files[0].read_text(encoding="utf-8") for files in pages):
        assert "<script>alert" not in html and "49" not in re.findall(r"<h1>(.*?)</h1>", html, re.S)[0]
        assert html.count("</script>") == 1, "nothing closes the metadata early"
        embedded = re.search(r'<script type="application/ld\+json">(.*?)</script>', html, re.S)[1]
        assert json.loads(embedded)["alternateName"] == f"Shop {HOSTILE}"


def test_a_page_of_data_that_may_not_be_passed_on_holds_ids_alone(pages, shops):
    for file in pages[0][:2]:
        html = file.read_text(encoding="utf-8")
        assert "zanzibar" not in html and "<img" not in html and "data:image" not in html
        texts = [
            *shops[0].assets.texts,
            *(query.text for split in ("train", "test") for query in shops[0].queries(split)),
        ]
        assert not [text for text in texts if text in html]
    html = pages[0][0].read_text(encoding="utf-8")
    assert "may not be passed on" in html and "<code>d</code>" in html
    for item in shown_items(shops[0], range(5)):
        shown = _shown(item, redistributable=False)  # the template is not even given them
        assert (shown.pictures, shown.lines) == ((), ()) and shown.images + shown.texts == len(item.views)


def test_a_page_of_free_data_shows_items_with_every_view_and_text(pages, shops):
    html = pages[1][0].read_text(encoding="utf-8")
    assert "may not be passed on" not in html and "zanzibar" in html
    assert html.count("<img") == html.count("data:image/jpeg;base64,") == 8
    assert "een mok voor de thee" in html


def test_a_broken_split_is_said_plainly(facts):
    html = page(replace(facts, leaks=True), [], {})
    assert "scores on this data mean nothing" in html and "ftbench data verify shop@10k" in html
    assert "stand in two splits" in datasheet.as_text(replace(facts, leaks=True))


def test_a_long_tail_of_images_shares_the_last_column(facts):
    made = _bins(replace(facts, images_per_item=tuple((n, 0 if n < 3 else 10) for n in range(40)), items=370))
    assert [made[0].label, made[-1].label, len(made)] == ["3", "18+", 16]
    assert sum(column.items for column in made) == 370


def test_rows_by_table_come_from_the_source_to_text_and_page(facts, pages):
    assert facts.rows == {"products": {"read": 1_015, "kept": 5, "merged": 1_000, "dropped": 10}}
    cells = r"products</th><td[^>]*>1,015</td><td[^>]*>5</td><td[^>]*>1,000</td><td[^>]*>10</td>"
    assert all(re.search(cells, files[0].read_text(encoding="utf-8")) for files in pages)
    assert re.search(r"products +1,015 +5 +1,000 +10\n", datasheet.as_text(facts))
    without = replace(facts, rows={})
    assert "Every row that was read" not in page(without, [], {}) and "\nrows" not in datasheet.as_text(without)


def test_a_folder_that_cannot_be_written_is_a_clear_error(shops, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the datasheet to .*Choose another folder"):
        datasheet.write(shops[0], tmp_path / "file" / "below")


def test_shown_items_are_the_items_as_stored(toy):
    originals = list(Toy().items(silent))
    for row, item in zip((0, 7, 39), shown_items(toy, (0, 7, 39)), strict=True):
        assert (item.item_id, item.split, item.category) == (f"item{row:02d}", originals[row].split, "lamp")
        assert [view.name for view in item.views] == [view.name for view in originals[row].views]
        for view, original in zip(item.views, originals[row].views, strict=True):
            np.testing.assert_array_equal(view.content, original.content)
            assert view.role == original.role


# --- Croissant


@pytest.fixture(scope="module")
def metadata(pages):
    return json.loads(pages[0][1].read_text(encoding="utf-8"))


def test_croissant_names_every_file_with_its_hash(metadata, shops):
    files = {about["@id"]: about["sha256"] for about in metadata["distribution"]}
    assert files == {name: about["sha256"] for name, about in shops[0].manifest["files"].items()}
    assert metadata["version"] == "2.0.0" and metadata["license"] == ["https://spdx.org/licenses/CC-BY-NC-4.0.html"]
    assert "conditionsOfAccess" in metadata


def test_croissant_describes_every_column_and_its_references_exist(metadata, shops):
    fields = {field["@id"]: field for records in metadata["recordSet"] for field in records["field"]}
    for records in metadata["recordSet"][1:]:
        columns = shops[0].table(records["@id"]).schema.names
        assert [field["source"]["extract"]["column"] for field in records["field"]] == columns
    for field in fields.values():
        assert field.get("references", {"field": {"@id": "items/item_id"}})["field"]["@id"] in fields
    assert fields["judgements/query_id"]["references"] == {"field": {"@id": "queries/query_id"}}
    assert fields["items/images"]["repeated"] and fields["images/data"]["dataType"] == "sc:ImageObject"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Apache-2.0", ["Apache-2.0"]),
        ("OSL-3.0 / AFL-3.0", ["OSL-3.0", "AFL-3.0"]),
        ("CC BY 4.0, images included", ["CC-BY-4.0"]),
    ],
)
def test_licences_become_their_spdx_addresses(text, found):
    assert licences(text) == [f"https://spdx.org/licenses/{name}.html" for name in found]


def test_an_unknown_licence_stays_in_its_own_words():
    assert licences("none assigned: ship ids only") == ["none assigned: ship ids only"]


def test_croissant_is_valid_to_its_own_library(pages, toy, tmp_path):
    mlcroissant = pytest.importorskip("mlcroissant")
    (tmp_path / "toy.json").write_text(json.dumps(croissant(datasheet.facts(toy), toy)))
    for file in (pages[0][1], pages[1][1], tmp_path / "toy.json"):
        shutil.copy(file, tmp_path / "one.json")
        issues = mlcroissant.Dataset(jsonld=str(tmp_path / "one.json")).metadata.ctx.issues
        assert not issues.errors
        assert all("datePublished" in warning for warning in issues.warnings)


def test_the_file_for_the_board_is_valid_and_holds_no_word_of_data_that_stays_at_home(shops, tmp_path):
    from ftbench.report import data

    for shop, shown in zip(shops, (False, True), strict=True):
        path = datasheet.write_json(shop, tmp_path)
        sheet = data.read(path)
        assert path == tmp_path / shop.name / data.FILE and sheet["fingerprint"] == shop.fingerprint
        blocks = json.dumps(sheet["blocks"])
        assert ('"lamp"' in blocks) == ("mug" in blocks) == ('"v1"' in blocks) == shown and "zanzibar" not in blocks
        assert all(block["bars"] is None or len(block["bars"]) == len(block["rows"]) for block in sheet["blocks"])
        assert datasheet.write_json(shop, tmp_path).read_bytes() == path.read_bytes()


def test_committed_datasheets_disclose_what_the_source_says():
    for name in ("studio", "studio-confirm"):
        told = json.loads((ROOT / "results" / name / "datasheet.json").read_text(encoding="utf-8"))
        assert told["disclosures"] == list(parse_name(name).info.disclosures)
