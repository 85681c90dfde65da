"""What an archive holds, in one page of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from astropy import units as u
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.archive.obs_table import ObservationTable, livetime_text, several_rows
from obscluster.archive.quantities import HEADER, INDEX, UNKNOWN, Known, column_of
from obscluster.archive.selection import target_names
from obscluster.archive.store import DataStore
from obscluster.exceptions import DataError, join_lines
from obscluster.features.table import count_notes
from obscluster.gadf.time import quiet_times

__all__ = ["describe_archive"]

# Instruments are named in the run files; of a large archive a sample tells enough.
_MAX_HEADERS = 500
_MAX_TARGETS = 12


def describe_archive(
    data_store: DataStore,
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
    verify: bool = False,
) -> str:
    """Number of runs, hours, times, instruments, targets, zenith range and response types.

    Numbers are those of the obs-index; what it lacks is taken from the headers, which is said.

    Parameters
    ----------
    data_store : `~obscluster.archive.store.DataStore`
        The archive.
    progress : callable, optional
        Wraps the iterable of the runs whose headers are read.
    verify : bool
        Read the good time intervals of all runs, and hold the livetimes of the index against them.

    Returns
    -------
    text : str
        Several lines.
    """
    table = data_store.obs_table
    lines = [("archive", str(data_store.base_dir)), ("runs", _runs(data_store))]
    rows = several_rows(table)
    lines += [("", f"{len(table)} rows: {rows.partition(';')[0]}")] if rows else []
    livetime = table.quantity("livetime")
    hours = np.asarray(livetime.value.to_value(u.h))
    total = (livetime_text(hours) if len(hours) else "0.0 h") + (" in all rows" if rows else "")
    lines.append(("livetime", f"{total}{_sources(livetime)}"))
    lines += [("", text) for text in (_verified(table, progress) if verify else [])]
    mjd = table.quantity("mjd")
    lines.append(("dates", _dates(mjd.value.value) + _sources(mjd)))
    lines.append(("instruments", _instruments(data_store, progress)))
    for label, name in (("zenith angle", "zenith"), ("muon efficiency", "muoneff")):
        known = table.quantity(name)
        values = known.value.value
        if np.isfinite(values).any():
            unit = str(known.value.unit)
            text = f"{np.nanmin(values):.2f} to {np.nanmax(values):.2f} {unit}".strip()
            lines.append((label, text + _sources(known)))
        elif name == "zenith":
            lines.append((label, "unknown"))
    # One of the two columns is enough for an index.
    hdu_table = data_store.hdu_table
    column = "HDU_CLASS" if "HDU_CLASS" in hdu_table.colnames else "HDU_TYPE"
    types = Counter(str(name).strip() for name in hdu_table[column])
    lines.append(("HDUs", ", ".join(f"{name} ({n})" for name, n in sorted(types.items()))))
    targets = [f"{name} ({n})" for name, n in target_names(table).items()]
    more = [f"and {len(targets) - _MAX_TARGETS} more"] if len(targets) > _MAX_TARGETS else []
    for i, target in enumerate(
        (targets[:_MAX_TARGETS] + more) or ["neither index nor headers name any"]
    ):
        lines.append(("" if i else "targets (runs)", target))
    return join_lines(f"{label:16s} {text}" for label, text in lines)


def _runs(data_store: DataStore) -> str:
    obs_ids = np.unique(np.asarray(data_store.obs_table["OBS_ID"]))
    if len(obs_ids) == 0:
        return "none"
    text = f"{len(obs_ids)} (OBS_ID {obs_ids.min()} to {obs_ids.max()})"
    n_without = int((~np.isin(obs_ids, data_store.obs_ids)).sum())
    return text + (f"; {n_without} of them not in the hdu-index" if n_without else "")


def _dates(mjd: NDArray[np.float64]) -> str:
    known = mjd[np.isfinite(mjd)]
    if not len(known):
        return "unknown"
    with quiet_times():
        first, last = Time([known.min(), known.max()], format="mjd", scale="tt").utc.isot
    return f"{first[:10]} to {last[:10]}"


def _sources(known: Known) -> str:
    """Where values come from, if it is not the index alone; and how many are unknown."""
    counts = Counter(known.source.tolist())
    if set(counts) <= {INDEX}:
        return " (by the index)" if known.value.unit == u.s else ""
    words = {INDEX: "by the index", HEADER: "by the headers"}
    parts = [f"{n} {words.get(source, source)}" for source, n in counts.most_common()]
    if len(counts) == 1:
        # That it is unknown stands there already.
        (source,) = counts
        return "" if source == UNKNOWN else f" ({words.get(source, source)})"
    return f" ({', '.join(parts)})"


def _verified(
    table: ObservationTable, progress: Callable[[Iterable[Any]], Iterable[Any]] | None
) -> list[str]:
    """Livetimes of the good time intervals of all runs, and where they differ from the index."""

    def wrapped(runs: Iterable[Any], total: int, what: str) -> Iterable[Any]:
        del total, what
        return runs if progress is None else progress(runs)

    good = column_of(table, "livetime", files=True, progress=wrapped)
    lines = [f"{livetime_text(good.value.to_value(u.h))} in the good time intervals"]
    for note, n in count_notes(good.note.tolist()).items():
        lines.append(f"{n} run{'s' if n > 1 else ''}: {note}")
    return lines


def _instruments(
    data_store: DataStore, progress: Callable[[Iterable[Any]], Iterable[Any]] | None
) -> str:
    """Telescopes and instruments with their numbers of runs, from the EVENTS headers."""
    table = data_store.obs_table
    rows = np.unique(np.linspace(0, len(table) - 1, min(len(table), _MAX_HEADERS)).astype(int))
    found: dict[str, set[int]] = {}
    observations = [table.files.observation(table[row]) for row in rows] if table.files else []
    observations = [obs for obs in observations if obs.locations]
    for obs in observations if progress is None else progress(observations):
        try:
            header = obs.header
        except DataError:
            found.setdefault("unreadable", set()).add(obs.obs_id)
            continue
        names = [str(header.get(key) or "").strip() for key in ("TELESCOP", "INSTRUME")]
        name = ", ".join(dict.fromkeys(name for name in names if name)) or "unnamed"
        found.setdefault(name, set()).add(obs.obs_id)
    counts = Counter({name: len(ids) for name, ids in found.items()})
    text = "; ".join(f"{name} ({n} runs)" for name, n in counts.most_common())
    return text + (f", of {len(rows)} looked at" if len(rows) < len(table) else "")
