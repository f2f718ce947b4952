"""A board, a submission to it, and what an attacker does to it. Fixtures are imported by their functions' names."""

import hashlib
import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import synthetic

from ftbench import provenance, record, submission, validation
from ftbench.untrusted import LIMITS

CODE = '"""Mine. Differs from the paper: not from one."""\nfrom pathlib import Path\nPath("MARKER").write_text("ran")\n'
SIZE = {"n_queries": 20, "n_items": 40}


@pytest.fixture(name="world", scope="module")
def a_world(tmp_path_factory):
    """A board; the file of a method that says so when it is run; and that method's runs: one, untrained."""
    folder = tmp_path_factory.mktemp("world")
    for seed in range(3):
        synthetic.add(folder / "board", method="single_view_clip", seed=seed, **SIZE)
    synthetic.add(folder / "board", method="bm25", **SIZE)
    code = folder / "my_method.py"
    code.write_text(CODE.replace("MARKER", str(folder / "marker")), encoding="utf-8")
    shutil.copytree(folder / "board", folder / "own")
    with pytest.MonkeyPatch.context() as patch:
        known(patch, code)
        patch.setitem(synthetic.METHODS, "my_method", ("Mine", 1.7, None, {"k": 2}, 2.0, None))
        synthetic.add(folder / "own", method="my_method", **SIZE)
    submission.submit(folder / "packed", str(code), folder / "own")
    return folder


def known(patch, code):
    """Let records of my_method have the hash of its file."""
    digest, plain = provenance.source_sha256(code), synthetic.sha
    patch.setattr(synthetic, "sha", lambda text: digest if text == "my_method" else plain(text))


@pytest.fixture(name="folder")
def a_folder(world, tmp_path, monkeypatch):
    """A copy of what was packed, to attack; what decodes runs in this process, for speed."""

    def called(function, payload, limits=LIMITS):
        module, _, name = function.partition(":")
        return json.loads(json.dumps(getattr(import_module(module), name)(json.loads(json.dumps(payload)))))

    monkeypatch.setattr(validation, "bounded", called)
    return Path(shutil.copytree(world / "packed", tmp_path / "packed"))


def relist(folder):
    """Make submission.json's list fit the files again, as an attacker would."""
    path = folder / "submission.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    files = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and p != path]
    manifest["files"] = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    path.write_text(json.dumps(manifest), encoding="utf-8")


def the_record(folder):
    return next(folder.glob("results/*/*/*.json"))


def rewrite(folder, change, named=True):
    """Change the record; its id, name and list follow, as an attacker would have it."""
    path = the_record(folder)
    found = json.loads(path.read_text(encoding="utf-8"))
    run_file = path.with_suffix(".parquet")
    change(found)
    if named:
        found["id"] = record.record_id(record.key(found))
        new = record.path_of(folder / "results", found)
        new.parent.mkdir(parents=True, exist_ok=True)
        found["run_file"]["name"] = new.with_suffix(".parquet").name
        path.unlink()
        run_file.rename(new.with_suffix(".parquet"))
        path = new
    path.write_text(json.dumps(found), encoding="utf-8")
    relist(folder)
    return path


def validate(folder, world, limits=LIMITS):
    return validation.validate(folder, world / "board", limits=limits)


def refused(folder, world, text, check=None, limits=LIMITS):
    """The submission fails, and a finding (of this check) says so; its code did not run."""
    verdict = validate(folder, world, limits)
    told = [f for f in verdict.problems if text in f"{f.file}: {f.text}"]
    assert told and not verdict.passed, verdict.as_text()
    assert check is None or {f.check for f in told} == {check}
    assert not (world / "marker").exists()
    return verdict


def written(name, data=b"x"):
    def write(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        relist(folder)

    return write
