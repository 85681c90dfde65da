"""Index files, both or none.

Those that are not of obscluster are kept under another name.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import count
from pathlib import Path

from obscluster.exceptions import RequestError
from obscluster.files.exchange import link_or_copy
from obscluster.files.output import added_files
from obscluster.gadf.discover.discovery import Discovery
from obscluster.gadf.index import HDU_INDEX, OBS_INDEX, is_own_index, write_index

__all__ = ["check_index_files", "write_index_files"]

_NAMES = (f"{OBS_INDEX}.fits.gz", f"{HDU_INDEX}.fits.gz")
_TWINS = tuple(name.removesuffix(".gz") for name in _NAMES)


def check_index_files(directory: Path, overwrite: bool = False) -> None:
    """Check that index files can go into a directory.

    Raises
    ------
    RequestError
        If it is a file, is marked read-only, or holds index files that must not be overwritten.
    """
    if directory.exists() and not directory.is_dir():
        raise RequestError(f"{directory}: is a file; name a directory for the index files")
    place = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    there = [name for name in (*_NAMES, *_TWINS) if os.path.lexists(directory / name)]
    for path in (place, *(directory / name for name in there)):
        # Modes count for root too: what is marked read-only is not ours to change.
        if not path.lstat().st_mode & 0o222:
            raise RequestError(f"{path}: is read-only; name another directory (--output)")
    for name in there:
        if (directory / name).is_dir():
            raise RequestError(f"{directory}: cannot be written, {name} is a directory")
    if there and not overwrite:
        raise RequestError(
            f"{directory}: has {', '.join(there)} already; pass --overwrite (overwrite=True) to "
            "replace them, or --output to write elsewhere"
        )


def write_index_files(
    discovery: Discovery, directory: Path, overwrite: bool = False
) -> tuple[Path, Path]:
    """Write obs-index.fits.gz and hdu-index.fits.gz.

    Parameters
    ----------
    discovery : `Discovery`
        The tables.
    directory : `~pathlib.Path`
        Where; the ``base_dir`` of the discovery, for other tools to find the files.
    overwrite : bool
        Whether index files may be replaced, packed or not. One that is not as obscluster wrote it
        is kept as ``NAME.orig``.

    Returns
    -------
    obs_path, hdu_path : `~pathlib.Path`
        The new files.

    Raises
    ------
    RequestError
        If they cannot be written, or exist and must not be overwritten.
    """
    _check_ascii(discovery)
    there = [name for name in (*_NAMES, *_TWINS) if os.path.lexists(directory / name)]
    # Unpacked index files go, too: tools that prefer them would read outdated ones.
    twins = [name for name in there if name in _TWINS]
    check = partial(check_index_files, directory, overwrite)
    with added_files(directory, check, twins) as staging:
        for table, file in zip((discovery.obs_table, discovery.hdu_table), _NAMES, strict=True):
            write_index(table, staging / file)
        for name in there:
            if not is_own_index(directory / name):
                link_or_copy(directory / name, staging / _free_name(directory, name))
    obs_path, hdu_path = (directory / file for file in _NAMES)
    return obs_path, hdu_path


def _free_name(directory: Path, name: str) -> str:
    """Name under which a file is kept that somebody else has made."""
    names = (f"{name}.orig{number or ''}" for number in count())
    return next(new for new in names if not os.path.lexists(directory / new))


def _check_ascii(discovery: Discovery) -> None:
    """File names go into FITS text, which is ASCII."""
    table = discovery.hdu_table
    for column in ("FILE_DIR", "FILE_NAME"):
        for text in dict.fromkeys(table[column].tolist()):
            if not text.isascii():
                raise RequestError(
                    f"{discovery.base_dir}: {text!a} cannot be written into an index file, "
                    "which holds ASCII only; rename it"
                )
