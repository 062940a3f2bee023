"""The versions by their short and full names."""

from __future__ import annotations

import importlib
from types import ModuleType

from lffd.errors import UsageError
from lffd.graphs.landmarks import with_landmarks
from lffd.graphs.network import Network
from lffd.hints import unknown
from symbol_farm.own_version import is_version_file, run_version_file

VERSIONS: dict[str, str] = {
    "v1": "10_560_25L_8scales_v1",
    "v2": "10_320_20L_5scales_v2",
    "v3": "10_320_light_v3",
    "nano": "9_400_nano",
    "head": "10_160_17L_4scales_v1",
    "pedestrian": "30_320_20L_4scales_v1",
    "plate": "64_512_16L_3scales_v1",
    "plate_small": "64_512_16L_3scales_v1_small",
}
"""Short name to full name; the module is `symbol_farm.symbol_<full name>`."""

SYSTEMS = ("slim_320", "rfb_320", "retinaface_mnet025", "retinaface_r18", "retinaface_r50", "retinaface_r50_mxnet")
"""Other projects' detectors as networks here: one name each, and modules of the same form."""


def full_name(name: str) -> str:
    """Return the full name of a version, given its short or full name.

    Raises:
        UsageError: for an unknown name, with the nearest known one.
    """
    full = VERSIONS.get(name, name)
    if full not in (*VERSIONS.values(), *SYSTEMS):
        known = ", ".join((*VERSIONS, *SYSTEMS))
        choices = f"Known: {known}, or a file of your own such as my_version.py"
        raise UsageError(unknown(name, [*VERSIONS, *VERSIONS.values(), *SYSTEMS], "version", choices))
    return full


def version_module(name: str) -> ModuleType:
    """Return the symbol module of a version, given its short or full name; errors as `full_name`."""
    return importlib.import_module(f".symbol_{full_name(name)}", __package__)


def version_network(name: str, landmarks: bool = False) -> Network:
    """Return the declaration of a version, given its short or full name, or a file of the user's own, which runs.

    `landmarks` gives it five points as well.

    Raises:
        UsageError: for an unknown name, or a file that declares no network.
    """
    network: Network = run_version_file(name)["NETWORK"] if is_version_file(name) else version_module(name).NETWORK
    return with_landmarks(network) if landmarks else network
