"""Many images at once: the same detections in the same order as one after the other, errors at their images."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from detection.crew import Crew
from detection.detections import Detections
from detection.detector import Detector
from lffd.engines.runtime import Runtime
from lffd.errors import DataError
from tests.factories import random_model


class Slow:
    """Refuses to be called twice at once; the brightness of an image is its score."""

    name, has_landmarks = "slow", False

    def __init__(self) -> None:
        self._busy = threading.Lock()

    def __call__(self, image: NDArray[np.uint8], /) -> Detections:
        assert self._busy.acquire(blocking=False), "one thread at a time"
        time.sleep(0.002 * (image[0, 0, 0] % 3))
        self._busy.release()
        return Detections(np.zeros((1, 4), np.float32), image[0, :1, 0].astype(np.float32) / 255)


def _maker(made: list[Runtime]) -> Callable[[Runtime], Slow]:
    def make(runtime: Runtime) -> Slow:
        made.append(runtime)
        return Slow()

    return make


def _read(number: int) -> tuple[NDArray[np.uint8], int]:
    if number == 30:
        raise DataError("image 30 is damaged")
    return np.full((4, 4, 3), number, np.uint8), number


@pytest.mark.parametrize("cores", [1, 3])
def test_results_come_in_order_and_errors_at_their_image(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    made: list[Runtime] = []
    crew = Crew(_maker(made))
    assert crew.count == cores
    results = crew.over(_read, range(60))
    for number in range(30):
        fact, found = next(results)
        assert (fact, round(float(found.scores[0]) * 255)) == (number, number)
    with pytest.raises(DataError, match="image 30"):
        next(results)
    assert 1 <= len(made) <= cores
    assert {runtime.threads for runtime in made} == ({None} if cores == 1 else {1})


def test_who_names_threads_a_gpu_or_mxnet_gets_one_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    for runtime in (Runtime(threads=2), Runtime(device="gpu:0"), Runtime("mxnet")):
        made: list[Runtime] = []
        crew = Crew(_maker(made), runtime)
        assert len(list(crew.over(_read, range(20)))) == 20
        assert made == [runtime]


def test_a_real_detector_finds_the_same_alone_and_in_a_crew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    model = random_model("plate_small")
    images = np.random.default_rng(0).integers(0, 256, (9, 96, 128, 3), np.uint8)
    alone = Detector(model, runtime=Runtime(threads=1))
    crew = Crew(lambda runtime: Detector(model, runtime=runtime))
    for image, found in crew.over(lambda index: (images[index], images[index]), range(9)):
        expected = alone(image)
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(found.scores, expected.scores)
