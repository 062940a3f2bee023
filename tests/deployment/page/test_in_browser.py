"""The page in a real browser: what it draws is what `predict.py` finds, and nothing leaves the machine."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from deployment.export_page import Options, main
from deployment.page.web_runtime import WebRuntime
from detection.detector import Detector
from lffd.errors import UsageError
from lffd.graphs.model import save_model
from lffd.images.files import read_picture
from symbol_farm.trained_models import shipped_models
from tests.conftest import PROJECT
from tests.factories import random_model
from tests.test_another_network import NETWORKS

pytest.importorskip("onnx")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("selenium")
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

EXAMPLES = [PROJECT / "docs" / "examples" / f"{name}.jpg" for name in ("family", "group", "marching")]
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


@pytest.fixture(scope="module")
def browser(start: Callable[..., Any]) -> Any:
    """The browser that most tests share."""
    return start()


@pytest.fixture
def page(browser: Any, address: str) -> Any:
    """The page, ready."""
    browser.get(address)
    _wait(browser, "Ready")
    return browser


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
    assert entry["image"] == picture.name
    assert np.allclose([row["box"] for row in entry["detections"]], drawn, atol=1e-3)
    scores = np.array([row["score"] for row in entry["detections"]])
    distances = np.abs(drawn[:, None] - found.boxes[None]).max(axis=2)
    assert (scores > 0.5 + SURE).any()
    assert (distances.min(axis=1)[scores > 0.5 + SURE] <= allowed).all(), f"{picture.name}: drawn and not found"
    assert (distances.min(axis=0)[found.scores > 0.5 + SURE] <= allowed).all(), f"{picture.name}: found and not drawn"


@pytest.mark.parametrize("name", shipped_models())
def test_drawn_boxes_are_those_of_predict(page: Any, name: str) -> None:
    Select(page.find_element(By.ID, "model")).select_by_visible_text(name)
    detector = Detector.load(name)
    for picture in EXAMPLES:
        said = _choose(page, picture)
        assert re.fullmatch(rf"\d+ found in \d+×\d+ pixels, \d+ ms with {name}", said)
        _check_same(page, picture, detector)


def _made(folder: Path, name: str, change: Callable[[Image.Image], Image.Image], **options: Any) -> Path:
    """Save what a change makes of an example picture."""
    with Image.open(EXAMPLES[0]) as picture:
        change(picture).save(folder / name, **options)
    return folder / name


def test_small_turned_and_transparent_pictures(page: Any, tmp_path: Path) -> None:
    """Small ones are enlarged, JPEGs turned as their tag says, and what shows through stands on white."""
    turned = Image.Exif()
    turned[0x0112] = 6
    pictures = [
        _made(tmp_path, "small.png", lambda picture: picture.crop((80, 70, 260, 180)).resize((150, 92))),
        _made(tmp_path, "turned.jpg", lambda picture: picture.transpose(Image.Transpose.ROTATE_90), exif=turned),
        _made(tmp_path, "clear.png", lambda picture: _with_alpha(picture, 160)),
    ]
    detector = Detector.load()
    for picture in pictures:
        _choose(page, picture)
        _check_same(page, picture, detector)


def _with_alpha(picture: Image.Image, alpha: int) -> Image.Image:
    picture.putalpha(alpha)
    return picture


def test_the_slider_chooses_by_score(page: Any) -> None:
    _choose(page, EXAMPLES[1])
    before = len(_drawn(page))
    move = "const s = document.getElementById('threshold'); s.value = 0.8; s.dispatchEvent(new Event('input'));"
    page.execute_script(move)
    found = Detector.load()(read_picture(EXAMPLES[1]))
    surely, perhaps = (int((found.scores > limit).sum()) for limit in (0.8 + SURE, 0.8 - SURE))
    assert surely <= len(_drawn(page)) <= perhaps < before
    page.execute_script(move.replace("0.8", "0.05"))
    assert len(_drawn(page)) > before


def test_what_is_no_picture_is_said(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    said = _choose(page, tmp_path / "notes.png")
    assert said == "notes.png: this browser cannot read it as a picture"
    assert page.find_element(By.ID, "status").get_attribute("class") == "error"
    _choose(page, EXAMPLES[0])
    assert page.find_element(By.ID, "status").get_attribute("class") == ""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        cast("_Server", self.server).asked.append(self.path)


class _Server(http.server.ThreadingHTTPServer):
    """Remembers the paths that it was asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        self.asked: list[str] = []


def _offer(folder: Path) -> _Server:
    """Offer a folder as any plain web server does."""
    server = _Server(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_nothing_goes_to_another_address(page: Any, address: str, tmp_path: Path) -> None:
    """After a detection, all that was loaded came from the server; a request elsewhere is refused by the browser."""
    _choose(page, EXAMPLES[0])
    names = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert {name.rpartition("/")[2] for name in names} >= {"page.js", "page.css", "worker.js", "models.json"}
    assert [name for name in names if not name.startswith((address, "blob:" + address, "data:"))] == []
    other = _offer(tmp_path)
    script = (
        "const done = arguments[1]; fetch(arguments[0], {mode: 'no-cors'}).then(() => done('sent'), () => done(''))"
    )
    assert page.execute_async_script(script, f"http://127.0.0.1:{other.server_port}/image") == ""
    assert page.execute_async_script(script, address + "health") == "sent"
    assert other.asked == []
    other.shutdown()


def test_the_same_page_as_files(start: Callable[..., Any], runtime: WebRuntime, tmp_path: Path) -> None:
    """From a server that sends no headers of ours; what is too large for the memory is shrunk, and it says so."""
    main(Options(output_dir=tmp_path / "site", models=("face_light",), runtime=runtime))
    server = _offer(tmp_path / "site")
    driver = start()
    driver.get(f"http://127.0.0.1:{server.server_port}/index.html")
    _wait(driver, "Ready")
    detector = Detector.load()
    _choose(driver, EXAMPLES[0])
    _check_same(driver, EXAMPLES[0], detector)
    large = _made(tmp_path, "large.png", lambda picture: picture.resize((picture.width * 2, picture.height * 2)))
    manifest = tmp_path / "site" / "models.json"
    facts = json.loads(manifest.read_text())
    facts["models"][0]["max_pixels"] = 640 * 406
    manifest.write_text(json.dumps(facts))
    driver.refresh()
    _wait(driver, "Ready")
    assert "shrunk first" in _choose(driver, large)
    _check_same(driver, large, detector, allowed=12)
    server.shutdown()


def test_the_camera(start: Callable[..., Any], address: str, tmp_path: Path) -> None:
    """Chromium plays a file as its camera: an example picture, over and over."""
    frame = _made(tmp_path, "frame.jpg", lambda picture: picture.crop((0, 0, 640, 400)), quality=95).read_bytes()
    (tmp_path / "camera.mjpeg").write_bytes(frame * 5)
    driver = start(f"--use-file-for-fake-video-capture={tmp_path / 'camera.mjpeg'}")
    driver.get(address)
    _wait(driver, "Ready")
    driver.find_element(By.ID, "camera").click()
    assert re.match(r"\d+ found in \d+×\d+ pixels, \d+ ms", _wait(driver, "found in"))
    assert len(_drawn(driver)) >= 4
    driver.find_element(By.ID, "camera").click()
    _wait(driver, "closed")
    assert len(_drawn(driver)) == 0


def test_points_are_drawn_where_a_model_has_them(browser: Any, runtime: WebRuntime, tmp_path: Path) -> None:
    save_model(random_model(NETWORKS["points"]), tmp_path / "model")
    main(Options(output_dir=tmp_path / "site", models=(str(tmp_path / "model"),), runtime=runtime))
    server = _offer(tmp_path / "site")
    browser.get(f"http://127.0.0.1:{server.server_port}/index.html")
    _wait(browser, "Ready")
    picture = _made(tmp_path, "part.png", lambda picture: picture.crop((80, 70, 280, 230)))
    _choose(browser, picture)
    rows = json.loads(browser.find_element(By.ID, "json").get_attribute("textContent"))["detections"]
    circles = browser.find_elements(By.CSS_SELECTOR, "#boxes circle")
    found = Detector.load(tmp_path / "model")(read_picture(picture))
    assert found.landmarks is not None
    assert len(rows) == len(found) > 0
    assert len(circles) == 5 * len(rows)
    assert np.allclose([row["landmarks"] for row in rows], found.landmarks, atol=0.01)
    server.shutdown()
