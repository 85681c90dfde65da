"""Ways to damage an archive, and what `obscluster check` has to say of each."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table, vstack

Damage = Callable[[Path], Any]


def run_file(directory: Path) -> Path:
    """File of the first run, the one that is damaged."""
    return min((directory / "data").iterdir())


def on(name: str, change: Callable[[Any], Any]) -> Damage:
    """Change an HDU of the first run."""

    def damage(directory: Path) -> None:
        path = run_file(directory)
        with fits.open(path) as hdus:
            change(hdus[name])
            hdus.writeto(path, overwrite=True)

    return damage


def keys(name: str, **values: Any) -> Damage:
    """Replace keywords of an HDU of the first run; None takes them away."""

    def change(hdu: Any) -> None:
        for key, value in values.items():
            hdu.header.remove(key, ignore_missing=True)
            if value is not None:
                hdu.header[key] = value

    return on(name, change)


def cells(name: str, column: str, function: Callable[[Any], Any]) -> Damage:
    """Change the values of a column of the first run."""

    def change(hdu: Any) -> None:
        hdu.data[column][...] = function(np.array(hdu.data[column]))

    return on(name, change)


def some(value: Any, n: int = 3) -> Callable[[Any], Any]:
    """Put a value into the first cells."""

    def change(values: Any) -> Any:
        values.flat[:n] = value
        return values

    return change


def content(change: Callable[[bytes], bytes]) -> Damage:
    """Change the bytes of the file of the first run."""
    return lambda directory: _rewrite(run_file(directory), change)


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def index(kind: str, change: Callable[[Table], Table | None]) -> Damage:
    """Change an index table."""

    def damage(directory: Path) -> None:
        path = directory / f"{kind}-index.fits.gz"
        table = Table.read(path)
        changed = change(table)
        (table if changed is None else changed).write(path, overwrite=True)

    return damage


def put(column: str, value: Any, where: str | None = None) -> Callable[[Table], None]:
    """Change the first run in an index, or its row of one HDU type."""

    def change(table: Table) -> None:
        rows = (
            np.arange(len(table)) if where is None else np.flatnonzero(table["HDU_TYPE"] == where)
        )
        if isinstance(value, str):
            table[column] = table[column].astype("U60")
        table[column][rows[0]] = value(table[column][rows[0]]) if callable(value) else value

    return change


def unplace(directory: Path) -> None:
    """Take the longitude out of the first run and the index; the other runs have their own."""
    keys("EVENTS", GEOLON=None)(directory)
    path = directory / "obs-index.fits.gz"
    table = Table.read(path)
    del table.meta["GEOLON"]
    table.write(path, overwrite=True)


def unknown_class(directory: Path) -> None:
    """A PSF of a class of the specification that obscluster does not read."""
    index("hdu", put("HDU_CLASS", "psf_gtpsf", "psf"))(directory)
    keys("PSF", HDUCLAS4="PSF_GTPSF", TTYPE7="NEW")(directory)


def intervals(*pairs: tuple[float, float]) -> Damage:
    """Intervals in seconds from the start of the run."""

    def damage(directory: Path) -> None:
        path = run_file(directory)
        with fits.open(path) as hdus:
            old = hdus["GTI"]
            rows = fits.FITS_rec.from_columns(old.columns, nrows=len(pairs))
            begin = old.data["START"][0]
            rows["START"][:] = [begin + first for first, _ in pairs]
            rows["STOP"][:] = [begin + last for _, last in pairs]
            hdus["GTI"] = fits.BinTableHDU(rows, header=old.header)
            hdus.writeto(path, overwrite=True)

    return damage


def without(name: str) -> Damage:
    """Take an HDU out of the first run."""

    def damage(directory: Path) -> None:
        path = run_file(directory)
        with fits.open(path) as hdus:
            del hdus[name]
            hdus.writeto(path, overwrite=True)

    return damage


def truncated_plain(directory: Path) -> None:
    """Unpack the first run, and cut its last table short."""
    path = run_file(directory)
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes())[:-4000])
    path.unlink()


# Name, damage, severity, HDU and text (a pattern) of the finding.
DAMAGES: list[tuple[str, Damage, str, str, str]] = [
    # file
    ("gone", lambda d: run_file(d).unlink(), "error", "", r"no such file; .* lists events, gti"),
    ("empty", content(lambda _: b""), "error", "", "the file is empty"),
    ("text", content(lambda _: b"<html>" * 999), "error", "", "not a FITS file"),
    ("gzip-cut", content(lambda b: b[:-300]), "error", "", "truncated gzip data"),
    ("gzip-no-trailer", content(lambda b: b[:-8]), "error", "", "truncated gzip data"),
    ("gzip-checksum", content(lambda b: b[:-8] + b"abcd" + b[-4:]), "error", "", "checksum"),
    ("plain-cut", truncated_plain, "error", "bkg", "the file is truncated"),
    # HDU
    ("no-hdu", without("GTI"), "error", "gti", "no such HDU and none of type gti"),
    ("renamed", keys("PSF", EXTNAME="RESP"), "info", "psf", "EXTNAME = 'RESP', HDU_NAME = 'PSF'"),
    ("class", keys("PSF", HDUCLAS4="2D"), "info", "psf", "HDUCLAS4 = '2D'"),
    ("type", keys("GTI", HDUCLAS1="EVENTS"), "error", "gti", "HDUCLAS1 = 'EVENTS'"),
    ("irf-type", keys("AEFF", HDUCLAS2="BKG", HDUCLAS4="BKG_2D"), "error", "aeff", "of type bkg"),
    ("keyword", keys("EVENTS", ORIGIN=None), "warning", "events", "no keyword ORIGIN, mandatory"),
    ("irf-keyword", keys("BKG", HDUCLAS3=None), "warning", "bkg", "no keyword HDUCLAS3"),
    ("not-number", keys("EVENTS", LIVETIME="x"), "warning", "events", "LIVETIME = 'x'; expected"),
    ("obs-id", keys("EVENTS", OBS_ID="42"), "error", "events", "OBS_ID = '42' in the header, 266"),
    ("no-reference", keys("GTI", MJDREFI=None), "error", "gti", "no keyword MJDREF: "),
    # events
    ("no-column", on("EVENTS", lambda h: h.columns.del_col("ENERGY")), "error", "events",
     "no column ENERGY"),
    ("no-event-id", on("EVENTS", lambda h: h.columns.del_col("EVENT_ID")), "warning", "events",
     "no column EVENT_ID"),
    ("ra-unit", keys("EVENTS", TUNIT3="s"), "error", "events", "'s' of column RA does not convert"),
    ("no-unit", keys("EVENTS", TUNIT5=None), "warning", "events", "column ENERGY; TeV assumed"),
    ("energy", cells("EVENTS", "ENERGY", some(-1.0)), "warning", "events",
     r"ENERGY is not positive for 3 of \d+ events"),
    ("all-nan", cells("EVENTS", "RA", lambda v: v * np.nan), "error", "events", "RA is NaN .* all"),
    ("dec", cells("EVENTS", "DEC", some(91.0)), "warning", "events", "DEC is not within"),
    ("time", cells("EVENTS", "TIME", lambda v: v - 1e5 * (np.arange(len(v)) < 5)), "warning",
     "events", r"TIME is outside .* by up to 1e\+05 s for 5 of"),
    ("all-times", cells("EVENTS", "TIME", lambda v: v + 1e6), "error", "events", "for all .* even"),
    ("count", index("obs", put("EVENT_COUNT", 7)), "warning", "events", "but EVENT_COUNT = 7"),
    # time
    ("gti-early", intervals((-9.0, 2000.0)), "warning", "gti", r"begin 9\.0 s before TSTART"),
    ("gti-late", intervals((0.0, 3000.0)), "warning", "gti", "s after TSTOP"),
    ("gti-back", intervals((9.0, 5.0)), "error", "gti", "1 of 1 intervals end before they"),
    ("gti-order", intervals((500.0, 1226.0), (0.0, 500.0)), "warning", "gti", "not in order"),
    ("gti-overlap", intervals((0.0, 600.0), (500.0, 1226.0)), "error", "gti",
     r"overlap with another, by up to 100\.000 s"),
    ("gti-short", intervals((0.0, 600.0)), "warning", "gti", r"add up to 600\.0"),
    ("gti-nan", intervals((np.nan, 600.0)), "error", "gti", "values that are no times"),
    ("livetime", keys("EVENTS", LIVETIME=1e4), "error", "events", "exceeds ONTIME"),
    ("deadc", keys("EVENTS", DEADC=0.5), "warning", "events", r"DEADC = 0\.5000, but LIVETIME"),
    ("index-deadc", index("obs", put("DEADC", 1.5)), "error", "", r"DEADC = 1\.5; expected"),
    # responses
    ("irf-unit", keys("AEFF", TUNIT5="s"), "error", "aeff", "'s' of column EFFAREA does not conv"),
    ("irf-no-unit", keys("AEFF", TUNIT5=None), "warning", "aeff", "EFFAREA; m2 assumed"),
    ("axis", cells("AEFF", "ENERG_LO", lambda v: v[:, ::-1]), "error", "aeff", "do not rise"),
    ("gap", cells("EDISP", "MIGRA_HI", lambda v: v * 0.999), "warning", "edisp", "do not end wh"),
    ("rad", cells("PSF", "RAD_LO", lambda v: v - 0.01), "warning", "psf", "axis rad begins at"),
    ("shape", on("AEFF", lambda h: setattr(h.columns["EFFAREA"], "dim", "(16,8)")), "error",
     "aeff",
     r"EFFAREA has shape \(16, 8\)"),
    ("nan", cells("BKG", "BKG", some(np.nan)), "warning", "bkg", "NaN in 3 .* in 0 of 1"),
    ("inf", cells("EDISP", "MATRIX", some(np.inf, 1)), "warning", "edisp", "absurd in 1 of 7680"),
    ("nan-all", cells("AEFF", "EFFAREA", lambda v: v * np.nan), "error", "aeff", "everywhere"),
    ("negative", cells("AEFF", "EFFAREA", some(-2.0)), "warning", "aeff", "3 of 128 bins, -2 at"),
    ("zero", cells("AEFF", "EFFAREA", lambda v: 0 * v), "error", "aeff", "EFFAREA is nowhere"),
    ("bkg-zero", cells("BKG", "BKG", lambda v: 0 * v), "error", "bkg", "BKG is nowhere positive"),
    ("edisp", cells("EDISP", "MATRIX", lambda v: 2 * v), "warning", "edisp",
     "something else than 1 in 128 of 128 bins, worst 2 at energy_true .* TeV, offset .* deg"),
    ("edisp-3%", cells("EDISP", "MATRIX", lambda v: 1.03 * v), "info", "edisp", r"worst 1\.03 at"),
    ("edisp-bins", cells("EDISP", "MATRIX", lambda v: v / v.sum(axis=2, keepdims=True)), "warning",
     "edisp", "it holds probabilities"),
    ("psf-high", cells("PSF", "RPSF", lambda v: 1.2 * v), "warning", "psf", r"more than 1\.01"),
    ("psf-low", cells("PSF", "RPSF", lambda v: 0.5 * v), "info", "psf", r"less than 0\.9"),
    ("thresholds", keys("AEFF", LO_THRES=9.0, HI_THRES=1.0), "warning", "aeff",
     "LO_THRES = 9 is not below HI_THRES = 1"),
    ("point-like", keys("AEFF", HDUCLAS3="POINT-LIKE"), "warning", "aeff", "neither .* RAD_MAX"),
    # index against header
    ("pointing", index("obs", put("RA_PNT", lambda v: v + 0.1)), "warning", "events", "deg apart"),
    ("zenith", index("obs", put("ZEN_PNT", lambda v: v + 3)), "warning", "events", "ZEN_PNT = 38"),
    ("place", unplace, "warning", "events", "no place of the observatory"),
    ("index-class", index("hdu", put("HDU_CLASS", "psf_king", "psf")), "warning", "psf",
     "HDU_CLASS = 'psf_king' in the index"),
    ("unknown-class", unknown_class, "warning", "psf",
     "'psf_gtpsf' is none that obscluster reads"),
    ("variable", index("hdu", put("FILE_DIR", "$NO_SUCH_CALDB", "bkg")), "error", "",
     "NO_SUCH_CALDB is not set"),
    ("only-hdu", index("obs", lambda t: t[1:]), "warning", "", "not in the obs-index"),
    ("only-obs", index("hdu", lambda t: t[6:]), "error", "", "the hdu-index lists no HDU"),
    ("no-gti", index("hdu", lambda t: t[np.arange(len(t)) != 1]), "warning", "gti", "lists no gti"),
    ("hdu-twice", index("hdu", lambda t: vstack([t, t[2:3]], metadata_conflicts="silent")),
     "warning", "aeff", "2 rows for aeff_2d"),
]  # fmt: skip
