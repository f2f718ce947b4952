"""Files of Amazon Reviews 2023 in exactly its two published schemas: known traps at known rows, and any number of rows.

write(folder)                 both files of All_Beauty, with every trap; META and REVIEWS say which row is which
write_synthetic(folder, ...)  as large as asked; also: python tests/amazon_files.py FOLDER --items 1000000
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ftbench.items import split_of
from ftbench.sources.amazon_reviews import TIME_CUTS
from ftbench.sources.rows import LARGE_SHARES

CATEGORY = "All_Beauty"
HOST = "https://m.media-amazon.com/images/I/"
TIMES = {"train": TIME_CUTS[0] - 1, "valid": TIME_CUTS[0], "test": TIME_CUTS[1]}  # the nearest that still count
TEXT, NUMBER = pa.string(), pa.int64()
TEXTS = pa.list_(TEXT)
META_SCHEMA = pa.schema(
    {
        "main_category": TEXT, "title": TEXT, "average_rating": pa.float64(), "rating_number": NUMBER,
        "features": TEXTS, "description": TEXTS, "price": TEXT,
        "images": pa.struct({"hi_res": TEXTS, "large": TEXTS, "thumb": TEXTS, "variant": TEXTS}),
        "videos": pa.struct({"title": TEXTS, "url": TEXTS, "user_id": TEXTS}),
        "store": TEXT, "categories": TEXTS, "details": TEXT, "parent_asin": TEXT, "bought_together": TEXT,
        "subtitle": TEXT, "author": TEXT,
    }
)  # fmt: skip
_SIZES = {f"{size}_image_url": TEXT for size in ("small", "medium", "large")}
REVIEW_SCHEMA = pa.schema(
    {
        "rating": pa.float64(), "title": TEXT, "text": TEXT,
        "images": pa.list_(pa.struct({**_SIZES, "attachment_type": TEXT})),
        "asin": TEXT, "parent_asin": TEXT, "user_id": TEXT, "timestamp": NUMBER, "helpful_vote": NUMBER,
        "verified_purchase": pa.bool_(),
    }
)  # fmt: skip


def asin_in(split: str, start: str) -> str:
    """An ASIN that begins with `start` and whose own hash falls into a split."""
    names = (f"{start}{i:0{10 - len(start)}d}" for i in range(9999))
    return next(name for name in names if split_of("item", name, LARGE_SHARES) == split)


def image(name: str, variant: str | None = "MAIN", hi_res: str | None = "") -> dict:
    """An image of a listing. hi_res: the id of its large form; "" for one made from `name`, None for none."""
    hi_res = f"7{name[1:]}" if hi_res == "" else hi_res
    return {"thumb": f"{HOST}{name}._SS40_.jpg", "large": f"{HOST}{name}.jpg", "variant": variant,
            "hi_res": hi_res and f"{HOST}{hi_res}._SL1500_.jpg"}  # fmt: skip


def item(parent_asin: object, title: object = "A title", images: object = (), **cells: object) -> dict:
    """A metadata row as JSON lines have it."""
    return {
        "main_category": "All Beauty", "title": title, "average_rating": 4.8, "rating_number": 10, "features": [],
        "description": [], "price": None, "images": list(images), "videos": [], "store": None, "categories": [],
        "details": {}, "parent_asin": parent_asin, "bought_together": None,
    } | cells  # fmt: skip


def review(item_id: object, text: object, time: object, title: object = "Five Stars", **cells: object) -> dict:
    """A review as JSON lines have it, five stars."""
    return {"rating": 5.0, "title": title, "text": text, "images": [], "asin": item_id, "parent_asin": item_id,
            "user_id": "AGKHLEW2SOWHNMFQIJGBECAF7INQ", "timestamp": time, "helpful_vote": 0,
            "verified_purchase": True} | cells  # fmt: skip


A, B, C = (asin_in("train", start) for start in ("B0A", "B0B", "B0C"))
TEST, VALID = asin_in("test", "B0T"), asin_in("valid", "B0V")
EARLY, LATE, BRIDGE = asin_in("test", "A0E"), asin_in("train", "B0L"), asin_in("train", "B0M")  # joined: all test
VIDEO = {"title": "How to", "url": "https://www.amazon.com/vdp/1", "user_id": ""}
# What it is -> the row. Prices go from null to float to "from 14.99", details gain keys and types, `hi_res` and
# `features` are empty at first and `subtitle` comes late: what a reader that infers a schema breaks on.
META: dict[str, dict | bytes] = {
    "no hi_res": item(A, "Lamp &amp; <b>Shade</b>", [image("41a", hi_res=None)], details={"UPC": "617390882781"}),
    "nothing but a title": item("B0BARE0000", "Bare", bought_together=[A]),
    "float price": item(B, "Brush", [image("41b"), image("41c", "PT01")], price=12.99, features=["Soft<br>bristles"]),
    "text price": item("B0PRICE000", "Comb", [image("41d")], price="from 14.99", subtitle="Late column", author="X"),
    "features and description": item(
        C, "Mirror", features=["Round", "Two sides <b"], description=["For the <i>wall", "> or the desk"],
        store="Acme", categories=["Beauty & Personal Care", "Tools", "Mirrors", "acme"],
        details={"Brand": "Acme", "Color": "Red", "Material": "Glass", "Best Sellers Rank": {"Beauty": 4}},
    ),
    "same id again": item(A, "Another lamp", [image("41z")]),
    "out of order": item("B0ORDER000", "Order", [
        image("42c", "PT02"), image("42e", None), image("42d", "PT10"), image("42a"), image("42b", "PT01"),
    ]),
    "repeats": item("B0REPEAT00", "Repeats", [
        image("43a"), image("43a", "PT01", "79x"), image("43b", "PT02", "73a"), image("43c", "PT03"),
    ]),
    "plus and forms": item("B0FORMS000", "Forms", [
        image("44+a-B") | {"hi_res": f"{HOST}74+a-B._AC_SL1500_.jpg"},
        image("44b", "PT01", None) | {"large": f"{HOST}44b._AC_SX300_SY300_QL70_.png"},
        image("44c", "PT02", None) | {"large": f"{HOST}44c.__CR0,0,300,300_PT0_SX300_V1___.gif"},
    ]),
    "no address": item("B0NOWHERE0", "Nowhere", [
        image("45a", "PT01", None) | {"large": None}, image("45b", "PT02") | {"large": None},
        image("45c", "PT03", None) | {"large": "None"}, {"variant": "MAIN"},
    ]),
    "many images": item("B0MANY0000", "Many", [image(f"46{i}", f"PT{i:02d}") for i in range(1, 12)]),
    "shares, no hi_res": item(LATE, "Late", [image("47a", hi_res=None)]),
    "bridge": item(BRIDGE, "Bridge", [image("47b"), image("47a", "PT01")]),
    "smallest of its group": item(EARLY, "Early", [image("47b", "SWCH")]),
    "no title": item("B0NOTITLE0", ""),
    "null title": item("B0NULL0000", None),
    "no id": item(None),
    "videos": item(TEST, "Test product", [image("48a"), image("48b", "PT01")], videos=[VIDEO]),
    "valid": item(VALID, "Valid product", [image("49a")]),
    **{f"placeholder {i:02d}": item(f"B0PLACE{i:03d}", f"Place {i}", [image("51x"), image(f"51{i}", "PT01")])
       for i in range(21)},
    **{f"at the limit {i:02d}": item(f"B0LIMIT{i:03d}", f"Limit {i}", [image("52x")]) for i in range(20)},
}  # fmt: skip
# Lines that only the JSON lines can have; they come last, but for one at the very start.
META_LINES = {
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(item("B0BOM00000", "Marked")).encode(),
    "torn": json.dumps(item("B0TORN0000")).encode()[:200],
    "not UTF-8": json.dumps(item("B0LATIN000", "TITLE")).encode().replace(b"TITLE", b"Caf\xe9 lamp"),
    "NUL": b"\0" * 40,
    "nested": b'{"parent_asin": "B0NESTED00", "title": "Nested", "details": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "list": b'["B0LIST0000"]',
    "number too long": b'{"parent_asin": "B0NUMBER00", "title": "Long", "price": ' + b"9" * 5_000 + b"}",
    "wrong types": json.dumps(item("B0TYPES000", "Types", {"hi_res": 5, "large": {}}, features="one string",
                                   categories="none", details=[1], store=7, description=[None, 3, "words"])).encode(),
    "huge field": json.dumps(item("B0HUGE0000", "Huge", description=["<p> long " * 200_000] * 2)).encode(),
    "lone surrogate and NUL": json.dumps(item("B0SURROG00", "Half \ud83d and \0 all")).encode(),
    "id as a list": json.dumps(item([A], "Id")).encode(),
    "empty line": b"",
}  # fmt: skip
GOOD = "Gives a warm light, and the shade is easy to clean."
SHORT = "x" * 30
REVIEWS: dict[str, dict | bytes] = {
    "train": review(A, GOOD, TIMES["train"]),
    "the same again": review(A, f"  {GOOD.upper()} ", TIMES["train"] - 5),
    "the same of another item": review(B, GOOD, TIMES["train"]),
    "three stars": review(A, "Not what I had hoped for, so it went back.", TIMES["train"], rating=3.0),
    "no rating": review(A, GOOD, TIMES["train"], rating=None),
    "negative time": review(A, GOOD, -62135596800000),
    "no metadata": review("B0ABSENT00", GOOD, TIMES["train"]),
    "thirty characters": review(A, SHORT, TIMES["train"], ""),
    "thirty-one characters": review(A, f"{SHORT}<br>y", TIMES["train"], None),
    "train item, test time": review(A, "Bought again a year later, still very good.", TIMES["test"]),
    "test item, train time": review(TEST, "One of the first to buy it, and very pleased.", TIMES["train"]),
    "valid": review(VALID, "Smells of oranges and lasts the whole day.", TIMES["valid"]),
    "test": review(TEST, "Holds my hair all day <br /> without pulling.", TIMES["test"]),
    "test, group": review(LATE, "The hinge is sturdier than on my old one.", TIMES["test"]),
    "in two splits": review(A, "I bought this for my mother and she loves it.", TIMES["train"]),
    "in two splits, again": review(TEST, "I bought this for my mother and she loves it.", TIMES["test"]),
    "no item": review(None, GOOD, TIMES["train"]),
    "title alone": review(B, "", TIMES["train"], "The softest brush that I have ever owned", rating=4.0),
}
REVIEW_LINES = {
    "torn": json.dumps(review(A, GOOD, 1)).encode()[:99],
    "not UTF-8": b'{"rating": 5.0, "text": "\xff\xfe"}',
    "rating in words": json.dumps(review(A, GOOD, TIMES["train"], rating="5.0")).encode(),
    "time in words": json.dumps(review(A, GOOD, "2020-05-05")).encode(),
    "not a number": json.dumps(review(A, GOOD, float("nan"), rating=float("nan"))).encode(),
    "very long": json.dumps(review(A, "very " * 100_000, TIMES["train"])).encode(),
}


def parquet_item(row: dict) -> dict:
    """A metadata row as the Parquet form has it: dicts of lists, details and prices as strings."""
    columns = {
        name: {key: [entry.get(key) for entry in row[name]] for key in keys}
        for name, keys in (("images", ("hi_res", "large", "thumb", "variant")), ("videos", ("title", "url", "user_id")))
    }
    bought = row["bought_together"]
    return {"subtitle": None, "author": None} | row | columns | {
        "price": str(row["price"]),
        "details": json.dumps(row["details"]),
        "bought_together": bought if bought is None else json.dumps(bought),
    }  # fmt: skip


def write_lines(path: Path, rows: Iterable[dict | bytes]) -> Path:
    """JSON lines; rows that are bytes as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for row in rows:
            file.write((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n")
    return path


def write_shards(folder: Path, rows: Iterable[dict], schema: pa.Schema, size: int, count: int) -> Path:
    """`count` Parquet files of `size` rows each, the last with the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = iter(rows)
    for number in range(count):
        left = size if number + 1 < count else 1 << 62
        with pq.ParquetWriter(folder / f"full-{number:05d}-of-{count:05d}.parquet", schema) as file:
            while left and (batch := list(islice(rows, min(left, 10_000)))):
                left -= len(batch)
                file.write_table(pa.Table.from_pylist(batch, schema=schema))
    return folder


def write(folder: Path, form: str = "jsonl", category: str = CATEGORY, host: str = HOST) -> Path:
    """Metadata and reviews with every trap, laid out as in the repository. form: "jsonl" or "parquet" (two shards).

    host: what addresses of photographs begin with, in the place of HOST.
    """
    meta = [json.loads(json.dumps(row).replace(HOST, host)) for row in META.values()]
    if form == "jsonl":
        first, *others = META_LINES.values()
        write_lines(folder / "raw/meta_categories" / f"meta_{category}.jsonl", [first, *meta, *others])
        lines = [*REVIEWS.values(), *REVIEW_LINES.values()]
        write_lines(folder / "raw/review_categories" / f"{category}.jsonl", lines)
        return folder
    write_shards(folder / f"raw_meta_{category}", map(parquet_item, meta), META_SCHEMA, 10, 2)
    write_shards(folder / f"raw_review_{category}", REVIEWS.values(), REVIEW_SCHEMA, 10, 2)
    return folder


_WORDS = (
    "soft bright cotton steel travel classic kitchen garden ceramic wireless blue grey handmade compact folding deep "
    "lamp brush bottle holder cover strap mirror towel basket stand filter charger kettle case rug clock"
).split()
_SHARE = 10  # one synthetic item in so many also has the first photograph of the one before it


def _phrase(number: int, length: int) -> str:
    """`length` words that depend on a number alone."""
    return " ".join(_WORDS[(number * 7919 + i * i * 31 + i * (number % 97)) % len(_WORDS)] for i in range(length))


def synthetic_items(items: int, images: int) -> Iterator[dict]:
    """Items of the size of real ones, about 2 kB each; `images` in all."""
    for i in range(items):
        count = images * (i + 1) // items - images * i // items
        names = [f"41{i:07d}{k:02d}" for k in range(count)]
        if i % _SHARE == 1 and count:
            names[-1] = f"41{i - 1:07d}00"
        yield item(
            f"B{i:09d}",
            f"{_phrase(i, 9)} {i}",
            [image(name, f"PT{k:02d}" if k else "MAIN", "" if i % 3 else None) for k, name in enumerate(names)],
            features=[_phrase(i + k, 14) for k in range(5)],
            description=[_phrase(i * 3, 60)] if i % 2 else [],
            price=None if i % 3 else 9.99,
            store=f"Store {i % 5000}",
            categories=["All Beauty", _WORDS[i % 11], _WORDS[i % 31]],
            details={"Brand": f"Brand {i % 3000}", "Color": _WORDS[i % 13], "UPC": f"{i:012d}",
                     "Package Dimensions": "7.1 x 5.5 x 3 inches; 2.4 Pounds"},
        )  # fmt: skip


def synthetic_reviews(items: int, reviews: int) -> Iterator[dict]:
    """Reviews spread over the items and over eight years, each fourth of three stars."""
    span = TIME_CUTS[1] + (TIME_CUTS[1] - TIME_CUTS[0]) - (start := 1_440_000_000_000)
    for i in range(reviews):
        written = start + i * 7_919_999_983 % span
        yield review(f"B{i * 31 % items:09d}", f"{_phrase(i, 25)} {i}", written, _phrase(i, 3),
                     rating=3.0 if i % 4 == 0 else 5.0)  # fmt: skip


def write_synthetic(folder: Path, items: int, images: int, reviews: int, form: str = "jsonl") -> Path:
    """Files of any size in the published layout, without images: 1M items are 2.1 GB as JSON lines."""
    meta, praise = synthetic_items(items, images), synthetic_reviews(items, reviews)
    if form == "jsonl":
        write_lines(folder / "raw/meta_categories" / f"meta_{CATEGORY}.jsonl", meta)
        write_lines(folder / "raw/review_categories" / f"{CATEGORY}.jsonl", praise)
        return folder
    write_shards(folder / f"raw_meta_{CATEGORY}", map(parquet_item, meta), META_SCHEMA, items, 1)
    write_shards(folder / f"raw_review_{CATEGORY}", praise, REVIEW_SCHEMA, reviews, 1)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, help="in all; default: four an item")
    parser.add_argument("--reviews", type=int, help="in all; default: two an item")
    parser.add_argument("--form", choices=("jsonl", "parquet"), default="jsonl")
    given = parser.parse_args()
    images = 4 * given.items if given.images is None else given.images
    reviews = 2 * given.items if given.reviews is None else given.reviews
    print(write_synthetic(given.folder, given.items, images, reviews, given.form))
