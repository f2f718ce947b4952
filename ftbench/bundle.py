"""What a gallery may show of a data set: some queries, the items retrieved for them, small pictures; in one file.

`ftbench data bundle` makes it from a prepared catalogue; pages are made from it alone. Must not know records or pages.
A bundle is a zip file: `gallery.json`, and one strip of pictures per item, named by its SHA-256. All hashes and sizes
of what is read are checked; nothing is unpacked to disk.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ftbench.catalogue import Catalogue, open_catalogue
from ftbench.errors import DataError, FtbenchError, several
from ftbench.files import write_atomic
from ftbench.items import Query, unit_hash
from ftbench.search import Ranking

SCHEMA = 1
TOP = 5  # ranks shown of each method: what fits beside another method's on a screen
QUERIES = 18  # a sample that a person looks through, and a page of about 1 MB; some 300 items of studio
TILE = 48  # pixels of a picture's longest side: the size of studio's drawings
_QUALITY = {True: 60, False: 30}  # of photographs (lossy), and effort for drawings, which WebP keeps without loss
_MOST_BYTES, _MOST_FILES = 24_000_000, 5_000  # of a bundle unpacked: ten times a large one
_DATE = (2000, 1, 1, 0, 0, 0)  # of all members: bytes must not depend on the clock
RULE = (
    "The queries are chosen by a rule, not by what they show: within each group of slices the test queries are ordered "
    "by the SHA-256 of their id, and each group gives equally many."
)


@dataclass(frozen=True)
class Picture:
    """An image view: its name, and which attributes a viewer can tell from it alone, where known."""

    name: str
    reveals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Words:
    """A text view: title first."""

    name: str
    text: str
    reveals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """An item. strip: a WebP file with its pictures side by side, TILE pixels each, primary first; b"" for none."""

    attributes: Mapping[str, str] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    words: tuple[Words, ...] = ()
    strip: bytes = b""


@dataclass(frozen=True)
class Asked:
    """A query of the sample. best: an item of the highest gain whose views tell what is asked, as far as any
    does; None for none."""

    query_id: str
    text: str
    slices: tuple[str, ...]
    asks: Mapping[str, str]
    best: str | None = None


@dataclass(frozen=True)
class Bundle:
    """data: name, version, fingerprint, licence of the data set. texts: of all test queries by id, {} where they may
    not be shown. sha256: of the file that it was read from, "" for one that was just made."""

    data: Mapping[str, str]
    rule: str
    queries: tuple[Asked, ...]
    items: Mapping[str, Shown]
    texts: Mapping[str, str]
    sha256: str = ""


def path_of(results: Path, data: str) -> Path:
    """Where a data set's bundle belongs."""
    return Path(results) / data / "gallery.zip"


# --- making


def sample(queries: Iterable[Query], count: int = QUERIES) -> list[Query]:
    """About `count` queries: equally many of each group of slices, those whose ids hash lowest, in that order."""
    groups: dict[tuple[str, ...], list[Query]] = {}
    for query in sorted(queries, key=_place):
        groups.setdefault(query.slices, []).append(query)
    each = max(1, count // max(1, len(groups)))
    return sorted((query for group in groups.values() for query in group[:each]), key=_place)


def _place(query: Query) -> tuple[float, str]:
    return unit_hash("gallery", query.query_id), query.query_id


def make(catalogue: Catalogue, rankings: Sequence[Ranking], own: bool = False) -> Bundle:
    """The bundle of a catalogue's test queries: a sample, and what the rankings have in their first TOP ranks.

    own: whoever asks says that they may show this private catalogue. Without the right to show texts and pictures the
    bundle holds ids alone. Raises FtbenchError where there is nothing to show.
    """
    info = catalogue.info
    if not rankings:
        raise FtbenchError(
            f"there are no finished query2item runs of this {info.name} to show. First: ftbench run --method default "
            f"--task query2item --data {info.name}"
        )
    may_show = info.redistributable or (info.private and own)
    counted = set.intersection(*(set(ranking.query_ids) for ranking in rankings))
    best = _best(catalogue)
    test = [query for query in catalogue.queries("test") if query.query_id in counted and query.query_id in best]
    chosen = sample(test)
    told = _told(catalogue, {item for query in chosen for item in best[query.query_id]})
    answers = {  # the first of the items whose views tell most of what is asked
        query.query_id: max(best[query.query_id], key=lambda item, query=query: len(told[item] & set(query.attributes)))
        for query in chosen
    }
    wanted = dict.fromkeys(answers.values())
    for ranking in rankings:
        for found in top(ranking, {query.query_id for query in chosen}).values():
            wanted |= dict.fromkeys(item for item, _ in found)
    asked = [
        Asked(q.query_id, q.text, q.slices, dict(q.attributes), answers[q.query_id]) if may_show
        else Asked(q.query_id, "", q.slices, {}, answers[q.query_id])
        for q in chosen
    ]  # fmt: skip
    data = {"name": info.name, "version": info.version, "fingerprint": catalogue.fingerprint, "licence": info.licence}
    texts = {query.query_id: query.text for query in test} if may_show else {}
    items = dict(_shown(catalogue, sorted(wanted))) if may_show else {item: Shown() for item in sorted(wanted)}
    return Bundle(data, RULE, tuple(asked), items, texts)


def _best(catalogue: Catalogue) -> dict[str, list[str]]:
    """{query id: its items of the highest gain}, in order of their ids."""
    gains: dict[str, dict[str, float]] = {}
    for judged in catalogue.judgements("test"):
        if judged.gain > 0:
            gains.setdefault(judged.query_id, {})[judged.item_id] = judged.gain
    return {query: sorted(i for i, gain in of.items() if gain == max(of.values())) for query, of in gains.items()}


def _told(catalogue: Catalogue, item_ids: Iterable[str]) -> dict[str, frozenset[str]]:
    """{item id: the attributes that any of its views tells}."""
    assets, rows = catalogue.assets, {item: row for row, item in enumerate(catalogue.item_ids)}
    views = ((catalogue.view_ids("image"), assets.image_reveals), (catalogue.view_ids("text"), assets.text_reveals))
    return {
        item: frozenset(name for ids, reveals in views for i in ids[rows[item]] if i >= 0 for name in reveals[i])
        for item in item_ids
    }


def top(ranking: Ranking, query_ids: Collection[str], ranks: int = TOP) -> dict[str, list[tuple[str, float]]]:
    """{query id: [(item id, gain) of its first ranks]} of some queries."""
    found = {}
    for q, query in enumerate(ranking.query_ids):
        if query in query_ids:
            entries = range(ranking.offsets[q], ranking.offsets[q + 1])
            found[query] = [
                (ranking.item_ids[ranking.item[e]], float(ranking.gain[e])) for e in entries if ranking.rank[e] <= ranks
            ]
    return found


def _shown(catalogue: Catalogue, item_ids: Sequence[str]) -> Iterable[tuple[str, Shown]]:
    assets = catalogue.assets
    rows = {item: row for row, item in enumerate(catalogue.item_ids)}
    images, texts = catalogue.view_ids("image"), catalogue.view_ids("text")
    for item in item_ids:
        row = rows[item]
        pictures, words = (ids[row][ids[row] >= 0] for ids in (images, texts))
        yield (
            item,
            Shown(
                catalogue.attributes(row),
                tuple(Picture(assets.image_names[i], assets.image_reveals[i]) for i in pictures),
                tuple(Words(assets.text_names[i], assets.texts[i], assets.text_reveals[i]) for i in words),
                _strip(assets.pixels(pictures), catalogue.info.photographs),
            ),
        )


def _strip(pictures: Sequence[np.ndarray], photographs: bool) -> bytes:
    """Pictures side by side as a WebP file, each fitted into a white square of TILE pixels."""
    from PIL import Image

    if not pictures:
        return b""
    strip = Image.new("RGB", (TILE * len(pictures), TILE), "white")
    for place, pixels in enumerate(pictures):
        image = Image.fromarray(np.ascontiguousarray(pixels))
        if max(image.size) != TILE:
            scale = TILE / max(image.size)
            size = tuple(max(1, round(side * scale)) for side in image.size)
            image = image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
        strip.paste(image, (place * TILE + (TILE - image.width) // 2, (TILE - image.height) // 2))
    out = io.BytesIO()
    strip.save(out, "WEBP", lossless=not photographs, quality=_QUALITY[photographs], method=4)
    return out.getvalue()


# --- writing and reading


def write(results: Path, bundle: Bundle) -> Path:
    """Write a bundle to its place in a results folder; returns its path. The same bundle gives the same bytes."""
    strips = {hashlib.sha256(item.strip).hexdigest(): item.strip for item in bundle.items.values() if item.strip}
    items = {}
    for item_id, item in bundle.items.items():
        about = asdict(item)
        about["strip"] = hashlib.sha256(item.strip).hexdigest() if item.strip else ""
        items[item_id] = about
    body = {"data": dict(bundle.data), "rule": bundle.rule, "texts": dict(bundle.texts), "items": items,
            "queries": [asdict(query) for query in bundle.queries]}  # fmt: skip
    head = {"schema": SCHEMA, "sha256": _hash(body), "body": body}
    text = json.dumps(head, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in (("gallery.json", text), *((f"{h}.webp", strips[h]) for h in sorted(strips))):
            member = zipfile.ZipInfo(name, _DATE)
            member.compress_type = zipfile.ZIP_DEFLATED if name.endswith("json") else zipfile.ZIP_STORED
            file.writestr(member, data)
    path = path_of(results, bundle.data["name"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DataError(f"cannot make {path.parent}: {problem.strerror}. Name another folder: --results") from None
    write_atomic(path, out.getvalue())
    return path


def _hash(body: Mapping) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def read(path: Path) -> Bundle:
    """The bundle of a file, every hash checked. Raises DataError for one that is damaged, oversized or not a bundle."""
    again = "Make it again: ftbench data bundle DATA"
    try:
        raw = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(raw)) as file:
            sizes = [member.file_size for member in file.infolist()]
            if sum(sizes) > _MOST_BYTES or len(sizes) > _MOST_FILES:
                raise DataError(
                    f"{path}: {len(sizes)} files of {sum(sizes):,} bytes; a bundle has at most {_MOST_FILES:,} of "
                    f"{_MOST_BYTES:,}. {again}"
                )
            head = json.loads(file.read("gallery.json"))
            if head["schema"] > SCHEMA:
                raise DataError(
                    f"{path} has schema {head['schema']}, this ftbench reads up to {SCHEMA}. Upgrade: "
                    "pip install --upgrade ftbench"
                )
            if head["sha256"] != _hash(head["body"]):
                raise ValueError("gallery.json does not have its sha256")
            strips = {name.removesuffix(".webp"): file.read(name) for name in file.namelist() if name.endswith(".webp")}
        wrong = [f"{name}.webp is not what its name says" for name, data in strips.items()
                 if hashlib.sha256(data).hexdigest() != name or data[8:12] != b"WEBP"]  # fmt: skip
        if wrong:
            raise several(f"{path}", [f"{text}. {again}" for text in wrong[:10]], DataError)
        return _bundle(head["body"], {"": b""} | strips, hashlib.sha256(raw).hexdigest())
    except OSError as problem:
        raise DataError(f"the bundle {path} cannot be read: {problem.strerror}. {again}") from None
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as problem:
        raise DataError(f"{path} is not a whole bundle: {problem}. {again}") from None


def _bundle(body: Mapping, strips: Mapping[str, bytes], sha256: str) -> Bundle:
    """The bundle of a JSON value; ValueError, KeyError or TypeError where it is not one."""
    items = {
        str(item_id): Shown(
            _texts(about["attributes"]),
            tuple(Picture(str(p["name"]), tuple(map(str, p["reveals"]))) for p in about["pictures"]),
            tuple(Words(str(w["name"]), str(w["text"]), tuple(map(str, w["reveals"]))) for w in about["words"]),
            strips[about["strip"]],
        )
        for item_id, about in body["items"].items()
    }
    queries = tuple(
        Asked(str(q["query_id"]), str(q["text"]), tuple(map(str, q["slices"])), _texts(q["asks"]), q["best"])
        for q in body["queries"]
    )
    data = _texts(body["data"])
    if missing := {"name", "version", "fingerprint", "licence"} - set(data):
        raise ValueError(f"its data set lacks {', '.join(sorted(missing))}")
    return Bundle(data, str(body["rule"]), queries, items, _texts(body["texts"]), sha256)


def query_texts(results: Path, data: Mapping) -> dict[str, str]:
    """{query id: text} of a record's data as far as they may be shown and are at hand: from its bundle or, prepared on
    this machine, its catalogue; {} where neither has the same fingerprint."""
    if path_of(results, data["name"]).is_file():
        made = read(path_of(results, data["name"]))
        if made.data["fingerprint"] == data["fingerprint"]:
            return dict(made.texts)
    catalogue = open_catalogue(data["name"]) if data["redistributable"] else None
    if catalogue is None or catalogue.fingerprint != data["fingerprint"]:
        return {}
    return {query.query_id: query.text for query in catalogue.queries("test")}


def _texts(value: Mapping) -> dict[str, str]:
    return {str(name): str(text) for name, text in value.items()}
