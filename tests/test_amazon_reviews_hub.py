"""Amazon Reviews 2023 over HTTP: files from a stand-in hub in either form, photographs from a stand-in image server."""

import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import amazon_files as files
import pytest
from PIL import Image

from ftbench.sources.amazon_reviews import REPOSITORY, REVISION

MISSING = "72a"  # photographs whose id holds this are not to be had
PREPARE = """
import json, sys
from pathlib import Path
from ftbench.sources.amazon_reviews import AmazonReviews
source = AmazonReviews("All_Beauty", 10_000, Path(sys.argv[1]), "amazon-reviews@All_Beauty-10k")
items = {item.item_id: [str(v.content) for v in item.views if v.kind == "image"] for item in source.items(lambda *_: 0)}
print(json.dumps([items, source.rows, source.dropped, len(source.queries().queries)]))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """The requests that the hub's client makes for single files and for the tree, and photographs."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        base, tree = f"/datasets/{REPOSITORY}/resolve/{REVISION}/", f"/api/datasets/{REPOSITORY}/tree/{REVISION}/"
        if path.startswith(base):
            self.file(self.server.folder / path.removeprefix(base))
        elif path.startswith(tree):
            self.listing(path.removeprefix(tree))
        elif path.startswith("/images/I/") and MISSING not in path:
            self.answer(200, self.server.photograph(path))
        else:
            self.answer(404)

    do_HEAD = do_GET

    def file(self, path: Path):
        if path.is_file():
            data = path.read_bytes()
            tag = hashlib.sha256(data).hexdigest()
            self.answer(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": REVISION})
        else:
            self.answer(404, headers={"X-Error-Code": "EntryNotFound"})

    def listing(self, folder: str):
        if not (found := sorted((self.server.folder / folder).glob("*"))):
            return self.answer(404, headers={"X-Error-Code": "EntryNotFound"})
        entries = [{"type": "file", "oid": "0" * 40, "size": p.stat().st_size, "path": f"{folder}/{p.name}"}
                   for p in found]  # fmt: skip
        return self.answer(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

    def answer(self, status: int, data: bytes = b"", headers: dict | None = None):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args):
        """Nothing."""


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), Hub)
        self.folder = folder

    def photograph(self, path: str) -> bytes:
        data = io.BytesIO()
        Image.new("RGB", (256, 200), tuple(hashlib.sha256(path.encode()).digest()[:3])).save(data, "JPEG")
        return data.getvalue()


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_files_from_the_hub_and_photographs_from_their_addresses(tmp_path, form):
    pytest.importorskip("ftbench.sources.fetch")
    server = Server(tmp_path / "served")
    address = f"http://127.0.0.1:{server.server_port}"
    files.write(server.folder, form, host=f"{address}/images/I/")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", PREPARE, str(tmp_path / "downloads")]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stderr[-2000:]
    items, rows, dropped, queries = json.loads(done.stdout.splitlines()[-1])
    assert len(items) == rows["items"]["kept"] == (60 if form == "jsonl" else 56)
    assert {i: len(items[i]) for i in ("B0ORDER000", "B0FORMS000", "B0MANY0000", "B0BARE0000", files.A)} == {
        "B0ORDER000": 4, "B0FORMS000": 3, "B0MANY0000": 8, "B0BARE0000": 0, files.A: 1
    }  # fmt: skip
    assert dropped["image not to be had (404)"] == 1 and queries == (8 if form == "jsonl" else 7)
    for paths in items.values():
        assert all(Path(path).is_relative_to(tmp_path / "downloads" / "images") for path in paths)
