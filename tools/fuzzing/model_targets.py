"""Files with networks in them: parameters, symbols, model cards, checkpoints, ONNX detectors of other projects."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tempfile
import zipfile
import zlib
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from config_farm.run.assembly import train
from config_farm.run.experiment import Experiment, recipe
from detection.detector import Detector
from detection.peers.detector import PeerDetector
from detection.peers.size import peer_size
from lffd.engines.factory import ENGINES
from lffd.engines.runtime import Runtime
from lffd.errors import LffdError, UsageError
from lffd.graphs.branches import Branch
from lffd.graphs.graph import Graph, parse_graph
from lffd.graphs.model import CARD_FILE, PARAMS_FILE, SYMBOL_FILE, Model, load_model, make_model, save_model
from lffd.graphs.network import Network
from lffd.params import pack_params
from lffd.training.checkpoint import FACTS_FILE
from symbol_farm.lffd_network import Stage, lffd_network
from symbol_farm.light_network import Level, light_network
from symbol_farm.trained_models import load_published
from symbol_farm.versions import version_network
from tools.fuzzing.data_targets import pack_files
from tools.fuzzing.target import Target

MOST_WEIGHTS = 1 << 20
"""A damaged graph gets random parameters up to that many, so that engines see graphs that no checkpoint fits."""

IMAGE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)


@cache
def network() -> Network:
    """Return a small network of the paper's kind."""
    return lffd_network(
        name="tiny",
        stem=(8,),
        stages=(Stage(8, pairs=1), Stage(8, pairs=1)),
        branches=(Branch("conv4", (8, 16)), Branch("conv7", (16, 32))),
        head_channels=8,
        train_input=64,
    )


@cache
def other_network() -> Network:
    """Return a small network with the other operators: depthwise convolutions, pooling, enlargement, sums."""
    levels = (Level(8, 1, (8, 16), dense=False), Level(8, 1, (16, 32)))
    return light_network("light", start=(4, 8, 8), levels=levels, width=8, train_input=64)


def random_params(graph: Graph) -> dict[str, np.ndarray]:
    """Return small random parameters of a graph."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in graph.parameter_shapes.items()}


@cache
def model_files() -> dict[str, bytes]:
    """Return the files of a model directory by name."""
    with tempfile.TemporaryDirectory() as folder:
        save_model(make_model(network(), random_params(network().graph)), Path(folder, "model"))
        return {path.name: path.read_bytes() for path in Path(folder, "model").iterdir()}


def run_engines(model: Model) -> None:
    """Run a model on every engine that is there; each of them must refuse it or answer, whatever the others do."""
    refusals = []
    for name in (name for name, kind in ENGINES.items() if kind.installed and "cpu" in kind.devices):
        try:
            Detector(model, runtime=Runtime(name))(IMAGE)
        except LffdError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def read_model(name: str, data: bytes, folder: Path) -> None:
    """Load and run a model directory in which one file is another one, and the card says so."""
    files = {**model_files(), name: data}
    if name != CARD_FILE:
        card = json.loads(files[CARD_FILE])
        card["sha256"][name] = hashlib.sha256(data).hexdigest()
        files[CARD_FILE] = json.dumps(card).encode()
    for other, content in files.items():
        (folder / other).write_bytes(content)
    run_engines(load_model(folder))


def graphs() -> list[Graph]:
    """Return graphs that have every operator between them."""
    return [network().graph, other_network().graph]


def read_symbol(data: bytes, folder: Path) -> None:
    """Read a symbol's JSON, and run its graph with parameters that fit it."""
    graph = parse_graph(data.decode(errors="surrogateescape"))
    if sum(int(np.prod(shape)) for shape in graph.parameter_shapes.values()) > MOST_WEIGHTS:
        raise UsageError("more parameters than are tried here")
    run_engines(Model(replace(network(), graph=graph), random_params(graph)))


def published() -> list[bytes]:
    """Return a published checkpoint of a version, with half of its numbers in float16."""
    params = random_params(version_network(SMALLEST).graph)
    return [pack_params(params), pack_params({name: value.astype(np.float16) for name, value in params.items()})]


SMALLEST = "plate_small"


def read_published(data: bytes, folder: Path) -> None:
    """Read a published checkpoint, its version named and not."""
    (folder / "x.params").write_bytes(data)
    load_published(folder / "x.params", SMALLEST)
    load_published(folder / "x.params")


def experiment(folder: Path, resume: bool) -> Experiment:
    """Return a run of one step, in a folder with a pack."""
    options: dict[str, Any] = {"train_data": str(folder / "x.rec"), "output_dir": folder / "run", "resume": resume}
    options |= {"iterations": 1, "batch_size": 2, "threads": 1, "log_every": 1}
    return replace(recipe(network(), "ours"), **options)


@cache
def finished_run() -> dict[str, bytes]:
    """Return the pack and the checkpoint of a finished run, by the names that they have in its folder."""
    data, index = pack_files()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "x.rec").write_bytes(data)
        Path(folder, "x.idx").write_bytes(index)
        train(network(), experiment(Path(folder), resume=False))
        return {"x.rec": data, "x.idx": index, CHECKPOINT: Path(folder, CHECKPOINT).read_bytes()}


CHECKPOINT = "run/checkpoints/iteration_00000001.npz"


def read_checkpoint_file(data: bytes, folder: Path) -> None:
    """Go on from a checkpoint, which is the last one of its run."""
    (folder / CHECKPOINT).parent.mkdir(parents=True)
    for name, content in {**finished_run(), CHECKPOINT: data}.items():
        (folder / name).write_bytes(content)
    train(network(), experiment(folder, resume=True))


def mend_checkpoint(data: bytes) -> bytes:
    """Return a checkpoint with right checksums as far as its entries go."""
    mended, position = bytearray(data), 0
    while data[position : position + 4] == b"PK\x03\x04" and position + 30 <= len(data):
        size, name, extra = struct.unpack_from("<I4xHH", data, position + 18)
        start = position + 30 + name + extra
        checksum = zlib.crc32(data[start : start + size]).to_bytes(4, "little")
        listed = data.find(b"PK\x01\x02" + data[position + 4 : position + 6])
        while listed >= 0 and struct.unpack_from("<I", data, listed + 42)[0] != position:
            listed = data.find(b"PK\x01\x02", listed + 4, len(data) - 42)
        mended[position + 14 : position + 18] = checksum
        if listed >= 0:
            mended[listed + 16 : listed + 20] = checksum
        position = start + size
    return bytes(mended)


@cache
def checkpoint_facts() -> bytes:
    """Return the JSON inside the finished run's checkpoint."""
    with zipfile.ZipFile(io.BytesIO(finished_run()[CHECKPOINT])) as archive:
        return archive.read(FACTS_FILE)


def read_checkpoint_facts(data: bytes, folder: Path) -> None:
    """Go on from a checkpoint with other facts in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(finished_run()[CHECKPOINT])) as whole, zipfile.ZipFile(stream, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, data if name == FACTS_FILE else whole.read(name))
    read_checkpoint_file(stream.getvalue(), folder)


def peers() -> list[bytes]:
    """Return small detectors of two kinds: nine maps of one convolution each, and rows out of such maps."""
    import onnx

    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    rng = np.random.default_rng(0)
    files = []
    for rows in (False, True):
        nodes, outputs, weights = [], [], []
        fields = (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)) if rows else (("a", 4), ("b", 8), ("c", 20))
        for stride in (8, 16, 32):
            for field, channels in fields:
                name = f"{field}_{stride}"
                weight = rng.normal(0, 0.01, (channels, 3, stride, stride)).astype(np.float32)
                weights.append(onnx.numpy_helper.from_array(weight, f"{name}_weight"))
                made = f"{name}_map" if rows else name
                nodes.append(helper.make_node("Conv", ["x", f"{name}_weight"], [made], strides=[stride, stride]))
                if rows:
                    weights.append(onnx.numpy_helper.from_array(np.array([0, -1, channels]), f"{name}_shape"))
                    nodes.append(helper.make_node("Transpose", [made], [f"{name}_last"], perm=[0, 2, 3, 1]))
                    nodes.append(helper.make_node("Reshape", [f"{name}_last", f"{name}_shape"], [name]))
                shape: list[Any] = [1, None, channels] if rows else [1, channels, None, None]
                outputs.append(helper.make_tensor_value_info(name, number, shape))
        source = helper.make_tensor_value_info("x", number, [1, 3, "h", "w"])
        graph = helper.make_graph(nodes, "peer", [source], outputs, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        files.append(model.SerializeToString())
    return files


def read_peer(data: bytes, folder: Path) -> None:
    """Run a detector, and count its weights, as either kind."""
    (folder / "x.onnx").write_bytes(data)
    refusals = []
    for kind in ("retinaface-maps", "yunet"):
        for read in (lambda kind: PeerDetector(kind, folder / "x.onnx")(IMAGE), partial(_size, folder / "x.onnx")):
            try:
                read(kind)
            except LffdError as error:
                refusals.append(error)
    if len(refusals) > PEER_REFUSALS:
        raise refusals[0]


PEER_REFUSALS = 1
"""A good file of one kind is refused as the other."""


def _size(path: Path, kind: str) -> tuple[int, float]:
    return peer_size(kind, path, 96, 64)


def model_targets() -> list[Target]:
    """Return the targets of this file."""
    return [
        Target("params", lambda: [model_files()[PARAMS_FILE]], partial(read_model, PARAMS_FILE)),
        Target("published-params", published, read_published),
        Target("symbol", lambda: [graph.to_json().encode() for graph in graphs()], read_symbol, "json"),
        Target("model-symbol", lambda: [model_files()[SYMBOL_FILE]], partial(read_model, SYMBOL_FILE), "json"),
        Target("card", lambda: [model_files()[CARD_FILE]], partial(read_model, CARD_FILE), "json"),
        Target("checkpoint", lambda: [finished_run()[CHECKPOINT]], read_checkpoint_file, mend=mend_checkpoint),
        Target("checkpoint-facts", lambda: [checkpoint_facts()], read_checkpoint_facts, "json"),
        Target("peer", peers, read_peer),
    ]
