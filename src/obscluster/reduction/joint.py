"""Several reductions, and flux points of others, as one set of datasets to fit."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.datasets import Datasets, FluxPointsDataset
from gammapy.estimators import FluxPoints
from gammapy.modeling.models import FoVBackgroundModel

from obscluster.config.reduction import FitConfig, make_reduce_config
from obscluster.exceptions import RequestError
from obscluster.reduction.examination import Examination, examine, light_curve, optional
from obscluster.reduction.fit import JointFit, fit_datasets, instruments_of, set_range
from obscluster.reduction.geometry import is_map, is_points
from obscluster.reduction.messages import captured
from obscluster.reduction.models import SOURCE_NAME, source_of
from obscluster.reduction.result import RUNS_FILE, Reduction
from obscluster.reduction.stack import fitted_deviation

__all__ = ["Joint", "join_reductions"]

# Further apart, two reductions do not look at the same source.
_SAME_PLACE = 0.1 * u.deg


@dataclass(frozen=True, eq=False)
class Joint:
    """Datasets of one or several reductions, to be fitted together.

    Parameters
    ----------
    reductions : mapping
        Label, the beginning of the names of its datasets if there are several, to each reduction.
    config : `~obscluster.config.reduction.FitConfig`
        What is fitted.
    datasets : `gammapy.datasets.Datasets`
        The datasets of all, each in the energies that its own description asks for.
    n_runs : mapping
        Name of each dataset to its number of runs.
    """

    reductions: Mapping[str, Reduction]
    config: FitConfig
    datasets: Datasets
    n_runs: Mapping[str, int]

    @property
    def first(self) -> Reduction:
        """The reduction that is named first."""
        return next(iter(self.reductions.values()))

    @property
    def position(self) -> SkyCoord:
        """The target."""
        return self.first.position

    @property
    def radius(self) -> u.Quantity:
        """What is counted around the target on maps, for residuals and variability."""
        return u.Quantity(make_reduce_config(self.first.record["config"]).region.radius)

    @property
    def workers(self) -> int:
        """Number of processes."""
        return make_reduce_config(self.first.record["config"]).workers

    @property
    def instruments(self) -> dict[str, str]:
        """Name of each dataset to its telescope; flux points are an instrument of their own."""
        counted = [dataset for dataset in self.datasets if not is_points(dataset)]
        points = {d.name: d.name for d in self.datasets if is_points(d)}
        return instruments_of(Datasets(counted)) | points

    @property
    def twice(self) -> int:
        """Number of runs of one archive that are in several reductions."""
        found = Counter(
            (str(reduction.archive), obs_id)
            for reduction in self.reductions.values()
            for group in reduction.groups.values()
            for obs_id in group["obs_ids"]
        )
        return sum(number > 1 for number in found.values())

    def fit(self) -> JointFit:
        """The joint fit."""
        return fit_datasets(self.datasets, self.config, self.position, self.instruments)

    def examine(self, fit: JointFit) -> Examination:
        """What is to be said of a fit, with the light curve."""
        found = replace(examine(fit, self.position, self.instruments), twice=self.twice)
        left_out = dict(found.left_out)
        with optional("deviation of the stacks", left_out):
            found = replace(found, deviations=self._deviations(found.fit))
        if fit.config.light_curve == "none":
            return replace(found, left_out=left_out)
        with optional("light curve", left_out):
            missing = [
                r for r in self.reductions.values() if not (r.directory / RUNS_FILE).exists()
            ]
            if missing:
                n_runs = sum(len(group["obs_ids"]) for group in missing[0].groups.values())
                left_out["light curve"] = (
                    f"{missing[0].directory} has no datasets of its {n_runs} runs; `obscluster "
                    "reduce GROUPS --keep-runs ...` makes them, then `obscluster fit "
                    f"{missing[0].directory} --light-curve {fit.config.light_curve}` the curve"
                )
            else:
                runs, groups = [], {}
                several = len(self.reductions) > 1
                with captured():
                    for label, reduction in self.reductions.items():
                        of = {
                            f"run_{i}": n for n, g in reduction.groups.items() for i in g["obs_ids"]
                        }
                        low, high = _range(reduction, self.config, several)
                        for run in reduction.read_runs():
                            copy = _renamed(run, _name(label, run.name, several))
                            set_range(copy, low, high)
                            runs.append(copy)
                            groups[copy.name] = _name(label, of[run.name], several)
                    table, tests = light_curve(
                        Datasets(runs),
                        found.fit,
                        groups,
                        self.position,
                        self.radius,
                        found.fit.config.light_curve,
                        self.workers,
                    )
                found = replace(found, light_curve=table, variability=tests)
        return replace(found, left_out=left_out)

    def _deviations(self, fit: JointFit) -> dict[str, Any]:
        """How far the groups whose runs are there predict other than these, with the fitted source;
        by name of the dataset."""
        found = {}
        with captured():
            for label, reduction in self.reductions.items():
                if not (reduction.directory / RUNS_FILE).exists():
                    continue
                groups, runs = reduction.read(), reduction.read_runs()
                for group in groups:
                    name = _name(label, group.name, len(self.reductions) > 1)
                    source = source_of(fit.models, name).copy(name=SOURCE_NAME)
                    source.datasets_names = None
                    if not is_map(group):
                        source.spatial_model = None
                    members = [runs[f"run_{i}"] for i in reduction.groups[group.name]["obs_ids"]]
                    found[name] = fitted_deviation(group, members, source)
        return found


def _name(label: str, name: str, several: bool) -> str:
    return f"{label}-{name}" if several else name


def _range(reduction: Reduction, config: FitConfig, several: bool) -> tuple[str | None, str | None]:
    """Energies of the fit: as asked for all, else as each reduction's own description says."""
    if not several or config.min is not None or config.max is not None:
        return config.min, config.max
    own = make_reduce_config(reduction.record["config"]).fit
    return own.min, own.max


def _renamed(dataset: Any, name: str) -> Any:
    """Copy of a dataset with the model of its own background."""
    copy = dataset.copy(name=name)
    model = getattr(dataset, "background_model", None)
    if model is not None:
        spectral = model.spectral_model.copy()
        copy.models = [FoVBackgroundModel(spectral_model=spectral, dataset_name=name)]
    return copy


def join_reductions(
    reductions: Reduction | Sequence[Reduction],
    config: FitConfig | None = None,
    flux_points: Sequence[str | os.PathLike[str]] = (),
) -> Joint:
    """Put the datasets of reductions together.

    Parameters
    ----------
    reductions : `~obscluster.reduction.result.Reduction` or sequence of them
        The reductions, also of different archives, instruments and kinds.
    config : `~obscluster.config.reduction.FitConfig`, optional
        What to fit; as the description of the first says unless told. Without ``min`` and ``max``,
        each of several is fitted in the energies of its own description.
    flux_points : sequence of path
        Flux points of others, FITS or ECSV in the format of GADF, which are fitted, too.

    Raises
    ------
    RequestError
        If the targets are not the same, or a file of flux points cannot be read.
    """
    found = [reductions] if isinstance(reductions, Reduction) else list(reductions)
    if not found:
        raise RequestError("there is nothing to fit; name what `obscluster reduce` has written")
    several = len(found) > 1
    for other in found[1:]:
        apart = other.position.separation(found[0].position)
        if apart > _SAME_PLACE:
            raise RequestError(
                f"{other.directory}: its target is {apart.deg:.3g} deg from that of "
                f"{found[0].directory}; one source is fitted to all, so reduce both with one target"
            )
    if config is None:
        config = make_reduce_config(found[0].record["config"]).fit
        if several:
            config = config.model_copy(update={"min": None, "max": None})
    labelled = dict(zip(_labels([r.directory for r in found]), found, strict=True))
    datasets: list[Any] = []
    n_runs = {}
    for label, reduction in labelled.items():
        low, high = _range(reduction, config, several)
        for dataset in reduction.read():
            copy = dataset
            if several:
                with captured():
                    copy = _renamed(dataset, _name(label, dataset.name, several))
                    set_range(copy, low, high)
            datasets.append(copy)
            n_runs[copy.name] = len(reduction.groups[dataset.name]["obs_ids"])
    for path in map(Path, flux_points):
        datasets.append(_read_points(path, {dataset.name for dataset in datasets}))
    return Joint(labelled, config, Datasets(datasets), n_runs)


def _labels(directories: Sequence[Path]) -> list[str]:
    """Short names of directories, from their ends."""
    parts = [directory.absolute().parts[1:] for directory in directories]
    for n in range(1, max(map(len, parts)) + 1):
        labels = ["-".join(p[-n:]) for p in parts]
        if len(set(labels)) == len(labels):
            return labels
    raise RequestError(f"{directories[0]} is named twice; each reduction counts once")


def _read_points(path: Path, names: set[str]) -> FluxPointsDataset:
    """Flux points as a dataset.

    Raises
    ------
    RequestError
        If they cannot be read, or have no errors.
    """
    name = path.name.partition(".")[0]
    if name in names:
        name = f"points-{name}"
    try:
        with captured():
            form = {"format": "ascii.ecsv"} if path.suffix in (".ecsv", ".txt") else {}
            table = Table.read(path, **form)
            points = FluxPoints.from_table(table, format="gadf-sed")
            dataset = FluxPointsDataset(data=points, name=name)
            usable = bool((dataset.mask_safe & (points.dnde_err.data > 0)).any())
    except Exception as error:  # noqa: BLE001 a file can be anything
        raise RequestError(
            f"flux points {path}: {type(error).__name__}: {error}; expected FITS or ECSV in the "
            "format of GADF, with e_ref, dnde and dnde_err (or e_min, e_max, flux, flux_err)"
        ) from None
    if not usable:
        raise RequestError(f"flux points {path}: no point has a value and an error")
    return dataset
