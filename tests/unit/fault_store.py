"""Stores over loopback that fail on request: S3 (moto) and plain HTTP, and a reader process.

``python fault_store.py SPEC`` reads shards in a process of its own; see ``spec_of``.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import numpy as np

from flava_plugin.data.shards.cache_section import CacheSection
from flava_plugin.data.shards.remote import RemoteStore

File = tuple[str, int, bytes]


def digest_of(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def shards(count: int, size: int = 3000) -> dict[str, bytes]:
    """Files of any bytes, all different."""
    dice = np.random.default_rng(count)
    return {f"{i // 10}/{i:05}.tar": dice.bytes(size + i) for i in range(count)}


def listed(files: dict[str, bytes]) -> list[File]:
    return [(name, len(data), digest_of(data)) for name, data in files.items()]


class Faults:
    """Which fault each request for bytes gets, by its number; counts what it did."""

    def __init__(self) -> None:
        self.plan({})
        self.first: list[str | None] = []  # goes before the plan
        self.counts: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.stalled = threading.Event()
        self._lock = threading.Lock()

    def plan(self, shares: dict[str, float], stall: float = 3.0, seed: int = 0) -> None:
        """Say which share of requests gets which fault, and how many seconds a stall lasts."""
        edges = np.cumsum(list(shares.values()))
        drawn = np.searchsorted(edges, np.random.default_rng(seed).random(100_000), "right")
        self._plan = [*shares, None], drawn
        self.stall = stall

    def next(self, path: str) -> tuple[int, str | None]:
        with self._lock:
            number = self.requests.total()
            self.requests[path] += 1
            kinds, drawn = self._plan
            kind = self.first.pop(0) if self.first else kinds[drawn[number]]
            if kind:
                self.counts[kind] += 1
            return number, kind


class FaultyApp:
    """A WSGI application under faults: 503, reset, stall, short, wrong."""

    def __init__(self, app: Any, faults: Faults) -> None:
        self.app = app
        self.faults = faults

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if "HTTP_EXPECT" in environ:
            environ["fault.socket"].sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        # moto takes an input for one that ends; a socket's does not
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(length))
        if environ["REQUEST_METHOD"] != "GET" or "HTTP_RANGE" not in environ:
            return self.app(environ, start)
        number, kind = self.faults.next(environ["PATH_INFO"])
        if kind == "503":
            start("503 Service Unavailable", [("Content-Length", "0")])
            return []
        if kind == "stall":
            self.faults.stalled.set()
            time.sleep(self.faults.stall)
            raise ConnectionResetError
        if kind in ("reset", "short", "wrong"):
            return self._changed(environ, start, number, kind)
        return self.app(environ, start)

    def _changed(
        self, environ: dict[str, Any], start: Callable[..., Any], number: int, kind: str
    ) -> Iterable[bytes]:
        seen: list[Any] = []
        data = bytearray(b"".join(self.app(environ, lambda *args: seen.append(args))))
        if kind == "short":
            del data[-1:]
        if kind == "wrong":
            data[number % len(data)] ^= 1 + number % 255
        status, headers = seen[0][0], seen[0][1]
        kept = [(k, v) for k, v in headers if k.lower() in ("content-type", "content-range")]
        start(status, [*kept, ("Content-Length", str(len(data)))])
        if kind == "reset":
            return _cut(bytes(data), environ["fault.socket"])
        return [bytes(data)]


def _cut(data: bytes, connection: socket.socket) -> Iterator[bytes]:
    """Half an answer. Where none has begun, aiohttp makes a lost connection anew by itself."""
    yield data[: len(data) // 2]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RDWR)  # closing then sends RST
    raise ConnectionResetError


class FileApp:
    """Plain HTTP: files by path, with ranges or without."""

    def __init__(self, files: dict[str, bytes], *, ranges: bool = True) -> None:
        self.files = files
        self.ranges = ranges
        self.status: str | None = None  # answers everything with it
        self.seen: list[str] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        name = environ["PATH_INFO"].lstrip("/").encode("latin-1").decode()
        self.seen.append(f"{name}?{environ['QUERY_STRING']}".rstrip("?"))
        if self.status or name not in self.files:
            start(self.status or "404 Not Found", [("Content-Length", "0")])
            return []
        data, status, headers = self.files[name], "200 OK", []
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", environ.get("HTTP_RANGE", ""))
        if span and self.ranges:
            first, last = int(span[1]), int(span[2])
            if first >= len(data):
                start("416 Range Not Satisfiable", [("Content-Length", "0")])
                return []
            headers = [("Content-Range", f"bytes {first}-{last}/{len(data)}")]
            data, status = data[first : last + 1], "206 Partial Content"
        start(status, [*headers, ("Content-Length", str(len(data)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [data]


class _Handler(WSGIRequestHandler):
    def get_environ(self) -> dict[str, Any]:
        return {**super().get_environ(), "fault.socket": self.connection}

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        pass  # a client that gave up


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application over loopback; yields its URL."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.set_app(app)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def s3_app() -> Any:
    """A S3 of its own: moto's, in this process."""
    from moto.server import create_backend_app

    return create_backend_app("s3")


def s3_environment(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "anyone",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def read_all(store: RemoteStore, files: Sequence[File], ahead: int = 8) -> list[bytes]:
    """Read files in order, expecting some ahead; an evicted one is asked for again."""
    contents = []
    for place, file in enumerate(files):
        store.expect(files[place + 1 : place + 1 + ahead])
        while True:
            try:
                contents.append(store.local(*file).read_bytes())
                break
            except FileNotFoundError:
                continue
    return contents


def main(spec: str) -> None:
    """Read what a JSON names, and print the digest of each file, then the incidents."""
    told = json.loads(spec)
    store = RemoteStore(told["location"], CacheSection(**told["cache"]))
    files = [(name, size, bytes.fromhex(digest)) for name, size, digest in told["files"]]
    print("started", flush=True)
    found = [digest_of(data).hex() for data in read_all(store, files, told.get("ahead", 0))]
    print(json.dumps({"digests": found, "incidents": store.take_incidents()}))


def spec_of(location: str, cache: dict[str, Any], files: Sequence[File], ahead: int = 0) -> str:
    written = [(name, size, digest.hex()) for name, size, digest in files]
    return json.dumps({"location": location, "cache": cache, "files": written, "ahead": ahead})


def bytes_of(folder: Path) -> int:
    """Bytes of a cache, half-written files included."""
    total = 0
    for path in folder.glob("*.shard"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


if __name__ == "__main__":
    main(sys.argv[1])
