"""Turns logits into probabilities that can be believed, and picks the limits of low confidence.

    python calibrate.py --bundle ../onnx/0.2.0             how well a bundle is calibrated on the corpus test split

export.py fits the calibration of a new bundle with these functions, on the corpus calibration split, which neither
training nor early stopping reads.
"""

import argparse
from pathlib import Path

import numpy as np

# Pulls scale and bias towards 1 and 0: the bias as much as some sixteen rows would, as the calibration split is small.
RIDGE = 4.0
# A calibration must not turn the order of prompts round.
SCALE_MIN = 0.05
NEWTON_STEPS_MAX = 100
GRADIENT_MAX = 1e-7
# The limits are the lowest ones at which the rows kept as confident hold these risks; each flags at most this share.
# A level that is only just enough is too low in four of ten cases; an unsure intent tells little of that, so its aim is
# set to flag few.
INTENT_ERROR_MAX = 0.22
LEVEL_TOO_LOW_MAX = 0.12
FLAGGED_SHARE_MAX = 0.10
# Limits of an earlier bundle are kept unless the risk is above its aim by so many standard errors: on a few hundred
# rows one more wrong row would otherwise move a limit from one end of its range to the other, and the bill with it.
RISK_ERRORS_MAX = 1.645
# A level is enough when its sufficiency reaches this: the router's neutral setting.
ENOUGH = 0.5


def main() -> None:
    from corpus import SPLITS
    from data import corpus_examples
    from score import open_bundle

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="directory with manifest.json and model.onnx")
    parser.add_argument("--split", default="test", choices=SPLITS, help="split of the corpus")
    arguments = parser.parse_args()
    scorer, manifest = open_bundle(arguments.bundle)
    examples = corpus_examples()[arguments.split]
    intent_logits, sufficiency_logits = scorer.scores([example.messages for example in examples])
    intent = intent_probabilities(intent_logits, manifest["calibration"])
    sufficiency = sufficiencies(sufficiency_logits, manifest["calibration"])
    labels = np.array([example.intent for example in examples])
    tiers = np.array([example.tier for example in examples])
    print(f"intent: expected calibration error {calibration_error(intent.max(1), intent.argmax(1) == labels):.3f}")
    for level, name in enumerate(manifest["labels"]["levels"][:-1]):
        error = calibration_error(sufficiency[:, level], tiers <= level)
        print(f"{name}: mean {sufficiency[:, level].mean():.3f}, true {np.mean(tiers <= level):.3f}, error {error:.3f}")
    low = low_confidence(intent, sufficiency, manifest["thresholds"])
    print(f"low confidence: {low.mean():.3f} of the rows")


def fit(intent_logits, intents, sufficiency_logits, tiers) -> dict:
    """Returns the manifest's "calibration": a temperature, and scale and bias of each level."""
    levels = []
    for level in range(sufficiency_logits.shape[1]):
        scale, bias = fit_logistic(sufficiency_logits[:, level].astype(float), (tiers <= level).astype(float))
        levels.append({"scale": round(scale, 4), "bias": round(bias, 4)})
    return {"intent_temperature": round(fit_temperature(intent_logits, intents), 4), "sufficiency": levels}


def uncalibrated(levels: int) -> dict:
    """Returns the calibration that changes nothing, for reliability before and after."""
    return {"intent_temperature": 1.0, "sufficiency": [{"scale": 1.0, "bias": 0.0}] * levels}


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature with the least negative log likelihood, from a fine geometric grid."""
    if len(labels) == 0:
        return 1.0
    grid = np.geomspace(0.25, 4.0, 400)
    rows = np.arange(len(labels))
    losses = [-np.log(softmax(logits / value)[rows, labels] + 1e-12).mean() for value in grid]
    return float(grid[int(np.argmin(losses))])


def fit_logistic(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns scale and bias of sigmoid(scale * x + bias), by Newton's method with backtracking and a ridge towards
    1 and 0 (Platt 1999; the backtracking of Lin, Lin and Weng 2007)."""
    theta, centre = np.array([1.0, 0.0]), np.array([1.0, 0.0])
    design = np.stack([x, np.ones_like(x)], axis=1)

    def loss(at):
        z = design @ at
        return (np.logaddexp(0.0, z) - y * z).sum() + RIDGE / 2 * ((at - centre) ** 2).sum()

    for _ in range(NEWTON_STEPS_MAX):
        p = sigmoid(design @ theta)
        gradient = design.T @ (p - y) + RIDGE * (theta - centre)
        if np.abs(gradient).max() < GRADIENT_MAX * max(1, len(x)):
            return float(max(theta[0], SCALE_MIN)), float(theta[1])
        hessian = (design * (p * (1 - p))[:, None]).T @ design + RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while loss(theta - step) > loss(theta) and np.abs(step).max() > 1e-12:
            step = step / 2
        theta = theta - step
    raise ValueError(f"calibration did not converge on {len(x)} rows: scale {theta[0]}, bias {theta[1]}")


def intent_probabilities(logits: np.ndarray, calibration: dict) -> np.ndarray:
    return softmax(logits.astype(float) / calibration["intent_temperature"])


def sufficiencies(logits: np.ndarray, calibration: dict) -> np.ndarray:
    """Returns [n, 4]: the calibrated probability that each level is enough. It never falls; the last is 1."""
    scale = np.array([level["scale"] for level in calibration["sufficiency"]])
    bias = np.array([level["bias"] for level in calibration["sufficiency"]])
    rising = np.maximum.accumulate(sigmoid(logits.astype(float) * scale + bias), axis=1)
    return np.concatenate([rising, np.ones((len(rising), 1))], axis=1)


def tier_of(sufficiency: np.ndarray) -> np.ndarray:
    """Returns the weakest level that is enough."""
    return (sufficiency >= ENOUGH).argmax(1)


def level_margins(sufficiency: np.ndarray) -> np.ndarray:
    """Returns by how much the sufficiency of the weakest level that is enough exceeds what is enough, 0 to 0.5."""
    return sufficiency[np.arange(len(sufficiency)), tier_of(sufficiency)] - ENOUGH


def low_confidence(intent: np.ndarray, sufficiency: np.ndarray, thresholds: dict) -> np.ndarray:
    unsure_intent = intent.max(1) < thresholds["intent_confidence_min"]
    return unsure_intent | (level_margins(sufficiency) < thresholds["level_margin_min"])


def fit_thresholds(intent, intents, sufficiency, tiers, before: dict | None = None) -> tuple[dict, str]:
    """Returns the manifest's "thresholds" and a sentence that says what they hold; `before` are those of the bundle
    that this one is to replace, which are kept where they still do."""
    if len(intents) == 0:
        return {"intent_confidence_min": 0.0, "level_margin_min": 0.0}, "not fitted: no calibration rows"
    before = before or {}
    wrong_intent = intent.argmax(1) != intents
    too_low = tier_of(sufficiency) < tiers
    confidence, intent_text = limit(intent.max(1), wrong_intent, INTENT_ERROR_MAX, before.get("intent_confidence_min"))
    margin, level_text = limit(level_margins(sufficiency), too_low, LEVEL_TOO_LOW_MAX, before.get("level_margin_min"))
    note = (
        f"fitted on {len(intents)} corpus calibration rows. Intent: of the rows at or above the limit {intent_text}. "
        f"Level: of the rows at or above the limit {level_text} (the weakest level that is enough is below the true "
        "one)."
    )
    return {"intent_confidence_min": round(confidence, 4), "level_margin_min": round(margin, 4)}, note


def limit(scores: np.ndarray, wrong: np.ndarray, risk_max: float, before: float | None) -> tuple[float, str]:
    """Returns the limit of before where it still keeps the risk, within what the rows can tell, or a new one."""
    if before is not None and (scores >= before).any():
        kept = scores >= before
        risk = wrong[kept].mean()
        if risk <= risk_max + RISK_ERRORS_MAX * np.sqrt(risk_max * (1 - risk_max) / kept.sum()):
            text = f"{risk:.3f} are wrong, close to the aim of {risk_max} with the limit of the bundle before"
            return before, f"{text}; {1 - kept.mean():.3f} of all rows are below it"
    return risk_limit(scores, wrong, risk_max)


def risk_limit(scores: np.ndarray, wrong: np.ndarray, risk_max: float) -> tuple[float, str]:
    """Returns the lowest limit that keeps the risk, never flagging more than FLAGGED_SHARE_MAX."""
    limits = [0.0, *np.quantile(scores, np.linspace(0.01, FLAGGED_SHARE_MAX, 25))]
    for limit in limits:
        kept = scores >= limit
        risk = wrong[kept].mean()
        if risk <= risk_max:
            break
    held = "meets" if risk <= risk_max else f"misses, at the largest share that may be flagged ({FLAGGED_SHARE_MAX}),"
    text = f"{risk:.3f} are wrong, which {held} the aim of {risk_max}; {1 - kept.mean():.3f} of all rows are below it"
    return float(limit), text


def calibration_error(probability: np.ndarray, outcome: np.ndarray, bins: int = 10) -> float:
    """Returns the mean gap between probability and frequency over equally filled bins."""
    parts = np.array_split(np.argsort(probability, kind="stable"), bins)
    gaps = [len(part) * abs(probability[part].mean() - outcome[part].mean()) for part in parts if len(part)]
    return float(sum(gaps) / len(probability))


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -500.0, 500.0)))


if __name__ == "__main__":
    main()
