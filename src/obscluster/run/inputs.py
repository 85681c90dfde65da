"""What the steps of a run depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from obscluster.characterise import Runs, Selected, feature_requests
from obscluster.config import InformationConfig, RunConfig
from obscluster.exceptions import DataError
from obscluster.features.run_keys import file_states
from obscluster.files.checksums import checksum
from obscluster.files.records import versions
from obscluster.gadf.remote import is_remote

__all__ = ["feature_inputs", "group_inputs"]


def feature_inputs(config: RunConfig, selected: Selected) -> dict[str, Any]:
    """What the features depend on.

    Files of runs are told by size and time of change, at URLs by what the server says of them
    (``ETag``, ``Last-Modified``, size): to read all of them would be the work that is to be saved.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        What is asked.
    selected : `~obscluster.characterise.Selected`
        The observations.
    """
    asked, store, target = config.features, selected.data_store, selected.target
    obs_ids = np.asarray(selected.obs_table["OBS_ID"]).tolist()
    clustered, beside = feature_requests(config, selected.obs_table)
    position = None
    if target is not None and asked.offset is None:
        position = [float(target.position.ra.deg), float(target.position.dec.deg)]
    return {
        "index": list(store.index_checksums.values()),
        "runs": obs_ids,
        "files": _states(selected, obs_ids),
        "position": position,
        "features": {
            "names": clustered,
            "beside": beside,
            **asked.model_dump(include={"energy", "offset", "containment_fraction"}),
        },
        "feature files": {name: checksum(Path(name)) for name in asked.files},
        "versions": versions(),
    }


def group_inputs(config: RunConfig, runs: Runs, features: str) -> dict[str, Any]:
    """What the groups depend on.

    Parameters
    ----------
    config : `~obscluster.config.RunConfig`
        What is asked.
    runs : `~obscluster.characterise.Runs`
        The observations and their features.
    features : str
        Fingerprint of the features.
    """
    inputs = {
        "features": features,
        "archive": str(runs.data_store.base_dir.absolute()),
        "selection": [runs.selections, [list(row) for row in runs.cut_flow.iterrows()]],
        "missing": config.features.missing,
        "grouping": config.grouping.model_dump(),
        "scaling": config.scaling.model_dump(),
        "constraints": config.constraints.model_dump(),
    }
    # Groups that are named in a file.
    file = getattr(config.grouping, "file", None)
    if file is not None and Path(file).is_file():
        inputs["labels"] = checksum(Path(file))
    if isinstance(config.grouping, InformationConfig):
        inputs["source"] = config.model_dump(include={"source", "counts", "target", "frame"})
    return inputs


def _states(selected: Selected, obs_ids: list[int]) -> list[list[Any]]:
    """Name, size and time of change of the files of the runs; at URLs, what the server says."""
    index = selected.data_store.hdu_index
    known = set(index.obs_ids.tolist())
    locations = {
        location.path: location
        for obs_id in obs_ids
        if obs_id in known
        for location in index.locations(obs_id).values()
    }
    states: list[list[Any]] = []
    remote = file_states(path for path in locations if is_remote(path))
    for path, location in sorted(locations.items(), key=lambda item: str(item[0])):
        if is_remote(path):
            states.append([str(path), remote[path]])
            continue
        try:
            state = location.existing_path.stat()
            states.append([path.name, state.st_size, state.st_mtime_ns])
        except (DataError, OSError):
            states.append([path.name, None, None])
    return states
