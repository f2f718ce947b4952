"""What a gallery may show of a data set: chosen by rule, in one file that is checked before it is shown."""

import hashlib
import io
import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import synthetic
from bundles import made_for
from PIL import Image
from typer.testing import CliRunner

from ftbench import bundle, cli, search
from ftbench.errors import DataError, FtbenchError
from ftbench.items import Query, unit_hash
from ftbench.report import render


@pytest.fixture
def folder(tmp_path):
    for method in ("mean_pooling_all_views", "single_view_clip"):
        synthetic.add(tmp_path / "results", n_queries=12, n_items=40, method=method)
    return tmp_path / "results"


def test_the_sample_is_equal_shares_of_the_slices_by_hash_and_nothing_else():
    queries = [Query(f"q{i}", f"text {i}", "test", (("a",), ("b", "c"))[i % 5 == 0]) for i in range(100)]
    found = bundle.sample(queries, 12)
    assert [q.slices for q in found].count(("a",)) == [q.slices for q in found].count(("b", "c")) == 6
    for group in (("a",), ("b", "c")):
        mine = [q.query_id for q in queries if q.slices == group]
        lowest = sorted(mine, key=lambda q: (unit_hash("gallery", q), q))[:6]
        assert {q.query_id for q in found if q.slices == group} == set(lowest)
    assert bundle.sample(queries[::-1], 12) == found
    assert len(bundle.sample(queries[:3], 12)) == 3


def ranking_of(toy):
    test = toy.rows("test")
    queries = toy.queries("test")
    gains = {q.query_id: {f"item{int(q.query_id[1:]):02d}": 3.0} for q in queries}
    scores = np.random.default_rng(0).standard_normal((len(queries), len(test))).astype(np.float32)
    items = [toy.item_ids[row] for row in test]
    return search.rank_scores(scores, [q.query_id for q in queries], items, gains, 3.0)


def test_a_bundle_holds_what_was_retrieved_and_what_answers(toy):
    ranking = ranking_of(toy)
    made = bundle.make(toy, [ranking])
    wanted = {f"item{int(asked.query_id[1:]):02d}" for asked in made.queries}
    for asked in made.queries:
        rows = bundle.top(ranking, {asked.query_id})[asked.query_id]
        assert len(rows) == bundle.TOP
        wanted |= {item for item, _ in rows}
    assert set(made.items) == wanted and made.data["fingerprint"] == toy.fingerprint
    place = list(toy.item_ids).index("item25")
    item = made.items["item25"]
    pictures = toy.view_ids("image")[place]
    pixels = toy.assets.pixels(pictures[pictures >= 0])
    with Image.open(io.BytesIO(item.strip)) as image:
        assert image.size == (48 * len(item.pictures), 48)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.concatenate(pixels, axis=1))  # without loss
    assert item.words[0].text == "red lamp 25"
    assert made.texts == {q.query_id: q.text for q in toy.queries("test")}


def test_pictures_are_fitted_whole(tmp_path):
    tall = np.zeros((200, 100, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(bundle._strip([tall, tall[:20, :20]], photographs=True))) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape == (48, 96)
    assert pixels[:, :8].min() > 200 and pixels[:, 16:32].max() < 60 and pixels[:, 56:].max() < 60


@pytest.mark.parametrize(
    ("private", "own", "shows"), [(False, False, 0), (False, True, 0), (True, False, 0), (True, True, 1)]
)
def test_what_may_not_be_shown_is_ids_alone(toy, private, own, shows, monkeypatch):
    monkeypatch.setattr(toy, "info", replace(toy.info, redistributable=False, private=private))
    made = bundle.make(toy, [ranking_of(toy)], own)
    texts = [asked.text for asked in made.queries] + [
        words.text for item in made.items.values() for words in item.words
    ]
    assert any(texts) == any(item.strip for item in made.items.values()) == bool(made.texts) == bool(shows)
    assert made.items and made.queries


def test_without_runs_there_is_nothing_to_bundle(toy):
    with pytest.raises(FtbenchError, match="ftbench run --method default"):
        bundle.make(toy, [])


def test_a_bundle_is_read_as_it_was_written_and_always_the_same(folder, tmp_path):
    made = made_for(folder)
    first, second = (bundle.write(tmp_path / name, made) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    found = bundle.read(first)
    assert replace(found, sha256="") == made
    assert found.sha256 == hashlib.sha256(first.read_bytes()).hexdigest()


def repacked(path, change):
    """The bundle with its members changed by a function."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)


def forged(change):
    """A change of the JSON with its hash made right again."""

    def apply(members):
        head = json.loads(members["gallery.json"])
        change(head)
        head["sha256"] = bundle._hash(head["body"])
        members["gallery.json"] = json.dumps(head).encode()

    return apply


DAMAGES = {
    "text": lambda m: m.update({"gallery.json": m["gallery.json"].replace(b"text of", b"test of")}),
    "picture": lambda m: m.update({max(m, key=len): b"RIFF0000WEBPVP8 "}),
    "missing picture": lambda m: m.pop(max(m, key=len)),
    "no json": lambda m: m.pop("gallery.json"),
    "not json": lambda m: m.update({"gallery.json": b"{"}),
    "huge": lambda m: m.update({"x": bytes(30_000_000)}),
    "schema": forged(lambda head: head.update(schema=99)),
    "no items": forged(lambda head: head["body"].pop("items")),
    "wrong kind": forged(lambda head: head["body"].update(queries=[1])),
    "no fingerprint": forged(lambda head: head["body"]["data"].pop("fingerprint")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_bundle_is_refused_and_said(folder, damage):
    path = bundle.write(folder, made_for(folder))
    repacked(path, damage)
    with pytest.raises(DataError, match=r"bundle|Upgrade"):
        bundle.read(path)
    said = []
    render(folder, folder.parent / "site", warn=said.append)
    assert len(said) == 1 and str(path) in said[0] and not (folder.parent / "site" / "gallery.html").exists()


def test_truncated_files_and_folders_are_no_bundles(folder, tmp_path):
    path = bundle.write(tmp_path, made_for(folder))
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="Make it again"):
            bundle.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        bundle.read(tmp_path)


def test_a_bundle_of_other_data_is_refused(folder):
    data = {**made_for(folder).data, "fingerprint": "1" * 64}
    bundle.write(folder, made_for(folder, data=data))
    said = []
    page = render(folder, folder.parent / "site", warn=said.append)
    assert "111111111111" in said[0] and "ftbench data bundle studio" in said[0]
    assert not page.with_name("gallery.html").exists() and "gallery.html" not in page.read_text()


def test_the_command_writes_the_bundle_beside_the_records(toy, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    shutil.copytree(toy.folder, cache / "data" / "toy")
    monkeypatch.setenv("FTBENCH_CACHE", str(cache))

    def run():
        return CliRunner().invoke(cli.app, ["data", "bundle", "toy", "--results", str(tmp_path / "results")])

    (tmp_path / "results").mkdir()
    with pytest.raises(FtbenchError, match="no finished query2item runs"):
        raise run().exception
    synthetic.add(tmp_path / "results", method="mean_pooling", data="toy")
    with pytest.raises(DataError, match="another toy"):
        raise run().exception
