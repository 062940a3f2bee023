"""Training with PyTorch: CPUs and any present GPU, bfloat16, several GPUs and machines through `torchrun`.

Parameters, gradients, optimizer state and moving average are one vector each (`FlatTensors`), so that an update is a
dozen operations however many layers there are, and workers exchange all gradients in one. Images cross to the GPU as
uint8 from pinned memory, on a stream of their own, while the step before still runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lffd.engines.torch_devices import describe_device, parse_device, prepare_for_training
from lffd.engines.torch_module import BatchStatistics, GraphModule
from lffd.graphs import batch_norm
from lffd.graphs.network import Network
from lffd.training.engine import StepReport, TrainingBatch, check_state, loss_divisors
from lffd.training.losses import statistic_names
from lffd.training.options import LossOptions, OptimizerOptions
from lffd.training.torch.flat import FlatTensors
from lffd.training.torch.losses import Labels, Targets, collect_labels, training_loss
from lffd.training.torch.workers import Workers


@dataclass(frozen=True)
class TorchReport:
    """A step that may still be running: numbers on their way to the host.

    Attributes:
        values: float64; the statistics branch by branch, the loss, the gradient's norm.
        names: of the statistics.
        arrival: when they are there; None for at once.
    """

    values: Tensor
    names: tuple[str, ...]
    arrival: torch.cuda.Event | None

    def wait(self) -> StepReport:
        """Return the report; waits for the device."""
        if self.arrival is not None:
            self.arrival.synchronize()
        values = self.values.numpy()
        statistics = dict(zip(self.names, values[:-2].reshape(-1, len(self.names)).T, strict=True))
        return StepReport(statistics, float(values[-2]), float(values[-1]))


class TorchTrainingEngine:
    """Holds parameters, optimizer state and moving average, and makes steps; see `TrainingEngine`.

    Attributes:
        name: `torch`.
        device: the device's name and the precision.
        rank, workers: this process among those that `torchrun` started; 0 of 1 otherwise.
    """

    name = "torch"

    def __init__(
        self,
        network: Network,
        initial: Mapping[str, NDArray[Any]],
        *,
        loss: LossOptions,
        optimizer: OptimizerOptions,
        device: str = "cpu",
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        """Set up the network and its losses.

        Args:
            network: the declaration.
            initial: `arg:NAME` and `aux:NAME` arrays to start from.
            loss: what is taught.
            optimizer: how to update.
            device: `cpu` or `cuda:0`; under `torchrun` each process takes the GPU of its local rank.
            precision: `fp32`, or `bf16` for convolutions and activations; parameters, normalisation statistics, losses
                and updates stay in float32.
            compiled: let `torch.compile` fuse the network. The first step then takes a minute or more and needs a C++
                compiler (CPU) or Triton (GPU).

        Raises:
            EngineError: when this PyTorch cannot use the device.
        """
        self._workers = Workers()
        self.rank, self.workers = self._workers.rank, self._workers.size
        self._place = parse_device(self._workers.device_name(device))
        self._workers.join(self._place)
        self.device = f"{describe_device(self._place)}, {precision}"
        self._loss, self._optimizer, self._half = loss, optimizer, precision == "bf16"
        prepare_for_training(self._place)
        self._copying = torch.cuda.Stream(self._place) if self._place.type == "cuda" else None
        self._params, self._states = (FlatTensors(shapes, self._place) for shapes in _shapes(initial))
        self._gradients = self._params.like()
        self._decayed = next((start for name, start in self._params.starts.items() if not _decays(name)), None)
        self._moments = {role: self._params.like() for role in _MOMENTS[optimizer.name]}
        self._averages = {"arg": self._params.like(), "aux": self._states.like()} if optimizer.ema else {}
        self._updates = 0
        self._network = network
        graph = batch_norm.training_graph(network, batch_norm=bool(self._states.shapes))
        self._module = GraphModule(graph, {**self._params.views, **self._states.views}).train()
        cancelled = batch_norm.cancelled_biases(self._params.views)
        for name, parameter in self._module.named_parameters():
            parameter.requires_grad_(name not in cancelled)
            parameter.grad = self._gradients.views[name]  # backward adds in place
        self._run = torch.compile(self._module.run) if compiled else self._module.run
        self._take(initial)

    def _take(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Start from these parameters, the same for all workers, and let the average start from them too."""
        self._params.fill(arrays, "arg:")
        self._states.fill(arrays, "aux:")
        self._workers.share(self._params.vector, self._states.vector)
        for kind, average in self._averages.items():
            average.vector.copy_((self._params if kind == "arg" else self._states).vector)

    def step(self, batches: Sequence[TrainingBatch], learning_rate: float) -> TorchReport:
        """Make one update; see `TrainingEngine.step`."""
        labels = [collect_labels(batch) for batch in batches]
        positives = np.sum([found.counts["objects"] for found in labels], axis=0, dtype=np.float64)
        counts = self._workers.add_counts(positives)
        divisor = self._to_device(loss_divisors(counts, self._loss.normalizer, batches, self.workers))
        self._gradients.vector.zero_()
        names = statistic_names(list(batches[0].targets[0]))
        sums = torch.zeros(len(positives) * len(names) + 1, dtype=torch.float64, device=self._place)
        for batch, found in zip(batches, labels, strict=True):
            images = self._to_device(batch.images)
            sums += self._accumulate(images, self._targets(found), divisor)
        self._workers.add(self._gradients.vector)
        self._workers.add(sums)
        self._workers.average(self._states.vector)
        with torch.no_grad():
            norm = self._update(learning_rate)
        return self._report(torch.cat([sums, norm.double().reshape(1)]), names)

    def agree(self, code: int) -> int:
        """Return the largest code of all workers; see `TrainingEngine.agree`."""
        codes = np.zeros(self.workers)
        codes[self.rank] = code
        return int(self._workers.add_counts(codes).max())

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        """Start copying an array to the device; what is queued there later waits for it, the host does not."""
        tensor = torch.from_numpy(array)
        if self._copying is None:
            return tensor
        with torch.cuda.stream(self._copying):
            tensor = tensor.pin_memory().to(self._place, non_blocking=True)
        current = torch.cuda.current_stream(self._place)
        current.wait_stream(self._copying)
        tensor.record_stream(current)
        return tensor

    def _targets(self, labels: Labels) -> Targets:
        positions, values = (
            {name: self._to_device(array) for name, array in group.items()}
            for group in (labels.positions, labels.values)
        )
        return Targets(self._to_device(labels.classes), positions, labels.counts, values)

    def _accumulate(self, images: Tensor, targets: Targets, divisor: Tensor) -> Tensor:
        """Add one batch's gradient and move the running statistics; return statistics and loss in one float64 row."""
        with torch.autocast(self._place.type, torch.bfloat16, enabled=self._half):
            outputs, seen = self._run(images.permute(0, 3, 1, 2).float())
        said = self._network.by_branch(outputs)
        loss, statistics = training_loss(self._network, said, targets, divisor, self._loss)
        loss.backward()
        if seen:
            self._states.vector.lerp_(self._states.pack(_named_statistics(self._module, seen)), 1 - batch_norm.MOMENTUM)
        return torch.cat([statistics.flatten(), loss.detach().reshape(1)]).double()

    def _update(self, rate: float) -> Tensor:
        """Apply one optimizer step and move the average along; return the gradient's norm before clipping."""
        options, gradient, vector = self._optimizer, self._gradients.vector, self._params.vector
        norm = torch.linalg.vector_norm(gradient)
        scale = (options.clip_norm / (norm + 1e-6)).clamp(max=1.0) if options.clip_norm else norm.new_ones(())
        # A gradient that is not finite moves nothing, and stays readable for `nonfinite`.
        gradient = torch.where(norm.isfinite(), gradient * scale, 0.0)
        self._updates += 1
        decayed = slice(0, self._decayed)
        if options.name == "sgd":
            momentum = self._moments["momentum"].vector
            momentum.mul_(options.momentum).add_(gradient)
            momentum[decayed].add_(vector[decayed], alpha=options.weight_decay)
            vector.add_(momentum, alpha=-rate)
        else:
            mean, variance = (self._moments[role].vector for role in _MOMENTS["adamw"])
            mean.lerp_(gradient, 1 - options.momentum)
            variance.mul_(options.beta2).addcmul_(gradient, gradient, value=1 - options.beta2)
            root = (variance / (1 - options.beta2**self._updates)).sqrt_().add_(options.epsilon)
            vector[decayed].mul_(1 - rate * options.weight_decay)
            vector.addcdiv_(mean, root, value=-rate / (1 - options.momentum**self._updates))
        decay = min(options.ema, (1 + self._updates) / (10 + self._updates))
        for kind, average in self._averages.items():
            average.vector.lerp_((self._params if kind == "arg" else self._states).vector, 1 - decay)
        return norm

    def _report(self, values: Tensor, names: tuple[str, ...]) -> TorchReport:
        if self._copying is None:
            return TorchReport(values, names, None)
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrival = torch.cuda.Event()
        arrival.record()
        return TorchReport(host, names, arrival)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that the next step depends on; see `TrainingEngine.state`."""
        found: dict[str, NDArray[Any]] = {"optimizer:updates": np.array([self._updates], np.int64)}
        for prefix, tensors in self._stored().items():
            found |= tensors.read(prefix)
        return found

    def _stored(self) -> dict[str, FlatTensors]:
        """Return all state by the prefix of its names."""
        averages = {f"ema:{kind}:": average for kind, average in self._averages.items()}
        moments = {f"optimizer:{role}:": moment for role, moment in self._moments.items()}
        return {"arg:": self._params, "aux:": self._states, **averages, **moments}

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a state that `state` returned; see `TrainingEngine.load_state`."""
        stored = self._stored()
        shapes = {prefix + name: shape for prefix, part in stored.items() for name, shape in part.shapes.items()}
        check_state({**shapes, "optimizer:updates": (1,)}, arrays)
        for prefix, part in stored.items():
            part.fill(arrays, prefix)
        self._updates = int(arrays["optimizer:updates"][0])

    def deployable(self) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Return parameters and running statistics to evaluate and save; see `TrainingEngine.deployable`."""
        parts = self._averages or {"arg": self._params, "aux": self._states}
        return dict(parts["arg"].read()), dict(parts["aux"].read())

    def nonfinite(self) -> list[str]:
        """Return the parameters whose gradient or value holds NaN or Inf."""
        gradients, values = self._gradients.read(), self._params.read()
        return [n for n in values if not (np.isfinite(gradients[n]).all() and np.isfinite(values[n]).all())]


_MOMENTS = {"sgd": ("momentum",), "adamw": ("mean", "variance")}
"""What each optimizer remembers of every parameter."""


def _decays(name: str) -> bool:
    """Return whether weight decay acts on a parameter: on convolution weights only."""
    return name.endswith("_weight")


def _shapes(initial: Mapping[str, NDArray[Any]]) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Return the shapes of parameters, those that decay first, and of running statistics."""
    params, states = (
        {name.removeprefix(kind): value.shape for name, value in initial.items() if name.startswith(kind)}
        for kind in ("arg:", "aux:")
    )
    return dict(sorted(params.items(), key=lambda item: not _decays(item[0]))), states


def _named_statistics(module: GraphModule, seen: Sequence[BatchStatistics]) -> dict[str, Tensor]:
    """Return batch statistics under the names of the running ones."""
    values = (value for statistics in seen for value in statistics)
    return dict(zip(module.graph.state_names, values, strict=True))
