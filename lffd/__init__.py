"""What all the farms share: geometry, boxes, experiments, the training loop, checkpoints, models and engines.

Nothing here imports a farm (`tests/test_imports.py` holds this), nothing runs at import, and MXNet is imported only
when a network is first built or run. Add here what more than one farm needs and what does not depend on a version.

For programs of one's own, these names can be imported from here; each loads its module when it is first asked for:

```python
from lffd import Detector

detector = Detector.load("face_light")
detector("photo.jpg")  # the detections, which a notebook shows as a picture
```
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "Branch": "graphs.branches",
    "Detector": "detection.detector",
    "Level": "symbol_farm.light_network",
    "Script": "config_farm.run.script",
    "Selection": "detection.selection",
    "Stage": "symbol_farm.lffd_network",
    "ViewSettings": "detection.views",
    "lffd_network": "symbol_farm.lffd_network",
    "light_network": "symbol_farm.light_network",
}
"""What this package hands on, and the modules that it comes from."""

__all__ = ["__version__", *_PLACES]  # noqa: PLE0604 - all of them are texts


def __getattr__(name: str) -> Any:
    """Return one of the names handed on."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lffd.farms import load

    return getattr(load(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
