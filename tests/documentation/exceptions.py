"""Which commands of README and docs/ are not executed as they stand, and why.

A key is the beginning of a command, or of the program that it runs. All other commands, and all blocks of Python, are
executed.
"""

from __future__ import annotations

SHORTENED = {
    "lffd train": "--iterations 1 --batch-size 1 --input-size 192 --val-images 1",
    "lffd label": "--scales 1 --no-mirrored",
    "lffd quantize": "--images 2 --max-drop 1",
    "lffd speed": "--rounds 1 --seconds 1 --warmup 0 --resolutions 192x192 --engines mxnet onnxruntime "
    "--precisions fp32",
    "python -m benchmarks.batches": "--batches 1 --repeats 1 --batch-size 1 --input-size 192",
    "python -m benchmarks.postprocessing": "--rounds 1 --size 320x240",
}
"""Command to flags that are appended, so that it takes seconds instead of hours; executed otherwise as written."""

PARSED = {
    "lffd predict camera:0": "needs a camera and a window",
    "lffd predict rtsp:": "needs a camera in the network; test_streams.py has a server",
    "lffd record-teacher": "needs the weights of another project",
    "lffd train nano": "needs the weights of another project",
    "lffd train v2 --train-data train.rec --output-dir runs/v2_gpu": "needs a GPU",
    "lffd compare": "needs the weights of other projects",
    "lffd overfit": "learns for minutes",
    "/usr/bin/time -v lffd predict 8k.jpg": "needs trained weights of v1, and a picture of 7680×4320",
    "lffd predict photos/ --model peer:": "needs the weights of another project",
    "lffd evaluate landmarks": "needs the weights of another project",
    "lffd label WIDER_val": "needs the weights of another project",
    "lffd pack --format coco --images WIDER_val": "packs what the detector of another project says",
    "lffd evaluate widerface --model slim_320=": "needs the weights of another project",
    "lffd export onnx --model retinaface_mnet025=": "needs the weights of another project",
    "python -m benchmarks.engine_speed": "trains for minutes; tests/benchmarks/test_engine_speed.py runs it small",
    "python -m benchmarks.packs": "needs 300 images; tests/benchmarks/test_packs.py makes them",
    "lffd serve": "answers until Ctrl-C; tests/deployment/test_serve.py asks it",
    "lffd export page": "needs onnxruntime-web, which npm fetches; tests/deployment/page/test_in_browser.py has it",
    "python -m tools.fuzz": "reads files for half an hour; tests/tools/test_fuzz.py reads some",
    "python -m tools.kill_series": "kills for half an hour; tests/tools/test_kill_series.py kills twice",
    "python config_farm/configuration_slim_320.py": "trains for long at a size of its own",
    "torchrun": "needs eight GPUs, or two machines; tests/config_farm/test_torchrun.py runs two workers",
    "lffd launch": "starts servers and two workers; tests/config_farm/test_launch.py does",
    "./start.sh": "runs on the bare machine",
    "python tools/pack_for_bare_machine.py": "downloads wheels; tests/tools/test_pack_for_bare_machine.py makes some",
}
"""Command to the reason why only its arguments are parsed, by the command's own parser."""

LEFT_OUT = {
    "make setup": "installs from the network; continuous integration does it before the tests",
    "make demo": "trains for two minutes",
    "make test": "is this test suite",
    "source .venv/bin/activate": "is done by whoever runs the tests",
    "pip install": "installs from the network; that the extra exists is tested, and tests/test_wheel.py installs",
    "python to_coreml.py": "needs coremltools",
    "docker": "there is no Docker here; test_dockerfile.py reads the Dockerfile",
    "curl": "asks a server that runs",
    "tar xf lffd_bare.tar": "runs on the bare machine",
}
"""Command to the reason why it is not executed."""


def reason(command: str, table: dict[str, str]) -> str | None:
    """Return what a table says of a command, or None."""
    return next((text for start, text in table.items() if command.startswith(start)), None)
