"""What an archive holds, in one page of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.exceptions import DataError
from obscluster.store import DataStore
from obscluster.target import target_names

__all__ = ["describe_archive"]

# Instruments are named in the run files; of a large archive a sample tells enough.
_MAX_HEADERS = 500
_MAX_TARGETS = 12


def describe_archive(
    data_store: DataStore, progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None
) -> str:
    """Number of runs, hours, times, instruments, targets, zenith range and response types.

    Parameters
    ----------
    data_store : `~obscluster.store.DataStore`
        The archive.
    progress : callable, optional
        Wraps the iterable of the runs whose headers are read.

    Returns
    -------
    text : str
        Several lines.
    """
    table = data_store.obs_table
    lines = [("archive", str(data_store.base_dir)), ("runs", _runs(data_store))]
    if "LIVETIME" in table.colnames:
        hours = np.nansum(_numbers(data_store, "LIVETIME", u.h))
        lines.append(("livetime", f"{hours:.1f} h"))
    lines.append(("dates", _dates(data_store)))
    lines.append(("instruments", _instruments(data_store, progress)))
    for label, column, unit in (
        ("zenith angle", "ZEN_PNT", u.deg),
        ("muon efficiency", "MUONEFF", u.one),
    ):
        if column in table.colnames:
            values = _numbers(data_store, column, unit)
            if np.isfinite(values).any():
                text = f"{np.nanmin(values):.2f} to {np.nanmax(values):.2f} {unit}"
                lines.append((label, text.strip()))
    # One of the two columns is enough for an index.
    hdu_table = data_store.hdu_table
    column = "HDU_CLASS" if "HDU_CLASS" in hdu_table.colnames else "HDU_TYPE"
    types = Counter(str(name).strip() for name in hdu_table[column])
    lines.append(("HDUs", ", ".join(f"{name} ({n})" for name, n in sorted(types.items()))))
    targets = [f"{name} ({n})" for name, n in target_names(table).items()]
    more = [f"and {len(targets) - _MAX_TARGETS} more"] if len(targets) > _MAX_TARGETS else []
    for i, target in enumerate((targets[:_MAX_TARGETS] + more) or ["the index names none"]):
        lines.append(("" if i else "targets (runs)", target))
    return "\n".join(f"{label:16s} {text}" for label, text in lines)


def _runs(data_store: DataStore) -> str:
    obs_ids = np.asarray(data_store.obs_table["OBS_ID"])
    if len(obs_ids) == 0:
        return "none"
    text = f"{len(obs_ids)} (OBS_ID {obs_ids.min()} to {obs_ids.max()})"
    n_without = int((~np.isin(obs_ids, data_store.obs_ids)).sum())
    return text + (f"; {n_without} of them not in the hdu-index" if n_without else "")


def _dates(data_store: DataStore) -> str:
    table = data_store.obs_table
    try:
        start, stop = table.time_start.min(), table.time_stop.max()
    except (KeyError, ValueError):
        return "not in the index"
    return f"{start.isot[:10]} to {stop.isot[:10]}"


def _instruments(
    data_store: DataStore, progress: Callable[[Iterable[Any]], Iterable[Any]] | None
) -> str:
    """Telescopes and instruments with their numbers of runs, from the EVENTS headers."""
    table = data_store.obs_table
    rows = np.unique(np.linspace(0, len(table) - 1, min(len(table), _MAX_HEADERS)).astype(int))
    obs_ids = np.asarray(table["OBS_ID"])[rows] if len(table) else []
    found: Counter[str] = Counter()
    observations = data_store.get_observations(obs_ids, skip_missing=True)
    for obs in observations if progress is None else progress(observations):
        try:
            header = obs.header
        except DataError:
            found["unreadable"] += 1
            continue
        names = [str(header.get(key) or "").strip() for key in ("TELESCOP", "INSTRUME")]
        found[", ".join(dict.fromkeys(name for name in names if name)) or "unnamed"] += 1
    text = "; ".join(f"{name} ({n} runs)" for name, n in found.most_common())
    return text + (f", of {len(rows)} looked at" if len(rows) < len(table) else "")


def _numbers(data_store: DataStore, column: str, unit: u.UnitBase) -> NDArray[np.float64]:
    content = data_store.obs_table[column]
    values = np.ma.filled(np.ma.asarray(content).astype(float), np.nan)
    return u.Quantity(values, content.unit or unit).to_value(unit)
