"""A stand-in for the Hugging Face hub and for servers of files and pictures, which misbehaves on demand.

It speaks the requests that the hub's own libraries make (checked with huggingface_hub 2.4.0 and datasets 5.2.0), over
files in memory:

    with StandIn(files={"/a.jpg": data}, repos={"org/name": {"raw/a.jsonl": data}}) as hub:
        hub.misbehave("/a.jpg", "cut", times=1)
"""

import fnmatch
import hashlib
import json
import mimetypes
import socket
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Please log in</title></head><body>Please log in.</body></html>\n"
MODIFIED = formatdate(1_700_000_000, usegmt=True)


@dataclass
class _Trick:
    """How a path misbehaves; `times` is how often yet, None for ever."""

    path: str
    kind: str
    times: int | None
    options: dict = field(default_factory=dict)


class StandIn:
    """files: path -> bytes; repos: "org/name" -> {path: bytes}. Both may be changed while it runs.

    large: from so many bytes on, a repository's file is answered with a redirect to another host name, as the hub does
    with Git LFS files. page: entries of a tree listing in one answer. `requests` lists (method, target, headers).
    """

    def __init__(self, files=None, repos=None, large=1 << 16, page=1000):
        self.files, self.repos = dict(files or {}), {name: dict(found) for name, found in (repos or {}).items()}
        self.large, self.page = large, page
        self.requests: list[tuple[str, str, dict]] = []
        self.connections = self.at_once = self.most_at_once = 0
        self.lock, self.closing = threading.Lock(), threading.Event()
        self._tricks: list[_Trick] = []

    def __enter__(self):
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.standin = self
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self):
        return self._server.server_port

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def misbehave(self, path, kind, times=None, **options):
        """From now on, GET of a path (or a pattern: /images/*) goes wrong, `times` times. method: "HEAD" for that.

        kind: a status code ("429", "500"; retry_after=) or one of
        drop (the connection closes without an answer), cut (it closes after `after` bytes, half of them by default),
        truncated (half the file, as if it were the whole), wrong (other bytes), html, pointer (Git LFS),
        slow (`seconds` between pieces of `piece` bytes), ignore-range, redirect (`to`), no-length (`cut` with it).
        A path of a repository means its bytes: the redirect before a large file stays well.
        """
        self._tricks.append(_Trick(path, str(kind), times, options))

    def behave(self):
        """All is well again."""
        self._tricks.clear()

    def trick(self, path, method="GET"):
        """How this request goes wrong, or None."""
        with self.lock:
            for trick in self._tricks:
                of_method = trick.options.get("method", "GET") == method
                if of_method and trick.times != 0 and (trick.path == path or fnmatch.fnmatchcase(path, trick.path)):
                    if trick.times is not None:
                        trick.times -= 1
                    return trick
        return None

    def asked(self, path, method="GET"):
        """The headers of each request of a path."""
        return [headers for how, target, headers in self.requests if how == method and _path(target) == path]

    def commit(self, repo):
        """The commit that `main` is."""
        text = json.dumps(sorted((path, _sha1(data)) for path, data in self.repos[repo].items()))
        return hashlib.sha1(f"{repo} {text}".encode()).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Clients that break off are expected here."""


def _path(target):
    return unquote(urlsplit(target).path)


def _sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        """Quiet."""

    def setup(self):
        super().setup()
        with self.hub.lock:
            self.hub.connections += 1

    @property
    def hub(self):
        return self.server.standin

    def do_GET(self):
        hub = self.hub
        with hub.lock:
            hub.requests.append((self.command, self.path, dict(self.headers)))
            hub.at_once += 1
            hub.most_at_once = max(hub.most_at_once, hub.at_once)
        try:
            self._route()
        except OSError:  # the client went away
            self.close_connection = True
        finally:
            with hub.lock:
                hub.at_once -= 1

    do_HEAD = do_POST = do_GET

    def _route(self):
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        api = path.startswith("/api/")
        if (self.command == "HEAD" or api) and (trick := self.hub.trick(path, self.command)):
            return self._go_wrong(trick, b"", {})
        if path.startswith("/cdn/"):
            return self._send_file(query["of"][0], self._of(query["of"][0]))
        pieces = path.strip("/").split("/")
        if pieces[0] == "datasets" and len(pieces) > 5 and pieces[3] == "resolve":
            return self._resolve(path, "/".join(pieces[1:3]), pieces[4], "/".join(pieces[5:]))
        if pieces[:2] == ["api", "datasets"] and len(pieces) >= 4:
            return self._api("/".join(pieces[2:4]), pieces[4:], query)
        if path in self.hub.files:
            return self._send_file(path, self.hub.files[path])
        if trick := self.hub.trick(path):
            return self._go_wrong(trick, b"", {})
        self._send(404, b"not found", {"Content-Type": "text/plain"})

    def _of(self, path):
        pieces = path.strip("/").split("/")
        return self.hub.repos["/".join(pieces[1:3])]["/".join(pieces[5:])]

    def _commit(self, repo, revision):
        """The commit of a repository's revision; None, with an answer sent, where there is none."""
        if repo not in self.hub.repos:
            self._missing("RepoNotFound", "Repository not found")
        elif revision == "main":
            return self.hub.commit(repo)
        elif len(revision) == 40 and not set(revision) - set("0123456789abcdef"):
            return revision  # whatever commit a loader is pinned to
        else:
            self._missing("RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    def _missing(self, code, text, commit=None):
        headers = {"X-Error-Code": code, "X-Error-Message": text, "Content-Type": "application/json"}
        self._send(404, json.dumps({"error": text}).encode(), headers | ({"X-Repo-Commit": commit} if commit else {}))

    def _resolve(self, path, repo, revision, name):
        if (commit := self._commit(repo, revision)) is None:
            return
        data = self.hub.repos[repo].get(name)
        if data is None:
            return self._missing("EntryNotFound", "Entry not found", commit)
        if len(data) < self.hub.large:
            return self._send_file(path, data, {"ETag": f'"{_sha1(data)}"', "X-Repo-Commit": commit})
        digest = hashlib.sha256(data).hexdigest()
        signature = len(self.hub.requests)  # signed addresses differ each time
        place = f"http://localhost:{self.hub.port}/cdn/{digest}?of={quote(path, safe='')}&signature={signature}"
        self._send(302, b"", {
            "Location": place, "X-Repo-Commit": commit, "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data)),
            "ETag": f'"{_sha1(data)}"',
        })  # fmt: skip

    def _api(self, repo, rest, query):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        verb, revision = (rest + ["", ""])[:2] if rest else ("revision", "main")
        if (commit := self._commit(repo, revision or "main")) is None:
            return
        files = self.hub.repos[repo]
        if verb == "revision":
            siblings = [{"rfilename": name} for name in sorted(files)]
            found = {"_id": "0" * 24, "id": repo, "sha": commit, "private": False, "gated": False, "disabled": False,
                     "tags": [], "downloads": 0, "likes": 0, "siblings": siblings}  # fmt: skip
        elif verb == "tree":
            found = self._tree(files, "/".join(rest[2:]), query.get("recursive", ["false"])[0].lower() == "true")
            if found is None:
                return self._missing("EntryNotFound", "Entry not found", commit)
            return self._send_page(found, query, commit)
        elif verb == "paths-info":
            text = body.decode()
            asked = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
            found = [entry for name in asked for entry in self._entries(files, name)]
        else:
            return self._send(404, b"not found", {})
        self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json", "X-Repo-Commit": commit})

    def _tree(self, files, folder, recursive):
        """Entries below a folder, folders included; None where it does not exist."""
        inside = {name for name in files if not folder or name.startswith(f"{folder}/")}
        if folder and not inside:
            return None
        skipped = len(folder) + 1 if folder else 0
        names = set()
        for name in inside:
            parts = name[skipped:].split("/")
            ends = range(1, len(parts) + 1) if recursive else (1,)
            names |= {name[:skipped] + "/".join(parts[:end]) for end in ends}
        return [entry for name in sorted(names) for entry in self._entries(files, name)]

    def _entries(self, files, name):
        """The entry of a file or folder, none where it does not exist."""
        if (data := files.get(name)) is not None:
            entry = {"type": "file", "oid": _sha1(data), "size": len(data), "path": name}
            if len(data) >= self.hub.large:
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            return [entry]
        if any(other.startswith(f"{name}/") for other in files):
            return [{"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}]
        return []

    def _send_page(self, found, query, commit):
        start = int(query.get("cursor", ["0"])[0])
        headers = {"Content-Type": "application/json", "X-Repo-Commit": commit}
        if start + self.hub.page < len(found):
            recursive = query.get("recursive", ["false"])[0]
            place = f"{self.hub.url}{urlsplit(self.path).path}?recursive={recursive}&cursor={start + self.hub.page}"
            headers["Link"] = f'<{place}>; rel="next"'
        self._send(200, json.dumps(found[start : start + self.hub.page]).encode(), headers)

    def _send_file(self, path, data, headers=None):
        trick = self.hub.trick(path) if self.command == "GET" else None
        headers = {
            "ETag": f'"{hashlib.md5(data).hexdigest()}"', "Last-Modified": MODIFIED, "Accept-Ranges": "bytes",
            "Content-Type": mimetypes.guess_type(path)[0] or "application/octet-stream",
        } | (headers or {})  # fmt: skip
        if trick and trick.kind == "wrong":
            data = bytes(byte ^ 1 for byte in data)
        elif trick and trick.kind == "truncated":
            data = data[: len(data) // 2]
        elif trick and trick.kind not in ("cut", "slow", "ignore-range", "no-length"):
            return self._go_wrong(trick, data, headers)
        wanted = None if trick and trick.kind == "ignore-range" else self._range(headers, len(data))
        if wanted is None:
            return self._send(200, data, headers, trick)
        start, end = wanted
        if start >= len(data) or start >= end:
            return self._send(416, b"", headers | {"Content-Range": f"bytes */{len(data)}"})
        headers = headers | {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
        self._send(206, data[start:end], headers, trick)

    def _range(self, headers, size):
        """(start, end) of the bytes asked for, or None for all."""
        unit, _, extent = (self.headers.get("Range") or "").partition("=")
        condition = self.headers.get("If-Range")
        if unit != "bytes" or (condition and condition not in (headers["ETag"], headers["Last-Modified"])):
            return None
        first, _, last = extent.partition("-")
        if not first:
            return max(0, size - int(last)), size
        return int(first), min(size, int(last) + 1) if last else size

    def _go_wrong(self, trick, data, headers):
        if trick.kind == "drop":
            return self._break()
        if trick.kind == "html":
            return self._send(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        if trick.kind == "pointer":
            text = POINTER.format(hashlib.sha256(data).hexdigest(), len(data))
            return self._send(200, text.encode(), {"Content-Type": "text/plain"})
        if trick.kind == "redirect":
            return self._send(302, b"", {"Location": trick.options["to"]})
        wait = trick.options.get("retry_after")
        self._send(int(trick.kind), b"<html>error</html>", {"Retry-After": str(wait)} if wait is not None else {})

    def _send(self, status, data, headers, trick=None):
        kind, options = (trick.kind, trick.options) if trick else (None, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if kind == "no-length":
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind == "cut" or options.get("cut"):
            self.wfile.write(data[: options.get("after", len(data) // 2)])
            return self._break()
        if kind == "slow":
            size = options.get("piece", 1 << 14)
            for start in range(0, len(data), size):
                if self.hub.closing.wait(options.get("seconds", 0.05)):
                    return self._break()
                self.wfile.write(data[start : start + size])
            return None
        self.wfile.write(data)
        return None

    def _break(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
