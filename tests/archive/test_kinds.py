"""Which runs may be stacked: one rule for all commands."""

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import QTable

from archives import Archive
from obscluster import DataStore, Grouping
from obscluster.archive.kinds import (
    Kind,
    check_stackable,
    code_of,
    joined,
    kind_of,
    kind_texts,
    may_be_stacked,
    packed,
    settled,
    unpacked,
)
from obscluster.cli import main
from obscluster.config import make_config
from obscluster.exceptions import RequestError
from obscluster.features.table import get_features
from obscluster.grouping import UNASSIGNED
from obscluster.simulate import simulate
from obscluster.workflow.assign import assign_observations, write_assignment
from obscluster.workflow.runs import characterise

TARGET = "83.63 22.01"
HESS = Kind("HESS", "H.E.S.S. Phase I", "", "full-enclosure")
FACT = Kind("FACT", "FACT", "", "point-like", "0.173 deg")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Eight runs, of which every other one is of another telescope, whose responses have a cut."""
    directory = tmp_path_factory.mktemp("mixed") / "archive"
    simulate(directory, n_obs=8, seed=2, size="small", events=True)
    archive = Archive(directory)
    for path in archive.files[::2]:
        make_other(path)
    archive.index("obs", lambda table: table.meta.pop("TELESCOP", None) and None)
    archive.index("obs", lambda table: table.meta.pop("INSTRUME", None) and None)
    return directory


def make_other(path, **keywords):
    """Make a run one of another telescope, with point-like responses."""
    with fits.open(path, memmap=False) as hdus:
        hdus["EVENTS"].header.update(TELESCOP="OTHER", INSTRUME="OTHER")
        for name in ("AEFF", "EDISP"):
            hdus[name].header.update({"HDUCLAS3": "POINT-LIKE", "RAD_MAX": 0.2} | keywords)
        hdus.writeto(path, overwrite=True)


def others_of(directory):
    """Runs of the other telescope, read from the files themselves."""
    found = set()
    for path in Archive(directory).files:
        header = fits.getheader(path, "EVENTS")
        found |= {header["OBS_ID"]} if header["TELESCOP"] == "OTHER" else set()
    return found


class TestRule:
    @pytest.mark.parametrize(
        ("change", "allowed"),
        [
            ({}, True),
            ({"telescope": "H.E.S.S."}, True),
            ({"telescope": ""}, True),
            ({"telescope": "VERITAS"}, False),
            ({"instrument": "H.E.S.S. Phase II"}, False),
            ({"response": "point-like"}, False),
            ({"response": "", "cut": "0.2 deg"}, True),
            ({"telescopes": "1,2,3"}, True),
            ({"telescopes": "5"}, False),
            ({"events": "PSF1"}, True),
        ],
    )
    def test_what_differs(self, change, allowed):
        run = HESS._replace(telescopes="1,2,3,4")
        other = run._replace(**change)
        assert may_be_stacked(run, other) is may_be_stacked(other, run) is allowed

    def test_size_of_the_cut_and_type_of_the_events(self):
        for part, values in {"cut": ("0.1 deg", "by energy"), "events": ("PSF0", "PSF1")}.items():
            kinds = [FACT._replace(**{part: value}) for value in values]
            assert not may_be_stacked(*kinds)
            assert may_be_stacked(kinds[0], kinds[0])

    def test_missing_telescopes_make_no_other_array(self):
        lists = ["1,2,3,4", "1,2", "3,4", ""]
        kinds = [HESS._replace(telescopes=text) for text in lists]
        assert settled(kinds) == [HESS] * 4
        # Nothing joins the fifth one to the others, whatever the order.
        for place in range(4):
            some = [*kinds[:place], HESS._replace(telescopes="5"), *kinds[place:]]
            found = [kind.telescopes for kind in settled(some)]
            assert found == [*found[:place], "5", *found[place + 1 :]]
            assert set(found) == {"1,2,3,4", "5", ""}
        # Numbers of other telescopes say nothing of these.
        far = Kind("VERITAS", telescopes="4")
        assert settled([kinds[1], far]) == [HESS, far._replace(telescopes="")]

    def test_words_and_numbers(self):
        assert kind_texts([HESS, FACT, HESS._replace(telescope="hess")]) == [
            "H.E.S.S. Phase I",
            "FACT point-like 0.173 deg",
            "H.E.S.S. Phase I",
        ]
        kinds = [HESS, FACT, Kind(), HESS._replace(events="1")]
        assert len({code_of(kind) for kind in kinds}) == 4
        assert all(code_of(kind) == int(code_of(kind)) < 2**48 for kind in kinds)

    def test_it_is_packed(self):
        kinds = [HESS, FACT, HESS, Kind(), HESS]
        content = packed(range(5), kinds)
        assert unpacked(range(5), yaml.safe_load(yaml.safe_dump(content))) == dict(enumerate(kinds))
        # What all have takes no room.
        assert packed(range(5), [FACT] * 5) == [FACT.parts]

    def test_all_that_is_refused_is_named(self):
        kinds = dict(enumerate([HESS] * 9 + [FACT, Kind()]))
        check_stackable(kinds, {"group_1": range(9), "group_2": [9, 10]}, "")
        text = (
            r"^group_2 would stack runs that may not be: H.E.S.S. Phase I \(runs 0, 1, 2, 3, 4 and "
            r"4 more\), and FACT point-like 0.173 deg \(run 9\); do this$"
        )
        with pytest.raises(RequestError, match=text):
            check_stackable(kinds, {"group_1": [], "group_2": range(11)}, "do this")
        assert joined([Kind(), FACT, Kind("x")]) == FACT


class TestRuns:
    def test_kinds_of_an_archive(self, mixed, tmp_path):
        others = others_of(mixed)
        config = {"archive": str(mixed), "features": {"names": ["zenith"]}}
        runs = characterise(make_config(config))
        assert {i for i, kind in runs.kinds.items() if kind.telescope == "OTHER"} == others
        assert len(set(runs.kinds.values())) == 2
        for obs in DataStore.from_dir(mixed).get_observations():
            kind = kind_of(obs)._replace(telescopes="")
            assert runs.kinds[obs.obs_id] == kind
            assert (kind.response == "point-like") is (kind.cut == "0.2 deg")
        # Whatever else is computed, by whomever, and from whatever is kept.
        for features in ({"names": ["aeff", "edisp-res"]}, {"names": ["zenith"]}):
            asked = {**features, "cache": str(tmp_path / "cache")}
            for workers in (2, 1):
                content = {**config, "features": asked, "workers": workers}
                assert characterise(make_config(content)).kinds == runs.kinds
        assert "_kind" not in get_features(runs.observations, "zenith").colnames

    def test_responses_that_cannot_be_read_make_no_difference(self, mixed, tmp_path):
        """A run whose effective area is damaged is grouped by its zenith angle as ever."""
        archive = Archive.copy_of(mixed, tmp_path / "archive")
        path = archive.files[1]
        with fits.open(path, memmap=False) as hdus:
            obs_id = hdus["EVENTS"].header["OBS_ID"]
            del hdus["AEFF"]
            hdus.writeto(path, overwrite=True)
        config = make_config({"archive": str(archive.directory), "features": {"names": ["zenith"]}})
        runs = characterise(config)
        assert np.isfinite(runs.features["zenith"]).all()
        assert not any(runs.features["notes"])
        assert runs.unread == {}
        assert runs.kinds[obs_id].response == ""
        assert runs.kinds[obs_id].telescope == "SIMULATION"

    @pytest.mark.parametrize("name", ["hess-dl3-dr1", "fact-crab", "cta-1dc"])
    def test_real_archives_are_of_one_kind(self, name, request):
        archive = request.getfixturevalue(
            name.replace("hess-dl3-dr1", "hess_dr1").replace("-", "_")
        )
        config = make_config({"archive": str(archive), "features": {"names": ["zenith"]}})
        (kind,) = set(characterise(config).kinds.values())
        assert str(kind) in (
            "H.E.S.S. Phase I",
            "FACT point-like 0.173 deg",
            "CTA full-enclosure",
            "CTA",
        )


class TestCommands:
    def test_group(self, mixed, tmp_path, capsys):
        group = ["group", str(mixed), "--features", "zenith", "--no-plots", "-o"]
        assert main([*group, str(tmp_path / "no"), "--n-groups", "1"]) == 2
        err = capsys.readouterr().err
        first = sorted(others_of(mixed))[0]
        assert "group_1 would stack runs that may not be" in err
        assert f"OTHER point-like 0.2 deg (runs {first}, " in err
        assert "--within kind" in err
        assert not (tmp_path / "no").exists()
        out = tmp_path / "groups"
        assert main([*group, str(out), "--n-groups", "1", "--within", "kind"]) == 0
        grouping = Grouping.read(out)
        assert grouping.n_groups == 2
        assert others_of(mixed) in [set(members) for members in grouping.members.values()]
        record = yaml.safe_load((out / "groups.yaml").read_text())
        kinds = [group["kind"] for group in record["groups"].values()]
        assert sorted(kind["telescope"] for kind in kinds) == ["OTHER", "SIMULATION"]
        # Groups made by hand are held to it, too.
        by_hand = tmp_path / "labels.csv"
        lines = [f"{obs_id},1" for obs_id in grouping.obs_ids]
        by_hand.write_text("\n".join(["OBS_ID,label", *lines]))
        assert main([*group, str(tmp_path / "no"), "--labels", str(by_hand)]) == 2

    def test_two_telescopes_are_assessed_without_stacking_them(self, tmp_path, capsys):
        directory = tmp_path / "archive"
        simulate(directory, n_obs=30, seed=4, size="small", events=False)
        archive = Archive(directory)
        for key in ("TELESCOP", "INSTRUME"):
            archive.index("obs", lambda table, key=key: table.meta.pop(key, None) and None)
        source = ["--target", "Crab Nebula", "--flux", "1 % Crab"]
        for response in ("POINT-LIKE", "FULL-ENCLOSURE"):
            for path in archive.files[::2]:
                make_other(path, HDUCLAS3=response)
            assert main(["frontier", str(directory), *source]) == 2
            err = capsys.readouterr().err
            assert "would stack runs that may not be" in err
            assert "--where TELESCOP = NAME" in err
        group = ["group", str(directory), "--within", "kind", "--n-groups", "1", "--no-plots"]
        assert main([*group, *source[:2], "-o", str(tmp_path / "g")]) == 0
        assert main(["assess", str(tmp_path / "g"), *source, "-o", str(tmp_path / "a")]) == 0
        losses = QTable.read(tmp_path / "a" / "losses.ecsv")
        assert list(losses["grouping"]) == ["these groups"]

    def test_assign_leaves_other_kinds_out(self, mixed, tmp_path):
        others = sorted(others_of(mixed))
        ids = [f"{obs_id}" for obs_id in others]
        group = ["group", str(mixed), "--features", "zenith", "--n-groups", "1", "--no-plots"]
        where = ["--where", "OBS_ID", "=", *ids]
        assert main([*group, *where, "-o", str(tmp_path / "g")]) == 0
        record_path = tmp_path / "g" / "groups.yaml"
        record = yaml.safe_load(record_path.read_text())
        record["config"]["selection"] = []
        record_path.write_text(yaml.safe_dump(record, sort_keys=False))
        found = assign_observations(tmp_path / "g", mixed, trust=True)
        for row in found.table:
            if row["obs_id"] in others:
                assert row["label"] == 1
            else:
                assert row["label"] == UNASSIGNED
                assert "fits none" in row["status"]
        notes = [str(row["notes"]) for row in found.table if row["obs_id"] not in others]
        assert any("may not be stacked with OTHER point-like 0.2 deg" in note for note in notes)
        write_assignment(found, tmp_path / "more")
        more = yaml.safe_load((tmp_path / "more" / "groups.yaml").read_text())
        assert more["groups"][1]["kind"] == record["groups"][1]["kind"]

    def test_reduce_looks_at_the_files(self, mixed, tmp_path):
        pytest.importorskip("gammapy")
        obs_ids = np.sort(np.asarray(DataStore.from_dir(mixed).obs_table["OBS_ID"]))
        grouping = Grouping(obs_ids, np.ones(len(obs_ids), dtype=int))
        from obscluster.reduction import make_reduce_config, reduce_groups

        config = make_reduce_config({"target": TARGET})
        with pytest.raises(RequestError, match=r"group_1 would stack .*--within kind"):
            reduce_groups(grouping, config, tmp_path / "d", mixed)
        assert not (tmp_path / "d").exists()
