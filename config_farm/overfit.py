"""Can the network learn one image by heart? The first thing to ask of new data or a new version."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from accuracy_evaluation.output_files import write_json
from config_farm.run.assembly import train
from config_farm.run.experiment import Experiment, recipe
from config_farm.run.script import changed
from data_iterator_farm.policies import SamplingPolicy
from data_provider_farm.pack_format.packed_file import PackReader, PackWriter
from lffd import cli
from lffd.errors import UsageError
from lffd.files import check_output
from lffd.graphs.network import Network
from lffd.training.choice import TrainingEngineName
from lffd.training.options import ScheduleOptions
from lffd.training.run_log import METRICS_FILE, read_metrics
from symbol_farm.versions import version_network


@dataclass(frozen=True)
class Options:
    """Which image, and which network."""

    pack: Annotated[Path, tyro.conf.Positional]
    """The pack's .rec file."""
    index: int = 0
    """Which of its images."""
    version: str = "v2"
    """Short or full version name."""
    input_size: int = 320
    """Side of the crops in pixels."""
    batch_size: int = 4
    """Crops of the image per step."""
    iterations: int = 290
    """Steps at most."""
    check_every: int = 29
    """Steps between measurements."""
    engine: TrainingEngineName = "auto"
    """auto, mxnet or torch."""
    json: Path | None = None
    """Write the AP after each check to this file."""


def experiment_for(network: Network, options: Options, pack: str, folder: Path) -> Experiment:
    """Return a run that shows the network one image over and over, plainly: no mosaics, no jitter, no average."""
    high = network.object_range[1]
    return changed(
        recipe(network, "ours"),
        {
            **{name: getattr(options, name) for name in ("iterations", "batch_size", "input_size", "engine")},
            **dict.fromkeys(("train_data", "val_data"), pack),
            **dict.fromkeys(("validate_every", "log_every"), options.check_every),
            "output_dir": folder,
            "checkpoint_every": 0,
            # Faces keep their size, because that is how AP sees them; some crops lie anywhere, to learn what is none.
            "sampling": SamplingPolicy(
                side_range=(high, high), max_upscale=1, redraws=0, flip=0, random_window=0.25, mosaic=0, mosaic_fill=0
            ),
            "jitter.probability": 0.0,
            "optimizer.ema": 0.0,
            "schedule": ScheduleOptions(learning_rate=3e-3, warm_up=20),
        },
    )


def main(options: Options) -> int:
    """Train on a single image of a pack and measure AP on the same image; exit code 1 when it never reaches 1.0.

    Example: lffd overfit val.rec --index 41 --version v2
    """
    check_output(options.json, [options.pack], ('{"image":',))
    network = version_network(options.version)
    with tempfile.TemporaryDirectory() as folder:
        pack = Path(folder) / "one.rec"
        with PackReader(options.pack) as source, PackWriter(pack) as single:
            if not 0 <= options.index < len(source):
                raise UsageError(f"--index {options.index}: {options.pack} holds images 0–{len(source) - 1}")
            record = source[options.index]
            single.add(record)
        print(f"{record.name}: {record.width}x{record.height} px, {int((~record.ignored).sum())} objects")
        if code := train(network, experiment_for(network, options, str(pack), Path(folder) / "run")):
            return code
        entries = read_metrics(Path(folder) / "run" / METRICS_FILE)
    checks = [{"iteration": e["iteration"], **e["validation"]} for e in entries if "validation" in e]
    reached = next((check["iteration"] for check in checks if check["AP50"] >= 0.9999), None)
    write_json(options.json, {"image": record.name, "reached": reached, "checks": checks})
    best = max(check["AP50"] for check in checks)
    print(f"AP50 1.0 at iteration {reached}" if reached else f"AP50 never reached 1.0; best {best:.4f}")
    return 0 if reached else 1


if __name__ == "__main__":
    cli.run(main)
