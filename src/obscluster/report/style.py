"""How a group looks: its colour, marker and name, the same in every picture.

Integer labels keep their looks whatever else is drawn with them, so that group 2 of one figure can
be compared with group 2 of the next. Colours are those of Okabe and Ito, distinguishable with
colour-deficient vision; the marker repeats what the colour says, for prints in grey.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import ArrayLike, NDArray

from obscluster.exceptions import RequestError
from obscluster.grouping.base import UNASSIGNED

__all__ = [
    "CUT_STYLE",
    "Label",
    "as_labels",
    "count_text",
    "group_style",
    "group_text",
]

Label = int | str

UNASSIGNED_STYLE = ("#8c8c8c", "x")

# Okabe and Ito's palette. Its black stands in for its yellow, which is lost on a white page.
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "*", ">")

CUT_STYLE: dict[str, Any] = {"color": "0.25", "linestyle": "--", "linewidth": 1.2, "zorder": 0.9}


def as_labels(labels: ArrayLike) -> NDArray[np.object_]:
    """Group labels as plain `int` and `str`.

    Parameters
    ----------
    labels : array-like of int or str, shape (n_obs,)
        Group of each run; -1 (or "-1", as NumPy writes it beside strings) is unassigned.

    Returns
    -------
    labels : `~numpy.ndarray` of object, shape (n_obs,)
        The same labels, as Python objects.

    Raises
    ------
    RequestError
        Labels that are not one-dimensional, or neither integers nor strings.
    """
    array = np.asarray(labels)
    if array.ndim != 1:
        raise RequestError(f"labels must be one value per run, not an array of shape {array.shape}")
    plain = np.empty(array.size, dtype=object)
    plain[:] = [_as_label(value) for value in array.tolist()]
    return plain


def _as_label(value: object) -> Label:
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        return UNASSIGNED if value == str(UNASSIGNED) else str(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    raise RequestError(f"labels must be integers or strings, not {value!r}")


def _ordered_labels(labels: Iterable[Label]) -> list[Label]:
    """Distinct labels in the order of the legend: integers, strings, unassigned.

    Numbers within strings count as numbers: ``group_10`` comes after ``group_9``.
    """

    def key(label: Label) -> tuple[bool, bool, int, list[tuple[bool, int, str]]]:
        if isinstance(label, int):
            return label == UNASSIGNED, False, label, []
        parts = [part for part in re.split(r"(\d+)", label) if part]
        natural = [(p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts]
        return False, True, 0, natural

    return sorted(set(labels), key=key)


def group_style(labels: ArrayLike) -> dict[Label, tuple[str, str]]:
    """Colour and marker of each group.

    An integer label, and a string ``group_<integer>``, has the same looks whatever else is drawn:
    Okabe and Ito's colours for 1 to 7, beyond these a perceptual colour map sampled in steps of the
    golden section, with markers that cycle. Other strings take the same looks in the order of
    their names; these are the same in all pictures of the same set of labels.

    Parameters
    ----------
    labels : array-like of int or str, shape (n_obs,)
        Group of each run; -1 is unassigned.

    Returns
    -------
    style : dict
        ``{label: (colour, marker)}`` in the order of the legend; colours as ``#rrggbb``.

    Raises
    ------
    RequestError
        Labels that are not one-dimensional, or neither integers nor strings.

    Examples
    --------
    >>> group_style([2, 1, 1, -1])
    {1: ('#0072b2', 'o'), 2: ('#d55e00', 's'), -1: ('#8c8c8c', 'x')}
    """
    style: dict[Label, tuple[str, str]] = {}
    named = 0
    for label in _ordered_labels(as_labels(labels)):
        if label == UNASSIGNED:
            style[label] = UNASSIGNED_STYLE
        elif isinstance(label, int):
            style[label] = _slot_style(label - 1)
        elif match := re.fullmatch(r"group_(\d+)", label):
            style[label] = _slot_style(int(match[1]) - 1)
        else:
            style[label] = _slot_style(named)
            named += 1
    return style


def _slot_style(slot: int) -> tuple[str, str]:
    marker = MARKERS[slot % len(MARKERS)]
    if 0 <= slot < len(OKABE_ITO):
        return OKABE_ITO[slot], marker
    # Steps of the golden section keep neighbours apart however many groups follow; the bright end
    # of the map is left out, since it is hard to see on white.
    fraction = 0.85 * ((0.5 * (math.sqrt(5.0) - 1.0) * slot) % 1.0)
    return to_hex(mpl.colormaps["viridis"](fraction)), marker


def count_text(n_obs: int) -> str:
    """Number of runs in words, such as ``1 run``."""
    return f"{n_obs} run" if n_obs == 1 else f"{n_obs} runs"


def group_text(label: Label, n_obs: int, names: Mapping[Label, str] | None = None) -> str:
    """Legend entry of a group, such as ``group 1 (7 runs)``.

    Parameters
    ----------
    label : int or str
        Label of the group.
    n_obs : int
        Number of its runs.
    names : dict, optional
        Display names by label, for those that should not have the usual one.
    """
    if label == UNASSIGNED:
        default = "unassigned"
    else:
        default = f"group {label}" if isinstance(label, int) else label
    return f"{(names or {}).get(label, default)} ({count_text(n_obs)})"
