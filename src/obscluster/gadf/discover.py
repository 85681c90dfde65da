"""Archives without index files: both index tables from the headers of the files.

Those that are not of obscluster are kept under another name.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Column, Table

from obscluster.exceptions import ArchiveError, DataError, RequestError
from obscluster.files.exchange import link_or_copy
from obscluster.files.output import added_files
from obscluster.gadf.discover_runs import GADF, KEYWORDS, make_obs_index
from obscluster.gadf.fits import HDU, FitsFile
from obscluster.gadf.header import BLOCK, Header
from obscluster.gadf.index import (
    HDU_INDEX,
    OBS_INDEX,
    expand_path,
    is_own_index,
    whole_number,
    write_index,
)
from obscluster.gadf.irf import IRF_CLASSES, hdu_type_of, irf_class_of
from obscluster.gadf.keywords import HeaderNumbers
from obscluster.gadf.unpack import file_kind

__all__ = [
    "Discovery",
    "FileContent",
    "Links",
    "Part",
    "Paths",
    "check_index_files",
    "common_directory",
    "discover",
    "find_files",
    "is_file",
    "link_parts",
    "relative_directory",
    "scan_file",
    "write_index_files",
]

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A path, a pattern, a directory, or several of them."""

_SUFFIXES = (".fits", ".fits.gz", ".fit", ".fit.gz")
_INDEX_NAMES = tuple(f"{kind}{suffix}" for kind in (OBS_INDEX, HDU_INDEX) for suffix in _SUFFIXES)


def find_files(paths: Paths) -> list[Path]:
    """Files for what a user names, each once.

    Parameters
    ----------
    paths : path, pattern, directory, or several of them
        ``~`` and environment variables are expanded; a pattern may hold ``**``. Of a directory,
        the FITS files in it and below it; hidden files and index files are left out.

    Returns
    -------
    files : list of `~pathlib.Path`
        In the order asked; those of a pattern or directory are sorted.

    Raises
    ------
    ArchiveError
        If a path leads to no file.
    RequestError
        If there is no path, or an environment variable is not set.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not several:
        raise RequestError("no files named; name files, a pattern or a directory")
    files: dict[str, Path] = {}
    for path in several:
        for file in _expand(expand_path(path)):
            files.setdefault(os.path.realpath(file), file)
    return list(files.values())


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(_walk(path, set()))
        if not found:
            raise ArchiveError(f"{path}: no file {', '.join(_SUFFIXES)} in it or below it")
        return found
    if is_file(path):
        return [path]
    if glob.has_magic(str(path)):
        # Path.glob takes no absolute pattern.
        names = glob.glob(str(path), recursive=True)  # noqa: PTH207
        found = sorted(file for name in names if is_file(file := Path(name)))
        if not found:
            raise ArchiveError(f"{path}: no file matches the pattern")
        return found
    if what := file_kind(path):
        raise ArchiveError(f"{path}: is {what}; expected a file, a pattern or a directory")
    raise ArchiveError(f"{path}: no such file or directory; check the path")


def _walk(directory: Path, seen: set[str]) -> Iterator[Path]:
    """FITS files below a directory; links to directories are followed, in circles only once."""
    real = os.path.realpath(directory)
    if real in seen:
        return
    seen.add(real)
    try:
        entries = list(directory.iterdir())
    except OSError as error:
        raise ArchiveError(f"{directory}: cannot be read ({error.strerror})") from None
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, seen)
        elif path.name.lower().endswith(_SUFFIXES) and path.name not in _INDEX_NAMES:
            yield path


def is_file(path: Path) -> bool:
    """Whether this is a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def common_directory(files: Iterable[Path]) -> Path:
    """Deepest directory that holds all files."""
    return Path(os.path.commonpath([file.parent.absolute() for file in files]))


def relative_directory(file: Path, base: Path) -> str:
    """Directory of a file as FILE_DIR: relative to the base directory, in POSIX notation."""
    directory, base = file.parent.absolute(), base.absolute()
    if ".." not in (*directory.parts, *base.parts) and directory.is_relative_to(base):
        return directory.relative_to(base).as_posix()
    # A ".." means the parent of where a link leads to, so the way goes over the real directories.
    return Path(os.path.relpath(os.path.realpath(directory), os.path.realpath(base))).as_posix()


_RUN_TYPES = ("events", "gti", "pointing")


@dataclass(frozen=True)
class Part:
    """One HDU that belongs into an hdu-index.

    Parameters
    ----------
    hdu_type, hdu_class : str
        GADF ``HDU_TYPE`` and ``HDU_CLASS``.
    path : `~pathlib.Path`
        The file.
    hdu_name : str
        Extension name; empty where it does not identify the HDU in its file.
    size : int
        Bytes of header and data, with padding.
    """

    hdu_type: str
    hdu_class: str
    path: Path
    hdu_name: str
    size: int

    @property
    def is_response(self) -> bool:
        """Whether this is an instrument response."""
        return self.hdu_class in IRF_CLASSES


@dataclass(frozen=True)
class FileContent:
    """What a file holds.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    header : dict, optional
        The keywords of the EVENTS header that matter here; None if there are no events.
    obs_id : int, optional
        The observation that the headers name.
    n_events : int
        Number of events.
    parts : tuple of `Part`
        HDUs for the index.
    """

    path: Path
    header: Header | None = None
    obs_id: int | None = None
    n_events: int = 0
    parts: tuple[Part, ...] = field(default=())

    @property
    def responses(self) -> tuple[Part, ...]:
        """Instrument responses among the parts."""
        return tuple(part for part in self.parts if part.is_response)


def scan_file(path: Path) -> FileContent:
    """Walk through the headers of a file.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.

    Returns
    -------
    content : `FileContent`
        Empty for an index file, and for a file that has nothing to do with GADF.

    Raises
    ------
    DataError
        If the file is missing, damaged, or holds several runs.
    """
    with FitsFile(path) as file:
        hdus = list(file)
        if any(_keyword(hdu, "HDUCLAS1") == "INDEX" for hdu in hdus):
            return FileContent(path)
        # Raise an error if the file ends before its last HDU does.
        last = hdus[-1]
        end = last._start + last.data_size
        if last.data_size and not last._source.read(end - 1, end):
            raise last.error(f"the file is truncated: {end} bytes announced; fetch it again")
        names = Counter(hdu.name for hdu in hdus)
        parts: list[Part] = []
        found: list[HDU] = []
        for hdu in hdus:
            kind = _type_and_class(hdu)
            if kind is not None:
                name = str(hdu.header.get("EXTNAME") or "").strip()
                # A damaged name is none: text of an index file is ASCII.
                usable = names[hdu.name] == 1 and name.isascii() and name.isprintable()
                parts.append(Part(*kind, path, name if usable else "", _size(hdu)))
                found.append(hdu)
        events = [hdu for hdu, part in zip(found, parts, strict=True) if part.hdu_type == "events"]
        if len(events) > 1:
            raise events[1].error(f"is EVENTS table {len(events)} of the file; expected one run")
        ids = (whole_number(hdu.header.get("OBS_ID")) for hdu in (*events, hdus[0], *found))
        obs_id = next((value for value in ids if value is not None), None)
        if not events:
            return FileContent(path, None, obs_id, 0, tuple(parts))
        # Some productions say once, in the primary header, what holds for the whole file.
        header: dict[str, Any] = {}
        try:
            for numbers in (HeaderNumbers(hdus[0].header), HeaderNumbers(events[0].header)):
                header |= {key: numbers[key] for key in KEYWORDS if key in numbers}
        except ValueError as error:
            raise events[0].error(str(error)) from None
        return FileContent(path, header, obs_id, events[0].n_rows, tuple(parts))


def _type_and_class(hdu: HDU) -> tuple[str, str] | None:
    """GADF type and class of an HDU: by keywords, columns, or name; None if it has none."""
    if not hdu.is_table:
        return None
    hdu_class = irf_class_of(hdu.structure)
    if hdu_class is not None:
        return IRF_CLASSES[hdu_class].hdu_type, hdu_class
    for name in (hdu_type_of(hdu), hdu.name.lower()):
        if name in _RUN_TYPES:
            return name, name
    return None


def _keyword(hdu: HDU, key: str) -> str:
    value: Any = hdu.header.get(key)
    return value.strip().upper() if isinstance(value, str) else ""


def _size(hdu: HDU) -> int:
    """Bytes of header and data, with padding."""
    return len(hdu._header_bytes) + hdu.data_size + (-hdu.data_size % BLOCK)


@dataclass(frozen=True)
class Links:
    """Parts of each run, and what was remarkable about them.

    Parameters
    ----------
    parts : list of list of `Part`
        For each run, its own HDUs and the responses.
    remarks : list of str
        What a user should know.
    """

    parts: list[list[Part]]
    remarks: list[str]


def link_parts(
    runs: Mapping[int, FileContent],
    others: Sequence[FileContent],
    candidates: Sequence[Path],
    irf_paths: Paths | None = None,
) -> Links:
    """Find the responses of each run.

    In this order: those asked for; those in its own file and in files that name its OBS_ID; those
    in ``$CALDB`` that its header names; the only file with responses, if no run has its own.

    Parameters
    ----------
    runs : mapping
        OBS_ID to the file with the events.
    others : sequence of `FileContent`
        The files without events.
    candidates : sequence of `~pathlib.Path`
        Files that hold a run or could not be read, in the order asked: what several ``irf_paths``
        are for.
    irf_paths : path or list of paths, optional
        One file for all runs, or one per run.

    Raises
    ------
    RequestError
        If there is neither one response file nor one per run.
    ArchiveError
        If a response file cannot be read or has no response.
    """
    if irf_paths is not None:
        asked = _responses_asked_for(candidates, irf_paths)
        return Links(
            [
                [*[part for part in run.parts if not part.is_response], *asked[run.path]]
                for run in runs.values()
            ],
            [],
        )
    response_files = [content for content in others if content.responses]
    no_own = not any(run.responses for run in runs.values())
    shared = response_files[0] if no_own and len(response_files) == 1 else None
    by_id: dict[int, list[Part]] = {}
    for content in others:
        if content is not shared and content.obs_id is not None:
            by_id.setdefault(content.obs_id, []).extend(content.parts)
    caldb: dict[Path, tuple[Part, ...]] = {}
    remarks: list[str] = []
    links, bare = [], []
    for obs_id, run in runs.items():
        parts = list(run.parts)
        have = {part.hdu_type for part in parts}
        parts += [part for part in by_id.get(obs_id, []) if part.hdu_type not in have]
        if not any(part.is_response for part in parts):
            parts += _responses_from_caldb(run.header or {}, caldb, remarks)
        if shared is not None and not any(part.is_response for part in parts):
            parts += shared.responses
        if not any(part.is_response for part in parts):
            bare.append(run)
        links.append(parts)
    if bare:
        remarks.append(_describe_bare(bare, len(runs), response_files))
    return Links(links, remarks)


def _responses_asked_for(
    candidates: Sequence[Path], irf_paths: Paths
) -> dict[Path, tuple[Part, ...]]:
    """Responses for each file of a run."""
    # Runs may share a file, which then is named several times.
    several = [irf_paths] if isinstance(irf_paths, str | os.PathLike) else list(irf_paths)
    files = [file for path in several for file in find_files(path)]
    if len(files) not in (1, len(candidates)):
        raise RequestError(
            f"{len(files)} response files for {len(candidates)} runs; name one file for all runs, "
            "or one per run in the order of the runs"
        )
    known = {file: _read_responses(file) for file in dict.fromkeys(files)}
    if len(files) == 1:
        files *= len(candidates)
    return {path: known[file] for path, file in zip(candidates, files, strict=True)}


def _read_responses(file: Path) -> tuple[Part, ...]:
    try:
        responses = scan_file(file).responses
    except DataError as error:
        raise ArchiveError(f"response file {error}") from None
    if not responses:
        raise ArchiveError(f"{file}: no response in it (HDUCLAS1 = RESPONSE of a known class)")
    return responses


def _responses_from_caldb(
    header: Header, known: dict[Path, tuple[Part, ...]], remarks: list[str]
) -> tuple[Part, ...]:
    """Responses in the calibration database, none if the header or the environment names none.

    ``$CALDB/data/<telescop>/<caldb>/bcf/<irf>/irf_file.fits``, as Gammapy has it.
    """
    names = [str(header.get(key) or "").strip() for key in ("TELESCOP", "CALDB", "IRF")]
    root = os.environ.get("CALDB")
    if not (root and all(names)):
        return ()
    telescope, caldb, irf = names
    directory = Path(root).expanduser() / "data" / telescope.lower() / caldb / "bcf" / irf
    file = next(
        (f for name in ("irf_file.fits", "irf_file.fits.gz") if is_file(f := directory / name)),
        directory / "irf_file.fits",
    )
    if file not in known:
        known[file] = ()
        try:
            known[file] = scan_file(file).responses
        except DataError as error:
            remarks.append(f"responses by $CALDB: {error}")
    return known[file]


def _describe_bare(
    bare: Sequence[FileContent], n_runs: int, response_files: Sequence[FileContent]
) -> str:
    """Sentence about runs without responses, and what to do."""
    header = bare[0].header or {}
    text = f"{len(bare)} of {n_runs} runs have no instrument response, such as {bare[0].path}"
    if response_files:
        return (
            f"{text}; {len(response_files)} other files have, such as {response_files[0].path}: "
            "say which to take (irf_paths, --irf)"
        )
    if header.get("CALDB") and header.get("IRF") and not os.environ.get("CALDB"):
        return f"{text}; set $CALDB, as its header asks for IRF = {header['IRF']!r}"
    return f"{text}; name files with responses (irf_paths, --irf)"


_TYPE_ORDER = (
    "events",
    "gti",
    "pointing",
    *dict.fromkeys(c.hdu_type for c in IRF_CLASSES.values()),
)
_MAX_ID = 2**63


@dataclass(frozen=True)
class Discovery:
    """What was found.

    Parameters
    ----------
    obs_table : `~astropy.table.Table`
        The obs-index, ordered by OBS_ID.
    hdu_table : `~astropy.table.Table`
        The hdu-index, ordered by OBS_ID.
    base_dir : `~pathlib.Path`
        What FILE_DIR is relative to.
    skipped : dict
        File to the reason why it was left out.
    remarks : list of str
        What else a user should know.
    """

    obs_table: Table
    hdu_table: Table
    base_dir: Path
    skipped: dict[Path, str]
    remarks: list[str]


def discover(
    paths: Paths,
    irf_paths: Paths | None = None,
    base_dir: str | os.PathLike[str] | None = None,
    progress: Callable[[Sequence[Path]], Iterable[Path]] | None = None,
) -> Discovery:
    """Build the index tables of files.

    Parameters
    ----------
    paths : path, pattern, directory, or several of them
        The files: see `obscluster.gadf.discover.find_files`.
    irf_paths : path or list of paths, optional
        Response file for all runs, or one per run.
    base_dir : path, optional
        What FILE_DIR is to be relative to; unless told, the directory if ``paths`` is one, else
        the deepest that holds all runs.
    progress : callable, optional
        Wraps the list of the files while they are read.

    Returns
    -------
    discovery : `Discovery`
        The tables, and what was left out.

    Raises
    ------
    ArchiveError
        If there is no run, no file can be read, or two files hold the same run.
    RequestError
        If the paths or the response files do not fit.
    """
    files = find_files(paths)
    contents: dict[Path, FileContent] = {}
    skipped: dict[Path, str] = {}
    for path in files if progress is None else progress(files):
        try:
            contents[path] = scan_file(path)
        except DataError as error:
            skipped[path] = (
                error.message if error.hdu is None else f"HDU {error.hdu}: {error.message}"
            )
    found = [content for content in contents.values() if content.header is not None]
    if not found:
        raise _no_runs(files, skipped)
    runs, remarks = _number_runs(found)
    others = [content for content in contents.values() if content.header is None]
    candidates = [p for p in files if p in skipped or contents[p].header is not None]
    links = link_parts(runs, others, candidates, irf_paths)
    base = _base_directory(paths, found, base_dir)
    obs_table = make_obs_index(
        list(runs),
        [run.header or {} for run in runs.values()],
        [run.n_events for run in runs.values()],
    )
    # The hdu-index (GADF: hdu-index).
    obs_ids = list(runs)
    directories: dict[Path, str] = {}
    rows: list[tuple[Any, ...]] = []
    for obs_id, own in zip(obs_ids, links.parts, strict=True):
        for part in sorted(own, key=lambda part: _TYPE_ORDER.index(part.hdu_type)):
            parent = part.path.parent
            if parent not in directories:
                directories[parent] = relative_directory(part.path, base)
            place = (directories[parent], part.path.name, part.hdu_name, part.size)
            rows.append((obs_id, part.hdu_type, part.hdu_class, *place))
    names = ("OBS_ID", "HDU_TYPE", "HDU_CLASS", "FILE_DIR", "FILE_NAME", "HDU_NAME", "SIZE")
    columns = [
        Column(np.array(values, dtype=np.int64 if name in ("OBS_ID", "SIZE") else None), name=name)
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    ]
    header = GADF | {"HDUCLAS1": "INDEX", "HDUCLAS2": "HDU", "EXTNAME": "HDU_INDEX"}
    hdu_table = Table(columns, copy=False, meta=header)
    return Discovery(obs_table, hdu_table, base, skipped, remarks + links.remarks)


def _no_runs(files: Sequence[Path], skipped: dict[Path, str]) -> ArchiveError:
    where = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more files"
    if len(skipped) == len(files):
        return ArchiveError(f"{where}: none can be read ({skipped[files[0]]})")
    more = f"; {len(skipped)} cannot be read" if skipped else ""
    return ArchiveError(f"{where}: no EVENTS table (HDUCLAS1 = EVENTS) in any of them{more}")


def _base_directory(
    paths: Paths, runs: Sequence[FileContent], base_dir: str | os.PathLike[str] | None
) -> Path:
    if base_dir is not None:
        return expand_path(base_dir)
    if isinstance(paths, str | os.PathLike) and (directory := expand_path(paths)).is_dir():
        return directory
    return common_directory(run.path for run in runs)


def _number_runs(runs: Sequence[FileContent]) -> tuple[dict[int, FileContent], list[str]]:
    """OBS_ID to run, in order, and what to say about runs that did not have any."""
    numbered: dict[int, FileContent] = {}
    for run in runs:
        if run.obs_id is None:
            continue
        if run.obs_id in numbered:
            other = numbered[run.obs_id].path
            raise ArchiveError(
                f"run {run.obs_id} is in two files, {other} and {run.path}; leave one of them out"
            )
        numbered[run.obs_id] = run
    nameless = [run for run in runs if run.obs_id is None]
    remarks = []
    if nameless:
        ids, how = _invent_ids([run.path.name for run in nameless], numbered)
        numbered.update(zip(ids, nameless, strict=True))
        examples = ", ".join(
            f"{i} for {run.path.name}" for i, run in zip(ids[:3], nameless[:3], strict=True)
        )
        remarks.append(
            f"{len(nameless)} of {len(runs)} runs have no whole number as OBS_ID in the header; "
            f"{how}, such as {examples}"
        )
    return dict(sorted(numbered.items())), remarks


def _invent_ids(names: Sequence[str], taken: Iterable[int]) -> tuple[list[int], str]:
    """Identifiers for files without, and how they came about."""
    used = set(taken)
    digits = [re.findall("[0-9]+", name) for name in names]
    # Preferably what does not change when further files come to the archive.
    longest = [max(groups, key=len, default="") for groups in digits]
    joined = ["".join(groups) for groups in digits]
    for texts in (longest, joined):
        ids = [int(text) for text in texts if text]
        unique = len(set(ids)) == len(names) and not used & set(ids)
        if unique and max(ids) < _MAX_ID:
            return ids, "the digits of the file names stand in"
    free = (number for number in itertools.count(1) if number not in used)
    return list(itertools.islice(free, len(names))), "running numbers stand in"


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
