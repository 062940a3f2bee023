"""Training with MXNet: executors with gradients, an optimizer on one flat vector, EMA, several devices and workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lffd.engines.mxnet_engine import import_mxnet, parse_device
from lffd.graphs import batch_norm
from lffd.training.engine import StepReport, TrainingBatch, check_state, count_positives, loss_divisors
from lffd.training.losses import statistic_names
from lffd.training.mxnet.batches import check_maps, feed, split, target_name
from lffd.training.mxnet.flat import FlatArrays, decay_mask, zeros
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
    """A step that may still be running: device arrays that the host reads later.

    Attributes:
        values: the statistics branch by branch, then the loss, summed over devices, micro-batches and workers.
        norm: of the gradient.
        names: of the statistics.
    """

    values: Any
    norm: Any
    names: tuple[str, ...]

    def wait(self) -> StepReport:
        """Return the report; waits for the device."""
        values = self.values.asnumpy().astype(np.float64)
        columns = values[:-1].reshape(-1, len(self.names)).T
        statistics = dict(zip(self.names, columns, strict=True))
        return StepReport(statistics, float(values[-1]), float(self.norm.asscalar()))


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
        self._optimizer, self._normalizer = optimizer, normalizer
        shapes = {kind: _shapes(initial, kind) for kind in ("arg:", "aux:")}
        self._replicas = []
        for name in device.split(","):
            context = parse_device(name)
            made = [zeros(mx, shapes[kind], context) for kind in ("arg:", "arg:", "aux:")]
            self._replicas.append(_Replica(context, made[0], made[1], made[2], {}))
        main = self._main = self._replicas[0]
        self._params, self._gradient = (FlatArrays(mx, shapes["arg:"], main.context) for _ in range(2))
        self._states = FlatArrays(mx, shapes["aux:"], main.context)
        self._moments = [mx.nd.zeros_like(self._params.vector) for _ in range(1 if optimizer.name == "sgd" else 2)]
        self._decayed = decay_mask(mx, self._params)
        self._averages = (
            [FlatArrays(mx, shapes[kind], main.context) for kind in ("arg:", "aux:")] if optimizer.ema else []
        )
        self._updates = 0
        self._exchanged: set[str] = set()
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
        self._params.fill(plain["arg:"])
        self._states.fill(plain["aux:"])
        for replica in self._replicas:
            self._params.scatter(replica.params)
            self._states.scatter(replica.states)
        for average, kind in zip(self._averages, ("arg:", "aux:"), strict=False):
            average.fill(plain[kind])

    def _join_workers(self) -> None:
        """Register what is exchanged with the parameter server; every worker starts from rank 0's parameters."""
        if self._kvstore is None:
            return
        vector = self._params.vector
        self._kvstore.init("parameters", vector)
        self._kvstore.pull("parameters", out=vector)
        for replica in self._replicas:
            self._params.scatter(replica.params)

    def step(self, batches: Sequence[TrainingBatch], learning_rate: float) -> MXNetReport:
        """Make one update; see `TrainingEngine.step`."""
        mx = self._mx
        positives = self._over_workers("positives", mx.nd.array(count_positives(batches))).asnumpy()
        divisor = loss_divisors(positives.astype(np.float64), self._normalizer, batches, self.workers)
        sums, parts = [], []
        for batch in batches:
            for replica, part in zip(self._replicas, split(batch, len(self._replicas)), strict=True):
                executor = self._executor(replica, batch, part)
                feed(executor, batch, part, divisor)
                executor.forward(is_train=True)
                executor.backward()
                loss, statistics = (output.as_in_context(self._main.context) for output in executor.outputs)
                sums.append(mx.nd.concat(statistics.reshape((-1,)), loss, dim=0))
            parts.append(self._gathered_gradient())
        gradient = self._gradient.vector
        gradient[:] = self._over_workers("gradient", mx.nd.add_n(*parts))
        norm = mx.nd.sqrt(mx.nd.sum(gradient * gradient))
        scale = mx.nd.minimum(1.0, self._optimizer.clip_norm / (norm + 1e-6)) if self._optimizer.clip_norm else 1.0
        # A gradient that is not finite moves nothing, and stays readable for `nonfinite`.
        finite = mx.nd.contrib.isfinite(norm).broadcast_to(gradient.shape)
        self._update(mx.nd.where(finite, gradient * scale, mx.nd.zeros_like(gradient)), learning_rate)
        names = statistic_names(list(batches[0].targets[0]))
        return MXNetReport(self._over_workers("report", mx.nd.add_n(*sums)), norm, names)

    def agree(self, code: int) -> int:
        """Return the largest code of all workers; see `TrainingEngine.agree`."""
        if self._kvstore is None:
            return code
        codes = np.zeros(self.workers, np.float32)
        codes[self.rank] = code
        return int(self._over_workers("codes", self._mx.nd.array(codes)).asnumpy().max())

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

    def _executor(self, replica: _Replica, batch: TrainingBatch, part: slice) -> Any:
        """Return the executor for this batch's shape on one device."""
        mx, shape = self._mx, (part.stop - part.start, *batch.images.shape[1:])
        if shape not in replica.executors:
            check_maps(batch)
            replica.executors.clear()  # a run has one shape; another one replaces it
            arguments = dict(replica.params)
            arguments["image"] = mx.nd.zeros(shape, ctx=replica.context, dtype="uint8")
            targets = batch.targets
            arguments["divisor"] = mx.nd.ones((len(targets[0]), len(targets)), ctx=replica.context)
            for index, said in enumerate(targets):
                for name, values in said.items():
                    size, kind = (shape[0], *values.shape[1:]), values.dtype.name
                    arguments[target_name(name, index)] = mx.nd.zeros(size, ctx=replica.context, dtype=kind)
            trained = replica.params.keys() - batch_norm.cancelled_biases(replica.params)
            replica.executors[shape] = self._symbol.bind(
                replica.context,
                arguments,
                args_grad=replica.gradients,
                grad_req={name: "write" if name in trained else "null" for name in arguments},
                aux_states=replica.states,
            )
        return replica.executors[shape]

    def _gathered_gradient(self) -> Any:
        """Return the summed gradient of all devices as one vector on the first device.

        Executors write gradients, and the sums over devices and micro-batches are made here.
        """
        vectors = []
        for replica in self._replicas:
            self._gradient.gather(replica.gradients)
            vectors.append(self._gradient.vector.copy())
        return vectors[0] if len(vectors) == 1 else self._mx.nd.add_n(*vectors)

    def _update(self, gradient: Any, rate: float) -> None:
        """Apply one optimizer step, spread it to the other devices, and move the average along."""
        options, vector = self._optimizer, self._params.vector
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
        for replica in self._replicas:
            self._params.scatter(replica.params)
        if self._averages:
            self._collect_states()
            decay = min(options.ema, (1 + self._updates) / (10 + self._updates))
            for average, value in zip(self._averages, (self._params, self._states), strict=True):
                average.vector *= decay
                average.vector += (1 - decay) * value.vector

    def _collect_states(self) -> None:
        """Bring the running statistics, averaged over devices, into their vector."""
        self._states.gather(self._main.states)
        if len(self._replicas) > 1:
            other = FlatArrays(self._mx, self._states.shapes, self._main.context)
            for replica in self._replicas[1:]:
                other.gather(replica.states)
                self._states.vector += other.vector
            self._states.vector /= len(self._replicas)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that the next step depends on; see `TrainingEngine.state`."""
        self._collect_states()
        found = _named("arg:", self._params.read()) | _named("aux:", self._states.read())
        for average, kind in zip(self._averages, ("ema:arg:", "ema:aux:"), strict=False):
            found |= _named(kind, average.read())
        for role, moment in zip(self._moment_names(), self._moments, strict=True):
            host = FlatArrays(self._mx, self._params.shapes, self._mx.cpu())
            moment.copyto(host.vector)
            found |= _named(f"optimizer:{role}:", host.read())
        return {**found, "optimizer:updates": np.array([self._updates], np.int64)}

    def _moment_names(self) -> tuple[str, ...]:
        return ("momentum",) if self._optimizer.name == "sgd" else ("mean", "variance")

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take a state that `state` returned; see `TrainingEngine.load_state`."""
        check_state({name: value.shape for name, value in self.state().items()}, arrays)
        self._take(arrays)
        for average, kind in zip(self._averages, ("ema:arg:", "ema:aux:"), strict=False):
            average.fill({name.removeprefix(kind): value for name, value in arrays.items() if name.startswith(kind)})
        for role, moment in zip(self._moment_names(), self._moments, strict=True):
            host = FlatArrays(self._mx, self._params.shapes, self._mx.cpu())
            host.fill({name: arrays[f"optimizer:{role}:{name}"] for name in host.shapes})
            host.vector.copyto(moment)
        self._updates = int(arrays["optimizer:updates"][0])

    def deployable(self) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Return parameters and running statistics to evaluate and save; see `TrainingEngine.deployable`."""
        if self._averages:
            params, states = self._averages
            return dict(params.read()), dict(states.read())
        self._collect_states()
        return dict(self._params.read()), dict(self._states.read())

    def nonfinite(self) -> list[str]:
        """Return the parameters whose gradient or value holds NaN or Inf."""
        gradients, values = self._gradient.read(), self._params.read()
        return [n for n in values if not (np.isfinite(gradients[n]).all() and np.isfinite(values[n]).all())]


def _shapes(arrays: Mapping[str, NDArray[Any]], kind: str) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(kind): value.shape for name, value in arrays.items() if name.startswith(kind)}


def _named(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"{prefix}{name}": value for name, value in arrays.items()}
