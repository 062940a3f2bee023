"""Many images through one kind of detector, with every core of the machine busy: for test sets and folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections, ImageDetector
from lffd.ahead import map_ahead
from lffd.engines.runtime import Runtime

MOST = 16
"""Detectors at work at once; each holds the network's memory."""

Item = TypeVar("Item")
Fact = TypeVar("Fact")
Result = TypeVar("Result")


class Crew:
    """Detectors that are alike, one for each core, each with one thread: an image is decoded and looked at by one.

    That keeps cores busy where threads inside one network would wait for each other, for decoding and for suppression.
    Where `runtime` names threads, a GPU or MXNet, there is one detector, and only decoding runs ahead of it.

    Args:
        make: returns a detector that runs as it is told; the first one is made at once.
        runtime: how it should run.
        alone: one detector, with all threads for each image, as for a camera, or where there is but one image.

    Attributes:
        first: one of the detectors, to ask what they are; it may be at work.
        count: how many work at once.
    """

    def __init__(
        self, make: Callable[[Runtime], ImageDetector], runtime: Runtime | None = None, alone: bool = False
    ) -> None:
        runtime = runtime or Runtime()
        # MXNet takes its number of threads once, from the environment.
        alone = alone or runtime.threads is not None or runtime.device != "cpu" or runtime.engine == "mxnet"
        self.count = 1 if alone else min(len(os.sched_getaffinity(0)), MOST)
        if self.count > 1:
            runtime = replace(runtime, threads=1)
        self._make = partial(make, runtime)
        self.first, self._made, self._lock = self._make(), 1, Lock()
        self._free: SimpleQueue[ImageDetector] = SimpleQueue()
        self._free.put(self.first)

    def map(
        self,
        read: Callable[[Item], Fact],
        look: Callable[[ImageDetector, Fact], Result],
        items: Iterable[Item],
    ) -> Iterator[Result]:
        """Yield `look(detector, read(item))` for each item in order; one more item is read than detectors are busy.

        An error of either is raised at its item.
        """

        def work(item: Item) -> Result:
            fact = read(item)
            detector = self._take()
            try:
                return look(detector, fact)
            finally:
                self._free.put(detector)

        return map_ahead(work, items, 2 * self.count, workers=self.count + 1)

    def over(
        self, read: Callable[[Item], tuple[NDArray[np.uint8], Fact]], items: Iterable[Item]
    ) -> Iterator[tuple[Fact, Detections]]:
        """Yield what is in the image of each item, in order.

        `read` gives an item's image `(H, W, 3)` uint8 BGR and whatever else is wanted of it, which comes back with the
        detections.
        """
        return self.map(read, lambda detector, found: (found[1], detector(found[0])), items)

    def _take(self) -> ImageDetector:
        """Return a detector that nobody uses; the first time that all are taken, a new one."""
        with self._lock:
            if self._free.empty() and self._made < self.count:
                self._made += 1
                self._free.put(self._make())
        return self._free.get()
