import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from make_exports import START_MS, feedback, row, write

import compare
import report
import retrain
from data import Example

TRAINING = Path(retrain.__file__).parent


def figures(active, candidate, rows=200):
    """Returns a comparison in which each of `rows` rows is right by chance of these shares."""
    rng = np.random.default_rng(3)
    groups = [f"session {n // 2}" for n in range(rows)]
    drawn = rng.random(rows)

    def one(right):
        return {name: (drawn < right, np.ones(rows)) for name in ("tier_accuracy", "intent_accuracy", "within_one")}

    return compare.paired({"active": one(active), "candidate": one(candidate)}, groups) | {"rows": rows}


def check(corpus, traffic, expected, **changes):
    found = {"corpus_test": figures(*corpus), "traffic": figures(*traffic)}
    reasons = compare.refusals(found, **changes)
    assert len(reasons) == len(expected), reasons
    for reason, part in zip(reasons, expected, strict=True):
        assert part in reason


def test_a_worse_bundle_is_refused_and_says_by_how_much():
    check((0.8, 0.8), (0.5, 0.7), [])
    check((0.8, 0.795), (0.5, 0.7), [])
    worse = ["corpus test: tier_accuracy was 0.8", "corpus test: intent_accuracy", "corpus test: within_one"]
    check((0.8, 0.7), (0.5, 0.7), worse)
    check((0.8, 0.8), (0.7, 0.65), ["traffic: tier_accuracy was"])
    check((0.8, 0.7), (0.5, 0.7), [], tolerance=0.2)


def test_too_few_held_out_requests_judge_nothing():
    found = {"corpus_test": figures(0.8, 0.9), "traffic": figures(0.5, 0.9, rows=10)}
    assert "10 requests are too few to judge by, 50 are needed" in compare.refusals(found)[0]
    assert compare.refusals(found, held_out_min=10) == []


def test_more_answers_too_low_are_worse_not_better():
    rows = {name: {"tier_too_low": (np.arange(100) < count, np.ones(100))} for name, count in
            (("active", 10), ("candidate", 30))}  # fmt: skip
    found = compare.paired(rows, list(map(str, range(100))))
    assert found["gain"]["tier_too_low"]["value"] == 0.2
    reasons = compare.refusals({"corpus_test": found, "traffic": {"rows": 100, "gain": {}}})
    assert "tier_too_low was 0.1000 and would be 0.3000" in reasons[0]


def test_a_bundle_that_serves_worse_is_refused():
    def figures(**changes):
        return {figure: {"value": changes.get(figure.replace(".", "_"), 0.5)} for figure in compare.SERVED}

    def check(expected, tolerance=None, **changes):
        reasons = compare.served_refusals({"active": figures(), "candidate": figures(**changes)}, tolerance)
        assert len(reasons) == len(expected), reasons
        for reason, part in zip(reasons, expected, strict=True):
            assert part in reason

    check([])
    check([], tier_accuracy=0.49, tier_under_routing=0.51)
    check(["tier.accuracy was 0.5000 and would be 0.4800"], tier_accuracy=0.48)
    check(["tier.under_routing was 0.5000 and would be 0.5200"], tier_under_routing=0.52)
    check([], tier_under_routing=0.3, coverage_low_confidence=0.9, difficulty_spearman=0.1)
    check([], tolerance=0.2, tier_accuracy=0.4)


def test_intervals_redraw_whole_sessions():
    values = np.repeat([0.0, 1.0], 50)
    rows = {"active": {"tier_accuracy": (values, np.ones(100))}, "candidate": {"tier_accuracy": (values, np.ones(100))}}
    alone = compare.paired(rows, list(map(str, range(100))))["active"]["tier_accuracy"]["interval"]
    together = compare.paired(rows, [str(n // 25) for n in range(100)])["active"]["tier_accuracy"]["interval"]
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])
    assert compare.paired(rows, ["one"] * 100)["gain"]["tier_accuracy"] == {"value": 0.0, "interval": [0.0, 0.0]}


def test_levels_nobody_judged_have_no_part_in_the_figures():
    one = Example([], None, [0.95, 0.95, 0.95], "traffic", level_weights=[0.0, 0.0, 0.5])
    sufficiency = np.array([[0.1, 0.2, 0.9, 1.0]])
    rows = compare.traffic_rows(np.ones((1, 15)), sufficiency, [one], np.array([False]))
    assert rows["levels_right"][0] == [1.0]
    assert rows["tier_accuracy"][1] == rows["intent_accuracy"][1] == [0.0]


def test_versions_count_up_past_those_that_exist(tmp_path):
    (tmp_path / "0.2.1").mkdir()
    assert retrain.next_version("0.2.0", tmp_path) == "0.2.2"
    assert retrain.next_version("mine", tmp_path) == "mine.1"


def test_what_was_trained_on_is_found_in_runs_of_runs():
    known = {
        "data": [{"name": "corpus"}, {"trained_until_ms": 5}],
        "training": {"refines": {"data": [{"trained_until_ms": 9}]}},
    }
    assert retrain.trained_until(known) == [5, 9]


def test_a_report_of_a_step_that_failed_is_whole(tmp_path):
    report.write({"version": "1<2", "refusals": ["traffic: <nothing>"], "settings": {}}, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "1&lt;2" in page
    assert "&lt;nothing&gt;" in page
    assert json.loads((tmp_path / "report.json").read_text())["refusals"] == ["traffic: <nothing>"]


def command(name, *options):
    code = subprocess.run([sys.executable, TRAINING / name, *map(str, options)], capture_output=True, text=True)
    return code.returncode, code.stdout + code.stderr


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Returns a folder with a smoke bundle that serves, and an export."""
    folder = tmp_path_factory.mktemp("retrain")
    for step in (
        ("train.py", "--smoke", "--out", folder / "run"),
        ("export.py", "--run", folder / "run", "--version", "0.0.1", "--out", folder / "onnx"),
    ):
        code, said = command(*step)
        assert code == 0, said
    rows = []
    for n in range(100):
        at = START_MS + n * 86_400_000 // 4
        said = [feedback(at, source="human", right_tier="complex" if n % 2 else "simple")]
        rows.append(row(f"please sort the crates of bay number {n}", at, session=f"s{n}", feedback=said))
    write(rows, folder / "export")
    return folder


def attempt_to_retrain(smoke, work, *options):
    place = ["--active", smoke / "onnx" / "0.0.1", "--out", smoke / "onnx", "--work", work]
    return command("retrain.py", smoke / "export", "--smoke", "--held-out-min", 10, *place, *options)


def test_retraining_refuses_releases_and_resumes(smoke, tmp_path):
    work = tmp_path / "work"
    # Nothing passes a tolerance that asks for an improvement of every figure by everything.
    code, said = attempt_to_retrain(smoke, work, "--tolerance", -1, "--version", "0.0.5", "--processes", 2)
    assert code == 1, said
    assert json.loads((work / "run" / "run.json").read_text())["settings"]["processes"] == 2
    assert "refused: corpus test: tier_accuracy was" in said
    assert not (smoke / "onnx" / "0.0.5").exists()
    refused = json.loads((work / "report.json").read_text())
    assert len(refused["refusals"]) >= 5
    page = (work / "report.html").read_text()
    assert "Refused" in page
    assert page.count("<svg") >= 4
    assert "crates" not in page

    code, said = attempt_to_retrain(smoke, work, "--tolerance", 1, "--version", "0.0.5")
    assert code == 0, said
    assert said.count("done before") == 4, said
    bundle = smoke / "onnx" / "0.0.5"
    assert {"manifest.json", "model.onnx", "report.html", "report.json"} <= {file.name for file in bundle.iterdir()}
    manifest = json.loads((bundle / "manifest.json").read_text())
    learned = next(one for one in manifest["data"] if one["name"] == "traffic")
    assert learned["requests"] == 100
    assert (learned["days"][0], learned["kinds"], len(learned["sha256"])) == ("2030-01-01", {"human": 100}, 64)
    assert manifest["metrics"]["retraining"]["traffic"]["rows"] == learned["rows_by_split"]["held_out"] == 20
    assert "baselines" in manifest["metrics"]["retraining"]["traffic"]

    code, said = attempt_to_retrain(smoke, work, "--version", "0.0.5")
    assert code == 2
    assert "exists; name another --version" in said


def test_a_retraining_that_cannot_begin_leaves_a_report(smoke, tmp_path):
    work = tmp_path / "work"
    code, said = command(
        "retrain.py", tmp_path / "nothing", "--smoke", "--active", smoke / "onnx" / "0.0.1", "--work", work
    )
    assert code == 1
    assert "no such export" in said
    assert "no such export" in json.loads((work / "report.json").read_text())["refusals"][0]
    code, said = attempt_to_retrain(smoke, tmp_path / "few", "--held-out-min", 1000)
    assert code == 1
    assert "20 requests are too few to judge by, 1000 are needed" in said
    assert not (tmp_path / "few" / "run").exists()
