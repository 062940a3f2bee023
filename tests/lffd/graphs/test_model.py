"""Model directories: round trip, and one clear error for every kind of damage."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lffd.errors import GeometryError, ModelError
from lffd.graphs.graph import parse_graph
from lffd.graphs.model import Model, load_model, make_model, save_model
from lffd.graphs.network import Network
from lffd.params import pack_params
from symbol_farm.versions import version_network
from tests.factories import random_model, random_params

MODEL = random_model("plate_small")


def test_round_trip_with_its_card(tmp_path: Path) -> None:
    facts = {"training": {"iterations": 7}, "accuracy": [{"protocol": "made up", "AP": 0.5}], "note": "ü"}
    extra = {"quantised.onnx": b"bytes"}
    written = save_model(Model(MODEL.network, MODEL.params, facts, extra), tmp_path / "m")
    read = load_model(tmp_path / "m")
    assert read.network.to_dict() == MODEL.network.to_dict()
    assert read.network.branch_geometry == MODEL.network.branch_geometry
    assert read.symbol_json == MODEL.symbol_json
    assert read.extra_files == extra
    assert all(np.array_equal(read.params[name], value) for name, value in MODEL.params.items())
    assert read.card == written
    assert {**read.card, **facts} == read.card
    assert read.card["parameters"] == 486_866
    assert read.card["branches"][2]["normalizer"] == 256
    assert read.card["input"]["color_order"] == "BGR"


def test_a_second_save_keeps_card_and_bytes(tmp_path: Path) -> None:
    save_model(MODEL, tmp_path / "m")
    save_model(load_model(tmp_path / "m"), tmp_path / "again")
    for file in ("card.json", "model.params", "symbol.json"):
        assert (tmp_path / "m" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    save_model(MODEL, tmp_path / "full")
    save_model(MODEL, tmp_path / "half", precision="float16")
    sizes = [(tmp_path / name / "model.params").stat().st_size for name in ("full", "half")]
    assert 0.49 < sizes[1] / sizes[0] < 0.52
    read = load_model(tmp_path / "half")
    assert read.params["conv1_weight"].dtype == np.float32
    np.testing.assert_allclose(read.params["conv1_weight"], MODEL.params["conv1_weight"], rtol=1e-3, atol=1e-6)


def test_saving_replaces_a_model_but_no_other_folder(tmp_path: Path) -> None:
    save_model(MODEL, tmp_path / "m")
    save_model(random_model("plate_small", seed=1), tmp_path / "m")
    assert not np.array_equal(load_model(tmp_path / "m").params["conv1_weight"], MODEL.params["conv1_weight"])
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"x")
    with pytest.raises(ModelError, match="is not empty and holds no model"):
        save_model(MODEL, tmp_path / "photos")
    assert (tmp_path / "photos" / "mine.jpg").exists()


def test_saving_keeps_files_of_the_users_own(tmp_path: Path) -> None:
    save_model(Model(MODEL.network, MODEL.params, {}, {"extra.onnx": b"x"}), tmp_path / "m")
    (tmp_path / "m" / "notes.txt").write_text("mine")
    (tmp_path / "m" / "figures").mkdir()
    (tmp_path / "m" / "figures" / "curve.png").write_bytes(b"png")
    save_model(MODEL, tmp_path / "m")
    names = sorted(path.name for path in (tmp_path / "m").iterdir())
    assert names == ["card.json", "figures", "model.params", "notes.txt", "symbol.json"]
    assert (tmp_path / "m" / "figures" / "curve.png").read_bytes() == b"png"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    extra = Model(MODEL.network, MODEL.params, {}, {"notes.txt": b"of the model"})
    with pytest.raises(ModelError, match=r"would replace notes\.txt, which the card there does not list"):
        save_model(extra, tmp_path / "m")
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"


def test_a_save_cut_short_is_named_when_loading_and_made_good_when_saving(tmp_path: Path) -> None:
    save_model(MODEL, tmp_path / "m")
    (tmp_path / "m" / "notes.txt").write_text("mine")
    (tmp_path / "m").rename(tmp_path / ".m.123.old")
    with pytest.raises(ModelError, match=r"a save was cut short, rename \S+/\.m\.123\.old to \S+/m to go on"):
        load_model(tmp_path / "m")
    save_model(MODEL, tmp_path / "m")
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_saving_onto_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("mine")
    with pytest.raises(ModelError, match="m is a file; choose another name"):
        save_model(MODEL, tmp_path / "m")
    assert (tmp_path / "m").read_text() == "mine"


def test_saving_through_a_link_replaces_what_it_points_to(tmp_path: Path) -> None:
    save_model(MODEL, tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    save_model(random_model("plate_small", seed=1), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert not np.array_equal(load_model(tmp_path / "real").params["conv1_weight"], MODEL.params["conv1_weight"])


def test_values_beyond_half_precision_are_refused_by_name(tmp_path: Path) -> None:
    params = {**MODEL.params, "conv7_bias": np.full(32, -7e4, np.float32)}
    model = Model(MODEL.network, params)
    with pytest.raises(ModelError, match=r"float16 holds values up to 65,504, exceeded in: conv7_bias$"):
        save_model(model, tmp_path / "m", precision="float16")
    assert not list(tmp_path.iterdir())
    save_model(model, tmp_path / "m")


def test_saving_folds_batch_normalisation(tmp_path: Path) -> None:
    params = dict(MODEL.params)
    channels = params["conv1_bias"].size
    states = {"conv1_bn_moving_mean": np.zeros(channels), "conv1_bn_moving_var": np.full(channels, 1 - 1e-5)}
    norm = {"conv1_bn_gamma": np.full(channels, 3.0), "conv1_bn_beta": np.zeros(channels)}
    model = make_model(MODEL.network, {**params, **norm}, states)
    np.testing.assert_allclose(model.params["conv1_weight"], 3 * params["conv1_weight"], rtol=1e-6)
    save_model(model, tmp_path / "m")
    assert "conv1_bn_gamma" not in load_model(tmp_path / "m").params


def _edit_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **changes}))


def _replace_params(folder: Path, params: dict[str, np.ndarray]) -> None:
    data = pack_params(params)
    (folder / "model.params").write_bytes(data)
    card = json.loads((folder / "card.json").read_text())
    _edit_card(folder, sha256={**card["sha256"], "model.params": hashlib.sha256(data).hexdigest()})


def _truncate(folder: Path) -> None:
    _edit_hash_of(folder, (folder / "model.params").read_bytes()[:-100])


def _edit_hash_of(folder: Path, data: bytes) -> None:
    (folder / "model.params").write_bytes(data)
    card = json.loads((folder / "card.json").read_text())
    _edit_card(folder, sha256={**card["sha256"], "model.params": hashlib.sha256(data).hexdigest()})


def _without(name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in MODEL.params.items() if key != name}


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: (f / "card.json").unlink(), "it has no card.json"),
    (lambda f: (f / "card.json").write_text("{"), "not a model card"),
    (lambda f: (f / "card.json").write_text("[" * 100_000), "not a model card: RecursionError"),
    (lambda f: _edit_card(f, sha256=3), "not a model card"),
    (lambda f: _edit_card(f, format=3), "card format 3 is not known"),
    (lambda f: _edit_card(f, sha256={"../secret": "0"}), "plain file names"),
    (lambda f: _edit_card(f, sha256={}), r"gives no sha256 for symbol.json, model.params"),
    (lambda f: _edit_card(f, network={"name": "x"}), "not a network declaration"),
    (lambda f: _edit_card(f, branches=None), "the graph has 3 branches, and the card describes others"),
    (lambda f: _edit_card(f, branches=[{}, 3, None]), "branch 0 is .* on the graph, but {} on the card"),
    (lambda f: (f / "model.params").unlink(), "cannot be read: it does not exist"),
    (lambda f: (f / "model.params").write_bytes(b"other"), "SHA-256 is .* the file is damaged or was replaced"),
    (_truncate, r"model.params: truncated"),
    (lambda f: _replace_params(f, _without("conv7_bias")), "missing conv7_bias"),
    (lambda f: _replace_params(f, {**MODEL.params, "conv99_bias": np.zeros(1, np.float32)}), "extra conv99_bias"),
    (
        lambda f: _replace_params(f, {**MODEL.params, "conv7_bias": np.zeros(5, np.float32)}),
        r"conv7_bias has shape \(5,\) instead of \(32,\)",
    ),
    (
        lambda f: _replace_params(f, {**MODEL.params, "conv7_bias": np.full(32, np.nan, np.float32)}),
        "conv7_bias holds NaN or Inf",
    ),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    save_model(MODEL, tmp_path / "m")
    damage(tmp_path / "m")
    with pytest.raises(ModelError, match=message) as caught:
        load_model(tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value)


def test_every_misfit_is_listed_at_once() -> None:
    params = {**_without("conv1_weight"), "alien": np.zeros(1, np.float32)}
    with pytest.raises(ModelError, match="missing conv1_weight; extra alien"):
        make_model(MODEL.network, params)


def test_a_graph_of_another_version_does_not_fit() -> None:
    head, v2 = version_network("head"), version_network("v2")
    params = random_params(v2.parameter_shapes)
    with pytest.raises(GeometryError, match="has 8 outputs, not 10"):
        make_model(dataclasses.replace(head, graph=v2.graph), params)


def _with_heads(model: Model, order: list[int]) -> Network:
    """The model's network on a graph whose outputs come in another order."""
    content = json.loads(model.symbol_json)
    text = json.dumps({**content, "heads": [content["heads"][index] for index in order]})
    return dataclasses.replace(model.network, graph=parse_graph(text))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([1, 0, 2, 3, 4, 5], r"branch 0 .*: output score \(conv\d+_3_bbox\) has 4 channels instead of 1"),
        ([4, 5, 2, 3, 0, 1], r"branch 1 .*: has a finer stride than the branch before"),
        ([0, 1, 2, 3, 4, 4], r"branch 2 .*: output box \(score_2\) has 1 channels instead of 4"),
        ([0, 3, 2, 1, 4, 5], r"branch 0 .*: its outputs lie at different places"),
    ],
)
def test_outputs_in_another_order_are_refused_by_name(order: list[int], message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        _with_heads(MODEL, order)


def _replace_symbol(folder: Path, text: str) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "symbol.json").write_text(text)
    digests = {**card["sha256"], "symbol.json": hashlib.sha256(text.encode()).hexdigest()}
    _edit_card(folder, sha256=digests)


def test_branches_of_the_same_stride_cannot_be_swapped(tmp_path: Path) -> None:
    """Both orders make a network that could be, so what the card says of the branches decides."""
    model = random_model("v1")
    swapped = _with_heads(model, [2, 3, 0, 1, *range(4, 16)])
    save_model(model, tmp_path / "m")
    _replace_symbol(tmp_path / "m", swapped.graph.to_json())
    message = r"branch 0 is .*'receptive_field': 71.* on the graph, but .*'receptive_field': 55.* on the card"
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "m")
