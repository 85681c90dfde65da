"""The result of every grouping method, and its files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import QTable, Table, vstack
from numpy.typing import ArrayLike, NDArray

from obscluster.exceptions import ArchiveError, RequestError, join_lines
from obscluster.files.ecsv import read_ecsv
from obscluster.files.exchange import repair
from obscluster.files.output import results_directory
from obscluster.files.records import (
    RecordError,
    changed_files,
    changed_text,
    check_files,
    check_record,
    checksum,
    list_of,
    mapping,
    mapping_of,
    optional,
    path_in,
    text,
    whole,
)
from obscluster.files.yaml import plain, read_yaml, write_yaml
from obscluster.grouping.rules import UNASSIGNED, Rule, rule_from_record
from obscluster.grouping.trees import prune_tree, reorder_leaves

if TYPE_CHECKING:
    from obscluster.archive.store import DataStore

__all__ = ["UNASSIGNED", "Grouping", "write_grouping"]

RECORD_FILE = "groups.yaml"
TABLE_FILE = "groups.ecsv"
LINKAGE_FILE = "linkage.ecsv"
RULE_FILE = "rule.ecsv"
_LINKAGE_COLUMNS = ("left", "right", "height", "n_obs")
# What `Grouping.read` takes from groups.yaml.
_RECORD = mapping(
    {
        "parameters": mapping({}, {"method": text, "linkage": mapping({}, {"method": text})}),
        "names": mapping_of(text, key=whole(1)),
        "remarks": list_of(text),
        "unassigned": mapping_of(text, key=whole()),
        "linkage": optional(text),
        "rule": optional(mapping({"kind": text})),
        "checksums": mapping_of(text, key=text),
    }
)


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
    rule : `~obscluster.grouping.rules.Rule`, optional
        How a new run finds its group.
    reasons : mapping, optional
        Observation to why it is in no group.
    remarks : sequence of str, optional
        What the method and its constraints did that the user should know.

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
    rule: Rule | None = None
    reasons: Mapping[int, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()

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
        object.__setattr__(self, "reasons", {int(k): str(v) for k, v in self.reasons.items()})
        object.__setattr__(self, "remarks", tuple(self.remarks))
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
            and self.reasons == other.reasons
            and self.remarks == other.remarks
            and _content_of(self.rule) == _content_of(other.rule)
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
    def members(self) -> dict[str, list[int]]:
        """``group_<label>`` to the observations in it, which are stacked."""
        return {k: v.tolist() for k, v in self.groups.items() if k != "unassigned"}

    @property
    def named_labels(self) -> NDArray[np.str_]:
        """Names of the groups where they have one, else their numbers, shape (n_obs,).

        `Observations.group_by_label` of these gives keys such as ``group_low_zenith``.
        """
        return np.array(
            [self.names.get(int(label), str(label)) for label in self.labels], dtype=str
        )

    @property
    def files(self) -> list[str]:
        """Names of the files that `write` writes."""
        matrices: list[Table] = []
        if self.rule is not None:
            _detached(self.rule.record(), matrices)
        files = [TABLE_FILE, RECORD_FILE]
        files += [LINKAGE_FILE] if self.linkage is not None else []
        return files + ([RULE_FILE] if matrices else [])

    def label_of(self, obs_ids: ArrayLike) -> NDArray[np.int64]:
        """Labels of the given observations; -1 for those that are not in the grouping."""
        known = dict(zip(self.obs_ids.tolist(), self.labels.tolist(), strict=True))
        wanted = np.atleast_1d(np.asarray(obs_ids, dtype=np.int64))
        return np.array([known.get(i, UNASSIGNED) for i in wanted.tolist()], dtype=np.int64)

    def to_gammapy(
        self,
        archive: str | os.PathLike[str] | DataStore,
        required_irf: Iterable[str] = ("aeff", "edisp"),
    ) -> dict[str, Any]:
        """Gammapy's observations of each group, to go on with makers of one's own.

        Parameters
        ----------
        archive : str, path or `~obscluster.archive.store.DataStore`
            Where the runs are.
        required_irf : iterable of str
            Runs without these responses are left out, with a `SkippedRunWarning`.

        Returns
        -------
        observations : dict
            ``group_<label>`` to `gammapy.data.Observations`; runs in no group are left out.

        Raises
        ------
        ArchiveError
            If the archive cannot be read.
        RequestError
            If Gammapy is not installed; the message says which extra has it.

        Examples
        --------
        Maps of each group, with makers of one's own::

            grouping = Grouping.read("groups/")
            groups = grouping.to_gammapy(archive, required_irf=["aeff", "edisp", "psf", "bkg"])
            datasets = {
                name: DatasetsMaker(makers).run(empty, observations)
                for name, observations in groups.items()
            }
        """
        # Reduction stands above grouping, and groups need no Gammapy; but who holds a grouping
        # looks for its ways out here. Loaded on this call alone: see `test_architecture.py`.
        from obscluster.reduction import to_gammapy

        return to_gammapy(self, archive, required_irf)

    def reordered(self, order: ArrayLike) -> Grouping:
        """The same grouping with its rows in another order.

        Parameters
        ----------
        order : array_like of int
            Which row comes next, shape (n_obs,).
        """
        order = np.asarray(order, dtype=np.int64)
        tree = self.linkage
        if tree is not None:
            rows = np.empty(len(order), dtype=np.int64)
            rows[order] = np.arange(len(order))
            tree = reorder_leaves(tree, rows[self.labels != UNASSIGNED])
        return replace(self, obs_ids=self.obs_ids[order], labels=self.labels[order], linkage=tree)

    def relabelled(
        self, labels: Mapping[int, int], reason: str = "", remarks: Sequence[str] = ()
    ) -> Grouping:
        """Grouping whose groups are merged or given up.

        Parameters
        ----------
        labels : mapping
            Label to the one of the group that it becomes part of; -1 to give the group up. Groups
            are numbered anew in the order of these.
        reason : str
            Why the runs of groups that are given up are in none.
        remarks : sequence of str
            Added to those of the grouping.
        """
        kept = sorted({new for new in labels.values() if new != UNASSIGNED})
        number = {new: i for i, new in enumerate(kept, start=1)} | {UNASSIGNED: UNASSIGNED}
        final = {int(old): number[new] for old, new in labels.items()}
        changed = np.array([final.get(k, UNASSIGNED) for k in self.labels.tolist()], dtype=int)
        given_up = self.obs_ids[(changed == UNASSIGNED) & (self.labels != UNASSIGNED)]
        names: dict[int, str] = {}
        for old, new in sorted(final.items()):
            if new != UNASSIGNED and old in self.names:
                names[new] = f"{names[new]}+{self.names[old]}" if new in names else self.names[old]
        tree = self.linkage
        if tree is not None:
            tree = prune_tree(tree, changed[self.labels != UNASSIGNED] != UNASSIGNED)
        return replace(
            self,
            labels=changed,
            linkage=tree,
            names=names,
            rule=None if self.rule is None else self.rule.relabelled(final),
            reasons={**self.reasons, **dict.fromkeys(given_up.tolist(), reason)},
            remarks=(*self.remarks, *remarks),
        )

    def __str__(self) -> str:
        lines = [f"{len(self)} observations in {self.n_groups} groups"]
        for label in range(1, self.n_groups + 1):
            name = f" ({self.names[label]})" if label in self.names else ""
            lines.append(f"  group_{label}{name}: {(self.labels == label).sum()}")
        n_rest = int((self.labels == UNASSIGNED).sum())
        return join_lines(lines + ([f"  unassigned: {n_rest}"] if n_rest else []))

    def _repr_html_(self) -> str:
        """For a notebook: one sentence, the groups, and what there is to know of them."""
        from obscluster.views.notebook import grouping_html

        return grouping_html(self)

    def write(
        self,
        directory: str | os.PathLike[str],
        features: Table | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Write ``groups.yaml`` and tables, all or none.

        ``groups.ecsv`` has the labels, ``linkage.ecsv`` the tree, if there is one, and
        ``rule.ecsv`` what a rule needs that compares with earlier runs.

        Parameters
        ----------
        directory : str or path
            Where to; groups that are there are replaced, other files stay.
        features : `~astropy.table.Table`, optional
            Feature table with the same observations in the same order, to go into ``groups.ecsv``.
        record : mapping, optional
            More to put into ``groups.yaml``, such as versions and the selection.

        Returns
        -------
        files : list of str
            Names of the files written.

        Raises
        ------
        RequestError
            If the directory cannot be written, or has a file of one of these names that is not
            of obscluster.
        """
        with results_directory(Path(directory), "group", overwrite=True) as staging:
            write_grouping(staging, self, features, record)
        return self.files

    @classmethod
    def read(cls, path: str | os.PathLike[str], trust: bool = False) -> Grouping:
        """Read back what was written.

        Parameters
        ----------
        path : str or path
            The directory, or the ``groups.yaml`` in it.
        trust : bool
            Read files also if they changed since they were written.

        Raises
        ------
        ArchiveError
            If a file is missing, is not a result of obscluster, or changed since it was written.
        """
        return cls.read_all(path, trust)[0]

    @classmethod
    def read_all(
        cls, path: str | os.PathLike[str], trust: bool = False
    ) -> tuple[Grouping, dict[str, Any], QTable]:
        """Read back what was written, with all that was put beside it.

        Parameters
        ----------
        path : str or path
            The directory, or the ``groups.yaml`` in it.
        trust : bool
            Read files also if they changed since they were written.

        Returns
        -------
        grouping : `Grouping`
            The groups.
        record : dict
            Content of ``groups.yaml``.
        table : `~astropy.table.QTable`
            Content of ``groups.ecsv``.

        Raises
        ------
        ArchiveError
            If a file is missing or is not a result of obscluster.
        """
        path = Path(path)
        if not path.exists():
            raise ArchiveError(f"{path}: no such file; name groups.yaml, or its directory")
        directory = path if path.is_dir() else path.parent
        repair(directory)
        before = directory.stat().st_ino
        try:
            return cls._read(directory, trust)
        except ArchiveError:
            if directory.stat().st_ino == before:
                raise
            # A writer has put other results in place meanwhile.
            return cls._read(directory, trust)

    @classmethod
    def _read(cls, directory: Path, trust: bool) -> tuple[Grouping, dict[str, Any], QTable]:
        if not trust:
            check_files(directory, ("group",))
        place = directory / RECORD_FILE
        record = read_yaml(place)
        check_record(record, _RECORD, place)
        table = read_ecsv(path_in(directory, TABLE_FILE, place), whole=("obs_id", "label"))
        tree = _read_tree(directory, record["linkage"])
        rule = None if record["rule"] is None else _read_rule(directory, record["rule"])
        _check_files(directory, record["checksums"], trust)
        try:
            grouping = cls(
                np.asarray(table["obs_id"]),
                np.asarray(table["label"]),
                tree,
                record["parameters"],
                record["names"],
                rule,
                record["unassigned"],
                record["remarks"],
            )
        except RequestError as error:
            raise ArchiveError(f"{directory / TABLE_FILE}: {error}") from None
        return grouping, record, table


def _read_tree(directory: Path, name: str | None) -> NDArray[np.float64] | None:
    """The tree that a record names, with nodes that are there."""
    if name is None:
        return None
    path = path_in(directory, name, directory / RECORD_FILE)
    columns = read_ecsv(path, whole=("left", "right", "n_obs"), numbers=("height",))
    tree = np.column_stack([np.asarray(columns[n], dtype=float) for n in _LINKAGE_COLUMNS])
    nodes, n_leaves = tree[:, :2], len(tree) + 1
    known = n_leaves + np.arange(len(tree))[:, np.newaxis]
    each_once = len(np.unique(nodes)) == nodes.size
    known_first = bool(((nodes >= 0) & (nodes < known)).all())
    sizes = bool(((tree[:, 3] >= 2) & (tree[:, 3] <= n_leaves) & (tree[:, 2] >= 0)).all())
    if not (each_once and known_first and sizes):
        raise ArchiveError(f"{path}: not a tree of {n_leaves} runs in SciPy's format")
    return tree


def _read_rule(directory: Path, content: Mapping[str, Any]) -> Rule:
    """The rule of a record, with its tables."""
    matrices = None
    place = directory / RECORD_FILE
    path = path_in(directory, RULE_FILE, place)
    if path.exists():
        matrices = read_ecsv(path, whole=("part",))
    try:
        return rule_from_record(_attached(content, matrices))
    except RequestError as error:
        raise ArchiveError(f"{place}: rule: {error}") from None


def write_grouping(
    directory: Path,
    grouping: Grouping,
    features: Table | None = None,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write the files of a grouping into a directory of which nobody knows yet.

    Parameters
    ----------
    directory : `~pathlib.Path`
        Where to, see `obscluster.files.output.results_directory`.
    grouping : `Grouping`
        What to write.
    features, record
        See `Grouping.write`.
    """
    table = QTable() if features is None else QTable(features, copy=True)
    table["obs_id"] = grouping.obs_ids
    table["label"] = grouping.labels
    table["label"].info.description = "Group, -1 for none"
    table.meta.clear()
    tables: dict[str, Table] = {TABLE_FILE: table}
    if grouping.linkage is not None:
        tree = Table(grouping.linkage, names=_LINKAGE_COLUMNS)
        for name in ("left", "right", "n_obs"):
            tree[name] = tree[name].astype(int)
        tables[LINKAGE_FILE] = tree
    matrices: list[Table] = []
    rule = None if grouping.rule is None else _detached(grouping.rule.record(), matrices)
    if matrices:
        tables[RULE_FILE] = vstack(matrices)
    for name, content in tables.items():
        content.write(directory / name, format="ascii.ecsv")
    record = {
        **(record or {}),
        "parameters": grouping.parameters,
        "names": grouping.names,
        "remarks": list(grouping.remarks),
        "unassigned": grouping.reasons,
        "linkage": LINKAGE_FILE if grouping.linkage is not None else None,
        "rule": rule,
        "checksums": {name: checksum(directory / name) for name in tables},
    }
    write_yaml(directory / RECORD_FILE, record)


def _detached(content: Any, tables: list[Table]) -> Any:
    """Content with a number in place of each table, which goes to the end of the list."""
    if isinstance(content, Table):
        table = content.copy()
        table["part"] = np.full(len(table), len(tables))
        tables.append(table)
        return {"part": len(tables) - 1}
    if isinstance(content, Mapping):
        return {key: _detached(value, tables) for key, value in content.items()}
    return content


def _attached(content: Any, matrices: Table | None) -> Any:
    """Content with its tables back in place."""
    if not isinstance(content, Mapping):
        return content
    if set(content) == {"part"}:
        if matrices is None:
            raise RecordError(f"no {RULE_FILE} beside {RECORD_FILE}, which refers to it")
        return matrices[np.asarray(matrices["part"]) == content["part"]]
    return {key: _attached(value, matrices) for key, value in content.items()}


def _content_of(rule: Rule | None) -> Any:
    """What a rule is, in values that can be compared."""
    if rule is None:
        return None
    tables: list[Table] = []
    record = plain(_detached(rule.record(), tables))
    return record, [[list(row) for row in table.iterrows()] for table in tables]


def _check_files(directory: Path, checksums: Mapping[str, str], trust: bool) -> None:
    """Check that the files that a record names are there and, unless trusted, as they were."""
    place = directory / RECORD_FILE
    for name in checksums:
        path = path_in(directory, name, place)
        if not path.is_file():
            raise ArchiveError(f"{path}: no such file; is {directory} a result?")
    if not trust and (changed := changed_files(directory, checksums)):
        raise ArchiveError(changed_text(directory, changed))
