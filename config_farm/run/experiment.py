"""The whole description of a training run: what a config script declares and the command line overrides."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from data_iterator_farm.policies import JitterPolicy, LabelPolicy, PresetName, SamplingPolicy, preset
from lffd.graphs.network import Network
from lffd.limits import LIMITS, check_batch_memory, check_limits
from lffd.training.choice import TrainingEngineName, TrainingPrecision
from lffd.training.initialization import Initialization
from lffd.training.options import LossOptions, OptimizerOptions, ScheduleOptions


@dataclass(frozen=True)
class Experiment:
    """One training run; every field is a command-line flag of the same name."""

    version: Annotated[str, tyro.conf.Fixed]
    """Full name of the network's version; fixed by the config script."""
    landmarks: bool = False
    """Find five points of each face too (eyes, nose, mouth corners). Faces without points in the data teach their box
    alone."""
    preset: PresetName = "ours"
    """Where the defaults below come from: our recipe, or the published one."""
    train_data: str | None = None
    """Pack to learn from (made by lffd pack), or synthetic:COUNT for drawn faces."""
    val_data: str | None = None
    """Pack to validate on, or synthetic:COUNT; none by default."""
    output_dir: Path = Path("runs/lffd")
    """Receives model/, best/, checkpoints/, metrics.jsonl, log.txt and curves.png."""
    resume: bool = False
    """Go on from the newest whole checkpoint in the output directory."""
    init_from: str | None = None
    """Start from a model: a shipped name, a model directory, VERSION=FILE.params; or from a run's checkpoints/. The
    learning rate is then 0.04 of the default, unless --schedule.learning-rate is given."""
    init_partial: bool = False
    """With --init-from: go on although less than half of the parameters fit this network; the rest starts random."""
    iterations: int = 100_000
    """Updates of the parameters."""
    batch_size: int = 16
    """Crops per step and worker (of all its devices together)."""
    accumulate: int = 1
    """Steps whose gradients are summed into one update."""
    input_size: int = 640
    """Side of the square crops in pixels."""
    seed: int = 0
    """Of every random choice."""
    threads: int = 2
    """Threads that make batches."""
    processes: int = 0
    """Processes that make batches instead of threads, for GPUs that take more than some 700 crops per second; or 0."""
    cache_gib: float = 0.0
    """GiB of memory for images that stay decoded (all processes together)."""
    skip_bad_records: bool = False
    """Replace records that cannot be used instead of stopping; they are counted and logged."""
    engine: TrainingEngineName = "auto"
    """What computes: auto takes torch, the faster one, where it is installed, and mxnet otherwise."""
    device: str = "cpu"
    """cpu, gpu:0 (cuda:0), or several such as gpu:0,gpu:1."""
    precision: TrainingPrecision = "auto"
    """Arithmetic of the convolutions: auto takes bf16 where the torch engine finds instructions for it, else fp32."""
    compiled: bool = False
    """Let torch.compile fuse the network (torch engine; the first step then takes a minute or more)."""
    checkpoint_every: int = 500
    """Iterations between checkpoints; 0 for one at the end."""
    validate_every: int = 2000
    """Iterations between validations, each of which also draws curves.png; 0 for one at the end."""
    val_images: int = 0
    """Validate on so many images of the pack, spread evenly; 0 for all."""
    val_pictures: int = 0
    """At the end, draw the model's detections on so many validation images into pictures/."""
    patience: int = 0
    """Stop after so many validations without a better AP; 0 never stops early."""
    log_every: int = 20
    """Iterations between lines of metrics.jsonl."""
    tensorboard: bool = False
    """Also write TensorBoard events (needs the extra tensorboard)."""
    kvstore: Literal["dist_sync", "dist_device_sync"] | None = None
    """MXNet's parameter server, for runs started by lffd launch."""
    distill: str | None = None
    """Learn from another detector too, cell by cell on the same crops: peer:scrfd=FILE.onnx, one of our models, or the
    folder that lffd record-teacher made."""
    batch_norm: bool = True
    """Train with batch normalisation; it is folded into the weights of every saved model."""
    initialization: Initialization = "prior"
    """How untrained parameters start."""
    loss: LossOptions = field(default_factory=LossOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    sampling: SamplingPolicy = field(default_factory=SamplingPolicy)
    jitter: JitterPolicy = field(default_factory=JitterPolicy)
    labels: LabelPolicy = field(default_factory=LabelPolicy)

    def __post_init__(self) -> None:
        """Refuse counts that cannot be."""
        counts = {f.name for f in dataclasses.fields(self)} & LIMITS.keys()
        check_limits(self, *sorted(counts))
        check_batch_memory(self.batch_size, self.input_size)


FREE_ON_RESUME = frozenset((
    "output_dir", "resume", "iterations", "init_from", "init_partial", "threads", "processes", "cache_gib",
    "skip_bad_records", "engine", "device", "precision", "compiled", "checkpoint_every", "validate_every", "val_images",
    "val_data", "val_pictures", "train_data", "patience", "log_every", "tensorboard",
))  # fmt: skip
"""Fields that a resumed run may change: where things are, how fast and how far it goes, how often it looks up."""


def recipe(network: Network, name: PresetName) -> Experiment:
    """Return the defaults of a preset for a network.

    `ours`: batch normalisation, quality focal and DIoU losses, AdamW, cosine schedule, EMA, mosaics. `published`: as
    the paper and its code describe (arXiv 1904.10633, section 3.3), without the code's faults: cross-entropy with five
    hard negatives per positive, squared error, SGD in steps, no batch normalisation, two million iterations.
    """
    base = Experiment(
        version=network.name,
        preset=name,
        input_size=network.train_input,
        output_dir=Path("runs") / network.name,
        **preset(name, network)._asdict(),
    )
    if name == "ours":
        return base
    return dataclasses.replace(
        base,
        iterations=2_000_000,
        batch_norm=False,
        initialization="xavier",
        loss=LossOptions(
            score="cross-entropy",
            box="l2",
            score_weight=1.0,
            box_weight=1.0,
            normalizer="published",
            negatives_per_positive=5.0,
        ),
        optimizer=OptimizerOptions(name="sgd", weight_decay=1e-5, clip_norm=0.0, ema=0.0),
        schedule=ScheduleOptions(learning_rate=0.1, shape="steps", warm_up=0),
    )
