"""Corrupted files: made from good ones, and read with everything that obscluster reads.

As a script it does so in a process of its own, where memory is limited::

    python tests/corruption.py run ARCHIVE FIRST_SEED N

The same seed gives the same file.
"""

from __future__ import annotations

import gzip
import json
import resource
import shlex
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from obscluster import DataStore, get_irfs_features
from obscluster.check.indices import check_indices
from obscluster.exceptions import ObsClusterError, ObsClusterWarning
from obscluster.gadf.index import read_index, write_index

BLOCK, CARD = 2880, 80
EXTRA_BYTES = 500 << 20
NUMBERS = "0 1 -1 2 3 7 8 16 -32 -64 999 1000 65536 2147483647 -2147483648 9999999999999999"
NUMBERS += " 99999999999999999999999999999999999999999999999999 1.5 1E300 NAN INF T F 'text' ''"
FORMATS = "'1E' '0E' '32D' '999999999999D' '1X' '17X' '1PE(9)' '1QD(1000000)' '4A' '0A' '1L' '1C'"
FORMATS += " '2M' '1Z' 'E' '' '-1E' '99999J' '1K' '3B' '8I' 'F8.2' 'A6'"
SHAPES = "'(1)' '()' '(32,4)' '(4,32)' '(99999,99999)' '(-1,-128)' '(0)' '(a,b)' '1' '' '(2,64)'"
UNITS = (
    "'TeV' 'm' '0 m' '1E999 s' 'm/0' 's, m' '((((' '10**9999 deg' '' 'TeV**-1E9' 'sr-1' '?' 'GeV'"
)
VALUES = {
    "NAXIS1 NAXIS2 NAXIS3 PCOUNT GCOUNT TFIELDS NAXIS THEAP": NUMBERS,
    "BITPIX TSCAL1 TZERO1 TSCAL5 TZERO5 TNULL1": NUMBERS + " 32768 2147483648 9223372036854775808",
    "XTENSION": "'IMAGE' 'TABLE' 'BINTABLE' 'A3DTABLE' 'BINTABLY' '' 8 T",
    "TFORM1 TFORM2 TFORM4 TFORM5 TFORM7": FORMATS,
    "TDIM1 TDIM3 TDIM5 TDIM7": SHAPES,
    "TUNIT1 TUNIT2 TUNIT3 TUNIT5 TUNIT7": UNITS,
    "TTYPE1 TTYPE2 TTYPE3 TTYPE5": "'TTYPE2' 'ENERG_HI' 'TIME' 'OBS_ID' '' 8 'time' 'X' 'RAD_MAX'",
    "MJDREFI MJDREFF MJDREF TSTART TSTOP DEADC LIVETIME ONTIME OBS_ID": NUMBERS,
    "RA_PNT DEC_PNT ALT_PNT AZ_PNT GEOLON GEOLAT ALTITUDE RAD_MAX": NUMBERS,
    "TIMESYS": "'tt' 'UTC' 'LOCAL' 'TDB' 'UT1' 'xyz' '' 3 T",
    "OBS_MODE": "'DRIFT' 'SLEW' 'POINTING' '' 3",
    "HDUCLAS1 HDUCLAS2 HDUCLAS4": "'RESPONSE' 'PSF' 'AEFF_2D' 'PSF_KING' 'BKG_2D' 'GTI' '' 8 T",
    "HDUCLAS3": "'POINT-LIKE' 'FULL-ENCLOSURE' 8",
    "EXTNAME": "'EVENTS' 'GTI' 'AEFF' 'PSF' '' 8",
}
CARDS = [
    (key, value)
    for keys, values in VALUES.items()
    for key in keys.split()
    for value in shlex.split(values, posix=False)
]
Rng = np.random.Generator


# --- making them ---------------------------------------------------------------------------------


def flip(data: bytearray, rng: Rng) -> bytes:
    """Up to 50 bytes anywhere."""
    for place in rng.integers(0, len(data), rng.integers(1, 51)):
        data[place] ^= int(rng.integers(1, 256))
    return bytes(data)


def flip_headers(data: bytearray, rng: Rng) -> bytes:
    """Up to 20 bytes in headers, replaced by printable ones."""
    blocks = header_blocks(data)
    for _ in range(rng.integers(1, 21)):
        place = int(rng.choice(blocks)) + int(rng.integers(0, BLOCK))
        data[place] = int(rng.integers(32, 127))
    return bytes(data)


def truncate(data: bytearray, rng: Rng) -> bytes:
    """Cut anywhere, or at the end of a block."""
    place = int(rng.integers(0, len(data)))
    return bytes(data[: place // BLOCK * BLOCK if rng.random() < 0.3 else place])


def edit_cards(data: bytearray, rng: Rng) -> bytes:
    """One to three keywords of one header overwritten, or put in place of another."""
    return _edited(data, rng, CARDS)


def _edited(data: bytearray, rng: Rng, cards: list[tuple[str, str]]) -> bytes:
    start = int(rng.choice(header_starts(data)))
    for _ in range(rng.integers(1, 4)):
        key, value = cards[rng.integers(len(cards))]
        card = f"{key:8}= {value:>20}".ljust(CARD)[:CARD].encode()
        place = data.find(f"{key:8}=".encode(), start)
        if place < 0 or (place - start) % CARD:
            place = start + CARD * int(rng.integers(1, BLOCK // CARD))
        data[place : place + CARD] = card
    return bytes(data)


def remove_end(data: bytearray, rng: Rng) -> bytes:
    """The END of one header becomes a comment."""
    block = int(rng.choice(header_starts(data)))
    place = data.find(b"END".ljust(CARD), block)
    data[place : place + 3] = b"   "
    return bytes(data)


def swap_blocks(data: bytearray, rng: Rng) -> bytes:
    """Two blocks change places."""
    a, b = (BLOCK * int(i) for i in rng.integers(0, len(data) // BLOCK, 2))
    data[a : a + BLOCK], data[b : b + BLOCK] = data[b : b + BLOCK], data[a : a + BLOCK]
    return bytes(data)


def append_garbage(data: bytearray, rng: Rng) -> bytes:
    """Random bytes at the end, or after a random block."""
    blocks = 1 + len(data) // BLOCK
    place = len(data) if rng.random() < 0.5 else BLOCK * int(rng.integers(0, blocks))
    return bytes(data[:place]) + rng.bytes(int(rng.integers(1, 20_000))) + bytes(data[place:])


def zeros_or_ones(data: bytearray, rng: Rng) -> bytes:
    """A stretch of equal bytes, as a disk or a transfer leaves it."""
    place = int(rng.integers(0, len(data)))
    size = int(rng.integers(1, 8000))
    data[place : place + size] = bytes([rng.choice([0, 255, 127, 32])]) * len(
        data[place : place + size]
    )
    return bytes(data)


INDEX_CARDS = [
    (key, value)
    for keys, values in {
        "TFORM1 TFORM2 TFORM3 TFORM4 TFORM5": FORMATS + " '1PJ(2)' '1QA(9)' '20A' '2J' '1PA(3)'",
        "TDIM1 TDIM2 TDIM3 TDIM4 TDIM5 TDIM6": SHAPES + " '(1,1)' '(8)' '(4,2)' '(2,4)' '(10,2)'",
        "TTYPE1 TTYPE2 TTYPE3": "'OBS_ID' 'obs_id' 'FILE_NAME' '' 8 'X' 'TSTART' 'EVENT_TYPE'",
        "TUNIT1 TUNIT2 TUNIT3 TUNIT8": UNITS,
        "TSCAL1 TZERO1 TSCAL2 TZERO2 TNULL1 TNULL2": NUMBERS,
        "EXTNAME HDUCLAS1 TELESCOP OBJECT": "'INDEX' '' 8 T 'OBS_INDEX'",
        "MJDREFI MJDREFF GEOLON GEOLAT ALTITUDE": NUMBERS,
    }.items()
    for key in keys.split()
    for value in shlex.split(values, posix=False)
]


def edit_index_cards(data: bytearray, rng: Rng) -> bytes:
    """One to three keywords of the index overwritten, also in what says where columns lie."""
    return _edited(data, rng, INDEX_CARDS)


def odd_blanks(data: bytearray, rng: Rng) -> bytes:
    """Blanks behind the values of some cards become what other codes have for blanks."""
    start = int(rng.choice(header_starts(data)))
    for _ in range(rng.integers(1, 6)):
        place = start + CARD * int(rng.integers(0, 2 * BLOCK // CARD))
        card = bytes(data[place : place + CARD])
        blank = bytes([int(rng.choice([0xA0, 0x85, 0x1C, 0x1F, 9, 11, 0xE9, 0]))])
        where = int(rng.integers(0, CARD))
        data[place : place + CARD] = card[:where] + card[where:].replace(b" ", blank)
    return bytes(data)


PLAIN: list[Callable[[bytearray, Rng], bytes]] = [
    flip,
    flip_headers,
    truncate,
    edit_cards,
    edit_cards,
    edit_cards,
    remove_end,
    swap_blocks,
    append_garbage,
    zeros_or_ones,
]
# Index files are small: their headers are half of them.
INDEX = [edit_index_cards, edit_index_cards, edit_index_cards, odd_blanks, odd_blanks, *PLAIN]
PACKED = [flip, truncate, append_garbage]


def header_blocks(data: bytearray) -> list[int]:
    """Positions of the blocks that are headers: their bytes are all printable."""
    blocks = range(0, len(data) - BLOCK + 1, BLOCK)
    return [
        start
        for start in blocks
        if data[start : start + BLOCK].isascii() and data[start : start + 8].strip().isalnum()
    ]


def header_starts(data: bytearray) -> list[int]:
    starts = range(0, len(data), BLOCK)
    return [i for i in starts if data[i : i + 8] in (b"SIMPLE  ", b"XTENSION")][1:] or [0]


def corrupted(content: bytes, seed: int, plain: Any = PLAIN) -> tuple[str, bytes]:
    """Name of a damage, and the damaged content; every fourth is packed."""
    rng = np.random.default_rng(seed)
    packed = seed % 4 == 3
    if packed and rng.random() < 0.6:
        damage = PACKED[rng.integers(len(PACKED))]
        data = bytearray(gzip.compress(content, 1, mtime=0))
        if rng.random() < 0.3:  # the header of gzip
            data[int(rng.integers(2, 18))] ^= int(rng.integers(1, 256))
            return "gzip header", bytes(data)
        return f"packed, {damage.__name__}", damage(data, rng)
    damage = plain[rng.integers(len(plain))]
    data = bytearray(content)
    result = damage(data, rng)
    if packed:
        return f"{damage.__name__}, packed", gzip.compress(result, 1, mtime=0)
    return damage.__name__, result


# --- reading them --------------------------------------------------------------------------------


def steps_of_run(store: DataStore, names: list[str]) -> dict[str, Callable[[], Any]]:
    """Everything that is read of a run, one step each."""
    obs = store.get_observations()[0]
    steps: dict[str, Callable[[], Any]] = {
        "events": lambda: (obs.events.time, obs.events.energy, obs.events.radec),
        "gti": lambda: (obs.gti.time_start, obs.gti.time_stop, obs.gti.time_sum),
        "header": lambda: obs.header,
        "meta": lambda: obs.meta,
        "livetime": lambda: obs.livetime,
        "pointing": lambda: (obs.pointing_lon_lat(), obs.get_pointing_icrs()),
        "zenith": lambda: obs.get_pointing_altaz(obs.tmid).zen,
        "features": lambda: get_irfs_features([obs], ["1 TeV", "10 TeV"], names=names),
    }
    for name in ("aeff", "edisp", "psf", "bkg", "rad_max", "pointing_table"):
        steps[name] = lambda name=name: getattr(obs, name)
    return steps


def steps_of_index(directory: Path, kind: str) -> dict[str, Callable[[], Any]]:
    """Everything that is done with an index; what astropy reads without complaint is the same."""

    def use() -> None:
        store = DataStore.from_dir(directory)
        store.info(show=False)
        store.get_observations(skip_missing=True)
        for obs_id in store.obs_ids.tolist():
            store.hdu_index.locations(obs_id)
        write_index(store.obs_table, directory / "copy.fits")
        write_index(store.hdu_table, directory / "copy.fits")

    def compare() -> None:
        path = directory / f"{kind}-index.fits.gz"
        ours = read_index(path, f"{kind}-index")
        theirs = astropy_index(path)
        for name in () if theirs is None else theirs.names:
            if name in ours.colnames:
                same_values(name, ours[name], theirs[name])

    def check() -> None:
        list(check_indices(DataStore.from_dir(directory)))

    return {"use": use, "compare": compare, "check": check}


def astropy_index(path: Path) -> Any:
    """The only table with OBS_ID as astropy reads it; None where it complains, or has several."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves damaged files open
        try:
            with fits.open(path, memmap=False) as hdus:
                tables = [h.data for h in hdus[1:] if "OBS_ID" in getattr(h, "columns", ()).names]
                [table.field(column) for table in tables for column in table.names]
        except Exception:  # noqa: BLE001 it raises all sorts
            return None
    return tables[0] if len(tables) == 1 else None


def same_values(name: str, ours: Any, theirs: Any) -> None:
    """Raise an error if two columns differ."""
    if getattr(ours, "mask", None) is not None:
        ours = np.ma.getdata(ours)
    assert len(ours) == len(theirs), name
    for one, other in zip(ours, theirs, strict=True):
        mine, others = np.ravel(one), np.ravel(other)
        if others.dtype.kind in "US":
            texts = [t.decode("latin-1") if isinstance(t, bytes) else t for t in others.tolist()]
            texts = [text.rstrip(" \0") for text in texts]
            others = np.array(["".join(texts)] if mine.size == 1 else texts)
        if mine.dtype.kind == "U":
            others = others.astype(str)
        if name == "OBS_ID" and others.dtype.kind == "U":
            mine, others = mine.astype(int), others.astype(int)
        equal = np.array_equal(mine, others, equal_nan=mine.dtype.kind in "fc")
        assert equal, (name, mine, others)


def outcome(step: Callable[[], Any]) -> str:
    """``ok``, the name of a typed error, or the traceback of any other exception or warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ObsClusterWarning)
        try:
            step()
        except ObsClusterError as error:
            return type(error).__name__ if str(error) else "an error that says nothing"
        except Exception:  # noqa: BLE001 this is what the test looks for
            return traceback.format_exc()
    return "ok"


def read_all(kind: str, directory: Path, first: int, count: int) -> dict[str, Any]:
    """Corrupt the run file or an index file of an archive of one run, and read it, often."""
    names = ["edisp-bias", "edisp-res", "psf-radius", "psf-r68", "psf-r95", "aeff", "bkg-rate"]
    names += ["aeff-threshold", "edisp-bias50", "edisp-res68", "rad-max", "zenith", "mjd"]
    names += ["airmass", "livetime", "event-rate"]
    store = DataStore.from_dir(directory)
    run = next((directory / "data").iterdir())
    path = run if kind == "run" else directory / f"{kind}-index.fits.gz"
    content = path.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    slowest = 0.0
    for seed in range(first, first + count):
        damage, data = corrupted(content, seed, PLAIN if kind == "run" else INDEX)
        path.write_bytes(data)
        is_run = kind == "run"
        steps = steps_of_run(store, names) if is_run else steps_of_index(directory, kind)
        begin = time.perf_counter()
        for name, step in steps.items():
            result = outcome(step)
            outcomes[result if "\n" not in result else "failure"] += 1
            if "\n" in result or "says nothing" in result:
                failures.append(f"seed {seed}, {damage}: {name}: {result}")
        slowest = max(slowest, time.perf_counter() - begin)
    path.write_bytes(content)
    return {"outcomes": outcomes, "failures": failures, "slowest": slowest, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Largest memory of this process so far; that of `resource` begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    kind, directory, first, count = sys.argv[1:]
    read_all(kind, Path(directory), 0, 1)  # imports what is imported late
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_BYTES, resource.RLIM_INFINITY))
    base = peak_mb()
    begin = time.perf_counter()
    result = read_all(kind, Path(directory), int(first), int(count))
    print(json.dumps(result | {"base_mb": base, "seconds": time.perf_counter() - begin}))
