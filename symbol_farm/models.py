"""Command line: the models that come with the project, and the versions that can be trained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lffd import cli
from lffd.graphs.model import PARAMS_FILE, load_model
from symbol_farm.trained_models import shipped_models
from symbol_farm.versions import VERSIONS, version_network


@dataclass(frozen=True)
class Options:
    """How to list them."""

    json: bool = False
    """Print the list as JSON, with the folder of each model."""


def describe_models() -> list[dict[str, Any]]:
    """Return name, version, object range in pixels, parameters, megabytes and folder of every shipped model."""
    rows = []
    for name, folder in shipped_models().items():
        model = load_model(folder)
        rows.append(
            {
                "name": name,
                "version": model.network.name,
                "object_range": list(model.network.object_range),
                "parameters": model.parameter_count,
                "megabytes": (folder / PARAMS_FILE).stat().st_size / 1e6,
                "folder": str(folder),
            }
        )
    return rows


def main(options: Options) -> None:
    """List the models that come with the project (--model NAME), and the versions that can be trained."""
    rows = describe_models()
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'model':<14}{'version':<24}{'objects (px)':>14}{'parameters':>13}{'MB':>6}")
    for row in rows:
        low, high = row["object_range"]
        size = f"{row['parameters']:>13,}{row['megabytes']:>6.1f}"
        print(f"{row['name']:<14}{row['version']:<24}{f'{low:g}–{high:g}':>14}{size}")
    print("\nversions (lffd train VERSION):")
    for short, full in VERSIONS.items():
        network = version_network(full)
        low, high = network.object_range
        print(f"{short:<14}{full:<28}{f'{low:g}–{high:g}':>10}{network.parameter_count:>13,}")


if __name__ == "__main__":
    cli.run(main)
