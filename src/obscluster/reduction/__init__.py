"""Groups as datasets, and their joint fit, with Gammapy as the engine.

- `obscluster.config.reduction`: what to do, from ``reduce.yaml``.
- `archive`: Gammapy's observations of each group.
- `makers`: one run to a dataset, in one and three dimensions, and what of it is used.
- `groups`: every group to a stacked dataset, written and resumed.
- `result`: what was written, read back.
- `fit`: the joint fit; `joint`: of several reductions, with flux points of others.
- `examination`: what a referee asks of it, with light curves; `goodness`: whether the model fits.
- `fit_files`: what is written of it.
- `comparison`: the same fit with runs apart, in groups, and all stacked.

Gammapy is an extra. What needs it is loaded when it is asked for, so that the description of a
reduction can be checked without.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from obscluster.config.reduction import ReduceConfig, make_reduce_config, read_reduce_config
from obscluster.exceptions import RequestError

# Public name to the module that holds it, which needs Gammapy.
_HOMES = {
    "Reduction": "result",
    "compare_groupings": "comparison",
    "examine": "examination",
    "fit_datasets": "fit",
    "fit_reduction": "fit",
    "join_reductions": "joint",
    "read_reduction": "result",
    "reduce_groups": "groups",
    "to_gammapy": "archive",
    "write_comparison": "comparison",
    "write_fit": "fit_files",
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
    require_gammapy()
    return getattr(import_module(f"obscluster.reduction.{_HOMES[name]}"), name)
