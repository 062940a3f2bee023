"""Rounds, ratios and failures, with stand-ins for the worker processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detection.selection import Selection
from inference_speed_evaluation import sweep
from inference_speed_evaluation.sweep import Contender, Effort, Row, Setting, measure_setting, with_peak
from lffd.errors import EngineError
from symbol_farm.versions import version_network

NETWORK = version_network("plate_small")


def _candidate(engine: str, precision: str = "fp32", model: str = "m") -> Contender:
    return Contender(model, "random weights", "place", engine, precision, NETWORK)


class _Workers:
    """Stands in for `WorkerProcess`: passes take scripted times, and the order of all calls is kept."""

    def __init__(self, forward: dict[str, list[float]], broken: dict[str, str] | None = None) -> None:
        self.forward = {name: iter(times) for name, times in forward.items()}
        self.broken = broken or {}
        self.calls: list[str] = []
        self.threads: set[int] = set()

    def __call__(self, threads: int, name: str) -> Any:
        outer = self
        outer.threads.add(threads)

        class _One:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *details: object) -> None: ...

            def close(self) -> None: ...

            def ask(self, **order: Any) -> dict[str, Any]:
                if outer.broken.get(name) == order["do"]:
                    raise EngineError(f"{name} is broken")
                if order["do"] != "pass":
                    return {}
                outer.calls.append(name.split()[1])
                forward = next(outer.forward[name.split()[1]])
                return {
                    "total": forward + 0.003,
                    "forward": forward,
                    "decode": 0.001,
                    "suppression": 0.0005,
                    "memory_mb": 7.0,
                }

        return _One()


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Row]]:
    def run(workers: _Workers, *candidates: Contender, effort: Effort) -> list[Row]:
        monkeypatch.setattr(sweep, "WorkerProcess", workers)
        setting = Setting(320, 240, batch=2, threads=3)
        return measure_setting(candidates, setting, images=Path("x.npy"), selection=Selection(), effort=effort)

    return run


def test_ratios_are_taken_round_by_round(measure: Any) -> None:
    """The machine halves its speed in the last two rounds: medians of times mislead, ratios do not."""
    workers = _Workers(
        {"mxnet": [9.0, 0.010, 0.010, 0.010, 0.020, 0.020], "ncnn": [9.0, 0.005, 0.005, 0.005, 0.010, 0.010]}
    )
    rows = measure(workers, _candidate("mxnet"), _candidate("ncnn"), effort=Effort(5, 1000, warmup=1))
    assert [row.ratio_to_mxnet for row in rows] == pytest.approx([1, 0.5])
    assert (rows[1].ratio_low, rows[1].ratio_high) == pytest.approx((0.5, 0.5))
    assert rows[1].forward_ms == pytest.approx(5)
    assert rows[1].forward_p95_ms == pytest.approx(10)
    assert rows[1].total_ms == pytest.approx(8)
    assert rows[1].other_ms == pytest.approx(1.5)
    assert rows[1].fps == pytest.approx(2 / 0.008)
    assert rows[1].rounds == 5
    gmac = sum(NETWORK.multiply_adds(240, 320).values()) / 1e9
    assert rows[1].gmac == pytest.approx(gmac)
    assert rows[1].gflops == pytest.approx(2 * gmac * 2 / 0.005)
    assert with_peak(rows[1], {3: 100.0}).peak_share == pytest.approx(2 * gmac * 2 / 0.005 / 100)
    assert with_peak(rows[1], {1: 100.0}) == rows[1]
    assert workers.threads == {3}


def test_every_round_starts_with_another_one(measure: Any) -> None:
    workers = _Workers({name: [0.01] * 9 for name in ("mxnet", "ncnn", "openvino")})
    candidates = [_candidate("mxnet"), _candidate("ncnn"), _candidate("openvino")]
    measure(workers, *candidates, effort=Effort(3, 1000, warmup=0))
    m, n, o = "mxnet", "ncnn", "openvino"
    assert workers.calls == [m, n, o, n, o, m, o, m, n]


def test_time_limit_still_allows_three_rounds(measure: Any) -> None:
    workers = _Workers({"mxnet": [0.01] * 99})
    rows = measure(workers, _candidate("mxnet"), effort=Effort(50, 0, warmup=2))
    assert rows[0].rounds == 3


@pytest.mark.parametrize("stage", ["load", "pass"])
def test_one_that_fails_leaves_the_others(measure: Any, stage: str) -> None:
    workers = _Workers({"mxnet": [0.01] * 9, "ncnn": [0.01] * 9}, broken={"m ncnn fp32": stage})
    rows = measure(workers, _candidate("mxnet"), _candidate("ncnn"), effort=Effort(3, 9, warmup=0))
    assert rows[0].error == ""
    assert rows[0].rounds == 3
    assert (rows[1].error, rows[1].total_ms) == ("m ncnn fp32 is broken", None)


def test_ratios_need_mxnet_and_the_same_model(measure: Any) -> None:
    workers = _Workers({"mxnet": [0.01] * 9, "ncnn": [0.01] * 9})
    rows = measure(workers, _candidate("mxnet"), _candidate("ncnn", model="other"), effort=Effort(3, 9, warmup=0))
    assert rows[1].ratio_to_mxnet is None
    assert rows[1].total_ms is not None


def test_only_fp32_is_compared_with_the_fp32_peak(measure: Any) -> None:
    workers = _Workers({"openvino": [0.01] * 9})
    rows = measure(workers, _candidate("openvino", "bf16"), effort=Effort(3, 9, warmup=0))
    assert rows[0].gflops is not None
    assert with_peak(rows[0], {3: 10.0}).peak_share is None
