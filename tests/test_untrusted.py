"""What strangers send is bounded before it is believed: files, JSON, Parquet, code; and nothing of it runs."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sent import a_folder, a_world, refused, relist, rewrite, the_record, validate, written  # noqa: F401

from ftbench import runfile, untrusted
from ftbench.errors import DataError
from ftbench.untrusted import LIMITS

# --- files


def _link(folder):
    (folder / "results" / "link.json").symlink_to("/etc/passwd")


def _linked_folder(folder):
    shutil.move(folder / "results", folder.parent / "elsewhere")
    (folder / "results").symlink_to(folder.parent / "elsewhere")


def _linked_run(folder):
    path = the_record(folder).with_suffix(".parquet")
    path.rename(folder.parent / "run.parquet")
    path.symlink_to(folder.parent / "run.parquet")


def _deep(folder):
    (folder / "/".join("abcdefghijklmnopqrstuvwxyz")).mkdir(parents=True)


@pytest.mark.parametrize(
    ("attack", "text"),
    [
        (_link, "results/link.json: a link"),
        (_linked_folder, "results: a link"),
        (_linked_run, "a link"),
        (_deep, "nested too deeply"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe: no plain file"),
        (written("model.pkl"), "model.pkl: not a file of a submission"),
        (written("weights.pt"), "weights.pt: not a file of a submission"),
        (written("data.zip"), "data.zip: an archive"),
        (written("results/studio/all.tar.gz"), "all.tar.gz: an archive"),
        (written("conftest.py"), "conftest.py: not a file of a submission"),
        (written("results/__init__.py"), "results/__init__.py: not a file"),
        (written("json.py"), "json.py: not a file of a submission"),
        (written("baselines/../sneaky.py"), "sneaky.py: not a file"),
        (written("baselines/other.py", b"x = 1"), "2 method files"),
        (written("baselines/my-method.py", b"x = 1"), "not a file of a submission"),
        (written("results/studio/query2item/x\n- problem-0123456789ab.json"), "not a file of a submission"),
        (written("results/studio/query2item/rändom-0123456789ab.json"), "not a file of a submission"),
        (written("results/studio/judgements-query2item-0123456789ab.parquet"), "not a file of a submission"),
        (written("results/studio/query2item/more-0123456789ab.parquet"), "a run file without a record"),
        (written(".git/hooks/pre-commit"), "not a file of a submission"),
        (
            lambda folder: (folder / "README.md").write_text("other"),
            "README.md: not the file that submission.json lists",
        ),
        (lambda folder: (folder / "README.md").unlink(), "README.md: listed, not in the folder"),
        (lambda folder: (folder / "submission.json").unlink(), "this is not a submission: no submission.json"),
        (lambda folder: (folder / "submission.json").write_text("[]"), "expected an object with format"),
        (lambda folder: shutil.rmtree(folder / "results"), "no record that can be read"),
        (written("README.md", b"\xff\xfe"), "utf-8"),
        (written("README.md", b"x" * 100_001), "more than 100,000 bytes"),
    ],
)
def test_files_that_are_no_submission(folder, world, attack, text):
    attack(folder)
    refused(folder, world, text)


def test_folders_that_are_none(world, tmp_path, monkeypatch):
    for name, text in (("none", "no folder"), ("packed.tar.gz", "archives are not accepted")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DataError, match=text):
            validate(tmp_path / name, world)
    (tmp_path / "linked").symlink_to(world / "packed")
    with pytest.raises(DataError, match="no folder"):
        validate(tmp_path / "linked", world)
    monkeypatch.chdir(world / "packed")
    with pytest.raises(DataError, match="Go to your checkout"):  # a json.py there would be imported
        validate(world / "packed", world)


def test_sizes_are_bounded(folder, world):
    refused(folder, world, "more than 3 files", limits=replace(LIMITS, files=3))
    refused(folder, world, "bytes in all; at most 1,000", limits=replace(LIMITS, folder=1000))
    refused(folder, world, "more than 500 bytes", limits=replace(LIMITS, record=500))
    refused(folder, world, "more than 500 bytes", limits=replace(LIMITS, run_file=500))


# --- JSON


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"a": ' * 10_000, "nested deeper than 16"),
        (b"[" * 17 + b"]" * 17, "nested deeper than 16"),
        (b'{"a": 1, "a": 2}', "a key is given twice"),
        (b'{"a": NaN}', "not a finite number"),
        (b'{"a": -Infinity}', "not a finite number"),
        (b'{"a": 1e999}', "not a finite number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number of 5000 digits"),
        (b'{"a": "\xff"}', "not JSON"),
        (b'{"a": "\\ud800"}', "U+D800"),
        (b'{"a": "\\u001b[2J"}', "U+001B"),
        ('{"a": "\u202ecod"}'.encode(), "U+202E"),
        (b'{"\\u0000": 1}', "U+0000"),
        (b'{"a": 1', "not JSON"),
        (b"", "not JSON"),
        (b"\x80\x04K\x01.", "not JSON"),
        (b"[]", "a record is a JSON object"),
        (b'{"schema_version": 99}', "it has schema version 99"),
    ],
)
def test_json_that_is_none(folder, world, data, text):
    the_record(folder).write_bytes(data)
    relist(folder)
    refused(folder, world, text, "schema")


@pytest.mark.parametrize("text", ['"\\\\"', '{"a": "[[[[\\"[[[["}', '["a\\"", [1]]', "{}"])
def test_brackets_inside_texts_do_not_nest(text):
    assert untrusted.parse_json(text.encode(), 2) == json.loads(text)


def run_bytes(folder, data):
    the_record(folder).with_suffix(".parquet").write_bytes(data)
    about = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    rewrite(folder, lambda f: f["run_file"].update(about), named=False)


def parquet(rows, folder, **columns):
    """A run file with the right columns, one of them another."""
    types = dict(runfile._types())
    values = {
        name: [[] if pa.types.is_list(kind) else "" if kind == pa.string() else 0] * rows
        for name, kind in types.items()
    }
    table = {name: pa.array(values[name], type=kind) for name, kind in types.items()} | columns
    path = folder.parent / "bomb.parquet"
    pq.write_table(pa.table(table), path, compression="zstd", use_dictionary=False, write_statistics=False)
    return path.read_bytes()


def zeros(count):
    """One list of that many zeros."""
    return pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.array(np.zeros(count, dtype=np.float32)))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (lambda folder: b"", "not a Parquet file"),
        (lambda folder: b"PAR1" + b"\xff" * 100 + b"\xff\xff\xff\x7fPAR1", "its footer is larger"),
        (lambda folder: b"PAR1" + b"\xff" * 100 + b"\x20\x00\x00\x00PAR1", "its footer cannot be read"),
        (lambda folder: parquet(1, folder, extra=pa.array(["x"])), "its columns are not those of a run file"),
        (lambda folder: parquet(100, folder), "100 rows; at most 64"),
        (lambda folder: parquet(1, folder, score=zeros(3_000_000)), "values in a column; at most 1,000,000"),
        (lambda folder: parquet(1, folder, score=zeros(3_000_000)), "bytes when decompressed; at most 4,000,000"),
        (lambda folder: parquet(1, folder, rank=pa.array([["x"]])), "not a run file of the board's judgements"),
    ],
)
def test_parquet_is_measured_before_it_is_decoded(folder, world, data, text):
    run_bytes(folder, data(folder))
    refused(folder, world, text, limits=replace(LIMITS, values=1_000_000, decoded=4_000_000))


def test_a_footer_that_lies_exhausts_a_process_of_its_own(world, tmp_path):
    """100 KB that become 400 MB, by a footer that says 1 KB: refused by the memory that the reader may have."""
    folder = Path(shutil.copytree(world / "packed", tmp_path / "packed"))
    data, count = parquet(1, folder, score=zeros(100_000_000)), 100_000_000
    about = pq.read_metadata(tmp_path / "bomb.parquet").row_group(0)
    size = next(about.column(i) for i in range(about.num_columns) if "score" in about.column(i).path_in_schema)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for told in (size.total_uncompressed_size, count):
        honest = _varint(2 * told)
        assert honest in data[footer:]
        data = data[:footer] + data[footer:].replace(honest, _varint(2 * 1000, len(honest)))
    assert untrusted.parquet_problems(data, runfile.COLUMNS) == [] and len(data) < 200_000
    run_bytes(folder, data)
    limits = replace(LIMITS, memory=150_000_000)
    refused(folder, world, "more than 150,000,000 bytes of memory", "files", limits)


def _varint(value, length=0):
    """A thrift varint; padded, which readers accept, to keep the place of what follows."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    while len(out) < length:
        out[-1] |= 128
        out.append(0)
    return bytes(out)


def hog(payload):
    return len(bytearray(1_000_000_000))


def spin(payload):
    while True:
        pass


def crash(payload):
    os.abort()


@pytest.mark.parametrize(
    ("name", "limits", "text"),
    [
        ("hog", {"memory": 200_000_000}, "more than 200,000,000 bytes of memory"),
        ("spin", {"seconds": 3}, "3 seconds|crashes the reader"),
        ("crash", {}, "crashes the reader"),
    ],
)
def test_the_process_that_decodes_is_bounded(name, limits, text, monkeypatch, tmp_path):
    child = "import sys, test_untrusted; sys.modules['ftbench.hostile'] = test_untrusted; " + untrusted._CHILD
    monkeypatch.setattr(untrusted, "_CHILD", child)
    with pytest.raises(DataError, match=text):
        untrusted.bounded(f"ftbench.hostile:{name}", {}, replace(LIMITS, **limits))


# --- code


@pytest.mark.parametrize("code", [b"def f(:", b"(" * 5000, b"\x00", b"x = " + b"-" * 200_000, b"\xff"])
def test_code_that_is_none_is_not_read_as_python(world, tmp_path, code):
    folder = Path(shutil.copytree(world / "packed", tmp_path / "packed"))
    (folder / "baselines" / "my_method.py").write_bytes(code)
    relist(folder)
    verdict = validate(folder, world)
    assert [f.file for f in verdict.problems if f.check == "code"][0] == "baselines/my_method.py", verdict.as_text()


def test_nothing_is_imported_from_where_the_command_is_typed(world, tmp_path, monkeypatch):
    for name in ("json", "numpy", "ftbench"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert validate(world / "packed", world).passed
    assert not (tmp_path / "marker").exists()
