"""The tables of a report, as rows of text."""

from __future__ import annotations

from typing import Any

import numpy as np

from obscluster.grouping import UNASSIGNED
from obscluster.report.content import ReportContent, number_text, variable

__all__ = [
    "asked_rows",
    "checksum_rows",
    "cut_flow_rows",
    "group_columns",
    "group_rows",
    "outlier_rows",
    "unassigned_rows",
]

_PARTS = ("features", "scaling", "constraints", "source")


def asked_rows(content: ReportContent) -> list[tuple[str, str]]:
    """What was asked, a line for each part of the description."""
    config = content.record["config"]
    rows = [("archive", str(content.record.get("archive", "")))]
    if config.get("target"):
        rows.append(("target", f"{config['target']}, within {config.get('radius')}"))
    features = config.get("features") or {}
    clustered = [str(name) for name in content.record.get("clustered") or ()]
    if clustered:
        where = f"at {', '.join(map(str, features.get('energy') or ()))}"
        offset = features.get("offset")
        where += f", {offset} off axis" if offset else ""
        energies = any(name.partition("@")[0] in _PER_ENERGY for name in clustered)
        rows.append(("features", ", ".join(clustered) + (f" ({where})" if energies else "")))
    method = dict(config.get("grouping") or {})
    rows.append(("method", _in_words(method.pop("method", ""), method)))
    scaling = dict(config.get("scaling") or {})
    if config.get("grouping", {}).get("method") != "cuts":
        rows.append(("scaling", _in_words(scaling.pop("method", ""), scaling)))
    constraints = _in_words("", dict(config.get("constraints") or {}), {"short": "merge"})
    rows.append(("constraints", constraints or "none"))
    source = config.get("source")
    if source:
        size = str(source.get("size", ""))
        text = (
            f"{source.get('amplitude')} at {source.get('reference')}, index {source.get('index')}"
        )
        text += f", size {size}" if size and not size.startswith("0 ") else ", a point"
        rows.append(("source", f"{text}; {', '.join(source.get('parameters') or ())} are measured"))
    return [(name, text) for name, text in rows if text]


# Features that depend on an energy, for which it is said.
_PER_ENERGY = (
    *("psf-radius", "psf-r68", "psf-r95", "edisp-bias", "edisp-res", "edisp-bias50"),
    *("edisp-res68", "aeff", "bkg-rate", "rad-max", "event-rate"),
)


def _in_words(first: str, options: dict[str, Any], defaults: dict[str, Any] | None = None) -> str:
    """A choice and its options, without those that were not used."""
    parts = [first] if first else []
    for name, value in options.items():
        if value in (None, False, "", 0, {}, [], ()) or value == (defaults or {}).get(name):
            continue
        if (name, value) == ("criterion", "maxclust"):
            continue
        if name == "n_groups":
            parts.append("1 group" if value == 1 else f"{value} groups")
            continue
        words = name.replace("_", " ")
        parts.append(words if value is True else f"{words} {_value(value)}")
    return ", ".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_value(v)}" for k, v in value.items() if v not in (None, False))
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return str(value)


def cut_flow_rows(content: ReportContent) -> list[dict[str, str]]:
    """Steps of the selection."""
    return [
        {name: str(row.get(name, "")) for name in ("selection", "passed", "dropped")}
        for row in content.record.get("cut_flow") or ()
    ]


def group_columns(content: ReportContent) -> list[dict[str, Any]]:
    """Quantities whose ranges are listed: features first, then conditions that vary."""
    quantities = [
        *content.features,
        *(q for q in content.conditions if q.varies and q.key != "LIVETIME"),
    ]
    return [{"label": q.label, "unit": q.unit, "quantity": q} for q in quantities]


def group_rows(content: ReportContent, columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each group, the unassigned runs last."""
    percents: dict[tuple[int, str], float] = {}
    spreads = content.spreads
    if len(spreads):
        keys = zip(spreads["label"].tolist(), map(str, spreads["feature"]), strict=True)
        percents = dict(zip(keys, map(float, spreads["percent"]), strict=True))
    rows = []
    for label in content.with_unassigned:
        members = content.labels == label
        cells = []
        for column in columns:
            quantity = column["quantity"]
            spread = ""
            percent = percents.get((label, quantity.key), np.nan)
            if quantity.is_feature and np.isfinite(percent):
                spread = f"{percent:.1f} %" if percent < 10 else f"{percent:.0f} %"
            cells.append({"range": quantity.range_words(members), "spread": spread})
        hours = float(content.hours[members].sum())
        name = content.grouping.names.get(label, "")
        words = content.words.get(label, "")
        rows.append(
            {
                "label": label,
                "name": "no group" if label == UNASSIGNED else f"group {label}",
                "words": ", ".join(dict.fromkeys(filter(None, [name, words]))),
                "variable": variable(label),
                "marker": content.looks[label].bokeh_marker,
                "n_obs": int(members.sum()),
                "hours": hours,
                "livetime": f"{hours:.2f}" if hours < 10 else f"{hours:.1f}",
                "cells": cells,
            }
        )
    return rows


def unassigned_rows(content: ReportContent) -> list[dict[str, str]]:
    """Runs of no group, and why."""
    reasons = content.grouping.reasons
    return [
        {"obs_id": str(obs_id), "reason": reasons.get(obs_id) or "no reason is recorded"}
        for obs_id in content.grouping.obs_ids[content.labels == UNASSIGNED].tolist()
    ]


def outlier_rows(content: ReportContent) -> list[dict[str, str]]:
    """Runs that are far from every group."""
    if not content.outliers.colnames:
        return []
    return [
        {
            "obs_id": str(row["obs_id"]),
            "group": _label(int(row["label"])),
            "nearest": _label(int(row["nearest"])),
            "feature": str(row["feature"]),
            "deviation": number_text(float(row["deviation"]), 2),
        }
        for row in content.outliers
    ]


def _label(label: int) -> str:
    return "no group" if label == UNASSIGNED else f"group {label}"


def checksum_rows(content: ReportContent) -> dict[str, str]:
    """Files and their checksums: what was read, and what was written."""
    found: dict[str, str] = {}
    for key in ("index_files", "feature_files", "label_files", "checksums"):
        for name, value in (content.record.get(key) or {}).items():
            found[str(name)] = str(value)
    return found
