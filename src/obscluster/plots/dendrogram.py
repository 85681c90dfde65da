"""The tree behind a hierarchical grouping, and where it was cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray
from scipy.cluster import hierarchy

from obscluster.exceptions import RequestError
from obscluster.grouping import UNASSIGNED
from obscluster.plots.style import (
    CUT_STYLE,
    Label,
    as_labels,
    count_text,
    draw_legend,
    group_style,
    group_text,
    marker_handle,
)

__all__ = ["leaf_positions", "plot_dendrogram"]

MAX_LABELLED_LEAVES = 60


def plot_dendrogram(
    linkage: ArrayLike,
    labels: ArrayLike,
    obs_ids: ArrayLike | None = None,
    height: float | None = None,
    names: Mapping[Label, str] | None = None,
    height_label: str = "merge height",
    ax: Axes | None = None,
    **kwargs: Any,
) -> Axes:
    """Plot the tree of a hierarchical grouping, its branches in the colours of the groups.

    Parameters
    ----------
    linkage : array-like, shape (n_leaves - 1, 4)
        Merges, as `scipy.cluster.hierarchy.linkage` returns them.
    labels : array-like of int or str, shape (n_obs,)
        Group of each run; -1 is unassigned. Either each run is a leaf, or each assigned run.
    obs_ids : array-like, shape (n_obs,), optional
        Identifiers to write at the leaves, if these are few enough to be legible.
    height : float, optional
        Height of the cut, in the unit of the linkage; by default halfway between the last merge
        within a group and the first between groups. No line is drawn if no horizontal cut makes
        these groups.
    names : dict, optional
        Display names of groups by label.
    height_label : str, optional
        What the height of a merge is, such as ``"Ward distance"``.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; the current axes by default.
    **kwargs
        Passed to `matplotlib.axes.Axes.plot` for the branches, such as ``linewidth``.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes; leaves are at 0, 1, ... on x, in the order of
        `scipy.cluster.hierarchy.leaves_list`.

    Raises
    ------
    RequestError
        No valid linkage, a number of labels or obs_ids that does not fit it, or a cut that is not
        finite.
    """
    kwargs = normalize_kwargs(kwargs, Line2D)
    if taken := {"color", "label"} & kwargs.keys():
        raise RequestError(f"{', '.join(sorted(taken))}: set by the groups, see group_style")
    merges = _valid_linkage(linkage)
    group, ids = _leaf_groups(len(merges) + 1, labels, obs_ids)
    position, level, owner = _tree(merges, group)
    if height is None:
        height = _cut_height(merges, owner)
    elif not np.isfinite(height):
        raise RequestError(f"height of the cut is {height!r}; a finite number is needed")
    ax = plt.gca() if ax is None else ax
    before = len(ax.lines)
    handles, others = _draw_branches(ax, merges, position, level, owner, names, kwargs)
    branches = [*ax.lines][before:]
    if height is not None:
        others = [ax.axhline(height, label=f"cut {height:.4g}", **CUT_STYLE), *others]
    n_leaves = len(group)
    margin = 0.5 + 0.01 * n_leaves
    ax.set_xlim(-margin, n_leaves - 1 + margin)
    top = max(level.max(), height or 0.0)
    ax.set_ylim(0.0, 1.05 * top if top > 0.0 else 1.0)
    ax.set_ylabel(height_label)
    lost = draw_legend(ax, handles, others, avoid=branches)
    _label_leaves(ax, position[:n_leaves], ids, ax.bbox.width - lost)
    return ax


def _valid_linkage(linkage: ArrayLike) -> NDArray[np.float64]:
    try:
        merges = np.array(linkage, dtype=float)
        if merges.shape != (0, 4):  # a single run, which SciPy does not accept
            hierarchy.is_valid_linkage(merges, throw=True)
    except (TypeError, ValueError) as error:
        raise RequestError(f"not a linkage matrix as SciPy defines it: {error}") from error
    if not np.all(np.isfinite(merges)):
        raise RequestError("not a linkage matrix: it has values that are not finite")
    return merges


def _leaf_groups(
    n_leaves: int, labels: ArrayLike, obs_ids: ArrayLike | None
) -> tuple[NDArray[np.object_], NDArray[Any] | None]:
    """Labels and obs_ids of the leaves: all runs, or those that are assigned."""
    group = as_labels(labels)
    ids = None if obs_ids is None else np.asarray(obs_ids)
    if ids is not None and ids.shape != group.shape:
        raise RequestError(f"there are {ids.size} obs_ids, but {len(group)} labels")
    if len(group) == n_leaves:
        return group, ids
    assigned = group != UNASSIGNED
    if np.count_nonzero(assigned) != n_leaves:
        raise RequestError(
            f"the linkage has {n_leaves} leaves, but there are {len(group)} labels, "
            f"{np.count_nonzero(assigned)} of them assigned; one of the two must agree"
        )
    return group[assigned], None if ids is None else ids[assigned]


def _tree(
    merges: NDArray[np.float64], group: NDArray[np.object_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.object_]]:
    """Position, height and group of every node, leaves first; group None where several meet.

    A loop over merges and not `scipy.cluster.hierarchy.dendrogram`, whose recursion gives up on
    the chains of single linkage; children come before their parents in a linkage matrix.
    """
    n_leaves = len(group)
    position, level = leaf_positions(merges)
    owner = np.concatenate([group, np.full(n_leaves - 1, None, dtype=object)])
    for node, (left, right) in enumerate(merges[:, :2].astype(int), start=n_leaves):
        owner[node] = owner[left] if owner[left] == owner[right] else None
    return position, level, owner


def leaf_positions(
    merges: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Place and height of every node of a tree, leaves first.

    Parameters
    ----------
    merges : `~numpy.ndarray`
        In SciPy's format, shape (n - 1, 4).

    Returns
    -------
    position, level : `~numpy.ndarray`
        Shape (2 n - 1,); leaves are at 0, 1, ... and at height 0.
    """
    n_leaves = len(merges) + 1
    position = np.empty(2 * n_leaves - 1)
    leaves = hierarchy.leaves_list(merges) if len(merges) else np.zeros(1, dtype=int)
    position[leaves] = np.arange(n_leaves)
    for node, (left, right) in enumerate(merges[:, :2].astype(int), start=n_leaves):
        position[node] = 0.5 * (position[left] + position[right])
    return position, np.concatenate([np.zeros(n_leaves), merges[:, 2]])


def _cut_height(merges: NDArray[np.float64], owner: NDArray[np.object_]) -> float | None:
    """Height between merges within groups and merges between them; None if there is no such."""
    children, parents = owner[merges[:, :2].astype(int)], owner[len(merges) + 1 :]
    between = parents == None  # noqa: E711 (elementwise)
    within = ~between & (parents != UNASSIGNED)
    tops = [label for label in children[between].ravel() if label not in (None, UNASSIGNED)]
    if not between.any() or len(tops) != len(set(tops)):
        return None  # one group, or a group in several branches
    below = merges[within, 2].max(initial=0.0)
    above = merges[between, 2].min()
    return float(0.5 * (below + above)) if below < above else None


def _draw_branches(
    ax: Axes,
    merges: NDArray[np.float64],
    position: NDArray[np.float64],
    level: NDArray[np.float64],
    owner: NDArray[np.object_],
    names: Mapping[Label, str] | None,
    kwargs: dict[str, Any],
) -> tuple[list[Artist], list[Artist]]:
    """Draw the tree, one line per group; legend handles of groups, and of unassigned runs."""
    n_leaves = len(merges) + 1
    left, right = merges[:, :2].astype(int).T
    parent = np.arange(n_leaves, 2 * n_leaves - 1)
    # Two legs and the bar that joins them; a leg belongs to the group of its lower end.
    begin = np.concatenate([left, right, left])
    end = np.concatenate([left, right, right])
    foot = np.concatenate([level[left], level[right], level[parent]])
    gap = np.full(3 * len(merges), np.nan)
    pieces_x = np.stack([position[begin], position[end], gap], axis=1)
    pieces_y = np.stack([foot, np.tile(level[parent], 3), gap], axis=1)
    pieces_owner = np.concatenate([owner[left], owner[right], owner[parent]])
    options: dict[str, Any] = {
        "linewidth": np.interp(np.log10(n_leaves), [1.5, 2.5, 3.5], [1.5, 1.0, 0.6]),
        "solid_capstyle": "projecting",
    } | kwargs
    mixed = pieces_owner == None  # noqa: E711 (elementwise)
    # The few branches above the groups stay visible however fine the twigs become.
    trunk = {"color": "0.45"} | options | {"linewidth": kwargs.get("linewidth", 1.2)}
    ax.plot(pieces_x[mixed].ravel(), pieces_y[mixed].ravel(), **trunk)
    handles: list[Artist] = []
    others: list[Artist] = []
    group = owner[:n_leaves]
    for label, (color, marker) in group_style(group).items():
        rows = pieces_owner == label
        text = group_text(label, int(np.count_nonzero(group == label)), names)
        ax.plot(pieces_x[rows].ravel(), pieces_y[rows].ravel(), color=color, label=text, **options)
        if n_leaves <= MAX_LABELLED_LEAVES:
            at = position[:n_leaves][group == label]
            ax.plot(at, 0.0 * at, color=color, marker=marker, ls="none", clip_on=False, ms=4)
        else:
            marker = ""
        handle = marker_handle(text, color, marker, line=True)
        (others if label == UNASSIGNED else handles).append(handle)
    return handles, others


def _label_leaves(
    ax: Axes, position: NDArray[np.float64], ids: NDArray[Any] | None, pixels: float
) -> None:
    """Write obs_ids below the leaves if they are few enough to be legible, else their number."""
    n_leaves = len(position)
    room = pixels * 72.0 / ax.figure.dpi / (n_leaves + 1)  # points per leaf
    if ids is None or n_leaves > MAX_LABELLED_LEAVES or room < 5.0:
        ax.set_xticks([])
        ax.set_xlabel(count_text(n_leaves))
        return
    order = np.argsort(position)
    texts = [str(one) for one in ids[order]]
    ax.set_xticks(position[order], texts, rotation=90, fontsize=min(9.0, 0.9 * room))
    ax.tick_params(axis="x", length=0.0, pad=6.0)
    ax.set_xlabel("obs_id")
