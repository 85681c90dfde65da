"""Index files, both or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from obscluster.exceptions import RequestError
from obscluster.gadf.discover.discovery import Discovery
from obscluster.gadf.index import HDU_INDEX, OBS_INDEX, write_index

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
        Whether index files may be replaced, packed or not.

    Returns
    -------
    obs_path, hdu_path : `~pathlib.Path`
        The new files.

    Raises
    ------
    RequestError
        If they cannot be written, or exist and must not be overwritten.
    """
    check_index_files(directory, overwrite)
    _check_ascii(discovery)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".obscluster-", dir=directory) as name:
            scratch = Path(name)
            for table, file in zip((discovery.obs_table, discovery.hdu_table), _NAMES, strict=True):
                write_index(table, scratch / file)
            _publish(scratch, directory)
    except OSError as error:
        raise RequestError(f"{directory}: cannot be written ({error.strerror or error})") from None
    obs_path, hdu_path = (directory / file for file in _NAMES)
    return obs_path, hdu_path


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


def _publish(scratch: Path, directory: Path) -> None:
    """Put both files in place; after an error, what was there before is back."""
    old = scratch / "old"
    old.mkdir()
    there = [name for name in (*_NAMES, *_TWINS) if os.path.lexists(directory / name)]
    for name in there:
        shutil.copy2(directory / name, old / name, follow_symlinks=False)
    try:
        for name in _NAMES:
            (scratch / name).replace(directory / name)
        # Unpacked index files too: tools that prefer them would read outdated ones.
        for name in _TWINS:
            (directory / name).unlink(missing_ok=True)
    except BaseException:  # an interrupt too
        for name in _NAMES:
            if name not in there and not (scratch / name).exists():
                (directory / name).unlink(missing_ok=True)
        for name in there:
            (old / name).replace(directory / name)
        raise
