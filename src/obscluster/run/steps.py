"""What the steps of a run have left in its output, and of which inputs.

A step that is complete has an entry in ``steps/steps.yaml``: a fingerprint of everything that it
depends on, and the checksums of its files. The entry goes before the files are replaced and comes
back when the last of them is there, so that whatever happens in between, a step with an entry is
complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from obscluster.exceptions import ArchiveError, RequestError
from obscluster.files.checksums import checksum
from obscluster.files.yaml import plain, read_yaml, write_yaml
from obscluster.results import check_output

__all__ = ["STEPS_DIRECTORY", "Steps", "fingerprint", "opened_steps"]

STEPS_DIRECTORY = "steps"
STEPS_FILE = "steps.yaml"


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
    """

    def __init__(self, output: Path):
        self.output = output
        self._entries: dict[str, Any] = {}
        try:
            entries = read_yaml(self._file).get("steps")
        except ArchiveError:
            entries = None
        if isinstance(entries, dict):
            self._entries = {
                name: entry
                for name, entry in entries.items()
                if isinstance(entry, dict) and all(_is_mapping(entry, k) for k in _PARTS)
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
        entry = self._entries.get(name)
        if entry is None:
            return ""
        unread = self.unread(name)
        # What comes of the same inputs differs once these runs can be read.
        return fingerprint([entry["inputs"], unread] if unread else entry["inputs"])

    def unread(self, name: str) -> dict[int, str]:
        """Runs of which files could not be read when a step was done, and why."""
        return dict(self._entries.get(name, {}).get("unread") or {})

    def entry(self, name: str) -> dict[str, Any]:
        """Inputs and files of a step that is complete."""
        return dict(self._entries[name])

    def input(self, name: str, key: str) -> str | None:
        """Fingerprint of one input of a step, None if it is not complete."""
        entry = self._entries.get(name)
        return None if entry is None else entry["inputs"].get(key)

    @property
    def names(self) -> list[str]:
        """Steps that are complete."""
        return list(self._entries)

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
        entry = self._entries.get(name)
        if entry is None:
            return None
        before = entry["inputs"]
        changed = [key for key in {**before, **inputs} if before.get(key) != inputs.get(key)]
        return changed or self._changed_files(entry)

    def start(self, name: str) -> None:
        """Say that the files of a step are about to change."""
        if self._entries.pop(name, None) is not None:
            self._write()

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
        self._entries[name] = {"inputs": dict(inputs), "files": checksums}
        if unread:
            self._entries[name]["unread"] = dict(unread)
        self._write()

    def discard(self, name: str) -> None:
        """Remove the files of a step that are as it has left them, and its entry."""
        entry = self._entries.get(name)
        if entry is None:
            return
        self.start(name)
        directories = set()
        for file, value in entry["files"].items():
            path = self.output / file
            if _is_inside(file) and path.is_file() and checksum(path) == value:
                path.unlink()
                directories.add(path.parent)
        for directory in directories - {self.output, self.directory}:
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()

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
        write_yaml(staging, {"obscluster": "steps of a run", "steps": _sorted(self._entries)})
        staging.replace(self._file)


@contextmanager
def opened_steps(output: Path, overwrite: bool = False) -> Iterator[Steps]:
    """The steps of an output, which nobody else may change meanwhile.

    Parameters
    ----------
    output : `~pathlib.Path`
        Directory of the results.
    overwrite : bool
        Begin anew; needed where there is something else in the directory.

    Raises
    ------
    RequestError
        If the output cannot be written, holds something else, or another run is at work in it.
    """
    ours = (output / STEPS_DIRECTORY / STEPS_FILE).is_file()
    check_output(output, overwrite or ours or _is_interrupted(output))
    steps = Steps(output)
    try:
        steps.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"output {output}: cannot be written ({error.strerror})") from None
    with _locked(steps.directory, output):
        _remove_partial(output)
        if overwrite:
            for name in steps.names:
                steps.discard(name)
        yield steps


@contextmanager
def _locked(directory: Path, output: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends."""
    try:
        import fcntl
    except ImportError:
        # Windows has none; two runs in one output are then for the user to avoid.
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RequestError(
                f"output {output}: another run is at work in it; wait for it, or name another "
                "directory"
            ) from None
        except OSError:
            # A file system without locks.
            pass
        yield
    finally:
        os.close(handle)


def _is_interrupted(output: Path) -> bool:
    """Whether all that is there is what a run makes at first."""
    return output.is_dir() and {path.name for path in output.iterdir()} <= {STEPS_DIRECTORY}


def _remove_partial(output: Path) -> None:
    """Remove what a run that was killed has left half-written."""
    places = [(output.absolute().parent, f".{output.absolute().name}.*.partial")]
    places += [(output, ".*.partial"), (output / STEPS_DIRECTORY, "*.partial")]
    for directory, pattern in places:
        for path in directory.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


_PARTS = ("inputs", "files")


def _is_mapping(entry: Mapping[str, Any], key: str) -> bool:
    return isinstance(entry.get(key), dict)


def _is_inside(file: str) -> bool:
    """Whether a path of a record stays in the output."""
    path = Path(file)
    return not path.is_absolute() and ".." not in path.parts


def _sorted(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entries[name] for name in sorted(entries)}
