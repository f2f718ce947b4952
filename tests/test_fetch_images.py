"""Pictures that are fetched once ever: what is stored, what the manifest says, what is asked again and what is not."""

import hashlib
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from standin import PAGE, StandIn

from ftbench.errors import DataError
from ftbench.images import load_photograph
from ftbench.items import silent
from ftbench.sources import fetch_images as module
from ftbench.sources.connections import Patience
from ftbench.sources.fetch import Fetched, fetch_images
from ftbench.sources.fetch_files import held
from ftbench.sources.fetch_images import MANIFEST, stored_path

SOON = Patience(attempts=3, first=0.01, longest=0.05, timeout=5.0)
ROOT = Path(__file__).resolve().parent.parent
CHILD = """
import sys
from pathlib import Path
from ftbench.sources.fetch import fetch_images
fetch_images([f"{sys.argv[1]}/p/{n}.jpg" for n in range(int(sys.argv[3]))], Path(sys.argv[2]), lambda *_: None, 4)
"""


def picture(size=(60, 40), form="JPEG", mode="RGB", color=(200, 30, 30), **options):
    out = io.BytesIO()
    Image.new(mode, size, color).save(out, form, **options)
    return out.getvalue()


SMALL, LARGE = picture(), picture((900, 600))


@pytest.fixture
def server():
    with StandIn(files={"/small.jpg": SMALL, "/large.jpg": LARGE}) as standin:
        yield standin


def fetch(server, folder, *names, progress=silent, **options):
    found = fetch_images([server.url + name for name in names], folder, progress, **{"patience": SOON} | options)
    assert list(found) == list(dict.fromkeys(server.url + name for name in names))
    return {url.removeprefix(server.url): result for url, result in found.items()}


def lines(folder):
    return [json.loads(line) for line in (folder / MANIFEST).read_bytes().splitlines()]


def asked(server):
    return [target for _, target, _ in server.requests]


def stored(folder):
    """Files beside the manifest."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)


def test_small_pictures_are_kept_as_they_are_and_others_are_scaled(server, tmp_path):
    server.files |= {
        "/clear.png": picture((40, 300), "PNG", "RGBA", (0, 0, 0, 0)),
        "/grey.jpg": picture((50, 50), mode="L", color=90),
        "/exact.jpg": picture((256, 256)),
        "/over.jpg": picture((257, 10)),
    }
    found = fetch(server, tmp_path, *server.files)
    assert {name: (f.status, f.width, f.height) for name, f in found.items()} == {
        "/small.jpg": ("ok", 60, 40), "/large.jpg": ("ok", 256, 171), "/clear.png": ("ok", 34, 256),
        "/grey.jpg": ("ok", 50, 50), "/exact.jpg": ("ok", 256, 256), "/over.jpg": ("ok", 256, 10),
    }  # fmt: skip
    for name, fetched in found.items():
        digest = hashlib.sha256(f"{server.url}{name}".encode()).hexdigest()
        assert fetched.path == tmp_path / digest[:2] / f"{digest}.jpg"
        assert fetched.sha256 == hashlib.sha256(server.files[name]).hexdigest(), "of what the server sent"
        kept = fetched.path.read_bytes() == server.files[name]
        assert kept == (name in ("/small.jpg", "/exact.jpg"))
        again = load_photograph(fetched.path)
        assert again.jpeg, "what is stored needs no further treatment"
        assert again.pixels.shape[:2] == (fetched.height, fetched.width)
    assert load_photograph(found["/clear.png"].path).pixels.min() > 250, "a transparent ground is white"


def test_a_line_an_address_says_what_became_of_it(server, tmp_path):
    told = []
    names = ("/small.jpg", "/gone.jpg", "/small.jpg")
    fetch(server, tmp_path, *names, progress=lambda *report: told.append(report), connections=1)
    digest = hashlib.sha256(SMALL).hexdigest()
    assert sorted(lines(tmp_path), key=lambda row: row["url"], reverse=True) == [
        {"url": f"{server.url}/small.jpg", "status": "ok", "sha256": digest, "width": 60, "height": 40,
         "bytes": len(SMALL)},
        {"url": f"{server.url}/gone.jpg", "status": "404", "sha256": "", "width": 0, "height": 0, "bytes": 0},
    ]  # fmt: skip
    assert sorted(asked(server)) == ["/gone.jpg", "/small.jpg"], "an address given twice is asked once"
    assert told[0] == (0, 2, "fetching images", *told[0][3:]) and told[-1][:3] == (2, 2, "fetching images")


def test_nothing_is_asked_twice(server, tmp_path):
    first = fetch(server, tmp_path, "/small.jpg", "/large.jpg", "/gone.jpg")
    before = (tmp_path / MANIFEST).read_bytes(), len(server.requests)
    module._index.cache_clear()  # as in another process
    assert fetch(server, tmp_path, "/small.jpg", "/large.jpg", "/gone.jpg") == first
    assert ((tmp_path / MANIFEST).read_bytes(), len(server.requests)) == before
    server.files["/new.jpg"] = SMALL
    assert fetch(server, tmp_path, "/gone.jpg", "/new.jpg")["/new.jpg"].status == "ok"
    assert asked(server)[3:] == ["/new.jpg"]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("400", "400"),
        ("403", "403"),
        ("404", "404"),
        ("410", "410"),
        ("html", "not an image"),
        ("pointer", "not an image"),
        ("wrong", "not an image"),
        ("truncated", "truncated or damaged"),
        ("redirect", "not an address"),
    ],
)
def test_what_will_not_pass_is_asked_once_ever(server, tmp_path, kind, status):
    server.misbehave("/large.jpg", kind, **({"to": "nowhere://x"} if kind == "redirect" else {}))
    for _ in range(2):
        found = fetch(server, tmp_path, "/large.jpg")
        assert found == {"/large.jpg": Fetched(f"{server.url}/large.jpg", status)}
        module._index.cache_clear()
    assert asked(server) == ["/large.jpg"] and len(lines(tmp_path)) == 1
    assert stored(tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "status"),
    [("500", "500"), ("503", "503"), ("429", "429"), ("408", "408"), ("drop", "unreachable"), ("cut", "cut")],
)
def test_what_may_pass_is_asked_again_at_once_and_by_the_next_command(server, tmp_path, kind, status):
    server.misbehave("/large.jpg", kind, times=2)
    assert fetch(server, tmp_path, "/large.jpg")["/large.jpg"].status == "ok"
    assert len(server.requests) == 3
    server.files["/other.jpg"] = SMALL
    server.misbehave("/other.jpg", kind)
    assert fetch(server, tmp_path, "/other.jpg")["/other.jpg"] == Fetched(f"{server.url}/other.jpg", status)
    assert len(server.requests) == 6
    server.behave()
    module._index.cache_clear()
    assert fetch(server, tmp_path, "/other.jpg")["/other.jpg"].path.read_bytes() == SMALL
    assert [row["status"] for row in lines(tmp_path)] == ["ok", status, "ok"], "the last line counts"


def test_the_wait_that_a_server_asks_for_is_kept_by_all_connections(server, tmp_path):
    server.files |= {f"/{n}.jpg": SMALL for n in range(8)}
    server.misbehave("*.jpg", "429", times=1, retry_after=1)
    start = time.monotonic()
    found = fetch(server, tmp_path, *(f"/{n}.jpg" for n in range(8)), connections=1)
    assert {fetched.status for fetched in found.values()} == {"ok"} and len(server.requests) == 9
    assert 1 <= time.monotonic() - start < 3
    server.misbehave("/large.jpg", "429", retry_after=3600)
    assert fetch(server, tmp_path, "/large.jpg")["/large.jpg"].status == "429"
    assert time.monotonic() - start < 4, "an hour is not waited"


def start(server, folder, count):
    command = [sys.executable, "-c", CHILD, server.url, str(folder), str(count)]
    return subprocess.Popen(command, cwd=ROOT)


def test_killed_at_any_moment_it_goes_on_where_it_was(server, tmp_path):
    names = [f"/p/{n}.jpg" for n in range(60)]
    server.files |= {name: picture((300, 200 + n)) for n, name in enumerate(names)}
    server.misbehave("/p/*", "slow", seconds=0.02, piece=500)
    known = set()
    for wanted in (1, 20, 40):
        seen = len(server.requests)
        with start(server, tmp_path, 60) as child:
            until = time.monotonic() + 20
            while time.monotonic() < until and len(server.requests) - seen < 4 + (wanted - len(known)):
                time.sleep(0.002)
            child.send_signal(signal.SIGKILL)
        assert not set(asked(server)[seen:]) & known, "what the manifest has is not asked again"
        whole = [line for line in (tmp_path / MANIFEST).read_bytes().splitlines(True) if line.endswith(b"\n")]
        known = {json.loads(line)["url"].removeprefix(server.url) for line in whole}
        assert len(set(asked(server)[seen:]) - known) <= 8, "lost are those on their way: four, and four just stored"
    server.behave()
    assert 20 <= len(known) < 60
    seen = len(server.requests)
    found = fetch(server, tmp_path, *names)
    assert set(asked(server)[seen:]) == set(names) - known
    for n, name in enumerate(names):
        pixels = load_photograph(found[name].path).pixels
        assert pixels.shape[:2] == (found[name].height, found[name].width) and max(pixels.shape) == 256
        assert found[name].sha256 == hashlib.sha256(picture((300, 200 + n))).hexdigest()
    assert len(stored(tmp_path)) == 60, "drafts have been taken up"


@pytest.mark.parametrize(
    "torn",
    [b'{"url": "http://x/', b"\0" * 50, b'{"url": 5}\n', b"[]\nnonsense\n\xff\xfe\n", b"\n\n", b'{"url": "a"}\n'],
)
def test_a_torn_manifest_is_read_as_far_as_it_is_one(server, tmp_path, torn):
    fetch(server, tmp_path, "/small.jpg")
    with open(tmp_path / MANIFEST, "ab") as file:
        file.write(torn)
    module._index.cache_clear()
    assert {f.status for f in fetch(server, tmp_path, "/small.jpg", "/large.jpg").values()} == {"ok"}
    module._index.cache_clear()
    fetch(server, tmp_path, "/small.jpg", "/large.jpg")
    assert asked(server) == ["/small.jpg", "/large.jpg"], "the line after the torn one is whole"


@pytest.mark.parametrize("harm", ["cut", "gone", "empty"])
def test_a_stored_picture_that_is_broken_is_fetched_anew(server, tmp_path, harm):
    path = fetch(server, tmp_path, "/large.jpg")["/large.jpg"].path
    whole = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:-1] if harm == "cut" else b"")
    assert fetch(server, tmp_path, "/large.jpg")["/large.jpg"].path.read_bytes() == whole
    assert asked(server) == ["/large.jpg"] * 2
    assert fetch(server, tmp_path, "/large.jpg") and len(server.requests) == 2


def test_a_server_that_is_down_is_given_up_and_the_others_are_asked(server, tmp_path):
    server.files |= {f"/{n}.jpg": SMALL for n in range(100)}
    server.misbehave("/down/*", "500")
    down = [f"{server.url}/down/{n}.jpg" for n in range(100)]
    well = [f"http://localhost:{server.port}/{n}.jpg" for n in range(100)]
    mixed = [url for pair in zip(down, well, strict=True) for url in pair]
    found = fetch_images(mixed, tmp_path, silent, 4, SOON)
    assert {found[url].status for url in well} == {"ok"}
    assert {found[url].status for url in down} == {"500", "unreachable"}
    assert len([target for target in asked(server) if "/down/" in target]) <= 3 * 24, "20, and those then on their way"
    server.behave()
    server.files |= {f"/down/{n}.jpg": SMALL for n in range(100)}
    assert {f.status for f in fetch_images(down, tmp_path, silent, 4, SOON).values()} == {"ok"}, "and asked next time"


def test_single_failures_do_not_make_a_server_down(server, tmp_path):
    server.files |= {f"/{n}.jpg": SMALL for n in range(90)}
    for n in range(0, 90, 2):
        server.misbehave(f"/{n}.jpg", "500")
    found = fetch(server, tmp_path, *(f"/{n}.jpg" for n in range(90)))
    assert [f.status for f in found.values()] == ["500", "ok"] * 45


def test_no_connection_at_all_is_an_error_and_few_pictures_without_are_none(server, tmp_path):
    server.misbehave("*", "drop")
    with pytest.raises(DataError, match="None of 30 pictures can be had at present; .*: unreachable.*type the same"):
        fetch(server, tmp_path, *(f"/{n}.jpg" for n in range(30)))
    assert fetch(server, tmp_path, "/small.jpg")["/small.jpg"].status == "unreachable"
    server.misbehave("/gone/*", "404")
    server.behave()
    assert fetch(server, tmp_path, *(f"/gone/{n}" for n in range(30))), "a server that knows none is an answer"


def test_pages_and_trifles_for_pictures(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 100_000)
    server.files |= {
        "/page.jpg": PAGE,
        "/pixel.gif": picture((1, 1), "GIF"),
        "/bomb.png": picture((20_000, 20_000), "PNG", "1", 1),
        "/noise.bmp": picture((300, 300), "BMP"),
        "/empty.jpg": b"",
        "/cut.jpg": LARGE[:-200],
    }
    names = list(server.files)[2:]
    found = fetch(server, tmp_path, *names)
    assert [found[name].status for name in names] == [
        "not an image", "a single pixel", "decompression bomb", "too large", "not an image", "truncated or damaged"
    ]  # fmt: skip
    assert stored(tmp_path) == []


def test_addresses_that_are_none_are_answered_without_asking(tmp_path):
    given = ["", "nonsense", "file:///etc/passwd", "http://\ud800/x", "http://a b/"]
    found = fetch_images(given, tmp_path, silent, patience=SOON)
    assert list(found) == given and {fetched.status for fetched in found.values()} == {"not an address"}
    assert fetch_images([], tmp_path, silent) == {}


def test_two_commands_do_not_fetch_into_one_folder(server, tmp_path):
    with held(tmp_path / MANIFEST), pytest.raises(DataError, match="written by another command"):
        fetch(server, tmp_path, "/small.jpg")
    assert fetch(server, tmp_path, "/small.jpg")["/small.jpg"].status == "ok"


def test_an_interrupt_stops_at_once_and_keeps_what_is_there(server, tmp_path):
    server.files |= {f"/p/{n}.jpg": SMALL for n in range(40)}
    server.misbehave("/p/*", "slow", seconds=0.1, piece=200)

    def interrupt(done, *_):
        if done >= 5:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch(server, tmp_path, *(f"/p/{n}.jpg" for n in range(40)), progress=interrupt, connections=4)
    assert time.monotonic() - began < 5
    known = {row["url"].removeprefix(server.url) for row in lines(tmp_path)}
    assert len(known) >= 5
    server.behave()
    seen = len(server.requests)
    fetch(server, tmp_path, *(f"/p/{n}.jpg" for n in range(40)))
    assert not set(asked(server)[seen:]) & known


def test_a_folder_that_cannot_be_written_is_said(server, tmp_path):
    (tmp_path / stored_path(tmp_path, f"{server.url}/small.jpg").parent.name).write_bytes(b"a file, not a folder")
    with pytest.raises(DataError, match="cannot be written"):
        fetch(server, tmp_path, "/small.jpg")


def test_a_manifest_of_many_lines_is_found_by_address(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SEGMENT", 7)
    monkeypatch.setattr(module, "_MOST_SEGMENTS", 3)
    rows = [{"url": f"http://x.invalid/{n % 400}", "status": str(400 + n // 400)} for n in range(1000)]
    (tmp_path / MANIFEST).write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = fetch_images([f"http://x.invalid/{n}" for n in range(400)], tmp_path, silent, patience=SOON)
    assert [fetched.status for fetched in found.values()] == ["402"] * 200 + ["401"] * 200
