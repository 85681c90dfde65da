"""Runs of a group, stacked one by one, so that the stack predicts what its runs predict.

Gammapy weights the energy dispersion of a run with its exposure before it corrects that for the
containment of the PSF, and on maps it interpolates the safe mask, by which the dispersion is cut,
between energies. A stack of runs whose PSFs or thresholds differ then predicts other counts than
they do. Here the weights are the exposure that is stacked, and the mask is as it is; docs/stacks.md
derives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any

import numpy as np
from astropy import units as u
from gammapy.datasets import MapDataset, SpectrumDatasetOnOff
from gammapy.irf import EDispKernelMap
from gammapy.maps import Map
from gammapy.modeling.models import Models, PowerLawSpectralModel, SkyModel
from numpy.typing import NDArray

from obscluster.config.reduction import FitConfig
from obscluster.reduction.geometry import empty_map_dataset, is_spectrum
from obscluster.reduction.makers import Plan
from obscluster.reduction.models import source_model

__all__ = [
    "GroupStack",
    "describe_deviation",
    "deviations",
    "fitted_deviation",
    "predictions",
    "with_exact_dispersion",
]

# Spectra on which a stack is tested, beside the one that is to be fitted.
_INDICES = (2.0, 4.0)
# Part of the predicted counts that is too small to look at, which rounding may change.
_NOTHING = 1e-9
# Single precision, in which stacks are written.
_EXACT = 1e-4


def with_exact_dispersion(dataset: MapDataset) -> MapDataset:
    """A run with the energy dispersion with which Gammapy's stacks are exact.

    Parameters
    ----------
    dataset : `gammapy.datasets.MapDataset` or `gammapy.datasets.SpectrumDataset`
        The run, which stays as it is.

    Returns
    -------
    exact : same as dataset
        For stacking only. In a region, the dispersion has the exposure of the dataset for its
        weight. On maps, it is zero outside of the safe mask, at the nearest pixel.
    """
    if not isinstance(dataset.edisp, EDispKernelMap):
        return dataset
    kernels, weights = dataset.edisp.edisp_map, dataset.edisp.exposure_map.copy()
    if is_spectrum(dataset):
        weights.quantity = dataset.exposure.quantity.reshape(weights.data.shape)
    else:
        image = dataset.mask_safe.geom.to_image()
        x, y = image.coord_to_idx(kernels.geom.to_image().get_coord(), clip=True)
        used = dataset.mask_safe.data[:, y, x]
        kernels = Map.from_geom(kernels.geom, data=kernels.data * used, unit=kernels.unit)
    exact = copy(dataset)
    exact.edisp = EDispKernelMap(kernels, weights)
    return exact


def predictions(dataset: MapDataset, models: list[SkyModel]) -> list[Map]:
    """Signal that models predict in a dataset, zero outside the safe mask.

    Parameters
    ----------
    dataset : `gammapy.datasets.MapDataset`
        The dataset, whose models are as before afterwards.
    models : list of `gammapy.modeling.models.SkyModel`
        The models, of which each is taken alone.

    Returns
    -------
    npred : list of `gammapy.maps.Map`
        One for each, on the geometry of the counts.
    """
    before, found = dataset.models, []
    for model in models:
        dataset.models = Models([model])
        npred = dataset.npred_signal()
        npred.data = np.where(dataset.mask_safe.data, np.nan_to_num(npred.data), 0.0)
        found.append(npred)
    dataset.models = before
    return found


def deviations(
    stack: MapDataset, npred: list[Map], of_runs: list[Map], names: list[str]
) -> dict[str, dict[str, Any]]:
    """How far a stack is from predicting the sum of its runs.

    Parameters
    ----------
    stack : `gammapy.datasets.MapDataset`
        The stack.
    npred, of_runs : list of `gammapy.maps.Map`
        What models predict in it, and in its runs together.
    names : list of str
        Names of the models.

    Returns
    -------
    deviations : dict
        For each model ``largest``, the largest relative deviation of the counts of an energy, with
        its sign; ``at``, that energy; and ``sigma``, the square root of the sum of
        delta^2 / mu over bins, for a source that gives the excess of the stack: how many standard
        deviations the data could tell.
    """
    mask = stack.mask_safe.data
    centers = stack.counts.geom.axes["energy"].center
    if is_spectrum(stack):
        background, excess = stack.background.data, float(stack.excess.data[mask].sum())
    else:
        background = stack.npred_background().data
        excess = float((stack.counts.data - background)[mask].sum())
    found = {}
    for name, one, other in zip(names, npred, of_runs, strict=True):
        stacked, runs = one.data.astype(float), other.data.astype(float)
        total = runs.sum()
        # A stack without excess is judged by a source as faint as its background fluctuates.
        counts = max(excess, float(np.sqrt(np.nansum(background[mask]))), 1.0)
        scale = counts / total if total > 0 else 0.0
        mu = background + scale * runs
        delta = (scale * (stacked - runs))[mask & (mu > 0)]
        per_energy = [values.reshape(len(centers), -1).sum(axis=1) for values in (stacked, runs)]
        relative, at = _largest(*per_energy)
        found[name] = {
            "largest": float(f"{relative:.3g}"),
            "at": f"{centers[at].to_value('TeV'):.3g} TeV",
            "sigma": float(f"{np.sqrt((delta**2 / mu[mask & (mu > 0)]).sum()):.3g}"),
        }
    return found


def fitted_deviation(
    stack: MapDataset, runs: Iterable[MapDataset], model: SkyModel
) -> dict[str, Any]:
    """How far a stack is from predicting the sum of its runs for one model, see `deviations`.

    Parameters
    ----------
    stack : `gammapy.datasets.MapDataset`
        The stack.
    runs : iterable of `gammapy.datasets.MapDataset`
        Its runs.
    model : `gammapy.modeling.models.SkyModel`
        The model, such as one that was fitted.
    """
    total = _nothing(stack, 1)
    for run in runs:
        _add(total, predictions(run, [model]))
    return deviations(stack, predictions(stack, [model]), total, ["fitted"])["fitted"]


def _nothing(stack: MapDataset, n_maps: int) -> list[Map]:
    return [Map.from_geom(stack.counts.geom, dtype=float) for _ in range(n_maps)]


def _add(totals: list[Map], npred: list[Map]) -> None:
    for total, one in zip(totals, npred, strict=True):
        total.stack(one)


def describe_deviation(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What `deviations` found, in a line."""
    largest = max(found.values(), key=lambda one: abs(one["largest"]))
    sigma = max(one["sigma"] for one in found.values())
    if abs(largest["largest"]) < _EXACT and sigma < _EXACT:
        return "predicts what its runs predict"
    return (
        f"predicts {100 * largest['largest']:+.2g} % against the sum of its runs at "
        f"{largest['at']}, where it is farthest from it; {sigma:.2g} standard deviations over all "
        "bins"
    )


def _largest(stacked: NDArray[Any], runs: NDArray[Any]) -> tuple[float, int]:
    seen = runs > _NOTHING * runs.sum()
    relative = np.zeros(len(runs))
    relative[seen] = stacked[seen] / runs[seen] - 1
    at = int(np.argmax(np.abs(relative)))
    return float(relative[at]), at


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
        self._models = reference_models(plan)
        self._of_runs: list[Map] = []
        # Seconds for each energy of which runs are used.
        self._livetimes: Any = 0.0
        self._conditions: list[str] = []

    def add(self, dataset: MapDataset, conditions: Mapping[str, float]) -> str:
        """Stack a run.

        Parameters
        ----------
        dataset : `gammapy.datasets.MapDataset` or `gammapy.datasets.SpectrumDataset`
            The run.
        conditions : mapping of str to float
            Columns for the table of runs that Gammapy keeps with a dataset (``meta_table``).

        Returns
        -------
        reason : str
            Why it cannot be stacked, or an empty text.
        """
        livetime = dataset.exposure.meta["livetime"]
        self._conditions = list(conditions)
        for name, value in ({**conditions, "LIVETIME": livetime.to_value("s")}).items():
            dataset.meta_table[name] = [value]
        run = with_exact_dispersion(dataset) if self.plan.config.stack == "exact" else dataset
        try:
            if self.dataset is None:
                self.dataset = self._first(run)
            else:
                self.dataset.stack(run)
        except (ValueError, TypeError) as error:
            return f"cannot be stacked with the runs before it: {error}"
        self.obs_ids.append(int(dataset.name.removeprefix("run_")))
        self.livetime = self.livetime + livetime
        self._livetimes = self._livetimes + livetime.to_value("s") * _used(dataset)
        if not self._of_runs:
            self._of_runs = _nothing(self.dataset, len(self._models))
        _add(self._of_runs, predictions(dataset, list(self._models.values())))
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
        """What the stack holds, of which the times also go into its table of runs.

        Returns
        -------
        content : dict
            Within the safe range ``counts``, ``background``, and its lowest energy ``energy_min``;
            ``livetimes``, in hours, of those runs that are used at each energy (the column
            ``LIVETIME_ENERGY`` of the table, in seconds); the lowest and highest value of each
            condition; and ``deviation`` of its prediction from that of its runs, see `deviations`.
        """
        if self.dataset is None:
            return {}
        mask = self.dataset.mask_safe.data
        energies = self.dataset.counts.geom.axes["energy"].edges[:-1]
        used = _used(self.dataset)
        content: dict[str, Any] = {"counts": int(self.dataset.counts.data[mask].sum())}
        if isinstance(self.dataset, SpectrumDatasetOnOff):
            content["background"] = round(float(self.dataset.background.data[mask].sum()), 3)
        else:
            content["background"] = round(
                float(np.nansum(self.dataset.npred_background().data[mask])), 3
            )
        if used.any():
            content["energy_min"] = f"{energies[used].min().to_value('TeV'):.4g} TeV"
        table = self.dataset.meta_table
        table["LIVETIME_ENERGY"] = np.atleast_2d(self._livetimes)
        for name in self._conditions:
            values = np.asarray(table[name], dtype=float)
            if np.isfinite(values).any():
                limits = [float(np.nanmin(values)), float(np.nanmax(values))]
                content[name.lower()] = [float(f"{value:.6g}") for value in limits]
        content["livetimes"] = [round(float(value) / 3600, 4) for value in self._livetimes]
        npred = predictions(self.dataset, list(self._models.values()))
        content["deviation"] = deviations(self.dataset, npred, self._of_runs, list(self._models))
        return content


def reference_models(plan: Plan) -> dict[str, SkyModel]:
    """Sources at the target on which a stack is tested, by name."""
    fit = FitConfig(**{**plan.config.fit.model_dump(), "free_position": False})
    position = plan.position if plan.config.kind == "3d" else None
    described = source_model(fit, position)
    found: dict[str, SkyModel] = {fit.model: described}
    for index in _INDICES:
        spectrum = PowerLawSpectralModel(index=index, amplitude="1e-12 cm-2 s-1 TeV-1")
        found[f"index {index:g}"] = SkyModel(spectrum, described.spatial_model)
    return found


def _used(dataset: MapDataset) -> NDArray[np.bool_]:
    """Energies of which anything is used, shape (n_energies,)."""
    mask = dataset.mask_safe.data
    return np.asarray(mask.reshape(len(mask), -1).any(axis=1))
