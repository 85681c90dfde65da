"""All features by name: those that come with the package, columns of the obs-index, and one's own.

A name may carry an energy: ``psf-r68@1TeV``.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Table

from obscluster.archive.quantities import is_known_name, unit_of_quantity
from obscluster.exceptions import RequestError, unknown_name
from obscluster.features import area, conditions, edisp, psf
from obscluster.features.base import Feature, Run
from obscluster.gadf.keywords import NUMBERS
from obscluster.values.columns import CYCLIC_COLUMNS

__all__ = ["FEATURES", "Request", "is_column", "load_features", "parse_energies", "parse_requests"]

FEATURES = {
    feature.name: feature
    for module in (edisp, psf, area, conditions)
    for feature in module.FEATURES
}
"""Name of a feature to its definition."""


@dataclass(frozen=True)
class Request:
    """One column of a feature table.

    Parameters
    ----------
    column : str
        Its name.
    feature : `~obscluster.features.base.Feature`
        What to compute.
    energy : float or None
        In TeV, if it depends on one.
    energy_text : str
        The energy as the user gave it.
    """

    column: str
    feature: Feature
    energy: float | None = None
    energy_text: str = ""


def parse_energies(energy: Any) -> u.Quantity:
    """Energies from a quantity, a text such as "1 TeV", or a list of either.

    Returns
    -------
    energies : `~astropy.units.Quantity`
        Shape (n_energies,), in the unit given first.

    Raises
    ------
    RequestError
        If there is no energy unit, no value, or one that is not positive.
    """
    try:
        parts = [u.Quantity(e) for e in energy] if isinstance(energy, list | tuple) else energy
        energies: u.Quantity = np.atleast_1d(u.Quantity(parts))
    except (TypeError, ValueError, u.UnitsError):
        raise RequestError(f"energy {energy!r}: not an energy; write it like '1 TeV'") from None
    if energies.ndim != 1 or energies.size == 0 or not (energies.value > 0).all():
        raise RequestError(f"energy {energy}: expected positive values")
    if not energies.unit.is_equivalent(u.TeV):
        unit = f"is in {energies.unit}" if energies.unit != u.one else "has no unit"
        raise RequestError(f"energy {energy} {unit}; write it like '{energies[0].value:g} TeV'")
    return energies


def parse_requests(
    names: str | Feature | Iterable[str | Feature],
    energies: u.Quantity | None,
    table: Table | None = None,
    own: Mapping[str, Feature] | None = None,
) -> tuple[Request, ...]:
    """Columns of a feature table from names.

    Parameters
    ----------
    names : str, Feature, or an iterable of them
        Features; a name may carry an energy, ``psf-r68@1TeV``.
    energies : `~astropy.units.Quantity` or None
        Energies of those that depend on one and do not carry it. With several, each makes a column
        of its own.
    table : `~astropy.table.Table`, optional
        Observation table, whose numeric columns are features too, as are keywords of its headers.
    own : mapping, optional
        More features by name.

    Raises
    ------
    RequestError
        If a name is not known or given twice, or an energy is missing, superfluous or not usable.
    """
    known = FEATURES | dict(own or {})
    several = energies is not None and len(energies) > 1
    requests: list[Request] = []
    for name in [names] if isinstance(names, str | Feature) else names:
        if not isinstance(name, str | Feature):
            raise RequestError(f"feature {name!r}: expected a name or a Feature")
        word, at, text = (name, "", "") if isinstance(name, Feature) else name.partition("@")
        feature = word if isinstance(word, Feature) else _find(word, known, table)
        if at and not feature.per_energy:
            raise RequestError(f"{name}: {feature.name} does not depend on an energy; leave it out")
        if not feature.per_energy:
            requests.append(Request(feature.name, feature))
            continue
        if not at and energies is None:
            example = f"{feature.name}@1TeV"
            raise RequestError(f"{feature.name} needs an energy: give one, or write {example}")
        wanted: u.Quantity = parse_energies(text) if at else energies
        for energy in wanted:
            label = f"{energy.value:.10g} {energy.unit}"
            column = f"{feature.name}@{label.replace(' ', '')}" if at or several else feature.name
            requests.append(Request(column, feature, float(energy.to_value(u.TeV)), label))
    columns = [request.column for request in requests]
    if len(set(columns)) != len(columns) or not columns:
        raise RequestError(f"features {', '.join(columns) or '(none)'}: name each one once")
    return tuple(requests)


def _find(name: str, known: Mapping[str, Feature], table: Table | None) -> Feature:
    if name in known:
        return known[name]
    numeric = [] if table is None else [c for c in table.colnames if _is_numeric(table, c)]
    if name in NUMBERS or name in numeric:
        return _quantity_feature(name, table)
    if table is not None and name in table.colnames and name != "OBS_ID":
        raise RequestError(f"column {name} holds no numbers, so it cannot be a feature")
    if table is not None and name != "OBS_ID" and is_known_name(table, name):
        return _quantity_feature(name, table)
    raise RequestError(unknown_name("feature", name, [*known, *numeric, *NUMBERS]))


def _is_numeric(table: Table, name: str) -> bool:
    return name != "OBS_ID" and table[name].ndim == 1 and table[name].dtype.kind in "fiub"


def _quantity_feature(name: str, table: Table | None) -> Feature:
    """A quantity by its GADF name, or a column of the obs-index, as a feature."""
    number = NUMBERS.get(name)
    if number is not None:
        unit, description = number.unit or u.one, number.description
    elif table is not None and name in table.colnames:
        unit, description = unit_of_quantity(table, name), table[name].description
    else:
        unit, description = u.one, None
    cyclic = name in CYCLIC_COLUMNS and unit.is_equivalent(u.deg)
    period = float((360 * u.deg).to_value(unit)) if cyclic else None
    text = description or f"{name} of the obs-index"
    return Feature(name, unit, text, _FromIndex(name), period=period, at_offset=True)


def is_column(feature: Feature) -> bool:
    """Whether a feature is a quantity of the run by its GADF name, or a column of the obs-index."""
    return isinstance(feature.function, _FromIndex)


@dataclass(frozen=True)
class _FromIndex:
    """Takes the value of a quantity."""

    name: str

    def __call__(self, run: Run) -> float:
        return run.value(self.name)


def load_features(paths: Sequence[Path]) -> dict[str, Feature]:
    """Features that Python files define, by name.

    Parameters
    ----------
    paths : sequence of path
        Files; every `~obscluster.features.base.Feature` at their top level counts.

    Raises
    ------
    RequestError
        If a file is missing, cannot be run, or defines none, or a name is taken.
    """
    found: dict[str, Feature] = {}
    for path in paths:
        if not path.is_file():
            raise RequestError(f"feature file {path}: no such file")
        for feature in _features_in(path):
            if feature.name in FEATURES or feature.name in found:
                raise RequestError(f"feature file {path}: the name {feature.name!r} is taken")
            found[feature.name] = feature
    return found


def _features_in(path: Path) -> list[Feature]:
    spec = importlib.util.spec_from_file_location(f"obscluster_features_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RequestError(f"feature file {path}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Workers on other machines do not have the file, see obscluster.parallel.engine.
    vars(module)["__pickle_by_value__"] = True
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001 it is the user's code, and anything can go wrong
        text = f"{type(error).__name__}: {error}"
        raise RequestError(f"feature file {path}: cannot be run ({text})") from None
    features = [value for value in vars(module).values() if isinstance(value, Feature)]
    own = [feature for feature in features if FEATURES.get(feature.name) is not feature]
    if not own:
        raise RequestError(f"feature file {path}: defines no feature; see obscluster.features.base")
    return own
