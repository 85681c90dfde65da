"""Names under which modules stood before: importing one warns and gives what it is now."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["MOVED", "MovedModules"]

MOVED = {
    "assess": "workflow.assess",
    "assign": "workflow.assign",
    "cache": "features.cache",
    "characterise": "workflow.runs",
    "curves": "features.curves",
    "engine": "parallel.engine",
    "features.information": "information",
    "features.information.loss": "information.loss",
    "features.information.scores": "information.scores",
    "features.information.source": "information.source",
    "grouping.information": "information",
    "grouping.methods": "grouping.method",
    "grouping.toolbox": "workflow.group",
    "info": "workflow.info",
    "init": "workflow.init",
    "obs_table": "archive.obs_table",
    "observation": "archive.observation",
    "observations": "archive.observation",
    "pipeline": "workflow.group",
    "present": "workflow.report",
    "reduction.config": "config.reduction",
    "report.dendrogram": "plots.dendrogram",
    "report.frontier": "plots.quality",
    "report.plots": "plots.scatter",
    "report.quality": "plots.quality",
    "report.reduction": "plots.spectra",
    "report.style": "plots.style",
    "results": "grouping.results",
    "run": "workflow.run",
    "scaling": "features.scaling",
    "selection": "archive.selection",
    "stacking": "workflow.frontier",
    "store": "archive.store",
    "summary": "views.text",
    "target": "archive.selection",
    "tolerance": "values.tolerance",
}


class MovedModules(MetaPathFinder, Loader):
    """Finds modules by their former names; goes before others that would find it again."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Spec of a module that has moved, None of any other."""
        del path, target
        if fullname.removeprefix("obscluster.") not in MOVED:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> None:
        """An empty module, whose place `exec_module` gives away."""
        del spec

    def exec_module(self, module: ModuleType) -> None:
        """Put the module that it is now in its place."""
        former = module.__name__
        now = f"obscluster.{MOVED[former.removeprefix('obscluster.')]}"
        warnings.warn(f"{former} is now {now}", DeprecationWarning, stacklevel=2)
        sys.modules[former] = import_module(now)
