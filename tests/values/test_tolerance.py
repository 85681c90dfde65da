"""Tolerances as users write them."""

import astropy.units as u
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from obscluster.exceptions import RequestError
from obscluster.values.columns import range_of, relative_spread
from obscluster.values.tolerance import Tolerance, parse_tolerance


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("15%", u.deg, Tolerance(0.15, relative=True)),
        ("15 %", u.one, Tolerance(0.15, relative=True)),
        ("0.02", u.one, Tolerance(0.02)),
        (0.02, u.deg, Tolerance(0.02)),
        ("0.02 deg", u.deg, Tolerance(0.02)),
        ("1.2 arcmin", u.deg, Tolerance(0.02)),
        (1.2 * u.arcmin, u.deg, Tolerance(0.02)),
    ],
)
def test_amounts_and_percentages(text, unit, expected):
    found = parse_tolerance(text, unit, "psf-r68")
    assert found.relative == expected.relative
    assert_allclose(found.value, expected.value)


@pytest.mark.parametrize("text", ["wide", "3 TeV", "-1", "0", "nan", "inf", "-5%", ""])
def test_what_is_none_is_refused_by_name(text):
    with pytest.raises(RequestError, match="of psf-r68: expected"):
        parse_tolerance(text, u.deg, "psf-r68")


@given(st.floats(0.1, 10), st.floats(1, 3), st.floats(0.01, 1.5))
def test_a_relative_tolerance_is_that_of_the_relative_spread(lo, ratio, value):
    hi = lo * ratio
    tolerance = Tolerance(value, relative=True)
    if abs(relative_spread(lo, hi) - value) > 1e-9:
        assert tolerance.allows(lo, hi) == (relative_spread(lo, hi) <= value)
        # The same of negative values.
        assert tolerance.allows(-hi, -lo) == tolerance.allows(lo, hi)


@given(st.lists(st.floats(0, 359.9), min_size=1, max_size=12), st.floats(-720, 720))
def test_the_range_of_angles_does_not_depend_on_where_north_is(angles, turn):
    angles = np.array(angles)
    lo, hi = range_of(angles, 360.0)
    assert -360 < lo < 360
    assert 0 <= hi - lo < 360
    # It holds all of them.
    assert (np.mod(angles - lo + 1e-9, 360) <= hi - lo + 2e-9).all()
    turned = range_of(angles + turn, 360.0)
    assert_allclose(turned[1] - turned[0], hi - lo, atol=1e-6)


def test_ranges_of_nothing_and_of_one():
    assert np.isnan(range_of(np.array([np.nan]))).all()
    assert range_of(np.array([3.0, np.nan, 1.0])) == (1.0, 3.0)
    assert range_of(np.array([350.0, 10.0]), 360.0) == (-10.0, 10.0)
    assert relative_spread(9, 11) == 0.2
    assert np.isnan(relative_spread(-1, 1))
