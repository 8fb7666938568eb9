import argparse
import json

import pytest
from make_exports import START_MS, attempt, feedback, row, write

import data
import exports
import leaks
import traffic

DAY = 86_400_000
HUMAN = {"source": "human", "right_tier": "complex"}


def arguments(*folders, **changes):
    values = {"labels": [], "level": [], "never": [], "held_out_share": 0.25}
    return argparse.Namespace(exports=list(folders), **(values | changes))


def judged(text, day=0, **changes):
    at = START_MS + day * DAY
    return row(text, at, feedback=[feedback(at, **HUMAN)], session=changes.pop("session", text), **changes)


def texts(out, part):
    rows = [json.loads(line) for line in (out / f"{part}.jsonl").read_text().splitlines()]
    return {one["messages"][-1]["content"] for one in rows}


def run(tmp_path, rows, form="parquet", **changes):
    folder = write(rows, tmp_path / "export", form)
    return traffic.write(arguments(folder, **changes), tmp_path / "out"), tmp_path / "out"


def many(count=40, start=0):
    return [judged(f"please sort the crates of bay number {n}", day=start + n) for n in range(count)]


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_both_formats_give_the_same_examples(tmp_path, form):
    summary, out = run(tmp_path, many(), form)
    assert summary["provenance"]["rows_by_split"]["held_out"] == 10
    assert len(texts(out, "train") | texts(out, "dev")) == 30
    assert summary["provenance"]["days"][0] == "2030-01-01"
    example = data.traffic_examples(out / "train.jsonl")[0]
    assert (example.tier, example.level_weights, example.source) == (2, [1.0, 1.0, 1.0], "traffic")


def test_held_out_requests_are_later_and_share_no_session_and_no_text(tmp_path):
    old = many(30)
    later = [
        judged("a text that is new and of a new session", day=50, session="new"),
        judged("a text that is new but of an old session", day=51, session=old[0]["session"]),
        judged(old[1]["prompt"].upper() + "!", day=52, session="another"),
        *[judged(f"quite another thing to ask, number {n}", day=60 + n, session=f"later {n}") for n in range(7)],
    ]
    summary, out = run(tmp_path, old + later)
    held_out = texts(out, "held_out")
    assert "a text that is new and of a new session" in held_out
    assert len(held_out) == 8
    assert summary["counts"]["later requests of earlier sessions or texts"] == 2
    trained = texts(out, "train") | texts(out, "dev")
    assert not trained & held_out


def test_what_an_earlier_training_saw_is_not_held_out(tmp_path):
    folder = write(many(40), tmp_path / "export")
    until = START_MS + 35 * DAY
    summary = traffic.write(arguments(folder), tmp_path / "out", until)
    assert summary["provenance"]["trained_until_ms"] == until
    assert summary["provenance"]["rows_by_split"]["held_out"] == 4


def test_equal_texts_are_one_example_and_exports_may_overlap(tmp_path):
    once = row("open gate number five please", START_MS, session="a", served_tier="simple")
    heard = once | {"feedback": [feedback(**HUMAN)]}
    write([once], tmp_path / "first")
    write([heard, *many(20)], tmp_path / "second")
    twice = row("Open gate, number FIVE, please", START_MS + DAY, session="b", served_tier="reasoning")
    write([twice], tmp_path / "third")
    folders = [tmp_path / name for name in ("second", "first", "third")]
    summary = traffic.write(arguments(*folders), tmp_path / "out")
    assert summary["counts"]["exported twice"] == 1
    lines = [json.loads(line) for part in ("train", "dev") for line in (tmp_path / "out" / f"{part}.jsonl").open()]
    mine = [line for line in lines if "gate" in line["messages"][0]["content"]]
    assert [(line["requests"], line["tier"]) for line in mine] == [(2, 2)]


def test_texts_that_measure_are_left_out_and_placeholders_stay(tmp_path):
    measured = data.corpus_examples()["test"][0].messages
    never = tmp_path / "never.jsonl"
    never.write_text(json.dumps({"prompt": "the secret exam question about seven bridges"}) + "\n")
    rows = [
        judged("x") | {"messages": measured},
        judged("y") | {"messages": [{"role": "user", "content": "The secret exam question: about seven bridges?"}]},
        judged("mail [EMAIL] about the invoice of [NAME]"),
        *many(20, start=1),
    ]
    summary, out = run(tmp_path, rows, never=[never])
    assert summary["counts"]["texts that measure"] == 2
    assert "mail [EMAIL] about the invoice of [NAME]" in texts(out, "train") | texts(out, "dev")


def test_rows_without_text_or_evidence_are_counted(tmp_path):
    silent = [row("x", text_policy="hash", messages=[]), row("nothing is known of this one", status="failed")]
    summary, _ = run(tmp_path, silent + many(20))
    assert summary["counts"]["without text"] == 1
    assert summary["counts"]["nothing known"] == 1


def test_manifest_says_what_was_learned_from_and_names_nobody(tmp_path):
    tries = [attempt("simple", "weak", "refusal"), attempt("moderate", "answered")]
    rescued = row("one more request to learn from", attempts=tries, served_tier="moderate", tenant="acme-secret")
    summary, _ = run(tmp_path, [rescued, *many(20)])
    known = summary["provenance"]
    assert known["kinds"] == {"human": 20, "rescued": 1, "weak": 1}
    assert (known["requests"], known["contradictions"]) == (21, 0)
    text = json.dumps(summary)
    assert "acme-secret" not in text
    assert "crates" not in text


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_labels_of_people_are_read_back(tmp_path, suffix):
    rows = many(20)
    text = rows[0]["prompt"]
    key = leaks.text_hash([text])
    path = tmp_path / f"labels.{suffix}"
    if suffix == "csv":
        path.write_text(f"text_hash,text,right_tier,right_intent\n{key},{text},simple,command\nother,y,,\n")
    else:
        first = {"text_hash": key, "right_tier": "reasoning", "right_intent": ""}
        skipped = {"text_hash": "other", "skipped": True}
        lines = [first, skipped, {"text_hash": key, "undone": True}]
        lines.append({"text_hash": key, "right_tier": "simple", "right_intent": "command"})
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary, out = run(tmp_path, rows, labels=[path])
    assert summary["counts"]["labels by people"] == 1
    assert summary["counts"]["labels without their request"] == 0
    lines = [json.loads(line) for part in ("train", "dev") for line in (out / f"{part}.jsonl").open()]
    # The reviewer had said complex.
    mine = next(line for line in lines if line["text_hash"] == key)
    assert (mine["tier"], mine["intent"], mine["contradictions"]) == (0, 1, 1)


def stops(tmp_path, expected, *folders, **changes):
    with pytest.raises(SystemExit, match=expected):
        traffic.write(arguments(*folders, **changes), tmp_path / "out")


def test_empty_and_partial_exports_say_what_to_do(tmp_path):
    stops(tmp_path, "no such export; `pointsman traffic export", tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "_pointsman_schema.parquet").write_bytes(b"")
    stops(tmp_path, "holds no .*parquet or .*jsonl: the export was empty", tmp_path / "empty")
    cut = write(many(3), tmp_path / "cut")
    file = next(cut.rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-20])
    stops(tmp_path, "part-0.parquet: not a whole Parquet file", cut)
    lines = write(many(3), tmp_path / "lines", "jsonl")
    next(lines.rglob("*.jsonl")).write_text('{"decision_id": 1}\n')
    stops(tmp_path, "part-0.jsonl:1: lacks at, tier", lines)
    next(lines.rglob("*.jsonl")).write_text('{"decision_id": \n')
    stops(tmp_path, "part-0.jsonl:1: not JSON", lines)
    silent = write([row("x", messages=[])], tmp_path / "silent")
    stops(tmp_path, "nothing to learn from in 1 files: 1 requests read, 1 without text", silent)


def test_wrong_labels_and_levels_are_named(tmp_path):
    folder = write(many(3), tmp_path / "export")
    labels = tmp_path / "labels.csv"
    labels.write_text("text_hash,right_tier,right_intent\nabc,tiny,\n")
    stops(tmp_path, "labels.csv: row 2: right_tier 'tiny' is not one of simple", folder, labels=[labels])
    labels.write_text("text,right_tier\nabc,simple\n")
    stops(tmp_path, "labels.csv: row 2: lacks text_hash", folder, labels=[labels])
    stops(tmp_path, "--level best=huge: write TIER=LEVEL", folder, level=["best=huge"])


def test_times_of_both_formats_are_milliseconds():
    expected = START_MS + 5
    assert exports.milliseconds(expected) == expected
    assert exports.milliseconds("2030-01-01T00:00:00.005Z") == expected
    assert exports.milliseconds("2030-01-01T01:00:00.005+01:00") == expected
