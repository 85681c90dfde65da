"""Checking an archive: nothing to say of a clean one, and each kind of damage is named."""

from __future__ import annotations

import re
import shutil
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation
from astropy.table import Table, vstack

from damages import (
    DAMAGES,
    Damage,
    cells,
    content,
    index,
    keys,
    on,
    put,
    run_file,
    some,
    unplace,
)
from obscluster.archive.store import DataStore
from obscluster.check import check_archive, describe_findings, severity_counts, walk
from obscluster.check.responses import check_empty_bins
from obscluster.cli import main
from obscluster.exceptions import ObsClusterWarning
from obscluster.gadf.axis import Axis
from obscluster.gadf.response import IRF
from obscluster.parallel.engine import LocalWorkers
from obscluster.simulate import simulate

PSFS = ("psf_table", "psf_3gauss", "psf_king")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Archives of four runs by format of PSF and background; do not change them."""
    top = tmp_path_factory.mktemp("clean")
    return {
        (psf, bkg): simulate(top / f"{psf}-{bkg}", n_obs=4, size="small", psf=psf, bkg=bkg)
        for psf in PSFS
        for bkg in ("bkg_2d", "bkg_3d")
    }


@pytest.fixture(params=["psf_table"])
def archive(request: Any, clean: Any, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(clean[request.param, "bkg_3d"], tmp_path / "archive"))


def check(directory: Path, **options: Any) -> Table:
    with warnings.catch_warnings():
        # What is said of the index when it is opened is found, too.
        warnings.simplefilter("ignore", ObsClusterWarning)
        data_store = DataStore.from_dir(directory, strict=False)
    return check_archive(data_store, **options)


@pytest.mark.parametrize(
    ("damage", "severity", "hdu", "text"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES]
)
def test_damage_is_named_at_its_run_only(
    damage: Damage, severity: str, hdu: str, text: str, archive: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy on what we are about to do
        damage(archive)
    findings = check(archive)
    assert set(findings["obs_id"]) == {26601}
    found = [row for row in findings if re.search(text, row["finding"])]
    assert [(row["severity"], row["hdu"]) for row in found] == [(severity, hdu)], findings[
        "finding"
    ]
    if severity != "error":
        assert not severity_counts(findings)["error"]


@pytest.mark.parametrize(
    ("archive", "column", "value", "text"),
    [
        ("psf_3gauss", "SIGMA_1", 50.0, "SIGMA_1 exceeds 5 deg in 3 of 48 bins"),
        ("psf_3gauss", "SIGMA_2", 0.0, "SIGMA_2 is zero in 3 of 48 bins with an amplitude"),
        ("psf_3gauss", "AMPL_2", -1.0, "AMPL_2 is negative in 3 of 48 bins, -1 at worst"),
        ("psf_king", "GAMMA", 0.9, "GAMMA is not above 1 in 3 of 48 bins"),
        ("psf_king", "SIGMA", 7.0, "SIGMA exceeds 5 deg in 3 of 48 bins: up to 7 deg"),
    ],
    indirect=["archive"],
)
def test_impossible_parameters_of_a_psf(archive: Path, column: str, value: float, text: str):
    cells("PSF", column, some(value))(archive)
    (row,) = check(archive)
    assert (row["obs_id"], row["severity"], row["hdu"]) == (26601, "warning", "psf")
    assert text in row["finding"]


@pytest.mark.parametrize(
    ("damage", "severity", "text"),
    [
        (index("obs", lambda t: t.remove_columns(["TSTOP", "RA_PNT"])), "warning",
         "the obs-index has no column RA_PNT, TSTOP, mandatory"),
        (index("hdu", lambda t: t.remove_column("HDU_NAME")), "warning", "no column HDU_NAME"),
        (index("obs", lambda t: t.meta.clear()), "warning", "no keyword MJDREFI"),
        (index("obs", lambda t: t.replace_column("ZEN_PNT", ["?"] * 4)), "warning",
         "column ZEN_PNT of the obs-index has no usable value"),
        (index("obs", lambda t: vstack([t, t[:1]], metadata_conflicts="silent")), "error",
         r"several rows for 1 runs \(26601\)"),
    ],
)  # fmt: skip
def test_damage_of_an_index_concerns_the_archive(
    damage: Damage, severity: str, text: str, archive: Path
) -> None:
    damage(archive)
    (row,) = check(archive)
    assert (row["obs_id"], row["severity"]) == (-1, severity)
    assert re.search(text, row["finding"])


def unit_of(column: str, unit: str | None, factor: float = 1.0) -> Damage:
    """A column of the obs-index in another unit."""

    def change(table: Table) -> None:
        table[column] = np.asarray(table[column]) * factor
        table[column].unit = None if unit is None else u.Unit(unit, parse_strict="silent")

    return index("obs", change)


def header_of(kind: str, **values: Any) -> Damage:
    """Keywords of an index; None takes them away."""

    def change(table: Table) -> None:
        for key, value in values.items():
            table.meta[key] = value
            if value is None:
                del table.meta[key]

    return index(kind, change)


def damaged(archive: Path, *damages: Damage) -> Path:
    """The archive after a damage, of which astropy warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for damage in damages:
            damage(archive)
    return archive


def typed(table: Table) -> Table:
    """Every row twice, with different event types."""
    one, other = table.copy(), table.copy()
    one["EVENT_TYPE"], other["EVENT_TYPE"] = "TYPE_A", "TYPE_B"
    return vstack([one, other])


@pytest.mark.parametrize(
    ("damage", "severity", "text"),
    [
        (unit_of("LIVETIME", "counts"), "error",
         "unit 'counts' of column LIVETIME of the obs-index does not convert to s"),
        (unit_of("RA_PNT", "TeV"), "error", "unit 'TeV' of column RA_PNT .* convert to deg"),
        (unit_of("DEADC", "s"), "error", "unit 's' of column DEADC .* to a plain number"),
        (unit_of("TSTART", None), "warning", "no unit of column TSTART of the obs-index; s assume"),
        (index("obs", lambda t: t.replace_column("ZEN_PNT", ["N/A"] * 4)), "warning",
         "ZEN_PNT of .* no usable value.*'N/A'; computed from pointing, mid-time and place"),
        (index("obs", lambda t: t.replace_column("ONTIME", t["ONTIME"].astype(str))), "warning",
         "column ONTIME of the obs-index holds text; it is read as numbers"),
        (index("obs", lambda t: t.remove_column("LIVETIME")), "info",
         "no column LIVETIME; GTI x DEADC is taken"),
        (index("obs", lambda t: t.remove_columns(["ZEN_PNT", "ALT_PNT"])), "info",
         "no column ZEN_PNT or ALT_PNT; computed from pointing, mid-time and place"),
        (header_of("obs", HDUCLAS2=None), "warning",
         "no keyword HDUCLAS2 in the obs-index"),
        (header_of("obs", HDUCLAS2="HDU"), "warning",
         "HDUCLAS2 = 'HDU' in the obs-index; expected 'OBS'"),
        (header_of("hdu", HDUCLASS=None), "warning",
         "no keyword HDUCLASS in the hdu-index"),
        (header_of("obs", TIMEREF=None), "warning", "no keyword TIMEREF in the obs"),
        (header_of("obs", TIMESYS="SUNDIAL"), "error",
         "reference time of the obs-index cannot be read .*sundial"),
        (index("obs", typed), "error", r"several rows for 4 .* EVENT_TYPE \(TYPE_A, TYPE_B\)"),
        (index("obs", lambda t: vstack([t, t[:1]], metadata_conflicts="silent")), "error",
         "they are the same in every column"),
    ],
)  # fmt: skip
def test_an_index_is_looked_at_as_strictly_as_run_files(
    damage: Damage, severity: str, text: str, archive: Path
) -> None:
    damaged(archive, damage)
    (row,) = check(archive)
    assert (row["obs_id"], row["severity"]) == (-1, severity)
    assert re.search(text, row["finding"])
    assert row["file"] in ("obs-index.fits.gz", "hdu-index.fits.gz")


@pytest.mark.parametrize(
    ("column", "unit", "factor"),
    [("ZEN_PNT", "rad", np.pi / 180), ("LIVETIME", "h", 1 / 3600), ("TSTART", "d", 1 / 86400)],
)
def test_nothing_to_say_of_an_index_in_other_units(archive, column, unit, factor):
    damaged(archive, unit_of(column, unit, factor))
    assert len(check(archive)) == 0


def test_columns_that_hold_arrays_are_told(archive):
    def lists(table: Table) -> None:
        table["MUONEFF"] = np.ones((len(table), 2))

    index("obs", lists)(archive)
    with pytest.warns(ObsClusterWarning, match="MUONEFF"):
        store = DataStore.from_dir(archive)
    (row,) = check_archive(store)
    assert "columns left out: MUONEFF (holds arrays" in row["finding"]


def test_livetime_of_the_index_against_good_time_intervals(archive):
    index("obs", put("LIVETIME", lambda v: 0.98 * v))(archive)
    index("obs", put("DEADC", lambda v: 0.98 * v))(archive)
    (row,) = check(archive)
    assert (row["obs_id"], row["severity"], row["file"]) == (26601, "warning", "obs-index.fits.gz")
    assert re.fullmatch(
        r"LIVETIME = 1115\.\d s in the index, but GTI x DEADC = 1138\.\d s, which .*",
        row["finding"],
    )
    index("obs", put("LIVETIME", lambda v: 1.015 * v))(archive)
    assert not [row for row in check(archive) if "GTI x DEADC" in row["finding"]]


def test_unit_of_times_in_a_header_is_obeyed(archive):
    def days(hdu: Any) -> None:
        for key in ("TSTART", "TSTOP"):
            hdu.header[key] /= 86400
        hdu.header["TIMEUNIT"] = "d"

    on("EVENTS", days)(archive)
    assert len(check(archive)) == 0


def test_a_place_by_its_distance_from_the_centre_of_the_earth_counts(archive):
    place = EarthLocation.from_geodetic(16.50022222, -23.27177778, 1835.0)
    xyz = {f"OBSGEO-{k}": v.to_value("m") for k, v in zip("XYZ", place.geocentric, strict=True)}
    unplace(archive)
    keys("EVENTS", GEOLON=None, GEOLAT=None, ALTITUDE=None, **xyz)(archive)
    assert len(check(archive)) == 0


def empty(hdu: str, names: str, where: Any) -> Damage:
    """Zero in columns of a response of the first run, where a mask of energies says so."""

    def change(table: Any) -> None:
        energy = np.sqrt(table.data["ENERG_LO"][0] * table.data["ENERG_HI"][0])
        for name in names.split():
            cell = table.data[name][0]
            np.moveaxis(cell, cell.shape.index(len(energy)), 0)[where(energy)] = 0

    return on(hdu, change)


@pytest.mark.parametrize(
    ("archive", "damage", "hdu", "text"),
    [
        ("psf_table", empty("PSF", "RPSF", lambda e: e > 1), "psf", "RPSF is zero at every RAD"),
        ("psf_3gauss", empty("PSF", "SCALE", lambda e: e < 1), "psf", "SCALE or each width is ze"),
        ("psf_3gauss", empty("PSF", "SIGMA_1 SIGMA_2 SIGMA_3", lambda e: e < 1), "psf", "each wi"),
        ("psf_king", empty("PSF", "SIGMA", lambda e: e < 1), "psf", "SIGMA or GAMMA is zero"),
        ("psf_king", empty("PSF", "GAMMA", lambda e: e < 1), "psf", "SIGMA or GAMMA is zero"),
        ("psf_table", empty("EDISP", "MATRIX", lambda e: e < 1), "edisp", "MATRIX is zero at ev"),
        ("psf_table", empty("BKG", "BKG", lambda e: e < 1), "bkg", "BKG is zero"),
    ],
    indirect=["archive"],
)
def test_empty_bins_next_to_where_features_are_asked(archive, damage, hdu, text):
    damage(archive)
    found = [row for row in check(archive) if "are empty" in row["finding"]]
    ((obs_id, where, severity),) = [(r["obs_id"], r["hdu"], r["severity"]) for r in found]
    assert (obs_id, where, severity) == (26601, hdu, "warning")
    assert re.match(r"\d+ of \d+ bins next to 1 TeV and offsets up to 1 deg", found[0]["finding"])
    assert text in found[0]["finding"]


def test_empty_bins_elsewhere_are_not_told(archive):
    empty("PSF", "RPSF", lambda e: e > 30)(archive)
    empty("EDISP", "MATRIX", lambda e: e < 0.1)(archive)
    assert len(check(archive)) == 0


@pytest.mark.parametrize("n_empty", [0, 1, 4])
def test_directional_cut_of_zero_next_to_where_features_are_asked(n_empty):
    energy = Axis.from_nodes("energy", [0.1, 0.5, 2.0, 10.0], "log")
    offset = Axis.from_nodes("offset", [0.0, 1.0, 2.0])
    cut = np.full((4, 3), 0.1)
    cut[3] = 0
    cut.flat[[3, 4, 6, 7][:n_empty]] = 0
    irf = IRF("rad_max_2d", {"energy": energy, "offset": offset}, {"RAD_MAX": cut}, u.deg)
    found = [finding.text for finding in check_empty_bins(irf)]
    assert len(found) == (n_empty > 0)
    assert not n_empty or found[0].startswith(f"{n_empty} of 4 bins next to 1 TeV")


def test_background_that_is_zero_between_energies_is_told(archive):
    empty("BKG", "BKG", lambda e: np.arange(len(e)) == len(e) - 2)(archive)
    (row,) = check(archive)
    assert (row["severity"], row["hdu"]) == ("info", "bkg")
    assert re.match(r"BKG is zero in 1 of \d+ energy bins, at 31.62 TeV", row["finding"])


SR_PER_DEG2 = (np.pi / 180) ** 2


@pytest.mark.parametrize(
    ("unit", "factor", "text"),
    [
        ("deg-2", SR_PER_DEG2, None),
        ("sr-1", SR_PER_DEG2, r"RPSF in 1 / sr integrates to \(pi/180\)\^2 = 0.0003046"),
        ("deg-2", 1.0, r"RPSF in 1 / deg2 integrates to \(180/pi\)\^2 = 3283"),
        ("sr-1", 1.05, "more than 1.01 in 48 of 48 bins"),
        (
            "sr-1",
            1.2,
            r"more than 1.01 in 48, to much more than one \(above 1.1\) in 48 of 48",
        ),
        ("sr-1", 0.85, "less than 0.9 in 48 of 48 bins"),
    ],
)
def test_normalisation_of_a_psf_is_in_its_unit(archive, unit, factor, text):
    cells("PSF", "RPSF", lambda v: factor * v)(archive)
    on("PSF", lambda hdu: hdu.columns.change_unit("RPSF", unit))(archive)
    findings = check(archive)
    if text is None:
        assert len(findings) == 0
    else:
        (row,) = findings
        assert re.search(text, row["finding"])


@pytest.mark.parametrize(
    ("damage", "step"),
    [
        (lambda _: None, None),
        (index("obs", put("ZEN_PNT", lambda v: v + 3)), None),
        (lambda d: run_file(d).unlink(), r"next: fetch again data/run_026601\.fits\.gz"),
        (content(lambda b: b[:-300]), r"next: fetch again data/run_026601\.fits\.gz"),
        (index("hdu", lambda t: t[6:]), "next: obscluster index .* writes index files from the he"),
        (unit_of("LIVETIME", "counts"), "next: obscluster index .* writes index files from the he"),
        (index("obs", typed), None),
    ],
)
def test_the_last_line_is_the_next_step(archive, damage, step):
    damaged(archive, damage)
    last = describe_findings(check(archive), width=1000).splitlines()[-1]
    assert last.startswith("next: ") == (step is not None)
    assert step is None or re.match(step, last)


@pytest.mark.parametrize("psf", PSFS)
@pytest.mark.parametrize("bkg", ["bkg_2d", "bkg_3d"])
def test_nothing_to_say_of_a_clean_archive(clean: Any, psf: str, bkg: str) -> None:
    findings = check(clean[psf, bkg])
    assert len(findings) == 0
    assert describe_findings(findings) == "4 runs, 24 HDUs checked: 0 errors, 0 warnings"


def share_aeff(directory: Path) -> None:
    """All runs but the last use the area of the first, which has a negative value."""
    cells("AEFF", "EFFAREA", some(-2.0, 1))(directory)
    first = run_file(directory).name

    def change(table: Table) -> None:
        rows = np.flatnonzero(table["HDU_TYPE"] == "aeff")
        table["FILE_NAME"][rows[:3]] = first

    index("hdu", change)(directory)


def test_a_shared_response_is_read_and_reported_once(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_aeff(archive)
    opened: Counter[Path] = Counter()

    def count(path: Path) -> Any:
        opened[path] += 1
        return open_fits(path)

    open_fits = walk.FitsFile
    monkeypatch.setattr(walk, "FitsFile", count)
    findings = check(archive)
    assert set(opened.values()) == {1}
    assert len(opened) == 4
    (row,) = [row for row in findings if "EFFAREA" in row["finding"]]
    assert (row["obs_id"], row["file"]) == (-1, f"data/{run_file(archive).name}")
    assert "(3 runs: 26601, 54501, " in row["finding"]
    assert findings.meta["n_hdus"] == 22


def test_workers_change_nothing(archive: Path) -> None:
    share_aeff(archive)
    last = max((archive / "data").iterdir())
    last.write_bytes(last.read_bytes()[:-300])
    one, many = check(archive), check(archive, engine=LocalWorkers(3))
    assert len(one) >= 2
    assert one.pformat(max_lines=-1, max_width=-1) == many.pformat(max_lines=-1, max_width=-1)


class TestCommand:
    def test_clean(self, clean, capsys):
        assert main(["check", str(clean["psf_table", "bkg_3d"])]) == 0
        assert capsys.readouterr().out == "4 runs, 24 HDUs checked: 0 errors, 0 warnings\n"

    def test_error(self, archive, tmp_path, capsys):
        run_file(archive).unlink()
        output = tmp_path / "findings.ecsv"
        assert main(["check", str(archive), "--workers", "2", "--output", str(output)]) == 1
        assert "24 HDUs checked: 1 error, 0 warnings" in capsys.readouterr().out
        table = Table.read(output)
        assert table.colnames == ["obs_id", "hdu", "severity", "finding", "file"]
        assert table["obs_id"].tolist() == [26601]
        assert (table.meta["n_runs"], table.meta["n_hdus"]) == (4, 24)
        assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []

    def test_many_runs_are_one_line_unless_all_are_wanted(self, archive, capsys):
        index("obs", lambda t: t.replace_column("ZEN_PNT", t["ZEN_PNT"] + 5))(archive)
        assert main(["check", str(archive)]) == 0
        text = capsys.readouterr().out
        assert text.count("ZEN_PNT") == 1
        assert re.search(r"^warning   events +4  ", text, re.MULTILINE)
        assert "runs 26601, 54501, " in text
        assert max(map(len, text.splitlines())) <= 120
        assert main(["check", str(archive), "--all"]) == 0
        text = capsys.readouterr().out
        assert text.count("ZEN_PNT") == 4
        assert max(map(len, text.splitlines())) <= 120

    def test_what_cannot_be_met(self, archive, tmp_path, capsys):
        taken = tmp_path / "taken.ecsv"
        taken.write_text("mine")
        for arguments, text in (
            ([str(tmp_path / "none")], "no such archive directory"),
            ([str(archive), "--workers", "0"], "expected at least 1"),
            ([str(archive), "--output", str(taken)], "is there already"),
            ([str(archive), "--output", str(taken / "f.ecsv")], "taken.ecsv is a file"),
        ):
            assert main(["check", *arguments]) == 2
            assert text in capsys.readouterr().err
        assert taken.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "path", "n_runs", "n_hdus"),
    [
        ("cta_1dc", "index/gps", 4, 12),
        ("fact_crab", ".", 125, 252),
        ("hess_dr1", ".", 105, 630),
    ],
)
def test_archives_in_daily_use_have_no_errors(name, path, n_runs, n_hdus, request):
    findings = check(request.getfixturevalue(name) / path)
    assert (findings.meta["n_runs"], findings.meta["n_hdus"]) == (n_runs, n_hdus)
    assert severity_counts(findings)["error"] == 0


def test_what_is_known_of_hess(hess_dr1):
    findings = check(hess_dr1)
    assert severity_counts(findings) == {"error": 0, "warning": 252, "info": 105}
    text = describe_findings(findings, width=1000)
    assert "ZEN_PNT = 26.56 deg in the index, but 24.56 deg from pointing" in text  # run 28981


def test_what_is_known_of_real_archives(cta_1dc, fact_crab):
    text = describe_findings(check(cta_1dc / "index/gps"))
    assert "98.02 deg from pointing" in text  # GEOLON without its sign
    findings = check(fact_crab)
    assert severity_counts(findings) == {"error": 0, "warning": 3, "info": 0}
    assert "it holds probabilities" in describe_findings(findings, width=1000)
