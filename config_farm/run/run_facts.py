"""What a run must remember to be recognised, and to be repeated."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform

import numpy as np

from lffd.records import RecordSource

_SAMPLE = 64
_DISTRIBUTIONS = {"mxnet": "mxnet", "torch": "torch"}


def data_sample(source: RecordSource) -> str:
    """Return a digest of up to 64 records spread over a source: their names, images and boxes."""
    digest = hashlib.sha256()
    for index in np.linspace(0, len(source), min(_SAMPLE, len(source)), endpoint=False).astype(int).tolist():
        record = source[index]
        for part in (record.name.encode(), record.image, record.boxes.tobytes(), record.ignored.tobytes()):
            digest.update(part)
    return digest.hexdigest()


def library_versions(engine: str) -> dict[str, str]:
    """Return the versions of Python and of the libraries that a training's numbers depend on."""
    names = ("numpy", "opencv-python-headless", "simplejpeg", _DISTRIBUTIONS.get(engine, engine))
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found
