"""Everything that may be written where a model is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lffd.errors import ModelError, UsageError
from lffd.graphs.model import save_model
from lffd.params import pack_params
from symbol_farm import trained_models as model_spec
from symbol_farm.trained_models import load_published, resolve_model
from symbol_farm.versions import VERSIONS, version_network
from tests.factories import random_model

PLATE = "checkpoints/plate_64_512_16L_3scales_v1.params"


@pytest.mark.parametrize("form", ["{file}", "plate={file}", "64_512_16L_3scales_v1={file}"])
def test_the_published_checkpoint_loads(shared: Path, form: str) -> None:
    model = resolve_model(form.format(file=shared / PLATE))
    assert model.network.name == "64_512_16L_3scales_v1"
    assert model.parameter_count == 948_498


def test_a_published_pair_loads(shared: Path, tmp_path: Path) -> None:
    symbol = tmp_path / "symbol_64_512_16L_3scales_v1_deploy.json"
    symbol.write_text(version_network("plate").graph.to_json())
    model = resolve_model(f"{symbol}+{shared / PLATE}")
    assert model.symbol_json == symbol.read_text()
    with pytest.raises(ModelError, match=r"cannot be read: it does not exist"):
        load_published(shared / PLATE, symbol_file=tmp_path / "none.json")


@pytest.mark.parametrize("version", VERSIONS)
def test_bare_parameters_tell_their_version(version: str, tmp_path: Path) -> None:
    (tmp_path / "m.params").write_bytes(pack_params(random_model(version).params))
    assert resolve_model(tmp_path / "m.params").network.name == VERSIONS[version]


def test_parameters_of_no_known_version(tmp_path: Path) -> None:
    (tmp_path / "m.params").write_bytes(pack_params({"conv1_weight": np.zeros((1, 3, 3, 3), np.float32)}))
    with pytest.raises(ModelError, match="not exactly those of a known version"):
        resolve_model(tmp_path / "m.params")
    with pytest.raises(ModelError, match=r"m\.params as 10_320_20L_5scales_v2: .*missing conv1_bias"):
        resolve_model(f"v2={tmp_path / 'm.params'}")


def test_directories_and_shipped_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_spec, "SHIPPED", tmp_path)
    save_model(random_model("plate_small"), tmp_path / "plate_tiny")
    for spec in (str(tmp_path / "plate_tiny"), "plate_tiny", "plate_small"):
        assert resolve_model(spec).network.name == VERSIONS["plate_small"]
    with pytest.raises(ModelError, match="no trained model of version v1 comes with the project"):
        resolve_model("v1")
    with pytest.raises(ModelError, match="unknown model 'plate_tinny': did you mean plate_tiny"):
        resolve_model("plate_tinny")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"not a model directory: it has no card.json"):
        resolve_model(tmp_path / "empty")


def test_unknown_version_of_a_checkpoint() -> None:
    with pytest.raises(UsageError, match="unknown version 'plat': did you mean plate"):
        resolve_model("plat=x.params")
