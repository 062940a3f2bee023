"""The page in a real browser: what it draws is what `predict.py` finds, and nothing leaves the machine."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployment.export_page import Options, main
from deployment.page.web_runtime import WebRuntime
from detection.detector import Detector
from lffd.errors import UsageError
from lffd.images.files import read_picture
from symbol_farm.trained_models import shipped_models
from tests.conftest import PROJECT

pytest.importorskip("onnx")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("selenium")
from PIL import Image  # noqa: E402
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

EXAMPLES = sorted((PROJECT / "docs" / "examples").glob("*.jpg"))
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1100,900 "
    "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
)
ONE_PIXEL, SURE = 1.0, 0.02
"""How far corners may be off; how near the threshold a score may lie on either side of it, for JPEG decoders differ."""


@pytest.fixture(scope="module")
def runtime() -> WebRuntime:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("there is no chromium with chromedriver")
    try:
        WebRuntime().files()
    except UsageError as error:
        pytest.skip(str(error))
    return WebRuntime()


@pytest.fixture(scope="module")
def address(runtime: WebRuntime) -> Iterator[str]:
    """Where a server of ours offers the page."""
    command = [sys.executable, "-m", "deployment.serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        yield re.findall(r"http://127.0.0.1:\d+/", line)[0]
        server.send_signal(signal.SIGTERM)
        assert server.stdout.read() == "stopped\n"
    assert server.returncode == 0


@pytest.fixture(scope="module")
def start(runtime: WebRuntime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Start a browser; all are ended after the tests."""
    drivers = []

    def begin(*flags: str) -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}", *flags):
            options.add_argument(flag)
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        drivers.append(webdriver.Chrome(options=options, service=service))
        return drivers[-1]

    yield begin
    for driver in drivers:
        driver.quit()


@pytest.fixture
def page(start: Callable[..., Any], address: str, request: pytest.FixtureRequest) -> Any:
    """The page, ready, in a browser that the module's tests share."""
    driver = getattr(request.module, "_driver", None) or start()
    request.module._driver = driver  # type: ignore[attr-defined]
    driver.get(address)
    _wait(driver, "Ready")
    return driver


def _wait(driver: Any, text: str) -> str:
    """Return what the page says as soon as it says something with the text."""
    status = driver.find_element(By.ID, "status")
    WebDriverWait(driver, 60).until(lambda _: re.search(text, status.text))
    return str(status.text)


def _drawn(driver: Any) -> np.ndarray:
    """Return the drawn boxes `(N, 4)`, in pixels of the photo."""
    rows = driver.execute_script(
        "return [...document.querySelectorAll('#boxes rect')].map((rect) => ['x', 'y', 'width', 'height'].map((name) =>"
        " Number(rect.getAttribute(name))))"
    )
    sides = np.array(rows, np.float64).reshape(-1, 4)
    return np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1)


def _choose(driver: Any, picture: Path) -> str:
    driver.find_element(By.ID, "file").send_keys(str(picture))
    return _wait(driver, "found in|cannot|error|failed")


def _check_same(driver: Any, picture: Path, detector: Detector, allowed: float = ONE_PIXEL) -> None:
    """Hold what is drawn against what the detector finds."""
    found, drawn = detector(read_picture(picture)), _drawn(driver)
    entry = json.loads(driver.find_element(By.ID, "json").get_attribute("textContent"))
    said = {tuple(np.round(row["box"], 3)): row["score"] for row in entry["detections"]}
    assert len(said) == len(drawn)
    distances = np.abs(drawn[:, None] - found.boxes[None]).max(axis=2)
    paired = {tuple(np.round(drawn[i], 3)): found.scores[distances[i].argmin()] for i in range(len(drawn))}
    for index, box in enumerate(drawn):
        near = said[tuple(np.round(box, 3))] < 0.5 + SURE
        assert near or distances[index].min() <= allowed, f"{picture.name}: {box} is drawn and not found"
    for index, score in enumerate(found.scores):
        assert score < 0.5 + SURE or distances[:, index].min() <= allowed, f"{picture.name}: box {index} is missing"
    assert paired


@pytest.mark.parametrize("name", shipped_models())
def test_drawn_boxes_are_those_of_predict(page: Any, name: str) -> None:
    Select(page.find_element(By.ID, "model")).select_by_visible_text(name)
    detector = Detector.load(name)
    for picture in EXAMPLES:
        said = _choose(page, picture)
        assert re.fullmatch(rf"\d+ found in \d+×\d+ pixels, \d+ ms with {name}", said)
        _check_same(page, picture, detector)
