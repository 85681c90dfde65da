"""Several observations, in order, and their split into groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from obscluster.exceptions import RequestError
from obscluster.observation import Observation

__all__ = ["Observations"]


class Observations(Sequence[Observation]):
    """Several observations, in order.

    Parameters
    ----------
    observations : iterable of `Observation`, optional
        The observations.
    """

    def __init__(self, observations: Iterable[Observation] = ()):
        self._observations = list(observations)

    def __len__(self) -> int:
        return len(self._observations)

    def __iter__(self) -> Iterator[Observation]:
        return iter(self._observations)

    @overload
    def __getitem__(self, item: int | str) -> Observation: ...
    @overload
    def __getitem__(self, item: slice | list[int] | NDArray[Any]) -> Observations: ...

    def __getitem__(self, item: Any) -> Observation | Observations:
        """One by its place, or by its identifier as a str; several by slice, mask or list."""
        if isinstance(item, str):
            try:
                return self._observations[self.ids.index(item)]
            except ValueError:
                raise KeyError(f"no observation {item} among {len(self)}") from None
        if isinstance(item, slice):
            return Observations(self._observations[item])
        if isinstance(item, list | np.ndarray):
            return Observations(self._observations[i] for i in np.arange(len(self))[item])
        return self._observations[item]

    def __repr__(self) -> str:
        ids = ", ".join(self.ids[:5]) + (", ..." if len(self) > 5 else "")
        return f"<Observations: {len(self)} ({ids})>" if len(self) else "<Observations: none>"

    @property
    def ids(self) -> list[str]:
        """Identifiers as str, as Gammapy has them."""
        return [str(obs.obs_id) for obs in self]

    @property
    def obs_ids(self) -> NDArray[np.int64]:
        """Identifiers, shape (n_obs,)."""
        return np.array([obs.obs_id for obs in self], dtype=np.int64)

    def group_by_label(self, labels: Sequence[Any] | NDArray[Any]) -> dict[str, Observations]:
        """Split into groups.

        Parameters
        ----------
        labels : sequence of int or str
            One per observation.

        Returns
        -------
        groups : dict
            ``group_<label>`` to its `Observations`, in the order of the labels.

        Raises
        ------
        RequestError
            If there is not one label per observation.
        """
        if np.ma.is_masked(labels):
            raise RequestError("some labels are missing (masked)")
        labels = np.asarray(labels)
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise RequestError("some labels are missing (not a number)")
        if labels.shape != (len(self),):
            raise RequestError(f"{len(self)} observations but labels of shape {labels.shape}")
        return {
            f"group_{label}": self[np.flatnonzero(labels == label)] for label in np.unique(labels)
        }
