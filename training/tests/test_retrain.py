import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from make_exports import START_MS, feedback, row, write

import compare
import data
import report
import retrain
import settings
from data import Example

TRAINING = Path(retrain.__file__).parent


def figures(active, candidate, rows=200):
    """Returns a comparison in which each of `rows` rows is right by chance of these shares."""
    rng = np.random.default_rng(3)
    groups = [f"session {n // 2}" for n in range(rows)]
    drawn = rng.random(rows)

    def one(right):
        return {name: (drawn < right, np.ones(rows)) for name in ("tier_accuracy", "intent_accuracy", "within_one")}

    found = compare.paired({"active": one(active), "candidate": one(candidate)}, groups)
    return found | {"rows": rows, "rows_judged": rows}


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
    assert "10 judged requests are too few to judge by, 50 are needed" in compare.refusals(found)[0]
    assert compare.refusals(found, held_out_min=10) == []


def test_more_answers_too_low_are_worse_not_better():
    rows = {name: {"tier_too_low": (np.arange(100) < count, np.ones(100))} for name, count in
            (("active", 10), ("candidate", 30))}  # fmt: skip
    found = compare.paired(rows, list(map(str, range(100))))
    assert found["gain"]["tier_too_low"]["value"] == 0.2
    reasons = compare.refusals({"corpus_test": found, "traffic": {"rows": 100, "rows_judged": 100, "gain": {}}})
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
    rows = compare.traffic_rows(np.ones((1, 15)), sufficiency, held_out([one], known=[False]))
    assert rows["levels_right"][0] == [1.0]
    assert rows["tier_accuracy"][1] == rows["intent_accuracy"][1] == [0.0]


def held_out(examples, known=None, tenants=None, labelled=None, share=1 / 3):
    count = len(examples)
    return compare.HeldOut(
        examples,
        np.array([True] * count if known is None else known),
        np.array(tenants or [0] * count),
        np.array(labelled or [False] * count),
        share,
    )


def of_tier(tier, weight=1.0):
    return Example([], None, [float(tier <= level) for level in range(3)], "traffic", tier=tier,
                   level_weights=[weight] * 3)  # fmt: skip


def test_only_rows_with_a_judged_level_count_towards_what_is_needed():
    intents = [Example([], 3, [0.05] * 3, "traffic", level_weights=[0.0] * 3)] * 60
    assert held_out(intents, known=[False] * 60).judged() == 0
    assert held_out([*intents, *[of_tier(1)] * 20], known=[False] * 60 + [True] * 20).judged() == 20
    # Unequal rows judge as well as fewer equal ones.
    assert held_out([of_tier(1)] * 10 + [of_tier(1, 0.1)] * 10, known=[True] * 20).judged() == 11
    assert compare.too_few(20, 80, 50)[0].startswith("held-out traffic: 20 judged requests are too few")


def test_no_tenant_decides_alone_which_bundle_is_better():
    examples = [of_tier(0)] * 900 + [of_tier(1)] * 100 + [of_tier(1)] * 100
    tenants = [0] * 900 + [1] * 100 + [2] * 100
    active = np.tile([0.1, 0.9, 0.9, 1.0], (1100, 1))
    candidate = np.tile([0.9, 0.9, 0.9, 1.0], (1100, 1))

    def gain(held):
        rows = {name: compare.traffic_rows(np.ones((1100, 15)), said, held) for name, said in
                (("active", active), ("candidate", candidate))}  # fmt: skip
        return compare.paired(rows, list(map(str, range(1100))))["gain"]["tier_accuracy"]["value"]

    assert gain(held_out(examples, tenants=tenants, share=1.0)) > 0.5
    assert gain(held_out(examples, tenants=tenants)) == pytest.approx(-1 / 3, abs=1e-3)
    # What the operator's own people labelled is no tenant's word.
    assert gain(held_out(examples, tenants=tenants, labelled=[True] * 1100)) > 0.5
    # A single tenant is judged as it is, and a second one with ten requests leaves it fifty.
    assert gain(held_out(examples)) > 0.5
    assert gain(held_out(examples, tenants=[0] * 1090 + [1] * 10)) > 0.3


def test_redrawing_many_sessions_needs_little_memory(monkeypatch):
    columns = np.random.default_rng(1).random((500, 3))
    whole = compare.redrawn(columns)
    monkeypatch.setattr(compare, "DRAWN_AT_ONCE", 500 * 7)
    assert np.allclose(whole, compare.redrawn(columns))
    sizes = []
    monkeypatch.setattr(compare, "DRAWN_AT_ONCE", 1000)
    real = np.random.default_rng

    class Counted:
        def multinomial(self, count, shares, size):
            sizes.append(count * size)
            return real(1).multinomial(count, shares, size)

    monkeypatch.setattr(compare.np.random, "default_rng", lambda _: Counted())
    compare.redrawn(columns)
    assert max(sizes) <= 1000


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
    two = ("--version", "0.0.5", "--processes", 2)
    code, said = attempt_to_retrain(smoke, work, "--tolerance", -1, *two)
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

    code, said = attempt_to_retrain(smoke, work, "--tolerance", 1, *two)
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

    # A label of a held-out request changes what is compared, and only that.
    shutil.move(bundle, tmp_path / "released")
    rows = [json.loads(line) for line in (work / "traffic" / "held_out.jsonl").read_text().splitlines()]
    labels = tmp_path / "labels.jsonl"
    given = {
        "text_hash": rows[0]["text_hash"],
        "right_tier": "reasoning",
        "right_intent": "code",
        "reasons": ["random"],
    }
    labels.write_text(json.dumps(given) + "\n")
    code, said = attempt_to_retrain(smoke, work, "--tolerance", 1, *two, "--labels", labels)
    assert code == 0, said
    done = {name: f"== {name}: done before" in said for name in ("traffic", "train", "export", "compare")}
    assert done == {"traffic": False, "train": True, "export": True, "compare": False}
    assert "intent_accuracy" in json.loads((work / "comparison.json").read_text())["traffic"]["gain"]

    code, said = attempt_to_retrain(smoke, work, "--version", "0.0.5")
    assert code == 2
    assert "exists; name another --version" in said


def told(**changes):
    values = {"smoke": True, "start": None, "data": None, "base": Path("nowhere"), "set": [], "processes": 1}
    return argparse.Namespace(**(values | changes))


def test_weights_are_trained_anew_when_anything_that_shapes_them_changes(tmp_path, monkeypatch):
    base, sets = tmp_path / "base", tmp_path / "sets"
    base.mkdir()
    sets.mkdir()
    (base / "model.safetensors").write_bytes(b"one")
    (base / "config.json").write_text("{}")
    sources = [source for source in data.sources() if source["name"] in settings.MIX]
    for source in sources:
        (sets / f"{source['name']}.jsonl.gz").write_bytes(b"one")
    real = {"smoke": False, "base": base}
    found = [retrain.train_inputs(told(), "learned"), retrain.train_inputs(told(**real), "learned")]
    assert found[1] == retrain.train_inputs(told(**real), "learned")
    found.append(retrain.train_inputs(told(**real, data=sets), "learned"))
    (sets / f"{sources[0]['name']}.jsonl.gz").write_bytes(b"other")
    found.append(retrain.train_inputs(told(**real, data=sets), "learned"))
    (base / "config.json").write_text('{"hidden_size": 1}')
    found.append(retrain.train_inputs(told(**real), "learned"))
    (base / "model.safetensors").write_bytes(b"other")
    found.append(retrain.train_inputs(told(**real), "learned"))
    found.append(retrain.train_inputs(told(**real, set=["epochs=9"]), "learned"))
    found.append(retrain.train_inputs(told(**real), "learned otherwise"))
    found.append(retrain.train_inputs(told(**real, processes=2), "learned"))
    monkeypatch.setattr(retrain, "corpus_hashes", lambda: ["other", "splits"])
    found.append(retrain.train_inputs(told(**real), "learned"))
    assert len(set(found)) == len(found)


def test_several_gpus_are_started_as_accelerate_understands_it(monkeypatch):
    launch = pytest.importorskip("accelerate.commands.launch")
    monkeypatch.setattr(retrain, "cuda", lambda: True)
    assert retrain.launcher(1) == []
    flag, module, *options = retrain.launcher(4)
    assert (flag, module) == ("-m", "accelerate.commands.launch")
    parsed = launch.launch_command_parser().parse_args([*options, "train.py", "--set", "epochs=1"])
    assert (parsed.multi_gpu, parsed.num_processes, parsed.num_machines) == (True, 4, 1)
    assert (parsed.mixed_precision, parsed.dynamo_backend) == ("no", "no")
    assert (parsed.training_script, parsed.training_script_args) == ("train.py", ["--set", "epochs=1"])


EVALUATES = """#!{python}
import json, pathlib, sys
with pathlib.Path({calls!r}).open("a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
figures = {{name: {{"router": {{"value": 0.5, "interval": {{"low": 0.4, "high": 0.6}}}}}} for name in {names!r}}}
print(json.dumps({{"sections": [{{"metrics": figures}}]}}))
if "--gates" in sys.argv:
    sys.exit("gates missed:\\n  tier.accuracy is 0.5, at least 0.9 is needed")
"""


def test_what_is_served_is_measured_once_and_resumed(smoke, tmp_path, capsys):
    calls, binary, gates = tmp_path / "calls", tmp_path / "pointsman", tmp_path / "gates.toml"
    binary.write_text(EVALUATES.format(python=sys.executable, calls=str(calls), names=list(compare.SERVED)))
    binary.chmod(0o755)
    gates.write_text("[[gate]]\n")
    bundle = smoke / "onnx" / "0.0.1"
    given = argparse.Namespace(work=tmp_path, active=bundle, pointsman=binary, gates=gates)
    figures, missed = retrain.served(given, bundle, "same")
    assert figures["candidate"]["tier.accuracy"]["value"] == 0.5
    assert missed == ["gates.toml: tier.accuracy is 0.5, at least 0.9 is needed"]
    said = capsys.readouterr().out
    assert "== served\n" in said
    assert "pointsman eval of 0.0.1 (active)" in said
    assert retrain.served(given, bundle, "same") == (figures, missed)
    assert "== served: done before" in capsys.readouterr().out
    assert len(calls.read_text().splitlines()) == 2
    gates.write_text("[[gate]]\n# others\n")
    retrain.served(given, bundle, "same")
    retrain.served(given, bundle, "another")
    assert len(calls.read_text().splitlines()) == 6
    binary.write_text(binary.read_text().replace("  tier.accuracy is", "out of order: "))
    with pytest.raises(SystemExit, match="ended with 1: gates missed"):
        retrain.served(given, bundle, "same")


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
    assert "20 judged requests are too few to judge by, 1000 are needed" in said
    assert not (tmp_path / "few" / "run").exists()
