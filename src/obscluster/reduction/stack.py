"""Runs of a group, stacked one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from gammapy.datasets import MapDataset, SpectrumDatasetOnOff

from obscluster.reduction.geometry import empty_map_dataset
from obscluster.reduction.makers import Plan

__all__ = ["GroupStack"]


class GroupStack:
    """The dataset of a group while its runs come in.

    Parameters
    ----------
    name : str
        Name of the dataset.
    plan : `~obscluster.reduction.makers.Plan`
        What is done.
    """

    def __init__(self, name: str, plan: Plan):
        self.name = name
        self.plan = plan
        self.dataset: Any = None
        self.obs_ids: list[int] = []
        self.livetime = 0 * u.s
        self.runs: list[MapDataset] = []

    def add(self, dataset: MapDataset) -> str:
        """Stack a run; the reason why it cannot be, or an empty text."""
        try:
            if self.dataset is None:
                self.dataset = self._first(dataset)
            else:
                self.dataset.stack(dataset)
        except (ValueError, TypeError) as error:
            return f"cannot be stacked with the runs before it: {error}"
        self.obs_ids.append(int(dataset.name.removeprefix("run_")))
        self.livetime = self.livetime + dataset.exposure.meta["livetime"]
        if self.plan.config.keep_runs:
            self.runs.append(dataset)
        return ""

    def _first(self, dataset: MapDataset) -> Any:
        if isinstance(dataset, SpectrumDatasetOnOff):
            return dataset.to_masked(name=self.name)
        whole = empty_map_dataset(self.plan.config, self.plan.position, self.name)
        whole.stack(dataset)
        return whole

    def summary(self) -> dict[str, Any]:
        """Counts within the safe range, and its lowest energy."""
        if self.dataset is None:
            return {}
        mask = self.dataset.mask_safe.data
        energies = self.dataset.counts.geom.axes["energy"].edges[:-1]
        used = mask.reshape(len(energies), -1).any(axis=1)
        content: dict[str, Any] = {"counts": int(self.dataset.counts.data[mask].sum())}
        if isinstance(self.dataset, SpectrumDatasetOnOff):
            content["background"] = round(float(self.dataset.background.data[mask].sum()), 3)
        else:
            content["background"] = round(
                float(np.nansum(self.dataset.npred_background().data[mask])), 3
            )
        if used.any():
            content["energy_min"] = f"{energies[used].min().to_value('TeV'):.4g} TeV"
        return content
