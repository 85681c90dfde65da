"""A description that can be met, as far as one can say before the work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from obscluster.characterise import Selected
from obscluster.config import RunConfig, make_config, read_description
from obscluster.exceptions import RequestError
from obscluster.features.catalog import FEATURES, load_features, parse_energies, parse_requests
from obscluster.files.yaml import Document
from obscluster.reduction import make_reduce_config, require_gammapy
from obscluster.reduction.config import ReduceConfig
from obscluster.tolerance import parse_tolerance

__all__ = ["Plan", "check_names", "missing_for_report", "read_plan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """A description that can be met, as far as one can say before the work.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        What is asked.
    reduction : `~obscluster.reduction.config.ReduceConfig` or None
        Its part ``reduce``.
    document : `~obscluster.files.yaml.Document`
        Where it stands.
    """

    config: RunConfig
    reduction: ReduceConfig | None
    document: Document


def read_plan(path: Path, settings: Iterable[str] = ()) -> Plan:
    """Read a description, and check all that can be checked without the archive.

    Parameters
    ----------
    path : `~pathlib.Path`
        YAML file, also the groups.yaml of results.
    settings : iterable of str
        What replaces values of the file, such as ``grouping.n_groups=3``.

    Raises
    ------
    ArchiveError
        If the file cannot be read, or is not YAML.
    RequestError
        If a key is unknown, a value is not usable, or what it needs is not installed.
    """
    document = read_description(path, settings)
    config = make_config(document.content, document)
    _check_tolerances(config, document)
    reduction = None
    if config.reduce is not None:
        reduction = make_reduce_config(config.reduce, document, ("reduce",))
        require_gammapy()
        if reduction.target is None and config.target is None:
            where = document.origin(("reduce",))
            raise RequestError(f"{where}: reduce: needs a target, where the source is")
    if config.report and missing_for_report():
        raise RequestError(f"{document.origin(('report',))}: report: {missing_for_report()}")
    return Plan(config, reduction, document)


def missing_for_report() -> str:
    """What is to be installed for a report; empty if all is there."""
    missing = [name for name in ("bokeh", "jinja2") if not _is_installed(name)]
    if not missing:
        return ""
    return (
        f"a report needs {' and '.join(missing)}, which is not installed; "
        'get it by: pip install "obscluster[report]"'
    )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:
        # What is in `sys.modules` without being a proper module.
        return False


def check_names(plan: Plan, selected: Selected) -> None:
    """Check that the features are known, now that one knows the columns of the archive.

    Raises
    ------
    RequestError
        If one is not; the message names its place in the description.
    """
    asked = plan.config.features
    if plan.config.grouping.method in ("cuts", "spread"):
        # They name what they need themselves.
        return
    own = load_features([Path(name) for name in asked.files])
    energies = parse_energies(list(asked.energy)) if asked.energy else None
    for place, name in enumerate(asked.names or ()):
        try:
            parse_requests(name, energies, selected.obs_table, own)
        except RequestError as error:
            raise _at(plan.document, ("features", "names", place), str(error)) from None


def _check_tolerances(config: RunConfig, document: Document) -> None:
    """Check the units of tolerances on features whose unit is known."""
    asked = {
        ("scaling", "tolerances"): config.scaling.tolerances,
        ("constraints", "max_spread"): config.constraints.max_spread,
    }
    for path, tolerances in asked.items():
        for name, value in tolerances.items():
            feature = FEATURES.get(name.partition("@")[0])
            if feature is None:
                continue
            try:
                parse_tolerance(value, feature.unit, name)
            except RequestError as error:
                raise _at(document, (*path, name), str(error)) from None


def _at(document: Document, path: tuple[str | int, ...], text: str) -> RequestError:
    where = ".".join(str(part) for part in path)
    return RequestError(": ".join(filter(None, [document.origin(path), where, text])))
