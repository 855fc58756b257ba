"""A server on loopback that gives files, and fails as servers do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """The files at the address, {path: [answers]}; the last answer is repeated. asked: the paths, in order.

    An answer is a file's bytes, a status, an address to redirect to, or (bytes, length that is claimed).
    """

    address: str = ""
    answers: dict[str, list[bytes | int | str | tuple[bytes, int]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def next_answer(self, path: str) -> bytes | int | str | tuple[bytes, int]:
        self.asked.append(path)
        left = self.answers.get(path, [404])
        return left.pop(0) if len(left) > 1 else left[0]


@contextmanager
def serving() -> Iterator[Server]:
    """Yield a server; it ends with the block."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer = server.next_answer(self.path)
            if isinstance(answer, int):
                return self.send_error(answer)
            if isinstance(answer, str):
                self.send_response(302)
                self.send_header("Location", answer)
                return self.end_headers()
            content, length = answer if isinstance(answer, tuple) else (answer, len(answer))
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.address = f"http://127.0.0.1:{http.server_address[1]}/"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
