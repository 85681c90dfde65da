"""Quantiles between the points of a table, against SciPy's monotone cubics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from obscluster.features.area import _integrals
from obscluster.features.slices import quantile

steps = st.lists(
    st.tuples(st.floats(1e-3, 1.0), st.one_of(st.just(0.0), st.floats(1e-3, 1.0))),
    min_size=1,
    max_size=12,
)


@given(steps=steps, fraction=st.floats(0.0, 1.0))
@settings(max_examples=300)
def test_the_curve_is_scipys(steps, fraction):
    widths, rises = np.array(steps).T
    x, y = np.append(0.0, np.cumsum(widths)), np.append(0.0, np.cumsum(rises))
    value = fraction * y[-1]
    found = quantile(x, y, value)
    first = int(np.searchsorted(y, value))
    if y[first] == value:
        assert found == x[first]
        return
    assert x[first - 1] <= found <= x[first]
    # Only near points count: a window of three on either side has the same curve.
    curve = PchipInterpolator(x, y)
    assert float(curve(found)) == pytest.approx(value, abs=1e-9 * y[-1])


def test_a_value_that_is_never_reached_has_no_place():
    assert np.isnan(quantile(np.arange(3.0), np.array([0.0, 0.2, 0.4]), 0.5))


def slow_integral(density, center, i, lo, hi):
    """One bin at a time, as the words say."""
    j = i + 1 if i + 1 < len(center) and density[i + 1] > 0 else i - 1
    if not density[i] > 0:
        return 0.0
    if j < 0 or not density[j] > 0:
        return density[i] * (hi - lo)
    slope = np.log(density[j] / density[i]) / np.log(center[j] / center[i])
    if abs(slope + 1) < 1e-9:
        return density[i] * center[i] * np.log(hi / lo)
    x, y = lo / center[i], hi / center[i]
    return density[i] * center[i] * (y ** (slope + 1) - x ** (slope + 1)) / (slope + 1)


@given(
    density=st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e3)), min_size=1, max_size=8),
    part=st.floats(0.0, 1.0),
)
def test_rates_of_all_bins_are_those_of_each(density, part):
    density = np.array(density)
    edges = np.geomspace(0.1, 10, len(density) + 1)
    center = np.sqrt(edges[1:] * edges[:-1])
    lo = edges[:-1] + part * np.diff(edges)
    expected = [slow_integral(density, center, i, lo[i], edges[i + 1]) for i in range(len(density))]
    np.testing.assert_allclose(
        _integrals(density, center, lo, edges[1:]), expected, rtol=1e-9, atol=1e-12
    )


def test_the_rate_of_a_power_law_is_exact():
    edges = np.geomspace(0.1, 100, 21)
    center = np.sqrt(edges[1:] * edges[:-1])
    for index in (-2.7, -1.0):
        exact = (
            np.log(100 / 0.5)
            if index == -1.0
            else (100 ** (index + 1) - 0.5 ** (index + 1)) / (index + 1)
        )
        lo = np.clip(edges[:-1], 0.5, edges[1:])
        total = _integrals(center**index, center, lo, edges[1:]).sum()
        assert total == pytest.approx(exact, rel=1e-10)
