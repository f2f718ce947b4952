"""Which views exist, their weights, and which one is drawn. Must not know encoders or methods.

A table of views has one row per item: asset ids, primary in column 0, -1 where a view is missing. Whoever leaves a
view out (a probe's own asset, say) writes -1 there, and everything downstream masks it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ftbench.assets import Assets
from ftbench.catalogue import Catalogue
from ftbench.items import unit_hash

_NEAR_DUPLICATE_BITS = 3  # of 64 (difference hash): recompressed or rescaled copies differ in 0-3 bits


@dataclass(frozen=True)
class Views:
    """The views of n items (or the single view of n probes): what a method may look at.

    images (n, m) and texts (n, k): int64 asset ids, -1 where missing; column 0 is the primary view's place.
    assets: where ids lead. latents: each row's attributes, given to the oracle alone.
    """

    assets: Assets
    images: np.ndarray
    texts: np.ndarray
    latents: tuple[Mapping[str, str], ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray) -> "Views":
        """The views of some items, in the given order."""
        latents = None if self.latents is None else tuple(self.latents[i] for i in rows)
        return replace(self, images=self.images[rows], texts=self.texts[rows], latents=latents)

    def only(self, images: bool, texts: bool) -> "Views":
        """The same items with one kind of view masked."""
        return replace(
            self,
            images=self.images if images else np.full_like(self.images[:, :1], -1),
            texts=self.texts if texts else np.full_like(self.texts[:, :1], -1),
        )

    def single(self, kind: str, ids: np.ndarray) -> "Views":
        """One asset per item, in the primary place: a probe or a gallery of single assets. ids: (n,) int64, -1 where missing."""  # noqa: E501
        column, none = ids[:, None], np.full((len(ids), 1), -1, dtype=np.int64)
        return replace(self, images=column if kind == "image" else none, texts=column if kind == "text" else none)

    def without_images(self, left_out: Collection[int]) -> "Views":
        """The same items with the given image assets masked; a masked primary is followed by the first auxiliary left."""  # noqa: E501
        images = np.where(np.isin(self.images, list(left_out)), -1, self.images)
        order = np.argsort(images < 0, axis=1, kind="stable")
        return replace(self, images=np.take_along_axis(images, order, axis=1))


def views_of(catalogue: Catalogue, rows: np.ndarray, latents: bool = False) -> Views:
    """All views of some items of a catalogue."""
    return Views(
        assets=catalogue.assets,
        images=catalogue.view_ids("image")[rows],
        texts=catalogue.view_ids("text")[rows],
        latents=tuple(catalogue.attributes(i) for i in rows) if latents else None,
    )


def text_probes(texts: list[str], latents: tuple[Mapping[str, str], ...] | None = None) -> Views:
    """Queries as views: one text each, with assets of their own."""
    reveals = tuple(tuple(row) for row in latents) if latents is not None else ((),) * len(texts)
    assets = Assets(
        texts=tuple(texts),
        image_sha256=(),
        image_phash=(),
        text_sha256=(),
        image_names=(),
        text_names=("query",) * len(texts),
        image_probe=np.zeros(0, dtype=bool),
        image_reveals=(),
        text_reveals=reveals,
    )
    ids = np.arange(len(texts), dtype=np.int64)[:, None]
    return Views(assets, images=np.full_like(ids, -1), texts=ids, latents=latents)


def view_weights(ids: np.ndarray, primary_share: float | None) -> np.ndarray:
    """Weights (n, m) float32 over the views that exist; each row sums to 1, or to 0 where an item has no such view.

    primary_share: the weight a_0 of column 0; the rest is shared equally by the auxiliaries that exist. None gives all
    views the same weight. An item without auxiliaries has a_0 = 1; one without a primary shares among the auxiliaries.
    """
    exists = (ids >= 0).astype(np.float32)
    if primary_share is None:
        return exists / np.maximum(exists.sum(axis=1, keepdims=True), 1)
    primary, auxiliary = exists[:, :1], exists[:, 1:]
    count = auxiliary.sum(axis=1, keepdims=True)
    share = np.where(count == 0, primary, primary * np.float32(primary_share))
    return np.concatenate([share, auxiliary * (1 - share) / np.maximum(count, 1)], axis=1)


def near_duplicates(assets: Assets, ids: np.ndarray) -> set[int]:
    """All image assets that are one of the given ones: same SHA-256, or (photographs) a near-duplicate perceptual hash."""  # noqa: E501
    hashes = {assets.image_sha256[i] for i in ids}
    same = {i for i, digest in enumerate(assets.image_sha256) if digest in hashes}
    if any(assets.image_phash[i] for i in ids):
        known = np.array([int(h or "0", 16) for h in assets.image_phash], dtype=np.uint64)
        for i in ids:
            distance = np.bitwise_count(known ^ known[i])
            same.update(np.flatnonzero(distance <= _NEAR_DUPLICATE_BITS).tolist())
    return same


def auxiliary_probes(views: Views, item_ids: list[str]) -> np.ndarray:
    """One auxiliary image per item (n,) int64, chosen by hash of its id among those that may probe; -1 where none.

    The choice belongs to the data set, not to a run: every method and seed searches with the same probes.
    """
    probes = np.full(len(views), -1, dtype=np.int64)
    for row, item_id in enumerate(item_ids):
        eligible = [i for i in views.images[row, 1:] if i >= 0 and views.assets.image_probe[i]]
        if eligible:
            probes[row] = eligible[int(unit_hash("probe", item_id) * len(eligible))]
    return probes
