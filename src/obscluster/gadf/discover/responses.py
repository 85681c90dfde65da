"""Which responses belong to which run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from obscluster.exceptions import ArchiveError, DataError, RequestError
from obscluster.gadf.discover.paths import Paths, find_files, is_file
from obscluster.gadf.discover.scan import FileContent, Part, scan_file
from obscluster.gadf.header import Header

__all__ = ["Links", "link_parts"]


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
        return Links([[*_own_parts(run), *asked[run.path]] for run in runs.values()], [])
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


def _own_parts(run: FileContent) -> list[Part]:
    return [part for part in run.parts if not part.is_response]


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
