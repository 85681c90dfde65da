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
from astropy.table import Table, vstack

from damages import DAMAGES, Damage, cells, index, run_file, some
from obscluster.check import archive as walk
from obscluster.check import check_archive, describe_findings, severity_counts
from obscluster.cli import main
from obscluster.simulate import simulate
from obscluster.store import DataStore
from obscluster.workers import LocalWorkers

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
    return check_archive(DataStore.from_dir(directory), **options)


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
            ([str(archive), "--output", str(taken)], "exists"),
            ([str(archive), "--output", str(tmp_path / "no" / "f.ecsv")], "no such directory"),
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
