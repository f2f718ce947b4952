"""HTTP connections as downloads need them: kept open, patient, polite. Must not know files, pictures or data sets.

The standard library's client, so that nothing depends on which one the hub's library brings along. Proxies are those of
the environment (`https_proxy`, `no_proxy`), certificates the system's (or `SSL_CERT_FILE`'s).
"""

import base64
import email.utils
import random
import re
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from ftbench import __version__

_PIECE = 1 << 16  # bytes read at once
_MOST_REDIRECTS = 10
_DRAINED = 1 << 16  # bytes of an answer nobody wants that are read, so that its connection can be kept
_PAUSED = (429, 503)  # a server that says this is left alone by every connection
_TEMPORARY = (408, 425, 429)  # and every 5xx; other 4xx are permanent (DATASETS.md: 400, 403, 404)
_SAFE = "%/:=&?~#+!$,;'@()*[]"  # characters of an address that stay as they are; `+` above all (DATASETS.md)


class Refused(Exception):
    """A failure that asking again does not mend. `status`: the server's three digits, or words."""

    def __init__(self, status: str):
        super().__init__(status)
        self.status = status


class Trouble(Exception):
    """A failure that may pass. `status` is short; `reason` says more; `wait`: the seconds that the server asks for."""

    def __init__(self, status: str, reason: str = "", wait: float | None = None):
        super().__init__(reason or status)
        self.status, self.reason, self.wait = status, reason or status, wait


class Stopped(Exception):
    """Whoever asked no longer wants to know."""


@dataclass(frozen=True)
class Patience:
    """How long to go on; times in seconds, all ours."""

    attempts: int = 6  # in a row that bring nothing
    first: float = 1.0  # before the second attempt; twice as long before each further one
    longest: float = 60.0  # between two attempts
    longest_asked: float = 600.0  # a server that asks to be left alone for longer is given up
    timeout: float = 30.0  # for a connection, and for the next bytes


def is_temporary(status: int) -> bool:
    """Whether the same request may be answered later."""
    return status in _TEMPORARY or status >= 500


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for (a number or an HTTP date); None where it says nothing."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def split_address(url: str) -> SplitResult:
    """An address in the form that is sent. Raises Refused for what is no http or https address."""
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").encode("idna").decode("ascii")
        if parts.scheme not in ("http", "https") or not re.fullmatch("[!-~]+", host):
            raise Refused("not an address")
        place = f"[{host}]" if ":" in host else host
        place += f":{parts.port}" if parts.port else ""
        return SplitResult(parts.scheme, place, quote(parts.path, _SAFE) or "/", quote(parts.query, _SAFE), "")
    except ValueError:  # a port or an IPv6 address that is none, lone surrogates, labels that are too long
        raise Refused("not an address") from None


class Answer:
    """A server's answer: `status`, `headers`, `url` after redirects; `length` in bytes, None where it is not told."""

    def __init__(self, client: "Client", connection: HTTPConnection, response: HTTPResponse, url: str):
        self.status, self.headers, self.url = response.status, response.headers, url
        self.length = None if response.chunked else response.length
        self._client, self._connection, self._response = client, connection, response
        self._left, self._whole = self.length, self.length == 0

    def pieces(self) -> Iterator[bytes]:
        """The body, a piece at a time, as sent. Raises Trouble where it ends too early, Stopped when the client is."""
        while not self._whole:
            if self._client.stop.is_set():
                raise Stopped
            try:
                piece = self._response.read1(_PIECE if self._left is None else min(_PIECE, self._left))
            except TimeoutError:
                raise Trouble("slow", f"no byte in {self._client.patience.timeout:g} s") from None
            except (OSError, HTTPException, ValueError) as problem:
                raise Trouble("cut", f"the connection broke off ({problem!r})") from None
            if piece and self._left is not None:
                self._left -= len(piece)
            self._whole = self._left == 0 if self._left is not None else not piece
            if piece:
                yield piece
            elif self._left:
                raise Trouble("cut", f"the connection broke off {self._left:,} bytes before the end")

    def close(self) -> None:
        """Make its connection free for the next request; a connection with much left to read is given up."""
        if not self._whole and self.status not in (200, 206) and (self._left or 0) <= _DRAINED:
            try:
                for _ in self.pieces():
                    pass
            except (Trouble, Stopped):
                pass
        keep = self._whole and not self._response.will_close
        self._response.close()
        if not keep:
            self._client.forget(self._connection)


class Client:
    """Connections of several threads, each with its own per server; `stop` ends them all. A context manager."""

    def __init__(self, patience: Patience):
        self.patience = patience
        self.stop = threading.Event()
        self._own = threading.local()
        self._open: set[HTTPConnection] = set()
        self._lock = threading.Lock()
        self._left_alone: dict[str, float] = {}  # server -> time.monotonic() until which nobody asks it
        self._proxies = urllib.request.getproxies()
        self._tls: ssl.SSLContext | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.halt()
        with self._lock:
            for connection in self._open:
                connection.close()

    def halt(self) -> None:
        """End what every thread is waiting for, at once."""
        self.stop.set()
        with self._lock:
            for connection in self._open:
                try:
                    if connection.sock is not None:
                        connection.sock.shutdown(socket.SHUT_RDWR)
                except OSError:  # closed already
                    pass

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[Answer]:
        """The answer 200, 206 or 416 to a GET, redirects followed. Raises Refused, Trouble or Stopped."""
        for _ in range(_MOST_REDIRECTS):
            answer = self._ask(split_address(url), headers or {})
            if answer.status not in (301, 302, 303, 307, 308):
                break
            answer.close()
            if not (target := answer.headers.get("Location")):
                raise Refused(f"{answer.status} without an address")
            try:
                url = urljoin(url, target)
            except ValueError:
                raise Refused("not an address") from None
        else:
            raise Refused("too many redirects")
        try:
            if answer.status not in (200, 206, 416):
                self._complain(answer)
            yield answer
        finally:
            answer.close()

    def pause(self, failures: int, trouble: Trouble) -> None:
        """Wait before the next attempt. failures: how many were in vain. Raises Trouble where too much is asked."""
        backoff = min(self.patience.longest, self.patience.first * 2 ** max(0, failures - 1))
        if (trouble.wait or 0) > self.patience.longest_asked:
            raise Trouble(trouble.status, f"the server asks to be left alone for {trouble.wait:,.0f} s", trouble.wait)
        # Spread out, so that connections that failed together do not come back together
        self._sleep(max(trouble.wait or 0, backoff * random.uniform(0.5, 1)))

    def forget(self, connection: HTTPConnection) -> None:
        """Close a connection of this thread."""
        connection.close()
        kept = self._kept()
        for place in [place for place, other in kept.items() if other is connection]:
            del kept[place]
        with self._lock:
            self._open.discard(connection)

    def _complain(self, answer: Answer) -> None:
        status = str(answer.status)
        if not is_temporary(answer.status):
            raise Refused(status)
        wait = retry_after(answer.headers.get("Retry-After"))
        if answer.status in _PAUSED and (wait or 0) <= self.patience.longest_asked:
            host, until = urlsplit(answer.url).netloc, time.monotonic() + (wait or self.patience.first)
            with self._lock:
                self._left_alone[host] = max(until, self._left_alone.get(host, 0))
        raise Trouble(status, f"the server answered {status}", wait)

    def _sleep(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Stopped

    def _kept(self) -> dict[tuple[str, str], HTTPConnection]:
        """This thread's connections: (scheme, server) -> connection."""
        if not hasattr(self._own, "kept"):
            self._own.kept = {}
        return self._own.kept

    def _ask(self, address: SplitResult, headers: Mapping[str, str]) -> Answer:
        while (ahead := self._left_alone.get(address.netloc, 0) - time.monotonic()) > 0:
            self._sleep(ahead)
        if self.stop.is_set():
            raise Stopped
        place = (address.scheme, address.netloc)
        sent = {
            "User-Agent": f"ftbench/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity", **headers
        }  # fmt: skip
        while True:
            kept = self._kept().get(place)
            try:
                connection, target = kept or self._connect(address), self._target(address)
                connection.request("GET", target, headers=sent | self._proxy_headers(address))
                return Answer(self, connection, connection.getresponse(), address.geturl())
            except (OSError, HTTPException, ValueError) as problem:
                if (connection := self._kept().get(place)) is not None:
                    self.forget(connection)
                if kept is not None and not isinstance(problem, TimeoutError):
                    continue  # the server may have closed it between two requests, as it may: once more, on a new one
                if isinstance(problem, InvalidURL):
                    raise Refused("not an address") from None
                raise Trouble("unreachable", f"cannot be reached ({_in_words(problem)})") from None

    def _connect(self, address: SplitResult) -> HTTPConnection:
        """A new connection of this thread, kept."""
        proxy, timeout = self._proxy(address), self.patience.timeout
        place = proxy or address
        if address.scheme == "https":
            with self._lock:
                self._tls = self._tls or ssl.create_default_context()
            connection = HTTPSConnection(place.hostname, place.port, timeout=timeout, context=self._tls)
            if proxy:
                connection.set_tunnel(address.hostname, address.port or 443, headers=_credentials(proxy))
        else:
            connection = HTTPConnection(place.hostname, place.port or (3128 if proxy else 80), timeout=timeout)
        self._kept()[address.scheme, address.netloc] = connection
        with self._lock:
            self._open.add(connection)
        return connection

    def _proxy(self, address: SplitResult) -> SplitResult | None:
        proxy = self._proxies.get(address.scheme) or self._proxies.get("all")
        here = address.hostname in ("localhost", "127.0.0.1", "::1")
        if not proxy or here or urllib.request.proxy_bypass(address.netloc):
            return None
        return urlsplit(proxy if "://" in proxy else f"http://{proxy}")

    def _target(self, address: SplitResult) -> str:
        """What stands in the request line: a proxy is told the whole address, unless it only tunnels."""
        if address.scheme == "http" and self._proxy(address):
            return address.geturl()
        return address.path + (f"?{address.query}" if address.query else "")

    def _proxy_headers(self, address: SplitResult) -> dict[str, str]:
        proxy = self._proxy(address) if address.scheme == "http" else None
        return _credentials(proxy) if proxy else {}


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _in_words(problem: Exception) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {problem.verify_message}; SSL_CERT_FILE names a file of others"
    return getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
