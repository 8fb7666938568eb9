"""Compares a new bundle with the active one on the corpus test split and on held-out traffic, and says whether it may
take its place. Both score the same rows with the graphs that ship; differences are paired, and their intervals redraw
whole author batches or sessions, since the prompts of one are alike.

    python compare.py --active ../onnx/0.2.0 --candidate runs/new/0.3.0 --traffic runs/retrain/traffic
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np

from calibrate import calibration_error, tier_of
from data import Example, corpus_examples, last_text, traffic_examples
from evaluate import length_tiers, macro_f1, probabilities, share
from labels import LEVELS
from score import open_bundle

RESAMPLES = 2000
# How much worse the candidate may be, in shares of the rows; one point is ten of the corpus test prompts. On the
# traffic that it was trained for there is no excuse.
TOLERANCE = {
    "corpus_test": {"tier_accuracy": 0.01, "intent_accuracy": 0.01, "within_one": 0.01, "tier_too_low": 0.01},
    "traffic": {"tier_accuracy": 0.0, "levels_right": 0.0, "tier_too_low": 0.02},
}
LESS_IS_BETTER = frozenset({"tier_too_low", "tier.under_routing"})
# The same of what `pointsman eval` says of the corpus test split as served, where an unsure classifier costs a step up;
# None: shown and not judged.
SERVED = {
    "tier.accuracy": 0.01,
    "tier.within_one": 0.01,
    "tier.under_routing": 0.01,
    "intent.accuracy": 0.01,
    "difficulty.spearman": None,
    "coverage.low_confidence": None,
}
# Fewer held-out requests than this judge nothing.
HELD_OUT_MIN = 50
# Fewer requests with a known tier than this give no tier figures.
TIERS_MIN = 20
WORDS_MAX = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--active", type=Path, required=True, help="bundle that serves")
    parser.add_argument("--candidate", type=Path, required=True, help="bundle that may take its place")
    parser.add_argument("--traffic", type=Path, required=True, help="directory that traffic.py wrote")
    parser.add_argument("--tolerance", type=float, help="how much worse any figure may be, for all of them")
    arguments = parser.parse_args()
    found = compare(arguments.active, arguments.candidate, arguments.traffic)
    print(json.dumps(found, indent=1))
    for reason in refusals(found, arguments.tolerance):
        print(f"refused: {reason}")


def compare(active: Path, candidate: Path, traffic: Path) -> dict:
    parts = corpus_examples()
    rows = [json.loads(line) for line in (traffic / "held_out.jsonl").read_text(encoding="utf-8").splitlines()]
    held_out = traffic_examples(traffic / "held_out.jsonl")
    scored = {}
    for name, directory in (("active", active), ("candidate", candidate)):
        scorer, manifest = open_bundle(directory)
        scored[name] = {
            "version": manifest["version"],
            "corpus_test": probabilities(scorer, manifest, [e.messages for e in parts["test"]], f"{name}: corpus"),
            "traffic": probabilities(scorer, manifest, [e.messages for e in held_out], f"{name}: traffic"),
        }
    corpus_tiers = np.array([e.tier for e in parts["test"]])
    corpus_intents = np.array([e.intent for e in parts["test"]])
    known = known_tiers(rows, held_out)
    result = {
        "active": scored["active"]["version"],
        "candidate": scored["candidate"]["version"],
        "corpus_test": paired(
            {n: corpus_rows(*scored[n]["corpus_test"], corpus_intents, corpus_tiers) for n in ("active", "candidate")},
            [e.batch for e in parts["test"]],
        ),
        "traffic": paired(
            {n: traffic_rows(*scored[n]["traffic"], held_out, known) for n in ("active", "candidate")},
            [e.batch for e in held_out],
        ),
    }
    result["corpus_test"]["rows"], result["traffic"]["rows"] = len(parts["test"]), len(held_out)
    result["traffic"]["rows_with_tier"] = int(sum(known))
    if sum(known) >= TIERS_MIN:
        result["traffic"]["details"] = {
            name: details(scored[name]["traffic"][1], held_out, known) for name in ("active", "candidate")
        }
        training = traffic_examples(traffic / "train.jsonl")
        result["traffic"]["baselines"] = baselines(parts["train"], training, held_out, known)
    return result


def known_tiers(rows: list[dict], examples: list[Example]) -> np.ndarray:
    """Returns which rows have a tier that a person named."""
    return np.array([e.tier is not None and r["by_people"] for r, e in zip(rows, examples, strict=True)], dtype=bool)


def corpus_rows(intent, sufficiency, intents, tiers) -> dict:
    """Returns what each figure is of each row, and the row's weight in it."""
    one = np.ones(len(tiers))
    predicted = tier_of(sufficiency)
    return {
        "tier_accuracy": (predicted == tiers, one),
        "intent_accuracy": (intent.argmax(1) == intents, one),
        "within_one": (np.abs(predicted - tiers) <= 1, one),
        "tier_too_low": (predicted < tiers, one),
    }


def traffic_rows(intent, sufficiency, examples: list[Example], known) -> dict:
    """As corpus_rows, where every figure has weight only in rows that know it. "levels_right" is the share of the
    judged levels, by trust, of which the bundle says the same."""
    sufficiency = sufficiency.reshape(-1, len(LEVELS))
    tiers = np.array([-1 if e.tier is None else e.tier for e in examples], dtype=int)
    intents = np.array([-1 if e.intent is None else e.intent for e in examples], dtype=int)
    weights = np.array([e.level_weights for e in examples]).reshape(-1, len(LEVELS) - 1)
    said = (sufficiency[:, :-1] >= 0.5) == (np.array([e.sufficiency for e in examples]).reshape(weights.shape) >= 0.5)
    total = weights.sum(1)
    predicted = tier_of(sufficiency) if len(tiers) else tiers
    best = intent.reshape(len(tiers), -1).argmax(1) if len(tiers) else tiers
    return {
        "tier_accuracy": (predicted == tiers, known.astype(float)),
        "levels_right": ((said * weights).sum(1) / np.maximum(total, 1e-9), total),
        "within_one": (np.abs(predicted - tiers) <= 1, known.astype(float)),
        "tier_too_low": (predicted < tiers, known.astype(float)),
        "intent_accuracy": (best == intents, (intents >= 0).astype(float)),
    }


def paired(rows: dict, groups: list[str]) -> dict:
    """Returns figures of both bundles and the candidate's gain, each with a 95 % percentile bootstrap interval."""
    names, place = np.unique(np.array(groups, dtype=str), return_inverse=True)
    rng = np.random.default_rng(1)
    # Times that each group is drawn, in each resample.
    drawn = rng.multinomial(len(names), [1 / len(names)] * len(names), RESAMPLES) if len(names) else np.zeros((1, 0))
    result = {"active": {}, "candidate": {}, "gain": {}}
    for figure in rows["active"]:
        resampled = {}
        for name in ("active", "candidate"):
            values, weights = (np.asarray(column, float) for column in rows[name][figure])
            if weights.sum() == 0:
                break
            hits = np.bincount(place, values * weights, len(names))
            counts = np.bincount(place, weights, len(names))
            resampled[name] = (drawn @ hits) / np.maximum(drawn @ counts, 1e-9)
            result[name][figure] = figure_of(hits.sum() / counts.sum(), resampled[name])
        else:
            gain = result["candidate"][figure]["value"] - result["active"][figure]["value"]
            result["gain"][figure] = figure_of(gain, resampled["candidate"] - resampled["active"])
    return result


def figure_of(value: float, resampled: np.ndarray) -> dict:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return {"value": round(float(value), 4), "interval": [round(float(low), 4), round(float(high), 4)]}


def details(sufficiency, examples: list[Example], known) -> dict:
    """Returns the confusion of tiers (rows: true) and the reliability of each level, of rows with a known tier."""
    tiers = np.array([e.tier for e, k in zip(examples, known, strict=True) if k])
    mine = sufficiency[known]
    confusion = np.zeros((len(LEVELS), len(LEVELS)), int)
    np.add.at(confusion, (tiers, tier_of(mine)), 1)
    curves = []
    for level in range(len(LEVELS) - 1):
        parts = np.array_split(np.argsort(mine[:, level], kind="stable"), 8)
        curve = [[float(mine[p, level].mean()), float((tiers[p] <= level).mean())] for p in parts if len(p)]
        curves.append([[round(x, 4), round(y, 4)] for x, y in curve])
    errors = [round(calibration_error(mine[:, level], tiers <= level), 4) for level in range(len(LEVELS) - 1)]
    return {"confusion": confusion.tolist(), "reliability": curves, "sufficiency_error": errors}


def baselines(corpus: list[Example], training: list[Example], held_out: list[Example], known) -> dict:
    """Returns the tier accuracy, on the held-out rows with a tier, of what needs no network: trained on the traffic
    that has tiers; TF-IDF also on the corpus, with the same weights and levels as the network."""
    train = [example for example in training if example.tier is not None]
    test = [example for example, known_tier in zip(held_out, known, strict=True) if known_tier]
    tiers = np.array([example.tier for example in test])
    if not train:
        return {}
    most = np.bincount([example.tier for example in train]).argmax()
    figures = {"most_frequent": {"tier_accuracy": share(tiers == most)}}
    lengths = length_tiers(train, test)
    figures["length"] = {"tier_accuracy": share(lengths == tiers), "tier_macro_f1": macro_f1(lengths, tiers)}
    try:
        words = tfidf_tiers(corpus + training, test)
    except ImportError:
        return figures
    figures["tfidf"] = {"tier_accuracy": share(words == tiers), "tier_macro_f1": macro_f1(words, tiers)}
    return figures


def tfidf_tiers(training: list[Example], test: list[Example]) -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    warnings.filterwarnings("ignore", category=FutureWarning)
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=WORDS_MAX)
    features = vectors.fit_transform([last_text(example.messages) for example in training])
    asked = vectors.transform([last_text(example.messages) for example in test])
    levels = []
    for level in range(len(LEVELS) - 1):
        weights = np.array([1.0 if e.level_weights is None else e.level_weights[level] for e in training])
        enough = np.array([e.sufficiency[level] >= 0.5 for e in training])
        rows = np.flatnonzero(weights)
        model = LogisticRegression(C=10, max_iter=300).fit(features[rows], enough[rows], sample_weight=weights[rows])
        levels.append(model.predict_proba(asked)[:, 1])
    enough = np.maximum.accumulate(np.stack([*levels, np.ones(len(test))], axis=1), axis=1)
    return tier_of(enough)


def refusals(found: dict, tolerance: float | None = None, held_out_min: int = HELD_OUT_MIN) -> list[str]:
    """Returns why the candidate may not take the active bundle's place; nothing when it may."""
    reasons = []
    if found["traffic"]["rows"] < held_out_min:
        reasons.append(
            f"held-out traffic: {found['traffic']['rows']} requests are too few to judge by, {held_out_min} are "
            "needed; export a longer time, collect feedback, or label more"
        )
    for place, allowed in TOLERANCE.items():
        for figure, one in allowed.items():
            if figure not in found[place]["gain"]:
                continue
            limit = one if tolerance is None else tolerance
            gain = found[place]["gain"][figure]
            worse = gain["value"] if figure in LESS_IS_BETTER else -gain["value"]
            if round(worse, 4) > limit:
                was, now = (found[place][name][figure]["value"] for name in ("active", "candidate"))
                low, high = gain["interval"]
                reasons.append(
                    f"{place.replace('_', ' ')}: {figure} was {was:.4f} and would be {now:.4f}; "
                    f"the change of {gain['value']:+.4f} (95 %: {low:+.4f} to {high:+.4f}) is worse than {limit} allows"
                )
    return reasons


def served_refusals(served: dict, tolerance: float | None = None) -> list[str]:
    """Returns why the candidate may not take the active bundle's place, by what `pointsman eval` says of both."""
    reasons = []
    for figure, one in SERVED.items():
        if one is None:
            continue
        was, now = (served[name][figure]["value"] for name in ("active", "candidate"))
        worse = now - was if figure in LESS_IS_BETTER else was - now
        limit = one if tolerance is None else tolerance
        if round(worse, 4) > limit:
            reasons.append(f"as served: {figure} was {was:.4f} and would be {now:.4f}, worse than {limit} allows")
    return reasons


if __name__ == "__main__":
    main()
