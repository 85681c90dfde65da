"""Group gamma-ray observations by observing conditions and instrument response.

The names below are what a script needs; each is loaded when first used, since astropy takes its
time and not every command needs it.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from obscluster.moved import MovedModules
from obscluster.version import __version__ as __version__

if TYPE_CHECKING:
    from obscluster.archive.obs_table import ObservationTable
    from obscluster.archive.observation import Observation, Observations
    from obscluster.archive.store import DataStore
    from obscluster.features.scaling import scale_features, standard_scaler
    from obscluster.features.table import get_features, get_irfs_features
    from obscluster.grouping.base import Grouping
    from obscluster.grouping.cuts import (
        group_adaptive,
        group_by_category,
        group_by_cut,
        group_by_edges,
        group_by_livetime,
        group_by_quantiles,
        group_by_width,
    )
    from obscluster.grouping.hierarchical import group_hierarchical, hierarchical_clustering
    from obscluster.grouping.partition import group_hdbscan, group_kmeans, group_mixture
    from obscluster.plots.dendrogram import plot_dendrogram
    from obscluster.plots.quality import plot_quality
    from obscluster.plots.scatter import plot_conditions, plot_features
    from obscluster.reduction import fit_reduction, reduce_groups, to_gammapy
    from obscluster.workflow.assign import assign_observations
    from obscluster.workflow.group import group_runs

sys.meta_path.insert(0, MovedModules())

_HOMES = {
    "DataStore": "obscluster.archive.store",
    "Grouping": "obscluster.grouping.base",
    "Observation": "obscluster.archive.observation",
    "ObservationTable": "obscluster.archive.obs_table",
    "Observations": "obscluster.archive.observation",
    "assign_observations": "obscluster.workflow.assign",
    "fit_reduction": "obscluster.reduction",
    "get_features": "obscluster.features.table",
    "get_irfs_features": "obscluster.features.table",
    "group_adaptive": "obscluster.grouping.cuts",
    "group_by_category": "obscluster.grouping.cuts",
    "group_by_cut": "obscluster.grouping.cuts",
    "group_by_edges": "obscluster.grouping.cuts",
    "group_by_livetime": "obscluster.grouping.cuts",
    "group_by_quantiles": "obscluster.grouping.cuts",
    "group_by_width": "obscluster.grouping.cuts",
    "group_hdbscan": "obscluster.grouping.partition",
    "group_hierarchical": "obscluster.grouping.hierarchical",
    "group_kmeans": "obscluster.grouping.partition",
    "group_mixture": "obscluster.grouping.partition",
    "group_runs": "obscluster.workflow.group",
    "hierarchical_clustering": "obscluster.grouping.hierarchical",
    "plot_conditions": "obscluster.plots.scatter",
    "plot_dendrogram": "obscluster.plots.dendrogram",
    "plot_features": "obscluster.plots.scatter",
    "plot_quality": "obscluster.plots.quality",
    "reduce_groups": "obscluster.reduction",
    "scale_features": "obscluster.features.scaling",
    "standard_scaler": "obscluster.features.scaling",
    "to_gammapy": "obscluster.reduction",
}

__all__ = [
    "DataStore",
    "Grouping",
    "Observation",
    "ObservationTable",
    "Observations",
    "assign_observations",
    "fit_reduction",
    "get_features",
    "get_irfs_features",
    "group_adaptive",
    "group_by_category",
    "group_by_cut",
    "group_by_edges",
    "group_by_livetime",
    "group_by_quantiles",
    "group_by_width",
    "group_hdbscan",
    "group_hierarchical",
    "group_kmeans",
    "group_mixture",
    "group_runs",
    "hierarchical_clustering",
    "plot_conditions",
    "plot_dendrogram",
    "plot_features",
    "plot_quality",
    "reduce_groups",
    "scale_features",
    "standard_scaler",
    "to_gammapy",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'obscluster' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
