"""One way to a quantity of a run: whatever index and headers say it with, it is the same."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest
import yaml
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from obscluster import DataStore
from obscluster.archive.quantities import QUANTITIES, column_of, quantity_of
from obscluster.cli import main
from obscluster.config import make_config
from obscluster.exceptions import ObsClusterWarning, RequestError
from obscluster.gadf.keywords import NUMBERS, HeaderNumbers, column_numbers, number_of
from obscluster.simulate import simulate
from obscluster.views.text import describe_result
from obscluster.workflow.group import group_observations

CONDITIONS = ["zenith", "azimuth", "livetime", "deadtime-fraction", "mjd", "muoneff", "n-tels"]
NAMES = [*CONDITIONS, "nsb", "event-rate@1TeV", "edisp-res@1TeV", "ZEN_PNT", "ONTIME", "RA_PNT"]
OTHER_UNITS = {"deg": "rad", "s": "h", "TeV": "GeV", "m": "km", "Hz": "kHz", "hPa": "Pa"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return simulate(
        tmp_path_factory.mktemp("quantities") / "archive", n_obs=6, seed=3, size="small"
    )


def edited(archive, directory, change):
    """The archive with another obs-index; runs stay where they are."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    (directory / "data").symlink_to(archive / "data")
    shutil.copy(archive / "hdu-index.fits.gz", directory)
    table = Table.read(archive / "obs-index.fits.gz")
    hdu = fits.table_to_hdu(change(table))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(directory / "obs-index.fits.gz")
    return directory


def outcome(archive):
    """Features, totals and groups of an archive, as numbers and as text."""
    description = {
        "archive": str(archive),
        "target": "Vela X",
        "radius": "180 deg",
        "selection": [
            {"type": "par_box", "variable": "ZEN_PNT", "value_range": ["0 deg", "1 rad"]}
        ],
        "features": {"names": NAMES, "offset": "0.5 deg"},
        "grouping": {"method": "hierarchical", "n_groups": 2},
        "constraints": {"within": [], "min_livetime": "0.3 h"},
    }
    result = group_observations(make_config(description))
    values = np.array([u.Quantity(result.features[name]).value for name in NAMES]).T
    return values, result.grouping.labels.tolist(), describe_result(result)


@pytest.fixture(scope="module")
def expected(archive):
    return outcome(archive)


def same(archive, expected):
    values, labels, text = outcome(archive)
    # What is converted to radians and back is the same but for the last digit.
    assert_allclose(values, expected[0], rtol=1e-13)
    assert labels == expected[1]
    assert text == expected[2]


def converted(table, name):
    unit = OTHER_UNITS.get(str(table[name].unit))
    if unit is not None:
        table[name] = table[name].astype(float).to(unit)
    return table


def replaceable(archive):
    """Columns whose values stand in the headers, too, or follow from them."""
    store = DataStore.from_dir(archive)
    header = store.get_observations()[0].header
    names = [name for name in store.obs_table.colnames if name != "OBS_ID"]
    computed = ("ZEN_PNT", "ALT_PNT", "AZ_PNT", "EVENT_COUNT")
    return [name for name in names if name in header or name in computed]


class TestIndex:
    @settings(max_examples=12)
    @given(data=st.data())
    def test_units_order_and_columns_do_not_matter(self, data, archive, expected, tmp_path_factory):
        names = Table.read(archive / "obs-index.fits.gz").colnames
        order = data.draw(st.permutations(names))
        other = data.draw(st.sets(st.sampled_from(names)))
        dropped = data.draw(st.sets(st.sampled_from(replaceable(archive))))

        def change(table):
            for name in other:
                table = converted(table, name)
            return table[[name for name in order if name not in dropped]]

        same(edited(archive, tmp_path_factory.getbasetemp() / "edited", change), expected)

    def test_units_are_attached_where_none_are_written(self, archive, expected, tmp_path):
        def change(table):
            for name in table.colnames:
                table[name].unit = None
            return table

        same(edited(archive, tmp_path / "bare", change), expected)

    def test_all_units_at_once(self, archive, expected, tmp_path):
        def change(table):
            for name in table.colnames:
                table = converted(table, name)
            return table

        same(edited(archive, tmp_path / "units", change), expected)

    def test_placeholders_are_no_values(self, archive, expected, tmp_path):
        def change(table):
            table["ZEN_PNT"] = -999.0
            table["ALT_PNT"] = np.nan
            table["LIVETIME"] = -1.0
            table["AZ_PNT"] = [" N/A"] * len(table)
            return table

        same(edited(archive, tmp_path / "placeholders", change), expected)

    def test_numbers_as_text_are_numbers(self, archive, expected, tmp_path):
        def change(table):
            table["ZEN_PNT"] = [repr(float(value)) for value in table["ZEN_PNT"]]
            return table

        same(edited(archive, tmp_path / "text", change), expected)

    def test_without_an_obs_index(self, archive, expected, tmp_path):
        directory = edited(archive, tmp_path / "without", lambda table: table)
        (directory / "obs-index.fits.gz").unlink()
        with pytest.warns(ObsClusterWarning, match="no obs-index.*obscluster index"):
            same(directory, expected)

    def test_without_any_index_the_next_step_is_named(self, archive, tmp_path):
        (tmp_path / "data").symlink_to(archive / "data")
        with pytest.raises(RequestError, match=f"obscluster index {tmp_path}"):
            DataStore.from_dir(tmp_path)


@pytest.mark.parametrize("name", ["hess_dr1", "fact_crab", "cta_1dc"])
def test_real_archives_do_not_need_their_columns(name, request):
    """Single columns: the values of the headers are those of the index, which has fewer digits."""
    store = DataStore.from_dir(request.getfixturevalue(name))
    table = store.obs_table[:8]
    for quantity in ("LIVETIME", "ONTIME", "DEADC", "RA_PNT", "DEC_PNT", "mjd", "MUONEFF"):
        known = table.quantity(quantity)
        keys = {key for keys, _ in QUANTITIES[quantity].ways for key in keys}
        rest = table[[name for name in table.colnames if name not in keys]]
        again = rest.quantity(quantity)
        assert not (again.source == "index").any()
        assert_allclose(again.value.value, known.value.value, rtol=1e-6, equal_nan=True)


class TestSources:
    def test_one_run_and_the_table_agree(self, archive):
        store = DataStore.from_dir(archive)
        names = [*QUANTITIES, "BROKPIX"]
        for name in names:
            column = column_of(store.obs_table, name, files=True)
            for i, run in enumerate(store.get_observations()):
                known = quantity_of(run, name)
                assert known.source == column.source[i], name
                assert_allclose(
                    known.value.value, column.value[i].value, rtol=1e-12, equal_nan=True
                )

    def test_what_nobody_knows_is_said(self, archive):
        known = DataStore.from_dir(archive).get_observations()[0].quantity("AIRTEMP")
        assert np.isnan(known.value)
        assert known.source == "unknown"
        assert "neither obs-index nor header has AIRTEMP" in known.note

    def test_any_keyword_of_the_headers_is_a_quantity(self, archive):
        store = DataStore.from_dir(archive)
        key = next(k for k, v in store.get_observations()[0].header.items() if k == "EQUINOX")
        known = store.obs_table.quantity(key)
        assert set(known.source) == {"header"}
        assert (known.value == 2000).all()

    def test_a_name_that_nobody_knows_is_an_error(self, archive):
        with pytest.raises(RequestError, match="NONSENSE"):
            DataStore.from_dir(archive).obs_table.quantity("NONSENSE")

    def test_a_table_without_files_has_its_columns_only(self):
        table = Table({"OBS_ID": [1, 2], "ALT_PNT": [30.0, np.nan] * u.deg})
        known = column_of(table, "ZEN_PNT")
        assert known.value[0] == 60 * u.deg
        assert known.source.tolist() == ["index", "unknown"]


class TestNumbers:
    @given(
        value=st.floats(allow_nan=True, allow_infinity=True) | st.text() | st.none() | st.booleans()
    )
    def test_any_value_is_a_number_within_limits_or_none(self, value):
        for name in ("ZEN_PNT", "LIVETIME", "nothing"):
            number = number_of(name, value)
            assert np.isnan(number) or abs(number) < np.inf
            if name in NUMBERS and np.isfinite(number):
                assert NUMBERS[name].low <= number <= NUMBERS[name].high

    def test_columns_of_any_kind(self):
        table = Table({"ZEN_PNT": [1, 200], "ALT_PNT": ["30", "high"], "AZ_PNT": [[1, 2], [3, 4]]})
        assert_allclose(column_numbers(table, "ZEN_PNT"), [1, np.nan])
        assert_allclose(column_numbers(table, "ALT_PNT"), [30, np.nan])
        assert np.isnan(column_numbers(table, "AZ_PNT")).all()

    def test_units_of_headers(self):
        header = HeaderNumbers({"TSTART": 2.0, "TSTOP": "3", "TIMEUNIT": "d", "LIVETIME": 5.0})
        assert header["TSTART"] == 2 * 86400
        assert header["TSTOP"] == 3 * 86400
        assert header["LIVETIME"] == 5
        with pytest.raises(ValueError, match="'fortnights' of TSTART"):
            HeaderNumbers({"TSTART": 2.0, "TIMEUNIT": "fortnights"})["TSTART"]

    def test_units_in_comments_of_headers(self, cta_1dc):
        obs = DataStore.from_dir(cta_1dc).obs(110380)
        assert obs.header["ALTITUDE"] == 2.15
        assert_allclose(obs.observatory_earth_location.height.to_value("m"), 2150)


class TestUnknown:
    @pytest.fixture
    def lost(self, archive, tmp_path):
        """Two runs without pointing anywhere: not in the index, and no file."""

        def change(table):
            table["RA_PNT"][:2] = np.nan
            table["GLON_PNT"][:2] = np.nan
            return table

        directory = edited(archive, tmp_path / "lost", change)
        (directory / "data").unlink()
        (directory / "data").mkdir()
        for path in sorted((archive / "data").iterdir())[2:]:
            (directory / "data" / path.name).symlink_to(path)
        return directory

    def test_three_numbers(self, lost):
        store = DataStore.from_dir(lost)
        circle = {"type": "sky_circle", "lon": "0 deg", "lat": "0 deg", "radius": "180 deg"}
        flow = store.obs_table.cut_flow(circle)
        assert [flow[name][1] for name in ("passed", "dropped", "outside", "unknown")] == [
            4,
            2,
            0,
            2,
        ]
        (ids,) = flow.meta["unknown"].values()
        assert ids == store.obs_table["OBS_ID"][:2].tolist()

    def test_they_are_named_on_the_terminal(self, lost):
        config = {"archive": str(lost), "target": "0 0", "radius": "180 deg"}
        config["grouping"] = {"method": "cuts", "by": [{"column": "zenith", "quantiles": 2}]}
        text = describe_result(group_observations(make_config(config)))
        assert "outside" in text
        ids = DataStore.from_dir(lost).obs_table["OBS_ID"][:2].tolist()
        assert f": {ids[0]}, {ids[1]}" in text

    def test_livetime_that_nobody_knows_is_not_zero(self, archive, tmp_path):
        directory = edited(archive, tmp_path / "files", lambda table: table)
        (directory / "data").unlink()
        (directory / "data").mkdir()
        table = Table.read(archive / "obs-index.fits.gz")["OBS_ID", "ZEN_PNT"]
        table.write(directory / "obs-index.fits.gz", overwrite=True)
        config = {"archive": str(directory)}
        config["grouping"] = {"method": "cuts", "by": [{"column": "ZEN_PNT", "quantiles": 2}]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ObsClusterWarning)
            text = describe_result(group_observations(make_config(config)))
        assert "6 observations, unknown livetime, in 2 groups" in text
        assert "0.0 h" not in text


class TestOtherIndices:
    @pytest.fixture
    def one_file(self, archive, tmp_path):
        """Both tables in one file of another name."""
        hdus = [fits.PrimaryHDU()]
        for kind in ("obs", "hdu"):
            with fits.open(archive / f"{kind}-index.fits.gz", memmap=False) as file:
                hdus.append(file[1].copy())
                hdus[-1].name = f"{kind}_INDEX"
        (tmp_path / "data").symlink_to(archive / "data")
        fits.HDUList(hdus).writeto(tmp_path / "mine.fits")
        return tmp_path

    def test_by_options_and_in_a_description(self, one_file, tmp_path_factory, monkeypatch):
        place = tmp_path_factory.mktemp("outside")
        monkeypatch.setenv("INDEX", "mine")
        options = ["--obs-index", "$INDEX.fits[1]", "--hdu-index", "mine.fits[HDU_INDEX]"]
        for command in (["info"], ["check"], ["init", "-o", str(place / "run.yaml")]):
            assert main([command[0], str(one_file), *command[1:], *options]) == 0
        block = yaml.safe_load((place / "run.yaml").read_text())["archive"]
        assert block["obs_index"] == "$INDEX.fits[1]"
        output = ["-o", str(place / "o"), "--no-plots"]
        assert main(["group", str(one_file), "--offset", "0.5 deg", *output, *options]) == 0
        assert main(["run", str(place / "o" / "groups.yaml"), "-o", str(place / "p")]) == 0

    def test_text_that_is_not_ascii_comes_back(self, archive, tmp_path):
        def change(table):
            table["OBJECT"] = np.array(["Zeta Pyxis \xe9".encode("latin-1")] * len(table))
            return table

        directory = edited(archive, tmp_path / "text", change)
        output = tmp_path / "o"
        command = ["group", str(directory), "--offset", "0.5 deg", "-o", str(output)]
        assert main([*command, "--no-plots"]) == 0
        copy = DataStore.from_dir(directory, obs_table_filename=str(output / "obs-index.fits.gz"))
        assert set(copy.obs_table["OBJECT"]) == {"Zeta Pyxis \xe9"}

    def test_init_takes_the_good_time_if_asked(self, archive, tmp_path):
        for options, text in (([], "by the index"), (["--all"], "in good time intervals")):
            command = ["init", str(archive), "-o", str(tmp_path / "run.yaml"), "--overwrite"]
            assert main([*command, *options]) == 0
            assert text in (tmp_path / "run.yaml").read_text()
