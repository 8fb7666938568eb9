import argparse
import gzip
import json

import pytest
from make_exports import START_MS, attempt, feedback, row, write

import data
import evidence
import exports
import leaks
import tenants
import traffic

DAY = 86_400_000
HUMAN = {"source": "human", "right_tier": "complex"}


def arguments(*folders, **changes):
    values = {"labels": [], "level": [], "never": [], "held_out_share": 0.25, "tenant_share": tenants.SHARE_MAX}
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


def test_a_dated_system_message_makes_no_new_text(tmp_path):
    def dated(day, text, session):
        asked = judged(text, day=day, session=session)
        return asked | {"messages": [{"role": "system", "content": f"Today is day {day}"}, *asked["messages"]]}

    long, short = "which crane moves the timber of bay five", "and now?"
    old = [dated(0, long, "a"), dated(1, short, "b"), *many(30, start=2)]
    new = [dated(50, long, "c"), dated(51, short, "d")]
    new += [judged(f"a later thing to do, number {n}", day=60 + n) for n in range(9)]
    summary, out = run(tmp_path, old + new)
    assert not {long, short} & texts(out, "held_out")
    assert summary["counts"]["later requests of earlier sessions or texts"] == 2
    assert len(texts(out, "held_out")) == 9


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


def labelled(tmp_path, rows, *labels):
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(label) + "\n" for label in labels))
    summary, out = run(tmp_path, rows, labels=[path])
    lines = [json.loads(line) for part in ("train", "dev", "held_out") for line in (out / f"{part}.jsonl").open()]
    return summary["counts"], {line["messages"][-1]["content"]: line for line in lines}


def label(text, **changes):
    return {"text_hash": leaks.text_hash([text]), "right_tier": "reasoning", "right_intent": ""} | changes


def test_requests_chosen_for_what_a_bundle_says_teach_and_do_not_measure(tmp_path):
    old = many(30)
    asked = [f"unload wagon {word} before the evening" for word in ("one", "two", "three", "four")]
    rows = [*old, *(row(text, START_MS + (50 + n) * DAY, session=text) for n, text in enumerate(asked))]
    rows += [judged(f"a later thing to do, number {n}", day=60 + n) for n in range(8)]
    given = [
        label(old[0]["prompt"], reasons=["uncertain"]),
        label(asked[0], reasons=["random"]),
        label(asked[1], reasons=["disagreeing"]),
        label(asked[2]),
    ]
    counts, found = labelled(tmp_path, rows, *given)
    only_teaching = "of these only teaching: chosen for what a bundle says, or no reason noted"
    assert (counts["labels by people"], counts[only_teaching]) == (4, 3)
    assert counts["labels held out and not used"] == 2
    # The earlier one teaches.
    assert (found[old[0]["prompt"]]["tier"], "label" in found[old[0]["prompt"]]["kinds"]) == (3, True)
    assert (found[asked[0]]["tier"], found[asked[0]]["by_people"]) == (3, True)
    for text in asked[1:]:
        assert (found[text]["kinds"], found[text]["by_people"]) == (["accepted"], False)


def test_labels_that_wait_are_counted_and_teach_once_the_split_has_passed_them(tmp_path):
    old = many(30)
    new, followed = "unload wagon seven before the evening", "and then unload wagon eight as well"
    rows = [*old, row(new, START_MS + 50 * DAY, session="new")]
    rows.append(row(followed, START_MS + 51 * DAY, session=old[0]["session"]))
    rows += [judged(f"a later thing to do, number {n}", day=60 + n) for n in range(9)]
    given = [label(new, reasons=["drifting"]), label(followed, reasons=["random"])]
    counts, _ = labelled(tmp_path, rows, *given)
    assert counts["labels held out and not used"] == 2
    rows += [judged(f"of the week after, number {n}", day=80 + n) for n in range(40)]
    counts, found = labelled(tmp_path, rows, *given)
    assert counts["labels held out and not used"] == 0
    assert (found[new]["tier"], found[followed]["tier"]) == (3, 3)


def test_reasons_are_read_from_spreadsheets_too(tmp_path):
    path = tmp_path / "queue.csv"
    path.write_text("text_hash,reasons,right_tier,right_intent\na,random,simple,\nb,uncertain,simple,\nc,,simple,\n")
    assert [vote.measures for vote in traffic.read_labels([path]).values()] == [True, False, False]


def test_a_label_belongs_to_the_earliest_request_in_whatever_order_files_are_read(tmp_path):
    text = "weigh the coal of wagon nine again"
    early, late = row(text, START_MS, session="early"), row(text, START_MS + 90 * DAY, session="late")
    requests, _ = traffic.read(
        [next(write([one], tmp_path / name).rglob("*.parquet")) for name, one in (("a", late), ("b", early))],
        {}, set(), set(),
    )  # fmt: skip
    assert traffic.attach(requests, {leaks.text_hash([text]): evidence.Vote("label", enough=0)}) == 1
    assert [len(request.votes) for request in sorted(requests, key=lambda request: request.at)] == [2, 1]


def test_of_answered_requests_an_even_draw_is_kept_and_all_feedback(tmp_path, monkeypatch):
    monkeypatch.setattr(traffic, "ACCEPTED_MAX", 10)
    monkeypatch.setattr(traffic, "REQUESTS_MAX", 20)
    answered = [row(f"answered and done, number {n}", START_MS + n) for n in range(50)]
    heard = [one | {"feedback": [feedback(**HUMAN)]} for one in answered[:15]]
    first, again = write(answered, tmp_path / "first"), write(heard, tmp_path / "again")
    orders = []
    for folders in ([first, again], [again, first, first]):
        requests, counts = traffic.read(traffic.exports.files_of(folders), {}, set(), set())
        told = [request for request in requests if any(vote.kind == "human" for vote in request.votes)]
        assert len(told) == 15
        orders.append({request.text for request in requests})
        assert counts["rows of answered requests beyond an even draw"] > 0
    assert orders[0] == orders[1]
    # Those that had been drawn and were heard of again leave the draw short of so many.
    least = sorted(answered, key=lambda one: int(traffic.digest(one["decision_id"]), 16))[:10]
    assert len(orders[1]) == 15 + sum(one not in answered[:15] for one in least)
    monkeypatch.setattr(traffic, "REQUESTS_MAX", 10)
    with pytest.raises(SystemExit, match="more than 10 requests to learn from"):
        traffic.read(traffic.exports.files_of([again]), {}, set(), set())


def test_one_tenant_does_not_decide_what_all_learn(tmp_path, monkeypatch):
    monkeypatch.setattr(tenants, "TRAINED_FREE", 5.0)

    def of(tenant, count):
        asked = [f"move the {tenant} crate number {n} to the yard" for n in range(count)]
        return [judged(text, day=n, tenant=tenant) for n, text in enumerate(asked)]

    def trained(rows, **changes):
        _, out = run(tmp_path, rows, **changes)
        found = texts(out, "train") | texts(out, "dev")
        return {name: sum(name in text for text in found) for name in ("loud", "quiet", "third")}

    rows = of("loud", 80) + of("quiet", 8) + of("third", 8)
    assert trained(rows) == {"loud": 8, "quiet": 8, "third": 8}
    assert trained(rows, tenant_share=1.0) == {"loud": 56, "quiet": 8, "third": 8}
    # Alone it is cut of nothing, and a second one with little to say takes not all of it.
    assert trained(of("loud", 80))["loud"] == 60
    assert trained(of("loud", 80) + of("quiet", 2)) == {"loud": 5, "quiet": 2, "third": 0}


def test_an_export_that_heard_less_does_not_take_back_what_a_later_one_heard(tmp_path):
    early = row("weigh the coal of wagon nine again", served_tier="moderate")
    folders = [write([early], tmp_path / "early"), write([early | {"signals": ["retried"]}], tmp_path / "late")]
    for order in (folders, folders[::-1]):
        requests, _ = traffic.read(traffic.exports.files_of(order), {}, set(), set())
        assert [[vote.kind for vote in request.votes] for request in requests] == [["again"]]


def test_a_tenant_answers_for_what_it_says_of_texts_that_another_sent_first(tmp_path, monkeypatch):
    monkeypatch.setattr(tenants, "TRAINED_FREE", 5.0)

    def thumbs(text, day, tenant, source, right_tier, count):
        at = START_MS + day * DAY
        said = [feedback(at, source=source, right_tier=right_tier, feedback_id=f"f{n}") for n in range(count)]
        return row(text, at, feedback=said, session=f"{tenant} {text}", tenant=tenant)

    shared = [f"what every yard asks once, number {n}" for n in range(20)]
    rows = [thumbs(text, 0, "quiet", "user", "simple", 1) for text in shared]
    rows += [thumbs(text, 1, "loud", "user", "reasoning", 9) for text in shared]
    rows += [thumbs(f"of another yard, number {n}", 60 + n, "loud", "user", "simple", 1) for n in range(14)]
    summary, out = run(tmp_path, rows)
    lines = [json.loads(line) for part in ("train", "dev") for line in (out / f"{part}.jsonl").open()]
    # The loud one decides as many as weigh what the quiet one says in all; of the others the quiet word stands alone.
    assert len(lines) == 20
    tiers = [line["tier"] for line in lines]
    assert tiers.count(3) == 10
    assert tiers.count(0) == 10
    assert summary["counts"]["texts beyond a tenant's share"] >= 10
    # In the gate a text counts against the tenant that says most of it.
    requests, _ = traffic.read(traffic.exports.files_of([tmp_path / "export"]), {}, set(), set())
    numbers = {traffic.digest("quiet"): 0, traffic.digest("loud"): 1}
    found = traffic.merge([request for request in requests if request.at < START_MS + 2 * DAY], numbers)
    assert {example["tenant"] for example in found} == {1}


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
    for name, content, expected in (
        ("cut", lambda whole: gzip.compress(whole)[:-30], "breaks off or cannot be read"),
        ("plain", lambda whole: whole, "Not a gzipped file"),
        ("latin", lambda whole: gzip.compress(whole.replace(b"sort", b"s\xf6rt")), "not UTF-8: invalid start byte"),
    ):
        folder = tmp_path / f"packed {name}"
        folder.mkdir()
        whole = next(write(many(1), tmp_path / "whole", "jsonl").rglob("*.jsonl")).read_bytes()
        (folder / "part-0.jsonl.gz").write_bytes(content(whole))
        stops(tmp_path, f"part-0.jsonl.gz:1: .*{expected}.*export again", folder)
    silent = write([row("x", messages=[])], tmp_path / "silent")
    stops(tmp_path, "nothing to learn from in 1 files: 1 requests read, 1 without text", silent)


def test_wrong_labels_and_levels_are_named(tmp_path):
    folder = write(many(3), tmp_path / "export")
    labels = tmp_path / "labels.csv"
    labels.write_text("text_hash,right_tier,right_intent\nabc,tiny,\n")
    stops(tmp_path, "labels.csv: row 2: right_tier 'tiny' is not one of simple", folder, labels=[labels])
    labels.write_text("text,right_tier\nabc,simple\n")
    stops(tmp_path, "labels.csv: row 2: lacks text_hash", folder, labels=[labels])
    never = tmp_path / "never.jsonl"
    never.write_text('{"prompt": "one"}\n["two"]\n')
    stops(tmp_path, "never.jsonl:2: not an object; mend or remove it", folder, never=[never])
    never.write_text("{" * 3)
    stops(tmp_path, "never.jsonl:1: not JSON", folder, never=[never])
    labels.write_bytes("text_hash,right_tier\nabc,größe\n".encode("latin-1"))
    stops(tmp_path, "labels.csv: not UTF-8: .*save it from the spreadsheet as CSV UTF-8", folder, labels=[labels])
    stops(tmp_path, "--level best=huge: write TIER=LEVEL", folder, level=["best=huge"])


def test_separators_in_a_text_end_no_line(tmp_path):
    _, out = run(tmp_path, [judged("load \u2028 the \x85 paper", day=0), *many(20, start=1)])
    found = data.traffic_examples(out / "train.jsonl") + data.traffic_examples(out / "dev.jsonl")
    assert "load \u2028 the \x85 paper" in {example.messages[0]["content"] for example in found}


def test_times_of_both_formats_are_milliseconds():
    expected = START_MS + 5
    assert exports.milliseconds(expected) == expected
    assert exports.milliseconds("2030-01-01T00:00:00.005Z") == expected
    assert exports.milliseconds("2030-01-01T01:00:00.005+01:00") == expected
