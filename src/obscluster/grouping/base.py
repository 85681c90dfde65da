"""The result of every grouping method, and its files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import QTable, Table
from numpy.typing import ArrayLike, NDArray

from obscluster.exceptions import ArchiveError, RequestError
from obscluster.yaml_file import plain, read_yaml, write_yaml

__all__ = ["UNASSIGNED", "Grouping"]

UNASSIGNED = -1
"""Label of runs that belong to no group."""

RECORD_FILE = "groups.yaml"
TABLE_FILE = "groups.ecsv"
LINKAGE_FILE = "linkage.ecsv"
_LINKAGE_COLUMNS = ("left", "right", "height", "n_obs")


@dataclass(frozen=True, eq=False)
class Grouping:
    """Labels of observations, and how they came about.

    Parameters
    ----------
    obs_ids : array_like of int
        Observations, shape (n_obs,).
    labels : array_like of int
        Group of each, from 1 without gaps; -1 for those that belong nowhere.
    linkage : array_like, optional
        Tree in SciPy's format, shape (n - 1, 4), whose leaves are the assigned observations in the
        order of ``obs_ids``.
    parameters : mapping, optional
        What made the grouping.
    names : mapping, optional
        Label to a name such as ``low_zenith``, for groups that have one.

    Raises
    ------
    RequestError
        If lengths differ, an observation appears twice, or labels have gaps.
    """

    obs_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    linkage: NDArray[np.float64] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        obs_ids = np.array(self.obs_ids, dtype=np.int64)
        labels = np.array(self.labels, dtype=np.int64)
        if obs_ids.ndim != 1 or obs_ids.shape != labels.shape:
            raise RequestError(f"{obs_ids.size} observations but {labels.size} labels")
        if len(np.unique(obs_ids)) != len(obs_ids):
            raise RequestError("an observation appears twice")
        found = np.unique(labels[labels != UNASSIGNED])
        if not np.array_equal(found, np.arange(1, len(found) + 1)):
            raise RequestError(f"labels {found.tolist()}; expected 1, 2, ... without gaps")
        object.__setattr__(self, "obs_ids", obs_ids)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "parameters", plain(self.parameters))
        object.__setattr__(self, "names", {int(k): str(v) for k, v in self.names.items()})
        if self.linkage is not None:
            object.__setattr__(self, "linkage", np.array(self.linkage, dtype=float).reshape(-1, 4))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grouping):
            return NotImplemented
        same_tree = (self.linkage is None) == (other.linkage is None) and (
            self.linkage is None or np.array_equal(self.linkage, np.asarray(other.linkage))
        )
        return (
            same_tree
            and np.array_equal(self.obs_ids, other.obs_ids)
            and np.array_equal(self.labels, other.labels)
            and self.parameters == other.parameters
            and self.names == other.names
        )

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.obs_ids)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(max(self.labels.max(initial=0), 0))

    @property
    def groups(self) -> dict[str, NDArray[np.int64]]:
        """``group_<label>`` to the observations in it, and ``unassigned`` if there are any."""
        groups = {
            f"group_{label}": self.obs_ids[self.labels == label]
            for label in range(1, self.n_groups + 1)
        }
        rest = self.obs_ids[self.labels == UNASSIGNED]
        return groups | ({"unassigned": rest} if len(rest) else {})

    @property
    def named_labels(self) -> NDArray[np.str_]:
        """Names of the groups where they have one, else their numbers, shape (n_obs,).

        `Observations.group_by_label` of these gives keys such as ``group_low_zenith``.
        """
        return np.array(
            [self.names.get(int(label), str(label)) for label in self.labels], dtype=str
        )

    def label_of(self, obs_ids: ArrayLike) -> NDArray[np.int64]:
        """Labels of the given observations; -1 for those that are not in the grouping."""
        known = dict(zip(self.obs_ids.tolist(), self.labels.tolist(), strict=True))
        wanted = np.atleast_1d(np.asarray(obs_ids, dtype=np.int64))
        return np.array([known.get(i, UNASSIGNED) for i in wanted.tolist()], dtype=np.int64)

    def __str__(self) -> str:
        lines = [f"{len(self)} observations in {self.n_groups} groups"]
        for label in range(1, self.n_groups + 1):
            name = f" ({self.names[label]})" if label in self.names else ""
            lines.append(f"  group_{label}{name}: {(self.labels == label).sum()}")
        n_rest = int((self.labels == UNASSIGNED).sum())
        return "\n".join(lines + ([f"  unassigned: {n_rest}"] if n_rest else []))

    def write(
        self,
        directory: str | os.PathLike[str],
        features: Table | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Write ``groups.ecsv``, ``groups.yaml`` and, with a tree, ``linkage.ecsv``.

        Parameters
        ----------
        directory : str or path
            An existing directory.
        features : `~astropy.table.Table`, optional
            Feature table with the same observations in the same order, to go into ``groups.ecsv``.
        record : mapping, optional
            More to put into ``groups.yaml``, such as versions and the selection.

        Returns
        -------
        files : list of str
            Names of the files written.
        """
        directory = Path(directory)
        table = QTable() if features is None else QTable(features, copy=True)
        table["obs_id"] = self.obs_ids
        table["label"] = self.labels
        table["label"].info.description = "Group, -1 for none"
        table.meta.clear()
        table.write(directory / TABLE_FILE, format="ascii.ecsv", overwrite=True)
        files = [TABLE_FILE, RECORD_FILE]
        if self.linkage is not None:
            tree = Table(self.linkage, names=_LINKAGE_COLUMNS)
            for name in ("left", "right", "n_obs"):
                tree[name] = tree[name].astype(int)
            tree.write(directory / LINKAGE_FILE, format="ascii.ecsv", overwrite=True)
            files.append(LINKAGE_FILE)
        content = {
            **(record or {}),
            "parameters": self.parameters,
            "names": self.names,
            "linkage": LINKAGE_FILE if self.linkage is not None else None,
        }
        write_yaml(directory / RECORD_FILE, content)
        return files

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Grouping:
        """Read back what was written.

        Parameters
        ----------
        path : str or path
            The directory, or the ``groups.yaml`` in it.

        Raises
        ------
        ArchiveError
            If a file is missing or is not a result of obscluster.
        """
        path = Path(path)
        directory = path if path.is_dir() else path.parent
        try:
            record = read_yaml(directory / RECORD_FILE)
            table = Table.read(directory / TABLE_FILE, format="ascii.ecsv")
            tree = None
            if record["linkage"] is not None:
                columns = Table.read(directory / record["linkage"], format="ascii.ecsv")
                tree = np.column_stack([columns[name] for name in _LINKAGE_COLUMNS])
            return cls(table["obs_id"], table["label"], tree, record["parameters"], record["names"])
        except FileNotFoundError as error:
            raise ArchiveError(
                f"{error.filename}: no such file; is {directory} a result?"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError(f"{directory}: not the files of a grouping ({error})") from None
