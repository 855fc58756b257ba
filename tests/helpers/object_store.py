"""An S3 server on loopback, and one in front of it that fails and hangs as networks do."""

import http.client
import http.server
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest

WHO = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@contextmanager
def s3(bucket: str) -> Iterator[dict[str, str]]:
    """Yield the environment of a client of a new server with an empty bucket; it holds in this process too."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    found = {**WHO, "AWS_DEFAULT_REGION": WHO["AWS_REGION"], "AWS_ENDPOINT_URL": address}
    try:
        with mock.patch.dict(os.environ, found):
            from jaxgen.core import paths

            paths.path(f"s3://{bucket}").fs.mkdir(bucket)  # pyright: ignore[reportAttributeAccessIssue]
            yield found
    finally:
        server.stop()


@contextmanager
def unreliable(address: str, every: int, hangs: int, seconds: float) -> Iterator[str]:
    """Yield the address of a server that passes requests on, but refuses each `every`-th, and is late once.

    hangs: the number of the request that is answered only after some seconds
    """
    count, lock = iter(range(1, 10**9)), threading.Lock()
    host = address.removeprefix("http://")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                number = next(count)
            if number == hangs:
                time.sleep(seconds)
            if number % every == 0:
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            other = http.client.HTTPConnection(host, timeout=60)
            other.request(self.command, self.path, body, dict(self.headers))
            answer = other.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content)
            other.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
