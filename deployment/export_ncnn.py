"""Export a model to ncnn's two files, checked by running them against another engine before anything is written."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deployment.parity import TOLERANCE, measure_engine, probe_images
from lffd import cli
from lffd.engines.runtime import Runtime
from lffd.errors import UsageError
from lffd.files import OutputFolder, write_together
from lffd.graphs.ncnn_graph import ncnn_files
from symbol_farm.trained_models import resolve_model


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to export, and where to."""

    model: str
    """Shipped name, model directory, or VERSION=FILE.params."""
    output_dir: Path
    """Folder for model.param and model.bin."""
    tolerance: float = TOLERANCE
    """Largest difference from the reference engine, of scores and of box codes; more refuses the export."""


def main(options: Options) -> None:
    """Export a model to ncnn: model.param lists the layers, model.bin holds the weights.

    The input blob is `data` (`ncnn::Mat::from_pixels` with PIXEL_BGR, nothing subtracted); the output blobs, score and
    box code of each branch, are printed. The files are run first and compared with MXNet, or with
    PyTorch or ONNX Runtime where it is missing.
    """
    model = resolve_model(options.model)
    with OutputFolder(options.output_dir) as folder:
        for name in ("model.param", "model.bin"):
            if not folder.may_write(options.output_dir / name):
                raise UsageError(f"{options.output_dir / name} was not made by this command: choose another folder")
        parity = measure_engine(model, model, Runtime("ncnn", threads=1), probe_images(model.network))
        parity.check(options.tolerance)
        files = ncnn_files(model)
        contents = {"model.param": files.param.encode(), "model.bin": files.weights}
        write_together({folder.claim(options.output_dir / name): data for name, data in contents.items()})
    print(parity.to_text())
    print(f"wrote model.param and model.bin to {options.output_dir}; input blob data, output blobs:")
    for index, branch in enumerate(model.network.branch_geometry):
        low, high = branch.object_range
        print(
            f"  {low:g}–{high:g} px: {', '.join(f'{name}_{index}' for name in model.network.outputs)}; centre "
            f"{branch.first_center} + {branch.stride} × cell, box code {branch.code!r} × {branch.normalizer:g} px"
        )


if __name__ == "__main__":
    cli.run(main)
