"""Files of the hub through its own library, from a stand-in: small and large, resumed, cached, refused in words."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from standin import StandIn

from ftbench.errors import DataError
from ftbench.items import silent
from ftbench.sources.connections import Patience
from ftbench.sources.fetch import hub_files, hub_tree

REPO, PINNED = "org/data", "0123456789" * 4
SOON = Patience(attempts=3, first=0.01, longest=0.05, timeout=5.0)
SMALL = b'{"title": "Lamp"}\n' * 10
LARGE = bytes(range(256)) * 8000  # 2 MB
FILES = {"raw/small.jsonl": SMALL, "raw/large.jsonl": LARGE, "raw/empty.txt": b""}
SMALL_AT, LARGE_AT = (f"/datasets/{REPO}/resolve/{PINNED}/raw/{name}.jsonl" for name in ("small", "large"))
ROOT = Path(__file__).resolve().parent.parent
CHILD = """
import sys
from ftbench.sources.fetch import hub_files
[path] = hub_files(sys.argv[1], [sys.argv[2]], sys.argv[3], lambda *_: None)
print(path)
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with StandIn(repos={REPO: FILES}) as standin:
        monkeypatch.setenv("HF_ENDPOINT", standin.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        monkeypatch.delenv("HF_HUB_CACHE", raising=False)
        yield standin


def fetch(*paths, revision=PINNED, repo=REPO, progress=silent):
    return hub_files(repo, [f"raw/{path}" for path in paths], revision, progress, SOON)


def counts(hub, since=0):
    """(HEAD, GET) requests of repositories' files; a redirect counts as well as where it leads."""
    asked = [how for how, target, _ in hub.requests[since:] if "/resolve/" in target or "/cdn/" in target]
    return asked.count("HEAD"), asked.count("GET")


def blobs(home):
    return sorted(path.name for path in (home / "hub" / "datasets--org--data" / "blobs").glob("*"))


def start(path, *more):
    """Another process that fetches a file."""
    return subprocess.Popen([sys.executable, "-c", CHILD, REPO, path, PINNED], cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=os.environ | dict(more))  # fmt: skip


def test_small_and_large_files_arrive_where_the_library_keeps_them(hub, tmp_path):
    told = []
    found = fetch("small.jsonl", "large.jsonl", "empty.txt", progress=lambda *report: told.append(report))
    assert [path.read_bytes() for path in found] == [SMALL, LARGE, b""]
    snapshot = tmp_path / "hub" / "datasets--org--data" / "snapshots" / PINNED
    assert found[:2] == [snapshot / "raw" / "small.jsonl", snapshot / "raw" / "large.jsonl"]
    assert told[-1] == (len(SMALL) + len(LARGE), len(SMALL) + len(LARGE), "downloading", "B")
    redirected = [(target, headers["Host"]) for how, target, headers in hub.requests if target.startswith("/cdn/")]
    assert redirected and {host for _, host in redirected} == {f"localhost:{hub.port}"}, "as Git LFS files are"
    assert hashlib.sha256(LARGE).hexdigest() in blobs(tmp_path) and len(blobs(tmp_path)) == 3, "nothing else is left"


def test_what_the_cache_has_is_not_fetched_again(hub):
    first = fetch("small.jsonl", "large.jsonl")
    seen = len(hub.requests)
    assert fetch("small.jsonl", "large.jsonl") == first
    assert hub.requests[seen:] == [], "a commit cannot change"
    moving = fetch("small.jsonl", "large.jsonl", revision=None)
    seen = len(hub.requests)
    assert fetch("small.jsonl", "large.jsonl", revision=None) == moving
    assert counts(hub, seen) == (2, 0), "a branch may change: asked, not fetched"
    hub.repos[REPO]["raw/small.jsonl"] = b"changed\n"
    assert [path.read_bytes() for path in fetch("small.jsonl", "large.jsonl", revision=None)] == [b"changed\n", LARGE]
    hub.repos[REPO]["raw/copy.jsonl"] = LARGE
    seen = len(hub.requests)
    assert fetch("copy.jsonl")[0].read_bytes() == LARGE
    assert counts(hub, seen)[1] == 0, "the same bytes under another name"


@pytest.mark.parametrize(
    ("kind", "options"),
    [("cut", {}), ("drop", {}), ("500", {}), ("503", {}), ("429", {}), ("wrong", {}), ("429", {"retry_after": 1})],
)
def test_what_passes_is_waited_out(hub, kind, options):
    hub.misbehave(LARGE_AT, kind, times=1, **options)
    since = time.monotonic()
    assert fetch("large.jsonl")[0].read_bytes() == LARGE
    assert (time.monotonic() - since >= 1) == bool(options)
    ranges = [headers.get("Range") for headers in hub.asked(f"/cdn/{hashlib.sha256(LARGE).hexdigest()}")]
    assert ranges == [None, f"bytes={len(LARGE) // 2}-" if kind == "cut" else None], "resumed where it broke off"


@pytest.mark.parametrize(
    ("kind", "method"), [(kind, how) for kind in ("drop", "500", "429") for how in ("HEAD", "GET")] + [("cut", "GET")]
)
def test_small_files_are_as_patient(hub, kind, method):
    hub.misbehave(SMALL_AT, kind, times=2, method=method)
    since = time.monotonic()
    assert fetch("small.jsonl")[0].read_bytes() == SMALL
    assert time.monotonic() - since < 2


@pytest.mark.parametrize("name", ["small.jsonl", "large.jsonl"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("500", "answered 500, 3 times in a row"),
        ("drop", "cannot be reached .*3 times in a row"),
        ("403", "answered 403"),
        ("wrong", "other bytes arrived than the hub announced|expected [0-9a-f]{64}"),
        ("truncated", "bytes arrived where .* were expected|not the file pinned"),
        ("pointer", "a Git LFS pointer instead of the file"),
        ("html", "a web page instead of the file"),
    ],
)
def test_what_does_not_pass_is_an_error_and_leaves_nothing(hub, tmp_path, name, kind, words):
    hub.misbehave(f"/datasets/{REPO}/resolve/{PINNED}/raw/{name}", kind)
    with pytest.raises(DataError, match=words) as error:
        fetch(name)
    assert name in str(error.value)
    assert not [path for path in blobs(tmp_path) if not path.startswith(".")]
    hub.behave()
    assert fetch(name)[0].read_bytes() == FILES[f"raw/{name}"], "the next command has it"


@pytest.mark.parametrize("data", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"<!doctype html><p>"])
def test_a_repository_or_a_cache_that_holds_no_data_is_refused(hub, data):
    hub.repos[REPO]["raw/small.jsonl"] = data
    for _ in range(2):
        with pytest.raises(DataError, match="the server sent a (Git LFS pointer|web page) instead of the file"):
            fetch("small.jsonl")
    hub.repos[REPO]["raw/small.jsonl"] = SMALL
    [path] = fetch("small.jsonl")
    path.write_bytes(data)  # as an older command, or another program, may have left it there
    with pytest.raises(DataError, match="the hub sent a .* instead of the file. See http"):
        fetch("small.jsonl")
    assert fetch("small.jsonl")[0].read_bytes() == SMALL


def test_a_hub_that_asks_for_too_long_a_wait_is_not_waited_for(hub):
    hub.misbehave(SMALL_AT, "429", retry_after=3600, method="HEAD")
    since = time.monotonic()
    with pytest.raises(DataError, match="hub cannot be used .*429"):
        fetch("small.jsonl")
    assert time.monotonic() - since < 2 and counts(hub) == (1, 0)


def test_killed_it_goes_on_where_it_was(hub, tmp_path):
    hub.misbehave(LARGE_AT, "slow", times=1, seconds=0.02)
    part = tmp_path / "hub" / "datasets--org--data" / "blobs" / f"{hashlib.sha256(LARGE).hexdigest()}.part"
    with start("raw/large.jsonl") as child:
        until = time.monotonic() + 20
        while (not part.exists() or part.stat().st_size < 200_000) and time.monotonic() < until:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
    arrived = part.stat().st_size
    assert 200_000 <= arrived < len(LARGE)
    assert fetch("large.jsonl")[0].read_bytes() == LARGE
    asked = hub.asked(f"/cdn/{hashlib.sha256(LARGE).hexdigest()}")
    assert [headers.get("Range") for headers in asked] == [None, f"bytes={arrived}-"]
    assert blobs(tmp_path) == [hashlib.sha256(LARGE).hexdigest()]


def test_without_a_connection_the_cache_is_enough_and_its_lack_is_said(hub, tmp_path):
    [cached] = fetch("large.jsonl")
    seen = len(hub.requests)
    with start("raw/large.jsonl", ("HF_HUB_OFFLINE", "1")) as child:
        assert child.communicate()[0].strip() == str(cached)
    with start("raw/small.jsonl", ("HF_HUB_OFFLINE", "1")) as child:
        words = child.communicate()[1].splitlines()[-1]
    assert "org/data, raw/small.jsonl: not in the cache, and HF_HUB_OFFLINE forbids asking" in words
    assert hub.requests[seen:] == []


def test_a_hub_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(DataError, match="org/data, raw/a: .*(refused|connect).*again"):
        fetch("a")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"repo": "org/none"}, r"org/none, raw/a: the hub has no such data set, .* See {url}/datasets/org/none$"),
        ({"revision": "v9"}, r"the hub has no such revision .* See {url}/datasets/org/data/commits/main$"),
        ({}, r"raw/a: the hub has no such file at that revision. See {url}/datasets/org/data/tree/main$"),
    ],
)
def test_what_does_not_exist_is_said_in_words(hub, asked, words):
    with pytest.raises(DataError, match=words.format(url=hub.url)):
        fetch("a", **asked)
    assert counts(hub)[0] <= 1, "asked once"


def test_all_pages_of_a_listing(hub):
    names = [f"shards/{number:02d}/full-{number:05d}-of-00025.parquet" for number in range(25)]
    hub.repos[REPO] |= dict.fromkeys(names, b"x")
    hub.page = 7
    assert hub_tree(REPO, "shards", PINNED) == names
    pages = [target for _, target, _ in hub.requests if "/tree/" in target]
    assert len(pages) == 8, "25 files and their 25 folders"
    assert hub_tree(REPO, "", PINNED) == sorted([*FILES, *names])
    assert hub_tree(REPO, "shards/03", PINNED) == [names[3]]


def test_a_listing_of_a_commit_is_asked_once_and_of_a_branch_every_time(hub):
    for _ in range(2):
        assert hub_tree(REPO, "raw", PINNED) == sorted(FILES)
        assert hub_tree(REPO, "nowhere", PINNED) == [], "an absent folder is an empty one"
    assert len(hub.requests) == 2
    assert hub_tree(REPO, "raw", None) == sorted(FILES)
    hub.repos[REPO]["raw/new"] = b"x"
    assert hub_tree(REPO, "raw", None) == sorted([*FILES, "raw/new"])
    assert hub_tree(REPO, "raw", "f" * 40) == sorted([*FILES, "raw/new"]), "another commit has a listing of its own"


def test_a_listing_that_fails(hub):
    hub.misbehave(f"/api/datasets/{REPO}/tree/*", "500", times=1)
    assert hub_tree(REPO, "raw", PINNED) == sorted(FILES)
    hub.misbehave(f"/api/datasets/{REPO}/tree/*", "403")
    with pytest.raises(DataError, match="org/data, other: the hub cannot be used .*403"):
        hub_tree(REPO, "other", PINNED)
    hub.behave()
    assert hub_tree(REPO, "other", PINNED) == [], "a failure is not kept"
    for repo, revision, words in (("org/none", None, "no such data set"), (REPO, "v9", "no such revision")):
        with pytest.raises(DataError, match=words):
            hub_tree(repo, "raw", revision)
