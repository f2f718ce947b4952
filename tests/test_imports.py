"""A shop's own catalogue as a data set, as a person types it; queries made from attributes; private records."""

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from standin import StandIn
from test_end_to_end import ftbench

from ftbench.errors import DataError, FtbenchError
from ftbench.items import Item, Queries, SourceInfo, View, normalize_query, silent, split_of
from ftbench.sources import DATA, check_name, compose_name, source_for
from ftbench.sources.attribute_queries import MOST_RELEVANT, PER_ANSWER, WithAttributeQueries, asked_values
from ftbench.sources.imports import own_name
from ftbench.sources.magento_items import words
from ftbench.sources.magento_luma import COMMIT, SERVER_VARIABLE, VARIABLE, Luma, luma_folder, manifest
from ftbench.sources.rows import SHARES

COLORS = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 180, 30), "gold": (210, 180, 40)}
MATERIALS = ("cotton", "linen", "wool")


def jpeg(number, color):
    """A photograph of its own for each number."""
    pixels = np.random.default_rng(number).integers(0, 60, (48, 40, 3), dtype=np.uint8)
    pixels[8:40, 8:32] = np.minimum(pixels[8:40, 8:32] + np.array(color), 255).astype(np.uint8)
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "JPEG", quality=95)
    return stored.getvalue()


def shop(count=36):
    """(number, colour, material, kind) of the products of a small shop."""
    for i in range(count):
        yield i, list(COLORS)[i % 4], MATERIALS[i // 4 % 3], ("shirt", "scarf")[i // 12 % 2]


def shopify_export(folder, address="https://cdn.example.com/files"):
    """A Shopify export of the shop and its photographs: path below the address -> bytes."""
    header = ["Handle", "Title", "Body (HTML)", "Vendor", "Type", "Tags", "Option1 Name", "Option1 Value", "Image Src",
              "Image Position"]  # fmt: skip
    pictures = {}
    with open(folder / "products_export.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        for i, color, material, kind in shop():
            for view in range(2):
                pictures[f"p{i}-{view}.jpg"] = jpeg(2 * i + view, COLORS[color])
            table.writerow([f"p{i}", f"Thing no. {i}", "<p>Nice &amp; soft</p>", "Acme", kind, f"{material}, new",
                            "Color", color, f"{address}/p{i}-0.jpg?v=1", 1])  # fmt: skip
            table.writerow([f"p{i}", "", "", "", "", "", "", "", f"{address}/p{i}-1.jpg?v=1", 2])
    return folder / "products_export.csv", pictures


def write(folder, files):
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def said(finished):
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_a_shopify_export_becomes_a_data_set_that_tasks_run_on(tmp_path):
    export, pictures = shopify_export(tmp_path)
    photographs = write(tmp_path / "photographs", pictures)
    here = {"cache": tmp_path / "cache", "cwd": tmp_path}
    shown = said(ftbench("data", "import", "shopify", export, "--images", photographs, "--name", "my-shop", **here))
    assert "items       36" in shown and "images      72" in shown and "without queries" in shown
    assert "ftbench run --method default --task query2item --data my-shop" in shown
    assert "my-shop" in said(ftbench("list", "data", **here))
    said(ftbench("data", "verify", "my-shop", **here))
    shown = said(
        ftbench("run", "-m", "bm25", "-m", "random", "-t", "query2item", "-t", "cross_view", "-d", "my-shop", **here)
    )
    assert "ftbench report --results private-results --site private-site" in shown
    records = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/my-shop/*/*.json"))
    assert len([name for name in records if name.startswith("private-results/my-shop/")]) == len(records) >= 3
    assert not (tmp_path / "results").exists(), "private data stays out of results/"
    said(ftbench("run", "-m", "bm25", "-t", "query2item", "-d", "my-shop", "--results", "results", **here))
    assert len(list((tmp_path / "results" / "my-shop" / "query2item").glob("bm25-*.json"))) == 1, "unless asked"
    said(ftbench("report", "--results", "private-results", "--site", "private-site", **here))
    wrong = ftbench("run", "-m", "bm25", "-t", "query2item", "-d", "my-shopp", **here)
    assert wrong.returncode == 1 and "Did you mean 'my-shop'" in wrong.stderr


def test_photographs_are_downloaded_once_and_own_queries_are_taken(tmp_path):
    with StandIn() as server:
        export, pictures = shopify_export(tmp_path, f"{server.url}/files")
        server.files |= {f"/files/{name}": data for name, data in pictures.items()}
        server.misbehave("/files/p3-0.jpg", "404")
        server.misbehave("/files/p4-1.jpg", "html")
        server.misbehave("/files/p5-1.jpg", "500", times=1)
        queries = tmp_path / "queries.tsv"
        lines = [f"thing of shelf {i}\tp{i}\t2" for i in range(36)]
        queries.write_text("\n".join(["query\titem_id\tgain", *lines]), encoding="utf-8")
        words_typed = ("data", "import", "shopify", export, "--images", "download", "--queries", queries)
        shown = said(ftbench(*words_typed, cache=tmp_path / "cache", cwd=tmp_path))
        assert "products_export (shopify-v1)" in shown and "images      70" in shown
        assert "1  image not to be had (404)" in shown and "1  image not to be had (not an image)" in shown
        assert "queries     " in shown and "without queries" not in shown
        asked = len(server.requests)
        assert said(ftbench(*words_typed, cache=tmp_path / "cache", cwd=tmp_path)) == shown
        assert len(server.requests) == asked, "what is there, and what is gone for good, is not asked for again"


MAGENTO = ("sku", "product_type", "name", "description", "categories", "base_image", "additional_images",
           "additional_attributes")  # fmt: skip


def test_what_would_be_empty_is_refused_and_what_is_damaged_says_how_to_make_it_again(tmp_path):
    export, pictures = shopify_export(tmp_path)
    photographs = write(tmp_path / "photographs", pictures)
    here = {"cache": tmp_path / "cache", "cwd": tmp_path}
    shown = said(ftbench("data", "import", "shopify", export, "--name", "bare", **here))
    assert "72  photograph listed, and not read: add --images" in shown
    queries = tmp_path / "queries.tsv"
    queries.write_text("query\titem_id\nred thing\tSKU-1\n", encoding="utf-8")
    wrong = ftbench("data", "import", "shopify", export, "--queries", queries, "--name", "bare", **here)
    assert wrong.returncode == 1 and "SKU-1" in wrong.stderr and "such as 'p0'" in wrong.stderr
    queries.write_text("query,item_id\nred thing,p1\n", encoding="utf-8")
    wrong = ftbench("data", "import", "shopify", export, "--queries", queries, "--name", "bare", **here)
    assert wrong.returncode == 1 and "separated by commas" in wrong.stderr and wrong.stderr.count("\n") == 2
    with StandIn() as server:
        away, _ = shopify_export(tmp_path, f"{server.url}/files")
        wrong = ftbench("data", "import", "shopify", away, "--images", "download", "--name", "gone", **here)
    assert (
        wrong.returncode == 1 and "none of its photographs can be used" in wrong.stderr and "(404): 72" in wrong.stderr
    )
    said(ftbench("data", "import", "shopify", away, "--images", photographs, "--name", "mine", **here))
    (tmp_path / "cache" / "data" / "mine" / "texts.arrow").unlink()
    wrong = ftbench("data", "verify", "mine", **here)
    assert f"ftbench data import shopify {away} --name mine --images {photographs}" in wrong.stderr
    (tmp_path / "cache" / "data" / "bare" / "manifest.json").write_text("{", encoding="utf-8")
    wrong = ftbench("data", "verify", "bare", **here)
    assert "its manifest cannot be read" in wrong.stderr and "Traceback" not in wrong.stderr


def test_a_magento_export_with_photographs_on_the_shops_server(tmp_path):
    with StandIn() as server, open(tmp_path / "catalog.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(MAGENTO)
        for i, color, material, kind in shop(12):
            paths = [f"/t/h/th {i}_{view}.jpg" for view in range(2)]
            for view, path in enumerate(paths):
                server.files[f"/media/catalog/product{path}"] = jpeg(2 * i + view, COLORS[color])
            attributes = f"color={color},material={material},size=XL"
            table.writerow([f"T{i}", "simple", f"Thing {i}", "Soft.", f"Default Category/{kind}", paths[0], paths[1],
                            attributes])  # fmt: skip
        file.flush()
        server.misbehave("/media/catalog/product/t/h/th 7_1.jpg", "404")
        address = f"{server.url}/media/catalog/product/"
        finished = ftbench("data", "import", "magento", tmp_path / "catalog.csv", "--images", address,
                           cache=tmp_path / "cache", cwd=tmp_path)  # fmt: skip
        shown = said(finished)
    assert "catalog (magento-v1, attribute queries v1)" in shown and "images      23" in shown
    assert "1  image not to be had (404)" in shown


def test_a_folder_and_what_it_refuses(tmp_path):
    rows = [{"item_id": f"f{i}", "title": f"Thing {i}", "tags": [color, material], "category": kind,
             "images": [f"p{i}-0.jpg", f"p{i}-1.jpg"]} for i, color, material, kind in shop(12)]  # fmt: skip
    folder = write(tmp_path / "Our Shop", {
        f"p{i}-{view}.jpg": jpeg(2 * i + view, COLORS[color]) for i, color, *_ in shop(12) for view in range(2)
    })  # fmt: skip
    (folder / "products.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    here = {"cache": tmp_path / "cache", "cwd": tmp_path}
    assert "our-shop (folder-v1, attribute queries v1)" in said(ftbench("data", "import", "folder", folder, **here))
    for words_typed, message in (
        (("folder", folder, "--images", folder), "leave --images out"),
        (("folder", folder, "--name", "studio"), "Choose another"),
        (("folder", folder, "--name", "Our Shop"), "expected up to 64"),
        (("wix", folder), "unknown format 'wix'"),
        (("magento", folder / "gone.csv", "--images", folder), "does not exist"),
        (("shopify", folder / "products.jsonl", "--queries", folder / "gone.tsv"), "no such file"),
    ):
        finished = ftbench("data", "import", *words_typed, **here)
        assert finished.returncode == 1 and message in finished.stderr, finished.stderr
        assert "Traceback" not in finished.stderr


def test_names_that_people_give():
    assert own_name(None, Path("x/Products Export (1).csv")) == "products-export-1"
    assert own_name("a.b_c-9", Path("x")) == "a.b_c-9"
    for name in ("../up", "A", "a" * 65, "a@10k", *DATA):
        with pytest.raises(DataError):
            own_name(name, Path("x.csv"))


class Shop:
    """A source of items with attributes, in memory."""

    def __init__(self, rows):
        self.info = SourceInfo("shop", "v1", "Shop", "own", False, "", True, private=True)
        self.dropped, self.rows, self._rows = {}, {}, rows

    def items(self, progress):
        for item_id, category, attributes, tags in self._rows:
            views = (View("text", "title", "primary", f"Thing {item_id}"), View("text", "tags", "auxiliary", tags))
            yield Item(item_id, item_id, split_of("item", item_id, SHARES), category, views, attributes)

    def queries(self):
        return Queries()


ROWS = [
    (f"p{i}", kind, {"color": f"{color}|pale {color}", "material": material, "size": "XL"},
     f"{kind}, {color.title()}, {material} mix, sale") for i, color, material, kind in shop(48)
]  # fmt: skip


def test_attribute_queries_are_judged_as_a_naive_loop_judges():
    source = WithAttributeQueries(Shop(ROWS))
    items = {item.item_id: item for item in source.items(silent)}
    found = source.queries()
    splits = {query.query_id: query.split for query in found.queries}
    gains, answers = {}, []
    for pair in (*found.judgements, *found.interactions):
        gains.setdefault(pair.query_id, set()).add(pair.item_id)
    assert len(found.queries) > 20 and {query.split for query in found.queries} == {"train", "valid", "test"}
    for query in found.queries:
        asked = words(query.text)
        naive = {
            item_id for item_id, kind, attributes, _ in ROWS
            if any(
                sorted(asked.split()) == sorted(f"{' '.join(terms)} {kind}".split())
                for values in [asked_values(attributes)]
                for terms in [(v,) for v in values] + [(v, w) for v in values for w in values if v < w]
            )
        }  # fmt: skip
        assert query.split == split_of("query", normalize_query(query.text), SHARES)
        if query.split == "train":
            naive = {item_id for item_id in naive if items[item_id].split == "train"}
        assert gains[query.query_id] == naive and 0 < len(naive) <= MOST_RELEVANT, query.text
        answers.append((query.split == "train", frozenset(naive)))
    assert max(answers.count(answer) for answer in answers if not answer[0]) <= PER_ANSWER
    assert all(splits[pair.query_id] == "train" for pair in found.interactions)
    assert all(splits[judgement.query_id] != "train" for judgement in found.judgements)


def test_what_is_asked_for_is_in_no_tag():
    items = {item.item_id: item for item in WithAttributeQueries(Shop(ROWS)).items(silent)}
    for item_id, kind, attributes, _ in ROWS:
        tags = next(view.content for view in items[item_id].views if view.name == "tags")
        assert tags == f"{kind}, sale", "neither the colour nor the material mix"
        assert "xl" not in asked_values(attributes), "nobody sees a size"
    bare = WithAttributeQueries(Shop([("a", "", {"color": "red"}, "red")]))
    assert [view.name for view in next(iter(bare.items(silent))).views] == ["title"], "an empty view is none"


def test_the_items_order_changes_no_query():
    forward, backward = (WithAttributeQueries(Shop(rows)).queries() for rows in (ROWS, ROWS[::-1]))
    assert forward.queries == backward.queries
    assert set(forward.judgements) == set(backward.judgements)


def test_names_of_public_data(tmp_path):
    assert compose_name("amazon-reviews", "All_Beauty", "10k") == "amazon-reviews@All_Beauty-10k"
    assert compose_name("abo", None, "100k") == "abo@100k" and compose_name("abo") == "abo"
    for name in ("amazon-reviews@All_Beauty-10k", "amazon-c4@all-100k", "amazon-esci@All_Beauty", "abo", "marqo-gs@1M"):
        check_name(name)
        assert source_for(name, None, tmp_path).info.name == name
    for name, message in (
        ("amazon-reviews@All_Beuty-10k", "Did you mean 'All_Beauty'"),
        ("amazon-c4@11k", "unknown tier '11k'"),
        ("amazon-c4@All_Beuty", "Did you mean 'All_Beauty'"),
        ("abo@11k", "Did you mean '10k'"),
        ("abos", "Did you mean 'abo'"),
        ("magento-luma@10k", "unknown data set"),
    ):
        with pytest.raises(FtbenchError, match=message):
            check_name(name)
    with pytest.raises(FtbenchError, match="abo has no categories"):
        compose_name("abo", "Shoes", "10k")
    with pytest.raises(FtbenchError, match="no raw files of abo"):
        source_for("abo@10k", tmp_path, tmp_path)
    with pytest.raises(FtbenchError, match="--category All_Beauty"):
        source_for("amazon-reviews", None, tmp_path)
    with pytest.raises(FtbenchError, match="leave --category and --tier out"):
        compose_name("abo@10k", None, "10k")


@pytest.mark.skipif(luma_folder() is None, reason=f"the Luma store is not on this machine (or {VARIABLE})")
def test_luma_is_downloaded_where_it_is_not_on_disk(tmp_path, monkeypatch):
    store, packed = luma_folder(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for path in manifest():
            archive.add(store / path, f"magento2-sample-data-{COMMIT}/{path}")
        evil = tarfile.TarInfo(f"magento2-sample-data-{COMMIT}/../../evil.txt")
        archive.addfile(evil, io.BytesIO())
    monkeypatch.setattr("ftbench.sources.magento_luma.luma_folder", lambda source=None: None)
    with StandIn(files={f"/{COMMIT}": packed.getvalue()}) as server:
        monkeypatch.setenv(SERVER_VARIABLE, server.url)
        server.misbehave(f"/{COMMIT}", "cut", times=1)
        items = list(Luma(downloads=tmp_path / "luma").items(silent))
        asked = len(server.requests)
        assert len(items) == 191 and asked == 2
        assert len(list(Luma(downloads=tmp_path / "luma").items(silent))) == 191
        assert len(server.requests) == asked and not (tmp_path / "evil.txt").exists()
    with StandIn(files={f"/{COMMIT}": packed.getvalue()[:500_000]}) as server:
        monkeypatch.setenv(SERVER_VARIABLE, server.url)
        with pytest.raises(DataError, match="cannot be unpacked"):
            list(Luma(downloads=tmp_path / "torn").items(silent))
        assert not list((tmp_path / "torn").glob("*.tar.gz")), "a torn archive is fetched again"
