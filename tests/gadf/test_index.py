"""Index files: every observation and HDU is found where the archive says, or named as missing."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import warnings
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table
from hypothesis import given
from hypothesis import strategies as st

from obscluster.archive.obs_table import ObservationTable
from obscluster.archive.store import DataStore
from obscluster.exceptions import (
    ArchiveError,
    MissingDataError,
    ObsClusterWarning,
    RequestError,
    SkippedRunWarning,
)
from obscluster.gadf.fits import FitsFile
from obscluster.gadf.hdu_index import HDUIndex, HDULocation
from obscluster.gadf.index import expand_path, find_index, read_index, split_hdu, write_index

BIG = 9_007_199_254_740_993  # 2^53 + 1: no floating-point number


def table_hdu(table: Table, name: str = "OBS_INDEX", **keywords: object) -> fits.BinTableHDU:
    hdu = fits.BinTableHDU(table, name=name)
    hdu.header.update(keywords)
    return hdu


def hdu_index(directory: Path, **columns: list) -> HDUIndex:
    defaults = {"OBS_ID": [7], "HDU_TYPE": ["aeff"], "HDU_CLASS": ["aeff_2d"]}
    defaults |= {"FILE_DIR": ["data"], "FILE_NAME": ["run.fits"], "HDU_NAME": ["AEFF"]}
    return HDUIndex(Table({**defaults, **columns}), directory)


# --- the index as a table ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("archive", "pattern"),
    [
        ("small_archive", "*-index.fits.gz"),
        ("hess_dr1", "*-index.fits.gz"),
        ("cta_1dc", "index/gps/*.fits.gz"),
        ("fact_crab", "*-index.fits.gz"),
    ],
)
def test_index_equals_astropys_table(archive, pattern, request):
    paths = list(request.getfixturevalue(archive).glob(pattern))
    assert len(paths) == 2
    for path in paths:
        ours, theirs = read_index(path), Table.read(path)
        assert ours.colnames == theirs.colnames
        for name in ours.colnames:
            assert (ours[name] == theirs[name]).all()
            assert ours[name].unit == theirs[name].unit
            assert ours[name].dtype.isnative
        for key in ("MJDREFI", "TIMESYS", "TELESCOP", "GEOLON", "HDUCLAS1"):
            assert ours.meta.get(key) == fits.getheader(path, 1).get(key)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["023523", "7"], [23523, 7]),
        ([" 23523", "7 "], [23523, 7]),
        (np.array([3, 7], "i2"), [3, 7]),
        (np.array([BIG, -1], "i8"), [BIG, -1]),
        (np.array([2**32 - 1, 7], "u4"), [2**32 - 1, 7]),
        (np.array([BIG, 7], "u8"), [BIG, 7]),
        (np.array([3.0, 7.0]), [3, 7]),
        (np.zeros(0, "i4"), []),
    ],
    ids=["text", "blanks", "int16", "int64", "uint32", "uint64", "float", "no-rows"],
)
def test_obs_id_of_any_type_becomes_int64(values, expected, write_fits):
    obs_id = read_index(write_fits(table_hdu(Table({"OBS_ID": values}))))["OBS_ID"]
    assert obs_id.dtype == np.int64
    assert obs_id.tolist() == expected


@pytest.mark.parametrize(
    "values",
    [
        ["7", "run 8"],
        ["7", ""],
        [7.0, 8.5],
        [7.0, np.nan],
        [7.0, 1e300],
        [7 + 1j, 8],
        [[7, 8], [9, 10]],
        MaskedColumn([7, 8], mask=[False, True]),
    ],
    ids=["letters", "empty", "fraction", "nan", "overflow", "complex", "2d", "masked"],
)
def test_obs_id_that_is_not_a_whole_number_is_an_archive_error(values, write_fits):
    path = write_fits(table_hdu(Table({"OBS_ID": values})))
    with pytest.raises(ArchiveError, match=r"file\.fits.*OBS_ID"):
        read_index(path)


def test_lower_case_obs_id_is_renamed_and_the_first_table_that_has_it_is_read(write_fits):
    other, index = Table({"X": [1]}), Table({"x": [1.0], "obs_id": [7]})
    table = read_index(write_fits(table_hdu(other, "OTHER"), table_hdu(index, "INDEX")))
    assert table.colnames == ["x", "OBS_ID"]


def test_null_integers_are_masked(write_fits):
    table = Table({"OBS_ID": [1, 2], "N_TELS": MaskedColumn([3, 4], mask=[False, True])})
    n_tels = read_index(write_fits(table_hdu(table)))["N_TELS"]
    assert n_tels.mask.tolist() == [False, True]
    assert n_tels[0] == 3


def test_unknown_unit_is_kept_as_text(write_fits):
    path = write_fits(table_hdu(Table({"OBS_ID": [1], "NSB": [2.0]}), TUNIT2="furlong/pixie"))
    assert str(read_index(path)["NSB"].unit) == "furlong/pixie"


def test_table_without_obs_id_is_named_with_its_columns(write_fits):
    path = write_fits(table_hdu(Table({"RUN": [1]}), "RUNS"))
    with pytest.raises(ArchiveError, match=r"file\.fits.*no column OBS_ID.*RUNS \(RUN\)"):
        read_index(path)


@pytest.mark.parametrize("content", [None, b"", b"not FITS", b"\x1f\x8bnot gzip"])
def test_index_that_cannot_be_read_is_an_archive_error(content, tmp_path):
    path = tmp_path / "obs-index.fits.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArchiveError, match=str(path)):
        read_index(path)


@pytest.mark.parametrize("name", ["obs-index.fits", "obs-index.fits.gz"])
def test_index_that_is_written_comes_back(name, small_archive, tmp_path):
    table = read_index(small_archive / "obs-index.fits.gz")
    table["N_TELS"] = MaskedColumn(table["N_TELS"], mask=table["N_TELS"] == 3)
    table["OBS_ID"][0] = BIG
    path = tmp_path / name
    write_index(table, path)
    back = read_index(path)
    assert back.colnames == table.colnames
    for column in table.colnames:
        assert back[column].dtype == table[column].dtype
        assert back[column].unit == table[column].unit
        assert (np.ma.filled(back[column] == table[column], fill_value=True)).all()
    assert (back["N_TELS"].mask == table["N_TELS"].mask).all()
    assert {key: back.meta[key] for key in table.meta} == table.meta
    assert Table.read(path)["OBS_ID"].tolist() == table["OBS_ID"].tolist()
    first = path.read_bytes()
    write_index(table, path)
    assert path.read_bytes() == first
    assert first.startswith(b"\x1f\x8b") == (path.suffix == ".gz")


# --- columns of several values per row, and what cannot be read ----------------------------------


def change_cards(path: Path, **cards: str) -> Path:
    """Overwrite cards of the last header, without any check; those that are not there are added."""
    raw = path.read_bytes()
    start = raw.rindex(b"XTENSION")
    for key, value in cards.items():
        place = raw.find(f"{key:8}=".encode(), start)
        if place < 0:
            place = raw.index(b"END".ljust(80), start)
            raw = raw[: place + 80] + raw[place : place + 80] + raw[place + 160 :]
        raw = raw[:place] + f"{key:8}= {value:>20}".ljust(80).encode() + raw[place + 80 :]
    path.write_bytes(raw)
    return path


def lists(*values: list) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = [np.array(value) for value in values]
    return column


def vla_table(name: str, form: str, *values: list) -> fits.BinTableHDU:
    columns = {"OBS_ID": ("J", np.array([1, 2])), "FILE_NAME": ("3A", np.array(["abc", "de"]))}
    columns |= {"HDU_TYPE": ("6A", np.array(["events", "gti"])), name: (form, lists(*values))}
    made = [fits.Column(n, f, array=array) for n, (f, array) in columns.items()]
    return fits.BinTableHDU.from_columns(made)


@pytest.mark.parametrize("name", ["OBS_ID", "FILE_NAME", "HDU_NAME", "HDU_TYPE"])
@pytest.mark.parametrize("form", ["PJ()", "QD()"])
def test_lists_where_one_value_is_needed_are_named(name, form, write_fits):
    path = write_fits(vla_table(name, form, [1, 2], []))
    with pytest.raises(ArchiveError, match=rf"file\.fits, HDU #1: column {name} holds arrays"):
        HDUIndex(read_index(path), path.parent)


@pytest.mark.parametrize("form", ["PJ()", "QK()", "QD()"])
def test_lists_of_one_value_are_plain_columns(form, write_fits):
    table = read_index(write_fits(vla_table("OBS_ID", form, [7], [9])))
    assert table["OBS_ID"].tolist() == [7, 9]
    table = read_index(write_fits(vla_table("RA_PNT", form, [7], [9])))
    assert table["RA_PNT"].tolist() == [7, 9]


def test_numbers_for_names_are_text(write_fits):
    table = Table({"OBS_ID": [1], "FILE_NAME": [33787], "HDU_TYPE": ["gti"], "HDU_CLASS": [4]})
    path = write_fits(table_hdu(table))
    store = DataStore(HDUIndex(read_index(path), path.parent), ObservationTable({"OBS_ID": [1]}))
    assert "HDU classes: 4" in store.info(show=False)
    assert store.hdu_index.locations(1)["gti"].path == path.parent / "33787"


def test_text_of_variable_length_is_text(write_fits):
    made = [
        fits.Column("OBS_ID", "J", array=[1, 2]),
        fits.Column("FILE_NAME", "PA()", array=np.array(["run.fits", "b"], dtype=object)),
        fits.Column("HDU_TYPE", "QA()", array=np.array(["gti", "gti"], dtype=object)),
    ]
    path = write_fits(fits.BinTableHDU.from_columns(made))
    index = HDUIndex(read_index(path), path.parent)
    assert index.locations(1)["gti"].path == path.parent / "run.fits"


def test_lists_that_nobody_needs_are_carried_and_written(write_fits, tmp_path):
    path = write_fits(vla_table("MORE", "PD()", [1.0, 2.0], []))
    table = read_index(path)
    write_index(table, tmp_path / "copy.fits")
    for again in (table, read_index(tmp_path / "copy.fits")):
        assert [list(value) for value in again["MORE"]] == [[1.0, 2.0], []]


@pytest.mark.parametrize("name", ["RA_PNT", "LIVETIME", "OBJECT", "OBS_MODE"])
@pytest.mark.parametrize("values", [[[1.0, 2.0], [3.0, 4.0]], lists([1.0, 2.0], [])])
def test_a_column_of_one_value_that_holds_arrays_is_left_out(name, values, write_fits):
    form = "PD()" if isinstance(values, np.ndarray) else "2D"
    made = [fits.Column("OBS_ID", "J", array=[1, 2]), fits.Column(name, form, array=values)]
    path = write_fits(fits.BinTableHDU.from_columns(made))
    with pytest.warns(ObsClusterWarning, match=rf"file\.fits, HDU #1: .*{name} \(holds arrays"):
        assert read_index(path).colnames == ["OBS_ID"]


@pytest.mark.parametrize(
    ("column", "cards", "expected"),
    [
        ("MORE", {"TDIM2": "'(7)'"}, None),
        ("MORE", {"TDIM2": "'(a,b)'"}, None),
        ("OBS_ID", {"TDIM1": "'(2)'"}, "OBS_ID"),
        ("OBS_ID", {"TDIM1": "'(1,1)'"}, []),
        ("MORE", {"TDIM2": "'(2,2)'"}, [["ab", "cd"], ["ef", "gh"]]),
        ("MORE", {"TDIM2": "'(4,1)'"}, ["abcd", "efgh"]),
        ("MORE", {"TDIM2": "'(4)'"}, ["abcd", "efgh"]),
        ("MORE", {"TDIM2": "'(1,4)'"}, [list("abcd"), list("efgh")]),
    ],
)
def test_array_dimensions_that_do_not_fit_concern_their_column(column, cards, expected, write_fits):
    made = [
        fits.Column("OBS_ID", "J", array=[1, 2]),
        fits.Column("MORE", "4A", array=["abcd", "efgh"]),
        fits.Column("LAST", "D", array=[3.0, 4.0]),
    ]
    path = change_cards(write_fits(fits.BinTableHDU.from_columns(made)), **cards)
    if isinstance(expected, str):
        with pytest.raises(ArchiveError, match=rf"file\.fits, HDU #1: column {expected} .*TDIM1"):
            read_index(path)
    elif expected is None:
        with pytest.warns(ObsClusterWarning, match=r"file\.fits, HDU #1: .*MORE .*TDIM2"):
            assert read_index(path).colnames == ["OBS_ID", "LAST"]
    else:
        table = read_index(path)
        assert table["OBS_ID"].tolist() == [1, 2]
        assert table["LAST"].tolist() == [3.0, 4.0]
        assert not expected or table["MORE"].tolist() == expected


@pytest.mark.parametrize("form", ["0E", "0A", "0J", "0PE", "0X", "0L"])
def test_columns_without_elements_stop_nothing(form, write_fits, tmp_path):
    made = [
        fits.Column("OBS_ID", "J", array=[1, 2]),
        fits.Column("MORE", "4A", array=["abcd", "efgh"]),
        fits.Column("LAST", "D", array=[3.0, 4.0]),
    ]
    path = write_fits(fits.BinTableHDU.from_columns(made))
    raw = path.read_bytes()
    # The four bytes go to the number behind, of which only its place matters.
    raw = raw.replace(b"TFORM3  = 'D       '", b"TFORM3  = '3J      '")
    path.write_bytes(raw)
    change_cards(path, TFORM2=f"'{form}'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ObsClusterWarning)
        table = read_index(path)
        assert table["OBS_ID"].tolist() == [1, 2]
        write_index(table, tmp_path / "copy.fits")
        assert read_index(tmp_path / "copy.fits")["OBS_ID"].tolist() == [1, 2]


# --- text that is not ASCII ----------------------------------------------------------------------


def test_text_in_latin_1_is_read_and_written_back(write_fits, tmp_path):
    table = Table({"OBS_ID": [1, 2], "OBJECT": np.array([b"Pl\xe9iades", b"Crab"])})
    path = write_fits(table_hdu(table))
    read = read_index(path)
    assert read["OBJECT"].tolist() == ["Pl\xe9iades", "Crab"]
    write_index(read, tmp_path / "copy.fits.gz")
    back = read_index(tmp_path / "copy.fits.gz")
    assert back["OBJECT"].tolist() == read["OBJECT"].tolist()
    assert read["OBJECT"].dtype.kind == "U"


def test_text_without_a_place_in_fits_is_replaced_and_told(tmp_path):
    table = Table(
        {"OBS_ID": [1, 2, 3], "NOTE": ["\u2265 2", "\u03b1\u03b2", "\xe9"], "\xe9": [1, 2, 3]}
    )
    table["\xe9"].description = "\xc5"
    table["\xe9"].unit = u.UnrecognizedUnit("\xe5")
    table.meta = {"OBSERVER": "Ren\xe9", "TEL\xe9": 3, "X": float("nan"), "ESO TEL ALT": 3, "OK": 1}
    with pytest.warns(ObsClusterWarning) as caught:
        write_index(table, tmp_path / "copy.fits")
    (remark,) = [str(warning.message) for warning in caught]
    for text in (
        "copy.fits",
        "column NOTE: letters of 2 values",
        "keyword OBSERVER",
        "keyword TEL\xe9 left out",
        "keyword X left out",
    ):
        assert text in remark
    back = read_index(tmp_path / "copy.fits")
    assert back["NOTE"].tolist() == ["? 2", "??", "\xe9"]
    assert back["?"].tolist() == [1, 2, 3]
    assert back.meta["OBSERVER"] == "Ren?"
    assert (back.meta["OK"], back.meta["ESO TEL ALT"]) == (1, 3)


def test_scaling_is_not_applied_twice(write_fits, tmp_path):
    path = write_fits(table_hdu(Table({"OBS_ID": [1, 2], "NSB": np.array([2, 4], "i2")})))
    table = read_index(change_cards(path, TSCAL2="0.5", TZERO2="3.0"))
    write_index(table, tmp_path / "copy.fits")
    assert read_index(tmp_path / "copy.fits")["NSB"].tolist() == [4.0, 5.0]


# --- several tables in a file --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("obs.fits", ("obs.fits", None)),
        ("obs.fits[2]", ("obs.fits", 2)),
        ("obs.fits[ OBS INDEX ]", ("obs.fits", "OBS INDEX")),
        ("a[1]/obs.fits", ("a[1]/obs.fits", None)),
        ("a[1]/obs.fits[0]", ("a[1]/obs.fits", 0)),
        ("obs.fits[]", ("obs.fits[]", None)),
        ("obs.fits[\xb2]", ("obs.fits", "\xb2")),
        ("[2]", ("", 2)),
        ("", ("", None)),
    ],
)
def test_hdu_behind_the_name_of_a_file(text, expected):
    assert split_hdu(text) == expected


@pytest.fixture
def several(write_fits):
    """One file with the hdu-index first, then two tables of runs."""
    hdus = Table({"OBS_ID": [5], "HDU_TYPE": ["gti"], "FILE_NAME": ["run.fits"]})
    runs = Table({"OBS_ID": [1], "X": [2.0]})
    more = Table({"OBS_ID": [3, 4], "X": [2.0, 3.0]})
    return write_fits(table_hdu(hdus, "HDUS"), table_hdu(runs, "RUNS"), table_hdu(more, "MORE"))


def test_table_of_the_wanted_kind_is_read(several):
    assert read_index(several, "hdu-index")["OBS_ID"].tolist() == [5]
    with pytest.warns(ObsClusterWarning) as caught:
        assert read_index(several, "obs-index")["OBS_ID"].tolist() == [1]
    (text,) = [str(warning.message) for warning in caught]
    assert "2 RUNS (1 rows), 3 MORE (2 rows)" in text
    assert "'file.fits[3]' (obs_table_filename, --obs-index)" in text
    for hdu in (3, "MORE", "more"):
        assert read_index(several, "obs-index", hdu)["OBS_ID"].tolist() == [3, 4]


@pytest.mark.parametrize("hdu", [4, "NONE", 10**30])
def test_hdu_that_is_not_there_is_an_error_that_lists_those_that_are(hdu, several):
    with pytest.raises(ArchiveError, match=rf"no HDU {hdu}; it has 0 PRIMARY, 1 HDUS, 2 RUNS, 3"):
        read_index(several, "obs-index", hdu)


def test_hdu_that_is_no_index_is_an_error(several):
    with pytest.raises(ArchiveError, match=r"no column OBS_ID.*tables in it: none"):
        read_index(several, "obs-index", 0)


def test_both_indices_in_one_file_named_by_a_variable(small_archive, tmp_path, monkeypatch):
    tables = []
    for kind in ("hdu", "obs"):
        with fits.open(small_archive / f"{kind}-index.fits.gz") as hdus:
            tables.append(hdus[1].copy())
    tables[1].name = "MINE"
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(tmp_path / "index.fits.gz")
    monkeypatch.setenv("INDICES", str(tmp_path))
    expected = DataStore.from_dir(small_archive)
    for hdu in ("", "[2]", "[MINE]"):
        store = DataStore.from_dir(
            small_archive,
            obs_table_filename=f"$INDICES/index.fits{hdu}",
            hdu_table_filename=f"{tmp_path}/index.fits.gz",
        )
        assert store.obs_table["OBS_ID"].tolist() == expected.obs_table["OBS_ID"].tolist()
        assert len(store.hdu_table) == len(expected.hdu_table)
    with pytest.raises(ArchiveError, match=r"index\.fits\.gz: no HDU 7; it has 0 PRIMARY, 1 "):
        DataStore.from_dir(small_archive, obs_table_filename="$INDICES/index.fits[7]")
    with pytest.raises(RequestError, match="NO_SUCH_VARIABLE is not set"):
        DataStore.from_dir(small_archive, obs_table_filename="$NO_SUCH_VARIABLE/index.fits")


def test_damage_behind_an_index_does_not_concern_it(several):
    raw = several.read_bytes()
    place = raw.rindex(b"XTENSION")
    several.write_bytes(raw[:place] + b"X" * 2880 + raw[place:])
    assert read_index(several, "obs-index")["OBS_ID"].tolist() == [1]


# --- what is no file -----------------------------------------------------------------------------


def make_socket(path: Path) -> None:
    # The name of a socket must be short.
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):
        made.bind(path.name)


ODD = {
    "a named pipe": os.mkfifo,
    "a socket": make_socket,
    "a directory": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes among files")
@pytest.mark.parametrize("what", ODD)
class TestWhatIsNoFile:
    def test_run_file(self, what, tmp_path):
        path = tmp_path / "run.fits"
        ODD[what](path)
        with pytest.raises(MissingDataError, match=rf"run\.fits: is {what}"):
            FitsFile(path)
        location = HDULocation(7, "gti", "gti", path, "GTI")
        with pytest.raises(MissingDataError, match=rf"run\.fits: is {what}, not a file.*gti of ru"):
            location.open()

    def test_index_file(self, what, small_archive, tmp_path):
        archive = Path(shutil.copytree(small_archive, tmp_path / "archive"))
        path = archive / "obs-index.fits.gz"
        path.unlink()
        ODD[what](path)
        with pytest.raises(ArchiveError, match=rf"obs-index\.fits\.gz: is {what}"):
            DataStore.from_dir(archive)
        with pytest.raises(ArchiveError, match=rf"obs-index\.fits\.gz: is {what}"):
            read_index(path)

    def test_among_files_that_are_searched(self, what, unindexed):
        path = next((unindexed / "data").iterdir()).with_name("odd.fits")
        ODD[what](path)
        if what == "a directory":
            assert len(DataStore.from_files(unindexed).obs_table) == 5
            return
        with pytest.warns(SkippedRunWarning, match=rf"odd\.fits: is {what}"):
            assert len(DataStore.from_files(unindexed).obs_table) == 5
        with pytest.raises(ArchiveError, match=rf"odd\.fits: is {what}"):
            DataStore.from_files(path)


# --- finding files -------------------------------------------------------------------------------


def test_index_file_may_be_plain_or_gzipped_or_have_another_name(tmp_path):
    for name in ("obs-index.fits", "obs-index.fits.gz"):
        (tmp_path / name).touch()
        assert find_index(tmp_path, "obs-index") == tmp_path / name
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.fits").touch()
    assert find_index(tmp_path, "obs-index", "sub/mine.fits") == tmp_path / "sub" / "mine.fits"


def test_missing_archive_or_index_is_an_archive_error(tmp_path):
    (tmp_path / "file").touch()
    for directory, match in [
        (tmp_path / "no", "no: no such archive directory"),
        (tmp_path / "file", "file: is a file"),
        (tmp_path, r"no hdu-index.fits.gz or hdu-index.fits"),
    ]:
        with pytest.raises(ArchiveError, match=match):
            find_index(directory, "hdu-index")
    with pytest.raises(ArchiveError, match=r"no mine\.fits"):
        find_index(tmp_path, "hdu-index", "mine.fits")


@pytest.mark.parametrize(("asked", "there"), [("m.fits", "m.fits.gz"), ("m.fits.gz", "m.fits")])
def test_index_file_is_found_with_and_without_gz(asked, there, tmp_path):
    (tmp_path / there).touch()
    assert find_index(tmp_path, "obs-index", asked) == tmp_path / there


def test_variables_and_home_are_expanded(monkeypatch):
    monkeypatch.setenv("ARCHIVE", "/archive")
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_path("$ARCHIVE/x") == expand_path("${ARCHIVE}/x") == Path("/archive/x")
    assert expand_path("~/x") == Path("/home/me/x")
    assert expand_path(Path("x/../y")) == Path("x/../y")


@pytest.mark.parametrize("path", ["$NOT_SET/x", "/a/${NOT_SET}/x", "$NOT_SET"])
def test_variable_that_is_not_set_is_named(path, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(RequestError, match=r"\$NOT_SET is not set"):
        expand_path(path)


def test_home_of_nobody_is_named():
    with pytest.raises(RequestError, match="~nobody-at-all/x"):
        expand_path("~nobody-at-all/x")


@pytest.mark.parametrize(
    ("file_dir", "file_name", "place"),
    [
        ("data", "run.fits", "archive/data/run.fits"),
        ("", "run.fits", "archive/run.fits"),
        (".", "data/run.fits", "archive/data/run.fits"),
        ("  data  ", " run.fits ", "archive/data/run.fits"),
        ("../other", "run.fits", "other/run.fits"),
        ("$ROOT/other", "run.fits", "other/run.fits"),
        ("${ROOT}", "other/run.fits", "other/run.fits"),
        ("~/other", "run.fits", "other/run.fits"),
        ("/absolute", "run.fits", "/absolute/run.fits"),
    ],
)
def test_file_dir_is_relative_to_the_archive_unless_absolute(
    file_dir, file_name, place, tmp_path, monkeypatch
):
    monkeypatch.setenv("ROOT", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "archive").mkdir()
    index = hdu_index(tmp_path / "archive", FILE_DIR=[file_dir], FILE_NAME=[file_name])
    assert index.locations(7)["aeff"].path.resolve() == tmp_path / place


def test_variable_in_file_dir_that_is_not_set_concerns_that_file(tmp_path, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    location = hdu_index(tmp_path, FILE_DIR=["$NOT_SET/x"]).locations(7)["aeff"]
    with pytest.raises(MissingDataError, match=r"\$NOT_SET is not set"):
        _ = location.existing_path


@pytest.mark.parametrize("there", ["run.fits", "run.fits.gz"])
@pytest.mark.parametrize("listed", ["run.fits", "run.fits.gz"])
def test_file_is_found_with_and_without_gz(listed, there, tmp_path):
    (tmp_path / there).touch()
    location = HDULocation(7, "aeff", "aeff_2d", tmp_path / listed, "AEFF")
    assert location.existing_path == tmp_path / there


@pytest.mark.parametrize("name", ["run.fits", "run.fits.gz", "", "x" * 300])
def test_missing_file_names_path_run_and_type(name, tmp_path):
    location = HDULocation(7, "aeff", "aeff_2d", tmp_path / name, "AEFF")
    with pytest.raises(MissingDataError, match="aeff of run 7") as caught:
        _ = location.existing_path
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("archive", "path", "n_obs", "n_hdus"),
    [
        ("small_archive", ".", 12, 6),
        ("hess_dr1", ".", 105, 6),
        ("cta_1dc", "index/gps", 4, 6),
        ("fact_crab", ".", 125, 4),
    ],
)
def test_every_hdu_that_an_archive_lists_is_found(archive, path, n_obs, n_hdus, request):
    store = DataStore.from_dir(request.getfixturevalue(archive) / path)
    assert len(store.obs_ids) == n_obs
    for i, obs_id in enumerate(store.obs_ids):
        locations = store.hdu_index.locations(obs_id)
        assert len(locations) == n_hdus
        assert all(location.existing_path.is_file() for location in locations.values())
        if i < 3:
            for location in locations.values():
                with FitsFile(location.existing_path) as file:
                    assert location.find(file).name == location.hdu_name.upper()


# --- rows of an observation ----------------------------------------------------------------------


@given(obs_ids=st.lists(st.integers(1, 4) | st.just(BIG), max_size=30))
def test_rows_of_an_observation_are_all_that_have_its_identifier(obs_ids):
    obs_id = np.array(obs_ids, dtype=np.int64)
    text = Column([""] * len(obs_ids), dtype="U1")
    names = ("HDU_TYPE", "HDU_CLASS", "FILE_NAME")
    index = HDUIndex(Table({"OBS_ID": obs_id, **dict.fromkeys(names, text)}), Path())
    assert index.obs_ids.tolist() == sorted(set(obs_ids))
    for wanted in (0, 2, 4, 5, BIG - 1, BIG):
        assert index.rows(wanted).tolist() == np.flatnonzero(obs_id == wanted).tolist()


def test_first_hdu_of_a_type_counts_and_text_is_normalised(tmp_path):
    index = hdu_index(
        tmp_path,
        OBS_ID=[7, 8, 7, 7],
        HDU_TYPE=["AEFF ", "aeff", "aeff", "psf"],
        HDU_CLASS=["AEFF_2D", "aeff_2d", "aeff_2d", "psf_king"],
        FILE_DIR=[""] * 4,
        FILE_NAME=["a", "b", "c", "d"],
        HDU_NAME=["X", "Y", "Z", "PSF"],
    )
    locations = index.locations(7)
    assert {kind: location.path.name for kind, location in locations.items()} == {
        "aeff": "a",
        "psf": "d",
    }
    assert locations["aeff"] == HDULocation(7, "aeff", "aeff_2d", tmp_path / "a", "X")
    assert index.locations(9) == {}


def test_optional_columns_may_be_missing(tmp_path):
    table = Table({"OBS_ID": [7], "HDU_TYPE": ["gti"], "HDU_CLASS": ["gti"], "FILE_NAME": ["a"]})
    assert HDUIndex(table, tmp_path).locations(7)["gti"].path == tmp_path / "a"


@pytest.mark.parametrize(
    ("names", "named"), [("FILE_NAME",) * 2, ("HDU_TYPE HDU_CLASS", "HDU_TYPE")]
)
def test_missing_column_of_the_hdu_index_is_named(names, named, small_archive):
    table = read_index(small_archive / "hdu-index.fits.gz")
    table.remove_columns(names.split())
    with pytest.raises(ArchiveError, match=f"no column {named}"):
        HDUIndex(table, small_archive)


@pytest.mark.parametrize("name", ["HDU_TYPE", "HDU_CLASS"])
def test_type_and_class_of_hdus_stand_for_each_other(name, small_archive):
    table = read_index(small_archive / "hdu-index.fits.gz")
    index = HDUIndex(table, small_archive)
    without = table.copy()
    without.remove_column(name)
    found = HDUIndex(without, small_archive)
    assert name not in without.colnames
    for kind, location in index.locations(26601).items():
        assert found.locations(26601)[kind].path == location.path
    assert found.locations(26601).keys() == index.locations(26601).keys()


def test_type_that_was_cut_is_completed_by_the_class(tmp_path):
    index = hdu_index(tmp_path, HDU_TYPE=["rad_ma"], HDU_CLASS=["rad_max_2d"])
    assert list(index.locations(7)) == ["rad_max"]


# --- HDUs in a file ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def renamed_run(small_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose extension names tell nothing."""
    path = tmp_path_factory.mktemp("renamed") / "run.fits"
    with fits.open(next((small_archive / "data").iterdir())) as hdulist:
        for i, hdu in enumerate(hdulist[1:]):
            hdu.name = f"TABLE{i}"
        hdulist.writeto(path)
    return path


@pytest.mark.parametrize("listed_name", ["", "OLD NAME"])
@pytest.mark.parametrize(
    ("hdu_type", "name"),
    [
        ("events", "TABLE0"),
        ("gti", "TABLE1"),
        ("aeff", "TABLE2"),
        ("edisp", "TABLE3"),
        ("psf", "TABLE4"),
        ("bkg", "TABLE5"),
    ],
)
def test_hdu_is_found_by_its_class_where_the_name_differs(hdu_type, name, listed_name, renamed_run):
    with FitsFile(renamed_run) as file:
        assert HDULocation(7, hdu_type, "", renamed_run, listed_name).find(file).name == name


@pytest.mark.parametrize(
    ("hdu_type", "listed_name", "found"),
    [
        ("psf", " table4 ", "TABLE4"),
        # The name is that of a HDU which shows itself to be something else.
        ("aeff", "TABLE4", "TABLE2"),
        ("rad_max", "TABLE4", "TABLE4"),
    ],
)
def test_class_counts_before_name(hdu_type, listed_name, found, renamed_run):
    with FitsFile(renamed_run) as file:
        assert HDULocation(7, hdu_type, "", renamed_run, listed_name).find(file).name == found


def test_hdu_that_is_nowhere_is_named_with_what_is_there(renamed_run):
    location = HDULocation(7, "rad_max", "rad_max_2d", renamed_run, "RAD_MAX")
    with FitsFile(renamed_run) as file, pytest.raises(MissingDataError) as caught:
        location.find(file)
    for part in (str(renamed_run), "RAD_MAX", "rad_max", "TABLE0", "TABLE5"):
        assert part in str(caught.value)


def test_units_of_the_index_are_astropys(small_archive):
    table = read_index(small_archive / "obs-index.fits.gz")
    assert table["ZEN_PNT"].unit == u.deg
    assert table["LIVETIME"].unit == u.s
