"""The one way to a quantity of a run: its value with unit, and where it comes from.

Sources are asked in this order: the obs-index, the EVENTS header, and what can be computed from
good time intervals, pointing and place. Livetime is the exception: good time times DEADC counts
wherever the file of the run is read anyway. Names are those of GADF (``ZEN_PNT``) and of features
(``zenith``); values are in the units of GADF. What nobody knows is NaN, with "unknown" as its
source; zero never stands for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord, angular_separation
from astropy.table import Table
from astropy.time import Time
from numpy.typing import NDArray

from obscluster.exceptions import ArchiveError, DataError, RequestError
from obscluster.gadf.keywords import NUMBERS, HeaderNumbers, column_numbers, number_of
from obscluster.gadf.time import MAX_SECONDS, has_time_ref, quiet_times, time_ref_from_header
from obscluster.parallel.engine import Progress

__all__ = [
    "COMPUTED",
    "GOOD_TIME",
    "HEADER",
    "INDEX",
    "QUANTITIES",
    "UNKNOWN",
    "Known",
    "Progress",
    "Quantity",
    "Run",
    "column_of",
    "is_known_name",
    "quantity_of",
    "text_of",
    "texts_of",
    "unit_of_quantity",
]

Array = NDArray[np.float64]

INDEX, HEADER, COMPUTED, UNKNOWN = "index", "header", "computed", "unknown"
GOOD_TIME = "good time"
"""Source of a livetime that is good time times DEADC."""

# Julian date at which the count of MJD begins.
_MJD_ZERO = 2400000.5
# What is remarked: index or header and good time differ by more.
_TOLERANCE = 0.01
_NO_TEXT = ("", "n/a", "nan", "--")


class Known(NamedTuple):
    """A quantity of a run, or of several.

    Parameters
    ----------
    value : `~astropy.units.Quantity` or str
        A scalar for one run, shape (n_obs,) for a table; NaN where it is unknown.
    source : str or `~numpy.ndarray` of str
        "index", "header", "good time", "computed" or "unknown".
    note : str or `~numpy.ndarray` of str
        Why it is unknown, or doubtful; else empty.
    """

    value: Any
    source: Any
    note: Any = ""


class Run(Protocol):
    """What a quantity may ask of an observation."""

    obs_id: int

    @property
    def index_row(self) -> Mapping[str, Any]:
        """Columns of the obs-index, in the units of GADF."""

    @property
    def index_header(self) -> Mapping[str, Any]:
        """Header of the obs-index."""

    @property
    def header(self) -> Mapping[str, Any]:
        """EVENTS header."""

    @property
    def gti(self) -> Any:
        """Good time intervals."""

    @property
    def tmid(self) -> Time:
        """Middle of the observation."""

    def get_pointing_icrs(self, time: Time | None = None) -> SkyCoord:
        """Pointing direction in ICRS."""

    def get_pointing_altaz(self, time: Time) -> SkyCoord:
        """Pointing direction as altitude and azimuth."""


@dataclass(frozen=True)
class Quantity:
    """How a quantity is found.

    Parameters
    ----------
    unit : `~astropy.units.UnitBase`
        Its unit.
    ways : tuple
        Keywords, and a function of their values (numbers or arrays), in the order of preference.
    compute : callable, optional
        Computes it from a `Run`, where no keyword says it.
    is_time : bool
        Whether the keywords give seconds since a reference, and the quantity is their MJD (TT).
    """

    unit: u.UnitBase
    ways: tuple[tuple[tuple[str, ...], Callable[..., Any]], ...]
    compute: Callable[[Run], float] | None = None
    is_time: bool = False


def _same(value: Any) -> Any:
    return value


def _ratio(livetime: Any, ontime: Any) -> Any:
    """Dead time correction; none where there was no time."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.divide(livetime, ontime)
    return np.where(np.isfinite(share), share, np.nan)


def _off_axis(ra: Any, dec: Any, ra_obj: Any, dec_obj: Any) -> Any:
    # Two zeros are what some programs write for a target that they do not have.
    ra_obj = np.where((ra_obj == 0) & (dec_obj == 0), np.nan, ra_obj)
    return np.degrees(angular_separation(*np.radians((ra, dec, ra_obj, dec_obj))))


def _galactic(ra: Any, dec: Any) -> SkyCoord:
    return SkyCoord(ra, _latitude(dec), unit="deg", frame="icrs").galactic


def _equatorial(lon: Any, lat: Any) -> SkyCoord:
    return SkyCoord(lon, _latitude(lat), unit="deg", frame="galactic").icrs


def _latitude(values: Any) -> Any:
    return np.where(np.abs(values) <= 90, values, np.nan)


def _directions(
    keys: tuple[str, str],
    others: tuple[str, str],
    convert: Callable[[Any, Any], SkyCoord],
    parts: tuple[str, str],
) -> list[Quantity]:
    """Longitude and latitude of the pointing: both from one pair of keywords, or the other."""

    def of_run(run: Run, part: str) -> float:
        coord = run.get_pointing_icrs()
        return float(getattr(coord.galactic if part in "lb" else coord, part).deg)

    return [
        Quantity(
            u.deg,
            (
                (keys, lambda *pair, i=i: pair[i]),
                (others, lambda lon, lat, part=part: getattr(convert(lon, lat), part).deg),
            ),
            lambda run, part=part: of_run(run, part),  # type: ignore[misc]
        )
        for i, part in enumerate(parts)
    ]


def _good_seconds(run: Run) -> float:
    return float(run.gti.time_sum.to_value(u.s))


def _zenith(run: Run) -> float:
    return float(run.get_pointing_altaz(run.tmid).zen.deg)


def _azimuth(run: Run) -> float:
    return float(run.get_pointing_altaz(run.tmid).az.deg)


def _middle(start: Any, stop: Any) -> Any:
    return 0.5 * (start + stop)


_PNT, _GAL = ("RA_PNT", "DEC_PNT"), ("GLON_PNT", "GLAT_PNT")
_ZENITH = ((("ZEN_PNT",), _same), (("ALT_PNT",), lambda altitude: 90.0 - altitude))
_LIVETIME = (
    (("LIVETIME",), _same),
    (("ONTIME", "DEADC"), lambda ontime, deadc: ontime * deadc),
)
_DEADC = ((("DEADC",), _same), (("LIVETIME", "ONTIME"), _ratio))


def _direct(name: str, compute: Callable[[Run], float] | None = None) -> Quantity:
    return Quantity(NUMBERS[name].unit or u.one, (((name,), _same),), compute)


QUANTITIES: dict[str, Quantity] = {
    **{name: _direct(name) for name in NUMBERS},
    **dict(zip(_PNT, _directions(_PNT, _GAL, _equatorial, ("ra", "dec")), strict=True)),
    **dict(zip(_GAL, _directions(_GAL, _PNT, _galactic, ("l", "b")), strict=True)),
    "ZEN_PNT": Quantity(u.deg, _ZENITH, _zenith),
    "zenith": Quantity(u.deg, _ZENITH, _zenith),
    "ALT_PNT": Quantity(
        u.deg,
        ((("ALT_PNT",), _same), (("ZEN_PNT",), lambda zenith: 90.0 - zenith)),
        lambda run: 90.0 - _zenith(run),
    ),
    "AZ_PNT": _direct("AZ_PNT", _azimuth),
    "azimuth": Quantity(
        u.deg, ((("AZ_PNT",), lambda azimuth: azimuth % 360.0),), lambda run: _azimuth(run) % 360.0
    ),
    "ONTIME": _direct("ONTIME", _good_seconds),
    "LIVETIME": Quantity(u.s, _LIVETIME),
    "livetime": Quantity(u.s, _LIVETIME),
    "DEADC": Quantity(u.one, _DEADC),
    "deadtime-fraction": Quantity(
        u.one,
        tuple((keys, lambda *values, f=function: 1.0 - f(*values)) for keys, function in _DEADC),
    ),
    "mjd": Quantity(
        u.d, ((("TSTART", "TSTOP"), _middle),), lambda run: float(run.tmid.tt.mjd), is_time=True
    ),
    "start": Quantity(
        u.d,
        ((("TSTART",), _same),),
        lambda run: float(run.gti.time_start.tt.mjd.min()),
        is_time=True,
    ),
    "stop": Quantity(
        u.d,
        ((("TSTOP",), _same),),
        lambda run: float(run.gti.time_stop.tt.mjd.max()),
        is_time=True,
    ),
    "muoneff": _direct("MUONEFF"),
    "n-tels": _direct("N_TELS"),
    "nsb": _direct("NSBLEVEL"),
    "OFFSET_OBJ": Quantity(
        u.deg,
        ((("OFFSET_OBJ",), _same), ((*_PNT, "RA_OBJ", "DEC_OBJ"), _off_axis)),
    ),
}
"""Name of a quantity, by GADF or as a feature, to how it is found."""


def is_known_name(table: Table, name: str) -> bool:
    """Whether a name is that of a quantity: a column, one of `QUANTITIES`, or a keyword.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Observation table; with files, the header of its first run is looked into.
    name : str
        The name.
    """
    if name in table.colnames or name in QUANTITIES:
        return True
    for run in _observations(table, range(min(len(table), 1))):
        try:
            return run.header.get(name) is not None
        except DataError:
            return False
    return False


def quantity_of(run: Run, name: str, files: bool = True) -> Known:
    """Quantity of one run.

    Parameters
    ----------
    run : `Run`
        The observation.
    name : str
        Name by GADF or as a feature; any column of the obs-index, and any keyword.
    files : bool
        Whether livetime is good time times DEADC, rather than what index or header say.

    Returns
    -------
    known : `Known`
        Value with unit, its source, and a note if it is unknown or doubtful.
    """
    definition = QUANTITIES.get(name)
    # Unit of a column or keyword that GADF does not have.
    unit = (
        (getattr(run, "index_units", {}).get(name) or u.one)
        if definition is None
        else definition.unit
    )
    written, problem = _from_keywords(run, name, definition)
    if files and name in ("livetime", "LIVETIME"):
        return _livetime(run, written)
    if written is not None:
        return Known(u.Quantity(written[0], unit), written[1])
    if definition is not None and definition.compute is not None:
        try:
            value = definition.compute(run)
            if np.isfinite(value):
                return Known(u.Quantity(value, unit), COMPUTED)
        except (DataError, ValueError, KeyError, TypeError) as error:
            problem = problem or str(error)
    return Known(u.Quantity(np.nan, unit), UNKNOWN, _unknown(name, definition, problem))


def _unknown(name: str, definition: Quantity | None, problem: str) -> str:
    keys = (name,) if definition is None else definition.ways[0][0]
    why = f" ({problem})".replace("; ", ", ") if problem else ""
    return f"neither obs-index nor header has {' and '.join(keys)}{why}"


def _from_keywords(
    run: Run, name: str, definition: Quantity | None, sources: tuple[str, str] = (INDEX, HEADER)
) -> tuple[tuple[float, str] | None, str]:
    """Value and source from the index, or else the header; and why a header does not tell."""
    ways = (((name,), _same),) if definition is None else definition.ways
    problem = ""
    for source in sources:
        try:
            of_index = source == INDEX
            drift = (
                not of_index
                and name in (*_PNT, *_GAL)
                and (text_of(run.header.get("OBS_MODE")).upper() == "DRIFT")
            )
            if drift:
                # Altitude and azimuth count, from which the direction is computed.
                continue
            values = run.index_row if of_index else HeaderNumbers(run.header)
            for keys, function in ways:
                numbers = [_keyword(values, key) for key in keys]
                if not np.isfinite(numbers).all():
                    continue
                value = float(function(*numbers))
                if definition is not None and definition.is_time:
                    value = float(_mjd(run.index_header if of_index else run.header, value))
                elif source == HEADER and name in ("TSTART", "TSTOP"):
                    value += _shift(run)
                if np.isfinite(value):
                    return (value, source), ""
        except (DataError, ValueError) as error:
            problem = str(error)
    return None, problem


def _keyword(values: Mapping[str, Any], key: str) -> float:
    number = number_of(key, values.get(key))
    if np.isnan(number) and key == "EVENT_COUNT":
        # Of the header of a table, its number of rows.
        return number_of(key, values.get("NAXIS2"))
    return number


def _mjd(reference: Mapping[str, Any], seconds: Any) -> Any:
    """MJD (TT) of seconds since the reference in a header; NaN where there is none."""
    if not has_time_ref(reference):
        return np.full(np.shape(seconds), np.nan)
    try:
        start = time_ref_from_header(reference)
    except ValueError:
        return np.full(np.shape(seconds), np.nan)
    seconds = np.asarray(seconds, dtype=float)
    found = np.full(seconds.shape, np.nan)
    usable = np.abs(seconds) <= MAX_SECONDS
    if start.scale == "tt":
        # Days of this scale all have the same length, so that astropy is not needed.
        day = start.jd1 - _MJD_ZERO
        return np.where(usable, day + (start.jd2 + seconds / 86400.0), np.nan)
    with quiet_times():
        found[usable] = (start + seconds[usable] * u.s).tt.mjd
    return found


def _shift(run: Run) -> float:
    """Seconds from the reference of the obs-index to that of the header."""
    if not (has_time_ref(run.index_header) and has_time_ref(run.header)):
        return 0.0
    index, header = time_ref_from_header(run.index_header), time_ref_from_header(run.header)
    with quiet_times():
        return float((header - index).to_value(u.s))


def _livetime(run: Run, written: tuple[float, str] | None) -> Known:
    """Good time times DEADC; what index or header say where there is no good time."""
    try:
        good = _good_seconds(run)
    except (DataError, ValueError, KeyError) as error:
        if written is None:
            note = _unknown("LIVETIME", QUANTITIES["LIVETIME"], str(error))
            return Known(np.nan * u.s, UNKNOWN, note)
        why = str(error).replace("; ", ", ")
        note = f"livetime of the {written[1]}, as there are no good time intervals ({why})"
        return Known(written[0] * u.s, written[1], note)
    # The header has more digits, and is read along with the intervals.
    share, _ = _from_keywords(run, "DEADC", QUANTITIES["DEADC"], (HEADER, INDEX))
    if share is None or not 0 <= share[0] <= 1 + _TOLERANCE:
        if written is None:
            note = "dead time unknown, livetime is the good time"
            return Known(good * u.s, GOOD_TIME, note)
        return Known(written[0] * u.s, written[1], "dead time unknown, livetime as written")
    value = good * share[0]
    note = ""
    if written is not None and abs(written[0] - value) > _TOLERANCE * value:
        note = (
            f"livetime of the good time intervals differs from that of the {written[1]} "
            f"({value:.1f} s, not {written[0]:.1f} s)"
        )
    return Known(value * u.s, GOOD_TIME, note)


def column_of(
    table: Table, name: str, files: bool = False, progress: Progress | None = None
) -> Known:
    """Quantity of all runs of an observation table.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Observation table; one of an archive
        (`~obscluster.archive.obs_table.ObservationTable.files`) is completed from its files.
    name, files
        See `quantity_of`.
    progress : callable, optional
        ``progress(iterable, total, what)`` wraps long loops.

    Returns
    -------
    known : `Known`
        Arrays of shape (n_obs,).

    Raises
    ------
    RequestError
        If the name is none of a quantity, or the column holds something else than numbers.
    ArchiveError
        If the unit of the column cannot be understood.
    """
    definition = QUANTITIES.get(name)
    unit = unit_of_quantity(table, name) if definition is None else definition.unit
    values, source = np.full(len(table), np.nan), np.full(len(table), UNKNOWN, dtype="U9")
    note = np.full(len(table), "", dtype=object)
    from_files = files and name in ("livetime", "LIVETIME")
    try:
        if not from_files or getattr(table, "files", None) is None:
            ways = (((name,), _same),) if definition is None else definition.ways
            for keys, function in ways:
                found = function(*(column_numbers(table, key) for key in keys))
                if definition is not None and definition.is_time:
                    found = _mjd(table.meta, found)
                take = np.isnan(values) & np.isfinite(found)
                values[take], source[take] = found[take], INDEX
    except ValueError as error:
        raise ArchiveError(f"obs-index: {error}") from None
    lacking = np.flatnonzero(np.isnan(values)).tolist()
    runs = _observations(table, lacking)
    wrapped = runs if progress is None else progress(runs, len(lacking), "headers")
    for row, run in zip(lacking, wrapped, strict=False):
        known = quantity_of(run, name, files)
        values[row], source[row], note[row] = known.value.to_value(unit), known.source, known.note
    return Known(u.Quantity(values, unit), source, note)


def _observations(table: Table, rows: Iterable[int]) -> Iterator[Any]:
    """Observations of some rows; none if the table is not that of an archive."""
    files = getattr(table, "files", None)
    return iter(()) if files is None else (files.observation(table[row]) for row in rows)


def unit_of_quantity(table: Table, name: str) -> u.UnitBase:
    """Unit of a column, or of a keyword, that GADF does not have.

    Raises
    ------
    RequestError
        If there is neither.
    ArchiveError
        If the unit of the column cannot be understood.
    """
    if name not in table.colnames:
        if is_known_name(table, name):
            return u.one
        raise RequestError(f"no column {name}, and no quantity of that name")
    unit = table[name].unit or u.one
    if isinstance(unit, u.UnrecognizedUnit):
        where = getattr(getattr(table, "files", None), "index_name", "obs-index")
        raise ArchiveError(
            f"{where}: the unit {unit.to_string()!r} of column {name} is not known; correct the "
            "file, or name another index by --obs-index FILE"
        )
    return unit


def texts_of(table: Table, name: str, progress: Progress | None = None) -> NDArray[np.str_]:
    """Text of all runs of an observation table, empty where it is unknown, shape (n_obs,).

    Parameters
    ----------
    table, progress
        See `column_of`.
    name : str
        Column of the obs-index, else keyword of the headers.
    """
    texts = [""] * len(table)
    if name in table.colnames and table[name].ndim == 1:
        texts = [text_of(value) for value in table[name]]
    lacking = [row for row, text in enumerate(texts) if not text]
    runs = _observations(table, lacking)
    wrapped = runs if progress is None else progress(runs, len(lacking), "headers")
    for row, run in zip(lacking, wrapped, strict=False):
        try:
            texts[row] = text_of(run.header.get(name))
        except DataError:
            texts[row] = ""
    return np.array(texts, dtype=str)


def text_of(value: Any) -> str:
    """Text of a value without blanks around; empty where it stands for nothing."""
    if value is None or np.ma.is_masked(value):
        return ""
    text = (value.decode("latin-1") if isinstance(value, bytes) else str(value)).strip()
    return "" if text.lower() in _NO_TEXT else text
