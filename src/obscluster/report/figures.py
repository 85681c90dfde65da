"""The pictures of a report in their order, with captions, and why some are missing."""

from __future__ import annotations

from typing import Any

from obscluster.curves import CURVES
from obscluster.report.content import ReportContent
from obscluster.report.numbers import number_pictures
from obscluster.report.pictures import (
    MOST_FEATURES,
    condition_pictures,
    dendrogram_picture,
    feature_pictures,
    sky_picture,
    time_picture,
)
from obscluster.report.responses import curve_pictures
from obscluster.report.sky import sky_map
from obscluster.report.svg import Picture

__all__ = ["parts_of"]


def parts_of(content: ReportContent) -> list[dict[str, Any]]:
    """Parts of the section of plots.

    Parameters
    ----------
    content : `~obscluster.report.content.ReportContent`
        What is told.

    Returns
    -------
    parts : list of dict
        Each with ``id``, ``title``, ``pictures``, ``caption``, ``absent`` and ``wide``; parts from
        one that ``begins`` to one that ``ends`` stand beside each other.
    """
    return [
        _conditions(content),
        _features(content),
        # A map is narrow and a time line wide: they share a row.
        _sky(content) | {"begins": "even" if _is_whole_sky(content) else "thirds"},
        _time(content) | {"ends": True},
        _tree(content),
        _numbers(content),
        _responses(content),
    ]


def _is_whole_sky(content: ReportContent) -> bool:
    return content.pointing is not None and sky_map(*content.pointing).whole_sky


def _part(
    name: str,
    title: str,
    pictures: list[Picture],
    caption: str,
    absent: list[str],
    wide: bool = False,
) -> dict[str, Any]:
    return {
        "id": f"plot-of-{name}",
        "title": title,
        "pictures": pictures,
        "caption": caption if pictures else "",
        "absent": absent,
        "wide": wide,
        "begins": "",
        "ends": False,
    }


def _conditions(content: ReportContent) -> dict[str, Any]:
    pictures = condition_pictures(content)
    return _part(
        "conditions",
        "Observing conditions",
        pictures,
        "Each point is a run. Dashed lines are cuts, where groups were made by cuts.",
        [] if pictures else ["The obs-index has no conditions in which the runs differ."],
    )


def _features(content: ReportContent) -> dict[str, Any]:
    pictures = feature_pictures(content)
    varying = [q for q in content.features if q.varies]
    caption = "Each point is a run."
    if 0 < len(varying) < 3 and len(pictures) > 1:
        caption += " As there are few features, they are shown against the zenith angle too."
    if len(varying) > MOST_FEATURES:
        caption += (
            f" Of {len(varying)} features, pairs are drawn of the {MOST_FEATURES} that tell the "
            "groups apart best; the explorer has all."
        )
    return _part(
        "features",
        "Feature against feature",
        pictures,
        caption,
        [] if pictures else ["There are no features in which the runs differ."],
    )


def _tree(content: ReportContent) -> dict[str, Any]:
    picture = dendrogram_picture(content)
    many = len(content.labels) > 1
    method = content.grouping.parameters.get("method", "this method")
    return _part(
        "tree",
        "Tree",
        [picture] if picture else [],
        "Runs merge from the bottom up; the dashed line is the cut.",
        []
        if picture
        else [f"Groups by {method} have no tree." if many else "One run makes no tree."],
        wide=True,
    )


def _numbers(content: ReportContent) -> dict[str, Any]:
    pictures = number_pictures(content)
    absent = []
    if len(content.quality) <= 1:
        absent.append("No quality by number of groups: no other numbers were tried.")
    if not content.losses_by_number:
        reason = content.missing.get("losses") or content.missing.get("archive")
        reason = reason or "no other numbers of groups are known"
        absent.append(f"No lost information by number of groups: {reason}.")
    return _part(
        "numbers",
        "Number of groups",
        pictures,
        "The dashed line is the number of these groups. Silhouettes in the grey area are reached "
        "by evenly spread runs too. Numbers are those of the method without constraints.",
        absent,
    )


def _responses(content: ReportContent) -> dict[str, Any]:
    pictures = curve_pictures(content)
    curves = content.curves
    caption = "Thin lines are runs, thick lines with markers the means of the groups."
    absent = []
    if curves is None:
        reason = content.missing.get("curves") or content.missing.get("archive") or "not asked for"
        absent.append(f"No responses against energy: {reason}.")
    else:
        if len(curves.rows) < curves.n_obs:
            caption += (
                f" A sample of {len(curves.rows)} of {curves.n_obs} runs, spread over the groups."
            )
        if curves.unreadable:
            caption += f" The files of {curves.unreadable} runs could not be read."
        if len(pictures) < len(CURVES):
            absent.append("Of responses that are not shown, the archive has none.")
    return _part("responses", "Instrument responses", pictures, caption, absent)


def _sky(content: ReportContent) -> dict[str, Any]:
    picture = sky_picture(content)
    return _part(
        "sky",
        "Sky",
        [picture] if picture else [],
        "Pointings of the runs (ICRS). Runs with the same pointing are drawn side by side.",
        [] if picture else ["The obs-index has no pointings."],
    )


def _time(content: ReportContent) -> dict[str, Any]:
    picture = time_picture(content)
    return _part(
        "time",
        "Time",
        [picture] if picture else [],
        "When each run began. Runs close in time are drawn above each other.",
        [] if picture else ["The obs-index has no times."],
        wide=True,
    )
