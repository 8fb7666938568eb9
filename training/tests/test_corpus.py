import json
from pathlib import Path

import corpus
import data

GOOD = {
    "id": "a-01-001",
    "messages": [{"role": "user", "content": "how many minutes are in a day"}],
    "intent": "math",
    "tier": "simple",
    "language": "en",
    "domain": "time",
    "batch": "a-01",
}


def check(change, expected):
    _, problems = corpus.check_line(json.dumps(GOOD | change))
    assert any(expected in problem for problem in problems), problems


def test_good_line_has_no_problem():
    assert corpus.check_line(json.dumps(GOOD))[1] == []


def test_each_problem_is_named():
    check({"intent": "poetry"}, "intent 'poetry'")
    check({"tier": "medium"}, "tier 'medium'")
    check({"domain": " "}, "domain is not a non-empty string")
    check({"extra": 1}, "unknown key 'extra'")
    check({"messages": []}, "messages is not a non-empty list")
    check({"messages": [{"role": "user", "content": " "}]}, "messages[0].content is empty")
    check({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role 'bot'")
    check({"messages": [{"role": "assistant", "content": "x"}]}, "no user message")
    assert corpus.check_line("{")[1][0].startswith("not JSON")


def test_missing_field_is_named():
    row = {key: value for key, value in GOOD.items() if key != "tier"}
    assert corpus.check_line(json.dumps(row))[1] == ["lacks 'tier'"]


def rows(*texts_and_batches):
    return [
        {"place": f"f:{n}", "batch": batch, "messages": [{"role": "user", "content": text}]}
        for n, (text, batch) in enumerate(texts_and_batches)
    ]


def test_duplicates_are_found_within_and_across_splits():
    splits = {"dev": set(), "test": {"b"}, "exclude": set()}
    text = "please write a short letter to my landlord about the heating"
    errors, warnings = corpus.find_duplicates(rows((text, "a"), (text.upper() + "!", "a")), splits)
    assert len(errors) == 1
    assert not warnings
    near = text + " today"
    errors, warnings = corpus.find_duplicates(rows((text, "a"), (near, "a")), splits)
    assert (len(errors), len(warnings)) == (0, 1)
    errors, warnings = corpus.find_duplicates(rows((text, "a"), (near, "b")), splits)
    assert (len(errors), len(warnings)) == (1, 0)


def test_near_duplicates_are_found_in_scripts_without_spaces():
    splits = {"dev": {"b"}, "exclude": set()}
    text = "请帮我把下面这段会议记录整理成一封给客户的邮件"
    errors, _ = corpus.find_duplicates(rows((text, "a"), (text + "谢谢", "b")), splits)
    assert len(errors) == 1


def test_a_batch_belongs_to_one_split(tmp_path):
    path = tmp_path / "splits.toml"
    path.write_text('dev = ["a"]\ncalibration = ["a", "b"]\ntset = ["b"]\n')
    splits, problems = corpus.read_splits(path, {"a"})
    assert problems == [
        "splits.toml: unknown key 'tset'",
        "splits.toml: batch 'a' is in dev and calibration",
        "splits.toml: no batch 'b'",
    ]
    assert corpus.split_of({"batch": "b"}, splits) == "calibration"


def test_duplicate_id_and_place_are_reported(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD) + "\nnope\n")
    read, problems = corpus.read(tmp_path)
    assert len(read) == 1
    assert problems[0] == "a.jsonl:2: id 'a-01-001' is already at a.jsonl:1"
    assert problems[1].startswith("a.jsonl:3: not JSON")


def test_both_readings_are_kept_and_compared():
    reading = {"intent": "code", "tier": "simple"}
    assert corpus.check_line(json.dumps(GOOD | {"author": reading, "reviewer": reading}))[1] == []
    problems = corpus.check_line(json.dumps(GOOD | {"reviewer": {"intent": "poetry", "tier": "simple"}}))[1]
    assert problems == ["reviewer is not an intent and a tier"]


def test_kappa_is_one_for_equal_and_zero_for_independent_readings():
    def differ(a, b):
        return float(a != b)

    assert corpus.kappa([(0, 0), (1, 1)], differ) == 1.0
    assert abs(corpus.kappa([(0, 0), (0, 1), (1, 0), (1, 1)], differ)) < 1e-12


def test_default_bundle_was_trained_on_the_committed_corpus():
    onnx = Path(corpus.__file__).parents[1] / "onnx"
    version = (onnx / "default").read_text().strip()
    manifest = json.loads((onnx / version / "manifest.json").read_text())
    now = data.corpus_provenance()
    assert {key: manifest["data"][0][key] for key in ("sha256", "splits_sha256")} == {
        key: now[key] for key in ("sha256", "splits_sha256")
    }
