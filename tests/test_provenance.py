"""Where numbers came from: the hash of what a file does, the machine, the commit."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ftbench import provenance
from ftbench.errors import FtbenchError

CODE = '''
"""A method: with a title."""
LIMIT = None

class Method:
    """What it is."""

    def f(self, x=1):
        """Says something."""
        return {"a": x, "b": "text"}
'''


def digest(text, tmp_path):
    path = tmp_path / "method.py"
    path.write_text(text)
    return provenance.source_sha256(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A method: with a title.", "Another docstring."),
        ('        """Says something."""\n', ""),
        ("LIMIT = None", "LIMIT = None  # a comment"),
        ('{"a": x, "b": "text"}', "{'a': x,\n                'b': 'text'}"),
        ("\nclass", "\n\n\n\nclass"),
    ],
)
def test_words_and_layout_do_not_change_the_hash(old, new, tmp_path):
    assert old in CODE
    assert digest(CODE, tmp_path) == digest(CODE.replace(old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [("x=1", "x=2"), ("x=1", "x=1.0"), ("x=1", "x='1'"), ("LIMIT = None", "LIMIT = 0"), ('"text"', '"text "'),
     ("return", "yield"), ("class Method", "class Methods"), ('"a": x', '"a": -x'), ("LIMIT = None", "LIMIT = ...")],
)  # fmt: skip
def test_anything_else_does(old, new, tmp_path):
    assert digest(CODE, tmp_path) != digest(CODE.replace(old, new), tmp_path)


def test_a_string_that_is_no_docstring_counts(tmp_path):
    assert digest("x = 1\n'a'\n", tmp_path) != digest("x = 1\n'b'\n", tmp_path)


def test_the_hash_is_the_same_on_every_python(tmp_path):
    """Written down once: a Python that gives another value would give every record another id."""
    assert digest(CODE, tmp_path) == "8c6c1caf2865b3c3a8c0cb572810969320912d746c01eeb3a4d63834a40fe017"


def test_a_file_that_is_not_python_is_an_error(tmp_path):
    with pytest.raises(FtbenchError, match="cannot read the method file .*Expected a Python file"):
        digest("def f(:", tmp_path)
    with pytest.raises(FtbenchError, match="No such file"):
        provenance.source_sha256(tmp_path / "none.py")


@pytest.mark.parametrize(
    ("first", "title"),
    [
        ("Random vectors: chance, the floor.", "Random vectors"),
        ("BM25 over texts (Robertson et al. 1994), with bm25s: words", "BM25 over texts"),
        ("Oracle.", "Oracle"),
        ("Mean of 3.5 views, pooled", "Mean of 3.5 views"),
        ("Plain title\n\nMore.", "Plain title"),
    ],
)
def test_a_method_is_called_what_its_docstring_says(first, title, tmp_path):
    (tmp_path / "m.py").write_text(f'"""{first}"""\n')
    assert provenance.method_title(tmp_path / "m.py") == title


def test_a_method_without_docstring_is_called_by_its_file(tmp_path):
    (tmp_path / "my_method.py").write_text("x = 1\n")
    assert provenance.method_title(tmp_path / "my_method.py") == "my_method"


def test_environment_names_versions_and_fingerprints_hardware_alone(monkeypatch):
    found = provenance.environment()
    assert found["packages"]["ftbench"] and found["packages"]["numpy"]
    assert re.fullmatch("[0-9a-f]{12}", found["fingerprint"])
    assert found["cores"] >= 1
    pinned = provenance.environment(threads=7)
    assert pinned["threads"] == {"torch": 7, "faiss": 7, "blas": 7}
    assert pinned["fingerprint"] == found["fingerprint"]
    monkeypatch.setattr(provenance, "_cpu", lambda: "Another CPU")
    assert provenance.environment()["fingerprint"] != found["fingerprint"]


def test_a_gpu_counts_where_the_run_used_it(monkeypatch):
    monkeypatch.setattr(provenance, "_gpu", lambda: "A GPU")
    assert provenance.environment(device="cpu")["gpu"] is None
    assert provenance.environment(device="cuda")["gpu"] == "A GPU"
    assert provenance.environment(device="cuda")["fingerprint"] != provenance.environment()["fingerprint"]


def test_peak_memory_is_in_bytes():
    peak = provenance.peak_memory()
    assert peak is None or 5e6 < peak < 1e12


def git(folder, *arguments):
    done = subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], capture_output=True
    )
    assert done.returncode == 0, done.stderr


def test_git_state_knows_commit_and_changes_but_not_results(tmp_path):
    assert provenance.git_state(tmp_path) == {"commit": None, "dirty": None}
    git(tmp_path, "init", "-q")
    assert provenance.git_state(tmp_path) == {"commit": None, "dirty": None}
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    state = provenance.git_state(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", state["commit"]) and state["dirty"] is False
    for folder in ("results", "site"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "new.json").write_text("{}")
    assert provenance.git_state(tmp_path)["dirty"] is False
    (tmp_path / "b.py").write_text("new method")
    assert provenance.git_state(tmp_path)["dirty"] is True
    (tmp_path / "b.py").unlink()
    (tmp_path / "a.py").write_text("2")
    assert provenance.git_state(tmp_path)["dirty"] is True


def test_a_folder_inside_another_checkout_has_no_commit(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    (tmp_path / "inside").mkdir()
    assert provenance.git_state(tmp_path / "inside") == {"commit": None, "dirty": None}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can restart the count")
def test_peak_memory_counts_from_its_restart():
    provenance.restart_peak_memory()  # earlier tests may have held more than this one will
    before = provenance.peak_memory()
    block = np.ones(50_000_000)  # 400 MB
    assert provenance.peak_memory() > before + 0.3e9
    del block
    provenance.restart_peak_memory()
    assert provenance.peak_memory() < before + 0.1e9
