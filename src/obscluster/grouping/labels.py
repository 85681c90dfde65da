"""Groups that somebody made by hand: labels from a file.

The file is a table of comma-separated values with a header; lines that begin with ``#`` say
something to the reader::

    # from the explorer of a report
    OBS_ID,label
    33787,1
    33788,2
    33789,-1

Labels are whole numbers from 1, and -1 for runs of no group. Other columns are left alone.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from pydantic import Field

from obscluster.archive.store import DataStore
from obscluster.exceptions import RequestError
from obscluster.features.scaling import feature_matrix
from obscluster.files.records import LARGEST
from obscluster.files.yaml import read_text
from obscluster.grouping.base import Grouping
from obscluster.grouping.method import (
    ConstraintsConfig,
    Method,
    MethodConfig,
    Request,
    positions_by,
    scaler,
)
from obscluster.grouping.rules import UNASSIGNED, NearestRun

__all__ = ["Labelled", "LabelsConfig", "group_by_labels", "parse_labels", "read_labels"]

_MOST_LABELS = 20_000_000
_EXPECTED = "expected a header with OBS_ID and label, and a line such as 33787,1 for each run"


class Labelled(NamedTuple):
    """Label of a run, and the line that says so."""

    label: int
    line: int


class LabelsConfig(MethodConfig):
    """Groups that somebody made by hand, see `obscluster.grouping.labels`."""

    method: Literal["labels"] = "labels"
    file: str = Field(min_length=1)

    clusters: ClassVar[bool] = False
    completeness: ClassVar[Literal["all", "each", "none"]] = "none"
    resampled: ClassVar[bool] = False

    @property
    def files(self) -> tuple[str, ...]:
        """See `MethodConfig`."""
        return (self.file,)

    def check_with(self, description: Any) -> None:
        """See `MethodConfig`."""
        if description.constraints != ConstraintsConfig():
            raise ValueError("method labels takes the groups as they are; leave constraints out")

    def check_archive(self, data_store: DataStore) -> None:
        """See `MethodConfig`."""
        path = Path(self.file)
        known = set(np.asarray(data_store.obs_table["OBS_ID"]).tolist())
        for obs_id, labelled in read_labels(path).items():
            if obs_id not in known:
                raise RequestError(
                    f"{path.name}, line {labelled.line}: the archive has no run {obs_id}; expected "
                    f"those of {data_store.base_dir}"
                )

    def prepare(self, request: Request) -> Method:
        """See `MethodConfig`."""
        path = Path(self.file)
        labels, scale = read_labels(path), scaler(request, request.names, request.scaling)

        def group(part: Table, _n_groups: int | None) -> Grouping:
            return group_by_labels(scale(part), labels, path.name)

        return Method(group, positions_by(scale), constrained=True)


def read_labels(path: Path) -> dict[int, Labelled]:
    """Labels of runs from a file, see `obscluster.grouping.labels`.

    Raises
    ------
    RequestError
        If the file cannot be read, or a line is not usable; the message names it.
    """
    content = read_text(path, _MOST_LABELS, f"labels {path}", "a file of labels")
    return parse_labels(content.splitlines(), path.name)


def parse_labels(lines: Sequence[str], name: str) -> dict[int, Labelled]:
    """Labels from the lines of a file.

    Parameters
    ----------
    lines : sequence of str
        The lines.
    name : str
        What to call the file in messages.

    Returns
    -------
    labels : dict
        Observation to its label, in the order of the file.

    Raises
    ------
    RequestError
        If a column is missing, a value is no whole number, a label is neither -1 nor from 1, or a
        run appears twice; the message names the line.
    """
    places: tuple[int, int] | None = None
    labels: dict[int, Labelled] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{name}, line {number}"
        try:
            cells = [cell.strip() for cell in next(csv.reader([line]))]
        except csv.Error as error:
            raise RequestError(f"{where}: not comma-separated values ({error})") from None
        if places is None:
            places = _header(cells, where)
            continue
        if len(cells) <= max(places):
            raise RequestError(f"{where}: {len(cells)} values; {_EXPECTED}")
        obs_id, label = (_whole(cells[i], n, where) for i, n in zip(places, _NAMES, strict=True))
        if label < 1 and label != UNASSIGNED:
            raise RequestError(f"{where}: label {label}; expected 1, 2, ..., or -1 for no group")
        if obs_id in labels:
            first = labels[obs_id].line
            raise RequestError(f"{where}: run {obs_id} is there already, in line {first}")
        labels[obs_id] = Labelled(label, number)
    if not labels:
        raise RequestError(f"{name}: holds no runs; {_EXPECTED}")
    return labels


_NAMES = ("OBS_ID", "label")
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_SHOWN = 40


def _header(cells: Sequence[str], where: str) -> tuple[int, int]:
    """Places of the two columns."""
    known = [cell.lower() for cell in cells]
    missing = [name for name in _NAMES if name.lower() not in known]
    if missing:
        raise RequestError(f"{where}: no column {' and '.join(missing)}; {_EXPECTED}")
    return known.index("obs_id"), known.index("label")


def _whole(text: str, name: str, where: str) -> int:
    # Nineteen digits are what a table can hold; underscores and digits of other scripts are none.
    if not _WHOLE.fullmatch(text) or abs(int(text)) > LARGEST:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise RequestError(f"{where}: {name} {shown!r}; expected a whole number")
    return int(text)


def group_by_labels(
    scaled: Table, labels: Mapping[int, Labelled], name: str = "the file"
) -> Grouping:
    """Groups by the labels of a file.

    Parameters
    ----------
    scaled : `~astropy.table.Table`
        Scaled features with ``obs_id``: by these, new runs find the group of the run that is most
        like them. Runs that miss a feature keep their labels.
    labels : mapping
        See `parse_labels`; observations that are not in the table do not count.
    name : str
        What to call the file.

    Returns
    -------
    grouping : `~obscluster.grouping.base.Grouping`
        Groups in the order of their labels in the file, numbered from 1 without gaps: labels 1, 2
        and 3 are kept, 2, 5 and 9 become these. There is no tree.

    Raises
    ------
    RequestError
        If no run is in a group.
    """
    obs_ids = np.asarray(scaled["obs_id"], dtype=np.int64)
    given = [labels.get(obs_id) for obs_id in obs_ids.tolist()]
    written = np.array([UNASSIGNED if one is None else one.label for one in given], dtype=np.int64)
    kept = np.unique(written[written != UNASSIGNED])
    if not len(kept):
        raise RequestError(f"{name}: puts none of the {len(obs_ids)} selected runs into a group")
    found = np.where(written == UNASSIGNED, UNASSIGNED, np.searchsorted(kept, written) + 1)
    reasons = {
        obs_id: f"not in {name}" if one is None else f"in no group in {name}"
        for obs_id, one in zip(obs_ids.tolist(), given, strict=True)
        if one is None or one.label == UNASSIGNED
    }
    remarks = []
    beside = len(labels) - sum(one is not None for one in given)
    if beside:
        runs = "1 run" if beside == 1 else f"{beside} runs"
        remarks.append(f"{runs} of {name} {'is' if beside == 1 else 'are'} not selected")
    X, names = feature_matrix(scaled)
    return Grouping(
        obs_ids,
        found,
        None,
        {"method": "labels", "features": names},
        rule=_rule(scaled, names, X, found),
        reasons=reasons,
        remarks=remarks,
    )


def _rule(
    scaled: Table, names: Sequence[str], X: NDArray[np.float64], labels: NDArray[np.int64]
) -> NearestRun | None:
    """The group of the most similar run; None if no run of a group has all features."""
    if not (np.isfinite(X).all(axis=1) & (labels != UNASSIGNED)).any():
        return None
    return NearestRun.fit(scaled.meta["scaling"], names, X, labels)
