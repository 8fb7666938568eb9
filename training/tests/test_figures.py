import json

import numpy as np
import pytest

import calibrate
import evaluate
import settings
from languages import ROWS_MIN, languages_read


def test_logistic_fit_reaches_the_minimum_where_plain_newton_diverges():
    rng = np.random.default_rng(3)
    for _ in range(200):
        x = rng.normal(rng.uniform(-2, 2), rng.uniform(1, 5), 495)
        y = (rng.random(495) < calibrate.sigmoid(rng.uniform(0.25, 1.5) * x + rng.uniform(-1, 1))).astype(float)
        scale, bias = calibrate.fit_logistic(x, y)
        p = calibrate.sigmoid(scale * x + bias)
        assert abs(((p - y) * x).sum() + calibrate.RIDGE * (scale - 1)) < 1e-3
        assert abs((p - y).sum() + calibrate.RIDGE * bias) < 1e-3


def test_a_language_is_read_when_it_is_hardly_worse_than_english():
    languages = ["en"] * 100 + ["de"] * ROWS_MIN + ["ja"] * ROWS_MIN + ["it"] * 12 + ["nl"] * 12 + ["ko"] * 5
    right = [1] * 80 + [0] * 20 + [1] * 15 + [0] * 5 + [1] * 8 + [0] * 12 + [1] * 20 + [0] * 4 + [1] * 5
    result = languages_read(languages, np.ones(len(right)), np.array(right))
    # German is within the limit, Japanese is not, Italian and Dutch pass together, Korean has too few rows.
    assert result["read"] == ["de", "en", "it", "nl"]
    assert result["few_together"]["latin"]["rows"] == 24


def test_without_rows_no_language_is_read():
    assert languages_read([], np.array([]), np.array([])) == {"read": []}


def test_reliability_and_intervals_are_finite_json():
    rng = np.random.default_rng(1)
    intents, tiers = rng.integers(0, 3, 40), rng.integers(0, 4, 40)
    batches = ["a", "b"] * 20
    figures = evaluate.intervals(intents, intents, tiers, tiers, batches)
    assert figures["tier_accuracy_interval"] == [1.0, 1.0]
    intent = np.eye(3)[intents]
    sufficiency = np.concatenate([(tiers[:, None] <= np.arange(3)), np.ones((40, 1))], axis=1).astype(float)
    json.dumps(evaluate.reliability(intent, intents, sufficiency, tiers), allow_nan=False)


def test_only_settings_that_are_read_from_the_record_can_be_set():
    record = {"epochs": 3, "mix": {"corpus": {"times": 3}}, "augment": {"typo_p": 0.4}}
    settings.apply(record, "mix.corpus.times=2")
    assert record["mix"]["corpus"]["times"] == 2
    for wrong in ("augment.typo_p=0", "epoch=1", "mix.corpus.rows=1", "epochs=one"):
        with pytest.raises(SystemExit, match="--set"):
            settings.apply(record, wrong)


def test_limits_stay_while_the_rows_do_not_speak_against_them():
    rng = np.random.default_rng(5)
    scores = rng.uniform(0, 0.5, 500)

    def check(risk, expected):
        wrong = rng.random(500) < np.where(scores < 0.05, 0.5, risk)
        return calibrate.limit(scores, wrong, 0.12, 0.05)[0] == expected

    assert check(0.10, 0.05)
    assert check(0.12, 0.05)
    assert not check(0.25, 0.05)
    assert calibrate.limit(scores, scores < 0.0, 0.12, None)[0] == 0.0
    assert calibrate.limit(scores, scores < 0.0, 0.12, 0.9)[0] == 0.0
