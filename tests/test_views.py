"""Views: weights, masks, probes."""

import numpy as np
import pytest
from conftest import Toy

from ftbench.items import Item, View, silent
from ftbench.store import prepare
from ftbench.views import auxiliary_probes, near_duplicates, view_weights, views_of


@pytest.mark.parametrize("share", [None, 0.0, 0.25, 1.0])
def test_weights_against_a_loop(share):
    ids = np.array([[0, 1, 2, -1], [3, -1, -1, -1], [-1, 4, 5, 6], [-1, -1, -1, -1], [7, -1, 8, -1]])
    expected = np.zeros(ids.shape)
    for row, line in enumerate(ids):
        auxiliaries = [m for m in range(1, 4) if line[m] >= 0]
        primary = line[0] >= 0
        if share is None:
            a0 = 1 / (1 + len(auxiliaries)) if primary else 0
        else:
            a0 = (1 if not auxiliaries else share) if primary else 0
        expected[row, 0] = a0
        for m in auxiliaries:
            expected[row, m] = (1 - a0) / len(auxiliaries)
    np.testing.assert_allclose(view_weights(ids, share), expected, atol=1e-7)


def test_left_out_primary_is_followed_by_the_next_image(toy):
    views = views_of(toy, toy.rows("test"))
    rich = int(np.flatnonzero((views.images >= 0).sum(axis=1) >= 3)[0])
    first = views.images[rich].copy()
    masked = views.without_images({int(first[0])})
    np.testing.assert_array_equal(masked.images[rich], [*first[1:], -1])
    np.testing.assert_array_equal(views.images[rich], first, err_msg="the argument must not change")


def test_probes_are_auxiliary_known_and_the_same_each_time(toy):
    rows = toy.rows("test")
    views = views_of(toy, rows)
    ids = [toy.item_ids[i] for i in rows]
    probes = auxiliary_probes(views, ids)
    np.testing.assert_array_equal(probes, auxiliary_probes(views, ids))
    for row, probe in enumerate(probes):
        auxiliaries = set(views.images[row, 1:].tolist()) - {-1}
        assert (probe in auxiliaries) if auxiliaries else probe == -1


def test_views_that_may_not_probe_never_do(tmp_path):
    pixels = np.zeros((48, 48, 3), np.uint8)
    views = [View("image", "main", "primary", pixels), View("image", "card", "auxiliary", pixels + 1, probe=False),
             View("image", "back", "auxiliary", pixels + 2)]  # fmt: skip
    items = [Item(f"x{i}", f"x{i}", "test", "lamp", tuple(views)) for i in range(20)]
    catalogue = prepare(Toy(items), silent, tmp_path)
    rows = np.arange(40, 60)
    probes = auxiliary_probes(views_of(catalogue, rows), [catalogue.item_ids[i] for i in rows])
    assert {catalogue.assets.image_names[i] for i in probes} == {"back"}


def test_near_duplicates_by_bytes_and_by_perceptual_hash(toy):
    assets = toy.assets
    assert near_duplicates(assets, np.array([3])) == {3}
    hashes = ["0" * 16, f"{0b111:016x}", f"{0b1111:016x}"] + ["f" * 16] * (len(assets.image_sha256) - 3)
    from dataclasses import replace

    assert near_duplicates(replace(assets, image_phash=tuple(hashes)), np.array([0])) == {0, 1}
    same = ("one", "one", *assets.image_sha256[2:])
    assert near_duplicates(replace(assets, image_sha256=same), np.array([1])) == {0, 1}
