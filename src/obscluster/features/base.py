"""What a feature is, what it can ask of a run, and what was found of one.

A feature is a plain function of a run (and of an energy, if it depends on one) with a name, a unit
and a description::

    from obscluster.features import feature

    @feature("psf-tail", unit="", description="95 % over 68 % containment radius", needs=["psf"],
             per_energy=True, at_offset=True)
    def psf_tail(run, energy):
        psf, offset = run.irf_at_offset("psf")
        r68, r95 = (containment_radius(psf, energy, offset, f) for f in (0.68, 0.95))
        return r95 / r68

Pass ``psf_tail`` among the names to `~obscluster.features.table.get_features`, or its file to
``obscluster group --feature-file``. Energies are in TeV and angles in degrees.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from obscluster.archive.observation import Observation
from obscluster.archive.quantities import Known
from obscluster.exceptions import DataError, RequestError
from obscluster.gadf.events import EventList
from obscluster.gadf.response import IRF

__all__ = ["Feature", "NotComputableError", "Row", "Run", "feature"]


@dataclass(frozen=True)
class Row:
    """Values of one run, and what was wrong.

    Parameters
    ----------
    values : `~numpy.ndarray`
        One per column of the feature table.
    remarks : sequence of sequence of str
        What was remarked, per column.
    final : sequence of bool
        Per column, whether the same files would give the same again: not if one could not be read.
    skipped : str
        Why there are no values at all; empty if there are.
    unread : str
        Why a file could not be read, even if there are values all the same; empty if all could.
    """

    values: NDArray[np.float64]
    remarks: Sequence[Sequence[str]] = ()
    final: Sequence[bool] = ()
    skipped: str = ""
    unread: str = ""

    @property
    def note(self) -> str:
        """Why values are missing or doubtful."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        return "; ".join(dict.fromkeys(chain.from_iterable(self.remarks)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Rows come from other processes, and numpy's own way takes longer than the rest of a row.
        values = self.values.tobytes()
        return _restored, (values, self.remarks, self.final, self.skipped, self.unread)

    @classmethod
    def skip(cls, n_columns: int, reason: str, unread: str = "") -> Row:
        """Row of a run whose files cannot be read, or lack what they should hold."""
        return cls(np.full(n_columns, np.nan), skipped=reason, unread=unread)


def _restored(
    values: bytes,
    remarks: Sequence[Sequence[str]],
    final: Sequence[bool],
    skipped: str,
    unread: str,
) -> Row:
    return Row(np.frombuffer(values), remarks, final, skipped, unread)


T = TypeVar("T")

# Degrees: offsets that differ by less are the same to two digits.
_SAME_OFFSET = 0.005


class NotComputableError(Exception):
    """A feature has no value for this run; the text says why."""


@dataclass(frozen=True)
class Feature:
    """A number that characterises a run.

    Parameters
    ----------
    name : str
        Name of the column.
    unit : `~astropy.units.UnitBase`
        Unit of the value.
    description : str
        One line.
    function : callable
        ``function(run)``, or ``function(run, energy)`` with the energy in TeV; returns a number in
        the unit, or raises `NotComputableError`.
    needs : tuple of str
        Responses that it reads: aeff, edisp, psf, bkg, rad_max.
    per_energy : bool
        Whether it depends on an energy.
    period : float, optional
        Of a cyclic quantity: after which it repeats, in the unit.
    at_offset : bool
        Whether it looks at responses at the offset of the run only, by `Run.irf_at_offset`. Where
        all features of a table do, no more of the responses is read.
    hopes : tuple of str
        Responses that it looks at in `Run.irfs` where they can be read; else it goes without.
    """

    name: str
    unit: u.UnitBase
    description: str
    function: Callable[..., float]
    needs: tuple[str, ...] = ()
    per_energy: bool = False
    period: float | None = None
    at_offset: bool = False
    hopes: tuple[str, ...] = ()


def feature(
    name: str,
    unit: str | u.UnitBase = "",
    description: str = "",
    needs: Sequence[str] = (),
    per_energy: bool = False,
    period: float | None = None,
    at_offset: bool = False,
) -> Callable[[Callable[..., float]], Feature]:
    """Make a `Feature` of a function.

    Parameters
    ----------
    name, unit, description, needs, per_energy, period, at_offset
        See `Feature`.

    Returns
    -------
    decorator : callable
        Turns the function into a `Feature`.

    Raises
    ------
    RequestError
        If the name has an ``@`` or a blank, which the command line could not tell apart.
    """
    if not name or "@" in name or any(c.isspace() for c in name):
        raise RequestError(f"feature name {name!r}: expected one word without '@'")

    def decorate(function: Callable[..., float]) -> Feature:
        text = description or (function.__doc__ or name).strip().splitlines()[0].rstrip(".")
        return Feature(
            name, u.Unit(unit), text, function, tuple(needs), per_energy, period, at_offset
        )

    return decorate


@dataclass
class Run:
    """One observation as a feature sees it.

    Parameters
    ----------
    observation : `~obscluster.archive.observation.Observation`
        The observation.
    irfs : mapping
        Responses that were read, by type.
    offset : float
        Angle between pointing and target, or the fixed one, in degrees.
    has_target : bool
        Whether the offset is that of a target rather than one asked for.
    containment_fraction : float
        Fraction for ``psf-radius``.
    remarks : list of str
        What the user should know of the values, see `remark`.
    """

    observation: Observation
    irfs: Mapping[str, IRF]
    offset: float
    has_target: bool = False
    containment_fraction: float = 0.68
    remarks: list[str] = field(default_factory=list)
    _known: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def irf(self, hdu_type: str) -> IRF:
        """Response of a type.

        Raises
        ------
        NotComputableError
            If the run has none.
        """
        irf = self._given(hdu_type)
        self._remark_invalid(irf)
        return irf

    def irf_at_offset(self, hdu_type: str) -> tuple[IRF, float]:
        """Response of a type, in the bins around the offset of the run, and that offset in degrees.

        All that is needed to interpolate there; the offset is that of `offset_for`.

        Raises
        ------
        NotComputableError
            If the run has none.
        """
        whole = self._given(hdu_type)
        offset = self.offset_for(whole)
        irf = whole.near(offset)
        self._remark_invalid(irf)
        return irf, offset

    def _given(self, hdu_type: str) -> IRF:
        irf = self.irfs.get(hdu_type)
        if irf is None:
            raise NotComputableError(f"the index lists no {hdu_type} for this run")
        return irf

    def _remark_invalid(self, irf: IRF) -> None:
        if irf.invalid:
            self.remark(f"values that are no numbers left out ({irf.n_invalid} of {irf.hdu_class})")

    def offset_for(self, irf: IRF) -> float:
        """Offset at which to evaluate a response, in degrees.

        Further out than the last tabulated offset it is that, which is remarked. A single bin
        holds for all offsets; outside its edges that is remarked, too.
        """
        axis = irf.axes.get("offset")
        if axis is None:
            return self.offset
        if axis.nbin == 1:
            lo, hi = axis.edges
            if not lo - _SAME_OFFSET <= self.offset <= hi + _SAME_OFFSET:
                self.remark(
                    f"offset outside the only bin of the response ({irf.hdu_class}: "
                    f"{self.offset:.2f} deg, the bin is {lo:.2f} to {hi:.2f} deg)"
                )
            return self.offset
        last = float(axis.center[-1])
        if not self.offset > last:
            return self.offset
        if self.offset > last + _SAME_OFFSET:
            self.remark(
                f"offset beyond the response, last bin taken "
                f"({irf.hdu_class} at {last:.2f} deg instead of {self.offset:.2f} deg)"
            )
        return last

    def value(self, *names: str) -> float:
        """Quantity of the run in its unit: of the obs-index, else of the header, else computed.

        Parameters
        ----------
        *names : str
            Names to try, in this order: of GADF (``ZEN_PNT``), of observing conditions
            (``zenith``), columns of the obs-index, keywords of the header.

        Raises
        ------
        NotComputableError
            If none of them is known.
        """
        notes = []
        for name in names:
            known: Known = self.once(("quantity", name), partial(self.observation.quantity, name))
            if np.isfinite(known.value.value):
                if known.note:
                    self.remark(known.note)
                return float(known.value.value)
            notes.append(known.note)
        raise NotComputableError("; ".join(notes).replace("; ", ", "))

    def good_events(self, *columns: str) -> EventList:
        """Events inside the good time intervals; all, which is remarked, where there are none.

        Parameters
        ----------
        *columns : str
            Columns to read, beside TIME.

        Raises
        ------
        DataError
            If file, HDU or column is missing or damaged.
        """
        observation = self.observation
        try:
            gti = observation.gti
        except DataError as error:
            why = str(error).replace("; ", ", ")
            self.remark(f"all events counted, as there are no good time intervals ({why})")
            return observation.read_events(*columns)
        return observation.read_events("TIME", *columns).within(gti)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What several features of the run need, computed by the first that asks.

        Parameters
        ----------
        key : hashable
            What it is.
        compute : callable
            Computes it.
        """
        if key not in self._known:
            self._known[key] = compute()
        value: T = self._known[key]
        return value

    def remark(self, text: str) -> None:
        """Say something about the values; it goes into the column ``notes``."""
        if text not in self.remarks:
            self.remarks.append(text)
