"""``obscluster index``: both index files or none, and valid for other tools."""

import pytest
from numpy.testing import assert_array_equal

from obscluster.archive.store import DataStore
from obscluster.cli import main
from obscluster.exceptions import RequestError
from obscluster.gadf import discover as write
from obscluster.gadf.discover import discover, write_index_files
from unindexed import edit, run_files


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_gammapy_reads_what_it_writes(run, unindexed, unpacked_archive):
    data = pytest.importorskip("gammapy.data")
    code, out, err = run("index", unindexed)
    assert (code, err) == (0, "")
    assert "5 runs" in out
    assert "psf_table (5)" in out
    ours, theirs = (data.DataStore.from_dir(path) for path in (unindexed, unpacked_archive))
    pairs = zip(ours.get_observations(), theirs.get_observations(), strict=True)
    for obs, other in pairs:
        assert obs.obs_id == other.obs_id
        assert_array_equal(obs.psf.data, other.psf.data)
        assert obs.gti.time_sum == other.gti.time_sum
    assert_array_equal(ours.obs_table["ZEN_PNT"], theirs.obs_table["ZEN_PNT"])
    assert ours.obs_table.time_ref.isclose(theirs.obs_table.time_ref)


def test_written_is_read_back(run, unindexed, tmp_path):
    edit(run_files(unindexed)[0], N_TELS=None)
    store = DataStore.from_files(unindexed)
    assert run("index", unindexed, "--output", tmp_path / "new" / "place")[0] == 0
    again = DataStore.from_dir(tmp_path / "new" / "place")
    assert again.obs_table.colnames == store.obs_table.colnames
    for name in store.obs_table.colnames:
        assert_array_equal(again.obs_table[name], store.obs_table[name], err_msg=name)
        assert again.obs_table[name].unit == store.obs_table[name].unit
    assert again.obs_table["N_TELS"].mask.tolist() == store.obs_table["N_TELS"].mask.tolist()
    assert set(again.hdu_table["FILE_DIR"]) == {"../../archive/data"}
    assert all(len(obs.events) for obs in again.get_observations())
    assert list(unindexed.iterdir()) == [unindexed / "data"]


def test_same_bytes(run, unindexed):
    indexes = []
    for _ in range(2):
        assert run("index", unindexed, "--overwrite")[0] == 0
        indexes.append([path.read_bytes() for path in sorted(unindexed.glob("*.gz"))])
    assert indexes[0] == indexes[1]
    assert len(indexes[0]) == 2
    assert sorted(path.name for path in unindexed.iterdir()) == [
        "data", "hdu-index.fits.gz", "obs-index.fits.gz",
    ]  # fmt: skip


def test_says_what_was_left_out(run, unindexed):
    path = run_files(unindexed)[0]
    path.write_bytes(b"SIMPLE")
    code, out, err = run("index", unindexed)
    assert code == 0
    assert "4 runs" in out
    assert err == f"left out: {path}: not a FITS file\n"


def test_one_line_for_errors(run, unindexed, unpacked_archive, tmp_path):
    (tmp_path / "file").write_text("")
    for arguments, message in (
        ([tmp_path / "nowhere"], "no such directory"),
        ([tmp_path / "file"], "is a file"),
        ([unpacked_archive], "--overwrite"),
        ([unindexed, "--output", tmp_path / "file"], "is a file"),
        ([unindexed, "--output", tmp_path / "file" / "x"], "cannot be written"),
        ([unindexed, "--irf", tmp_path / "nowhere"], "no such file"),
        ([unindexed, "--irf", tmp_path / "file"], "response file"),
    ):
        code, out, err = run("index", *arguments)
        assert (code, out) == (2, ""), arguments
        assert err.count("\n") == 1
        assert message in err
    assert list(unindexed.iterdir()) == [unindexed / "data"]


def test_replaces_unpacked_index_files(run, unindexed):
    (unindexed / "obs-index.fits").write_bytes(b"old")
    assert run("index", unindexed)[0] == 2
    assert run("index", unindexed, "--overwrite")[0] == 0
    assert not (unindexed / "obs-index.fits").exists()


def test_both_files_or_none(run, unindexed, monkeypatch):
    def fail_second(table, path):
        if "hdu" in path.name:
            raise OSError(28, "No space left on device")
        path.write_bytes(b"new")

    monkeypatch.setattr(write, "write_index", fail_second)
    assert run("index", unindexed)[0] == 2
    assert list(unindexed.iterdir()) == [unindexed / "data"]


def test_what_was_there_comes_back(unindexed):
    found = discover(unindexed)
    for name in ("obs-index.fits.gz", "hdu-index.fits.gz", "hdu-index.fits"):
        (unindexed / name).write_bytes(b"old")
    (unindexed / "hdu-index.fits.gz").unlink()
    (unindexed / "hdu-index.fits.gz").mkdir()  # cannot be replaced by a file
    with pytest.raises(RequestError, match="cannot be written"):
        write_index_files(found, unindexed, overwrite=True)
    assert (unindexed / "obs-index.fits.gz").read_bytes() == b"old"
    assert (unindexed / "hdu-index.fits").read_bytes() == b"old"


def test_names_beyond_ascii(run, unindexed):
    run_files(unindexed)[0].rename(unindexed / "data" / "l\u00e4uft.fits")
    code, _, err = run("index", unindexed)
    assert code == 2
    assert "ASCII" in err
    assert len(DataStore.from_files(unindexed).obs_table) == 5


def test_what_is_marked_read_only_stays(run, unindexed):
    assert run("index", unindexed)[0] == 0
    before = (unindexed / "obs-index.fits.gz").read_bytes()
    for path, mode in ((unindexed / "obs-index.fits.gz", 0o444), (unindexed, 0o555)):
        path.chmod(mode)
        code, _, err = run("index", unindexed, "--overwrite")
        assert code == 2
        assert f"{path}: is read-only" in err
    assert run("index", unindexed, "--output", unindexed / "new")[0] == 2
    unindexed.chmod(0o755)
    assert (unindexed / "obs-index.fits.gz").read_bytes() == before


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["index", "--help"])
    assert "obscluster index archive/" in capsys.readouterr().out
