"""``obscluster init``: the description that it writes runs as it is, with every option in it."""

import re
import shutil

import numpy as np
import pytest
import yaml
from astropy.table import Table
from numpy.testing import assert_array_equal

from obscluster import DataStore
from obscluster.archive.selection import resolve_target
from obscluster.cli import main
from obscluster.config import make_config
from obscluster.exceptions import ArchiveError, RequestError
from obscluster.reduction import make_reduce_config
from obscluster.simulate import simulate
from obscluster.workflow.init import describe_reduction, describe_run, nice, write_description
from obscluster.workflow.run import read_plan, run_plan


def blocks_of(text):
    """Blocks of the text: lists of lines that are parted by empty ones."""
    return [block.splitlines() for block in text.strip().split("\n\n")]


def options_of(text):
    """Every option: place of its block, and the lines of the block with the option taken in.

    Options beside what is active in a block are taken in one by one.
    """
    options = []
    for place, lines in enumerate(blocks_of(text)):
        optional = [i for i, line in enumerate(lines) if re.match(r" *# ", line)]
        nested = any(lines[i].startswith(" ") for i in optional)
        for chosen in [[i] for i in optional] if nested else [optional] if optional else []:
            used = [
                re.sub(r"^( *)# ", r"\1", line) if i in chosen else line
                for i, line in enumerate(lines)
            ]
            options.append((place, used))
    return options


def keys_of(lines):
    return set(yaml.safe_load("\n".join(lines)) or {})


def with_option(text, place, lines):
    """The whole text with an option in it; INSTEAD, it takes the place of what has its keys."""
    blocks = blocks_of(text)
    blocks[place] = lines
    if "INSTEAD" in lines[0]:
        blocks = [
            block
            for i, block in enumerate(blocks)
            if i == place or not keys_of(block) & keys_of(lines)
        ]
    return "\n\n".join("\n".join(block) for block in blocks)


ARCHIVES = ["small_archive", "hess_dr1", "cta_1dc", "fact_crab"]


@pytest.fixture(scope="module")
def texts():
    """Descriptions that were made already."""
    return {}


@pytest.fixture(params=ARCHIVES)
def text(request, texts):
    archive = request.getfixturevalue(request.param)
    if request.param not in texts:
        texts[request.param] = describe_run(archive)
    return texts[request.param]


class TestOptions:
    def test_what_is_active_is_valid(self, text, tmp_path):
        (tmp_path / "run.yaml").write_text(text)
        read_plan(tmp_path / "run.yaml")

    def test_every_option_is_valid(self, text, tmp_path):
        options = options_of(text)
        assert len(options) >= 13
        before = make_config(yaml.safe_load(text)).model_dump()
        for place, lines in options:
            path = tmp_path / "run.yaml"
            path.write_text(with_option(text, place, lines))
            config = read_plan(path).config
            # And it is not without effect, unless it names a default or leaves a part off.
            told = yaml.safe_load("\n".join(lines))
            assert told, lines
            if not set(told) & {"counts", "source", "features", "radius"}:
                assert config.model_dump() != before, lines

    def test_all_options_that_replace_nothing_are_valid_together(self, text, tmp_path):
        for place, lines in options_of(text):
            if "INSTEAD" not in lines[0] and not any(line.startswith(" ") for line in lines[1:2]):
                text = with_option(text, place, lines)
        (tmp_path / "run.yaml").write_text(text)
        config = read_plan(tmp_path / "run.yaml").config
        assert config.scaling.method == "tolerance"
        assert config.constraints.min_livetime is not None
        assert config.selection

    def test_each_part_of_a_description_is_there(self, text):
        parts = set()
        for _, lines in options_of(text):
            parts |= keys_of(lines)
        parts |= set(yaml.safe_load(text))
        known = set(make_config({"archive": "a"}).model_dump())
        # The frame is for coordinates alone; how work is shared out is for the command line.
        missing = known - parts - {"frame", "scheduler"}
        with_target = "target" in yaml.safe_load(text)
        assert missing <= (set() if with_target else {"source", "counts", "reduce"})

    def test_every_line_is_of_a_known_kind(self, text):
        for line in text.splitlines():
            assert len(line) <= 100
            assert re.match(r"( *## \S| *# \S|# +[-\w]|## +obscluster| *[-\w]+:|$)", line), line


class TestRuns:
    def test_as_it_is(self, text, tmp_path):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        settings = ["assess.n_resamples=5", "assess.max_groups=3", "report=false"]
        outcome = run_plan(read_plan(path, settings), tmp_path / "results", plots=False)
        assert outcome.result.grouping.n_groups >= 1
        assert (outcome.result.grouping.labels > 0).mean() > 0.9
        assert outcome.steps["assess"] == "done"

    def test_with_options_by_the_command_line(self, small_archive, tmp_path, capsys):
        path, results = tmp_path / "run.yaml", tmp_path / "results"
        assert main(["init", str(small_archive), "-o", str(path)]) == 0
        assert f"next: obscluster run {path} -o results/" in capsys.readouterr().out
        text = path.read_text()
        chosen = [(p, lines) for p, lines in options_of(text) if keys_of(lines) & {"constraints"}]
        path.write_text(with_option(text, *chosen[-1]))
        quick = ["--set", "assess=false", "--set", "report=false", "--no-plots"]
        assert main(["run", str(path), "-o", str(results), *quick]) == 0
        assert (results / "groups.yaml").exists()


class TestLooks:
    def test_the_published_target_and_features_of_hess(self, hess_dr1):
        content = yaml.safe_load(describe_run(hess_dr1))
        assert content["target"] == "PKS 2155-304"
        assert content["features"]["names"] == ["edisp-res", "psf-radius"]
        assert content["features"]["energy"] == ["1 TeV"]

    def test_one_response_for_all_runs_makes_conditions_the_features(self, fact_crab):
        content = yaml.safe_load(describe_run(fact_crab))
        assert "target" not in content
        assert "zenith" in content["features"]["names"]
        assert not {"aeff", "edisp-res68"} & set(content["features"]["names"])

    def test_an_archive_that_sees_low_energies_gets_low_energies(self, tmp_path):
        archive = simulate(tmp_path / "a", n_obs=6, seed=1, size="small", events=False)
        low = yaml.safe_load(describe_run(archive))["features"]["energy"][0]
        axis = DataStore.from_dir(archive).get_observations()[0].aeff.axes["energy_true"]
        tev = float(low.split()[0]) / (1000 if "GeV" in low else 1)
        assert axis.center[0] < tev < axis.center[-1]

    @pytest.mark.parametrize(
        ("value", "expected"), [(1, 1), (1.99, 1), (2, 2), (0.07, 0.05), (630, 500), (10, 10)]
    )
    def test_nice_numbers_are_not_above(self, value, expected):
        assert nice(value) == pytest.approx(expected)

    def test_names_of_targets_cannot_break_the_file(self, small_archive, tmp_path):
        archive = shutil.copytree(small_archive, tmp_path / "archive")
        table = Table.read(archive / "obs-index.fits.gz")
        odd = "a: [b # 'c\"\n}"
        table["RA_OBJ"], table["DEC_OBJ"] = table["RA_PNT"][0], table["DEC_PNT"][0]
        table["RA_PNT"], table["DEC_PNT"] = table["RA_OBJ"], table["DEC_OBJ"]
        table["OBJECT"] = np.array([odd] * len(table))
        table.write(archive / "obs-index.fits.gz", overwrite=True)
        stored = str(DataStore.from_dir(archive).obs_table["OBJECT"][0])
        text = describe_run(archive)
        content = yaml.safe_load(text)
        assert content["target"].strip() == stored.strip()
        assert make_config(content).archive == str(archive)

    def test_a_relative_archive_is_found_from_elsewhere(self, small_archive, monkeypatch):
        monkeypatch.chdir(small_archive.parent)
        assert yaml.safe_load(describe_run(small_archive.name))["archive"] == str(small_archive)

    def test_a_variable_stays_one(self, small_archive, monkeypatch):
        monkeypatch.setenv("ARCHIVES", str(small_archive.parent))
        name = f"$ARCHIVES/{small_archive.name}"
        assert yaml.safe_load(describe_run(name))["archive"] == name

    def test_runs_that_cannot_be_read_are_no_obstacle(self, small_archive, tmp_path):
        archive = shutil.copytree(small_archive, tmp_path / "archive")
        first = sorted((archive / "data").iterdir())[0]
        first.write_bytes(first.read_bytes()[:3000])
        assert yaml.safe_load(describe_run(archive))["features"]["names"]
        shutil.rmtree(archive / "data")
        assert yaml.safe_load(describe_run(archive))["archive"] == str(archive)


class TestFile:
    def test_what_is_there_stays_unless_told(self, small_archive, tmp_path, capsys):
        path = tmp_path / "run.yaml"
        path.write_text("mine")
        assert main(["init", str(small_archive), "-o", str(path)]) == 2
        assert "--overwrite" in capsys.readouterr().err
        assert path.read_text() == "mine"
        assert main(["init", str(small_archive), "-o", str(path), "--overwrite"]) == 2
        assert path.read_text() == "mine"
        assert main(["init", str(small_archive), "-o", str(path), "--force"]) == 0
        assert path.read_text().startswith(describe_run(small_archive))
        assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]

    def test_no_archive_no_file(self, tmp_path):
        with pytest.raises(ArchiveError, match="no such archive"):
            write_description(tmp_path / "none", tmp_path / "run.yaml")
        assert list(tmp_path.iterdir()) == []

    def test_a_directory_is_no_file(self, small_archive, tmp_path):
        with pytest.raises(RequestError, match="is a directory"):
            write_description(small_archive, tmp_path, overwrite=True)

    def test_it_must_be_possible_to_write_there(self, small_archive, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(RequestError, match="cannot be written"):
            write_description(small_archive, tmp_path / "file" / "run.yaml")


class TestReduction:
    """`init --reduce`: what it writes is what `reduce --config` takes."""

    @pytest.mark.parametrize("name", ARCHIVES)
    def test_all_of_it_is_valid(self, name, request):
        text = describe_reduction(request.getfixturevalue(name))
        config = make_reduce_config(yaml.safe_load(text))
        decades = np.log10(config.energy.limits)
        assert_array_equal(decades, np.round(decades))
        options = options_of(text)
        assert len(options) > 4
        for place, lines in options:
            changed = make_reduce_config(yaml.safe_load(with_option(text, place, lines)))
            # What point-like runs do not look at is as by default.
            assert changed != config or "region:" in lines, lines

    @pytest.mark.parametrize(
        ("name", "target", "n_runs"),
        [
            ("small_archive", None, 2),
            ("hess_dr1", "PKS 2155-304", 2),
            ("fact_crab", "83.63 22.01", 2),
            ("cta_1dc", "265.98 -29.61", 1),
        ],
    )
    def test_it_reduces(self, name, target, n_runs, request, tmp_path, capsys):
        pytest.importorskip("gammapy")
        archive = request.getfixturevalue(name)
        table = DataStore.from_dir(archive).obs_table
        if target is None:
            target = f"{table['RA_PNT'][0]} {table['DEC_PNT'][0] + 0.7}"
        chosen = table.select_sky_circle(resolve_target(table, target).position, "1.5 deg")
        ids = [str(i) for i in chosen["OBS_ID"][:n_runs]]
        group = ["group", str(archive), "--target", target, "--features", "zenith", "--no-plots"]
        where = ["--n-groups", "1", "--where", "OBS_ID", "=", *ids, "-o", str(tmp_path / "g")]
        assert main([*group, *where]) == 0
        path = tmp_path / "reduce.yaml"
        assert main(["init", str(archive), "--reduce", "-o", str(path)]) == 0
        assert f"reduce GROUPS --config {path}" in capsys.readouterr().out
        reduce = ["reduce", str(tmp_path / "g"), "--config", str(path), "-o", str(tmp_path / "d")]
        assert main(reduce) == 0
        record = yaml.safe_load((tmp_path / "d" / "reduction.yaml").read_text())
        assert [str(i) for i in record["groups"]["group_1"]["obs_ids"]] == ids

    def test_it_follows_the_responses(self, fact_crab, hess_dr1):
        assert "bring their own (0.173 deg" in " ".join(describe_reduction(fact_crab).split())
        radius = yaml.safe_load(describe_reduction(hess_dr1))["region"]["radius"]
        assert 0.07 < float(radius.split()[0]) < 0.12
