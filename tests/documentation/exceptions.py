"""Which commands of README and docs/ are not executed as they stand, and why.

A key is the beginning of a command, or of the program that it runs. All other commands, and all blocks of Python, are
executed.
"""

from __future__ import annotations

V2 = "config_farm/configuration_10_320_20L_5scales_v2.py"
SHORTENED = {
    "config_farm/configuration_": "--iterations 1 --batch-size 1 --input-size 192 --val-images 1",
    "my_version.py": "--iterations 1 --batch-size 1 --val-images 1",
    "deployment/quantize.py": "--images 2 --max-drop 1",
    "inference_speed_evaluation/inference_speed_eval.py": "--rounds 1 --seconds 1 --warmup 0 --resolutions 160x128 "
    "--engines mxnet onnxruntime --precisions fp32",
    "benchmarks.batches": "--batches 1 --repeats 1 --batch-size 1 --input-size 192",
    "benchmarks.postprocessing": "--rounds 1 --size 320x240",
}
"""Program to flags that are appended, so that it takes seconds instead of hours; executed otherwise as written."""

PARSED = {
    "python accuracy_evaluation/predict.py camera:0": "needs a camera and a window",
    "python accuracy_evaluation/predict.py rtsp:": "needs a camera in the network; test_streams.py has a server",
    "python config_farm/configuration_9_400_nano.py": "needs the weights of another project",
    "python -m inference_speed_evaluation.comparison": "needs the weights of other projects",
    "python accuracy_evaluation/predict.py photos/ --model peer:": "needs the weights of another project",
    "python -m accuracy_evaluation.landmark_error": "needs the weights of another project",
    "python accuracy_evaluation/evaluation_on_widerface.py --model slim_320=": "needs the weights of another project",
    "python deployment/export_onnx.py --model retinaface_mnet025=": "needs the weights of another project",
    "python -m detection.label": "needs the weights of another project",
    "python -m data_provider_farm.pack --format coco": "packs what detectors of other projects say",
    "/usr/bin/time -v python accuracy_evaluation/predict.py 8k.jpg": "needs trained weights of v1, and a picture of "
    "7680×4320",
    f"python {V2} --train-data train.rec --output-dir runs/v2_gpu": "needs a GPU",
    "python -m config_farm.overfit": "learns for minutes",
    "python -m benchmarks.engine_speed": "trains for minutes; tests/benchmarks/test_engine_speed.py runs it small",
    "python -m benchmarks.packs": "needs 300 images; tests/benchmarks/test_packs.py makes them",
    "python -m tools.fuzz": "reads files for half an hour; tests/tools/test_fuzz.py reads some",
    "python -m tools.kill_series": "kills for half an hour; tests/tools/test_kill_series.py kills twice",
    "torchrun": "needs eight GPUs, or two machines; tests/config_farm/test_torchrun.py runs two workers",
    "python -m config_farm.launch": "starts servers and two workers; tests/config_farm/test_launch.py does",
    "./start.sh": "runs on the bare machine",
    "python tools/pack_for_bare_machine.py": "downloads wheels; tests/tools/test_pack_for_bare_machine.py makes some",
}
"""Command to the reason why only its arguments are parsed, by the command's own parser."""

LEFT_OUT = {
    "make setup": "installs from the network; continuous integration does it before the tests",
    "make demo": "trains for two minutes",
    "make test": "is this test suite",
    "source .venv/bin/activate": "is done by whoever runs the tests",
    "pip install -e": "installs from the network; that the extra exists is tested",
    "tar xf lffd_bare.tar": "runs on the bare machine",
}
"""Command to the reason why it is not executed."""


def reason(command: str, table: dict[str, str]) -> str | None:
    """Return what a table says of a command, or None."""
    return next((text for start, text in table.items() if command.startswith(start)), None)
