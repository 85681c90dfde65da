"""Features that were computed before, kept in Parquet files.

A cache is a directory of part files. Each has one row per run, with its ``obs_id``, one column per
feature, ``notes``, and the key that says of which state of which files the values are; astropy and
pandas open it. What is not there is null, what has no value is NaN.

- Who computes adds a part, written beside and renamed, so that nobody sees half of one and two who
  add at once lose nothing.
- A part is named by the sum over its bytes. One that is damaged is noticed, warned of and removed;
  what it held is computed anew.
- Many small parts are merged into one: it is there before those that it replaces are removed, and a
  reader that misses one of them looks again. A part is only ever removed by who has put its content
  into another, so merging at once loses nothing either.

What the values are valid for is the business of `obscluster.features.cached`. Of files that have
changed the old rows stay; delete the directory whenever you like.
"""

from __future__ import annotations

from obscluster.cache.directory import FeatureCache, Found, Identity
from obscluster.cache.part import CachedColumn, Keys

__all__ = ["CachedColumn", "FeatureCache", "Found", "Identity", "Keys"]
