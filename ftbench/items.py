"""The item model: items, their views, queries, judgements, and splits by hash. Must not know where data comes from."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class View:
    """One image or one text of an item.

    kind: "image" or "text". name: what the view is ("main", "back", "title", "description", ...).
    role: "primary" (one per kind) or "auxiliary".
    content: text views hold str; image views hold uint8 pixels (h, w, 3) or the path of an image file.
    probe: False for a view known to be wrong or uninformative: it never serves as a probe.
    reveals: names of the item's attributes that a reader of this view alone can tell (exact for drawn data, or empty).
    """

    kind: str
    name: str
    role: str
    content: "str | Path | np.ndarray"
    probe: bool = True
    reveals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """A listing. `group` is the unit of splitting; `attributes` serve judging and the oracle, never a ranked method."""

    item_id: str
    group: str
    split: str
    category: str
    views: tuple[View, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Query:
    """A shopper's text. `slices` name the score slices it counts in; `attributes` are what it asks for, where known."""

    query_id: str
    text: str
    split: str
    slices: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The gain (>= 0) of an item for a query; unjudged pairs have gain 0."""

    query_id: str
    item_id: str
    gain: float


@dataclass(frozen=True, slots=True)
class Interaction:
    """A query and the item it led to: training evidence, only ever between a train query and a train item."""

    query_id: str
    item_id: str


@dataclass(frozen=True, slots=True)
class Queries:
    """All queries of a data set with their evidence: judgements for valid and test, interactions for train."""

    queries: tuple[Query, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    interactions: tuple[Interaction, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a data set says of itself; ends in the manifest and the datasheet."""

    name: str  # the data set, as typed in --data
    version: str  # part of the fingerprint; a changed rendering or parsing needs a new version
    title: str
    licence: str
    redistributable: bool  # whether texts and images may appear in results and pages
    description: str
    photographs: bool  # whether near-duplicate perceptual hashes are meaningful
    disclosures: tuple[str, ...] = ()
    private: bool = False  # a person's own data: records of it are kept apart from the committed ones
    command: str = ""  # what makes it again, where that is not `ftbench data prepare NAME`


class Progress(Protocol):
    """Told how far a piece of work is: done so far, total or None when unknown, which stage of it, and of what unit.

    stage: a word or two for people ("downloading"), "" where the work has only one. unit: "B" for bytes, else things.
    """

    def __call__(self, done: int, total: int | None, stage: str = "", unit: str = "") -> None: ...


def silent(done: int, total: int | None, stage: str = "", unit: str = "") -> None:
    """Progress that nobody wants to see."""


class Source(Protocol):
    """A data family: yields items in a stable order, then its queries. `dropped` counts rows left out, by reason."""

    info: SourceInfo
    dropped: dict[str, int]

    def items(self, progress: Progress) -> Iterator[Item]: ...

    def queries(self) -> Queries: ...


def unit_hash(namespace: str, key: str) -> float:
    """A number in [0, 1) that depends on nothing but the two strings (first 32 bits of SHA-256)."""
    return int(hashlib.sha256(f"ftbench-v1|{namespace}|{key}".encode()).hexdigest()[:8], 16) / 2**32


def split_of(namespace: str, key: str, shares: tuple[float, float, float]) -> str:
    """The split of a group (namespace "item") or a query text (namespace "query").

    shares: train, valid, test fractions that sum to 1. Adding a product moves no other product.
    """
    u = unit_hash(namespace, key)
    if u < shares[0]:
        return "train"
    return "valid" if u < shares[0] + shares[1] else "test"


def normalize_query(text: str) -> str:
    """The form of a query that is hashed and compared: NFKC, lower case, single spaces."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).lower()).strip()
