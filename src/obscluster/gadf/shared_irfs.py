"""Responses that several observations share, such as one file for a whole archive, read once."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from obscluster.gadf.hdu_index import HDULocation
from obscluster.gadf.response import IRF

__all__ = ["SharedIRFs", "Wanted"]

Wanted = tuple[str, HDULocation]
"""Type of a response, and the HDU that holds it."""
_Reader = Callable[[Sequence[Wanted]], Mapping[str, IRF | None]]
# Responses of a file take up to some 30 MB.
_MAX_FILES = 8


class SharedIRFs:
    """Holds the responses of files that are known to be shared, of the latest few of them.

    Threads may use it at once; each file is then read by one of them while others wait. Pickled,
    it knows which files are shared and holds nothing. A file that cannot be read is tried anew
    for each observation, so that each has its own error.

    Parameters
    ----------
    paths : iterable of `~pathlib.Path`
        Files that several observations share, as the index names them.
    max_files : int
        Of how many files responses are held.
    """

    def __init__(self, paths: Iterable[Path], max_files: int = _MAX_FILES):
        self.paths = frozenset(paths)
        self.max_files = max_files
        self._lock = threading.Lock()
        self._files: OrderedDict[Path, _File] = OrderedDict()

    @classmethod
    def among(cls, paths: Iterable[Iterable[Path]]) -> SharedIRFs | None:
        """Those of the files of several observations that more than one of them has.

        Parameters
        ----------
        paths : iterable of iterable of `~pathlib.Path`
            Files of each observation.

        Returns
        -------
        shared : `SharedIRFs` or None
            None if no file is shared.
        """
        counts = Counter(path for of_one in paths for path in set(of_one))
        shared = [path for path, n in counts.items() if n > 1]
        return cls(shared) if shared else None

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "max_files": self.max_files}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["paths"], state["max_files"])  # type: ignore[misc]

    def get(self, read: _Reader, path: Path, wanted: Sequence[Wanted]) -> dict[str, IRF | None]:
        """Responses of a file that is shared.

        Parameters
        ----------
        read : callable
            ``read(wanted)`` reads what is not held.
        path : `~pathlib.Path`
            The file, as the index names it.
        wanted : sequence of `Wanted`
            Which responses.

        Raises
        ------
        DataError
            If a response cannot be read.
        """
        with self._lock:
            file = self._files.setdefault(path, _File())
            self._files.move_to_end(path)
            while len(self._files) > self.max_files:
                self._files.popitem(last=False)
        return file.get(read, wanted)


class _File:
    """Responses of one file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._irfs: dict[tuple[str, ...], IRF | None] = {}

    def get(self, read: _Reader, wanted: Sequence[Wanted]) -> dict[str, IRF | None]:
        # What identifies a response is all of a location but the observation.
        keys = {name: (name, at.hdu_type, at.hdu_class, at.hdu_name) for name, at in wanted}
        with self._lock:
            missing = [(name, at) for name, at in wanted if keys[name] not in self._irfs]
            if missing:
                irfs = read(missing)
                self._irfs |= {keys[name]: irfs.get(name) for name, _ in missing}
            return {name: self._irfs[key] for name, key in keys.items()}
