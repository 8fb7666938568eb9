"""Measures a bundle: on the corpus test split and, with --dev, on sets that were never trained on.

    python evaluate.py --bundle ../onnx/0.2.0 --dev DIR --out metrics.json

Baselines stand beside the figures: the most frequent label, prompt length, TF-IDF with logistic regression trained on
the same corpus split (and, for intents, the public intent set when --data is given). Batches of the test split that no
earlier bundle was measured on are also reported apart.
"""

import argparse
import gzip
import json
from pathlib import Path

import numpy as np

from calibrate import (
    calibration_error,
    intent_probabilities,
    low_confidence,
    sufficiencies,
    tier_of,
    uncalibrated,
)
from data import corpus_examples, last_text, public_examples
from labels import INTENTS, LEVEL_INDEX
from score import Scorer, open_bundle

RESAMPLES = 1000
# Batches of the test split whose figures took part in choosing bundle 0.1.0.
MEASURED_BEFORE = (
    "business-02", "consumer-02", "knowledge-02", "mixed-02", "software-02", "chat-09", "systems-05", "terse-05",
    "stem-05", "desk-05",
)  # fmt: skip
# A language gets figures of its own from this many prompts on.
LANGUAGE_ROWS_MIN = 15
OUTCOME_SETS = ("tier_outcomes_mmlupro_stem", "tier_outcomes_zeroeval", "tier_outcomes_routerbench")
INTENT_SETS = ("real_user_instructionwild", "intent_restricted", "intent")
DEV_SETS = (*OUTCOME_SETS, *INTENT_SETS, "flask_difficulty", "wizardlm_testset", "arena_hard_v01", "robustness")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="directory with manifest.json and model.onnx")
    parser.add_argument("--dev", type=Path, help="directory of the dev sets (gzip JSON lines)")
    parser.add_argument("--data", type=Path, help="directory of the public training sets, for the TF-IDF baseline")
    parser.add_argument("--baselines", action="store_true", help="also fit TF-IDF baselines (needs scikit-learn)")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    arguments = parser.parse_args()
    scorer, manifest = open_bundle(arguments.bundle)
    figures = measure(scorer, manifest, arguments.dev, arguments.data, arguments.baselines)
    print(json.dumps(figures, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


def measure(scorer: Scorer, manifest: dict, dev: Path | None, data: Path | None, baselines: bool) -> dict:
    if dev:
        check_sets(dev)
    tfidf = TfIdf(data) if baselines else None
    figures = {"corpus_test": corpus_figures(scorer, manifest, tfidf)}
    if dev:
        figures |= dev_figures(scorer, manifest, dev, tfidf)
    return figures


def corpus_figures(scorer: Scorer, manifest: dict, tfidf) -> dict:
    parts = corpus_examples()
    examples = parts["test"]
    if not examples:
        return {"rows": 0}
    logits = scorer.scores([e.messages for e in examples], "corpus test")
    intent, sufficiency = calibrated(logits, manifest["calibration"])
    raw = calibrated(logits, uncalibrated(3))
    intents = np.array([e.intent for e in examples])
    tiers = np.array([e.tier for e in examples])
    figures = {
        "rows": len(examples),
        **intent_figures(intent.argmax(1), intents),
        **tier_figures(tier_of(sufficiency), tiers),
        **intervals(intent.argmax(1), intents, tier_of(sufficiency), tiers, [e.batch for e in examples]),
        **reliability(intent, intents, sufficiency, tiers),
        "before_calibration": reliability(raw[0], intents, raw[1], tiers),
        "low_confidence_share": round(float(low_confidence(intent, sufficiency, manifest["thresholds"]).mean()), 4),
        "spearman_tier": rho(-sufficiency[:, :3].sum(1), tiers),
        "baseline_length_spearman_tier": rho([len(last_text(e.messages)) for e in examples], tiers),
    }
    most_intent = np.bincount([e.intent for e in parts["train"]]).argmax()
    most_tier = np.bincount([e.tier for e in parts["train"]]).argmax()
    figures["baseline_most_frequent"] = {
        "intent_accuracy": share(intents == most_intent),
        **tier_figures(np.full(len(tiers), most_tier), tiers),
    }
    figures["baseline_length"] = tier_figures(length_tiers(parts["train"], examples), tiers)
    if tfidf:
        texts = [last_text(e.messages) for e in examples]
        figures["baseline_tfidf"] = {
            **intent_figures(tfidf.intents(texts), intents),
            **tier_figures(tfidf.tiers(texts), tiers),
        }
    fresh = np.array([e.batch not in MEASURED_BEFORE for e in examples])
    figures["fresh_batches"] = {
        "rows": int(fresh.sum()),
        **intent_figures(intent.argmax(1)[fresh], intents[fresh]),
        **tier_figures(tier_of(sufficiency)[fresh], tiers[fresh]),
    }
    languages = np.array([e.language for e in examples])
    groups = {"en": languages == "en", "other": languages != "en"}
    groups |= {code: languages == code for code in sorted(set(languages) - {"en"})}
    groups = {name: keep for name, keep in groups.items() if keep.sum() >= LANGUAGE_ROWS_MIN}
    for name, keep in groups.items():
        figures[f"language_{name}"] = {
            "rows": int(keep.sum()),
            "intent_accuracy": share(intent.argmax(1)[keep] == intents[keep]),
            **tier_figures(tier_of(sufficiency)[keep], tiers[keep]),
        }
    return figures


def dev_figures(scorer: Scorer, manifest: dict, dev: Path, tfidf) -> dict:
    figures = {}

    def score(rows, title):
        return probabilities(scorer, manifest, [row_messages(row) for row in rows], title)

    for name, keep in (
        ("real_user_instructionwild", lambda row: True),
        ("intent_restricted", lambda row: row["src"] == "auto-j"),
        ("intent", lambda row: True),
    ):
        rows = [row for row in read_set(dev, name) if keep(row)]
        intent, sufficiency = score(rows, name)
        labels = np.array([INTENTS.index(row["intent"]) for row in rows])
        figures[name] = {"rows": len(rows), **intent_figures(intent.argmax(1), labels)}
        if tfidf:
            figures[name]["baseline_tfidf"] = intent_figures(tfidf.intents([row["prompt"] for row in rows]), labels)
        figures[name]["baseline_most_frequent"] = share(labels == np.bincount(labels).argmax())

    for name in OUTCOME_SETS:
        rows = [r for r in read_set(dev, name) if r.get("p_small") is not None and r.get("p_strong") is not None]
        _, sufficiency = score(rows, name)
        low, high = (np.array([float(row[key]) for row in rows]) for key in ("p_small", "p_strong"))
        lengths = [len(row["prompt"]) for row in rows]
        figures[name] = {
            "rows": len(rows),
            "spearman_gain": rho(sufficiency[:, 2] - sufficiency[:, 0], high - low),
            "spearman_difficulty": rho(1 - sufficiency[:, 1], -(low + high)),
            "length_gain": rho(lengths, high - low),
            "length_difficulty": rho(lengths, -(low + high)),
        }

    for name, truth in (
        ("flask_difficulty", lambda row: LEVEL_INDEX.get(row.get("tier"))),
        ("wizardlm_testset", lambda row: float(row["difficulty_raw"])),
    ):
        rows = [row for row in read_set(dev, name) if truth(row) is not None]
        _, sufficiency = score(rows, name)
        values = [truth(row) for row in rows]
        figures[name] = {
            "rows": len(rows),
            "spearman": rho(1 - sufficiency[:, 1], values),
            "length": rho([len(row["prompt"]) for row in rows], values),
        }
        if tfidf:
            figures[name]["tfidf"] = rho(tfidf.difficulty([row["prompt"] for row in rows]), values)

    rows = [row for row in read_set(dev, "robustness") if row["kind"] == "typo_pair"]
    pair = [tier_of(score([{"prompt": row[key]} for row in rows], key)[1]) for key in ("prompt", "original")]
    figures["typo_pairs"] = {"rows": len(rows), "same_tier": share(pair[0] == pair[1])}

    rows = read_set(dev, "arena_hard_v01")
    _, sufficiency = score(rows, "arena_hard_v01")
    counts = np.bincount(tier_of(sufficiency), minlength=4)
    figures["arena_hard_v01"] = {
        "rows": len(rows),
        "complex_or_above": share(tier_of(sufficiency) >= 2),
        "tiers": counts.tolist(),
    }
    return figures


class TfIdf:
    """TF-IDF of words and word pairs with logistic regression: what a network has to beat. Larger than the one of
    baseline.py, which has to be a small file."""

    def __init__(self, data: Path | None):
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        train = corpus_examples()["train"]
        intent_rows = list(train)
        if data:
            intent_rows += public_examples(data, {"name": "intent", "origin": "", "licence": ""})

        def fit(texts, labels):
            vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=1, max_features=200_000)
            return make_pipeline(vectors, LogisticRegression(C=10, max_iter=300)).fit(texts, labels)

        self.intent_model = fit([last_text(e.messages) for e in intent_rows], [e.intent for e in intent_rows])
        self.tier_model = fit([last_text(e.messages) for e in train], [e.tier for e in train])

    def intents(self, texts):
        return self.intent_model.predict(texts)

    def tiers(self, texts):
        return self.tier_model.predict(texts)

    def difficulty(self, texts):
        return self.tier_model.predict_proba(texts) @ self.tier_model.classes_


def probabilities(scorer: Scorer, manifest: dict, conversations: list, title: str):
    return calibrated(scorer.scores(conversations, title), manifest["calibration"])


def calibrated(logits: tuple, calibration: dict) -> tuple[np.ndarray, np.ndarray]:
    """Returns intent probabilities [n, 15] and sufficiencies [n, 4]."""
    return intent_probabilities(logits[0], calibration), sufficiencies(logits[1], calibration)


def reliability(intent, intents, sufficiency, tiers) -> dict:
    """Returns the expected calibration errors of the best intent and of each level's sufficiency."""
    return {
        "intent_calibration_error": round(calibration_error(intent.max(1), intent.argmax(1) == intents), 4),
        "sufficiency_error": [round(calibration_error(sufficiency[:, t], tiers <= t), 4) for t in range(3)],
    }


def intervals(predicted_intents, intents, predicted_tiers, tiers, batches: list[str]) -> dict:
    """Returns 95 % percentile bootstrap intervals of the headline figures. Whole author batches are drawn, since the
    prompts of one batch are alike."""
    rng = np.random.default_rng(1)
    of_batch = [np.flatnonzero(np.array(batches) == name) for name in sorted(set(batches))]
    drawn = [
        np.concatenate([of_batch[at] for at in rng.integers(0, len(of_batch), len(of_batch))])
        for _ in range(RESAMPLES)
    ]
    named = {
        "intent_accuracy": lambda rows: np.mean(predicted_intents[rows] == intents[rows]),
        "intent_macro_f1": lambda rows: macro_f1(predicted_intents[rows], intents[rows]),
        "tier_accuracy": lambda rows: np.mean(predicted_tiers[rows] == tiers[rows]),
        "tier_macro_f1": lambda rows: macro_f1(predicted_tiers[rows], tiers[rows]),
        "within_one": lambda rows: np.mean(np.abs(predicted_tiers[rows] - tiers[rows]) <= 1),
    }
    ends = {name: np.quantile([of(rows) for rows in drawn], (0.025, 0.975)) for name, of in named.items()}
    return {f"{name}_interval": [round(float(end), 4) for end in pair] for name, pair in ends.items()}


def intent_figures(predicted, labels) -> dict:
    return {"intent_accuracy": share(predicted == labels), "intent_macro_f1": macro_f1(predicted, labels)}


def tier_figures(predicted, tiers) -> dict:
    return {
        "tier_accuracy": share(predicted == tiers),
        "tier_macro_f1": macro_f1(predicted, tiers),
        "within_one": share(np.abs(predicted - tiers) <= 1),
        "tier_too_low": share(predicted < tiers),
    }


def macro_f1(predicted, labels) -> float:
    """Returns the mean F1 over the labels that occur."""
    scores = []
    for label in np.unique(labels):
        hits = np.sum((predicted == label) & (labels == label))
        scores.append(2 * hits / (np.sum(predicted == label) + np.sum(labels == label)))
    return round(float(np.mean(scores)), 4)


def length_tiers(train, examples) -> np.ndarray:
    """Cuts the lengths so that each tier gets its share of the training rows."""
    lengths = np.sort([len(last_text(e.messages)) for e in train])
    shares = np.cumsum(np.bincount([e.tier for e in train], minlength=4))[:3]
    cuts = lengths[np.minimum(shares, len(lengths) - 1)]
    return np.searchsorted(cuts, [len(last_text(e.messages)) for e in examples], side="right")


def rho(a, b) -> float:
    """Returns Spearman's rank correlation, ties sharing their mean rank."""
    return round(float(np.corrcoef(ranks(a), ranks(b))[0, 1]), 4)


def ranks(values) -> np.ndarray:
    _, places, counts = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def share(mask) -> float:
    return round(float(np.mean(mask)), 4)


def row_messages(row: dict) -> list[dict]:
    return row.get("messages") or [{"role": "user", "content": row["prompt"]}]


def check_sets(directory: Path) -> None:
    """Exits when a set is missing, before minutes of scoring."""
    missing = [name for name in DEV_SETS if not (directory / f"{name}.jsonl.gz").exists()]
    if missing:
        raise SystemExit(f"{directory}: lacks {', '.join(missing)}; training/README.md lists the dev sets and fields")


def read_set(directory: Path, name: str) -> list[dict]:
    path = directory / f"{name}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
