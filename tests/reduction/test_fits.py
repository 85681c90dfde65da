"""FITS files: what astropy reads, we read; what is damaged raises an error that names the file."""

from __future__ import annotations

import gzip
import re
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_array_equal

from obscluster.exceptions import DataError, FormatError, MissingDataError
from obscluster.gadf import unpack
from obscluster.gadf.fits import FitsFile
from obscluster.gadf.header import BLOCK, CARD, parse_header

COMMENTARY = ("COMMENT", "HISTORY", "CONTINUE", "")
C = fits.Column


def astropy_header(header: fits.Header) -> dict:
    values = {}
    for key in header:
        if key not in COMMENTARY:
            value = header[key]
            values[key.upper()] = None if isinstance(value, fits.card.Undefined) else value
    return values


def assert_same_column(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == np.shape(theirs)
    if ours.dtype.kind == "O":
        for mine, other in zip(ours, theirs, strict=True):
            assert_array_equal(mine, other)
        return
    # A chararray compares without trailing blanks; plain numpy does not.
    theirs = np.array(np.char.rstrip(theirs) if theirs.dtype.kind in "US" else theirs)
    assert ours.dtype.kind == theirs.dtype.kind
    assert ours.dtype.isnative
    assert_array_equal(ours, theirs)


def assert_same_as_astropy(path: Path, reference_path: Path | None = None) -> None:
    with FitsFile(path) as ours, fits.open(reference_path or path) as theirs:
        for hdu, reference in zip(ours, theirs, strict=True):
            assert hdu.header == astropy_header(reference.header)
            assert hdu.name == (reference.name or "#1")
            if hdu.index == 0:
                continue
            assert hdu.colnames == reference.columns.names
            assert hdu.n_rows == len(reference.data)
            for column in reference.columns:
                assert hdu.unit(column.name) == (column.unit or "")
                assert_same_column(hdu.column(column.name), reference.data[column.name])


def read_all(path: Path) -> None:
    with FitsFile(path) as file:
        for hdu in file:
            if hdu.index:
                for name in hdu.colnames:
                    assert len(hdu.column(name)) == hdu.n_rows


def table_hdu(**columns: list) -> fits.BinTableHDU:
    return fits.BinTableHDU.from_columns(
        [C(name, "D", array=values) for name, values in columns.items()], name="TABLE"
    )


# --- the same as astropy -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("archive", "pattern"),
    [
        ("small_archive", "*-index.fits.gz"),
        ("small_archive", "data/run_[01]*.fits.gz"),
        ("hess_dr1", "*-index.fits.gz"),
        ("hess_dr1", "data/*0203[29]*.fits.gz"),
        ("cta_1dc", "index/gps/*.fits.gz"),
        ("cta_1dc", "data/baseline/gps/gps_baseline_110380.fits"),
        ("cta_1dc", "caldb/data/cta/1dc/bcf/South_z20_50h/irf_file.fits"),
        ("fact_crab", "*-index.fits.gz"),
        ("fact_crab", "20131103_10*.fits"),
        ("fact_crab", "fact_irf.fits"),
    ],
)
def test_every_keyword_and_column_equals_astropys(archive, pattern, request):
    paths = list(request.getfixturevalue(archive).glob(pattern))
    assert paths
    for path in paths:
        assert_same_as_astropy(path)


INDEX = C("INDEX", "J", array=[1, 2, 3])
TEXT = np.array([["abc", "de"], ["f", "g"], ["h", "i"]])


@pytest.mark.parametrize("unusual_neighbour", [False, True])
@pytest.mark.parametrize(
    "column",
    [
        C("L", "L", array=[True, False, True]),
        C("X", "11X", array=np.arange(33).reshape(3, 11) % 2 == 0),
        C("B", "B", array=[0, 1, 255]),
        C("I", "I", array=[-(2**15), 0, 2**15 - 1]),
        C("K", "2K", array=np.array([[-(2**63), 0], [1, 2], [3, 2**63 - 1]])),
        C("E", "E", unit="m2", array=[1.5, np.nan, np.inf]),
        C("A", "6A", array=["ab", "", "  lead"]),
        C("A_SUBSTRINGS", "12A4", array=["a", "b", "c"]),
        C("A_CUBE", "6A", dim="(3,2)", array=TEXT),
        C("D_EMPTY", "0D"),
        C("C", "C", array=[1 + 2j, 3, 4]),
        C("M", "2M", array=np.full((3, 2), 1j)),
        C("CUBE", "24E", dim="(4,3,2)", array=np.arange(72.0).reshape(3, 2, 3, 4)),
        C("P", "PJ()", array=np.array([[1], [1, 2], []], dtype=object)),
        C("Q", "QD()", array=np.array([[1.0], [1.0, 2.0], []], dtype=object)),
        C("SIGNED_BYTE", "B", bzero=-128, array=np.array([-128, 0, 127], "i1")),
        C("U2", "I", bzero=2**15, array=np.array([0, 1, 2**16 - 1], "u2")),
        C("U4", "J", bzero=2**31, array=np.array([0, 1, 2**32 - 1], "u4")),
        C("U8", "K", bzero=2**63, array=np.array([0, 2**53 + 1, 2**64 - 1], "u8")),
        C("SCALED", "D", bscale=0.5, bzero=3, array=[1.0, 2.0, 3.0]),
    ],
    ids=lambda column: column.name,
)
def test_column_of_every_format_equals_astropys(column, unusual_neighbour, write_fits):
    columns = [INDEX, C("FLAG", "L", array=[True, False, True])] if unusual_neighbour else [INDEX]
    assert_same_as_astropy(write_fits(fits.BinTableHDU.from_columns([*columns, column])))


@pytest.mark.parametrize("unusual_neighbour", [False, True])
def test_text_padded_with_blanks_or_nul_is_stripped(unusual_neighbour, write_fits):
    columns = [C("A", "6A", array=["ab", "  c", ""])]
    columns += [C("FLAG", "L", array=[True, False, True])] if unusual_neighbour else []
    path = write_fits(fits.BinTableHDU.from_columns(columns, name="TABLE"))
    path.write_bytes(path.read_bytes().replace(b"ab\0\0\0\0", b"ab    "))
    with FitsFile(path) as file:
        assert file.hdu("TABLE").column("A").tolist() == ["ab", "  c", ""]


@given(texts=st.lists(st.binary(min_size=1, max_size=7), max_size=4))
def test_bytes_of_text_are_their_own_characters(texts, scratch):
    """Text that is not ASCII is against the standard, and read as Latin-1."""
    column = fits.Column("NAME", "7A", array=np.zeros(len(texts), "S7"))
    fits.BinTableHDU.from_columns([column]).writeto(scratch, overwrite=True)
    cells = b"".join(text.ljust(7, b" ") for text in texts)
    content = scratch.read_bytes()
    scratch.write_bytes(content[: 2 * BLOCK] + cells.ljust(len(content) - 2 * BLOCK, b"\0"))
    with FitsFile(scratch) as file:
        (_, hdu) = file
        found = hdu.column("NAME")
    assert found.tolist() == [text.decode("latin-1").rstrip(" \0") for text in texts]
    assert found.dtype.itemsize == 4 * max(map(len, [*found.tolist(), " "]))


def test_text_column_of_no_width_is_empty_text(write_fits):
    path = write_fits(fits.BinTableHDU.from_columns([C("A", "1A", array=["", ""]), C("I", "J")]))
    set_cards(path, "TFORM1='0A',NAXIS1=4")
    with FitsFile(path) as file:
        (_, hdu) = file
        assert hdu.column("A").tolist() == ["", ""]
        assert hdu.column("I").tolist() == [0, 0]


def test_ascii_table_equals_astropys(write_fits):
    columns = [
        C("A", "A6", array=["ab", "c", "  d"], ascii=True),
        C("I", "I6", array=[1, -2, 3], ascii=True),
        C("E", "E15.7", unit="deg", array=[1.5, -2.0, 3e-10], ascii=True),
        C("D", "D25.17", array=[1.5, 2.0, 1 / 3], ascii=True),
    ]
    assert_same_as_astropy(write_fits(fits.TableHDU.from_columns(columns)))


def test_table_without_rows_keeps_its_columns(write_fits):
    columns = [C("E", "3E", unit="m"), C("A", "5A"), C("L", "L"), C("P", "PJ()")]
    assert_same_as_astropy(write_fits(fits.BinTableHDU.from_columns(columns, nrows=0)))
    assert_same_as_astropy(write_fits(fits.BinTableHDU.from_columns(columns[:2], nrows=0)))


def test_images_between_tables_are_skipped(write_fits):
    image = fits.ImageHDU(np.ones((7, 11), "f4"), name="IMAGE")
    path = write_fits(image, table_hdu(X=[1.0, 2.0]))
    with FitsFile(path) as file:
        assert [hdu.name for hdu in file] == ["PRIMARY", "IMAGE", "TABLE"]
        assert file.hdu("TABLE").column("X").tolist() == [1, 2]


ELEMENT = {
    "f": st.floats(allow_nan=True, width=32),
    "U": st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=5),
}


@st.composite
def table_columns(draw: st.DrawFn) -> list[np.ndarray]:
    n_rows = draw(st.integers(0, 4))
    codes = ["u1", "i2", "i4", "i8", "f4", "f8", "?", "u2", "u4", "u8", "U5"]
    columns = []
    for code in draw(st.lists(st.sampled_from(codes), min_size=1, max_size=5)):
        cell = () if code == "U5" else draw(st.just(()) | array_shapes(max_dims=3, max_side=3))
        elements = ELEMENT.get(np.dtype(code).kind)
        columns.append(draw(arrays(code, (n_rows, *cell), elements=elements)))
    return columns


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "table.fits"


@settings(max_examples=60)
@given(columns=table_columns())
def test_any_table_that_astropy_writes_comes_back(columns, scratch):
    from astropy.table import Table

    Table(columns).write(scratch, format="fits", overwrite=True)
    with FitsFile(scratch) as file:
        (_, hdu) = file
        for name, values in zip(hdu.colnames, columns, strict=True):
            assert_same_column(hdu.column(name), values)


# --- headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cards", "key", "value"),
    [
        (["KEY     = 1234567890123456789012345"], "KEY", 1234567890123456789012345),
        (["KEY     = 18446744073709551615"], "KEY", 2**64 - 1),
        (["KEY     = -0007"], "KEY", -7),
        (["KEY     = 1.5D+3"], "KEY", 1500.0),
        (["KEY     = -2.5d-3 / comment"], "KEY", -0.0025),
        (["KEY     = 5."], "KEY", 5.0),
        (["KEY     ="], "KEY", None),
        (["KEY     =       / undefined"], "KEY", None),
        (["KEY     = 1", "KEY     = 2"], "KEY", 1),
        (["KEY     = 'a/b'   / c/d"], "KEY", "a/b"),
        (["KEY     = 'it''s' / it's"], "KEY", "it's"),
        (["KEY     = ''''''"], "KEY", "''"),
        (["KEY     = ''"], "KEY", ""),
        (["KEY     = '   '"], "KEY", ""),
        (["KEY     = '  lead  '"], "KEY", "  lead"),
        (["KEY     = 'R&D'"], "KEY", "R&D"),
        (["KEY     = 'ends in &'", "COMMENT nothing follows"], "KEY", "ends in &"),
        (["KEY     = 'abc&'", "CONTINUE  '  def&' / c", "CONTINUE  'g'"], "KEY", "abc  defg"),
        (["KEY     = 'abc &'", "CONTINUE  '' / only a comment"], "KEY", "abc"),
        (["HIERARCH ESO Tel alt = 12.5 / [deg]"], "ESO TEL ALT", 12.5),
        (["HIERARCH ESO.LONG.KEYWORD = 'x'"], "ESO.LONG.KEYWORD", "x"),
        (["KEY     =                    T / x"], "KEY", True),
        (["KEY     = F"], "KEY", False),
    ],
    ids=lambda value: value[0][10:40].strip() if isinstance(value, list) else "",
)
def test_header_corner_case(cards, key, value):
    raw = "".join(card.ljust(CARD) for card in [*cards, "END"])
    theirs = fits.Header.fromstring(raw)[key]
    assert (None if isinstance(theirs, fits.card.Undefined) else theirs) == value
    ours = parse_header(raw.encode())
    assert ours == {key: value}
    assert type(ours[key]) is type(value)


@pytest.mark.parametrize("first", ["HIERARCH FOO = 1", "FOO     = 2"])
def test_a_value_does_not_depend_on_what_was_asked_before(first):
    cards = sorted(["HIERARCH FOO = 1", "FOO     = 2"], key=lambda card: card != first)
    cards += [f"KEY{i:<5}= {i}" for i in range(60)] + ["COMMENT = 'no value'"]
    raw = "".join(card.ljust(CARD) for card in [*cards, "END"]).encode()
    fresh, old = parse_header(raw), parse_header(raw)
    assert [old[f"KEY{i}"] for i in range(60)] == list(range(60))
    assert fresh["FOO"] == old["FOO"] == dict(fresh)["FOO"] == 2
    assert fresh.get("FOO ") is None
    assert fresh.get(5) is None
    assert 5 not in old


printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)


@settings(max_examples=300)
@given(
    value=printable
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
)
def test_any_header_value_that_astropy_writes_comes_back(value):
    header = fits.Header()
    header["KEY"] = value
    raw = header.tostring()
    ours = parse_header(raw.encode())["KEY"]
    assert type(ours) is type(value)
    if isinstance(value, float):
        # Not every digit fits on a card.
        assert ours == fits.Header.fromstring(raw)["KEY"]
    else:
        # Not astropy's reading of text, which loses the slash of "'/".
        assert ours == (value.rstrip() if isinstance(value, str) else value)


@pytest.mark.parametrize("blank", [0xA0, 0x85, 0x1C, 0x1F, 9, 11, 12, 13, 0])
def test_only_a_blank_is_a_blank(blank):
    blank = bytes([blank])
    cards = [b"EXTNAME = 'EVENTS'", b"NAXIS   = 2", b"FLOAT   = 2.5", b"LONG    = 'ab&'"]
    raw = b"".join(card.ljust(CARD, blank) for card in cards) + b"END".ljust(CARD)
    keyword = b"EXTNAME" + blank + b"= 'EVENTS'"
    for odd in (raw, keyword.ljust(CARD) + raw, keyword.ljust(CARD, blank) + raw):
        header = parse_header(odd)
        assert dict(header) == {key: parse_header(odd)[key] for key in header}
        assert header["EXTNAME"] == parse_header(odd)["EXTNAME"] == "EVENTS"
        # Not 2: a number with something behind it is none.
        assert header["NAXIS"] == f"2{blank.decode('latin-1') * 69}"
        assert isinstance(header["FLOAT"], str)


odd_bytes = st.sampled_from([b"\xa0", b"\x85", b"\x1c", b"\t", b"\v", b"\n", b"\0", b"\xb2", b"_"])
names = st.sampled_from(["A", "EXTNAME", "EXTVERSN", "COMMENT", "HISTORY", "HIERARCH", "CONTINUE"])
texts = st.text(st.sampled_from("AB&'/= 1"), max_size=12).map(lambda t: "'" + t + "'")
values = texts | st.sampled_from(
    ["T", "F", "", "1", "-07", "1.5", ".5E3", "1D-2", "1_0", "+ 1", "0x1", "NAN", "1E", "1 2", "&'"]
)


@st.composite
def card(draw) -> bytes:
    """A card, more or less: keyword, value, comment, and a byte that does not belong there."""
    name, value = draw(names), draw(values)
    start = draw(
        st.sampled_from([f"{name:8}= ", f"{name:8}=", f"{name:8}  ", f"HIERARCH {name} = ", name])
    )
    text = (
        f"{start}{' ' * draw(st.integers(0, 3))}{value}{draw(st.sampled_from(['', ' / c', '/']))}"
    )
    stored = text.encode().ljust(CARD)[:CARD]
    for odd in draw(st.lists(odd_bytes, max_size=1)):
        place = draw(st.integers(0, 20) | st.integers(0, CARD - 1))
        stored = stored[:place] + odd + stored[place + 1 :]
    return stored


def astropy_values(raw: bytes) -> dict[str, object]:
    """Keywords and values as astropy has them; an ellipsis where it cannot read the value."""
    found: dict[str, object] = {}
    # Of a keyword given both ways, we take the plain card.
    cards = fits.Header.fromstring(raw).cards
    for card in sorted(cards, key=lambda card: str(card._image).startswith("HIERARCH")):
        try:
            value = None if isinstance(card.value, fits.card.Undefined) else card.value
        except fits.VerifyError:
            value = ...
        found.setdefault(card.keyword.upper(), value)
    return found


@settings(max_examples=1000)
@given(cards=st.lists(card(), max_size=6))
def test_any_card_is_read_in_one_way(cards):
    raw = b"".join(cards) + b"END".ljust(CARD)
    whole = dict(parse_header(raw))
    keys = {
        *whole,
        "A",
        "EXTNAME",
        "EXTVERSN",
        "COMMENT",
        "CONTINUE",
        "HIERARCH",
        "",
        "A ",
        "A\xa0",
    }
    missing = object()
    for key in keys:
        one = parse_header(raw).get(key, missing)
        assert repr(one) == repr(whole.get(key, missing)), key
    # It strips as str does, and is not sure of quotes, or when a text goes on.
    odd = (rb"[^ -~]", rb"''|&'|CONTINUE")
    starts = b"".join(one[:10] for one in cards)
    if any(re.search(pattern, raw) for pattern in odd) or re.search(rb"[^A-Z ='0-9]", starts):
        return
    if any(one.count(b"'") not in (0, 2) for one in cards):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            theirs = astropy_values(raw)
        except Warning:  # it reads something, but says that it should not be there
            return
    for key, value in theirs.items():
        if value is not ... and key not in (*COMMENTARY, "HISTORY", "HIERARCH", "END"):
            assert repr(whole[key]) == repr(value), key


# --- access --------------------------------------------------------------------------------------


def test_names_are_found_whatever_their_case(write_fits):
    with FitsFile(write_fits(table_hdu(Energy=[1.0]))) as file:
        hdu = file.hdu("table")
        assert "ENERGY" in hdu
        assert hdu.column("energy").tolist() == [1.0]


def test_unknown_name_lists_what_is_there(write_fits):
    path = write_fits(table_hdu(ENERGY=[1.0]))
    with FitsFile(path) as file:
        with pytest.raises(MissingDataError, match=r"file.fits.*AEFF.*PRIMARY, TABLE"):
            file.hdu("AEFF")
        with pytest.raises(FormatError, match=r"file.fits.*TABLE.*no column TIME.*ENERGY"):
            file.hdu("TABLE").column("TIME")


# --- damage --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def packed_run(small_archive: Path) -> bytes:
    return (small_archive / "data" / "run_026601.fits.gz").read_bytes()


def assert_damaged(path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_all(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kept", [1, 2, 9, 20, 0.2, 0.5, 0.8, 0.99, -9, -8, -4, -1])
def test_truncated_gzip_raises(kept, packed_run, tmp_path):
    path = tmp_path / "run.fits.gz"
    path.write_bytes(packed_run[: kept if isinstance(kept, int) else int(kept * len(packed_run))])
    assert_damaged(path)


@pytest.mark.parametrize("position", [0, 2, 100, 0.3, 0.5, 0.8, -8, -5, -4, -1])
def test_flipped_byte_in_gzip_raises(position, packed_run, tmp_path):
    damaged = bytearray(packed_run)
    damaged[position if isinstance(position, int) else int(position * len(damaged))] ^= 0xFF
    path = tmp_path / "run.fits.gz"
    path.write_bytes(damaged)
    assert_damaged(path)


@pytest.mark.parametrize("kept", [1, 79, 80, 200, 2880, 3000, 0.2, 0.5, 0.9, -3000])
def test_truncated_plain_file_raises_or_ends_between_hdus(kept, packed_run, tmp_path):
    data = gzip.decompress(packed_run)
    path = tmp_path / "run.fits"
    path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    if kept == BLOCK:
        with FitsFile(path) as file, pytest.raises(MissingDataError, match="PRIMARY"):
            file.hdu("EVENTS")
    else:
        assert_damaged(path)


@pytest.mark.parametrize(
    "pack",
    [
        lambda data: data,
        lambda data: data + b"\0" * BLOCK,
        lambda data: data + b" " * 100,
        gzip.compress,
        lambda data: gzip.compress(data) + b"\0" * 600,
        lambda data: b"".join(gzip.compress(data[a:b]) for a, b in pairwise([0, 1, 5000, None])),
        lambda data: gzip.compress(data + b"\0" * BLOCK) + gzip.compress(b"") + b"\0" * 9,
    ],
    ids=["plain", "padded", "blanks", "gzip", "gzip-padded", "members", "empty-member"],
)
@pytest.mark.parametrize("name", ["run.fits", "run.fits.gz"])
def test_packing_is_seen_from_the_bytes_and_padding_is_ignored(
    pack, name, packed_run, tmp_path, small_archive
):
    path = tmp_path / name
    path.write_bytes(pack(gzip.decompress(packed_run)))
    assert_same_as_astropy(path, small_archive / "data" / "run_026601.fits.gz")


def test_gzip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "run.fits.gz"
    header = fits.ImageHDU(np.zeros(1, "u1")).header
    header["NAXIS1"] = 1 << 26
    blocks = [fits.PrimaryHDU().header.tostring(), header.tostring()]
    path.write_bytes(gzip.compress("".join(blocks).encode() + bytes(1 << 23)))
    assert_damaged(path)


def set_cards(path: Path, cards: str) -> None:
    """Overwrite values in the last header that has the keyword, without any check."""
    raw = bytearray(path.read_bytes())
    for key, value in (card.split("=") for card in cards.split(",")):
        start = raw.rindex(f"{key:8}=".encode())
        raw[start : start + CARD] = f"{key:8}= {value}".ljust(CARD).encode()
    path.write_bytes(raw)


LIES = """NAXIS1=9999999999999999 NAXIS2=9999999999999999 NAXIS2=99999999999999999999999999
    NAXIS2=-1 NAXIS2='three' NAXIS=1 NAXIS=-1 NAXIS=1000000 BITPIX=7 PCOUNT=-8
    PCOUNT=9999999999999999 GCOUNT=0 TFIELDS=-1 TFIELDS=1 TFIELDS=3 TFORM1='1Z' TFORM1='2D'
    TFORM1=8 TTYPE2='X' NAXIS2=0,NAXIS1=799999999992,TFORM1='99999999998D'"""


@pytest.mark.parametrize("lie", LIES.split())
def test_table_header_that_lies_raises(lie, write_fits):
    path = write_fits(table_hdu(X=[1.0, 2.0], Y=[3.0, 4.0]))
    set_cards(path, lie)
    assert_damaged(path)


def test_ascii_table_of_absurdly_many_columns_raises(write_fits):
    path = write_fits(fits.TableHDU.from_columns([C("I", "I6", array=[1], ascii=True)]))
    set_cards(path, "TFIELDS=100000")
    with FitsFile(path) as file, pytest.raises(FormatError, match="TFIELDS"):
        _ = list(file)[1].colnames


def test_header_without_end_raises(write_fits):
    path = write_fits(table_hdu(X=[1.0]))
    path.write_bytes(path.read_bytes().replace(b"END".ljust(CARD), b" " * CARD))
    assert_damaged(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * BLOCK, b"not FITS at all", b"%PDF-1.4\n" * 1000, gzip.compress(b"", mtime=0)],
    # Names that are the same for all workers.
    ids=["empty", "zeros", "text", "pdf", "gzip of nothing"],
)
def test_file_that_is_not_fits_raises(content, tmp_path):
    path = tmp_path / "file.fits"
    path.write_bytes(content)
    assert_damaged(path)


def test_missing_file_and_directory_raise_missing_data_error(tmp_path):
    for path in (tmp_path / "no.fits", tmp_path):
        with pytest.raises(MissingDataError, match=str(path)):
            FitsFile(path)


def test_unreadable_file_raises_missing_data_error(tmp_path, monkeypatch):
    def refuse(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MissingDataError, match=r"file.fits.*Permission denied"):
        FitsFile(tmp_path / "file.fits")


# --- no further than needed ----------------------------------------------------------------------


def garbage(size: int) -> bytes:
    return np.random.default_rng(1).bytes(size)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plain, end: plain[:end] + garbage(10_000),
        lambda plain, end: plain[: end + 100],
        lambda plain, end: plain[:end],
        lambda plain, end: gzip.compress(plain[:end] + garbage(600_000))[:-200_000],
        lambda plain, end: gzip.compress(plain[:end] + garbage(600_000))[:-300_000] + b"damage",
        lambda plain, end: gzip.compress(plain[:end] + garbage(20_000))[:-10_000],
    ],
    ids=["garbage", "cut", "cut-at-end", "gzip-cut-late", "gzip-damage-late", "gzip-cut-soon"],
)
def test_hdu_is_read_whatever_comes_after_it(
    spoil: Callable[[bytes, int], bytes], write_fits, tmp_path
):
    path = write_fits(table_hdu(X=[1.0, 2.0]), fits.ImageHDU(np.ones(99), name="IMAGE"))
    with fits.open(path) as hdulist:
        end = hdulist["IMAGE"].fileinfo()["hdrLoc"]
    spoilt = tmp_path / "spoilt.fits"
    spoilt.write_bytes(spoil(path.read_bytes(), end))
    with FitsFile(spoilt) as file:
        assert file.hdu("TABLE").column("X").tolist() == [1, 2]
        with pytest.raises(DataError):
            file.hdu("IMAGE")


# --- parts of a cell -----------------------------------------------------------------------------


@pytest.mark.parametrize("part", [slice(0, 2), slice(1, 9), slice(-2, -1), slice(2, 1), None])
def test_a_part_of_a_cell_is_that_of_the_whole(part, write_fits):
    values = np.arange(24.0).reshape(1, 4, 3, 2)
    columns = [
        fits.Column("CUBE", "24D", dim="(2,3,4)", array=values),
        fits.Column("SCALED", "24J", dim="(2,3,4)", array=values, bzero=2**31),
        fits.Column("NEXT", "D", array=[7.0]),
    ]
    with FitsFile(write_fits(fits.BinTableHDU.from_columns(columns, name="T"))) as file:
        hdu = file.hdu("T")
        for name in ("CUBE", "SCALED"):
            expected = values[0] if part is None else values[0][part]
            np.testing.assert_array_equal(hdu.cell(name, part), expected)
        with pytest.raises((ValueError, IndexError)):
            hdu.cell("NEXT", slice(0, 1))
        with pytest.raises(ValueError, match="in a row"):
            hdu.cell("CUBE", slice(0, 4, 2))
