import numpy as np
import torch

import calibrate
import golden
from data import row_sufficiency, smoothed
from model import SufficiencyHead


def test_sufficiency_logits_never_fall():
    torch.manual_seed(1)
    head = SufficiencyHead(8, 16, 3, 0.0)
    logits = head(10 * torch.randn(200, 8))
    assert logits.shape == (200, 3)
    assert torch.all(logits[:, 1:] >= logits[:, :-1])


def test_calibrated_sufficiency_never_falls_and_ends_at_one():
    calibration = {"sufficiency": [{"scale": 1.5, "bias": 0.5}, {"scale": 0.4, "bias": -1}, {"scale": 1, "bias": 0}]}
    logits = np.random.default_rng(1).normal(size=(100, 3))
    result = calibrate.sufficiencies(logits, calibration)
    assert np.all(np.diff(result, axis=1) >= 0)
    assert np.all(result[:, 3] == 1)
    margins = calibrate.level_margins(result)
    assert np.all((margins >= 0) & (margins <= 0.5))
    assert np.all(margins[calibrate.tier_of(result) == 3] == 0.5)


def test_temperature_undoes_overconfidence():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(4000, 5))
    labels = np.array([rng.choice(5, p=row) for row in calibrate.softmax(logits)])
    assert abs(calibrate.fit_temperature(3 * logits, labels) - 3) < 0.3


def test_outcomes_become_rising_targets_and_tiers_become_smoothed_ones():
    assert row_sufficiency({"p_small": "0.4", "p_mid": "0.2", "p_strong": "0.9"}) == [0.4, 0.4, 0.9]
    assert row_sufficiency({"prompt": "x"}) is None
    assert smoothed(2, 0.1) == [0.1, 0.1, 0.9]
    assert smoothed(3, 0.1) == [0.1, 0.1, 0.1]


def test_golden_prompts_cover_what_breaks_encoders():
    prompts = dict(golden.prompts())
    assert len(prompts) >= 24
    assert len(prompts["pasted_long"][0]["content"]) > 9000
    assert prompts["empty"][0]["content"] == ""
