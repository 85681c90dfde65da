"""Which runs may be stacked: the one rule, and what it looks at.

A stack is a measurement by one instrument. Runs of another telescope or array, of the other class
of response (a point-like one holds a directional cut, a full-enclosure one does not), with a cut of
another size, or with events of another type are kept apart: they are fitted together, each kind in
groups of its own. A single missing telescope makes no other array, and neither do other conditions,
other responses of the same class, or a cut that depends on energy. What nobody knows of a run is no
difference.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from obscluster.archive.quantities import text_of
from obscluster.exceptions import DataError, RequestError
from obscluster.gadf.keywords import number_of
from obscluster.gadf.response import IRF

__all__ = [
    "KEEP_APART",
    "ONE_KIND",
    "WITHIN",
    "Kind",
    "check_stackable",
    "code_of",
    "joined",
    "kind_of",
    "kind_texts",
    "make_kind",
    "may_be_stacked",
    "packed",
    "settled",
    "unpacked",
]

WITHIN = "kind"
"""Column for ``--within`` that keeps kinds apart."""
KEEP_APART = (
    f"keep the kinds apart by --within {WITHIN} (in YAML, constraints: {{within: [{WITHIN}]}})"
)
"""What to do about groups that would hold several kinds."""
ONE_KIND = (
    "look at one kind at a time, such as by --where TELESCOP = NAME or --where OBS_ID FIRST LAST"
)
"""What to do where all runs are one stack."""

_SHOWN = 5


class Kind(NamedTuple):
    """What a run is to others that it may be stacked with; empty where it is unknown.

    Parameters
    ----------
    telescope, instrument : str
        ``TELESCOP`` and ``INSTRUME``.
    telescopes : str
        ``TELLIST``, where it lists as many as ``N_TELS`` says; see `settled`.
    response : {"full-enclosure", "point-like", ""}
        ``HDUCLAS3`` of the effective area.
    cut : str
        Directional cut of a point-like response, ``0.173 deg`` or ``by energy``.
    events : str
        ``EVENT_TYPE`` and ``EVENT_CLASS``.
    """

    telescope: str = ""
    instrument: str = ""
    telescopes: str = ""
    response: str = ""
    cut: str = ""
    events: str = ""

    @property
    def parts(self) -> dict[str, str]:
        """What is known, by its name."""
        return {name: text for name, text in self._asdict().items() if text}

    def __str__(self) -> str:
        telescope, instrument = _plain(self.telescope), _plain(self.instrument)
        parts = [self.telescope, self.instrument]
        if telescope and telescope in instrument:
            # "HESS" says nothing beside "H.E.S.S. Phase I".
            parts = [self.telescope if telescope == instrument else self.instrument]
        parts += [f"telescopes {self.telescopes}" if self.telescopes else ""]
        parts += ["" if self.response == "full-enclosure" and any(parts) else self.response]
        events = f"events {self.events}" if self.events else ""
        return " ".join(filter(None, [*parts, self.cut, events]))


class Run(Protocol):
    """What the rule asks of an observation."""

    @property
    def index_row(self) -> Mapping[str, Any]:
        """Columns of the obs-index."""

    @property
    def header(self) -> Mapping[str, Any]:
        """EVENTS header."""

    def read_irfs(self, *hdu_types: str) -> Mapping[str, IRF]:
        """Responses."""


def kind_of(run: Run, irfs: Mapping[str, IRF] | None = None) -> Kind:
    """Kind of one run, by the obs-index, the EVENTS header and the header of the effective area.

    Parameters
    ----------
    run : `Run`
        The observation. What cannot be read is unknown.
    irfs : mapping, optional
        ``aeff`` and ``rad_max``, as far as the run has them, if they were read already.
    """
    if irfs is None:
        try:
            irfs = run.read_irfs("aeff", "rad_max")
        except DataError:
            irfs = {}
    try:
        header = run.header
    except DataError:
        header = {}
    row = run.index_row

    def text(key: str) -> str:
        return text_of(row.get(key)) or text_of(header.get(key))

    listed = sorted(set(re.split(r"[,;\s]+", text("TELLIST"))) - {""})
    # Otherwise it is no list: some write a name, or a number whose bits are telescopes.
    n_tels = number_of("N_TELS", row.get("N_TELS", header.get("N_TELS")))
    aeff, rad_max = irfs.get("aeff"), irfs.get("rad_max")
    response = cut = ""
    if aeff is not None:
        response = "point-like" if aeff.is_pointlike else "full-enclosure"
    if response == "point-like" and rad_max is not None:
        cut = "by energy"
        if all(axis.nbin == 1 for axis in rad_max.axes.values()):
            cut = f"{float(np.ravel(rad_max.data)[0]) * rad_max.unit.to('deg'):.3g} deg"
    return Kind(
        text("TELESCOP"),
        text("INSTRUME"),
        ",".join(listed) if len(listed) == n_tels else "",
        response,
        cut,
        " ".join(filter(None, [text("EVENT_TYPE"), text("EVENT_CLASS")])),
    )


def make_kind(parts: Mapping[str, Any]) -> Kind:
    """Kind from its parts by name, such as `Kind.parts`."""
    return Kind(**{name: text_of(text) for name, text in parts.items() if name in Kind._fields})


def code_of(kind: Kind) -> float:
    """A kind as a whole number below 2^48, which tables of features can hold."""
    return float(
        int.from_bytes(hashlib.blake2b(repr(tuple(kind)).encode(), digest_size=6).digest())
    )


def may_be_stacked(first: Kind, second: Kind) -> bool:
    """Whether runs of two kinds may be stacked."""
    for name, one, other in zip(Kind._fields, first, second, strict=True):
        if one and other and name == "telescopes":
            if not set(one.split(",")) & set(other.split(",")):
                return False
        elif one and other and _plain(one) != _plain(other):
            return False
    return True


def settled(kinds: Sequence[Kind]) -> list[Kind]:
    """Kinds with the whole array in place of the telescopes that took part in a run.

    Telescopes that are in one list belong to one array. They are named only where runs that are
    otherwise alike are of several arrays, such as one telescope by itself beside four others.
    """
    alike: dict[Kind, list[set[str]]] = {}
    for kind in dict.fromkeys(kinds):
        arrays = alike.setdefault(kind._replace(telescopes=""), [])
        array = set(kind.telescopes.split(",")) - {""}
        if array:
            others = [other for other in arrays if other & array]
            arrays[:] = [other for other in arrays if not other & array]
            arrays.append(array.union(*others))

    def settle(kind: Kind) -> Kind:
        plain = kind._replace(telescopes="")
        arrays, own = alike[plain], set(kind.telescopes.split(","))
        array = next((array for array in arrays if array & own), set[str]())
        return kind._replace(telescopes=",".join(sorted(array))) if len(arrays) > 1 else plain

    new = {kind: settle(kind) for kind in dict.fromkeys(kinds)}
    return [new[kind] for kind in kinds]


def kind_texts(kinds: Iterable[Kind]) -> list[str]:
    """Kinds in words: those of runs that may be stacked have the same."""
    texts: dict[str, str] = {}
    # "HESS" and "H.E.S.S." are one telescope.
    return [texts.setdefault(_plain(str(kind)), str(kind)) for kind in kinds]


def joined(kinds: Iterable[Kind]) -> Kind:
    """Kind of a group of runs that may be stacked: what is known of any."""
    parts = zip(*kinds, strict=True)
    return Kind(*(next(filter(None, part), "") for part in parts))


def check_stackable(
    kinds: Mapping[int, Kind], groups: Mapping[str, Iterable[int]], remedy: str
) -> None:
    """Check that no group holds runs that may not be stacked.

    Parameters
    ----------
    kinds : mapping
        Run to its kind, see `settled`; runs that it lacks are unknown.
    groups : mapping
        Name of a group to its runs.
    remedy : str
        What to do about it.

    Raises
    ------
    RequestError
        If one does; the message names the kinds and their runs.
    """
    for name, obs_ids in groups.items():
        runs: dict[Kind, list[int]] = {}
        for obs_id in obs_ids:
            runs.setdefault(kinds.get(obs_id, Kind()), []).append(obs_id)
        found = list(runs)
        apart = {kind for kind in found if not all(may_be_stacked(kind, other) for other in found)}
        if not apart:
            continue
        members: dict[str, list[int]] = {}
        for kind, text in zip(found, kind_texts(found), strict=True):
            if kind in apart:
                members.setdefault(text, []).extend(runs[kind])
        parts = [f"{text} ({_some(of_kind)})" for text, of_kind in members.items()]
        raise RequestError(
            f"{name} would stack runs that may not be: {', and '.join(parts)}; {remedy}"
        )


def packed(obs_ids: Iterable[int], kinds: Sequence[Kind]) -> list[dict[str, Any]]:
    """Kinds of runs for the header of a table; that of most runs lists none of them."""
    ranked = Counter(kinds).most_common()
    runs: dict[Kind, list[int]] = {kind: [] for kind, _ in ranked[1:]}
    for obs_id, kind in zip(obs_ids, kinds, strict=True):
        if kind in runs:
            runs[kind].append(obs_id)
    known: list[dict[str, Any]] = [kind.parts for kind, _ in ranked]
    others = [{**kind, "runs": some} for kind, some in zip(known[1:], runs.values(), strict=True)]
    return [*known[:1], *others]


def unpacked(obs_ids: Iterable[int], content: Sequence[Mapping[str, Any]]) -> dict[int, Kind]:
    """What `packed` has packed, by run."""
    of_run: dict[int, Kind] = {}
    most = Kind()
    for entry in content:
        kind = make_kind(entry)
        most = most if "runs" in entry else kind
        of_run |= dict.fromkeys(entry.get("runs", ()), kind)
    return {obs_id: of_run.get(obs_id, most) for obs_id in obs_ids}


def _plain(text: str) -> str:
    """Letters and digits alone: punctuation and case tell nothing apart."""
    return "".join(c for c in text.upper() if c.isalnum())


def _some(obs_ids: Sequence[int]) -> str:
    """A few runs, and how many more there are."""
    runs = "run" if len(obs_ids) == 1 else "runs"
    more = f" and {len(obs_ids) - _SHOWN} more" if len(obs_ids) > _SHOWN else ""
    return f"{runs} {', '.join(map(str, obs_ids[:_SHOWN]))}{more}"
