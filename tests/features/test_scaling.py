"""Scaled features: what they must be, whatever goes in."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable, Table
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from obscluster import standard_scaler
from obscluster.exceptions import RequestError
from obscluster.features.scaling import apply_scaling, feature_matrix, feature_names, unscale

finite = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 6))


def feature_table(values):
    table = QTable({"obs_id": np.arange(len(values)), "psf-radius": np.array(values) * u.deg})
    table["notes"] = [""] * len(values)
    return table


@given(st.lists(finite, min_size=2, max_size=30))
def test_mean_is_zero_and_variance_one_unless_constant(values):
    scaled = standard_scaler(feature_table(values))["psf-radius"].value
    spread = np.ptp(values)
    if spread == 0:
        assert_array_equal(scaled, 0.0)
    elif spread > 1e-3:
        assert_allclose(scaled.mean(), 0.0, atol=1e-6)
        assert_allclose(scaled.std(), 1.0, rtol=1e-9)


@given(st.lists(finite, min_size=2, max_size=30), st.floats(0.1, 10), finite)
def test_shift_and_factor_do_not_matter(values, factor, shift):
    values = np.array(values)
    if np.ptp(values) < 1:
        return
    first = standard_scaler(feature_table(values))["psf-radius"].value
    second = standard_scaler(feature_table(factor * values + shift))["psf-radius"].value
    assert_allclose(first, second, atol=1e-6)


def test_constants_give_the_values_back():
    table = feature_table([0.1, 0.2, 0.4])
    scaled = standard_scaler(table)
    constants = scaled.meta["scaling"]["constants"]["psf-radius"]
    assert constants["unit"] == "deg"
    scaling, value = scaled.meta["scaling"], scaled["psf-radius"].value
    assert_allclose(
        unscale(value[:, None], scaling, ["psf-radius"])[:, 0],
        table["psf-radius"].value,
        rtol=1e-14,
    )
    assert_array_equal(apply_scaling(table, scaling)["psf-radius"].value, value)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-300, 0.0])
def test_a_constant_feature_becomes_exactly_zero(value):
    assert_array_equal(standard_scaler(feature_table([value] * 7))["psf-radius"].value, 0.0)


def test_missing_values_stay_missing_and_do_not_count():
    scaled = standard_scaler(feature_table([1.0, np.nan, 3.0]))["psf-radius"].value
    assert_array_equal(scaled, [-1.0, np.nan, 1.0])


def test_the_input_is_not_modified():
    table = feature_table([1.0, 2.0, 4.0])
    before = table.copy()
    standard_scaler(table)
    assert_array_equal(table["psf-radius"], before["psf-radius"])
    assert table["psf-radius"].unit == u.deg
    assert "scaling" not in table.meta


def test_equals_gammapys_scaler():
    cluster = pytest.importorskip("gammapy.utils.cluster")
    values = np.random.default_rng(1).normal(0.1, 0.02, 50)
    ours = standard_scaler(feature_table(values))["psf-radius"].value
    theirs = cluster.standard_scaler(Table({"obs_id": range(50), "psf-radius": values}))
    assert_allclose(ours, theirs["psf-radius"], rtol=1e-12)


def test_matrix_has_one_column_per_feature_and_no_others():
    table = feature_table([1.0, 2.0])
    table["edisp-res"] = [0.1, 0.2]
    table["labels"] = [1, 2]
    X, names = feature_matrix(table)
    assert names == ["psf-radius", "edisp-res"]
    assert_array_equal(X, [[1.0, 0.1], [2.0, 0.2]])


def test_a_table_without_features_is_refused():
    with pytest.raises(RequestError, match="no feature among the columns obs_id, notes"):
        feature_names(Table({"obs_id": [1], "notes": [""]}))
