"""The MXNet iterator: what it declares is what it gives."""

from __future__ import annotations

import numpy as np
import pytest

from data_iterator_farm.mxnet_iter import ImageType, LFFDDataIter, image_array
from lffd.engines.mxnet_engine import import_mxnet
from lffd.errors import UsageError
from tests.data_iterator_farm.made_up import make_source
from tests.data_iterator_farm.test_batch_loader import HEAD, open_loader, take

SOURCE = make_source(6)


@pytest.mark.parametrize("image_type", ["float32", "uint8"])
def test_batches_are_as_declared(image_type: ImageType) -> None:
    mx = import_mxnet()
    expected = take(SOURCE, 4)
    with open_loader(SOURCE) as loader:
        iterator = LFFDDataIter(loader, 2, image_type)
        assert isinstance(iterator, mx.io.DataIter)
        seen = []
        for _ in range(2):
            seen += list(iterator)
            iterator.reset()
    assert [batch.index for batch in seen] == [0, 1, 2, 3]
    names = [f"{kind}_{k}" for k in range(len(HEAD.branches)) for kind in ("score", "box")]
    assert [label.name for label in iterator.provide_label] == names
    for found, batch in zip(seen, expected, strict=True):
        for declared, array in zip(
            [*iterator.provide_data, *iterator.provide_label], [*found.data, *found.label], strict=True
        ):
            assert array.shape == declared.shape
            assert array.dtype == declared.dtype
        np.testing.assert_array_equal(found.data[0].asnumpy(), image_array(batch.images, image_type))
        for k, targets in enumerate(batch.targets):
            np.testing.assert_array_equal(found.label[2 * k].asnumpy(), targets["score"])
            np.testing.assert_array_equal(found.label[2 * k + 1].asnumpy(), targets["box"])


def test_a_network_takes_the_float_images() -> None:
    mx = import_mxnet()
    with open_loader(SOURCE) as loader:
        iterator = LFFDDataIter(loader, 1)
        data = mx.sym.Variable("data")
        module = mx.mod.Module(mx.sym.Convolution(data, num_filter=2, kernel=(3, 3), name="c"), label_names=[])
        module.bind(iterator.provide_data, for_training=False)
        module.init_params()
        module.forward(next(iterator))
        assert module.get_outputs()[0].shape == (4, 2, 94, 94)


def test_impossible_arguments_are_refused() -> None:
    with open_loader(SOURCE) as loader:
        for arguments in ((0,), (1, "float16")):
            with pytest.raises(UsageError):
                LFFDDataIter(loader, *arguments)
