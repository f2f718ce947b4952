"""Files that arrive whole or not at all, whatever the server does and whenever the process dies."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from standin import StandIn

from ftbench.errors import DataError
from ftbench.items import silent
from ftbench.sources.connections import Client, Refused, Trouble, retry_after, split_address
from ftbench.sources.fetch import Patience, Remote, download
from ftbench.sources.fetch_files import held, wrong_kind

SOON = Patience(attempts=3, first=0.01, longest=0.05, timeout=5.0)
DATA = bytes(range(256)) * 4000  # 1 MB
DIGEST = hashlib.sha256(DATA).hexdigest()
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def hub():
    with StandIn(files={"/data.bin": DATA, "/small.csv": b"a,b\n1,2\n"}) as standin:
        yield standin


def fetch(hub, folder, path="/data.bin", progress=silent, **facts):
    [found] = download([Remote(hub.url + path, path[1:], **facts)], folder, progress, patience=SOON)
    return found


def ranges(hub, path="/data.bin"):
    return [headers.get("Range") for headers in hub.asked(path)]


def rest(folder):
    """What lies in a folder beside files and their notes."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_files_arrive_once_and_progress_is_told(hub, tmp_path):
    told = []
    remotes = [Remote(f"{hub.url}/data.bin", "raw/data.bin", len(DATA), DIGEST[:8]),
               Remote(f"{hub.url}/small.csv", "small.csv")]  # fmt: skip
    for _ in range(2):
        found = download(remotes, tmp_path, lambda *report: told.append(report))
        assert [path.read_bytes() for path in found] == [DATA, b"a,b\n1,2\n"]
        assert found == [tmp_path / "raw" / "data.bin", tmp_path / "small.csv"]
        assert told[-1] == (len(DATA) + 8, len(DATA) + 8, "downloading", "B")
    asked = sorted(target for _, target, _ in hub.requests)  # several connections: in any order
    assert asked == ["/data.bin", "/small.csv"], "the second time none is asked for"
    note = json.loads((tmp_path / "raw" / ".data.bin.json").read_text())
    assert (note["sha256"], note["bytes"], note["url"]) == (DIGEST, len(DATA), f"{hub.url}/data.bin")
    assert rest(tmp_path) == ["raw", "small.csv"]


def test_a_connection_that_breaks_is_resumed_where_it_broke(hub, tmp_path):
    hub.misbehave("/data.bin", "cut", times=5)  # more often than `attempts`, but each brings something
    assert fetch(hub, tmp_path).read_bytes() == DATA
    starts = [0, *(int(text[6:-1]) for text in ranges(hub)[1:])]
    assert starts == sorted(starts) and len(set(starts)) == 6
    etag = f'"{hashlib.md5(DATA).hexdigest()}"'
    assert {headers.get("If-Range") for headers in hub.asked("/data.bin")[1:]} == {etag}


CHILD = """
import sys
from pathlib import Path
from ftbench.sources.fetch import Remote, download
download([Remote(sys.argv[1], "data.bin")], Path(sys.argv[2]), lambda *_: None)
"""


def test_killed_at_any_moment_it_goes_on_where_it_was(hub, tmp_path):
    hub.misbehave("/data.bin", "slow", times=2, seconds=0.02)
    part, seen = tmp_path / "data.bin.part", 0
    for _ in range(2):
        command = [sys.executable, "-c", CHILD, f"{hub.url}/data.bin", str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT) as child:
            until = time.monotonic() + 20
            while (not part.exists() or part.stat().st_size <= seen + 100_000) and time.monotonic() < until:
                time.sleep(0.005)
            child.send_signal(signal.SIGKILL)
        assert seen < part.stat().st_size < len(DATA)
        seen = part.stat().st_size
        assert not (tmp_path / "data.bin").exists()
    assert fetch(hub, tmp_path).read_bytes() == DATA
    first, second, third = ranges(hub)
    assert first is None and int(second[6:-1]) >= 100_000 and third == f"bytes={seen}-"
    assert rest(tmp_path) == ["data.bin"]


def cut_short(hub, folder):
    """A part of the file, as left behind by a command that gave up."""
    hub.misbehave("/data.bin", "cut", times=1, after=300_000)
    hub.misbehave("/data.bin", "drop")
    with pytest.raises(DataError, match="300,000 bytes"):
        fetch(hub, folder)
    assert rest(folder) == ["data.bin.part"]
    hub.behave()
    hub.requests.clear()


def test_a_file_that_changed_meanwhile_is_fetched_whole(hub, tmp_path):
    cut_short(hub, tmp_path)
    hub.files["/data.bin"] = other = DATA[::-1]
    assert fetch(hub, tmp_path).read_bytes() == other
    assert ranges(hub) == ["bytes=300000-"]


@pytest.mark.parametrize("size", [1000, 300_000])
def test_a_file_that_shrank_meanwhile_is_fetched_whole(hub, tmp_path, size):
    cut_short(hub, tmp_path)
    hub.files["/data.bin"] = DATA[7 : 7 + size]
    assert fetch(hub, tmp_path).read_bytes() == DATA[7 : 7 + size]


def test_a_server_without_ranges_starts_again(hub, tmp_path):
    cut_short(hub, tmp_path)
    hub.misbehave("/data.bin", "ignore-range")
    assert fetch(hub, tmp_path).read_bytes() == DATA


def test_a_part_of_another_address_is_not_continued(hub, tmp_path):
    cut_short(hub, tmp_path)
    hub.files["/other.bin"] = DATA[::-1]
    [found] = download([Remote(f"{hub.url}/other.bin", "data.bin")], tmp_path, silent)
    assert found.read_bytes() == DATA[::-1]
    assert ranges(hub, "/other.bin") == [None]


def test_a_part_that_was_whole_already_is_not_fetched_again(hub, tmp_path):
    cut_short(hub, tmp_path)
    (tmp_path / "data.bin.part").write_bytes(DATA)
    assert fetch(hub, tmp_path).read_bytes() == DATA
    assert ranges(hub) == [f"bytes={len(DATA)}-"], "416 with the same size"
    (tmp_path / "data.bin").rename(tmp_path / "data.bin.part")
    assert fetch(hub, tmp_path).read_bytes() == DATA
    assert len(hub.requests) == 1, "the note knows its size"


def test_what_may_pass_is_tried_again_and_the_wait_asked_for_is_kept(hub, tmp_path):
    hub.misbehave("/small.csv", "429", times=1, retry_after=1)
    hub.misbehave("/small.csv", "503", times=1)
    start = time.monotonic()
    assert fetch(hub, tmp_path, "/small.csv").read_bytes() == b"a,b\n1,2\n"
    assert 1.0 <= time.monotonic() - start < 3
    assert len(hub.requests) == 3


def test_a_wait_beyond_patience_is_not_waited(hub, tmp_path):
    hub.misbehave("/small.csv", "429", retry_after=3600)
    with pytest.raises(DataError, match="asks to be left alone for 3,600 s"):
        fetch(hub, tmp_path, "/small.csv")
    assert len(hub.requests) == 1


@pytest.mark.parametrize(
    ("kind", "options", "asked", "words"),
    [
        ("404", {}, 1, r"answered 404 \(not there\)"),
        ("403", {}, 1, r"answered 403 \(not allowed\)"),
        ("500", {}, 3, "answered 500, 3 times in a row"),
        ("drop", {}, 3, "cannot be reached .*3 times in a row"),
        ("html", {}, 1, "a web page instead of the file: '<!DOCTYPE html> <html>"),
        ("pointer", {}, 1, "a Git LFS pointer instead of the file: 'version https://git-lfs"),
        ("redirect", {"to": "/data.bin"}, 10, "too many redirects"),
        ("redirect", {"to": "ftp://elsewhere/x"}, 1, "not an address"),
    ],
)
def test_what_does_not_pass_is_an_error_that_says_what_to_do(hub, tmp_path, kind, options, asked, words):
    hub.misbehave("/data.bin", kind, **options)
    with pytest.raises(DataError, match=words) as error:
        fetch(hub, tmp_path)
    assert f"{hub.url}/data.bin" in str(error.value) and f"into {tmp_path} as data.bin" in str(error.value)
    assert len(hub.requests) == asked
    assert rest(tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "facts", "words"),
    [
        ("wrong", {"sha256": DIGEST}, f"expected {DIGEST}"),
        ("wrong", {"sha256": DIGEST[:8].upper()}, f"expected {DIGEST[:8].upper()}"),
        ("truncated", {"bytes": len(DATA)}, "has 512,000 bytes where 1,024,000 were expected"),
        ("no-length", {"bytes": len(DATA) + 1}, "1,024,000 bytes arrived where 1,024,001 were expected"),
    ],
)
def test_bytes_other_than_expected_are_refused(hub, tmp_path, kind, facts, words):
    hub.misbehave("/data.bin", kind)
    with pytest.raises(DataError, match=words):
        fetch(hub, tmp_path, **facts)
    assert rest(tmp_path) == []


def test_bytes_damaged_once_are_fetched_again(hub, tmp_path):
    cut_short(hub, tmp_path)
    hub.misbehave("/data.bin", "wrong", times=1)
    assert fetch(hub, tmp_path, sha256=DIGEST).read_bytes() == DATA
    assert ranges(hub) == ["bytes=300000-", None]


def test_a_file_that_lies_there_is_checked_and_not_trusted(hub, tmp_path):
    path = tmp_path / "data.bin"
    for content, facts, expected, asked in (
        (b"laid here by hand", {}, b"laid here by hand", 0),
        (b"laid here by hand", {"bytes": len(DATA)}, DATA, 1),
        (DATA, {"sha256": DIGEST, "bytes": len(DATA)}, DATA, 0),
        (DATA[::-1], {"sha256": DIGEST, "bytes": len(DATA)}, DATA, 1),
        (b"version https://git-lfs.github.com/spec/v1\n", {}, DATA, 1),
    ):
        hub.requests.clear()
        (tmp_path / ".data.bin.json").unlink(missing_ok=True)
        path.write_bytes(content)
        assert fetch(hub, tmp_path, **facts).read_bytes() == expected
        assert len(hub.requests) == asked
    path.write_bytes(DATA[::-1])
    assert fetch(hub, tmp_path).read_bytes() == DATA, "changed since it was fetched"
    hub.files["/v2.bin"] = b"2"
    download([Remote(f"{hub.url}/v2.bin", "data.bin")], tmp_path, silent)
    assert path.read_bytes() == b"2", "another address"


def test_the_first_failure_ends_all_and_nothing_is_lost(hub, tmp_path):
    hub.misbehave("/data.bin", "slow", seconds=0.2)
    remotes = [Remote(f"{hub.url}/data.bin", "data.bin"), Remote(f"{hub.url}/gone", "gone")]
    start = time.monotonic()
    with pytest.raises(DataError, match="answered 404"):
        download(remotes, tmp_path, silent)
    assert time.monotonic() - start < 3, "the slow one would take 12 s"


def test_an_interrupt_stops_at_once_and_keeps_the_part(hub, tmp_path):
    hub.misbehave("/data.bin", "slow", seconds=0.1)

    def interrupt(done, total, *_):
        if done:
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, tmp_path, progress=interrupt)
    assert time.monotonic() - start < 3
    assert rest(tmp_path) == ["data.bin.part"]


def test_ten_connections_at_once(tmp_path):
    with StandIn(files={f"/{n}.bin": DATA[:9000] for n in range(30)}) as hub:
        hub.misbehave("*", "slow", seconds=0.15)
        remotes = [Remote(f"{hub.url}/{n}.bin", f"{n}.bin") for n in range(30)]
        assert len(download(remotes, tmp_path, silent, connections=10)) == 30
        assert hub.most_at_once == 10
        assert hub.connections == 10, "each is used three times"


def test_two_commands_do_not_write_one_file(hub, tmp_path):
    with held(tmp_path / "data.bin.part"), pytest.raises(DataError, match="written by another command"):
        fetch(hub, tmp_path)
    assert fetch(hub, tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("names", [["../x"], ["a", "a"], ["a", "./a"]])
def test_names_stay_in_the_folder_and_differ(tmp_path, names):
    with pytest.raises(DataError, match="must differ and stay in the folder"):
        download([Remote("http://127.0.0.1/x", name) for name in names], tmp_path, silent)


def test_an_empty_file_is_a_file(hub, tmp_path):
    hub.files["/empty"] = b""
    assert fetch(hub, tmp_path, "/empty").read_bytes() == b""
    assert rest(tmp_path) == ["empty"]


def test_redirects_are_followed(hub, tmp_path):
    hub.misbehave("/moved", "redirect", to="/data.bin")
    hub.misbehave("/data.bin", "cut", times=1)
    assert fetch(hub, tmp_path, "/moved").read_bytes() == DATA


def test_a_server_that_falls_silent_is_asked_again(hub):
    hub.misbehave("/data.bin", "slow", seconds=3, piece=1 << 20)
    with Client(Patience(timeout=0.2)) as client:
        with pytest.raises(Trouble, match="no byte in 0.2 s"), client.get(f"{hub.url}/data.bin") as answer:
            list(answer.pieces())


def test_a_kept_connection_that_the_server_closed_is_replaced(hub):
    with Client(SOON) as client:
        for kind in (None, "drop", None):
            if kind:
                hub.misbehave("/small.csv", kind, times=1)
            with client.get(f"{hub.url}/small.csv") as answer:
                assert b"".join(answer.pieces()) == b"a,b\n1,2\n"
        assert hub.connections == 2


def test_the_proxy_of_the_environment_is_asked(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", hub.url.replace("//", "//me:pass%40word@"))
    monkeypatch.delenv("no_proxy", raising=False)
    [found] = download([Remote("http://data.invalid/small.csv", "a.csv")], tmp_path, silent, patience=SOON)
    assert found.read_bytes() == b"a,b\n1,2\n"
    [(_, target, headers)] = hub.requests
    assert target == "http://data.invalid/small.csv"
    assert headers["Proxy-Authorization"] == "Basic bWU6cGFzc0B3b3Jk"
    fetch(hub, tmp_path, "/small.csv")
    assert hub.requests[-1][1] == "/small.csv", "this machine is asked without it"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://m.media-amazon.com/images/I/71+a,b._SL256_.jpg", "https://m.media-amazon.com/images/I/71+a,b._SL256_.jpg"),
        ("HTTP://Example.org", "http://example.org/"),
        (" http://bücher.example/Ä b?q=ü%20#part\n", "http://xn--bcher-kva.example/%C3%84%20b?q=%C3%BC%20"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
    ],
)  # fmt: skip
def test_addresses_are_sent_as_servers_expect_them(given, sent):
    assert split_address(given).geturl() == sent


@pytest.mark.parametrize(
    "given",
    ["", "nonsense", "file:///etc/passwd", "http://", "http://a:b/", "http://[::1/", f"http://{'a' * 70}.b/", "//a/b",
     "http://a/\ud800", "ftp://a/b", "http://\x00/", "http://.../"],
)  # fmt: skip
def test_what_is_no_address_is_refused(given):
    with pytest.raises(Refused, match="not an address"):
        split_address(given)


def test_how_long_a_server_asks_to_wait():
    assert [retry_after(text) for text in ("3", "0.5", "-3", None, "soon", "")] == [3, 0.5, 0, None, None, None]
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 28 < retry_after(when) <= 30
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_what_is_no_data_is_told_by_its_first_bytes():
    assert wrong_kind(b"\xef\xbb\xbf\r\n<HTML lang=en>", "a.csv") == "a web page"
    assert wrong_kind(b"<html>", "page.html") is None
    assert wrong_kind(b"<htm", "a.csv") is None
    assert os.path.basename(__file__) == "test_fetch.py"
