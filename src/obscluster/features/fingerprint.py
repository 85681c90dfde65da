"""What the value of a feature depends on beside the run: the code that computes it.

Of the features of this package that is a sum over the sources of everything between the bytes of a
file and the value, and the versions of the libraries that do the arithmetic. A version number that
somebody has to raise would be forgotten one day, and stale values are worse than computing once
more after an upgrade.

Of one's own features it is the file that they come from, what of it is in memory, and the modules
of one's own that it imports. A feature whose code cannot be told for sure, such as one that is
written in a notebook or that remembers variables around it, is computed every time. So is one whose
function is not a plain one. What nobody can see is a file that a feature reads by itself, or a
library of somebody else that it calls: delete the cache when these change.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import astropy
import numpy as np
import scipy

import obscluster
from obscluster.features.base import Feature
from obscluster.features.catalog import Request, is_column

__all__ = ["digest", "package_fingerprint", "request_fingerprint"]

_SOURCES = ("features/*.py", "gadf/*.py", "archive/*.py", "observation.py", "columns.py")
_LIBRARIES = (astropy, np, scipy)


def digest(*parts: Any, size: int = 16) -> str:
    """Sum over the text of some values, as hexadecimal digits."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=size).hexdigest()


def package_fingerprint() -> str:
    """What all features of this package depend on."""
    root = Path(obscluster.__file__).parent
    sources = [path for pattern in _SOURCES for path in sorted(root.glob(pattern))]
    contents = [(path.name, path.read_bytes()) for path in sources]
    versions = [(library.__name__, library.__version__) for library in _LIBRARIES]
    return digest(obscluster.__version__, versions, contents)


def request_fingerprint(request: Request) -> str | None:
    """What a column of a feature table is, beside where it is evaluated.

    Parameters
    ----------
    request : `~obscluster.features.catalog.Request`
        Feature and energy.

    Returns
    -------
    fingerprint : str or None
        None if it cannot be told.
    """
    feature = request.feature
    source = _source(feature)
    if source is None:
        return None
    energy = None if request.energy is None else request.energy.hex()
    unit = feature.unit.to_string()
    return digest(feature.name, unit, feature.needs, feature.per_energy, energy, source)


def _source(feature: Feature) -> str | None:
    """What a feature computes."""
    if is_column(feature):
        return "column of the obs-index"
    function = feature.function
    if not isinstance(function, FunctionType) or function.__closure__ is not None:
        return None
    module = sys.modules.get(function.__module__)
    if module is None or module.__name__ == "__main__":
        return None
    name = f"{module.__name__}.{function.__qualname__}"
    if module.__name__.startswith("obscluster."):
        return name
    contents = [path.read_bytes() for path in sorted(_own_files(module))]
    code = [_code(value) for value in _functions(module)]
    return digest(name, _code(function), code, contents) if contents else None


def _own_files(module: ModuleType) -> set[Path]:
    """File of a module, and of those that it imports, without what is installed."""
    installed = [Path(path) for path in set(sysconfig.get_paths().values())]
    installed.append(Path(obscluster.__file__).parent)
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        here = waiting.pop()
        path = Path(getattr(here, "__file__", None) or "")
        if here.__name__ in found or not path.is_file():
            continue
        if any(path.is_relative_to(place) for place in installed):
            continue
        found[here.__name__] = path
        for value in list(vars(here).values()):
            name = getattr(value, "__module__", None)
            of = value if isinstance(value, ModuleType) else sys.modules.get(str(name))
            waiting += [of] if of is not None else []
    return set(found.values())


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """Functions of a module as they are in memory, which may be older than its file."""
    for value in vars(module).values():
        function = value.function if isinstance(value, Feature) else value
        if isinstance(function, FunctionType) and function.__module__ == module.__name__:
            yield function


def _code(function: FunctionType) -> tuple[Any, ...]:
    return (function.__qualname__, repr(function.__defaults__), _code_of(function.__code__))


def _code_of(code: CodeType) -> tuple[Any, ...]:
    constants = [
        # The order of a set is another one in every process.
        _code_of(value)
        if isinstance(value, CodeType)
        else sorted(map(repr, value))
        if isinstance(value, frozenset)
        else repr(value)
        for value in code.co_consts
    ]
    return code.co_code.hex(), code.co_names, constants
