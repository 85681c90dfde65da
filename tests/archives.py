"""Editing copies of archives, to make what instruments and people make of the format."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

RESPONSES = ("AEFF", "EDISP", "PSF", "BKG")
STRUCTURE = ("XTENSION", "BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "TFIELDS")
COLUMN = ("TTYPE", "TFORM", "TUNIT", "TDIM", "TNULL", "TDISP")


@dataclass
class Archive:
    """A copy of an archive that may be changed."""

    directory: Path

    @classmethod
    def copy_of(cls, original: Path, directory: Path) -> Archive:
        shutil.copytree(original, directory)
        return cls(directory)

    @property
    def files(self) -> list[Path]:
        return sorted((self.directory / "data").iterdir())

    def runs(self, edit: Callable[[fits.HDUList], Any]) -> None:
        """Edit the HDUs of every run."""
        for path in self.files:
            with fits.open(path, memmap=False) as hdulist:
                edit(hdulist)
                hdulist.writeto(path, overwrite=True)

    def keywords(self, *names: str, **values: Any) -> None:
        """Set keywords of HDUs by name, all unless told; None takes one away."""

        def edit(hdulist: fits.HDUList) -> None:
            for hdu in hdulist[1:]:
                if not names or hdu.name in names:
                    set_keywords(hdu.header, values)

        self.runs(edit)

    def columns(self, names: Iterable[str], edit: Callable[[dict[str, list]], Any]) -> None:
        """Edit columns of HDUs by name: a dict of name to [values, unit]."""

        def edit_all(hdulist: fits.HDUList) -> None:
            for name in names:
                hdulist[name] = rebuilt(hdulist[name], edit)

        self.runs(edit_all)

    def index(self, kind: str, edit: Callable[[Table], Table | None]) -> None:
        """Edit an index table, in place or by returning another; ``meta`` is its header."""
        path = self.directory / f"{kind}-index.fits.gz"
        table = Table.read(path)
        table = edit(table) or table
        hdu = fits.table_to_hdu(table)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)

    def move_responses(self, target: Path, file_dir: str) -> None:
        """Take the responses into files of their own, which the index names by ``file_dir``."""
        target.mkdir(parents=True)
        for path in self.files:
            with fits.open(path, memmap=False) as hdulist:
                first = min(hdulist.index_of(name) for name in RESPONSES)
                parts = [fits.PrimaryHDU(), *hdulist[first:]]
                fits.HDUList([hdu.copy() for hdu in parts]).writeto(target / path.name)
                fits.HDUList(hdulist[:first]).writeto(path, overwrite=True)

        def edit(table: Table) -> Table:
            directory = [
                file_dir if kind in ("aeff", "edisp", "psf", "bkg") else "data"
                for kind in table["HDU_TYPE"]
            ]
            table["FILE_DIR"] = directory
            return table

        self.index("hdu", edit)

    def take_out(self, *hdu_types: str) -> None:
        """Drop HDUs from the index and from the files."""
        names = [name.upper() for name in hdu_types]

        def edit(hdulist: fits.HDUList) -> None:
            for name in names:
                del hdulist[name]

        self.runs(edit)
        self.index("hdu", lambda table: table[[t not in hdu_types for t in table["HDU_TYPE"]]])

    def add(self, hdu_type: str, hdu_class: str, make: Callable[[fits.HDUList], Any]) -> None:
        """Add a HDU to every run, and to the index."""
        self.runs(lambda hdulist: hdulist.append(make(hdulist)))

        def edit(table: Table) -> Table:
            rows = [dict(zip(table.colnames, row, strict=True)) for row in table]
            for row in [row for row in rows if row["HDU_TYPE"] == "events"]:
                new = {"HDU_TYPE": hdu_type, "HDU_CLASS": hdu_class, "HDU_NAME": hdu_type.upper()}
                rows.append({**row, **new})
            return Table(rows, meta=table.meta)

        self.index("hdu", edit)


def set_keywords(header: MutableMapping[str, Any], values: dict[str, Any]) -> None:
    """Set keywords; None takes one away."""
    for key, value in values.items():
        if key in header:
            del header[key]
        if value is not None:
            header[key] = value


def rebuilt(hdu: fits.BinTableHDU, edit: Callable[[dict[str, list]], Any]) -> fits.BinTableHDU:
    """The HDU with its columns edited, and its other keywords kept."""
    columns = {c.name: [np.array(hdu.data[c.name]), c.unit] for c in hdu.columns}
    edit(columns)
    new = fits.BinTableHDU(Table({name: values for name, (values, _) in columns.items()}))
    for number, (_, unit) in enumerate(columns.values(), start=1):
        if unit is not None:
            new.header[f"TUNIT{number}"] = unit
    for key, value in hdu.header.items():
        if key not in STRUCTURE and key.rstrip("0123456789") not in (*STRUCTURE, *COLUMN):
            new.header[key] = value
    return new
