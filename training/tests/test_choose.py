import argparse
import csv
import json

import numpy as np
import pytest
from make_exports import START_MS, feedback, row, write

import choose
import leaks
import traffic
from evidence import Vote

DAY = 86_400_000


def test_uncertain_is_near_the_limit_of_enough_or_between_intents():
    sure, even = np.full((1, 15), 0.001), np.full((1, 15), 1 / 15)
    sure[0, 3] = 0.986
    near, far = np.array([[0.1, 0.49, 0.99, 1.0]]), np.array([[0.01, 0.99, 0.99, 1.0]])
    scores = [choose.uncertain(intent, s)[0] for intent, s in ((sure, near), (even, far), (sure, far))]
    assert scores[0] == pytest.approx(0.98)
    assert scores[1] == pytest.approx(0.5, abs=0.01)
    assert scores[2] < 0.1


def test_disagreeing_is_against_feedback_outcomes_or_another_bundle():
    says_simple = np.array([[0.9, 0.95, 0.99, 1.0]] * 3)
    rows = [
        {"votes": [Vote("user", short=1)]},
        {"votes": [Vote("accepted", enough=0)]},
        {"votes": []},
    ]
    scores = choose.disagreeing(says_simple, rows, None)
    assert scores[0] == pytest.approx(0.5 * 0.9, abs=0.01)
    assert scores.tolist()[1:] == [0.0, 0.0]
    other = np.array([[0.9, 0.95, 0.99, 1.0], [0.2, 0.3, 0.99, 1.0], [0.8, 0.95, 0.99, 1.0]])
    assert choose.disagreeing(says_simple, rows, other)[1:] == pytest.approx([0.7, 0.0])


def directions(*counts, seed=1):
    """Returns unit vectors around so many axes."""
    rng = np.random.default_rng(seed)
    points = np.concatenate([np.eye(8)[axis] + 0.1 * rng.normal(size=(n, 8)) for axis, n in enumerate(counts)])
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_drifting_is_a_kind_that_has_grown_or_that_training_never_saw():
    points = directions(100, 100, 60)
    # The first two kinds are as frequent as ever, the third is of the last days alone.
    at = [START_MS + (n % 30) * DAY for n in range(200)] + [START_MS + 29 * DAY] * 60
    scores = choose.drifting(points, at, None, 1)
    assert scores[200:].min() > 1.0 > scores[:200].max()
    background = directions(20, 20)
    far = choose.drifting(points, [START_MS] * 260, background, 1)
    assert far[200:].min() > far[:200].max()


def test_diverse_points_are_far_apart():
    points = directions(500, 5, 5, 5)
    kinds = {int(points[place].argmax()) for place in choose.far_apart(points, 4, 1)}
    assert kinds == {0, 1, 2, 3}
    rest = choose.far_apart(points, 3, 1, points[:1])
    assert {int(points[place].argmax()) for place in rest} == {1, 2, 3}
    assert len(choose.far_apart(points[:2], 5, 1)) == 2


def test_every_reason_gets_its_share_and_no_request_comes_twice():
    points = directions(100, 100)
    rng = np.random.default_rng(1)
    reasons = {name: rng.random(200) for name in ("uncertain", "disagreeing", "drifting")}
    reasons["disagreeing"][5:] = 0.0
    chosen = choose.choose(reasons, points, 40, 1)
    assert len({place for place, _ in chosen}) == len(chosen) == 40
    counts = {name: sum(why == name for _, why in chosen) for name in choose.SHARES}
    assert counts == {"disagreeing": 5, "uncertain": 8, "drifting": 6, "random": 12, "diverse": 9}
    few = choose.choose({name: scores[:10] for name, scores in reasons.items()}, points[:10], 40, 1)
    assert sorted(place for place, _ in few) == list(range(10))


def test_the_random_part_is_an_even_draw_of_all_requests():
    points = directions(100, 100)
    reasons = {"uncertain": np.arange(200.0), "disagreeing": np.zeros(200), "drifting": np.zeros(200)}
    drawn = [place for seed in range(200) for place, why in choose.choose(reasons, points, 40, seed) if why == "random"]
    # Those that the other reasons would have taken are drawn as often as all others.
    assert sum(place >= 190 for place in drawn) / len(drawn) == pytest.approx(0.05, abs=0.02)


def test_requests_that_a_person_judged_are_not_asked_again(tmp_path):
    told = row("already judged by a reviewer", feedback=[feedback(source="human", right_tier="simple")])
    labelled = row("already labelled by a person")
    rows = [told, labelled, row("still open"), row("Still open!", START_MS + 1), row("hidden", messages=[])]
    folder = write(rows, tmp_path / "export")
    found = choose.read(choose.exports.files_of([folder]), {}, {leaks.text_hash(["already labelled by a person"])}, 1)
    assert [one["messages"][0]["content"] for one in found] == ["still open"]
    assert len(found[0]["votes"]) == 2


def test_the_draw_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(choose, "SCORED_MAX", 10)
    folder = write([row(f"request number {n}", START_MS + n) for n in range(50)], tmp_path / "export")
    found = choose.read(choose.exports.files_of([folder]), {}, set(), 1)
    assert len({one["text_hash"] for one in found}) == len(found) == 10


def entry(text, n):
    return {
        "text_hash": leaks.text_hash([text]), "decision_id": f"d{n}", "day": "2030-01-01", "language": "",
        "messages": [{"role": "user", "content": text}], "reasons": ["random"], "scores": {},
        "predicted_tier": "simple", "predicted_intent": "code", "sufficiency": [],
    }  # fmt: skip


def test_a_queue_survives_a_spreadsheet(tmp_path):
    texts = ["=1+1", 'with "quotes", commas\nand lines', "größer"]
    choose.write(tmp_path, [entry(text, n) for n, text in enumerate(texts)])
    with (tmp_path / "queue.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [one["text"] for one in rows] == ["'=1+1", *texts[1:]]
    for one in rows:
        one["right_tier"] = "complex"
    with (tmp_path / "queue.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    assert {vote.enough for vote in traffic.read_labels([tmp_path / "queue.csv"]).values()} == {2}


def test_the_queue_names_no_person(tmp_path):
    rows = [row(f"request number {n}", START_MS + n * DAY, tenant="acme", session=f"secret-{n}") for n in range(30)]
    folder = write(rows, tmp_path / "export")
    found = choose.read(choose.exports.files_of([folder]), {}, set(), 1)
    scored = {"intent": np.full((30, 15), 1 / 15), "sufficiency": np.tile([0.2, 0.6, 0.9, 1.0], (30, 1))}
    lines = json.dumps([choose.entry(found, scored, {}, place, "random") for place in range(30)])
    assert "acme" not in lines
    assert "secret" not in lines
    assert '"predicted_tier": "moderate"' in lines


def test_arguments_are_those_of_traffic():
    parser = argparse.ArgumentParser()
    traffic.add_source_arguments(parser)
    assert vars(parser.parse_args(["x"])).keys() == {"exports", "labels", "level"}
