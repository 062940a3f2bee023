"""What the JSON formats of annotations share: documents, lists of numbers and sizes, all of them checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lffd.errors import DataError
from lffd.untrusted import shown


def parse_json(text: str, path: Path, what: str, line: int = 1) -> Any:
    """Return the JSON document that `text`, from `line` of a file on, is; `what` names its kind in errors."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno + line - 1}: is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise DataError(f"{path}: is nested too deeply for {what}") from error
    except ValueError as error:
        raise DataError(f"{path}: holds a number of thousands of digits") from error


def numbers(values: Any, where: str, name: str, layout: str) -> list[float]:
    """Return a list of numbers that fits a layout such as `[x, y] or [x, y, visible]`, which errors show."""
    lengths = {part.count(",") + 1 for part in layout.split(" or ")}
    plain = isinstance(values, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if not plain or len(values) not in lengths:
        raise DataError(f"{where}: {name} must be {layout}, not {shown(values)}")
    try:
        return [float(value) for value in values]
    except OverflowError as error:
        raise DataError(f"{where}: {name} has a number that is too large") from error


def image_size(entry: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """Return the size that an entry claims for its image, if it does."""
    width, height = entry.get("width"), entry.get("height")
    if width is None or height is None:
        return None
    if not isinstance(width, int) or not isinstance(height, int) or width < 1 or height < 1:
        sizes = f"{shown(width)} and {shown(height)}"
        raise DataError(f"{where}: width and height must be whole numbers of pixels, not {sizes}")
    return width, height
