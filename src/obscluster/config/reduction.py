"""The description of a reduction and a fit: what goes into ``reduce.yaml``.

Quantities are texts with a unit, such as ``"0.11 deg"``. A file can also be that of a whole run,
with the reduction under the key ``reduce``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from astropy import units as u
from pydantic import (
    AfterValidator,
    Field,
    PositiveInt,
    model_validator,
)

from obscluster.files.description import Strict, validated
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
    "describe_keys",
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
SafeMethod = Literal["aeff-max", "aeff-default", "edisp-bias", "offset-max", "bkg-peak", "counts"]


class EnergyConfig(Strict):
    """An energy axis with logarithmic bins."""

    min: Energy = Field(default="0.1 TeV", description="lowest energy")
    max: Energy = Field(default="100 TeV", description="highest energy")
    bins_per_decade: PositiveInt = Field(default=10, description="bins in a factor of ten")

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

    radius: Angle = Field(
        default="0.11 deg",
        description="of the circle around the target; point-like runs bring their own",
    )
    shape: str | None = Field(
        default=None,
        description="region of DS9 in its place: icrs;ellipse(83.6, 22.0, 0.2, 0.1, 30)",
    )
    containment_correction: bool = Field(
        default=True, description="correct for the part of the PSF outside of the circle"
    )

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

    regions: tuple[str, ...] = Field(
        default=(), description="in the format of DS9: [icrs;circle(83.6, 22.0, 0.3)]"
    )
    file: str | None = Field(default=None, description="region file, or FITS mask that is 0 inside")
    target: Angle | None = Field(
        default=None, description="circle around the target; none in 1d, 0.3 deg in 3d"
    )


class SafeMaskConfig(Strict):
    """Which energies and offsets of a run are used, see Gammapy's ``SafeMaskMaker``.

    ``methods`` are ``aeff-max`` unless told, and in 3D ``offset-max`` too. ``counts`` takes
    energies at which a run has at least ``min_counts`` expected OFF counts, in 1D.
    """

    methods: tuple[SafeMethod, ...] | None = Field(
        default=None, description="[aeff-max], and in 3d offset-max too"
    )
    aeff_percent: float = Field(
        default=10.0,
        ge=0,
        lt=100,
        description="of the largest area, from where on energies are used",
    )
    bias_percent: float = Field(default=10.0, gt=0, description="largest bias of the energy")
    offset_max: Angle = Field(default="2.5 deg", description="largest distance from the pointing")
    min_counts: float = Field(
        default=5.0, gt=0, description="for counts: least expected OFF counts of a run in a bin"
    )


class BackgroundConfig(Strict):
    """How the background is found.

    In 1D ``reflected`` regions, as many as fit or at most ``off_regions``; ``wobble`` regions,
    exactly ``off_regions`` in regular steps, for a cut that depends on energy; or a ``ring`` around
    the target with the acceptance of the background response. In 3D ``fov``, the background
    response with a normalisation per run. ``auto`` takes what fits: reflected, wobble or fov.
    """

    method: Literal["auto", "reflected", "wobble", "ring", "fov"] = Field(
        default="auto",
        description="1d: regions at the same offset, or a ring; 3d: the response, scaled",
    )
    off_regions: PositiveInt | None = Field(
        default=None, description="reflected: at most; wobble: this many (else as many as fit; 1)"
    )
    min_distance: Angle = Field(
        default="0.1 rad", description="reflected: angle to the target at least"
    )
    ring_radius: Angle = Field(default="0.5 deg", description="ring: inner radius")
    ring_width: Angle = Field(default="0.2 deg", description="ring: width")
    fov_method: Literal["scale", "fit"] = Field(
        default="scale", description="fov: how the normalisation of a run is found"
    )


class MapConfig(Strict):
    """Maps in 3D, around the target."""

    width: Angle = Field(default="4 deg", description="of the maps in 3d")
    binsz: Angle = Field(default="0.02 deg", description="of their pixels")


class FitConfig(Strict):
    """What is fitted to the groups together.

    ``normalisation`` is one for all, or one of each group or instrument; ``parameters: per-group``
    frees the whole spectrum of each group. ``light_curve`` needs the datasets of the runs.
    """

    model: Literal["power-law", "cutoff-power-law", "log-parabola"] = Field(
        default="power-law", description="spectrum of the source"
    )
    reference: Energy = Field(default="1 TeV", description="energy of the amplitude")
    min: Energy | None = Field(default=None, description="lowest energy; all that are safe")
    max: Energy | None = Field(default=None, description="highest energy; all that are safe")
    spatial: Literal["point", "gaussian"] = Field(default="point", description="3d: shape")
    free_position: bool = Field(default=True, description="3d: fit the position, too")
    normalisation: Literal["shared", "per-group", "per-instrument"] = Field(
        default="shared", description="of the flux"
    )
    parameters: Literal["shared", "per-group"] = Field(
        default="shared", description="per-group frees the whole spectrum of each group"
    )
    flux_points_per_decade: int = Field(default=5, ge=0, description="0 for none")
    light_curve: Literal["run", "night", "none"] = Field(
        default="night", description="bins in time; needs the datasets of the runs"
    )
    random_state: int = Field(default=0, ge=0, description="seed of pseudo-experiments")


class ReduceConfig(Strict):
    """Everything that makes datasets of groups, and a fit of the datasets."""

    kind: Literal["1d", "3d"] = Field(default="1d", description="spectra or maps")
    target: str | None = Field(
        default=None,
        description="where the source is, RA DEC in degrees or a name; that of the groups",
    )
    frame: Literal["icrs", "galactic"] = Field(default="icrs", description="of these coordinates")
    energy: EnergyConfig = EnergyConfig()
    energy_true: EnergyConfig | None = Field(
        default=None, description="{min, max, bins_per_decade}; twice as far and as fine"
    )
    region: RegionConfig = RegionConfig()
    map: MapConfig = MapConfig()
    exclusion: ExclusionConfig = ExclusionConfig()
    safe_mask: SafeMaskConfig = SafeMaskConfig()
    background: BackgroundConfig = BackgroundConfig()
    stack: Literal["exact", "gammapy"] = Field(
        default="exact", description="exact predicts what the runs predict, see docs/stacks.md"
    )
    keep_runs: bool | None = Field(
        default=None, description="write the datasets of the runs, too: up to 200 runs"
    )
    fit: FitConfig = FitConfig()
    workers: PositiveInt = Field(default=1, description="processes")

    @model_validator(mode="after")
    def _fits_together(self) -> ReduceConfig:
        one, three = ("auto", "reflected", "wobble", "ring"), ("auto", "fov")
        allowed = one if self.kind == "1d" else three
        if self.background.method not in allowed:
            raise ValueError(
                f"background.method {self.background.method} is not for kind {self.kind}; "
                f"expected one of {', '.join(allowed)}"
            )
        if self.kind == "3d" and "counts" in self.safe_methods:
            raise ValueError("safe_mask.methods counts is for kind 1d, which has OFF counts")
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


def describe_keys(model: type[Strict] = ReduceConfig, above: str = "") -> list[str]:
    """All keys of a description: a line for each, with its default, what it may be, and why.

    Parameters
    ----------
    model : type
        The description, or a part of it.
    above : str
        Key of the part, with a point behind it.
    """
    lines: list[str] = []
    for name, field in model.model_fields.items():
        if isinstance(field.default, Strict):
            lines += describe_keys(type(field.default), f"{above}{name}.")
            continue
        unset = field.default is None or field.default == ()
        default = "-" if unset else str(field.default)
        default = default.lower() if isinstance(field.default, bool) else default
        choices = _choices(field.annotation)
        meaning = [field.description or "", f"({', '.join(choices)})" if choices else ""]
        text = " ".join(filter(None, meaning))
        lines.append(f"{above + name:<29} {default:<11} {text}".rstrip())
    return lines


def _choices(annotation: Any) -> list[str]:
    """Words among which a value is chosen, wherever in its type."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for part in get_args(annotation) for word in _choices(part)]


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
