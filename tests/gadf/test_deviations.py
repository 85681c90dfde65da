"""Archives that deviate from the specification as real ones do: each gives what the plain one does.

Every case edits a copy of one small simulated archive. Features, pointing, zenith angle and live
time must come out as they do for the unedited archive.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from numpy.testing import assert_allclose

from archives import RESPONSES, Archive, set_keywords
from obscluster import DataStore, get_irfs_features
from obscluster.cli import main
from obscluster.simulate import simulate

FEATURES = ("edisp-bias", "edisp-res", "psf-radius", "psf-r68", "aeff", "aeff-threshold")
FEATURES += ("bkg-rate", "livetime", "zenith", "event-rate")
# The simulated obs-index has zenith angles of its own; they are as exact as the pointing.
RTOL = {"zenith": 1e-3}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("plain") / "archive", n_obs=4, seed=3, size="small")


@pytest.fixture
def archive(original: Path, tmp_path: Path) -> Archive:
    return Archive.copy_of(original, tmp_path / "archive")


def characterise(directory: Path) -> tuple[QTable, dict[str, list[Any]]]:
    """Features, and what else is known of the runs."""
    observations = DataStore.from_dir(directory).get_observations()
    assert len(observations) == 4
    found: dict[str, list[Any]] = {"zenith": [], "ra": [], "mjd": [], "livetime": [], "energy": []}
    for obs in observations:
        found["zenith"].append(obs.get_pointing_altaz(obs.tmid).zen.deg)
        found["ra"].append(obs.get_pointing_icrs(obs.tmid).ra.deg)
        found["mjd"].append(obs.tmid.tt.mjd)
        found["livetime"].append(obs.livetime.to_value("s"))
        found["energy"].append(obs.events.energy.to_value("TeV").sum())
        assert len(obs.events.time) == len(obs.events.radec) == len(obs.events)
    return get_irfs_features(observations, "1 TeV", names=FEATURES), found


@pytest.fixture(scope="module")
def expected(original: Path) -> tuple[QTable, dict[str, list[Any]]]:
    return characterise(original)


def assert_same(
    directory: Path,
    expected: tuple[QTable, dict[str, list[Any]]],
    without: tuple[str, ...] = (),
    rtol: float = 1e-6,
) -> None:
    """Assert that features and times are the expected ones, but for those that must be NaN."""
    features, found = characterise(directory)
    for name in FEATURES:
        values = np.asarray(features[name])
        if name in without:
            assert np.isnan(values).all()
            assert all(name in note for note in features["notes"])
        else:
            reference = np.asarray(expected[0][name])
            assert_allclose(values, reference, rtol=max(rtol, RTOL.get(name, 0)), err_msg=name)
    for name, values in found.items():
        # A second more or less is as precise as a time scale that nobody wrote down.
        tolerance = {"atol": 1e-3, "rtol": 0} if name == "mjd" else {"rtol": 1e-5}
        assert_allclose(values, expected[1][name], err_msg=name, **tolerance)


# --- tables in every dress -----------------------------------------------------------------------


def scaled(**factors: float) -> Callable[[dict[str, list]], None]:
    """Edit that multiplies columns, by the beginning of their names."""

    def edit(columns: dict[str, list]) -> None:
        for name, cell in columns.items():
            for start, factor in factors.items():
                if name.startswith(start):
                    cell[0] = cell[0] * factor

    return edit


def in_unit(**units: tuple[float, str]) -> Callable[[dict[str, list]], None]:
    """Edit that converts columns: beginning of the name to factor and unit."""

    def edit(columns: dict[str, list]) -> None:
        scaled(**{start: factor for start, (factor, _) in units.items()})(columns)
        for name, cell in columns.items():
            for start, (_, unit) in units.items():
                if name.startswith(start):
                    cell[1] = unit

    return edit


def as_type(kind: str) -> Callable[[dict[str, list]], None]:
    def edit(columns: dict[str, list]) -> None:
        for cell in columns.values():
            if cell[0].dtype.kind == "f":
                cell[0] = cell[0].astype(kind)

    return edit


def first_offset(scalar: bool) -> Callable[[dict[str, list]], None]:
    """Edit that keeps the response on the axis only, where the features are evaluated."""

    def edit(columns: dict[str, list]) -> None:
        for name, cell in columns.items():
            values = cell[0]
            if name.startswith("THETA") or name in ("EFFAREA", "MATRIX"):
                cell[0] = values[:, 0] if scalar else values[:, :1]
            elif name == "RPSF":
                cell[0] = values[:, :, 0] if scalar else values[:, :, :1]

    return edit


def nan_for_zero(columns: dict[str, list]) -> None:
    for name in ("EFFAREA", "MATRIX", "RPSF", "BKG"):
        if name in columns:
            values = columns[name][0]
            columns[name][0] = np.where(values == 0, np.nan, values)


def rename(old: str, new: str) -> Callable[[dict[str, list]], None]:
    def edit(columns: dict[str, list]) -> None:
        for name in list(columns):
            columns[name.replace(old, new)] = columns.pop(name)

    return edit


TABLES = {
    "one offset bin": (RESPONSES[:3], first_offset(scalar=False)),
    "one offset bin as scalar": (RESPONSES[:3], first_offset(scalar=True)),
    "float64": (("EVENTS", "GTI", *RESPONSES), as_type("f8")),
    "NaN in empty bins": (RESPONSES, nan_for_zero),
    "ETRUE": (("AEFF", "EDISP", "PSF"), rename("ENERG_", "ETRUE_")),
    "lower case": (("EVENTS", "GTI"), lambda c: [c.update({k.lower(): c.pop(k)}) for k in [*c]]),
    "GeV": (("AEFF", "EDISP"), in_unit(ENERG_=(1e3, "GeV"))),
    "MeV": (("PSF", "BKG", "AEFF"), in_unit(ENERG_=(1e6, "MeV"))),
    "keV": (("EVENTS", "AEFF"), in_unit(ENERG=(1e9, "keV"))),
    "cm2": (("AEFF",), in_unit(EFFAREA=(1e4, "cm2"))),
    "arcmin": (("PSF", "AEFF"), in_unit(RAD_=(60, "arcmin"), THETA_=(60, "arcmin"))),
    "rad": (("EVENTS",), in_unit(RA=(np.pi / 180, "rad"), DEC=(np.pi / 180, "rad"))),
    "deg-2": (("PSF",), in_unit(RPSF=((np.pi / 180) ** 2, "deg-2"))),
    "TeV-1": (("BKG",), in_unit(BKG=(1e6, "1/s/TeV/sr"))),
    "minutes": (("EVENTS", "GTI"), in_unit(TIME=(1 / 60, "min"), ST=(1 / 60, "min"))),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_in_every_dress(case, archive, expected):
    names, edit = TABLES[case]
    archive.columns(names, edit)
    assert_same(archive.directory, expected, rtol=2e-5)


def test_single_precision_times_and_angles_of_the_index(archive, expected):
    def edit(table: Table) -> None:
        for name in table.colnames:
            if table[name].dtype.kind == "f":
                table[name] = table[name].astype("f4")

    archive.index("obs", edit)
    assert_same(archive.directory, expected, rtol=1e-5)


SPELLINGS = [
    {"TeV": "TEV", "deg": "Deg", "s": "sec", "m2": "m^2", "sr-1": "1/sr"},
    {"TeV": "Tev", "deg": "degrees", "s": "seconds", "m2": "m**2", "sr-1": "sr^-1"},
    {"TeV": "tev", "deg": "deg.", "s": "S", "m2": "M2", "sr-1": "sr**-1"},
    {"TeV": "[TeV]", "deg": "DEG", "s": "second", "m2": "meter^2", "sr-1": "SR-1"},
    {"TeV": "'TeV'", "deg": "degree", "s": "Sec.", "m2": "m 2", "sr-1": "(1/sr)"},
    {"TeV": "", "deg": "", "s": "", "m2": "", "sr-1": ""},
]
RATES = ["1/(s MeV sr)", "1/s/MeV/sr", "s^-1 MeV^-1 sr^-1", "s-1.MeV-1.sr-1", "", "1/sec/MEV/sr"]


@pytest.mark.parametrize("number", range(len(SPELLINGS)))
def test_units_in_every_spelling(number, archive, expected):
    spelling = SPELLINGS[number] | {"s-1 MeV-1 sr-1": RATES[number]}

    def edit(hdulist: fits.HDUList) -> None:
        for hdu in hdulist[1:]:
            for card in hdu.header["TUNIT*"].cards:
                hdu.header[card.keyword] = spelling.get(card.value, card.value)

    archive.runs(edit)
    assert_same(archive.directory, expected)


# --- where things are ----------------------------------------------------------------------------


@pytest.mark.parametrize("file_dir", ["../elsewhere/irf", "$CALDB/irf", "${CALDB}/x/../irf"])
def test_responses_in_files_of_their_own(file_dir, archive, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("CALDB", str(tmp_path / "elsewhere"))
    archive.move_responses(tmp_path / "elsewhere" / "irf", file_dir)
    (tmp_path / "elsewhere" / "x").mkdir()
    assert_same(archive.directory, expected)


def test_one_response_file_for_all_runs(archive, expected, tmp_path):
    archive.move_responses(tmp_path / "irf", str(tmp_path / "irf"))
    shared = sorted((tmp_path / "irf").iterdir())[0]

    def edit(table: Table) -> None:
        names = [shared.name if d != "data" else n for d, n in table["FILE_DIR", "FILE_NAME"]]
        table["FILE_NAME"] = names

    archive.index("hdu", edit)
    features, _ = characterise(archive.directory)
    for name in FEATURES[:6]:
        assert_allclose(np.asarray(features[name]), np.asarray(expected[0][name])[0], rtol=1e-6)


def test_files_are_plain_where_the_index_says_packed(archive, expected):
    for path in archive.files:
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert_same(archive.directory, expected)


def test_files_are_packed_where_the_index_says_plain(archive, expected):
    def edit(table: Table) -> None:
        table["FILE_NAME"] = [name.removesuffix(".gz") for name in table["FILE_NAME"]]

    archive.index("hdu", edit)
    assert_same(archive.directory, expected)


@pytest.mark.parametrize("name", ["HDU_NAME", "HDU_CLASS", "HDU_TYPE", "SIZE"])
def test_index_without_a_column(name, archive, expected):
    archive.index("hdu", lambda table: table.remove_column(name))
    assert_same(archive.directory, expected)


def test_extension_names_of_another_production(archive, expected):
    def edit(hdulist: fits.HDUList) -> None:
        names = ["EVT", "STDGTI", "PSF", "EFFECTIVE AREA", "EDISP_2D", ""]
        for hdu, name in zip(hdulist[1:], names, strict=True):
            hdu.name = name

    archive.runs(edit)
    assert_same(archive.directory, expected)


# --- identifiers, times, numbers -----------------------------------------------------------------


@pytest.mark.parametrize("change", [str, lambda n: n + 2**40, lambda n: f" {n:08d} "])
def test_identifiers_of_every_kind(change, archive, expected):
    def edit(table: Table) -> None:
        table["OBS_ID"] = [change(int(n)) for n in table["OBS_ID"]]

    archive.keywords(OBS_ID=None)
    for kind in ("obs", "hdu"):
        archive.index(kind, edit)
    assert_same(archive.directory, expected)
    ids = DataStore.from_dir(archive.directory).obs_ids.tolist()
    assert ids == [int(change(int(n))) for n in expected[0]["obs_id"]]


MJDREF = 51910 + 0.000742870370370370
TIMES = [
    {"TIMESYS": "tt"},
    {"TIMESYS": None},
    {"TIMESYS": "TT(TAI)"},
    {"TIMESYS": "MJD"},
    {"MJDREFI": None, "MJDREFF": None, "MJDREF": MJDREF},
    {"MJDREFI": "51910", "MJDREFF": "0.000742870370370370"},
    {"MJDREFI": 51910.0},
]


@pytest.mark.parametrize(
    "keywords", TIMES, ids=lambda k: "-".join(f"{a}={b}" for a, b in k.items())
)
def test_time_keywords(keywords, archive, expected):
    archive.keywords("EVENTS", "GTI", **keywords)
    archive.index("obs", lambda table: set_keywords(table.meta, keywords))
    assert_same(archive.directory, expected)


def test_reference_without_fraction(archive, expected):
    def edit(columns: dict[str, list]) -> None:
        for name in {"TIME", "START", "STOP"} & columns.keys():
            columns[name][0] = columns[name][0] + (MJDREF - 51910) * 86400

    archive.columns(("EVENTS", "GTI"), edit)
    archive.keywords(MJDREFF=None)
    assert_same(archive.directory, expected)


def test_times_of_the_future_need_neither_network_nor_warning(archive, expected):
    """Leap seconds and the rotation of the Earth are not known yet."""
    archive.keywords("EVENTS", "GTI", TIMESYS="UTC", MJDREFI=65000)
    archive.index("obs", lambda table: set_keywords(table.meta, {"MJDREFI": 65000}))
    for obs in DataStore.from_dir(archive.directory).get_observations():
        assert np.isfinite(obs.get_pointing_altaz(obs.tmid).zen.deg)
        assert len(obs.events.time)
    assert main(["info", str(archive.directory)]) == 0


def test_numbers_as_text(archive, expected):
    def edit(hdulist: fits.HDUList) -> None:
        header = hdulist["EVENTS"].header
        for key in ("RA_PNT", "DEC_PNT", "DEADC", "GEOLON", "GEOLAT", "ALTITUDE", "LIVETIME"):
            header[key] = f" {header[key]} "

    archive.runs(edit)
    assert_same(archive.directory, expected)


# --- index tables --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["ZEN_PNT"],
        ["ZEN_PNT", "ALT_PNT"],
        ["MUONEFF", "LIVETIME"],
        ["TSTART", "TSTOP"],
        ["RA_PNT", "DEC_PNT", "GLON_PNT", "GLAT_PNT"],
        ["OBJECT", "RA_OBJ", "DEC_OBJ"],
    ],
    ids="-".join,
)
def test_index_lacks_columns(names, archive, expected, capsys):
    archive.index("obs", lambda table: table.remove_columns(names))
    assert_same(archive.directory, expected)
    assert main(["info", str(archive.directory)]) == 0
    assert "4 (OBS_ID" in capsys.readouterr().out


def test_index_has_more_columns_masked_ones_and_any_order(archive, expected):
    def edit(table: Table) -> Table:
        table["N_TELS"] = MaskedColumn(table["N_TELS"], mask=[True, False, True, False])
        table["ZEN_PNT"][0] = np.nan
        table["REMARK"] = ["", "a", "b", "c"]
        table["VECTOR"] = np.ones((4, 3))
        return table[[2, 0, 3, 1]]

    archive.index("obs", edit)
    archive.index("hdu", lambda table: table[::-1])
    assert_same(archive.directory, expected)
    assert main(["info", os.fspath(archive.directory)]) == 0
