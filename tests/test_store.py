"""Prepared catalogues: what goes in comes out, damage is seen, an interruption leaves nothing."""

import errno
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import Toy
from PIL import Image

from ftbench.catalogue import TABLES, open_catalogue
from ftbench.errors import DataError
from ftbench.items import Interaction, Item, Queries, Query, View, silent
from ftbench.store import prepare


def test_round_trip(toy):
    originals = list(Toy().items(silent))
    images, texts = toy.view_ids("image"), toy.view_ids("text")
    assert list(toy.item_ids) == [item.item_id for item in originals]
    for row, item in enumerate(originals):
        pictures = [view.content for view in item.views if view.kind == "image"]
        ids = images[row][images[row] >= 0]
        assert len(ids) == len(pictures)
        for stored, original in zip(toy.assets.pixels(ids), pictures, strict=True):
            np.testing.assert_array_equal(stored, original)
        words = [view.content for view in item.views if view.kind == "text"]
        assert [toy.assets.texts[i] for i in texts[row] if i >= 0] == words
    assert [len(toy.rows(split)) for split in ("train", "valid", "test", "all")] == [20, 4, 16, 40]
    assert len(toy.judgements("test")) == 16 and len(toy.interactions()) == 20


def test_same_source_same_fingerprint(toy, tmp_path):
    again = prepare(Toy(), silent, tmp_path)
    assert again.fingerprint == toy.fingerprint
    one_more = Item("extra", "extra", "test", "lamp", (View("text", "title", "primary", "x"),))
    assert prepare(Toy([one_more]), silent, tmp_path).fingerprint != toy.fingerprint


def test_damage_is_seen(tmp_path):
    folder = prepare(Toy(), silent, tmp_path).folder
    data = bytearray((folder / "images.arrow").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "images.arrow").write_bytes(data)
    with pytest.raises(DataError, match="images.arrow does not have the sha256.*ftbench data prepare toy"):
        open_catalogue("toy", tmp_path)
    (folder / "images.arrow").write_bytes(data[:-1])
    with pytest.raises(DataError, match="bytes, expected"):
        open_catalogue("toy", tmp_path)


@pytest.mark.parametrize("where", ["items", "queries"])
def test_interruption_leaves_nothing_and_keeps_what_was_there(tmp_path, where):
    class Interrupted(Toy):
        def items(self, progress):
            for number, item in enumerate(super().items(progress)):
                if where == "items" and number == 30:
                    raise KeyboardInterrupt
                yield item

        def queries(self):
            raise KeyboardInterrupt

    before = prepare(Toy(), silent, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        prepare(Interrupted(), silent, tmp_path)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["toy"]
    assert open_catalogue("toy", tmp_path).fingerprint == before.fingerprint


def test_evidence_that_crosses_splits_is_refused(tmp_path):
    class Leaky(Toy):
        def queries(self):
            return Queries((Query("q", "x", "train"),), (), (Interaction("q", "item39"),))

    with pytest.raises(DataError, match="leaves the train split"):
        prepare(Leaky(), silent, tmp_path)
    assert open_catalogue("toy", tmp_path) is None


def test_duplicate_item_is_refused(tmp_path):
    twice = Item("item03", "x", "test", "lamp", (View("text", "title", "primary", "x"),))
    with pytest.raises(DataError, match="'item03' occurs twice"):
        prepare(Toy([twice]), silent, tmp_path)


def _bomb(path: Path) -> None:
    """A PNG that says it has 40,000 x 40,000 pixels, in a few bytes."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    parts = [(13, chunk), (len(data) - 4, data)]
    body = b"".join(struct.pack(">I", size) + part + struct.pack(">I", zlib.crc32(part)) for size, part in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_broken_images_are_counted_listed_and_masked(tmp_path):
    good, truncated, bomb, text = (tmp_path / f"{n}.png" for n in ("good", "truncated", "bomb", "text"))
    Image.fromarray(np.arange(300 * 200 * 3, dtype=np.uint32).astype(np.uint8).reshape(200, 300, 3)).save(good)
    truncated.write_bytes(good.read_bytes()[:200])
    _bomb(bomb)
    text.write_text("<html>not found</html>")
    bad = [truncated, bomb, text, tmp_path / "absent.png"]
    views = tuple(View("image", f"v{i}", "auxiliary" if i else "primary", p) for i, p in enumerate([*bad, good]))
    catalogue = prepare(
        Toy([Item("x", "x", "test", "lamp", (*views, View("text", "title", "primary", "x")))]), silent, tmp_path
    )
    reasons = [broken["reason"] for broken in catalogue.manifest["broken"]]
    assert [reason.split(":")[0] for reason in reasons] == [
        "truncated or damaged", "decompression bomb", "not an image", "missing file",
    ]  # fmt: skip
    assert sum(n for reason, n in catalogue.manifest["dropped"].items() if "broken image" in reason) == 4
    ids = catalogue.view_ids("image")[-1]
    assert (ids >= 0).sum() == 1 and ids[0] >= 0, "the one good image is promoted to the primary's place"
    assert catalogue.assets.pixels(ids[:1])[0].shape == (171, 256, 3)
    images = catalogue.table("images").column("role").to_pylist()
    assert images[-1] == "primary"


def test_unwritable_cache_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="FTBENCH_CACHE"):
        prepare(Toy(), silent, tmp_path / "file")


def test_newer_manifest_is_a_clear_error(tmp_path):
    folder = prepare(Toy(), silent, tmp_path).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema": 99}))
    with pytest.raises(DataError, match="manifest schema 99"):
        open_catalogue("toy", tmp_path)


class Counted(Toy):
    """A toy that says what became of its rows."""

    def __init__(self, **lost):
        super().__init__()
        self.rows = {
            table: {"read": 50, "kept": 40, "merged": 3, "dropped": 7 - lost.get(table, 0)} for table in ("a", "b", "c")
        }


def test_rows_by_table_stand_in_the_manifest(tmp_path, toy):
    manifest = prepare(Counted(), silent, tmp_path).manifest
    assert manifest["rows"] == Counted().rows
    assert json.loads((tmp_path / "data/toy/manifest.json").read_text())["rows"] == Counted().rows
    assert toy.manifest["rows"] == {}, "a source that reads no rows has none"
    assert manifest["fingerprint"] == toy.fingerprint


def test_a_source_that_loses_rows_silently_is_refused(tmp_path):
    with pytest.raises(DataError, match="lost rows without a reason.*b: 50 rows read, but 40 kept, 3 merged and 5"):
        prepare(Counted(b=2), silent, tmp_path)
    with pytest.raises(DataError) as several:
        prepare(Counted(a=1, c=3), silent, tmp_path)
    assert "  - a: " in str(several.value) and "  - c: " in str(several.value) and "b: " not in str(several.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_batches_of_any_size_hold_the_same(tmp_path, toy, monkeypatch):
    monkeypatch.setattr("ftbench.store._BATCH", dict.fromkeys(TABLES, 7))  # so that every table is several batches
    batched = prepare(Toy(), silent, tmp_path)
    assert batched.fingerprint == toy.fingerprint and batched.manifest["counts"] == toy.manifest["counts"]
    for name in TABLES:
        assert batched.table(name).to_pylist() == toy.table(name).to_pylist()
        sizes = [batch.num_rows for batch in batched.table(name).to_batches()]
        assert sum(sizes) == len(toy.table(name)) and len(sizes) > 1
    for ids in (batched.view_ids("image")[[0, 17, 39]].ravel(), [0, 6, 7, -1 + len(toy.table("images"))]):
        ids = [i for i in ids if i >= 0]
        for one, other in zip(batched.assets.pixels(ids), toy.assets.pixels(ids), strict=True):
            np.testing.assert_array_equal(one, other)
        assert [batched.assets.image_probe[i] for i in ids] == [toy.assets.image_probe[i] for i in ids]


def test_two_commands_do_not_prepare_one_name_at_once(tmp_path):
    class Nested(Toy):
        def items(self, progress):
            with pytest.raises(DataError, match="is being written by another command"):
                prepare(Toy(), silent, tmp_path)
            yield from super().items(progress)

    assert prepare(Nested(), silent, tmp_path).fingerprint == prepare(Toy(), silent, tmp_path).fingerprint


def test_a_full_disk_is_a_sentence(tmp_path):
    class Full(Toy):
        def items(self, progress):
            yield next(super().items(progress))
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match="no space is left.*FTBENCH_CACHE"):
        prepare(Full(), silent, tmp_path)
    assert not list((tmp_path / "data").iterdir()), "nothing half-written"
