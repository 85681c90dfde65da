"""What Gammapy says while it works, kept apart from what the user reads."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["captured"]


class _Collector(logging.Handler):
    """Counts log messages from warnings upwards."""

    def __init__(self, found: Counter[str]):
        super().__init__(logging.WARNING)
        self.found = found

    def emit(self, record: logging.LogRecord) -> None:
        self.found[record.getMessage()] += 1


@contextmanager
def captured() -> Iterator[Counter[str]]:
    """Take in the warnings of Python and of Gammapy's log, and count them.

    Yields
    ------
    found : `~collections.Counter`
        Text to how often it was said; complete when the block has ended.
    """
    found: Counter[str] = Counter()
    logger = logging.getLogger("gammapy")
    collector, propagates = _Collector(found), logger.propagate
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        logger.addHandler(collector)
        logger.propagate = False
        try:
            yield found
        finally:
            logger.removeHandler(collector)
            logger.propagate = propagates
            found.update(f"{w.category.__name__}: {w.message}" for w in caught)
