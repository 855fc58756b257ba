"""python -m jaxgen demo: a page in the browser."""

import importlib
import ipaddress
import os
import signal
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxgen.core.errors import InputError
from jaxgen.core.progress import lines
from jaxgen.core.ranges import Positive, Range

Models = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[RUN|WEIGHTS|NAME ...]")]
# Everything comes from the server itself: the browser refuses whatever a script would fetch from elsewhere.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; form-action 'self'"

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def demo(
    model: Models = (),
    published: bool = False,
    open: bool = False,
    host: str = "127.0.0.1",
    port: Annotated[int, Range(1, 65535)] | None = None,
    megapixels: Positive = 16.0,
    megabytes: Positive = 32.0,
    memory: Positive = 4.0,
    check: bool = False,
):
    """Open a page in the browser that restores, paints and draws images.

    It offers the weights that ship with the package, those that were fetched before, and those that are named. It runs
    on this machine and needs no network. Ctrl-C ends it.

    Args:
        model: other models to offer: runs' folders, files of weights that state their model, names of weights
        published: offer all published weights; they are fetched when they are first used
        open: open the browser
        host: the address to listen on; 0.0.0.0 lets other machines use the page: all who reach it, without a password
        port: the port; unset: 7860, or the next one that is free
        megapixels: the largest image that the page takes
        megabytes: the largest file that the page takes
        memory: memory limit in GiB for an image; a larger one is refused before work begins
        check: print what the page offers, load it once, and end
    """
    from jaxgen.commands.demo_page import gradio

    gradio()  # before models are looked for
    from jaxgen.commands.demo_offers import offers
    from jaxgen.commands.demo_page import page
    from jaxgen.commands.demo_work import Studio

    found = offers(model, published)
    with (
        tempfile.TemporaryDirectory(prefix="jaxgen-demo-", ignore_cleanup_errors=True) as folder,
        environment(folder, host),
        lines(lambda: ""),  # no signs of life every 30 seconds
    ):
        blocks = page(Studio(Path(folder), megapixels, megabytes, memory), found)
        address = started(blocks, host, port, megabytes)
        try:
            for tab, some in found.items():
                print(f"{tab}: {', '.join(offer.name for offer in some) or 'no weights yet'}")
            if check:
                with urllib.request.urlopen(address, timeout=30) as answer:
                    print(f"The page works: {len(answer.read()):,} bytes.")
                return
            print(f"The page is at {address} Ctrl-C ends it.", flush=True)
            if open:
                import webbrowser

                webbrowser.open(address)
            signal.signal(signal.SIGTERM, leave)
            threading.Event().wait()
        finally:
            blocks.close(verbose=False)


@contextmanager
def environment(folder: str, host: str) -> Iterator[None]:
    """Have Gradio keep uploads in a folder, and reach its own server without a proxy."""
    own = ",".join((*filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY")]), *LOOPBACK, host))
    wanted = {"GRADIO_TEMP_DIR": folder, "no_proxy": own, "NO_PROXY": own}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def leave(signum: int, frame: Any):
    """End the page by a signal as by Ctrl-C: uploads are removed."""
    from jaxgen.training.stopping import Interrupted

    raise Interrupted(signum, "Stopped.")


def started(blocks: Any, host: str, port: int | None, megabytes: float) -> str:
    """Start the server of a page, and return its address. Raises InputError where it can't listen there."""
    from jaxgen.commands.demo_page import CSS, theme

    starlette = importlib.import_module("starlette.middleware")  # Gradio's
    middleware = [starlette.Middleware(Policy)]
    if is_loopback(host):  # no page of another name in the browser can reach it
        trusted = importlib.import_module("starlette.middleware.trustedhost").TrustedHostMiddleware
        middleware.append(starlette.Middleware(trusted, allowed_hosts=[*LOOPBACK, host]))
    try:
        _, address, _ = blocks.queue(max_size=32).launch(
            server_name=host, server_port=port, share=False, inbrowser=False, quiet=True, prevent_thread_lock=True,
            max_file_size=int(megabytes * 1e6), app_kwargs={"middleware": middleware}, theme=theme(), css=CSS,
            footer_links=[], run_history=False, ssr_mode=False, pwa=False, mcp_server=False, enable_monitoring=False,
        )  # fmt: skip
    except OSError as error:
        where = f"port {port} of {host}" if port else host
        raise InputError(f"The page can't listen on {where} ({error}): name another --port or --host.") from error
    return address


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Policy:
    """Adds the content security policy to every answer."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any):
        async def sent(message: Any):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, sent if scope["type"] == "http" else send)
