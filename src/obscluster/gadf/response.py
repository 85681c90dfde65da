"""An instrument response: axes and arrays, interpolated with units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.exceptions import RequestError, unknown_name
from obscluster.gadf.axis import Axis
from obscluster.gadf.header import Header
from obscluster.gadf.psf import PROFILES

__all__ = ["IRF"]

_TINY = np.finfo(float).tiny


@dataclass(frozen=True, eq=False)
class IRF:
    """One response of one observation.

    Parameters
    ----------
    hdu_class : str
        GADF class, such as ``aeff_2d``.
    axes : dict
        Axis name to `~obscluster.gadf.axis.Axis`, in the order of the dimensions.
    arrays : dict
        Column name to values. A parametric PSF has several, with angles in degrees.
    unit : `~astropy.units.UnitBase`
        Unit of the response; of a PSF, per solid angle.
    header : mapping
        FITS keywords of the HDU.
    path : `~pathlib.Path`, optional
        The file it was read from.
    invalid : dict
        Column name to where values were no numbers (or absurdly large) in the file, if any were;
        they are zero here.
    """

    hdu_class: str
    axes: dict[str, Axis]
    arrays: dict[str, NDArray[Any]]
    unit: u.UnitBase
    header: Header = field(default_factory=dict)
    path: Path | None = None
    invalid: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def n_invalid(self) -> int:
        """How many values were no numbers (or absurdly large) in the file; they are zero here."""
        return sum(int(where.sum()) for where in self.invalid.values())

    @property
    def is_pointlike(self) -> bool:
        """Whether a directional cut was applied (``HDUCLAS3 = POINT-LIKE``)."""
        return str(self.header.get("HDUCLAS3", "")).strip().upper() == "POINT-LIKE"

    @property
    def is_parametric(self) -> bool:
        """Whether this is a PSF given by the parameters of a function."""
        return self.hdu_class in PROFILES

    @property
    def data(self) -> NDArray[Any]:
        """Tabulated values, shape as `axes`.

        Raises
        ------
        AttributeError
            If this is a parametric PSF: see `arrays`.
        """
        if self.is_parametric:
            raise AttributeError(f"a {self.hdu_class} has parameters, not data: see .arrays")
        return next(iter(self.arrays.values()))

    @property
    def quantity(self) -> u.Quantity:
        """`data` with its unit."""
        return u.Quantity(self.data, self.unit)

    def __repr__(self) -> str:
        shape = " x ".join(f"{name} {axis.nbin}" for name, axis in self.axes.items())
        return f"<IRF {self.hdu_class}: {shape}>"

    def evaluate(self, **coords: Any) -> u.Quantity:
        """Interpolate the response.

        Parameters
        ----------
        **coords : `~astropy.units.Quantity` or str
            One per axis (and ``rad`` of a parametric PSF); arrays broadcast against each other. An
            axis that is left out is taken at all its centres, in its own dimension.

        Returns
        -------
        values : `~astropy.units.Quantity`
            Linear interpolation (of the logarithm for a background), zero outside the axes.

        Raises
        ------
        RequestError
            If there is no axis of that name.
        """
        names = [*self.axes, "rad"] if self.is_parametric else [*self.axes]
        for name in coords:
            if name not in names:
                raise RequestError(unknown_name(f"axis of {self.hdu_class}", name, names))
        grids = np.meshgrid(
            *[axis.center for axis in self.axes.values()], indexing="ij", sparse=True
        )
        points = [
            u.Quantity(coords[name]).to_value(axis.unit) if name in coords else grid
            for (name, axis), grid in zip(self.axes.items(), grids, strict=True)
        ]
        inside = np.asarray(True)
        for axis, point in zip(self.axes.values(), points, strict=True):
            inside = inside & axis.contains(point)
        values = {name: self._interpolate(name, points) for name in self.arrays}
        if self.is_parametric:
            rad = u.Quantity(coords.get("rad", 0 * u.deg)).to_value(u.deg)
            per_square_degree = PROFILES[self.hdu_class].density(rad, values)
            result = per_square_degree * (u.deg**-2).to(u.sr**-1)
        else:
            (result,) = values.values()
        return u.Quantity(np.where(inside & np.isfinite(result), result, 0.0), self.unit)

    def near(self, offset: float) -> IRF:
        """The response in those bins of offset that are needed to interpolate at one.

        Parameters
        ----------
        offset : float
            In degrees.

        Returns
        -------
        irf : `IRF`
            With views of the values; this one where it has no such axis, no more bins than that,
            or the offset is outside.
        """
        axis = self.axes.get("offset")
        if axis is None:
            return self
        bins, part = axis.near(offset)
        if part is axis:
            return self
        where = (*[slice(None)] * list(self.axes).index("offset"), bins)
        invalid = {name: mask[where] for name, mask in self.invalid.items() if mask[where].any()}
        return replace(
            self,
            axes=self.axes | {"offset": part},
            arrays={name: values[where] for name, values in self.arrays.items()},
            invalid=invalid,
        )

    def _interpolate(self, name: str, points: list[Any]) -> NDArray[np.float64]:
        """Values of one column at points in the axes' units, never below zero."""
        # Takes as long to load as all features of a hundred runs, which do without.
        from scipy.interpolate import RegularGridInterpolator

        logarithmic = self.hdu_class.startswith("bkg")
        values = np.asarray(self.arrays[name], dtype=float)
        values = np.log(np.clip(values, _TINY, None)) if logarithmic else values
        axes = list(self.axes.values())
        points = list(np.broadcast_arrays(*points))
        # An axis of one bin has nothing to interpolate.
        long = [i for i, axis in enumerate(axes) if axis.nbin > 1]
        if long:
            interpolate = RegularGridInterpolator(
                [axes[i].scaled_center for i in long],
                values.reshape([axes[i].nbin for i in long]),
                bounds_error=False,
                fill_value=None,
            )
            where = np.stack([axes[i].scale(points[i]) for i in long], axis=-1)
            result = interpolate(where).reshape(points[0].shape)
        else:
            result = np.full(points[0].shape, values.item())
        return np.asarray(np.clip(np.exp(result) if logarithmic else result, 0.0, None))
