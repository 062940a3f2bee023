"""Batches as an `mx.io.DataIter`, for programs that train with MXNet's own loops.

`from data_iterator_farm.mxnet_iter import LFFDDataIter` imports MXNet, importing this module alone does not.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_iterator_farm.batch_loader import BatchLoader
from lffd.engines.mxnet_engine import import_mxnet
from lffd.errors import UsageError

ImageType = Literal["float32", "uint8"]


def image_array(images: NDArray[np.uint8], image_type: ImageType) -> NDArray[Any]:
    """Return images `(B, S, S, 3)` uint8 BGR as what the graph takes.

    `float32` gives `(B, 3, S, S)`, 0–255, the input of the networks of `symbol_farm`; `uint8` leaves them as they are,
    a quarter of the bytes, for graphs that convert on the device.
    """
    if image_type == "uint8":
        return images
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)


@cache
def _iterator_class() -> type:
    """Return the class, which can only be made once MXNet is imported."""
    mx = import_mxnet()

    class LFFDDataIter(mx.io.DataIter):  # type: ignore[name-defined]
        """Batches of a `BatchLoader` as `mx.io.DataBatch`es; `index` is that in the whole stream of batches.

        Data is `data`; labels are `score_0`, `box_0`, `score_1`, … with the shapes and types of `Batch.targets`.
        An epoch is a number of batches; `reset` begins the next one, and the stream of batches goes on.

        Args:
            loader: an open loader; closing it stays with the caller.
            epoch_size: batches per epoch.
            image_type: see `image_array`. On a CPU `float32` is faster, as NumPy transposes twice as fast as MXNet;
                on a GPU `uint8` is.

        Raises:
            UsageError: when `epoch_size` is below 1, or `image_type` unknown.
        """

        def __init__(self, loader: BatchLoader, epoch_size: int, image_type: ImageType = "float32") -> None:
            count, side = loader.plan.batch_size, loader.plan.input_size
            super().__init__(count)
            if epoch_size < 1 or image_type not in ("float32", "uint8"):
                raise UsageError(f"epoch_size {epoch_size} must be at least 1, image_type {image_type!r} known")
            self._loader, self._epoch_size, self._image_type, self._done = loader, epoch_size, image_type, 0
            shapes = {"float32": (count, 3, side, side), "uint8": (count, side, side, 3)}
            layout = "NCHW" if image_type == "float32" else "NHWC"
            self.provide_data = [mx.io.DataDesc("data", shapes[image_type], np.dtype(image_type).type, layout)]
            self.provide_label = [
                mx.io.DataDesc(f"{name}_{index}", (count, *shape), kind, "NCHW")
                for index, said in enumerate(loader.targets)
                for name, (shape, kind) in said.items()
            ]

        def reset(self) -> None:
            """Begin the next epoch."""
            self._done = 0

        def next(self) -> Any:
            """Return the next batch of the epoch."""
            if self._done == self._epoch_size:
                raise StopIteration
            batch = next(self._loader)
            self._done += 1
            images = image_array(batch.images, self._image_type)
            data = [mx.nd.array(images, dtype=images.dtype)]
            label = [mx.nd.array(maps, dtype=maps.dtype) for said in batch.targets for maps in said.values()]
            described = {"provide_data": self.provide_data, "provide_label": self.provide_label}
            return mx.io.DataBatch(data, label, pad=0, index=batch.index, **described)

    return LFFDDataIter


def __getattr__(name: str) -> Any:
    """Make `LFFDDataIter` when it is first asked for."""
    if name == "LFFDDataIter":
        return _iterator_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
