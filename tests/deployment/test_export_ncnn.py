"""Exported ncnn files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deployment import export_ncnn
from deployment.export_ncnn import Options, main
from lffd.engines.factory import create_engine
from lffd.engines.runtime import Runtime
from lffd.errors import ModelError, UsageError
from lffd.files import RECORD, OutputFolder
from lffd.graphs.model import save_model
from lffd.graphs.ncnn_graph import ncnn_files
from tests.factories import random_model

ncnn = pytest.importorskip("ncnn")


def test_files_run_in_bare_ncnn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = random_model("plate_small")
    save_model(model, tmp_path / "model")
    main(Options(model=str(tmp_path / "model"), output_dir=tmp_path / "out"))
    assert "256–512 px: score_2" in capsys.readouterr().out
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    assert net.load_param(str(tmp_path / "out" / "model.param")) == 0
    assert net.load_model(str(tmp_path / "out" / "model.bin")) == 0
    image = np.random.default_rng(0).integers(0, 256, (150, 201, 3), dtype=np.uint8)
    extractor = net.create_extractor()
    extractor.input("data", ncnn.Mat.from_pixels(image, ncnn.Mat.PixelType.PIXEL_BGR, 201, 150))
    expected = create_engine(model, Runtime("mxnet")).run(image[None])
    for index, maps in enumerate(expected):
        assert np.abs(np.array(extractor.extract(f"score_{index}")[1]) - maps["score"][0]).max() <= 1e-4
        assert np.abs(np.array(extractor.extract(f"box_{index}")[1]) - maps["box"][0]).max() <= 1e-4


@pytest.mark.parametrize("version", ["v1", "v2", "pedestrian"])
def test_every_blob_is_made_once_and_read_once(version: str) -> None:
    """ncnn crashes on two blobs of one name, and frees a blob after its first reader."""
    files = ncnn_files(random_model(version))
    magic, counts, *layers = files.param.splitlines()
    made, read = [], []
    for line in layers:
        _, _, inputs, outputs, *blobs = line.split()
        read += blobs[: int(inputs)]
        made += blobs[int(inputs) : int(inputs) + int(outputs)]
    assert magic == "7767517"
    assert counts == f"{len(layers)} {len(made)}"
    assert len(set(made)) == len(made)
    assert sorted([*read, *files.outputs]) == sorted(made)


def test_a_difference_is_refused(tmp_path: Path) -> None:
    save_model(random_model(), tmp_path / "model")
    with pytest.raises(ModelError, match="so it was not written"):
        main(Options(model=str(tmp_path / "model"), output_dir=tmp_path / "out", tolerance=1e-12))
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    save_model(random_model(), tmp_path / "model")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file/out"):  # which the command prints as one line
        export_ncnn.main(Options(model=str(tmp_path / "model"), output_dir=tmp_path / "file" / "out"))


def test_two_runs_do_not_write_one_folder(tmp_path: Path) -> None:
    save_model(random_model("plate_small"), tmp_path / "model")
    options = Options(model=str(tmp_path / "model"), output_dir=tmp_path / "out")
    with OutputFolder(options.output_dir), pytest.raises(UsageError, match="another run is writing there"):
        main(options)
    main(options)
    assert sorted(path.name for path in options.output_dir.iterdir()) == [RECORD, "model.bin", "model.param"]
