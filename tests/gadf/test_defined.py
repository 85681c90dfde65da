"""A bin of a response without a value is undefined, not zero: values are those of defined bins.

For every class of response, an obvious and slow interpolation among the defined bins is the oracle.
"""

import re
from itertools import pairwise

import astropy.units as u
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from evaluation import evaluate
from obscluster import DataStore
from obscluster.features.area import background_rate
from obscluster.features.base import NotComputableError
from obscluster.features.catalog import FEATURES
from obscluster.features.psf import containment_radius
from obscluster.features.slices import at_energy
from obscluster.gadf.axis import Axis, blend, second_weight
from obscluster.gadf.psf import PROFILES
from obscluster.gadf.response import IRF
from obscluster.information.background import bin_rates
from obscluster.information.counts import disc_fractions, dispersion_kernel, effective_area

RAD = Axis.from_edges("rad", np.linspace(0.0, 1.5, 151))
MIGRA = Axis.from_edges("migra", np.linspace(0.0, 4.0, 201))
FOV = Axis.from_edges("fov_lon", np.linspace(-2.5, 2.5, 6))

# --- responses of one number per bin, `sizes`, shape (n_energies, n_offsets); NaN is empty ------


def axes_of(sizes, energy_name="energy_true"):
    n_energies, n_offsets = sizes.shape
    energy = Axis.from_edges(energy_name, np.geomspace(0.1, 10, n_energies + 1), "log")
    return {"energy": energy, "offset": Axis.from_edges("offset", np.arange(n_offsets + 1.0))}


def psf_table(sizes):
    axes = axes_of(sizes)
    inside = -np.expm1(-0.5 * (RAD.edges / sizes[..., np.newaxis]) ** 2)
    table = np.nan_to_num(np.diff(inside) / (2 * np.pi * RAD.center * np.diff(RAD.edges)))
    named = {"energy_true": axes["energy"], "offset": axes["offset"], "rad": RAD}
    return IRF("psf_table", named, {"RPSF": table}, u.deg**-2)


def parametric(name, sizes, **arrays):
    axes = axes_of(sizes)
    full = {key: np.broadcast_to(value, sizes.shape).copy() for key, value in arrays.items()}
    named = {"energy_true": axes["energy"], "offset": axes["offset"]}
    return IRF(name, named, full, u.sr**-1)


def psf_3gauss(sizes):
    off = dict.fromkeys(("AMPL_2", "SIGMA_2", "AMPL_3", "SIGMA_3"), 0.0)
    return parametric("psf_3gauss", sizes, SCALE=1.0, SIGMA_1=np.nan_to_num(sizes), **off)


def psf_king(sizes):
    return parametric("psf_king", sizes, GAMMA=2.0, SIGMA=np.nan_to_num(sizes))


def edisp_2d(sizes):
    """Box of migration around 1 + size."""
    axes = axes_of(sizes)
    center = 1 + sizes[:, np.newaxis, :]
    matrix = np.abs(MIGRA.center[np.newaxis, :, np.newaxis] - center) < 0.3
    named = {"energy_true": axes["energy"], "migra": MIGRA, "offset": axes["offset"]}
    return IRF("edisp_2d", named, {"MATRIX": matrix.astype(float)}, u.one)


def rad_max_2d(sizes):
    return IRF("rad_max_2d", axes_of(sizes, "energy"), {"RAD_MAX": np.nan_to_num(sizes)}, u.deg)


def bkg_2d(sizes):
    unit = u.Unit("s-1 TeV-1 sr-1")
    return IRF("bkg_2d", axes_of(sizes, "energy"), {"BKG": np.nan_to_num(sizes)}, unit)


def bkg_3d(sizes):
    """The same at all latitudes; the longitude stands for the offset."""
    axes, n_offsets = axes_of(sizes, "energy"), sizes.shape[1]
    named = {"energy": axes["energy"]}
    named["fov_lon"] = Axis.from_edges("fov_lon", np.arange(n_offsets + 1.0))
    named["fov_lat"] = Axis.from_edges("fov_lat", [-1.0, 0.0, 1.0])
    values = np.repeat(np.nan_to_num(sizes)[:, :, np.newaxis], 2, axis=2)
    return IRF("bkg_3d", named, {"BKG": values}, u.Unit("s-1 TeV-1 sr-1"))


def value_or_reason(function, *arguments):
    """What a function gives, and why there is nothing."""
    try:
        return function(*arguments), ""
    except NotComputableError as reason:
        return np.nan, str(reason)


def of_feature(name):
    def measure(irf, energy, offset):
        found, reason = value_or_reason(evaluate, name, irf, energy, offset)
        return np.nan if reason else found[0]

    return measure


def of_background(irf, energy, offset):
    place = {"offset": offset} if "offset" in irf.axes else {"fov_lon": offset, "fov_lat": 0.3}
    return irf.evaluate(energy=energy * u.TeV, **{k: v * u.deg for k, v in place.items()}).value


# How to make a response, how to look at it, and how coarse that is.
CLASSES = {
    "psf_table": (psf_table, of_feature("psf-r68"), 0.002),
    "psf_3gauss": (psf_3gauss, of_feature("psf-r68"), 1e-6),
    "psf_king": (psf_king, of_feature("psf-r68"), 1e-6),
    "edisp_2d": (edisp_2d, of_feature("edisp-bias50"), 0.02),
    "rad_max_2d": (rad_max_2d, of_feature("rad-max"), 1e-9),
    "bkg_2d": (bkg_2d, of_background, 1e-9),
    "bkg_3d": (bkg_3d, of_background, 1e-9),
}
every_class = pytest.mark.parametrize("name", CLASSES)
WIDTHS = ["psf_3gauss", "psf_king", "rad_max_2d"]


@st.composite
def tables(draw, some_empty=True):
    """Sizes of bins, some of them empty."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 4)))
    size = st.floats(0.05, 0.2)
    values = draw(st.lists(size, min_size=20, max_size=20))
    sizes = np.array(values)[: shape[0] * shape[1]].reshape(shape)
    if some_empty:
        empty = draw(st.lists(st.booleans(), min_size=20, max_size=20))
        sizes = np.where(np.array(empty)[: sizes.size].reshape(shape), np.nan, sizes)
    return sizes


def place(draw, sizes, centers=False):
    """Energy and offset, within the edges or within the outer centres."""
    axes = axes_of(sizes)
    found = []
    for axis in (axes["energy"], axes["offset"]):
        ends = axis.center[[0, -1]] if centers else axis.edges[[0, -1]]
        lo, hi = axis.scale(ends)
        x = lo + (hi - lo) * draw(st.floats(0, 1))
        if draw(st.integers(0, 3)) == 0:
            x = float(draw(st.sampled_from(list(axis.scaled_center))))
        found.append(float(np.clip(np.exp(x) if axis.interp == "log" else x, *ends)))
    return tuple(found)


def neighbours(sizes, energy, offset):
    """Indices of the bins that have a weight."""
    axes = axes_of(sizes)
    found = []
    for axis, value in ((axes["energy"], energy), (axes["offset"], offset)):
        i, j, t = axis.neighbours(value)
        found.append({k for k, weight in ((i, 1 - t), (j, t)) if weight != 0} or {i})
    return [(k, m) for k in found[0] for m in found[1]]


# --- the oracle ----------------------------------------------------------------------------------


def oracle_1d(x, nodes, values):
    """Interpolation among what is there, as the rule reads; NaN is nothing."""
    if len(nodes) == 1:
        return values[0]
    k = 0
    while k < len(nodes) - 2 and nodes[k + 1] <= x:
        k += 1
    a, b = values[k], values[k + 1]
    distance = (x - nodes[k]) / (nodes[k + 1] - nodes[k])
    if distance == 0:
        return a
    if distance == 1:
        return b
    if np.isnan(a) and np.isnan(b):
        return np.nan
    if np.isnan(b):
        return a if abs(distance) < 0.5 else np.nan
    if np.isnan(a):
        return b if abs(1 - distance) < 0.5 else np.nan
    return (1 - distance) * a + distance * b


def oracle(irf, values, energy, offset):
    """Along the offset first, then along the energy."""
    along, across = next(iter(irf.axes.values())), irf.axes["offset"]
    rows = [oracle_1d(float(across.scale(offset)), across.scaled_center, row) for row in values]
    return oracle_1d(float(along.scale(energy)), along.scaled_center, rows)


@pytest.mark.parametrize("name", ["psf_table", "psf_3gauss", "psf_king", "edisp_2d", "rad_max_2d"])
@given(data=st.data())
def test_interpolation_is_that_of_the_oracle(name, data):
    sizes = data.draw(tables())
    energy, offset = place(data.draw, sizes)
    irf = CLASSES[name][0](sizes)
    column = {"psf_3gauss": "SIGMA_1", "psf_king": "SIGMA"}.get(name, next(iter(irf.arrays)))
    values = np.asarray(irf.arrays[column], dtype=float)
    if name == "edisp_2d":
        values = np.moveaxis(values, 1, -1)
    values = np.where(np.isnan(sizes)[(..., *[np.newaxis] * (values.ndim - 2))], np.nan, values)
    flat = values.reshape(*sizes.shape, -1)
    expected = [oracle(irf, flat[..., k], energy, offset) for k in range(flat.shape[-1])]
    names = list(irf.axes)
    found, reason = value_or_reason(at_energy, irf, column, energy, offset, names[0])
    assert ("is empty" in reason) == np.isnan(expected).all()
    assert_allclose(np.broadcast_to(found, len(expected)), expected, rtol=1e-12, atol=1e-15)
    if name not in PROFILES:
        evaluated = irf.evaluate(**{names[0]: energy * u.TeV, "offset": offset * u.deg}).value
        # Neither is continued below zero; a cut of zero is none.
        wanted = np.clip(expected, 0.0, None)
        wanted = np.where((wanted > 0) | (name != "rad_max_2d"), wanted, np.nan)
        assert_allclose(evaluated.ravel(), wanted, rtol=1e-12, atol=1e-15)


@given(st.floats(-2, 3), st.booleans(), st.booleans(), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_who_has_no_weight_does_not_matter(weight, first, second, a, b):
    a, b = a if first else np.nan, b if second else np.inf
    share = second_weight(weight, first, second)
    found = blend(np.asarray(a), np.asarray(b), share)
    assert np.isnan(found) == np.isnan(share)
    values = [a, b if second else np.nan]
    assert_allclose(found, oracle_1d(weight, [0.0, 1.0], values), rtol=1e-12, atol=1e-9)


# --- what holds for every class ------------------------------------------------------------------


@every_class
@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_a_value_lies_within_those_of_its_defined_neighbours(name, data):
    make, measure, slack = CLASSES[name]
    sizes = data.draw(tables())
    energy, offset = place(data.draw, sizes, centers=True)
    irf, axes = make(sizes), axes_of(sizes)
    value = measure(irf, energy, offset)
    assume(np.isfinite(value))
    used = neighbours(sizes, energy, offset)
    if name.startswith("bkg"):
        # Through empty energies: any other of them may be the nearest that is not.
        used = [(k, m) for k in range(len(sizes)) for m in {m for _, m in used}]
        if value == 0:
            assert any(np.isnan(sizes[:, m]).all() or np.isnan(sizes[k, m]) for k, m in used)
            return
    around = [measure(irf, axes["energy"].center[k], axes["offset"].center[m]) for k, m in used
              if np.isfinite(sizes[k, m])]  # fmt: skip
    # A background of zero among zeros is one; next to it there is less.
    zero = name.startswith("bkg") and any(
        np.isnan(sizes[max(k - 1, 0) : k + 2, m]).all() for k, m in used
    )
    least = 0.0 if zero else min(around)
    assert least - slack <= value <= max(around) + slack


@every_class
@given(data=st.data())
def test_emptying_bins_changes_no_value_that_does_not_touch_them(name, data):
    make, measure, _ = CLASSES[name]
    sizes = data.draw(tables(some_empty=False))
    energy, offset = place(data.draw, sizes)
    before = measure(make(sizes), energy, offset)
    others = set(np.ndindex(sizes.shape)) - set(neighbours(sizes, energy, offset))
    emptied = sizes.copy()
    for index in sorted(others):
        if data.draw(st.booleans()):
            emptied[index] = np.nan
    assert_array_equal(measure(make(emptied), energy, offset), before)


@every_class
@pytest.mark.parametrize("empty", [0, 1])
@pytest.mark.parametrize("along", ["energy", "offset"])
@given(t=st.floats(0.001, 0.999))
def test_a_defined_bin_holds_for_half_the_way(name, empty, along, t):
    assume(abs(t - 0.5) > 1e-9)
    make, measure, _ = CLASSES[name]
    sizes = np.array([[0.06, 0.1], [0.14, 0.18]])
    index = (empty, slice(None)) if along == "energy" else (slice(None), empty)
    sizes[index] = np.nan
    if along == "offset" and name.startswith("bkg"):
        # Zeros among zeros are a background of zero.
        sizes[0] = 0.2
    axes = axes_of(sizes)
    energy, offset = axes["energy"].center[-1], axes["offset"].center[0]
    if along == "offset":
        offset = t + 0.5
    else:
        offset = 0.5
        energy = float(np.exp(np.dot([1 - t, t], np.log(axes["energy"].center[-2:]))))
    value = measure(make(sizes), energy, offset)
    other = 1 - empty
    near = t < 0.5 if other == 0 else t > 0.5
    if not near and name.startswith("bkg") and along == "offset":
        # From the bin below, which is there at both offsets, nothing leads on.
        assert np.isnan(value)
    elif near:
        full = np.where(np.isnan(sizes), 1.0, sizes)
        at = axes["energy"].center[other] if along == "energy" else energy
        where = offset if along == "energy" else axes["offset"].center[other]
        assert_allclose(value, measure(make(full), at, where), rtol=1e-9)
    else:
        assert np.isnan(value)


@pytest.mark.parametrize("name", WIDTHS)
@given(data=st.data())
def test_a_width_of_zero_never_gives_a_number(name, data):
    make, measure, _ = CLASSES[name]
    sizes = data.draw(tables())
    energy, offset = place(data.draw, sizes)
    irf = make(np.full_like(sizes, np.nan))
    assert np.isnan(measure(irf, energy, offset))
    along = next(iter(irf.axes))
    at = {along: energy * u.TeV, "offset": offset * u.deg}
    assert np.isnan(irf.evaluate(**at).value).all()


@pytest.mark.parametrize("second", [0.0, 0.4])
def test_a_gaussian_that_is_on_needs_a_width(second):
    sizes = np.full((3, 3), 0.1)
    irf = psf_3gauss(sizes)
    irf.arrays["AMPL_2"][:] = second
    if second:
        with pytest.raises(NotComputableError, match=r"the response is empty \(psf_3gauss at"):
            evaluate("psf-r68", irf)
    else:
        assert evaluate("psf-r68", irf) == (pytest.approx(0.1 * np.sqrt(-2 * np.log(0.32))), "")
    parameters = {name: values[0, 0] for name, values in irf.arrays.items()}
    inside = PROFILES["psf_3gauss"].containment(np.asarray(0.1), parameters)
    assert np.isnan(inside) == bool(second)


ODD = [0.0, -1.0, np.nan, np.inf, -np.inf, 1e-30, 1e30, 0.1, 0.1, 1.0, 2.0]
# A reason or a remark is a kind, and in parentheses what differs from run to run.
MESSAGE = re.compile(r"[^();]+( \([^;]*\))?")


@every_class
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_value_without_a_reason(name, data):
    sizes = data.draw(tables())
    irf = CLASSES[name][0](sizes)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    for column, values in irf.arrays.items():
        odd = rng.random(values.shape) < data.draw(st.sampled_from([0.0, 0.1, 0.6]))
        irf.arrays[column] = np.where(odd, rng.choice(ODD, values.shape), values)
    energy, offset = place(data.draw, sizes)
    offset = data.draw(st.sampled_from([offset, offset, 7.0]))
    needed = name.rsplit("_", 1)[0] if name == "rad_max_2d" else name.split("_")[0]
    for key in [key for key, each in FEATURES.items() if each.needs == (needed,)]:
        found, reason = value_or_reason(evaluate, key, irf, energy, offset)
        if reason:
            assert MESSAGE.fullmatch(reason)
        else:
            assert np.isfinite(found[0])
            assert all(map(MESSAGE.fullmatch, found[1].split("; "))) or not found[1]


# --- which bins are defined ----------------------------------------------------------------------


@every_class
@given(data=st.data())
def test_defined_are_the_bins_that_are_not_empty(name, data):
    sizes = data.draw(tables())
    defined = CLASSES[name][0](sizes).defined
    if name.startswith("bkg"):
        filled = np.isfinite(sizes)
        for k, m in np.ndindex(sizes.shape):
            beside = filled[max(k - 1, 0) : k + 2, m].any()
            between = filled[:k, m].any() and filled[k:, m].any()
            expected = filled[k, m] or not (beside or between)
            assert np.all(defined[k, m] == expected)
    else:
        assert_array_equal(defined, np.isfinite(sizes))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("psf_table", {"RPSF": np.nan}),
        ("psf_3gauss", {"SCALE": 0.0}),
        ("psf_3gauss", {"SIGMA_3": np.nan}),
        ("psf_3gauss", {"AMPL_2": 0.1, "SIGMA_2": 0.0}),
        ("psf_3gauss", {"SIGMA_1": -1.0}),
        ("psf_king", {"GAMMA": 1.0}),
        ("psf_king", {"SIGMA": np.inf}),
        ("edisp_2d", {"MATRIX": 0.0}),
        ("rad_max_2d", {"RAD_MAX": np.nan}),
        ("rad_max_2d", {"RAD_MAX": -0.1}),
        ("bkg_2d", {"BKG": np.nan}),
    ],
)
def test_what_makes_a_bin_undefined(name, changes):
    irf = CLASSES[name][0](np.full((3, 2), 0.1))
    assert irf.defined.all()
    for column, value in changes.items():
        irf.arrays[column][1] = value
    assert_array_equal(irf.defined, [[True, True], [False, False], [True, True]])


def area(values, **invalid):
    values = np.asarray(values, dtype=float)
    axes = axes_of(values)
    named = {"energy_true": axes["energy"], "offset": axes["offset"]}
    return IRF("aeff_2d", named, {"EFFAREA": values}, u.m**2, invalid=invalid)


def test_an_area_of_zero_is_a_value_and_one_that_the_file_does_not_have_is_none():
    values = np.array([[0.0], [1.0], [0.0], [100.0]])
    assert area(values).defined.all()
    known = area(values, EFFAREA=np.array([[False], [False], [True], [False]]))
    assert_array_equal(known.defined.ravel(), [True, True, False, True])
    centers = known.axes["energy_true"].center
    assert evaluate("aeff", known, centers[1], 0.5)[0] == 1.0
    with pytest.raises(NotComputableError, match="empty"):
        evaluate("aeff", known, centers[2], 0.5)
    # Where the area passes the threshold there is none.
    with pytest.raises(NotComputableError, match=r"empty \(aeff_2d at 1\.\d+ TeV"):
        evaluate("aeff-threshold", known, offset=0.5)
    bins = effective_area(known, centers, 0.5)
    assert_allclose(bins[[0, 1, 3]], [0.0, 1e4, 1e6])


# --- backgrounds ---------------------------------------------------------------------------------


class TestBackground:
    sizes = np.array([[8.0, 8.0], [4.0, 4.0], [2.0, 2.0], [1.0, 1.0], [0.5, 0.5]])

    def value(self, sizes, energy):
        return of_background(bkg_2d(np.array(sizes)), energy, 0.7)

    @pytest.mark.parametrize("emptied", [[1], [1, 2], [2, 3], [1, 2, 3]])
    def test_it_is_interpolated_through_empty_energies(self, emptied):
        # A power law: nothing is lost with the bins between.
        sizes = self.sizes.copy()
        sizes[emptied] = np.nan
        centers = axes_of(sizes)["energy"].center
        for energy in np.geomspace(*centers[[0, -1]], 30):
            assert_allclose(self.value(sizes, energy), self.value(self.sizes, energy), rtol=1e-9)

    def test_beyond_an_empty_bin_the_last_one_holds(self):
        sizes = self.sizes.copy()
        sizes[-2] = np.nan
        assert_allclose(self.value(sizes, 9.999), 0.5)

    def test_beyond_the_last_filled_bin_it_holds_for_half_the_way(self):
        sizes = self.sizes.copy()
        sizes[3:] = np.nan
        center, half = axes_of(sizes)["energy"].center, 10 ** (0.5 * 2 / 5)
        assert_allclose(self.value(sizes, center[2] * half * 0.99), 2.0)
        assert np.isnan(self.value(sizes, center[2] * half * 1.01))
        assert np.isnan(self.value(sizes, center[3]))
        # Further out nothing is nothing.
        assert self.value(sizes, center[4]) == 0

    def test_a_place_without_any_is_a_genuine_zero(self):
        assert self.value(np.full((5, 2), np.nan), 1.0) == 0
        sizes = self.sizes.copy()
        sizes[:, 1] = np.nan
        assert of_background(bkg_2d(sizes), 1.0, 1.9) == 0

    def test_nothing_is_continued_from_a_place_without_any(self):
        sizes = self.sizes.copy()
        sizes[:, 0] = np.nan
        assert_allclose(of_background(bkg_2d(sizes), axes_of(sizes)["energy"].center[2], 2.0), 2.0)

    def test_an_empty_bin_adds_nothing_to_a_rate_and_is_told(self):
        sizes = self.sizes.copy()
        full = background_rate(bkg_2d(sizes), 0.1, 0.7)
        bounds = axes_of(sizes)["energy"].edges
        slope = np.log(0.5) / np.log(10**0.4)
        law = 8.0 * (bounds / axes_of(sizes)["energy"].center[0]) ** slope * bounds / (slope + 1)
        assert_allclose(full, law[-1] - law[0])
        sizes[2] = np.nan
        remarks = []
        rate = background_rate(bkg_2d(sizes), 0.1, 0.7, remarks.append)
        # The bins beside lean on their other neighbours, along the same power law.
        assert_allclose(rate, full - (law[3] - law[2]))
        (remark,) = remarks
        assert remark == "background bins without events count as zero (bkg_2d: 20 % of those used)"

    @given(st.lists(st.booleans(), min_size=6, max_size=6), st.floats(-4, -1))
    def test_nor_to_the_rate_of_bins_and_drags_nothing_down(self, empty, index):
        bounds = np.geomspace(0.1, 100, 7)
        center = np.sqrt(bounds[:-1] * bounds[1:])
        law = center**index
        density = np.stack([law, np.where(empty, 0.0, law)], axis=-1)
        assume(abs(index + 1) > 1e-3)
        edges = np.geomspace(0.2, 50, 9)
        rates = bin_rates(np.log(center), density, bounds, edges)
        assert_allclose(rates[:, 0], np.diff(edges ** (index + 1)) / (index + 1), rtol=1e-9)
        fine = np.unique(np.concatenate([edges, bounds]))
        parts = np.diff(fine ** (index + 1)) / (index + 1)
        middle = np.sqrt(fine[:-1] * fine[1:])
        parts *= ~np.array(empty)[np.clip(np.searchsorted(bounds, middle) - 1, 0, 5)]
        expected = [parts[(middle > lo) & (middle < hi)].sum() for lo, hi in pairwise(edges)]
        if sum(empty) < 5:
            assert_allclose(rates[:, 1], expected, rtol=1e-9)
        assert (rates[:, 1][np.array(expected) == 0] == 0).all()


# --- expected counts -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [psf_table, psf_3gauss, psf_king])
@pytest.mark.parametrize("offset", [0.5, 0.7])
def test_rings_are_those_of_the_defined_bins(make, offset):
    sizes = np.full((4, 2), 0.1)
    energies, radii = np.geomspace(0.2, 8, 40), np.array([0.05, 0.1, 0.3])
    full, _ = disc_fractions(make(sizes), energies, offset, radii)
    sizes[1], sizes[2, 1] = np.nan, np.nan
    found, _ = disc_fractions(make(sizes), energies, offset, radii)
    there = found.any(axis=1)
    assert_allclose(found[there], full[there])
    assert there.mean() > 0.9


def test_dispersions_are_those_of_the_defined_bins():
    sizes = np.full((4, 2), 0.1)
    energies, edges = np.geomspace(0.2, 8, 40), np.geomspace(0.05, 20, 30)
    full = dispersion_kernel(edisp_2d(sizes), energies, edges, 0.7)
    sizes[1], sizes[2, 1] = np.nan, np.nan
    found = dispersion_kernel(edisp_2d(sizes), energies, edges, 0.7)
    there = found.any(axis=1)
    assert_allclose(found[there], full[there])
    assert there.mean() > 0.9


# --- remarks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "said"), [(0.85, True), (0.95, False), (1.05, False), (57, True)]
)
@pytest.mark.parametrize("name", ["psf-radius", "psf-r68", "psf-r95"])
def test_a_psf_that_does_not_integrate_to_one_is_told(name, factor, said):
    irf = psf_table(np.full((3, 2), 0.1))
    irf.arrays["RPSF"] *= factor
    if name == "psf-r95" and factor == 0.85:
        with pytest.raises(NotComputableError, match=r"never holds 95 % \(.* 85\.0 % at most\)"):
            evaluate(name, irf)
        return
    total = f"the PSF does not integrate to one (1 TeV, 0.50 deg: {factor:.3g})"
    assert evaluate(name, irf)[1] == (total if said else "")


@pytest.mark.parametrize("name", ["psf_table", "psf_3gauss", "psf_king", "edisp_2d", "rad_max_2d"])
def test_a_neighbour_without_a_value_is_told(name):
    make, _, _ = CLASSES[name]
    sizes = np.full((2, 2), 0.1)
    sizes[:, 1] = np.nan
    feature = {"edisp_2d": "edisp-bias50", "rad_max_2d": "rad-max"}.get(name, "psf-r68")
    text = f"value of the nearest bin, the one beside it is empty ({name} at 1 TeV, 0.70 deg)"
    assert evaluate(feature, make(sizes), 1.0, 0.7)[1] == text
    assert evaluate(feature, make(sizes), 1.0, 0.5)[1] == ""


def test_an_energy_below_the_threshold_is_told():
    rising = area(np.array([[0.0, 0.0], [1.0, 1.0], [90.0, 90.0], [100.0, 100.0]]))
    threshold = evaluate("aeff-threshold", rising)[0]
    assert evaluate("aeff", rising, threshold * 1.01)[1] == ""
    remark = evaluate("aeff", rising, 0.3)[1]
    assert remark.startswith("energy below the run's threshold (aeff_2d: 0.3 TeV, threshold at ")
    rising.header["LO_THRES"] = 0.2
    assert evaluate("aeff", rising, 0.3)[1] == ""
    rising.header["LO_THRES"] = 0.5
    assert evaluate("aeff", rising, 0.3)[1].endswith("threshold at 0.5 TeV)")


def test_a_width_that_is_continued_to_nothing_gives_no_number():
    sizes = np.array([[0.02], [0.1], [0.2]])
    axes = axes_of(sizes)
    lowest = axes["energy"].edges[0] * 1.01
    for make in (psf_3gauss, psf_king):
        irf = make(np.array([[0.02], [0.1], [0.2]]) - 0.01)
        with pytest.raises(NotComputableError, match="continued beyond the outer bins"):
            evaluate("psf-r68", irf, lowest)
        at = {"energy_true": lowest * u.TeV, "offset": 0.5 * u.deg}
        assert np.isnan(irf.evaluate(**at))
    with pytest.raises(NotComputableError, match="no cut left"):
        evaluate("rad-max", rad_max_2d(sizes - 0.01), lowest)


# --- real data -----------------------------------------------------------------------------------


class TestCTA:
    """Run 110380 of the data challenge, whose PSF ends at an offset that depends on the energy."""

    @pytest.fixture
    def psf(self, cta_1dc):
        return DataStore.from_dir(cta_1dc / "index" / "gps").obs(110380).psf

    @pytest.mark.parametrize("energy", [0.02, 0.05, 0.1, 0.3, 1.0, 10.0, 80.0, 300.0])
    def test_radii_lie_within_those_of_the_bins(self, psf, energy):
        sigma = np.where(psf.defined, psf.arrays["SIGMA_1"], np.nan)
        i, j, _ = psf.axes["energy_true"].neighbours(energy)
        factor, centers = np.sqrt(-2 * np.log(0.32)), psf.axes["offset"].center
        for offset in np.arange(centers[0], centers[-1], 0.1):
            k, m, _ = psf.axes["offset"].neighbours(offset)
            bins = factor * sigma[i : j + 1, k : m + 1]
            radius, reason = value_or_reason(containment_radius, psf, energy, offset, 0.68)
            if reason:
                assert "the response is empty" in reason
                assert np.isnan(bins).any()
            else:
                assert np.nanmin(bins) * (1 - 1e-6) <= radius <= np.nanmax(bins) * (1 + 1e-6)

    def test_nothing_is_made_up_at_the_end(self, psf):
        remarks = []
        assert containment_radius(psf, 0.1, 3.5, 0.68, remarks.append) == pytest.approx(0.18)
        assert remarks == []
        assert containment_radius(psf, 0.1, 3.9, 0.68, remarks.append) == pytest.approx(0.18)
        assert "psf_3gauss at 0.1 TeV, 3.90 deg" in remarks[0]
        for offset in (4.4, 4.5, 5.0, 5.5):
            with pytest.raises(NotComputableError, match="is empty"):
                containment_radius(psf, 0.1, offset, 0.68)
