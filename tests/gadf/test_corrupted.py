"""Corrupted files: a typed error or a correct read, soon, in little memory, and nothing else.

What is done to the files, and what is read of them, is in `corruption.py`, which runs as a process
of its own with its memory limited to 500 MB more than it begins with.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import corruption
import obscluster
from archives import Archive
from obscluster import DataStore
from obscluster.exceptions import DataError
from obscluster.gadf import unpack
from obscluster.gadf.fits import FitsFile
from obscluster.simulate import simulate

FILES = {"run": 400, "odd run": 300, "obs": 200, "hdu": 200}
C = fits.Column


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Archives by what is to be corrupted in them."""
    directory = tmp_path_factory.mktemp("corrupted")
    made = {}
    for kind in FILES:
        n_obs, psf = (1, "psf_table") if "run" in kind else (3, "psf_king")
        psf, bkg = ("psf_3gauss", "bkg_2d") if kind == "odd run" else (psf, "bkg_3d")
        made[kind] = simulate(
            directory / kind, n_obs=n_obs, n_epochs=1, size="small", psf=psf, bkg=bkg
        )
    make_odd(Archive(made["odd run"]))
    return made


def make_odd(archive: Archive) -> None:
    """Columns that only astropy reads, a pointing table, a directional cut."""

    def edit(hdulist: fits.HDUList) -> None:
        events = hdulist["EVENTS"]
        n = len(events.data)
        lists = np.array([np.arange(i % 4) for i in range(n)], dtype=object)
        odd = [
            C("P", "PJ()", array=lists),
            C("X", "11X", array=np.ones((n, 11), bool)),
            C("SCALED", "D", bscale=0.5, bzero=3, array=np.arange(n) / 2),
            C("U4", "J", bzero=2**31, array=np.arange(n, dtype="u4")),
            C("TEXTS", "12A4", array=["a"] * n),
            C("L", "L", array=[True] * n),
            C("COMPLEX", "C", array=np.ones(n)),
        ]
        new = fits.BinTableHDU.from_columns([*odd, *events.columns], name="EVENTS")
        for key in ("HDUCLAS1", "MJDREFI", "MJDREFF", "TIMESYS", "GEOLON", "GEOLAT", "ALTITUDE"):
            new.header[key] = events.header[key]
        new.header["OBS_MODE"] = "SLEW"
        hdulist["EVENTS"] = new

    def pointing(hdulist: fits.HDUList) -> fits.BinTableHDU:
        times = hdulist["GTI"].data["START"][0] + np.arange(5.0)
        table = Table({"TIME": times, "RA_PNT": np.arange(5.0), "DEC_PNT": np.arange(5.0)})
        hdu = fits.BinTableHDU(table, name="POINTING")
        for key in ("MJDREFI", "MJDREFF", "TIMESYS"):
            hdu.header[key] = hdulist["GTI"].header[key]
        hdu.header["HDUCLAS1"] = "POINTING"
        return hdu

    archive.runs(edit)
    archive.keywords("AEFF", HDUCLAS3="POINT-LIKE", RAD_MAX=0.2)
    archive.add("pointing", "pointing", pointing)


def test_good_files_are_read(archives):
    for kind, directory in archives.items():
        store = DataStore.from_dir(directory)
        for name, step in corruption.steps_of_run(store, ["aeff", "psf-r68"]).items():
            assert corruption.outcome(step) == "ok", (kind, name)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured as on Linux")
@pytest.mark.parametrize("kind", FILES)
def test_corrupted_files_give_a_typed_error_or_a_read(kind, archives):
    script = [sys.executable, "-W", "error", corruption.__file__]
    arguments = [kind.split()[-1], archives[kind], "0", FILES[kind]]
    done = subprocess.run(
        [*script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        # The package that is tested here, wherever another one is installed.
        env={"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(obscluster.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    # Shown with pytest -s.
    print(kind, {key: value for key, value in result.items() if key != "failures"})
    assert not result["failures"], "\n".join(result["failures"][:3])
    assert result["slowest"] < 5
    assert result["peak_mb"] - result["base_mb"] < 500
    outcomes = result["outcomes"]
    # Both happen, and often: otherwise the damage would be too little or too much.
    n_errors = sum(n for name, n in outcomes.items() if name != "ok")
    assert min(outcomes["ok"], n_errors) > 0.15 * sum(outcomes.values())
    assert sum(outcomes.values()) >= FILES[kind]


def test_there_are_enough_of_them_and_they_are_reproducible():
    assert sum(FILES.values()) >= 1000
    content = bytes(range(256)) * 100
    assert corruption.corrupted(content, 5) == corruption.corrupted(content, 5)
    assert corruption.corrupted(content, 5) != corruption.corrupted(content, 6)


# --- what a header can lie about -----------------------------------------------------------------


def read(path: Path) -> None:
    with FitsFile(path) as file:
        for hdu in file:
            if hdu.index:
                _ = [hdu.column(name) for name in hdu.colnames]


@pytest.mark.parametrize("size", [1 << 20, 1 << 25])
def test_small_file_that_unpacks_to_much_is_refused(size, tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "SMALL_UNPACKED_BYTES", 1 << 19)
    header = fits.ImageHDU(np.zeros(1, "u1")).header
    header["NAXIS1"] = size
    blocks = [fits.PrimaryHDU().header.tostring(), header.tostring()]
    path = tmp_path / "bomb.fits.gz"
    path.write_bytes(gzip.compress("".join(blocks).encode() + bytes(size), 9))
    with FitsFile(path) as file, pytest.raises(DataError, match=r"bomb.*too large"):
        list(file)[1]._data()


def test_sizes_of_thousands_of_digits_are_refused(tmp_path):
    cards = ["XTENSION= 'IMAGE   '", "BITPIX  = 8", "NAXIS   = 999"]
    cards += [f"NAXIS{i + 1:<3}= {'9' * 69}" for i in range(999)]
    text = "".join(card.ljust(80) for card in [*cards, "END"])
    path = tmp_path / "huge.fits"
    path.write_bytes(fits.PrimaryHDU().header.tostring().encode() + text.ljust(2880 * 30).encode())
    with pytest.raises(DataError, match="more data than any file holds"):
        read(path)


def test_rows_of_no_width_are_refused(write_fits):
    path = write_fits(fits.BinTableHDU.from_columns([C("E", "1E", array=[1.0])], name="T"))
    raw = (
        path.read_bytes()
        .replace(b"'1E      '", b"'0E      '")
        .replace(b"'E       '", b"'0E      '")
    )
    place = raw.index(b"NAXIS1  =", 2880)
    path.write_bytes(raw[:place] + b"NAXIS1  =                    0".ljust(80) + raw[place + 80 :])
    with pytest.raises(DataError, match="rows of no width"):
        read(path)
