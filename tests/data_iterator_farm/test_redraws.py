"""Redraws: where no face of an image can become as large as drawn, another image is tried."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_iterator_farm.crop_sampling import choose_focus, sample_crop
from tests.data_iterator_farm.made_up import make_record
from tests.data_iterator_farm.test_crop_sampling import DRAWS, PLAIN, V2


def test_a_face_that_reaches_the_drawn_size_is_preferred() -> None:
    record = make_record([[0, 0, 12, 12], [20, 20, 120, 120]])
    rng = np.random.default_rng(0)
    policy = replace(PLAIN, redraws=1)
    looks = [choose_focus(record, V2, policy, rng) for _ in range(DRAWS)]
    assert all(look.reached == (look.wanted <= 300) for look in looks)
    assert {look.face for look in looks if 36 < look.wanted <= 300} == {1}
    assert {look.face for look in looks if look.wanted > 300} == {0, 1}, "no face reaches it: any will do"
    assert not all(choose_focus(record, V2, PLAIN, rng).reached for _ in range(DRAWS))


def test_other_images_are_tried_until_a_face_reaches_the_drawn_size() -> None:
    few, large = make_record([[0, 0, 12, 12]], name="few"), make_record([[0, 0, 140, 140]], name="large")
    records = [few] * 3 + [large]

    def names(redraws: int) -> list[str]:
        rng = np.random.default_rng(0)
        policy = replace(PLAIN, redraws=redraws, side_range=(250.0, 400.0))
        return [
            sample_crop(few, 64, V2, policy, rng, partner=lambda numbers: records[numbers.integers(4)]).names[0]
            for _ in range(200)
        ]

    assert set(names(0)) == {"few"}
    drawn_by_branch = replace(PLAIN, redraws=8, target="branch", max_upscale=1.0)
    for _ in range(20):
        crop = sample_crop(few, 64, V2, drawn_by_branch, np.random.default_rng(), partner=lambda _: large)
        assert crop.names == ("few",), "only sizes that are drawn before the face can ask for another one"
    shares = [names(redraws).count("large") / 200 for redraws in (1, 8)]
    assert 0.15 < shares[0] < 0.35  # a quarter
    assert 0.82 < shares[1] < 0.98  # 1 − 0.75 to the 8th
