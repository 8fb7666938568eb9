"""Compares a new bundle with the active one on the corpus test split and on held-out traffic, and says whether it may
take its place. Both score the same rows with the graphs that ship; differences are paired, and their intervals redraw
whole author batches or sessions, since the prompts of one are alike. One tenant has only so much weight (tenants.py).

    python compare.py --active ../onnx/0.2.0 --candidate runs/new/0.3.0 --traffic runs/retrain/traffic
"""

import argparse
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import json_lines
import tenants
from calibrate import calibration_error, tier_of
from data import Example, corpus_examples, last_text, traffic_examples
from evaluate import length_tiers, macro_f1, probabilities, share
from labels import LEVELS
from score import open_bundle

RESAMPLES = 2000
# Numbers drawn at once, some 64 MB of them.
DRAWN_AT_ONCE = 4_000_000
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
# Fewer held-out requests than this, of which some level was judged, judge nothing; unequal ones count as those of equal
# weight that would judge as well.
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


@dataclass
class HeldOut:
    """The rows of held_out.jsonl, and how much one tenant may count among them."""

    examples: list[Example]
    known: np.ndarray  # has a tier that a person named
    tenants: np.ndarray
    labelled: np.ndarray  # by the operator's own people: no tenant's word
    share: float

    def weighed(self, weights: np.ndarray) -> np.ndarray:
        """Returns the weights, those of a tenant held within its share."""
        held = np.array(weights, float)
        said = ~self.labelled
        held[said] = tenants.weighed(held[said], self.tenants[said], self.share, HELD_OUT_MIN)
        return held

    def level_weights(self) -> np.ndarray:
        """Returns the trust in each row's judged levels together."""
        rows = [example.level_weights for example in self.examples]
        return self.weighed(np.array(rows, float).reshape(-1, len(LEVELS) - 1).sum(1))

    def judged(self) -> int:
        """Returns how many rows of equal weight would judge as well (Kish 1965); rows of which no level was judged are
        none."""
        weights = self.level_weights()
        return int(weights.sum() ** 2 / (weights**2).sum() + 1e-6) if weights.any() else 0


def held_out(traffic: Path) -> HeldOut:
    """Reads what traffic.py wrote; rows of earlier versions name no tenant and count as one's."""
    path = traffic / "held_out.jsonl"
    examples = traffic_examples(path)
    rows = [row for _, row in json_lines.read(path, "traffic.py writes it anew")]
    provenance = json.loads((traffic / "traffic.json").read_text(encoding="utf-8"))["provenance"]
    return HeldOut(
        examples,
        np.array([row["tier"] is not None and row["by_people"] for row in rows], dtype=bool),
        np.array([row.get("tenant", 0) for row in rows], dtype=int),
        np.array(["label" in row["kinds"] for row in rows], dtype=bool),
        provenance.get("tenant_share_max", tenants.SHARE_MAX),
    )


def compare(active: Path, candidate: Path, traffic: Path) -> dict:
    parts = corpus_examples()
    held = held_out(traffic)
    scored = {}
    for name, directory in (("active", active), ("candidate", candidate)):
        scorer, manifest = open_bundle(directory)
        scored[name] = {
            "version": manifest["version"],
            "corpus_test": probabilities(scorer, manifest, [e.messages for e in parts["test"]], f"{name}: corpus"),
            "traffic": probabilities(scorer, manifest, [e.messages for e in held.examples], f"{name}: traffic"),
        }
    corpus_tiers = np.array([e.tier for e in parts["test"]])
    corpus_intents = np.array([e.intent for e in parts["test"]])
    result = {
        "active": scored["active"]["version"],
        "candidate": scored["candidate"]["version"],
        "corpus_test": paired(
            {n: corpus_rows(*scored[n]["corpus_test"], corpus_intents, corpus_tiers) for n in ("active", "candidate")},
            [e.batch for e in parts["test"]],
        ),
        "traffic": paired(
            {n: traffic_rows(*scored[n]["traffic"], held) for n in ("active", "candidate")},
            [e.batch for e in held.examples],
        ),
    }
    result["corpus_test"]["rows"], result["traffic"]["rows"] = len(parts["test"]), len(held.examples)
    result["traffic"] |= {"rows_judged": held.judged(), "rows_with_tier": int(sum(held.known))}
    if sum(held.known) >= TIERS_MIN:
        result["traffic"]["details"] = {
            name: details(scored[name]["traffic"][1], held.examples, held.known) for name in ("active", "candidate")
        }
        training = traffic_examples(traffic / "train.jsonl")
        result["traffic"]["baselines"] = baselines(parts["train"], training, held.examples, held.known)
    return result


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


def traffic_rows(intent, sufficiency, held: HeldOut) -> dict:
    """As corpus_rows, where every figure has weight only in rows that know it. "levels_right" is the share of the
    judged levels, by trust, of which the bundle says the same."""
    examples = held.examples
    sufficiency = sufficiency.reshape(-1, len(LEVELS))
    tiers = np.array([-1 if e.tier is None else e.tier for e in examples], dtype=int)
    intents = np.array([-1 if e.intent is None else e.intent for e in examples], dtype=int)
    weights = np.array([e.level_weights for e in examples]).reshape(-1, len(LEVELS) - 1)
    said = (sufficiency[:, :-1] >= 0.5) == (np.array([e.sufficiency for e in examples]).reshape(weights.shape) >= 0.5)
    predicted = tier_of(sufficiency) if len(tiers) else tiers
    best = intent.reshape(len(tiers), -1).argmax(1) if len(tiers) else tiers
    known, named = held.weighed(held.known), held.weighed(intents >= 0)
    return {
        "tier_accuracy": (predicted == tiers, known),
        "levels_right": ((said * weights).sum(1) / np.maximum(weights.sum(1), 1e-9), held.level_weights()),
        "within_one": (np.abs(predicted - tiers) <= 1, known),
        "tier_too_low": (predicted < tiers, known),
        "intent_accuracy": (best == intents, named),
    }


def paired(rows: dict, groups: list[str]) -> dict:
    """Returns figures of both bundles and the candidate's gain, each with a 95 % percentile bootstrap interval."""
    names, place = np.unique(np.array(groups, dtype=str), return_inverse=True)
    sums, columns = {}, []
    for figure in rows["active"]:
        for name in ("active", "candidate"):
            values, weights = (np.asarray(column, float) for column in rows[name][figure])
            if weights.sum() > 0:
                sums[name, figure] = len(columns)
                columns += [np.bincount(place, values * weights, len(names)), np.bincount(place, weights, len(names))]
    result = {"active": {}, "candidate": {}, "gain": {}}
    if not columns:
        return result
    columns = np.stack(columns, axis=1)
    whole, resampled = columns.sum(0), redrawn(columns)
    for figure in rows["active"]:
        drawn = {}
        for name in ("active", "candidate"):
            if (name, figure) in sums:
                hits = sums[name, figure]
                drawn[name] = resampled[:, hits] / np.maximum(resampled[:, hits + 1], 1e-9)
                result[name][figure] = figure_of(whole[hits] / whole[hits + 1], drawn[name])
        if len(drawn) == 2:
            gain = result["candidate"][figure]["value"] - result["active"][figure]["value"]
            result["gain"][figure] = figure_of(gain, drawn["candidate"] - drawn["active"])
    return result


def redrawn(columns: np.ndarray) -> np.ndarray:
    """Returns the sums of the columns [groups, n] over groups drawn anew, as many as there are, RESAMPLES times."""
    groups = len(columns)
    rng = np.random.default_rng(1)
    at_once = max(1, min(RESAMPLES, DRAWN_AT_ONCE // groups))
    parts = []
    for start in range(0, RESAMPLES, at_once):
        # Times that each group is drawn, in each resample.
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), min(at_once, RESAMPLES - start))
        parts.append(drawn @ columns)
    return np.concatenate(parts)


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
    reasons = too_few(found["traffic"]["rows_judged"], found["traffic"]["rows"], held_out_min)
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


def too_few(judged: int, rows: int, held_out_min: int) -> list[str]:
    """Returns that there is too little held-out traffic to judge by; nothing when there is enough."""
    if judged >= held_out_min:
        return []
    return [
        f"held-out traffic: {judged} judged requests are too few to judge by, {held_out_min} are needed; of the {rows} "
        "held out those count whose tier feedback or outcomes judge, by their weight; export a longer time, collect "
        "feedback, or label more"
    ]


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
