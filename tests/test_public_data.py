"""Public data as a person types it: prepare, verify, inspect and run, from a stand-in that serves the published files.

Nothing is mocked: commands run in processes of their own, and find the hub and the servers by the environment.
"""

import csv
import functools
import hashlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import abo_files
import amazon_files
import pyarrow.parquet as pq
import pytest
import test_amazon_c4 as c4_files
import test_amazon_esci as esci_files
import test_marqo_gs as marqo_files
from PIL import Image
from standin import StandIn

from ftbench.catalogue import Catalogue, open_catalogue
from ftbench.errors import DataError
from ftbench.items import SPLITS, split_of
from ftbench.sources import abo, amazon_c4, amazon_esci, amazon_images, amazon_reviews, marqo_gs
from ftbench.sources.amazon_images import small_image
from ftbench.sources.fetch import Fetched
from ftbench.sources.rows import LARGE_SHARES

ROOT = Path(__file__).resolve().parent.parent
REVIEWS = "amazon-reviews@All_Beauty-10k"
META, PRAISE = (f"raw/{kind}.jsonl" for kind in ("meta_categories/meta_All_Beauty", "review_categories/All_Beauty"))
GONE = "71b"  # the one photograph that its server does not have
# Test items enough for a ranking of ten, each with a review.
MORE = [amazon_files.asin_in("test", f"B1{n:03d}") for n in range(12)]
ITEMS = [*amazon_files.META.values(), *(
    amazon_files.item(asin, f"Sturdy thing {asin}", [amazon_files.image(f"61{asin}"), amazon_files.image(f"62{asin}")])
    for asin in MORE
)]  # fmt: skip
PRAISED = [*amazon_files.REVIEWS.values(), *(
    amazon_files.review(asin, f"I would buy the thing {asin} again at any time.", amazon_files.TIMES["test"])
    for asin in MORE
)]  # fmt: skip
GARBAGE = (b'{"parent_asin": "B0TORN', b"\0" * 40, b"[]", b'{"title": "\xff"}')


class World:
    """All servers in one, and a home of its own for each name that a person gives it."""

    def __init__(self, hub, folder):
        self.hub, self.folder = hub, folder
        self.repos = {form: reviews_files(folder / form, form, f"{hub.url}/images/I/") for form in ("jsonl", "parquet")}
        for address in re.findall(f'{amazon_files.HOST}[^"]*', json.dumps(ITEMS)):
            path = small_image(address).removeprefix("https://m.media-amazon.com")
            if GONE not in path:
                hub.files[path] = photograph(path)
        self.use("jsonl")
        add_c4(hub, folder / "c4")
        add_esci(hub, folder / "esci")
        add_abo(hub, folder / "abo")
        add_marqo(hub, folder / "marqo")

    def use(self, form):
        """From now on the hub has Amazon Reviews in this form."""
        self.hub.repos[amazon_reviews.REPOSITORY] = self.repos[form]

    def environment(self, home):
        return os.environ | {
            "FTBENCH_CACHE": str(self.folder / home / "cache"), "HF_HOME": str(self.folder / home / "hf"),
            "HF_ENDPOINT": self.hub.url, abo.VARIABLE: f"{self.hub.url}/abo",
            **{name: f"{self.hub.url}/esci/" for name in amazon_esci.VARIABLES.values()},
            "OMP_NUM_THREADS": "1", "COLUMNS": "160",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }  # fmt: skip

    def start(self, words, home):
        command = [sys.executable, "-m", "ftbench", *words.split()]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder,
                                env=self.environment(home))  # fmt: skip

    def type(self, words, home="home"):
        """What a command prints; it must go well."""
        with self.start(words, home) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err[-3000:]
        return out

    def prepared(self, name, home="home") -> Catalogue:
        found = open_catalogue(name, cache=self.folder / home / "cache")
        assert found is not None
        return found

    def images_asked(self, since=0):
        return [target for how, target, _ in self.hub.requests[since:] if target.startswith("/images/")]


def photograph(path):
    """A picture that differs from those of all other paths, also to a perceptual hash."""
    out = io.BytesIO()
    small = Image.frombytes("RGB", (8, 8), hashlib.sha512(path.encode()).digest() * 3)
    small.resize((256, 192), Image.Resampling.BICUBIC).save(out, "JPEG")
    return out.getvalue()


def tree(folder):
    """path -> bytes of the files below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def reviews_files(folder, form, host):
    """The planted rows in either form; JSON lines also have lines that are none."""
    items = [json.loads(json.dumps(row).replace(amazon_files.HOST, host)) for row in ITEMS]
    if form == "jsonl":
        amazon_files.write_lines(folder / META, [*items, *GARBAGE])
        amazon_files.write_lines(folder / PRAISE, [*GARBAGE, *PRAISED])
    else:
        rows = map(amazon_files.parquet_item, items)
        amazon_files.write_shards(folder / "raw_meta_All_Beauty", rows, amazon_files.META_SCHEMA, 30, 3)
        amazon_files.write_shards(folder / "raw_review_All_Beauty", PRAISED, amazon_files.REVIEW_SCHEMA, 10, 2)
    return tree(folder)


def add_c4(hub, folder):
    """Its products are those of Amazon Reviews, so that photographs are joined."""
    folder.mkdir()
    with open(folder / amazon_c4.QUERIES, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(c4_files.COLUMNS)
        for qid, item_id in enumerate((amazon_files.A, amazon_files.B, amazon_files.C, "GONE")):
            writer.writerow((qid, f"I want something like {item_id}", item_id, "U", 5, c4_files.SECRET))
    rows = [row for row in ITEMS if row["parent_asin"] and row["title"]]
    lines = [{"item_id": row["parent_asin"], "category": "Beauty", "metadata": f"{row['title']} {row['parent_asin']}"}
             for row in rows]  # fmt: skip
    amazon_files.write_lines(folder / amazon_c4.POOL, [*lines, b"{torn"])
    hub.repos[amazon_c4.REPOSITORY] = tree(folder)


def add_esci(hub, folder):
    folder.mkdir()
    more = [f"M{n}" for n in range(10)]
    pairs = [*esci_files.PAIRS, *(esci_files.pair(1, "sofa", product, "S", "test") for product in more)]
    products = [*esci_files.ROWS, *(esci_files.product(product, "Another sofa") for product in more)]
    esci_files.write_parquet(folder / amazon_esci.EXAMPLES, pairs, esci_files.PAIR_SCHEMA)
    esci_files.write_parquet(folder / amazon_esci.PRODUCTS, products, esci_files.PRODUCT_SCHEMA)
    (folder / amazon_esci.SOURCES).write_text("query_id,source\n1,negations\n2,other\n")
    address = f"{hub.url}/images/I/41{{}}._AC_UL1500_.jpg"
    (folder / amazon_esci.SQID[0]).write_text(f"product_id,image_url\nS1,{address.format('a')}\nS2,\n")
    (folder / amazon_esci.SQID[1]).write_text(f"product_id,image_url\nS2,{address.format('d')}\nS3,no address\n")
    hub.files |= {f"/esci/{name}": data for name, data in tree(folder).items()}


def add_abo(hub, folder):
    names = {split: [] for split in SPLITS}
    for asin in (f"B{n:09d}" for n in range(999)):
        names[split_of("item", f"amazon.com:{asin}", LARGE_SHARES)].append(asin)
    rows = [abo_files.listing(asin, (f"{asin}a", f"{asin}b"), bullet_point=abo_files.said(f"Made of {asin}"))
            for split in SPLITS for asin in names[split][:12]]  # fmt: skip
    rows += [abo_files.listing(f"C{n:09d}", (f"C{n}",)) for n in range(12)] + [{"item_id": "no domain"}]
    ids = sorted({i for row in rows for i in (row.get("main_image_id"), *row.get("other_image_id", ())) if i})
    abo_files.write(folder, rows, {i: photograph(i) for i in ids}, garbage=(b"{torn", b"[]"))
    hub.files |= {f"/abo/{path}": (folder / name).read_bytes() for name, (path, _) in abo.FILES.items()}


def add_marqo(hub, folder):
    more = [marqo_files.row(9, "lamp", 910 + n, 10 + n, photograph(f"marqo {n}")) for n in range(10)]
    parts = {"in_domain-0.parquet": marqo_files.IN_DOMAIN, "zero_shot-0.parquet": [*marqo_files.ZERO_SHOT, *more]}
    marqo_files.write(folder, parts | {"novel_query-0.parquet": []})
    assert pq.read_schema(folder / "data" / "novel_query-0.parquet").names[0] == "image"
    hub.repos[marqo_gs.REPOSITORY] = tree(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with StandIn(large=4096) as hub:
        yield World(hub, tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def well_behaved(world):
    yield
    world.hub.behave()
    world.use("jsonl")


NAMES = {
    REVIEWS: "amazon-reviews --category All_Beauty --tier 10k",
    "amazon-c4@All_Beauty-10k": "amazon-c4 --category All_Beauty --tier 10k",
    "amazon-esci@10k": "amazon-esci --tier 10k",
    "abo@10k": "abo --tier 10k",
    "marqo-gs@10k": "marqo-gs --tier 10k",
}


@functools.cache
def prepared_once(world, name):
    world.type(f"data prepare {NAMES[name]}")
    return world.prepared(name)


def adds_up(catalogue):
    tables = catalogue.manifest["rows"]
    for counts in tables.values():
        assert counts["read"] == counts["kept"] + counts["merged"] + counts["dropped"]
    assert tables and sum(counts["read"] for counts in tables.values()) > 0
    names = ("read", "kept", "merged", "dropped")
    return {table: tuple(counts[name] for name in names) for table, counts in tables.items()}


EXPECTED = {  # items, images, test queries; (read, kept, merged, dropped) of a table
    REVIEWS: (68, 94, 14, "items", (76, 68, 1, 7)),
    "amazon-c4@All_Beauty-10k": (68, 94, 3, "products", (70, 68, 1, 1)),
    "amazon-esci@10k": (19, 2, 1, "products", (24, 19, 1, 4)),
    "abo@10k": (48, 84, 0, "listings", (51, 48, 0, 3)),
    "marqo-gs@10k": (24, 22, 1, "products", (26, 24, 1, 1)),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_public_data_set_is_prepared_verified_and_inspected(world, name, tmp_path):
    catalogue = prepared_once(world, name)
    items, images, queries, table, counts = EXPECTED[name]
    found = catalogue.manifest["counts"]
    assert (found["items"], found["images"], len(catalogue.queries("test"))) == (items, images, queries)
    assert adds_up(catalogue)[table] == counts
    out = world.type(f"data verify {name}")
    assert f"{name}: 6 files have their sha256, no dangling evidence, nothing in two splits." in out
    out = world.type(f"data inspect {name} --out {tmp_path}")
    assert f"{items:,}" in out
    written = [Path(line) for line in out.splitlines() if line.startswith(str(tmp_path))]
    assert {path.suffix for path in written} >= {".html", ".json"} and all(path.is_file() for path in written)
    if name == REVIEWS:
        mlcroissant = pytest.importorskip("mlcroissant")
        [described] = [path for path in written if path.suffix == ".json"]
        assert not mlcroissant.Dataset(jsonld=str(described)).metadata.ctx.issues.errors
        assert catalogue.manifest["dropped"]["image not to be had (404)"] == 1


def test_the_same_command_again_fetches_nothing(world):
    first = prepared_once(world, REVIEWS).manifest
    seen = len(world.hub.requests)
    world.type(f"data prepare {NAMES[REVIEWS]}")
    assert world.hub.requests[seen:] == [], "not even the hub is asked whether it still has the files"
    assert world.prepared(REVIEWS).manifest == first


def test_both_published_forms_give_the_same_catalogue(world):
    lines = prepared_once(world, REVIEWS).manifest
    world.use("parquet")
    seen = len(world.hub.requests)
    world.type(f"data prepare {NAMES[REVIEWS]}", "parquet")
    asked = [target for _, target, _ in world.hub.requests[seen:]]
    assert any("full-00001-of-00002.parquet" in target for target in asked) and not any(META in t for t in asked)
    table = world.prepared(REVIEWS, "parquet").manifest
    assert (table["fingerprint"], table["counts"]) == (lines["fingerprint"], lines["counts"])
    garbage = {"line that is not JSON", "line that is not an object", "line that is not UTF-8"}
    assert table["dropped"] == {why: n for why, n in lines["dropped"].items() if why not in garbage}


def killed_when(world, condition, home):
    """Start `data prepare`, and kill it as soon as something holds."""
    with world.start(f"data prepare {NAMES[REVIEWS]}", home) as process:
        until = time.monotonic() + 30
        while not condition() and time.monotonic() < until and process.poll() is None:
            time.sleep(0.005)
        assert process.poll() is None and condition(), "it was over before it could be killed"
        process.send_signal(signal.SIGKILL)


def test_killed_at_any_moment_the_same_command_goes_on(world):
    wanted, hub = prepared_once(world, REVIEWS).manifest, world.hub
    base = f"/datasets/{amazon_reviews.REPOSITORY}/resolve/{amazon_reviews.REVISION}/"
    hub.misbehave(base + META, "slow", times=1, seconds=0.03, piece=1000)
    hub.misbehave(base + PRAISE, "slow", times=1, seconds=0.03, piece=200)
    hub.misbehave("/images/*", "slow", times=40, seconds=0.05, piece=2000)
    since = len(hub.requests)
    parts = lambda: sum(p.stat().st_size for p in (world.folder / "killed").rglob("*.part"))  # noqa: E731
    killed_when(world, lambda: parts() > 5000, "killed")
    assert world.images_asked(since) == []
    killed_when(world, lambda: len(world.images_asked(since)) > 30, "killed")
    first = world.images_asked(since)
    killed_when(world, lambda: parts() > 500, "killed")
    world.type(f"data prepare {NAMES[REVIEWS]}", "killed")
    assert world.prepared(REVIEWS, "killed").manifest == wanted
    images = world.images_asked(since)
    again = len(images) - len(set(images))
    assert set(images) > set(first) and again <= 16 + 16, "again are only those then on their way"
    for path in (META, PRAISE):
        digest = hashlib.sha256(hub.repos[amazon_reviews.REPOSITORY][path]).hexdigest()
        ranges = [headers.get("Range") for _, target, headers in hub.requests[since:] if digest in target
                  and "/cdn/" in target and _ == "GET"]  # fmt: skip
        assert len(ranges) == 2 and ranges[0] is None and int(ranges[1][6:-1]) >= 500, "resumed, not begun again"


def test_servers_that_misbehave_change_nothing(world):
    wanted, hub, rng = prepared_once(world, REVIEWS).manifest, world.hub, random.Random(3)
    paths = sorted(path for path in hub.files if path.startswith("/images/"))
    kinds = ["500", "cut", "drop", "503", "cut", "drop"]
    for path in rng.sample(paths, len(paths) // 2):
        hub.misbehave(path, rng.choice(kinds[:3]), times=rng.choice((1, 1, 2)))
    for path in rng.sample(paths, 4):
        hub.misbehave(path, "429", times=1, retry_after=rng.choice((0, 1)))
    base = f"/datasets/{amazon_reviews.REPOSITORY}/resolve/{amazon_reviews.REVISION}/"
    for path in (META, PRAISE):
        for kind in rng.sample(kinds, 2):
            hub.misbehave(base + path, kind, times=1)
        hub.misbehave(base + path, rng.choice(("500", "429", "drop")), times=1, method="HEAD")
    hub.misbehave("/api/*", rng.choice(("500", "429", "drop")), times=1)
    world.type(f"data prepare {NAMES[REVIEWS]}", "rough")
    assert world.prepared(REVIEWS, "rough").manifest == wanted


def test_a_server_of_photographs_that_is_down_is_said_and_the_next_command_goes_on(world):
    wanted = prepared_once(world, REVIEWS).manifest
    world.hub.misbehave("/images/I/7*", "drop")
    with world.start(f"data prepare {NAMES[REVIEWS]}", "down") as process:
        err = " ".join(process.communicate(timeout=120)[1].split())
    assert process.returncode == 1 and "Traceback" not in err
    assert "71 of 75 photographs cannot be had at present (unreachable: 71)" in err
    assert "Type the same command again later" in err
    assert open_catalogue(REVIEWS, cache=world.folder / "down" / "cache") is None, "nothing half is left"
    world.hub.behave()
    world.type(f"data prepare {NAMES[REVIEWS]}", "down")
    assert world.prepared(REVIEWS, "down").manifest == wanted


@pytest.mark.parametrize(
    ("asked", "lacking", "status", "made"),
    [(50, 20, "500", True), (50, 21, "cut", False), (9000, 90, "503", True), (9000, 91, "429", False),
     (50, 50, "404", True), (50, 50, "not an image", True)],
)  # fmt: skip
def test_how_many_photographs_may_be_wanting_for_now(asked, lacking, status, made):
    fetched = {str(n): Fetched(str(n), status if n < lacking else "ok") for n in range(asked)}
    with nullcontext() if made else pytest.raises(DataError, match=f"{lacking} of {asked:,} photographs .*{status}"):
        amazon_images._check_lacking(fetched)


def runs(world, words, names, tmp_path):
    """The records of runs on several data sets."""
    data = " ".join(f"--data {prepared_once(world, name).name}" for name in names)
    world.type(f"run {words} {data} --encoder tiny --results {tmp_path}")
    found = [json.loads(path.read_text()) for path in tmp_path.rglob("*.json")]
    assert {record["status"] for record in found} == {"ok"} and len(found) == len(names)
    return {record["data"]["name"]: record for record in found}


def test_queries_are_run_on(world, tmp_path):
    names = [name for name in NAMES if len(prepared_once(world, name).queries("test"))]
    found = runs(world, "--method bm25 --task query2item", names, tmp_path)
    assert set(found) == set(names)
    assert {name: record["n_queries"] for name, record in found.items()} == {name: EXPECTED[name][2] for name in names}
    assert found["amazon-c4@All_Beauty-10k"]["scores"][found[REVIEWS]["task"]["headline"]], "ids are in the texts"


def test_listings_without_queries_are_run_on(world, tmp_path):
    [record] = runs(world, "--method random --task cross_view", ["abo@10k"], tmp_path).values()
    assert record["n_queries"] > 0
