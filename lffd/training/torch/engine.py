"""Training with PyTorch: CPUs and any present GPU, bfloat16, several GPUs and machines through `torchrun`.

Workers exchange all gradients as one vector (`FlatTensors`). Images cross to the GPU as uint8 from pinned memory, on a
stream of their own, while the step before still runs.
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
from lffd.training.engine import StepReport, TrainingBatch, loss_divisors, unpack_report
from lffd.training.flat import FlatState
from lffd.training.losses import statistic_names
from lffd.training.options import LossOptions, OptimizerOptions
from lffd.training.torch.flat import FlatTensors
from lffd.training.torch.losses import Targets, collect_labels, training_loss
from lffd.training.torch.workers import Workers


@dataclass(frozen=True)
class TorchReport:
    """A step that may still be running: float64 numbers, see `unpack_report`, on their way to the host.

    They are there after `arrival`; None is for at once.
    """

    values: Tensor
    names: tuple[str, ...]
    arrival: torch.cuda.Event | None

    def wait(self) -> StepReport:
        """Return the report; waits for the device."""
        if self.arrival is not None:
            self.arrival.synchronize()
        return unpack_report(self.values.numpy(), self.names)


class TorchTrainingEngine(FlatState[FlatTensors]):
    """Holds parameters, optimizer state and moving average, and makes steps; see `TrainingEngine`."""

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
        self._loss, self._half = loss, precision == "bf16"
        prepare_for_training(self._place)
        self._copying = torch.cuda.Stream(self._place) if self._place.type == "cuda" else None
        super().__init__(initial, optimizer, lambda shapes: FlatTensors(shapes, self._place))
        self._network = network
        graph = batch_norm.training_graph(network, batch_norm=bool(self._states.shapes))
        self._module = GraphModule(graph, {**self._params.views, **self._states.views}).train()
        cancelled = batch_norm.cancelled_biases(self._params.views)
        for name, parameter in self._module.named_parameters():
            parameter.requires_grad_(name not in cancelled)
            parameter.grad = self._gradient.views[name]  # backward adds in place
        self._run = torch.compile(self._module.run) if compiled else self._module.run
        self._start(initial)

    def _join(self) -> None:
        self._workers.share(self._params.vector, self._states.vector)

    def step(self, batches: Sequence[TrainingBatch], learning_rate: float) -> TorchReport:
        """Make one update; see `TrainingEngine.step`."""
        labels = [collect_labels(batch) for batch in batches]
        positives = np.sum([found.counts["objects"] for found in labels], axis=0, dtype=np.float64)
        counts = self._sum_over_workers("positives", positives)
        divisor = self._to_device(loss_divisors(counts, self._loss.normalizer, batches, self.workers))
        self._gradient.vector.zero_()
        names = statistic_names(list(batches[0].targets[0]))
        sums = torch.zeros(len(positives) * len(names) + 1, dtype=torch.float64, device=self._place)
        for batch, found in zip(batches, labels, strict=True):
            images = self._to_device(batch.images)
            sums += self._accumulate(images, found.move(self._to_device), divisor)
        self._workers.add(self._gradient.vector)
        self._workers.add(sums)
        self._workers.average(self._states.vector)
        norm, scale = torch.linalg.vector_norm(self._gradient.vector), 1.0
        if self._optimizer.clip_norm:
            scale = (self._optimizer.clip_norm / (norm + 1e-6)).clamp(max=1.0)
        # A gradient that is not finite moves nothing, and stays readable for `nonfinite`.
        self._update(torch.where(norm.isfinite(), self._gradient.vector * scale, 0.0), learning_rate)
        return self._report(torch.cat([sums, norm.double().reshape(1)]), names)

    def _sum_over_workers(self, what: str, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._workers.add_counts(counts)

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

    def _move(self, gradient: Tensor, rate: float) -> None:
        options, vector, decayed = self._optimizer, self._params.vector, self._params.vector[self._decayed]
        moments = [moment.vector for moment in self._moments.values()]
        if options.name == "sgd":
            (momentum,) = moments
            momentum.mul_(options.momentum).add_(gradient)
            momentum[self._decayed].add_(decayed, alpha=options.weight_decay)
            vector.add_(momentum, alpha=-rate)
        else:
            mean, variance = moments
            mean.lerp_(gradient, 1 - options.momentum)
            variance.mul_(options.beta2).addcmul_(gradient, gradient, value=1 - options.beta2)
            root = (variance / (1 - options.beta2**self._updates)).sqrt_().add_(options.epsilon)
            decayed.mul_(1 - rate * options.weight_decay)
            vector.addcdiv_(mean, root, value=-rate / (1 - options.momentum**self._updates))

    def _report(self, values: Tensor, names: tuple[str, ...]) -> TorchReport:
        if self._copying is None:
            return TorchReport(values, names, None)
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrival = torch.cuda.Event()
        arrival.record()
        return TorchReport(host, names, arrival)


def _named_statistics(module: GraphModule, seen: Sequence[BatchStatistics]) -> dict[str, Tensor]:
    """Return batch statistics under the names of the running ones."""
    values = (value for statistics in seen for value in statistics)
    return dict(zip(module.graph.state_names, values, strict=True))
