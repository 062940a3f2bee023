"""What a run says while it works: one live line, a readable log, `metrics.jsonl`, `curves.png`, TensorBoard events."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from lffd.errors import UsageError
from lffd.figures import write_figure
from lffd.files import naming, write_atomic
from lffd.hints import pip_command

METRICS_FILE, LOG_FILE, CURVES_FILE = "metrics.jsonl", "log.txt", "curves.png"


class Curve(NamedTuple):
    """A figure of every branch that `curves.png` shows: its key in `branches`, a title, and whether on a log scale."""

    key: str
    title: str
    log: bool = False


class RunLog:
    """Writes a run's records; use as a context manager.

    Args:
        folder: the run's output directory.
        first: iteration that the run starts from; later lines of an earlier try are removed from `metrics.jsonl`.
        iterations: total of the run.
        curves: what to draw of each branch beside the run's own figures.
        tensorboard: also write TensorBoard events into `folder/tensorboard`.
        quiet: no live line and no console output (workers other than the first).
    """

    def __init__(
        self,
        folder: Path,
        first: int,
        iterations: int,
        curves: Sequence[Curve] = (),
        *,
        tensorboard: bool = False,
        quiet: bool = False,
    ) -> None:
        self._folder, self._metrics = folder, folder / METRICS_FILE
        self._curves, self._quiet = curves, quiet
        if not quiet:
            _keep_until(self._metrics, first)
        live = sys.stderr.isatty()
        pace = {"mininterval": 0.5 if live else 30, "dynamic_ncols": True}
        self._bar = tqdm(total=iterations, initial=first, unit="it", disable=quiet, **pace)
        self._can_draw = importlib.util.find_spec("matplotlib") is not None
        if not self._can_draw:
            self.say(f"{CURVES_FILE} will not be drawn: Matplotlib is not installed; {METRICS_FILE} has the figures")
        self._board = _tensorboard(folder) if tensorboard and not quiet else None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
        if self._board is not None:
            self._board.close()

    def say(self, text: str) -> None:
        """Write a line to the console and the log."""
        if not self._quiet:
            self._bar.write(text, file=sys.stderr)
            self._append(LOG_FILE, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    def _append(self, name: str, line: str) -> None:
        """Append a line to one of the run's files."""
        path = self._folder / name
        with naming(path), path.open("a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")

    def advance(self, status: str) -> None:
        """Move the live line on by one iteration."""
        self._bar.set_postfix_str(status, refresh=False)
        self._bar.update()

    def record(self, entry: dict[str, Any]) -> None:
        """Append one line to `metrics.jsonl`, and its numbers to TensorBoard."""
        if self._quiet:
            return
        self._append(METRICS_FILE, json.dumps(entry, allow_nan=False))
        self._append(LOG_FILE, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {_readable(entry)}")
        if self._board is not None:
            for name, value in _numbers(entry).items():
                self._board.add_scalar(name, value, entry["iteration"])

    def draw_curves(self) -> None:
        """Redraw `curves.png` from `metrics.jsonl`; a machine that only trains may lack Matplotlib."""
        if not self._quiet and self._can_draw:
            _draw(read_metrics(self._metrics), self._curves, self._folder / CURVES_FILE)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a `metrics.jsonl`; a half-written last line is left out."""
    entries = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def _keep_until(path: Path, iteration: int) -> None:
    """Drop the lines that a resumed run will write again."""
    if path.exists():
        kept = [entry for entry in read_metrics(path) if entry["iteration"] <= iteration]
        write_atomic(path, "".join(json.dumps(entry) + "\n" for entry in kept).encode())


def _numbers(entry: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of an entry by slash-joined name."""
    found: dict[str, float] = {}
    for key, value in entry.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found |= _numbers(value, f"{name}/")
        elif isinstance(value, list):
            found |= _numbers({str(index): item for index, item in enumerate(value)}, f"{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    return found


def _readable(entry: dict[str, Any]) -> str:
    """Return an entry as one line for people."""
    plain = {k: v for k, v in entry.items() if not isinstance(v, list)}
    parts = [f"{name} {value:.5g}" for name, value in _numbers(plain).items()]
    for index, branch in enumerate(entry.get("branches", [])):
        parts.append(f"[{index}] " + " ".join(f"{k} {v:.4g}" for k, v in branch.items() if v is not None))
    return "  ".join(parts)


def _tensorboard(folder: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UsageError(f"TensorBoard events need the extra: {pip_command('tensorboard')}") from error
    return SummaryWriter(str(folder / "tensorboard"))


def _draw(entries: list[dict[str, Any]], curves: Sequence[Curve], path: Path) -> None:
    """Draw loss and learning rate, validation, and those curves of the branches that the run has, over iterations."""
    from matplotlib.figure import Figure

    steps = [entry for entry in entries if "loss" in entry]
    checks = [entry for entry in entries if "validation" in entry]
    drawn = [curve for curve in curves if steps and curve.key in steps[-1]["branches"][0]]
    rows = math.ceil((len(drawn) + 2) / 3)
    figure = Figure(figsize=(12, 3.5 * rows), layout="constrained")
    panels = figure.subplots(rows, 3, squeeze=False).ravel()
    x = [entry["iteration"] for entry in steps]
    panels[0].plot(x, [entry["loss"] for entry in steps], color="black")
    panels[0].set(title="loss (all branches, weighted)", yscale="log")
    rate = panels[0].twinx()
    rate.plot(x, [entry["learning_rate"] for entry in steps], color="tab:orange", lw=0.8)
    rate.set_ylabel("learning rate", color="tab:orange")
    for name in sorted({name for entry in checks for name in entry["validation"]}):
        points = [(e["iteration"], e["validation"][name]) for e in checks if name in e["validation"]]
        panels[1].plot(*zip(*points, strict=True), "o-", ms=3, label=name)
    panels[1].set(title="validation", ylim=(0, 1))
    for panel, curve in zip(panels[2:], drawn, strict=False):
        for index in range(len(steps[0]["branches"])):
            values = [entry["branches"][index].get(curve.key) for entry in steps]
            panel.plot(x, [np.nan if v is None else v for v in values], label=f"branch {index}", lw=1)
        panel.set(title=curve.title, yscale="log" if curve.log else "linear")
    for panel in panels:
        panel.set_xlabel("iteration")
        panel.grid(lw=0.3)
    for panel in panels[1:3]:
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=7)
    write_figure(figure, path, dpi=90)
