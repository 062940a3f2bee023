"""Cut branches that a task does not need: their heads go, and with the deepest ones the layers that only they used."""

from __future__ import annotations

from collections.abc import Sequence

from lffd.errors import UsageError
from lffd.graphs.model import Model
from lffd.graphs.network import cut_branches


def keep_branches(model: Model, kept: Sequence[int]) -> Model:
    """Return the model with some of its branches only; what they say stays the same.

    Args:
        model: any deployed model.
        kept: indices of the branches to keep, 0 the shallowest.

    Raises:
        UsageError: for no branch, an unknown one, or one named twice.
    """
    order = sorted(kept)
    count = len(model.network.branches)
    if not order or len(set(order)) != len(order) or not 0 <= order[0] <= order[-1] < count:
        raise UsageError(f"branches {list(kept)}: name one or more of 0 to {count - 1}, each once ({_ranges(model)})")
    if len(order) == count:
        return model
    network = cut_branches(model.network, order)
    params = {name: model.params[name] for name in network.graph.parameter_names}
    return Model(network, params, {"cut_from": model.network.name})


def _ranges(model: Model) -> str:
    """Return what each branch finds, for an error."""
    ranges = (branch.object_range for branch in model.network.branches)
    return ", ".join(f"{index}: {low:g}–{high:g} px" for index, (low, high) in enumerate(ranges))
