"""FITS files, walked HDU by HDU and unpacked no further than asked.

A run file holds a handful of HDUs, of which a feature needs one or two.

Format: FITS Standard 4.0, https://fits.gsfc.nasa.gov/fits_standard.html
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from obscluster.exceptions import DamagedError, MissingDataError
from obscluster.gadf.hdu import HDU
from obscluster.gadf.header import BLOCK, CARD, find_end
from obscluster.gadf.unpack import open_source

__all__ = ["HDU", "FitsFile"]

# A header of more cards than this is damage, not data: its END would never be found.
MAX_HEADER_BYTES = 4096 * CARD
# How much is looked at in one go: most headers are no longer.
HEADER_STEP = 3 * BLOCK


class FitsFile:
    """A FITS file, plain or gzipped, read no further than needed.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file. Whether it is gzipped is seen from its first bytes, not from its name.

    Raises
    ------
    MissingDataError
        If there is no such file or it cannot be opened.
    FormatError
        If it is not a FITS file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._hdus: list[HDU] = []
        self._next = 0
        self._source = open_source(path)

    def __enter__(self) -> FitsFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; data that was not read yet cannot be read any more."""
        self._source.close()

    def __iter__(self) -> Iterator[HDU]:
        """HDUs in the order of the file; stop early and the rest is never unpacked."""
        index = 0
        while index < len(self._hdus) or self._read_next():
            yield self._hdus[index]
            index += 1

    def find(self, name: str) -> HDU | None:
        """First HDU with this EXTNAME, in upper case; None if there is none."""
        for hdu in self._hdus:
            if hdu.name == name:
                return hdu
        while self._read_next():
            if self._hdus[-1].name == name:
                return self._hdus[-1]
        return None

    def hdu(self, name: str) -> HDU:
        """HDU with this EXTNAME, whatever its case.

        Raises
        ------
        MissingDataError
            If the file has no such HDU.
        """
        found = self.find(name.strip().upper())
        if found is not None:
            return found
        names = ", ".join(hdu.name for hdu in self._hdus)
        raise MissingDataError(f"no such HDU in the file; it has {names}", self.path, name)

    def _read_next(self) -> bool:
        """Read one more header; False at the end of the file."""
        number = len(self._hdus)
        raw = self._source.read(self._next, self._next + HEADER_STEP)
        if not raw.startswith(b"XTENSION" if number else b"SIMPLE  "):
            if number and not raw.strip(b"\0 "):
                return False
            if not raw.strip(b"\0 "):
                raise DamagedError("the file is empty; fetch it again", self.path)
            what = f"no HDU #{number} where expected, at byte {self._next}: the file is damaged"
            raise DamagedError(what if number else "not a FITS file", self.path)
        end = find_end(raw)
        while end < 0:
            searched = len(raw)
            raw = self._source.read(self._next, self._next + searched + HEADER_STEP)
            if searched > MAX_HEADER_BYTES:
                raise DamagedError(f"the header of HDU #{number} has no END", self.path)
            if len(raw) == searched:
                what = f"truncated within the header of HDU #{number}; fetch it again"
                raise DamagedError(what, self.path)
            end = find_end(raw, searched // CARD * CARD)
        raw = raw[: end + BLOCK - end % BLOCK]
        start = self._next + len(raw)
        hdu = HDU(self.path, number, raw, end, start, self._source)
        self._next = start + hdu.data_size + (-hdu.data_size % BLOCK)
        self._hdus.append(hdu)
        return True
