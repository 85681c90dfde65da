"""Groups as datasets, and their joint fit, with Gammapy as the engine.

- `config`: what to do, from ``reduce.yaml``.
- `archive`: Gammapy's observations of each group.
- `makers`: one run to a dataset, in one and three dimensions; `mask`: what of it is used.
- `groups`: every group to a stacked dataset, written and resumed.
- `result`: what was written, read back.
- `fit`: the joint fit; `joint`: of several reductions, with flux points of others.
- `examination`: what a referee asks of it, by `goodness` and `light_curve`.
- `tables` and `fit_files`: what is written of it.
- `comparison`: the same fit with runs apart, in groups, and all stacked.

Gammapy is an extra. What needs it is loaded when it is asked for, so that the description of a
reduction can be checked without.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from obscluster.exceptions import RequestError

# Public name to the module that holds it, and whether that module needs Gammapy.
_HOMES = {
    "ReduceConfig": ("config", False),
    "Reduction": ("result", True),
    "compare_groupings": ("comparison", True),
    "examine": ("examination", True),
    "fit_datasets": ("fit", True),
    "fit_reduction": ("fit", True),
    "join_reductions": ("joint", True),
    "make_reduce_config": ("config", False),
    "read_reduce_config": ("config", False),
    "read_reduction": ("result", True),
    "reduce_groups": ("groups", True),
    "to_gammapy": ("archive", True),
    "write_comparison": ("comparison", True),
    "write_fit": ("fit_files", True),
}

__all__ = [
    "ReduceConfig",
    "Reduction",
    "compare_groupings",
    "examine",
    "fit_datasets",
    "fit_reduction",
    "join_reductions",
    "make_reduce_config",
    "read_reduce_config",
    "read_reduction",
    "reduce_groups",
    "require_gammapy",
    "to_gammapy",
    "write_comparison",
    "write_fit",
]


def require_gammapy() -> None:
    """Check that Gammapy is installed.

    Raises
    ------
    RequestError
        If it is not; the message says how to get it.
    """
    try:
        found = find_spec("gammapy") is not None
    except ValueError:
        # What is in `sys.modules` without being a proper module.
        found = False
    if not found:
        raise RequestError(
            "reduction and fits need Gammapy, which is not installed; "
            'get it by: pip install "obscluster[reduce]"'
        )


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'obscluster.reduction' has no attribute {name!r}")
    module, needs_gammapy = _HOMES[name]
    if needs_gammapy:
        require_gammapy()
    return getattr(import_module(f"obscluster.reduction.{module}"), name)
