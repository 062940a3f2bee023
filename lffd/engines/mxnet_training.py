"""Training with MXNet: executors with gradients, an optimizer on one flat vector, EMA, several devices and workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.engines.mxnet_engine import import_mxnet, parse_device
from lffd.engines.mxnet_flat import FlatArrays
from lffd.engines.training import StepReport, TrainingBatch, count_positives, loss_divisors
from lffd.errors import ModelError, UsageError
from lffd.experiment import OptimizerOptions


@dataclass
class _Replica:
    """The graph on one device."""

    context: Any
    params: FlatArrays
    gradients: FlatArrays
    states: FlatArrays
    executors: dict[tuple[int, ...], Any]


@dataclass(frozen=True)
class MXNetReport:
    """A step that may still be running: device arrays that the host reads later."""

    statistics: list[Any]
    losses: list[Any]
    norm: Any

    def wait(self) -> StepReport:
        """Return the report; waits for the device."""
        statistics = np.sum([array.asnumpy() for array in self.statistics], axis=0, dtype=np.float64)
        loss = float(sum(array.asnumpy().item() for array in self.losses))
        return StepReport(statistics, loss, float(self.norm.asscalar()))


class MXNetTrainingEngine:
    """Holds parameters, optimizer state and moving average, and makes steps; see `TrainingEngine`.

    Attributes:
        name: `mxnet`.
        device: the devices' names, joined by commas.
        rank, workers: this process among those of a distributed run.
    """

    name = "mxnet"

    def __init__(
        self,
        symbol_json: str,
        initial: Mapping[str, NDArray[Any]],
        *,
        optimizer: OptimizerOptions,
        normalizer: str,
        device: str = "cpu",
        kvstore: str | None = None,
    ) -> None:
        """Set up a training graph.

        Args:
            symbol_json: `symbol_farm.losses.training_symbol` as JSON.
            initial: `arg:NAME` and `aux:NAME` arrays to start from.
            optimizer: how to update.
            normalizer: `LossOptions.normalizer`.
            device: `cpu`, or one or more GPUs such as `gpu:0,gpu:1`; batches are split among them.
            kvstore: MXNet's `dist_sync` or `dist_device_sync` when started by its launcher; None for one process.
        """
        self._mx = mx = import_mxnet()
        self.device = device
        self._symbol = mx.sym.load_json(symbol_json)
        self._optimizer, self._normalizer = optimizer, normalizer
        shapes = {kind: _shapes(initial, kind) for kind in ("arg:", "aux:")}
        self._replicas = []
        for name in device.split(","):
            context = parse_device(name)
            params, gradients = (FlatArrays(mx, shapes["arg:"], context) for _ in range(2))
            states = FlatArrays(mx, shapes["aux:"], context)
            self._replicas.append(_Replica(context, params, gradients, states, {}))
        main = self._main = self._replicas[0]
        self._moments = [mx.nd.zeros_like(main.params.vector) for _ in range(1 if optimizer.name == "sgd" else 2)]
        self._decayed = _decay_mask(mx, main.params)
        self._averages = (
            [FlatArrays(mx, shapes[kind], main.context) for kind in ("arg:", "aux:")] if optimizer.ema else []
        )
        self._updates = 0
        self._kvstore = mx.kv.create(kvstore) if kvstore else None
        self.rank: int = self._kvstore.rank if self._kvstore else 0
        self.workers: int = self._kvstore.num_workers if self._kvstore else 1
        self._take(initial)
        self._join_workers()

    def _take(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Copy parameters and running statistics to every device, and start the average from them."""
        plain = {
            kind: {n.removeprefix(kind): v for n, v in arrays.items() if n.startswith(kind)}
            for kind in ("arg:", "aux:")
        }
        for replica in self._replicas:
            replica.params.fill(plain["arg:"])
            replica.states.fill(plain["aux:"])
        for average, kind in zip(self._averages, ("arg:", "aux:"), strict=False):
            average.fill(plain[kind])

    def _join_workers(self) -> None:
        """Register what is exchanged with the parameter server; every worker starts from rank 0's parameters."""
        if self._kvstore is None:
            return
        vector = self._main.params.vector
        self._kvstore.init("parameters", vector)
        self._kvstore.pull("parameters", out=vector)
        for replica in self._replicas[1:]:
            vector.copyto(replica.params.vector)
        self._kvstore.init("gradient", self._mx.nd.zeros_like(vector))

    def step(self, batches: Sequence[TrainingBatch], learning_rate: float) -> MXNetReport:
        """Make one update; see `TrainingEngine.step`."""
        divisor = loss_divisors(self._all_positives(batches), self._normalizer)
        for replica in self._replicas:
            replica.gradients.vector[:] = 0
        statistics, losses = [], []
        for batch in batches:
            for replica, part in zip(self._replicas, _split(batch, len(self._replicas)), strict=True):
                executor = self._executor(replica, batch, part)
                _feed(executor, batch, part, divisor)
                executor.forward(is_train=True)
                executor.backward()
                losses.append(executor.outputs[0].copy())
                statistics.append(executor.outputs[1].copy())
        gradient = self._gather()
        norm = self._mx.nd.sqrt(self._mx.nd.sum(gradient * gradient))
        if self._optimizer.clip_norm:
            gradient *= self._mx.nd.minimum(1.0, self._optimizer.clip_norm / (norm + 1e-6))
        self._update(gradient, learning_rate)
        return MXNetReport(statistics, losses, norm)

    def _all_positives(self, batches: Sequence[TrainingBatch]) -> NDArray[np.float64]:
        """Return each branch's positives over all micro-batches and workers."""
        positives = count_positives(batches)
        if self._kvstore is None:
            return positives
        counts = self._mx.nd.array(positives)
        if self._updates == 0:
            self._kvstore.init("positives", self._mx.nd.zeros_like(counts))
        self._kvstore.push("positives", counts)
        self._kvstore.pull("positives", out=counts)
        return np.asarray(counts.asnumpy(), np.float64)

    def _executor(self, replica: _Replica, batch: TrainingBatch, part: slice) -> Any:
        """Return the executor for this batch's shape on one device."""
        mx, shape = self._mx, (part.stop - part.start, *batch.images.shape[1:])
        if shape not in replica.executors:
            replica.executors.clear()  # a run has one shape; another one replaces it
            arguments = dict(replica.params.views)
            arguments["image"] = mx.nd.zeros(shape, ctx=replica.context, dtype="uint8")
            arguments["divisor"] = mx.nd.ones((len(batch.classes),), ctx=replica.context)
            for index, (classes, boxes) in enumerate(zip(batch.classes, batch.boxes, strict=True)):
                arguments[f"class_{index}"] = mx.nd.zeros((shape[0], *classes.shape[1:]), replica.context, dtype="int8")
                arguments[f"box_{index}"] = mx.nd.zeros((shape[0], *boxes.shape[1:]), replica.context)
            replica.executors[shape] = self._symbol.bind(
                replica.context,
                arguments,
                args_grad=replica.gradients.views,
                grad_req={name: "add" if name in replica.params.views else "null" for name in arguments},
                aux_states=replica.states.views,
            )
        return replica.executors[shape]

    def _gather(self) -> Any:
        """Return the summed gradient of all devices and workers, on the first device."""
        gradient = self._main.gradients.vector
        for replica in self._replicas[1:]:
            gradient += replica.gradients.vector.as_in_context(self._main.context)
        if self._kvstore is not None:
            self._kvstore.push("gradient", gradient)
            self._kvstore.pull("gradient", out=gradient)
        return gradient

    def _update(self, gradient: Any, rate: float) -> None:
        """Apply one optimizer step, spread it to the other devices, and move the average along."""
        options, vector = self._optimizer, self._main.params.vector
        self._updates += 1
        if options.name == "sgd":
            (momentum,) = self._moments
            momentum *= options.momentum
            momentum += gradient + options.weight_decay * self._decayed * vector
            vector -= rate * momentum
        else:
            mean, variance = self._moments
            mean *= options.momentum
            mean += (1 - options.momentum) * gradient
            variance *= options.beta2
            variance += (1 - options.beta2) * gradient * gradient
            unbiased = variance / (1 - options.beta2**self._updates)
            direction = mean / (1 - options.momentum**self._updates) / (self._mx.nd.sqrt(unbiased) + options.epsilon)
            vector -= rate * (direction + options.weight_decay * self._decayed * vector)
        for replica in self._replicas[1:]:
            vector.copyto(replica.params.vector)
        if self._averages:
            decay = min(options.ema, (1 + self._updates) / (10 + self._updates))
            for average, value in zip(self._averages, (vector, self._mean_states()), strict=True):
                average.vector *= decay
                average.vector += (1 - decay) * value

    def _mean_states(self) -> Any:
        """Return the running statistics, averaged over devices, on the first one."""
        total = self._main.states.vector
        for replica in self._replicas[1:]:
            total = total + replica.states.vector.as_in_context(self._main.context)
        return total / len(self._replicas)

    def _averaged_states(self) -> dict[str, NDArray[np.float32]]:
        reads = [replica.states.read() for replica in self._replicas]
        return {name: np.mean([read[name] for read in reads], axis=0, dtype=np.float32) for name in reads[0]}

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that the next step depends on; see `TrainingEngine.state`."""
        params = self._main.params
        found = _named("arg:", params.read()) | _named("aux:", self._averaged_states())
        for average, kind in zip(self._averages, ("ema:arg:", "ema:aux:"), strict=False):
            found |= _named(kind, average.read())
        for role, moment in zip(self._moment_names(), self._moments, strict=True):
            host = FlatArrays(self._mx, params.shapes, self._mx.cpu())
            moment.copyto(host.vector)
            found |= _named(f"optimizer:{role}:", host.read())
        return {**found, "optimizer:updates": np.array([self._updates], np.int64)}

    def _moment_names(self) -> tuple[str, ...]:
        return ("momentum",) if self._optimizer.name == "sgd" else ("mean", "variance")

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a state that `state` returned; see `TrainingEngine.load_state`."""
        expected = {name: value.shape for name, value in self.state().items()}
        problems = [f"missing {name}" for name in expected if name not in arrays]
        problems += [f"extra {name}" for name in arrays if name not in expected]
        problems += [
            f"{name} has shape {arrays[name].shape} instead of {shape}"
            for name, shape in expected.items()
            if name in arrays and arrays[name].shape != shape
        ]
        if problems:
            raise ModelError(f"the training state does not fit this run: {'; '.join(problems[:20])}")
        self._take(arrays)
        for average, kind in zip(self._averages, ("ema:arg:", "ema:aux:"), strict=False):
            average.fill({name.removeprefix(kind): value for name, value in arrays.items() if name.startswith(kind)})
        for role, moment in zip(self._moment_names(), self._moments, strict=True):
            host = FlatArrays(self._mx, self._main.params.shapes, self._mx.cpu())
            host.fill({name: arrays[f"optimizer:{role}:{name}"] for name in host.shapes})
            host.vector.copyto(moment)
        self._updates = int(arrays["optimizer:updates"][0])

    def deployable(self) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Return parameters and running statistics to evaluate and save; see `TrainingEngine.deployable`."""
        if self._averages:
            params, states = self._averages
            return dict(params.read()), dict(states.read())
        return dict(self._main.params.read()), dict(self._averaged_states())

    def nonfinite(self) -> list[str]:
        """Return the parameters whose gradient or value holds NaN or Inf."""
        gradients, values = self._main.gradients.read(), self._main.params.read()
        return [n for n in values if not (np.isfinite(gradients[n]).all() and np.isfinite(values[n]).all())]


def _shapes(arrays: Mapping[str, NDArray[Any]], kind: str) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(kind): value.shape for name, value in arrays.items() if name.startswith(kind)}


def _named(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"{prefix}{name}": value for name, value in arrays.items()}


def _decay_mask(mx: ModuleType, params: FlatArrays) -> Any:
    """Return 1 where weight decay acts (convolution weights) and 0 elsewhere, as a flat vector."""
    mask = FlatArrays(mx, params.shapes, params.vector.context)
    mask.fill({name: np.full(shape, float(name.endswith("_weight"))) for name, shape in params.shapes.items()})
    return mask.vector


def _split(batch: TrainingBatch, parts: int) -> list[slice]:
    """Return which images of a batch go to which device."""
    count = len(batch.images)
    if count % parts:
        raise UsageError(f"a batch of {count} images cannot be split evenly among {parts} devices")
    each = count // parts
    return [slice(i * each, (i + 1) * each) for i in range(parts)]


def _feed(executor: Any, batch: TrainingBatch, part: slice, divisor: NDArray[np.float32]) -> None:
    """Copy a part of a batch into an executor's inputs."""
    inputs = executor.arg_dict
    inputs["image"][:] = batch.images[part]
    inputs["divisor"][:] = divisor
    for index, (classes, boxes) in enumerate(zip(batch.classes, batch.boxes, strict=True)):
        inputs[f"class_{index}"][:] = classes[part]
        inputs[f"box_{index}"][:] = boxes[part]
