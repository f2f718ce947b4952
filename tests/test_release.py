"""Board versions: what a release names does not move, is checked before it is shown, and renders the same bytes."""

import json
import shutil

import pytest
import synthetic

from ftbench import citation, record, release, rescore
from ftbench.errors import FtbenchError
from ftbench.items import silent
from ftbench.report import render
from ftbench.report.gathered import gather
from ftbench.runfile import read_judgements


def add(results, **about):
    return synthetic.add(results, n_queries=20, n_items=40, **about)


def rescored(results):
    paths = [path for path, _ in record.read_all(results)]
    rescore.write_note(results, rescore.rescore(paths, silent))


@pytest.fixture
def results(tmp_path):
    """Four records, re-scored."""
    folder = tmp_path / "results"
    for seed in range(2):
        add(folder, seed=seed)
    add(folder, method="bm25")
    add(folder, task="cross_view")
    rescored(folder)
    return folder


def test_a_release_lists_everything_with_its_hash(results):
    path = release.freeze(results, "2026.1")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    found = record.read_all(results)
    assert {about["id"] for about in manifest["records"].values()} == {r["id"] for _, r in found}
    for file, about in manifest["records"].items():
        assert about["run_file_sha256"] == record.read(results / file)["run_file"]["sha256"]
    assert len(manifest["judgements"]) == 2 and manifest["data"] == {"studio": [synthetic.sha("studio")]}
    assert manifest["newest"] == "2026-01-15T10:00:00Z" and len(manifest["sha256"]) == 64
    assert release.frozen(results, "2026.1") == found
    assert release.names(results) == ["2026.1"]


def test_a_release_is_never_overwritten_and_named_by_year_and_number(results):
    before = release.freeze(results, "2026.1").read_bytes()
    release.freeze(results, "2026.2")
    with pytest.raises(FtbenchError, match="exists, and does not change. Choose the next: 2026.3"):
        release.freeze(results, "2026.1")
    assert (results / "releases" / "2026.1.json").read_bytes() == before
    for name in ("first", "2026", "2026.0", "../2026.1", "2026.1\n", "26.1"):
        with pytest.raises(FtbenchError, match="expected YEAR.NUMBER"):
            release.freeze(results, name)
    release.freeze(results, "2026.10")
    assert release.names(results) == ["2026.1", "2026.2", "2026.10"]


@pytest.mark.parametrize("change", ["new record", "record", "run file", "judgements", "note"])
def test_only_what_was_rescored_as_it_is_can_be_released(results, change):
    path, found = record.read_all(results)[0]
    if change == "new record":
        path = add(results, seed=5)
    elif change == "record":
        path.write_bytes(path.read_bytes() + b" ")
    elif change == "note":
        (results / rescore.NOTE).unlink()
    else:
        other = path.with_suffix(".parquet") if change == "run file" else record.judgements_path(path, found)
        other.write_bytes(other.read_bytes() + b" ")
    with pytest.raises(FtbenchError, match="not re-scored as (they are|it is) now") as raised:
        release.freeze(results, "2026.1")
    assert path.name in str(raised.value) and not (results / "releases").exists()


@pytest.mark.parametrize("part", ["record", "run file", "judgements"])
@pytest.mark.parametrize("change", ["changed", "missing"])
def test_what_moved_since_is_not_shown(results, tmp_path, part, change):
    release.freeze(results, "2026.1")
    path, found = record.read_all(results)[0]
    file = {"record": path, "run file": path.with_suffix(".parquet"), "judgements": record.judgements_path(path, found)}
    if change == "missing":
        file[part].unlink()
    else:
        file[part].write_bytes(file[part].read_bytes() + b" ")
    with pytest.raises(FtbenchError, match="release 2026.1 cannot be shown") as raised:
        render(results, tmp_path / "site", release="2026.1")
    assert file[part].name in str(raised.value)
    assert {"changed": "was changed since", "missing": "is missing"}[change] in str(raised.value)


def test_a_manifest_that_was_changed_is_refused(results):
    path = release.freeze(results, "2026.1")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["records"].popitem()
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(FtbenchError, match="changed after it was written"):
        release.frozen(results, "2026.1")
    manifest["records"]["../../outside.json"] = {"id": "0", "sha256": "0", "run_file": None, "run_file_sha256": None}
    manifest["sha256"] = release._seal(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(FtbenchError, match="lies outside of"):
        release.frozen(results, "2026.1")
    with pytest.raises(FtbenchError, match="unknown release '2026.9'"):
        release.frozen(results, "2026.9")
    path.write_text(json.dumps(manifest | {"format": 1}), encoding="utf-8")
    with pytest.raises(FtbenchError, match="it has format 1, this ftbench reads 2"):
        release.frozen(results, "2026.1")


def test_the_digest_of_a_release_is_the_one_that_is_cited(results):
    path, found = record.read_all(results)[0]
    other = found | {"environment": found["environment"] | {"fingerprint": "f" * 12}}
    run = record.run_of(path, found)
    record.write(results, other, run.rankings, read_judgements(record.judgements_path(path, found)), run.slices)
    rescored(results)
    manifest = json.loads(release.freeze(results, "2026.1").read_text(encoding="utf-8"))
    assert len(manifest["records"]) == 5
    assert f"digest {manifest['digest']}" in citation.cited(results, released="2026.1")[0].bibtex()
    assert gather(results, silent, "2026.1").facts["digest"] == manifest["digest"]


def test_the_advice_is_not_counted_as_a_problem(results):
    release.freeze(results, "2026.1")
    (path, _), (other, _), *_ = record.read_all(results)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(FtbenchError) as raised:
        release.frozen(results, "2026.1")
    assert "problems" not in str(raised.value) and "\nTake them from" in str(raised.value)
    other.write_bytes(other.read_bytes() + b" ")
    with pytest.raises(FtbenchError, match="cannot be shown: 2 problems\n"):
        release.frozen(results, "2026.1")


def site_of(results, folder, name=None):
    render(results, folder, release=name)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_release_renders_its_records_alone_and_the_same_bytes(results, tmp_path):
    """Later records, releases and re-scorings do not change what 2026.1 shows."""
    release.freeze(results, "2026.1")
    before = site_of(results, tmp_path / "before", "2026.1")
    new = record.read(add(results, seed=7))
    rescored(results)
    release.freeze(results, "2026.2")
    after = site_of(results, tmp_path / "after", "2026.1")
    assert after == before
    newest = site_of(results, tmp_path / "newest", "2026.2")
    assert not [name for name in before if new["id"][:12] in name] and [n for n in newest if new["id"][:12] in n]
    assert b"Board 2026.1</li>" in before["index.html"]
    assert b"Board 2026.2; since board 2026.1: 1 record added, 0 removed, 0 replaced" in newest["index.html"]


def test_the_page_says_what_changed_since(results, tmp_path):
    assert release.changes(results, None) is None
    assert b"Not a released board" not in site_of(results, tmp_path / "site")["index.html"]
    release.freeze(results, "2026.1")
    assert release.changes(results, "2026.1") is None
    assert release.changes(results, None) == {"since": "2026.1", "added": 0, "removed": 0, "replaced": 0}
    paths = [path for path, _ in record.read_all(results)]
    paths[0].unlink()
    found = json.loads(paths[1].read_text(encoding="utf-8")) | {"date": "2026-02-01T10:00:00Z"}
    paths[1].write_text(json.dumps(found), encoding="utf-8")
    add(results, seed=7)
    assert release.changes(results, None) == {"since": "2026.1", "added": 1, "removed": 1, "replaced": 1}
    page = site_of(results, tmp_path / "site")["index.html"]
    assert b"Not a released board; since board 2026.1: 1 record added, 1 removed, 1 replaced" in page


def test_the_commands(results, tmp_path):
    from typer.testing import CliRunner

    from ftbench.cli import app

    def run(*words):
        return CliRunner().invoke(app, [*words, "--results", str(results)])

    shutil.rmtree(results / "releases", ignore_errors=True)
    assert run("release", "2026.1").output.strip() == str(results / "releases" / "2026.1.json")
    done = run("report", "--release", "2026.1", "--site", str(tmp_path / "site"))
    assert done.exit_code == 0 and (tmp_path / "site" / "index.html").is_file()
    done = run("export", "--release", "2026.1", "--format", "json")
    assert done.exit_code == 0 and len({i for c in json.loads(done.output) for i in c["records"]}) == 4
    assert "unknown release" in str(run("report", "--release", "2026.3").exception)
