"""The description of a reduction and a fit: what goes into ``reduce.yaml``.

Quantities are texts with a unit, such as ``"0.11 deg"``. A file can also be that of a whole run,
with the reduction under the key ``reduce``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from astropy import units as u
from pydantic import (
    AfterValidator,
    Field,
    PositiveInt,
    model_validator,
)

from obscluster.description import Strict, validated
from obscluster.files.yaml import Document, read_document

__all__ = [
    "BackgroundConfig",
    "EnergyConfig",
    "ExclusionConfig",
    "FitConfig",
    "MapConfig",
    "ReduceConfig",
    "RegionConfig",
    "SafeMaskConfig",
    "make_reduce_config",
    "read_reduce_config",
]


def _quantity(unit: str, example: str) -> Callable[[str], str]:
    """Check of a text: a positive quantity of the right kind."""

    def check(text: str) -> str:
        try:
            value = float(u.Quantity(text).to_value(unit))
        except (TypeError, ValueError, u.UnitsError):
            value = -1.0
        if not 0 < value < float("inf"):
            raise ValueError(f"{text!r}; expected a positive value such as {example!r}")
        return text

    return check


Angle = Annotated[str, AfterValidator(_quantity("deg", "0.11 deg"))]
Energy = Annotated[str, AfterValidator(_quantity("TeV", "1 TeV"))]
SafeMethod = Literal["aeff-max", "aeff-default", "edisp-bias", "offset-max", "bkg-peak"]


class EnergyConfig(Strict):
    """An energy axis with logarithmic bins."""

    min: Energy = "0.1 TeV"
    max: Energy = "100 TeV"
    bins_per_decade: PositiveInt = 10

    @model_validator(mode="after")
    def _in_order(self) -> EnergyConfig:
        if u.Quantity(self.min) >= u.Quantity(self.max):
            raise ValueError(f"min {self.min} is not below max {self.max}")
        return self

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the axis in TeV."""
        return u.Quantity(self.min).to_value("TeV"), u.Quantity(self.max).to_value("TeV")


class RegionConfig(Strict):
    """Where the source is counted in 1D; point-like runs bring their own cut.

    ``shape`` is a region of DS9 such as ``icrs;ellipse(83.6, 22.0, 0.2, 0.1, 30)`` in place of the
    circle.
    """

    radius: Angle = "0.11 deg"
    shape: str | None = None
    containment_correction: bool = True

    @model_validator(mode="after")
    def _circle_is_corrected(self) -> RegionConfig:
        if self.shape is not None and self.containment_correction:
            raise ValueError(
                "the containment correction knows circles only; set containment_correction: false "
                "with a shape"
            )
        return self


class ExclusionConfig(Strict):
    """Where there may be gamma rays that the background must not see.

    ``regions`` are in the format of DS9, ``file`` is a region file or a FITS mask that is 0 (False)
    where it excludes. ``target`` is a circle around the target: 0.3 deg in 3D unless told, and
    none in 1D, where the background keeps clear of the source region anyway.
    """

    regions: tuple[str, ...] = ()
    file: str | None = None
    target: Angle | None = None


class SafeMaskConfig(Strict):
    """Which energies and offsets of a run are used, see Gammapy's ``SafeMaskMaker``.

    ``methods`` are ``aeff-max`` unless told, and in 3D ``offset-max`` too.
    """

    methods: tuple[SafeMethod, ...] | None = None
    aeff_percent: float = Field(default=10.0, ge=0, lt=100)
    bias_percent: float = Field(default=10.0, gt=0)
    offset_max: Angle = "2.5 deg"


class BackgroundConfig(Strict):
    """How the background is found.

    In 1D ``reflected`` regions, as many as fit or at most ``off_regions``; ``wobble`` regions,
    exactly ``off_regions`` in regular steps, for a cut that depends on energy; or a ``ring`` around
    the target with the acceptance of the background response. In 3D ``fov``, the background
    response with a normalisation per run. ``auto`` takes what fits: reflected, wobble or fov.
    """

    method: Literal["auto", "reflected", "wobble", "ring", "fov"] = "auto"
    off_regions: PositiveInt | None = None
    min_distance: Angle = "0.1 rad"
    ring_radius: Angle = "0.5 deg"
    ring_width: Angle = "0.2 deg"
    fov_method: Literal["scale", "fit"] = "scale"


class MapConfig(Strict):
    """Maps in 3D, around the target."""

    width: Angle = "4 deg"
    binsz: Angle = "0.02 deg"


class FitConfig(Strict):
    """What is fitted to the groups together.

    ``normalisation`` is one for all, or one of each group or instrument; ``parameters: per-group``
    frees the whole spectrum of each group. ``light_curve`` needs the datasets of the runs.
    """

    model: Literal["power-law", "cutoff-power-law", "log-parabola"] = "power-law"
    reference: Energy = "1 TeV"
    min: Energy | None = None
    max: Energy | None = None
    spatial: Literal["point", "gaussian"] = "point"
    free_position: bool = True
    normalisation: Literal["shared", "per-group", "per-instrument"] = "shared"
    parameters: Literal["shared", "per-group"] = "shared"
    flux_points_per_decade: int = Field(default=5, ge=0)
    light_curve: Literal["run", "night", "none"] = "night"
    random_state: int = Field(default=0, ge=0)


class ReduceConfig(Strict):
    """Everything that makes datasets of groups, and a fit of the datasets."""

    kind: Literal["1d", "3d"] = "1d"
    target: str | None = None
    frame: Literal["icrs", "galactic"] = "icrs"
    energy: EnergyConfig = EnergyConfig()
    energy_true: EnergyConfig | None = None
    region: RegionConfig = RegionConfig()
    map: MapConfig = MapConfig()
    exclusion: ExclusionConfig = ExclusionConfig()
    safe_mask: SafeMaskConfig = SafeMaskConfig()
    background: BackgroundConfig = BackgroundConfig()
    # None: as many as a light curve is made of.
    keep_runs: bool | None = None
    fit: FitConfig = FitConfig()
    workers: PositiveInt = 1

    @model_validator(mode="after")
    def _fits_together(self) -> ReduceConfig:
        one, three = ("auto", "reflected", "wobble", "ring"), ("auto", "fov")
        allowed = one if self.kind == "1d" else three
        if self.background.method not in allowed:
            raise ValueError(
                f"background.method {self.background.method} is not for kind {self.kind}; "
                f"expected one of {', '.join(allowed)}"
            )
        return self

    @property
    def true_axis(self) -> EnergyConfig:
        """Axis of true energies: beyond the other one on both sides, and finer, unless told."""
        if self.energy_true is not None:
            return self.energy_true
        low, high = self.energy.limits
        bins = 2 * self.energy.bins_per_decade
        return EnergyConfig(min=f"{low / 2:g} TeV", max=f"{2 * high:g} TeV", bins_per_decade=bins)

    @property
    def safe_methods(self) -> tuple[str, ...]:
        """Methods of the safe mask."""
        if self.safe_mask.methods is not None:
            return self.safe_mask.methods
        return ("aeff-max",) if self.kind == "1d" else ("aeff-max", "offset-max")


def make_reduce_config(
    content: dict[str, Any], document: Document | None = None, at: tuple[str | int, ...] = ()
) -> ReduceConfig:
    """Checked description of a reduction.

    Parameters
    ----------
    content : dict
        Keys and values.
    document : `~obscluster.files.yaml.Document`, optional
        Where they stand in a file, for the messages.
    at : tuple
        Under which key they stand there.

    Raises
    ------
    RequestError
        If a key is unknown or a value is not usable; the message names it and what is allowed.
    """
    return validated(ReduceConfig, content, document, at)


def read_reduce_config(path: Path) -> ReduceConfig:
    """Description of a reduction from a YAML file, or from its part ``reduce``.

    Raises
    ------
    ArchiveError
        If the file cannot be read, or is not YAML.
    RequestError
        If a key is unknown or a value is not usable; the message names it.
    """
    document = read_document(path)
    if "reduce" not in document.content:
        return make_reduce_config(document.content, document)
    return make_reduce_config(document.content["reduce"] or {}, document, ("reduce",))
