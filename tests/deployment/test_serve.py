"""`POST /detect`: the same JSON as `predict.py --json`, and bounds that hold."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accuracy_evaluation import predict
from deployment.http_service import DetectionService, Limits, application
from deployment.serve import HEADERS, Options, listen, main
from detection.detections import Detections
from lffd.errors import EngineError, UsageError
from lffd.images.encoded import encode
from tests.conftest import PROJECT

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

PHOTO = encode(np.full((40, 60, 3), 90, np.uint8), 90)


class _Detector:
    """Finds one box in every image, when it is let go."""

    name, has_landmarks = "made-up", False

    def __init__(self) -> None:
        self.go, self.running = threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, image: np.ndarray) -> Detections:
        self.running.set()
        assert self.go.wait(60)
        if image.shape[0] == 1:
            raise EngineError("the engine is out of order")
        return Detections(np.array([[1, 2, 3, 4]], np.float32), np.array([0.75], np.float32))


@contextmanager
def _serving(detector: _Detector, limits: Limits) -> Iterator[int]:
    """Offer the service in a thread; give its port."""
    service = DetectionService(detector, limits)
    listener = listen("127.0.0.1", 0)
    app = application(service, {"index.html": b"<p>", "a.mjs": b"1"}, HEADERS)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        detector.go.set()
        server.should_exit = True
        thread.join()
        service.close()
        listener.close()


def _ask(
    port: int, method: str = "POST", path: str = "/detect", body: bytes = PHOTO
) -> tuple[int, Any, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    is_json = answer.headers.get_content_type() == "application/json"
    return answer.status, json.loads(content) if is_json else content, dict(answer.headers.items())


def _until(port: int, requests: int) -> None:
    """Wait until so many requests are being answered."""
    while _ask(port, "GET", "/health", b"")[1]["requests"] != requests:
        time.sleep(0.01)


def test_answers() -> None:
    with _serving(_Detector(), Limits()) as port:
        status, found, _ = _ask(port)
        assert status == 200
        expected = [{"box": [1.0, 2.0, 3.0, 4.0], "score": 0.75}]
        assert found == {"image": "body", "width": 60, "height": 40, "detections": expected}
        assert _ask(port, "GET", "/health", b"")[1] == {"status": "ok", "model": "made-up", "requests": 0}
        assert _ask(port, "GET")[0] == 405
        status, text, headers = _ask(port, "GET", "/", b"")
        assert (status, text) == (200, b"<p>")
        assert HEADERS.items() <= {key.title(): value for key, value in headers.items()}.items()
        assert _ask(port, "GET", "/a.mjs", b"")[2]["content-type"].startswith("text/javascript")
        for path in ("/other", "/../pyproject.toml", "/%2e%2e/pyproject.toml", "//etc/passwd"):
            assert _ask(port, "GET", path, b"")[0] == 404


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "body: is empty"),
        (b"no picture", 400, "body: is not a picture of a known format"),
        (PHOTO[:-20], 400, "body: "),
        (encode(np.zeros((200, 60, 3), np.uint8), 90), 400, "60x200 is more than the 10,000 pixels"),
        (encode(np.zeros((1, 60, 3), np.uint8), 90), 500, "the engine is out of order"),
        (PHOTO + bytes(5000), 413, "more than the 5,000 bytes"),
    ],
)
def test_what_cannot_be_taken_is_refused(body: bytes, status: int, said: str) -> None:
    with _serving(_Detector(), Limits(max_body_mb=0.005, max_megapixels=0.01)) as port:
        answer = _ask(port, body=body)
        assert answer[0] == status
        assert said in answer[1]["error"]
        assert _ask(port)[0] == 200, "the next one is taken"
        _until(port, 0)


def test_a_body_that_does_not_say_its_size_is_bounded_too() -> None:
    with _serving(_Detector(), Limits(max_body_mb=0.005)) as port, socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        raw.sendall(b"1f40\r\n" + bytes(8000) + b"\r\n")  # and no end
        assert raw.recv(100).startswith(b"HTTP/1.1 413")
        _until(port, 0)


def test_more_at_once_than_allowed_are_turned_away() -> None:
    detector = _Detector()
    with _serving(detector, Limits(at_once=2)) as port:
        detector.go.clear()
        answers: list[int] = []
        waiting = [threading.Thread(target=lambda: answers.append(_ask(port)[0])) for _ in range(2)]
        for thread in waiting:
            thread.start()
        _until(port, 2)
        status, answer, headers = _ask(port)
        assert (status, headers["retry-after"]) == (503, "1")
        assert "2 requests" in answer["error"]
        detector.go.set()
        for thread in waiting:
            thread.join()
        assert answers == [200, 200]
        assert _ask(port)[0] == 200


def test_time_limits() -> None:
    """A place is free again only when its work has ended, whoever waits."""
    detector = _Detector()
    with _serving(detector, Limits(time_limit=0.3, at_once=1)) as port:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow")
            assert raw.recv(100).startswith(b"HTTP/1.1 408")
        detector.go.clear()
        status, answer, _ = _ask(port)
        assert (status, answer["error"]) == (504, "there was no result within 0.3 s")
        assert _ask(port)[0] == 503
        detector.go.set()
        _until(port, 0)
        assert _ask(port)[0] == 200


def test_a_client_that_goes_away_frees_its_place() -> None:
    with _serving(_Detector(), Limits(at_once=1)) as port:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow")
            _until(port, 1)
        _until(port, 0)
        assert _ask(port)[0] == 200


@pytest.mark.parametrize("value", [{"max_body_mb": 0}, {"at_once": 0}, {"time_limit": float("nan")}])
def test_limits_that_make_no_sense(value: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(value))} must be"):
        Limits(**value)  # type: ignore[arg-type]


def test_an_address_that_is_taken() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(UsageError, match=r"cannot listen at 127\.0\.0\.1"):
        main(Options(port=taken.getsockname()[1], page=False))
    with pytest.raises(UsageError, match="port must be"):
        listen("127.0.0.1", 70_000)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_answers_as_predict_writes(number: int, tmp_path: Path) -> None:
    """And it ends cleanly when it is asked to."""
    pytest.importorskip("onnxruntime")
    photo = PROJECT / "docs" / "examples" / "family.jpg"
    predict.main(predict.Options(paths=(str(photo),), json=tmp_path / "found.json"))
    command = [sys.executable, "-m", "deployment.serve", "--port", "0", "--no-page"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        port = int(re.findall(r":(\d+)/", server.stdout.readline())[0])
        status, found, _ = _ask(port, body=photo.read_bytes())
        server.send_signal(number)
        assert (server.stdout.read(), server.stderr.read()) == ("stopped\n", "")
    assert server.returncode == 0
    assert status == 200
    expected = json.loads((tmp_path / "found.json").read_text())[0]
    assert found == {**expected, "image": "body"}
