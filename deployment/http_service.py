"""Detection over HTTP, within bounds: `POST /detect`, `GET /health`, and the files of the page.

Starlette and uvicorn read HTTP: the standard library's server takes a thread for every connection, however many there
are, and has no time limit for a body that comes slowly.
"""

from __future__ import annotations

import asyncio
import math
import mimetypes
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from detection.detections import ImageDetector
from detection.prediction.inputs import Source
from detection.prediction.writers import Prediction, prediction_json
from lffd.errors import DataError, LffdError, UsageError
from lffd.hints import require
from lffd.images.encoded import decode

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

BODY = "body"
"""What answers and errors call the image of a request."""


@dataclass(frozen=True)
class Limits:
    """What clients may ask for.

    Raises:
        UsageError: for a number outside its range.
    """

    max_body_mb: float = 20
    """Images of more megabytes are refused with 413."""
    max_megapixels: float = 30
    """Images of more million pixels are refused with 400."""
    at_once: int = 8
    """Requests that are read, waiting or run at a time; more are refused with 503. Images are run one by one."""
    time_limit: float = 30
    """Seconds from a request's start to its answer: 408 when the image does not arrive, 504 when its turn does not."""

    def __post_init__(self) -> None:
        for item in fields(self):
            low, high = {"max_megapixels": (0, 1000), "max_body_mb": (0, 4000)}.get(item.name, (0, 86_400))
            if not low < (value := getattr(self, item.name)) <= high or math.isnan(value):
                raise UsageError(f"{item.name} must be above {low} and at most {high:,}, not {value}")


class _Refused(Exception):  # noqa: N818 - an answer
    """A request that gets an error's status and text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class DetectionService:
    """Takes images over HTTP and runs them, one by one, in a thread of its own."""

    def __init__(self, detector: ImageDetector, limits: Limits) -> None:
        self._detector, self._limits = detector, limits
        self._pool = ThreadPoolExecutor(1, "detector")
        self._taken = 0

    async def detect(self, request: Request) -> Response:
        """Answer `POST /detect`: JSON as `predict.py --json` writes it for one image, or `{"error": …}`."""
        from starlette.requests import ClientDisconnect
        from starlette.responses import JSONResponse, Response

        started = time.monotonic()
        try:
            if self._taken >= self._limits.at_once:
                raise _Refused(503, f"{self._taken} requests are being answered; try again later")
            self._taken += 1
            return JSONResponse(await self._answer(request, started))
        except _Refused as refused:
            headers = {"Retry-After": "1"} if refused.status == 503 else {}
            return JSONResponse({"error": str(refused)}, refused.status, headers)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it

    async def health(self, _: Request) -> Response:
        """Answer `GET /health`."""
        from starlette.responses import JSONResponse

        return JSONResponse({"status": "ok", "model": self._detector.name, "requests": self._taken})

    async def _answer(self, request: Request, started: float) -> dict[str, Any]:
        """Return what was found in the request's image; its place among `at_once` is free again when its work ends."""
        seconds = self._limits.time_limit
        try:
            data = await asyncio.wait_for(self._read(request), seconds)
        except BaseException as error:
            self._leave()
            if isinstance(error, asyncio.TimeoutError):
                raise _Refused(408, f"the image did not arrive within {seconds:g} s") from error
            raise
        loop = asyncio.get_running_loop()
        work: Future[dict[str, Any]] = self._pool.submit(self._look, data)
        # A thread cannot be stopped: the place is taken until the work ends, also where nobody waits for it any more.
        work.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._leave))
        try:
            left = max(0.0, started + seconds - time.monotonic())
            return await asyncio.wait_for(asyncio.wrap_future(work), left)
        except asyncio.TimeoutError as error:
            raise _Refused(504, f"there was no result within {seconds:g} s") from error

    def _leave(self) -> None:
        self._taken -= 1

    async def _read(self, request: Request) -> bytes:
        """Return the body; no more of it is kept than may be."""
        most = int(self._limits.max_body_mb * 1e6)
        declared, body = request.headers.get("content-length", "0"), bytearray()
        if declared.isdecimal() and int(declared[:15]) <= most:
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    break
            else:
                return bytes(body)
        raise _Refused(413, f"the image has more than the {most:,} bytes that are taken")

    def _look(self, data: bytes) -> dict[str, Any]:
        """Decode an image, as untrusted as images come, and detect in it."""
        most = int(self._limits.max_megapixels * 1e6)
        try:
            pixels = decode(data, BODY, turned=True, faults="small", most=most)
            found = self._detector(pixels)
        except LffdError as error:
            raise _Refused(400 if isinstance(error, DataError) else 500, str(error)) from error
        return prediction_json(Prediction(Source(BODY, "image", PurePath(BODY)), pixels, found))

    def close(self) -> None:
        """Take no more work, and wait for what runs."""
        self._pool.shutdown(cancel_futures=True)


def application(service: DetectionService, files: Mapping[str, bytes], headers: Mapping[str, str]) -> Starlette:
    """Return the ASGI application.

    Args:
        service: answers `/detect` and `/health`.
        files: of the page, by name; `/` is `index.html`.
        headers: sent with the files.

    Raises:
        EngineError: when Starlette is missing.
    """
    require("starlette", "serve")
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    async def page(request: Request) -> Response:
        name = request.scope["path"].lstrip("/") or "index.html"
        kind = _KINDS.get(PurePath(name).suffix) or mimetypes.guess_type(name)[0]
        return Response(files[name], media_type=kind, headers={**headers, "Cache-Control": "no-cache"})

    paths = [f"/{name}" for name in files] + ["/"] * ("index.html" in files)
    answers = [Route("/detect", service.detect, methods=["POST"]), Route("/health", service.health)]
    return Starlette(routes=[*answers, *(Route(path, page) for path in paths)])


_KINDS = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}
"""Browsers refuse these under another name, and what a machine's own table says varies."""
