"""The TensorRT engine against stand-ins for TensorRT and CUDA; nothing here runs on a GPU."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lffd.engines import tensorrt_engine
from lffd.engines.onnxruntime_engine import open_session
from lffd.engines.tensorrt_engine import TensorRtEngine
from lffd.errors import EngineError
from lffd.graphs.onnx_graph import maps_onnx
from tests.factories import random_model

pytest.importorskip("onnxruntime")


class _Cuda:
    """Device memory that is host memory, with every allocation watched."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815

    def __init__(self) -> None:
        self.blocks: dict[int, Any] = {}
        self.device: int | None = None

    def cudaSetDevice(self, number: int) -> tuple[int]:  # noqa: N802
        self.device = number
        return (0 if number == 0 else 101,)

    def cudaMalloc(self, size: int) -> tuple[int, int]:  # noqa: N802
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def cudaFree(self, address: int) -> tuple[int]:  # noqa: N802
        del self.blocks[address]
        return (0,)

    def cudaMemcpy(self, target: int, source: int, size: int, kind: int) -> tuple[int]:  # noqa: N802
        ctypes.memmove(target, source, size)
        return (0,)


class _Context:
    """Runs the parsed ONNX file with ONNX Runtime, from and to the addresses it was given."""

    def __init__(self, content: bytes, works: bool) -> None:
        self.session = open_session(content)
        self.addresses: dict[str, int] = {}
        self.works = works

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return True

    def execute_async_v3(self, stream: int) -> bool:
        size = int(np.prod(self.shape))
        data = np.frombuffer(ctypes.string_at(self.addresses["data"], size), np.uint8).reshape(self.shape)
        names = [output.name for output in self.session.get_outputs()]
        for name, value in zip(names, self.session.run(names, {"data": data}), strict=True):
            ctypes.memmove(self.addresses[name], np.ascontiguousarray(value).ctypes.data, value.nbytes)
        return self.works


class _Trt:
    """The part of TensorRT's interface that the engine uses."""

    BuilderFlag = SimpleNamespace(FP16="fp16")

    def __init__(self, parses: bool = True, builds: bool = True, works: bool = True) -> None:
        self.parses, self.builds, self.works = parses, builds, works
        self.flags: list[str] = []
        self.shapes: list[tuple[int, ...]] = []
        self.Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None})

    def Builder(self, logger: Any) -> Any:  # noqa: N802
        profile = SimpleNamespace(set_shape=lambda name, *shapes: self.shapes.extend(shapes))
        config = SimpleNamespace(set_flag=self.flags.append, add_optimization_profile=lambda profile: 0)
        return SimpleNamespace(
            create_network=SimpleNamespace,
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: profile,
            build_serialized_network=lambda network, config: network.content if self.builds else None,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802
        def parse(content: bytes) -> bool:
            network.content = content
            return self.parses

        return SimpleNamespace(
            parse=parse, num_errors=1, get_error=lambda i: SimpleNamespace(desc=lambda: "no such node")
        )

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        def load(plan: bytes) -> Any:
            return SimpleNamespace(create_execution_context=lambda: _Context(plan, self.works))

        return SimpleNamespace(deserialize_cuda_engine=load)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(**faults: bool) -> tuple[_Trt, _Cuda]:
        pair = (_Trt(**faults), _Cuda())
        monkeypatch.setattr(tensorrt_engine, "require", lambda name, extra: pair[name != "tensorrt"])
        return pair

    return use


def test_images_go_in_and_maps_come_out(backend: Any) -> None:
    trt, cuda = backend()
    model = random_model()
    engine = TensorRtEngine(model, "gpu:0", precision="fp16")
    images = np.random.default_rng(0).integers(0, 256, (2, 150, 171, 3), dtype=np.uint8)
    maps = engine.run(images)
    assert [m["box"].shape for m in maps] == [(2, 4, *size) for size in model.network.map_sizes(150, 171)]
    session = open_session(maps_onnx(model, "nhwc-uint8").SerializeToString())
    expected = session.run(["score_2", "box_0"], {"data": images})
    assert np.array_equal(maps[2]["score"], expected[0])
    assert np.array_equal(maps[0]["box"], expected[1])
    assert trt.flags == ["fp16"]
    assert trt.shapes[0] == (1, 127, 127, 3)
    assert cuda.device == 0
    assert not cuda.blocks, "device memory must be freed"


def test_failures_are_named_and_free_memory(backend: Any) -> None:
    _, cuda = backend(works=False)
    engine = TensorRtEngine(random_model())
    with pytest.raises(EngineError, match="TensorRT failed on images"):
        engine.run(np.zeros((1, 150, 150, 3), np.uint8))
    assert not cuda.blocks
    with pytest.raises(EngineError, match="takes images up to"):
        engine.run(np.zeros((5, 150, 150, 3), np.uint8))


@pytest.mark.parametrize(
    ("faults", "device", "message"),
    [
        ({"parses": False}, "gpu:0", "no such node"),
        ({"builds": False}, "gpu:0", "could not build"),
        ({}, "cpu", "NVIDIA GPUs only"),
        ({}, "gpu:1", "cudaSetDevice failed with CUDA error 101"),
    ],
)
def test_what_cannot_be_built(backend: Any, faults: dict[str, bool], device: str, message: str) -> None:
    backend(**faults)
    with pytest.raises(EngineError, match=message):
        TensorRtEngine(random_model(), device)
