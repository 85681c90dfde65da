"""The description of a run: what to read, select, compute and group.

Quantities are texts with a unit, such as ``"2 deg"``.

- `values`: fractions, quantities and the like, checked when they are read.
- `parts`: features, scaling, constraints, source and counts.
- `grouping`: a model for each method.
- `selection`: steps of a selection.
- `run`: the whole.
"""

from __future__ import annotations

from obscluster.archive.description import ArchiveConfig, relocated
from obscluster.config.run import (
    DEFAULT_FEATURES,
    METHODS,
    AssessConfig,
    CountsConfig,
    FeaturesConfig,
    GroupingConfig,
    ReportConfig,
    RunConfig,
    SourceConfig,
    make_config,
    read_config,
    read_description,
)
from obscluster.grouping.cuts import CutConfig, CutsConfig
from obscluster.grouping.hierarchical import HierarchicalConfig
from obscluster.grouping.labels import LabelsConfig
from obscluster.grouping.method import ConstraintsConfig, MethodConfig, ScalingConfig
from obscluster.grouping.partition import HDBSCANConfig, KMeansConfig, MixtureConfig
from obscluster.grouping.spread import SpreadConfig
from obscluster.information.cluster import InformationConfig

__all__ = [
    "DEFAULT_FEATURES",
    "METHODS",
    "ArchiveConfig",
    "AssessConfig",
    "ConstraintsConfig",
    "CountsConfig",
    "CutConfig",
    "CutsConfig",
    "FeaturesConfig",
    "GroupingConfig",
    "HDBSCANConfig",
    "HierarchicalConfig",
    "InformationConfig",
    "KMeansConfig",
    "LabelsConfig",
    "MethodConfig",
    "MixtureConfig",
    "ReportConfig",
    "RunConfig",
    "ScalingConfig",
    "SourceConfig",
    "SpreadConfig",
    "make_config",
    "read_config",
    "read_description",
    "relocated",
]
