"""Training with MXNet: executors with gradients, several devices and workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.engines.mxnet_engine import import_mxnet, parse_device
from lffd.errors import UsageError
from lffd.graphs import batch_norm
from lffd.training.engine import StepReport, TrainingBatch, count_positives, loss_divisors, unpack_report
from lffd.training.flat import FlatState
from lffd.training.losses import statistic_names
from lffd.training.mxnet.flat import FlatArrays
from lffd.training.mxnet.losses import target_name
from lffd.training.options import OptimizerOptions


@dataclass
class _Replica:
    """The graph on one device: what it is bound to, by name, and the executor of the last batch shape."""

    context: Any
    params: dict[str, Any]
    gradients: dict[str, Any]
    states: dict[str, Any]
    executors: dict[tuple[int, ...], Any]


@dataclass(frozen=True)
class MXNetReport:
    """A step that may still be running: a device array, see `unpack_report`, that the host reads later."""

    values: Any
    names: tuple[str, ...]

    def wait(self) -> StepReport:
        """Return the report; waits for the device."""
        return unpack_report(self.values.asnumpy().astype(np.float64), self.names)


class MXNetTrainingEngine(FlatState[FlatArrays]):
    """Holds parameters, optimizer state and moving average, and makes steps; see `TrainingEngine`."""

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
            symbol_json: `lffd.training.mxnet.losses.training_symbol` as JSON.
            initial: `arg:NAME` and `aux:NAME` arrays to start from.
            optimizer: how to update.
            normalizer: `LossOptions.normalizer`.
            device: `cpu`, or one or more GPUs such as `gpu:0,gpu:1`; batches are split among them.
            kvstore: MXNet's `dist_sync` or `dist_device_sync` when started by its launcher; None for one process.
        """
        self._mx = mx = import_mxnet()
        self.device = device
        self._symbol = mx.sym.load_json(symbol_json)
        self._normalizer = normalizer
        contexts = [parse_device(name) for name in device.split(",")]
        super().__init__(initial, optimizer, lambda shapes: FlatArrays(shapes, contexts[0]))
        self._replicas = []
        for at in contexts:
            params, gradients, states = (_zeros(p.shapes, at) for p in (self._params, self._gradient, self._states))
            self._replicas.append(_Replica(at, params, gradients, states, {}))
        self._exchanged: set[str] = set()
        self._kvstore = mx.kv.create(kvstore) if kvstore else None
        self.rank = self._kvstore.rank if self._kvstore else 0
        self.workers = self._kvstore.num_workers if self._kvstore else 1
        self._start(initial)
        self._spread()

    def _join(self) -> None:
        if self._kvstore is not None:
            self._kvstore.init("parameters", self._params.vector)
            self._kvstore.pull("parameters", out=self._params.vector)

    def _spread(self) -> None:
        for replica in self._replicas:
            self._params.scatter(replica.params)
            self._states.scatter(replica.states)

    def step(self, batches: Sequence[TrainingBatch], learning_rate: float) -> MXNetReport:
        """Make one update; see `TrainingEngine.step`."""
        mx = self._mx
        positives = self._sum_over_workers("positives", count_positives(batches))
        divisor = loss_divisors(positives, self._normalizer, batches, self.workers)
        sums, parts = [], []
        for batch in batches:
            each, rest = divmod(len(batch.images), len(self._replicas))
            if rest:
                count = len(batch.images)
                raise UsageError(
                    f"a batch of {count} images cannot be split evenly among {len(self._replicas)} devices"
                )
            for index, replica in enumerate(self._replicas):
                executor = self._fed(replica, batch, slice(index * each, (index + 1) * each), divisor)
                executor.forward(is_train=True)
                executor.backward()
                loss, statistics = (output.as_in_context(self._gradient.vector.context) for output in executor.outputs)
                sums.append(mx.nd.concat(statistics.reshape((-1,)), loss, dim=0))
            parts.append(self._gathered_gradient())
        gradient = self._gradient.vector
        gradient[:] = self._over_workers("gradient", mx.nd.add_n(*parts))
        norm = mx.nd.sqrt(mx.nd.sum(gradient * gradient)).reshape((1,))
        scale = mx.nd.minimum(1.0, self._optimizer.clip_norm / (norm + 1e-6)) if self._optimizer.clip_norm else 1.0
        # A gradient that is not finite moves nothing, and stays readable for `nonfinite`.
        finite = mx.nd.contrib.isfinite(norm).broadcast_to(gradient.shape)
        if self._averages:
            self._collect()
        self._update(mx.nd.where(finite, gradient * scale, mx.nd.zeros_like(gradient)), learning_rate)
        for replica in self._replicas:
            self._params.scatter(replica.params)
        report = mx.nd.concat(self._over_workers("report", mx.nd.add_n(*sums)), norm, dim=0)
        return MXNetReport(report, statistic_names(list(batches[0].targets[0])))

    def _sum_over_workers(self, what: str, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._kvstore is None:
            return counts
        return np.asarray(self._over_workers(what, self._mx.nd.array(counts)).asnumpy(), np.float64)

    def _over_workers(self, key: str, value: Any) -> Any:
        """Return the sum of all workers' values; the server learns of a key at its first use."""
        if self._kvstore is None:
            return value
        if key not in self._exchanged:
            self._kvstore.init(key, self._mx.nd.zeros_like(value))
            self._exchanged.add(key)
        self._kvstore.push(key, value)
        self._kvstore.pull(key, out=value)
        return value

    def _fed(self, replica: _Replica, batch: TrainingBatch, part: slice, divisor: NDArray[np.float32]) -> Any:
        """Return a device's executor of the batch's shape, with a part of the batch in its inputs."""
        inputs: dict[str, NDArray[Any]] = {"image": batch.images[part], "divisor": divisor}
        for index, targets in enumerate(batch.targets):
            inputs |= {target_name(name, index): values[part] for name, values in targets.items()}
        shape = inputs["image"].shape
        if shape not in replica.executors:
            _check_maps(batch)
            replica.executors.clear()  # a run has one shape; another one replaces it
            arguments = dict(replica.params)
            for name, values in inputs.items():
                arguments[name] = self._mx.nd.zeros(values.shape, ctx=replica.context, dtype=values.dtype.name)
            trained = replica.params.keys() - batch_norm.cancelled_biases(replica.params)
            replica.executors[shape] = self._symbol.bind(
                replica.context,
                arguments,
                args_grad=replica.gradients,
                grad_req={name: "write" if name in trained else "null" for name in arguments},
                aux_states=replica.states,
            )
        executor = replica.executors[shape]
        for name, values in inputs.items():
            executor.arg_dict[name][:] = values
        return executor

    def _gathered_gradient(self) -> Any:
        """Return the summed gradient of all devices as one vector on the first device.

        Executors write gradients, and the sums over devices and micro-batches are made here.
        """
        vectors = []
        for replica in self._replicas:
            self._gradient.gather(replica.gradients)
            vectors.append(self._gradient.vector.copy())
        return vectors[0] if len(vectors) == 1 else self._mx.nd.add_n(*vectors)

    def _collect(self) -> None:
        """Bring the running statistics, averaged over devices, into their vector."""
        first, *others = self._replicas
        self._states.gather(first.states)
        total = self._states.vector
        if others:
            other = FlatArrays(self._states.shapes, total.context)
            for replica in others:
                other.gather(replica.states)
                total += other.vector
            total /= len(self._replicas)

    def _move(self, gradient: Any, rate: float) -> None:
        options, vector, decayed = self._optimizer, self._params.vector, self._params.vector[self._decayed]
        moments = [moment.vector for moment in self._moments.values()]
        if options.name == "sgd":
            (direction,) = moments
            direction *= options.momentum
        else:
            mean, variance = moments
            mean *= options.momentum
            mean += (1 - options.momentum) * gradient
            variance *= options.beta2
            variance += (1 - options.beta2) * gradient * gradient
            unbiased = variance / (1 - options.beta2**self._updates)
            gradient = mean / (1 - options.momentum**self._updates) / (self._mx.nd.sqrt(unbiased) + options.epsilon)
            direction = self._mx.nd.zeros_like(vector)
        part = gradient[self._decayed]
        part += options.weight_decay * decayed
        direction += gradient
        vector -= rate * direction


def _zeros(shapes: Mapping[str, tuple[int, ...]], context: Any) -> dict[str, Any]:
    return {name: import_mxnet().nd.zeros(shape, ctx=context) for name, shape in shapes.items()}


def _check_maps(batch: TrainingBatch) -> None:
    """Refuse crops that leave a branch one row or column of cells, for which MXNet 1.9.1 cannot make weight gradients.

    Raises:
        UsageError: with the crop's size and what to do.
    """
    if any(min(targets["score"].shape[2:]) < 2 for targets in batch.targets):
        height, width = batch.images.shape[1:3]
        raise UsageError(
            f"a training crop of {width}x{height} px leaves a branch a single row or column of cells, which MXNet "
            "cannot train on: choose a larger --input-size"
        )
