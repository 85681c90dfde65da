"""One grammar: what a description takes, Python takes, with the same value, and nothing else."""

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st

from obscluster.config import CountsConfig, FeaturesConfig, SourceConfig, make_config
from obscluster.exceptions import RequestError
from obscluster.files.description import validated
from obscluster.information.source import CRAB, make_source
from obscluster.values.parsing import background_of, degrees_of, energy_of, flux_of
from obscluster.workflow.runs import _background

EDGES = np.array([1.0, 2.0, 4.0])


def in_python(use, value):
    try:
        use(value)
    except (RequestError, ValueError):
        return False
    return True


def in_description(model, key, value):
    try:
        validated(model, {key: value})
    except RequestError:
        return False
    return True


UNITS = (
    *("deg", "arcmin", "%", "% Crab", "pct Crab", "percent", "Crab", "crab", "s-1 sr-1"),
    *("cm-2 s-1 TeV-1", "TeV", "keV", "m", "s", "1/(deg2 h)", "furlong"),
)
TEXTS = st.one_of(
    st.sampled_from(
        ["0.5", "0:30:00", "2 m", "5%", "3 pct Crab", "1e-2 percent", "1 TeV", "-1 deg", "nan", ""]
    ),
    st.builds(
        "{} {}".format,
        st.floats(allow_subnormal=False),
        st.sampled_from(UNITS),
    ),
    st.text(max_size=8),
)


@given(TEXTS)
def test_a_flux_in_a_description_is_one_in_python(text):
    there = in_description(SourceConfig, "amplitude", text)
    assert there == in_python(lambda value: make_source(amplitude=value), text)


@given(TEXTS)
def test_a_background_in_a_description_is_one_for_the_counts(text):
    there = in_description(CountsConfig, "background", text)
    assert there == in_python(lambda value: _background(value, EDGES), text)


@given(TEXTS)
def test_an_offset_in_a_description_is_one_for_the_features(text):
    def offset(value):
        if not 0 <= degrees_of(value) < np.inf:
            raise ValueError

    assert in_description(FeaturesConfig, "offset", text) == in_python(offset, text)


@given(TEXTS)
def test_an_energy_in_a_description_is_one_in_python(text):
    assert in_description(SourceConfig, "reference", text) == in_python(energy_of, text)


@pytest.mark.parametrize(
    ("text", "crabs"),
    [("0.6 % Crab", 0.006), ("3 pct Crab", 0.03), ("1e-2 percent", 1e-4), ("0.5 crab", 0.5)],
)
def test_fluxes_are_parts_of_the_crab(text, crabs):
    crab = float(CRAB.flux(np.array(1.0)))
    assert flux_of(text, crab) == pytest.approx(crabs * crab, rel=1e-12)
    assert flux_of(crabs, crab) == pytest.approx(crabs * crab, rel=1e-12)


@pytest.mark.parametrize("value", ["0.5", "0.5 deg", "30 arcmin", "0:30:00", 30 * u.arcmin])
def test_angles_are_in_degrees(value):
    assert degrees_of(value) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("value", [0.5, None, True, "2 m", 2 * u.m])
def test_what_is_no_angle_is_told(value):
    with pytest.raises(ValueError, match="not an angle"):
        degrees_of(value)


def test_rates_share_their_unit():
    assert background_of("1, 2, 3 s-1 deg-2").unit == u.Unit("s-1 deg-2")
    assert background_of("1, 2, 3 s-1 deg-2").value.tolist() == [1, 2, 3]


def test_an_offset_without_unit_is_in_degrees(small_archive):
    config = make_config({"archive": str(small_archive), "features": {"offset": "0.5"}})
    assert degrees_of(config.features.offset) == 0.5
