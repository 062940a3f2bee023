"""Streams from servers on this machine that break off, come back, or end for good."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest

from accuracy_evaluation.predict import Options, main
from detection import detector as detector_module
from detection.crew import Crew
from detection.detections import Detections
from detection.prediction import inputs, streams
from detection.prediction.inputs import FrameReader, Source, find_sources
from detection.prediction.run import Pace, Run
from detection.prediction.streams import StreamReader
from detection.prediction.writers import Prediction
from lffd.ahead import newest
from lffd.errors import DataError
from lffd.graphs.model import save_model
from lffd.images.encoded import encode
from tests.detection.prediction.test_inputs import NOTHING
from tests.factories import random_model
from tests.oracle import OracleEngine

SECRET = "/live?token=secret"


def _frame(shade: int) -> bytes:
    return encode(np.full((48, 64, 3), shade, np.uint8), 90)


@contextmanager
def _server(answer: Callable[[BaseHTTPRequestHandler, int], None]) -> Iterator[str]:
    """Serve an address whose connections, counted from 0, `answer` writes to."""
    connections = iter(range(10_000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):  # the client has gone
                answer(self, next(connections))
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://user:password@127.0.0.1:{server.server_port}{SECRET}"
    finally:
        server.shutdown()
        server.server_close()


def _mjpeg(handler: BaseHTTPRequestHandler, shades: list[int], pause: float = 0.0) -> None:
    """Send frames as cameras do, and then break off."""
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    handler.end_headers()
    for shade in shades:
        data = _frame(shade)
        handler.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
        handler.wfile.write(data + b"\r\n")
        time.sleep(pause)


def _source(address: str) -> Source:
    (source,), problems = find_sources([address], NOTHING)
    assert not problems
    return source


def _read(address: str, reconnect: int) -> tuple[list[int], list[str], list[float], str]:
    """Return the shades of all frames, what was said, the pauses, and how it ended."""
    shades: list[int] = []
    said: list[str] = []
    pauses: list[float] = []
    try:
        with StreamReader(_source(address), reconnect, said.append, pauses.append) as reader:
            shades.extend(10 * round(float(frame.mean()) / 10) for frame in reader)
    except DataError as error:
        return shades, said, pauses, str(error)
    return shades, said, pauses, ""


def test_a_stream_that_breaks_off_is_connected_again() -> None:
    parts = [[10, 20, 30, 40, 50], [60, 70, 80, 90, 100, 110], [120, 130, 140, 150]]

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number < len(parts):
            _mjpeg(handler, parts[number])
        else:
            handler.send_error(503)

    with _server(answer) as address:
        shades, said, pauses, end = _read(address, 4)
    assert shades == [shade for part in parts for shade in part]
    assert pauses == [1, 2, 4, 8]
    assert len(said) == 4
    assert "the stream has stopped; connecting again in 1 s (1 of 4)" in said[0]
    assert "cannot be opened" in said[3]
    assert "given up after 4 new connections" in end
    for text in (*said, end):
        assert "secret" not in text
        assert "password" not in text


def test_without_reconnection_a_loss_ends_the_stream() -> None:
    with _server(lambda handler, number: _mjpeg(handler, [10, 20, 30, 40])) as address:
        shades, said, pauses, end = _read(address, 0)
    assert (shades, said, pauses) == ([10, 20, 30, 40], [], [])
    assert end.endswith("the stream has stopped; given up (--reconnect sets how many are tried)")


def test_an_address_where_nobody_answers_is_not_waited_for() -> None:
    with _server(lambda handler, number: handler.send_error(404)) as address, pytest.raises(DataError) as caught:
        StreamReader(_source(address), 5, print)
    assert "this stream cannot be opened" in str(caught.value)


@pytest.mark.parametrize(("scheme", "greeting"), [("rtsp", b"OPTIONS rtsp://127.0.0.1"), ("rtmp", b"\x03")])
def test_cameras_and_broadcasts_are_greeted_in_their_own_words(scheme: str, greeting: bytes) -> None:
    """Here is no server of these; but this is what one would hear first."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            client, _ = server.accept()
            with client:
                heard.append(client.recv(100))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        with pytest.raises(DataError, match="this stream cannot be opened"):
            StreamReader(_source(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/live/one"), 5, print)
        thread.join(10)
    assert heard[0].startswith(greeting)


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "STREAM_TIMEOUT_MS", 300)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(DataError, match="cannot be opened"):
        StreamReader(_source(f"http://127.0.0.1:{server.getsockname()[1]}/live"), 5, print)


def test_a_video_behind_an_address_is_played_once(tmp_path: Path) -> None:
    import cv2

    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for number in range(12):
        writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    writer.release()
    data = (tmp_path / "a.mp4").read_bytes()

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "video/mp4")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    with _server(answer) as address:
        shades, said, _, end = _read(address, 3)
        with FrameReader(_source(address)) as reader:
            assert (reader.count, reader.frame_rate) == (12, 10)
    assert (len(shades), said, end) == (12, [], "")


class _Bar:
    """Takes what a progress bar does."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, text: str, **_: object) -> None:
        self.lines.append(text)

    def set_postfix(self, **_: object) -> None:
        """Show nothing."""

    def update(self) -> None:
        """Show nothing."""


class _Notes:
    """A writer that remembers."""

    def __init__(self) -> None:
        self.found: list[Prediction] = []

    def write(self, prediction: Prediction) -> None:
        self.found.append(prediction)

    def close(self) -> None:
        """Nothing to finish."""


NONE = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def _run(address: str, pace: Pace, busy: float = 0.0) -> tuple[_Notes, Run]:
    class Slow:
        name, has_landmarks = "slow", False

        def __call__(self, image: np.ndarray, /) -> Detections:
            time.sleep(busy)
            return NONE

    notes = _Notes()
    run = Run(Crew(lambda _: Slow(), alone=True), pace, [notes], _Bar())
    run.over([_source(address)])
    return notes, run


def test_frames_that_come_while_the_detector_is_busy_are_left_out() -> None:
    """A detector that takes longer than the pauses between frames does not see them all, but it does see the last."""
    shades = [2 * number for number in range(100)]
    with _server(lambda handler, number: _mjpeg(handler, shades, 0.01)) as address:
        notes, run = _run(address, Pace(latest=True, reconnect=0), busy=0.2)
        every, _ = _run(address, Pace(reconnect=0))
    numbers = [prediction.frame for prediction in notes.found if prediction.frame is not None]
    assert numbers == sorted(set(numbers))
    assert 1 < len(numbers) < 100
    assert numbers[-1] == 99
    for prediction in notes.found:
        assert prediction.frame is not None
        assert abs(float(prediction.pixels.mean()) - 2 * prediction.frame) < 2
    assert [prediction.frame for prediction in every.found] == list(range(100))
    assert "given up" in run.problems[0]


def test_a_stream_stops_after_the_frames_that_were_asked_for() -> None:
    def endless(handler: BaseHTTPRequestHandler, number: int) -> None:
        _mjpeg(handler, [50] * 100_000, 0.002)

    with _server(endless) as address:
        for pace in (Pace(max_frames=3, every=2), Pace(max_frames=3, every=2, latest=True)):
            notes, run = _run(address, pace, busy=0.01)
            assert len(notes.found) == 3
            assert all(prediction.frame is not None and prediction.frame % 2 == 0 for prediction in notes.found)
            assert not run.problems


def test_a_stream_that_is_waited_for_can_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause before the next connection is of 1,000 s here; leaving it takes no time."""
    monkeypatch.setattr(streams, "FIRST_PAUSE_S", 1000)
    monkeypatch.setattr(streams, "LONGEST_PAUSE_S", 1000)
    with _server(lambda handler, number: _mjpeg(handler, [10, 20, 30, 40, 50], 0.05)) as address:
        began = time.monotonic()
        notes, _ = _run(address, Pace(latest=True, max_frames=2))
        assert len(notes.found) == 2
        assert time.monotonic() - began < 100


def test_the_command_names_what_it_connects_to_and_keeps_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector_module, "create_engine", lambda model, *_: OracleEngine(model.network))
    monkeypatch.setattr(streams, "LONGEST_PAUSE_S", 2)
    save_model(random_model("v2"), tmp_path / "model")
    parts = [[10, 20, 30, 40, 50], [60, 70, 80, 90]]
    with _server(lambda handler, number: _mjpeg(handler, parts[number % 2])) as address:
        options: dict[str, Any] = {"model": str(tmp_path / "model"), "output_dir": tmp_path / "out"}
        pace = Pace(reconnect=2)
        assert main(Options(paths=(address,), json=tmp_path / "out.json", pace=pace, **options)) == 1
        port = address.rpartition(":")[2].partition("/")[0]
    entries = json.loads((tmp_path / "out.json").read_text())
    assert [entry["frame"] for entry in entries] == list(range(14))
    assert {entry["image"] for entry in entries} == {f"http://127.0.0.1:{port}/live"}
    with FrameReader(Source(str(tmp_path / "out" / f"127.0.0.1_{port}_live.mp4"), "video", PurePath("x"))) as reader:
        assert len(list(reader)) == 14
    printed = capsys.readouterr()
    assert "connecting again in 1 s (1 of 2)" in printed.err
    assert "given up after 2 new connections" in printed.err
    assert "secret" not in printed.err + printed.out


@pytest.mark.parametrize("word", ["http://", "rtsp://[bad", "https://host/photo.jpg?x=1", "rtmp://user@"])
def test_addresses_that_are_no_streams(word: str) -> None:
    sources, (problem,) = find_sources([word], NOTHING)
    assert not sources
    assert "is no address of a stream" in problem or "is a picture and no stream" in problem


def test_addresses_that_differ_only_in_their_secrets_are_two_streams() -> None:
    sources, _ = find_sources(["rtsp://a:b@cam:554/s?id=1", "rtsp://a:b@cam:554/s?id=2", "RTMP://host/live"], NOTHING)
    assert [source.name for source in sources] == ["rtsp://cam:554/s", "rtsp://cam:554/s", "rtmp://host/live"]
    assert sources[0].output == PurePath("cam_554_s.mp4")
    assert "b@" not in repr(sources)


def test_only_the_newest_item_waits() -> None:
    taken, made = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        taken.wait(60)
        yield from range(1, 10)
        made.set()
        yield 10

    found = []
    for item in newest(items()):
        found.append(item)
        if item == 0:
            taken.set()
            made.wait(60)
    assert found[0] == 0
    assert set(found[1:]) <= {9, 10}
    assert found[-1] == 10


def test_the_newest_items_end_with_the_error_of_their_maker() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise DataError("broken")

    found = newest(items())
    with pytest.raises(DataError, match="broken"):
        list(found)
