"""Serve the page in the browser, and detection over HTTP, from this machine."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deployment.http_service import DetectionService, Limits, application
from deployment.page.site import POLICY, site
from deployment.page.web_runtime import WebRuntime
from detection.detector import DEFAULT_MODEL, PREDICTION
from detection.load import load_detector
from detection.selection import Selection
from lffd import cli
from lffd.engines.runtime import Runtime
from lffd.errors import UsageError
from lffd.hints import require

HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    # A page that is isolated from all others may run the network in several threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "camera=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Sent with every file of the page."""

MOST_CONNECTIONS = 256


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which models, where, and how much clients may ask for."""

    models: tuple[str, ...] = ()
    """Models to choose from in the page, the first chosen at the start: names or folders; all shipped ones by default.
    POST /detect runs the first, or by default the best shipped one."""
    host: str = "127.0.0.1"
    """Address to listen at; this machine alone by default. Anybody who reaches it may use it: for a network, put a
    server with encryption and passwords in front."""
    port: int = 8000
    """Port to listen at; 0 takes a free one."""
    page: bool = True
    """Offer the page; without it, /detect and /health alone."""
    web: Annotated[WebRuntime, tyro.conf.arg(name="")] = field(default_factory=WebRuntime)
    limits: Annotated[Limits, tyro.conf.arg(name="")] = field(default_factory=Limits)
    selection: Annotated[Selection, tyro.conf.arg(name="")] = PREDICTION
    runtime: Annotated[Runtime, tyro.conf.arg(name="")] = field(default_factory=Runtime)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address.

    Raises:
        UsageError: when it cannot.
    """
    if not 0 <= port <= 65_535:
        raise UsageError(f"port must be at least 0 and at most 65,535, not {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot listen at {host}, port {port}: {reason}; choose another --port or --host") from error


def run(service: Any, listener: socket.socket) -> None:
    """Answer requests until Ctrl-C or SIGTERM; what is being answered then is finished first."""
    uvicorn = require("uvicorn", "serve")
    config = uvicorn.Config(
        service,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=10,
    )
    with cli.terminable(), suppress(KeyboardInterrupt):  # uvicorn passes on what it was stopped by
        uvicorn.Server(config).run(sockets=[listener])


def main(options: Options) -> None:
    """Serve a page that detects in the browser, and POST /detect, which detects here.

    The page: drop a photo or open the camera; no image leaves the browser. It needs onnxruntime-web once: --fetch.
    POST /detect takes an image as the request's body and answers with JSON as predict.py --json writes it.
    """
    with listen(options.host, options.port) as listener:
        files = site(options.models, options.web.files()) if options.page else {}
        model = options.models[0] if options.models else DEFAULT_MODEL
        service = DetectionService(load_detector(model, options.selection, options.runtime), options.limits)
        host, port = listener.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        print(f"serving {'the page at ' if files else ''}{address} and POST {address}detect; Ctrl-C ends", flush=True)
        try:
            run(application(service, files, HEADERS), listener)
        finally:
            service.close()
    print("stopped")


if __name__ == "__main__":
    cli.run(main)
