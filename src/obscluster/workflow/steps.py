"""What the steps of a run have left in its output, and of which inputs.

A step that is complete has an entry in ``steps/steps.yaml``: a fingerprint of everything that it
depends on, and the checksums of its files. Steps are done in a directory beside the output, which
takes its place as a whole when all are done, or when an error or the user ends the run. A run that
is killed leaves that directory, and the next one goes on in it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from obscluster.exceptions import ArchiveError
from obscluster.files.exchange import NEW, carry, files_in
from obscluster.files.output import LEFT, Output, recorded, reserved, write_list
from obscluster.files.records import LIST_FILE, checksum, is_sealed, listed
from obscluster.files.yaml import plain, read_yaml, write_yaml
from obscluster.workflow.report import REPORT_FILE

__all__ = ["STEPS_DIRECTORY", "Steps", "fingerprint", "opened_steps"]

STEPS_DIRECTORY = "steps"
STEPS_FILE = "steps.yaml"
_WORK = "work"


def fingerprint(value: Any) -> str:
    """Short text that differs for values that differ."""
    text = json.dumps(plain(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Steps:
    """Entries of the steps in an output.

    Parameters
    ----------
    output : `~pathlib.Path`
        Directory of the results.

    Attributes
    ----------
    entries : dict
        Step that is complete to its inputs and files.
    is_changed : bool
        Whether a step was done or discarded since these were read.
    """

    def __init__(self, output: Path):
        self.output = output
        self.entries: dict[str, Any] = {}
        self.is_changed = False
        try:
            entries = read_yaml(self._file).get("steps")
        except ArchiveError:
            entries = None
        if isinstance(entries, dict):
            self.entries = {
                name: entry
                for name, entry in entries.items()
                if isinstance(entry, dict)
                and all(isinstance(entry.get(k), dict) for k in _PARTS)
                and all(isinstance(file, str) and _is_inside(file) for file in entry["files"])
            }

    @property
    def directory(self) -> Path:
        """Where outcomes lie that are for the steps alone."""
        return self.output / STEPS_DIRECTORY

    @property
    def _file(self) -> Path:
        return self.directory / STEPS_FILE

    def key(self, name: str) -> str:
        """Fingerprint of all inputs of a step, empty if it is not complete."""
        entry = self.entries.get(name)
        if entry is None:
            return ""
        unread = self.unread(name)
        # What comes of the same inputs differs once these runs can be read.
        return fingerprint([entry["inputs"], unread] if unread else entry["inputs"])

    def unread(self, name: str) -> dict[int, str]:
        """Runs of which files could not be read when a step was done, and why."""
        return dict(self.entries.get(name, {}).get("unread") or {})

    def entry(self, name: str) -> dict[str, Any]:
        """Inputs and files of a step that is complete."""
        return dict(self.entries[name])

    def input(self, name: str, key: str) -> str | None:
        """Fingerprint of one input of a step, None if it is not complete."""
        entry = self.entries.get(name)
        return None if entry is None else entry["inputs"].get(key)

    @property
    def names(self) -> list[str]:
        """Steps that are complete."""
        return list(self.entries)

    def changes(self, name: str, inputs: Mapping[str, str]) -> list[str] | None:
        """What has changed since a step was done: inputs, or files of its outcome.

        Parameters
        ----------
        name : str
            The step.
        inputs : mapping
            What it depends on to its fingerprint.

        Returns
        -------
        changes : list of str or None
            Empty if the step is complete as it is asked; None if it was never done.
        """
        entry = self.entries.get(name)
        if entry is None:
            return None
        before = entry["inputs"]
        changed = [key for key in {**before, **inputs} if before.get(key) != inputs.get(key)]
        return changed or self._changed_files(entry)

    def finish(
        self,
        name: str,
        inputs: Mapping[str, str],
        files: Iterable[str],
        unread: Mapping[int, str] | None = None,
    ) -> None:
        """Say that a step is complete.

        Parameters
        ----------
        name : str
            The step.
        inputs : mapping
            What it depends on to its fingerprint.
        files : iterable of str
            Its outcome, relative to the output.
        unread : mapping, optional
            Runs of which files could not be read, and why: the step is not complete without.
        """
        checksums = {file: checksum(self.output / file) for file in sorted(files)}
        self.is_changed = True
        self.entries[name] = {"inputs": dict(inputs), "files": checksums}
        if unread:
            self.entries[name]["unread"] = dict(unread)
        self._write()

    def discard(self, name: str) -> None:
        """Remove the files of a step that are as it has left them, and its entry."""
        entry = self.entries.pop(name, None)
        if entry is None:
            return
        self.is_changed = True
        self._write()
        directories = set()
        for file, value in entry["files"].items():
            path = self.output / file
            if path.is_file() and checksum(path) == value:
                path.unlink()
                directories.add(path.parent)
        for directory in directories - {self.output, self.directory}:
            if {path.name for path in directory.iterdir()} <= {LIST_FILE}:
                shutil.rmtree(directory)

    @property
    def files(self) -> set[str]:
        """Files of all steps that are complete, their lists and records, relative to the output."""
        named = {file for entry in self.entries.values() for file in entry["files"]}
        lists = {(Path(file).parent / LIST_FILE).as_posix() for file in named}
        # What a reduction has left that was interrupted.
        left = {path.name for path in self.output.glob(f"{LEFT}/") if path.is_dir()}
        waiting = {f"{name}/{file}" for name in left for file in files_in(self.output / name)}
        found = {*named, *lists, *waiting, f"{STEPS_DIRECTORY}/{STEPS_FILE}"}
        return {file for file in found if (self.output / file).is_file()}

    def _changed_files(self, entry: Mapping[str, Any]) -> list[str]:
        return [
            file
            for file, value in entry["files"].items()
            if not (self.output / file).is_file() or checksum(self.output / file) != value
        ]

    def _write(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        staging = self._file.with_suffix(".partial")
        # Sorted, so that the order in which steps were done again does not show.
        write_yaml(staging, {"obscluster": "steps of a run", "steps": _sorted(self.entries)})
        staging.replace(self._file)


@contextmanager
def opened_steps(
    output: Path, overwrite: bool = False, archive: Path | None = None
) -> Iterator[Steps]:
    """The steps of an output, in a directory that takes its place in the end.

    Parameters
    ----------
    output : `~pathlib.Path`
        Directory of the results.
    overwrite : bool
        Begin anew; needed where there is something else in the directory.
    archive : `~pathlib.Path`, optional
        Directory of the archive, where nothing is written.

    Raises
    ------
    RequestError
        If the output cannot be written, holds something else, or another command is at work in it.
    """
    ours = (output / STEPS_DIRECTORY / STEPS_FILE).is_file()
    # To begin anew is to do what an earlier run has done, too.
    keep = None if overwrite else _WORK
    with reserved(output, overwrite or ours, archive, keep) as held:
        before = Steps(held.place)
        begin = None if overwrite else partial(carry, held.place, names=before.files)
        steps = Steps(held.kept(_WORK, begin))
        _prune(steps)
        try:
            yield steps
        except BaseException:
            # A step that is complete is not lost, unless others had to go for it.
            if not (overwrite and before.names):
                _publish(steps, before, held)
            raise
        _publish(steps, before, held)


def _publish(steps: Steps, before: Steps, held: Output) -> None:
    tree = steps.output
    # Entries also differ where a run that was killed had done all, and had not said so.
    is_changed = steps.is_changed or steps.entries != before.entries
    if not (is_changed or any(tree.glob(LEFT))):
        return
    _prune(steps)
    own = before.files | _recorded_parts(held.place, tree)
    own |= set(listed(held.place).get("group", {}))
    write_list(tree, held.place, listed(tree))
    tree.rename(held.container / NEW)
    held.publish(own | recorded(held.place), own)


def _prune(steps: Steps) -> None:
    """Remove what is of no complete step, such as of one that was killed."""
    tree, files = steps.output, steps.files
    for name in files_in(tree) - files:
        if not (tree / name).is_dir():
            (tree / name).unlink()
    for path in sorted(tree.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()


def _recorded_parts(place: Path, tree: Path) -> set[str]:
    """Files of a run that is not recorded any more, in what a new one has, too."""
    parts = [path.name for path in tree.iterdir() if (path / LIST_FILE).is_file()]
    found = {f"{part}/{name}" for part in parts for name in recorded(place / part)}
    report = place / REPORT_FILE
    if (tree / REPORT_FILE).is_file() and report.is_file() and is_sealed(report.read_bytes()):
        found.add(REPORT_FILE)
    steps = place / STEPS_DIRECTORY
    return found | {f"{STEPS_DIRECTORY}/{path.name}" for path in steps.glob("*")}


_PARTS = ("inputs", "files")


def _is_inside(file: str) -> bool:
    """Whether a path of a record stays in the output."""
    path = Path(file)
    return not path.is_absolute() and ".." not in path.parts


def _sorted(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entries[name] for name in sorted(entries)}
