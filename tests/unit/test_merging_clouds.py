"""Samples, digests and relational matrices: what distances are made of."""

from __future__ import annotations

import numpy as np
import pytest

from scoring.errors import InvalidInputError
from scoring.merging.clouds import FeatureCloud, features_digest, sample_rows
from scoring.merging.relations import relate
from tests.made_clouds import blobs, cloud, moved


def test_a_small_sample_is_the_beginning_of_a_large_one() -> None:
    large = sample_rows(1000, max_rows=400, seed=3, item_id="ramp")
    assert len(set(large.tolist())) == 400
    assert set(large.tolist()) <= set(range(1000))
    assert sample_rows(1000, max_rows=100, seed=3, item_id="ramp").tolist() == large[:100].tolist()


def test_samples_differ_by_seed_and_by_item() -> None:
    drawn = {
        tuple(sample_rows(50, max_rows=10, seed=seed, item_id=item).tolist())
        for seed in (0, 1)
        for item in ("ramp", "canal")
    }
    assert len(drawn) == 4


def test_a_sample_is_the_same_in_every_process() -> None:
    assert sample_rows(10, max_rows=4, seed=0, item_id="ramp").tolist() == [2, 0, 4, 3]


def test_all_rows_where_there_are_fewer_than_asked_for() -> None:
    assert sorted(sample_rows(7, max_rows=400, seed=0, item_id="ramp").tolist()) == list(range(7))


def test_a_digest_follows_values_shape_and_order() -> None:
    features = np.arange(12, dtype=np.float32).reshape(4, 3)
    others = [features + 1, features.reshape(3, 4), features[::-1]]
    assert features_digest(features) == features_digest(features.copy(order="F"))
    assert len({features_digest(array) for array in [features, *others]}) == 4


@pytest.mark.parametrize(
    ("features", "complaint"),
    [
        (np.zeros((1, 3), np.float32), "at least two answers"),
        (np.zeros(3, np.float32), "at least two answers"),
        (np.full((3, 3), np.nan, np.float32), "not finite"),
    ],
)
def test_what_is_no_cloud_is_refused(features: np.ndarray, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"item ramp: .*{complaint}"):
        FeatureCloud.of("ramp", features)


def test_relations_are_distances_over_their_root_mean_square() -> None:
    points = blobs(1, num_answers=30, num_dims=5)
    relations = relate(points)
    direct = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert relations.scale == pytest.approx(np.sqrt((direct**2).mean()))
    np.testing.assert_allclose(relations.matrix * relations.scale, direct, atol=1e-7)
    np.testing.assert_array_equal(relations.matrix, relations.matrix.T)
    assert np.mean(relations.matrix**2) == pytest.approx(1.0)


def test_relations_do_not_see_where_a_cloud_lies_or_how_large_it_is() -> None:
    points = blobs(2, num_answers=25, num_dims=4)
    larger = relate(7 * points + 100)
    np.testing.assert_allclose(larger.matrix, relate(points).matrix, atol=1e-9)
    assert larger.scale == pytest.approx(7 * relate(points).scale)
    spectra = [np.linalg.eigvalsh(relate(rows).matrix) for rows in (points, moved(points, 5))]
    np.testing.assert_allclose(*spectra, atol=1e-9)


def test_a_common_scale_keeps_the_size_of_a_cloud() -> None:
    points = blobs(2, num_answers=25, num_dims=4)
    one, double = (relate(rows, scale=2.0) for rows in (points, 2 * points))
    np.testing.assert_allclose(double.matrix, 2 * one.matrix, atol=1e-9)
    assert one.scale == double.scale == 2.0


def test_coinciding_answers_have_no_scale() -> None:
    relations = relate(np.ones((5, 3)))
    assert relations.scale == 0.0
    np.testing.assert_array_equal(relations.matrix, np.zeros((5, 5)))


@pytest.mark.parametrize("features", [np.zeros((1, 2)), np.zeros(4), np.array([[0.0], [np.inf]])])
def test_relations_need_rows_of_finite_values(features: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match="at least two rows of finite values"):
        relate(features)


def test_a_cloud_knows_its_block() -> None:
    assert cloud("ramp", np.eye(3), block="minilm|r8|en").block == "minilm|r8|en"
