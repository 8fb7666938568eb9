"""Trains the TF-IDF baseline that `pointsman eval` prints beside the classifier: logistic regression over words.

    python baseline.py --out ../onnx/0.2.0                 from the corpus
    python baseline.py --out ../onnx/0.2.0 --data DIR      also from the measured outcomes of the public sets

Writes OUT/baseline.json. export.py --baselines does the same for a new bundle: the corpus of the baseline should be the
model's own. `--golden FILE` also writes a few prompts with their probabilities, for the test of the Rust reader.
"""

import argparse
import json
import math
import warnings
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import data
from data import last_text
from labels import INTENTS, LEVELS

# 2: counts enter by their logarithm.
FORMAT = 2
FILE = "baseline.json"
WORDS = 6000
# Two or more letters, digits or underscores: what the Rust reader takes for a word too.
WORD_PATTERN = r"\w\w+"
# Chosen on the corpus dev split, so that the baseline is a fair one.
INTENT_STRENGTH = 3.0
LEVEL_STRENGTH = 3.0
DIGITS = 3
BYTES_MAX = 1_000_000
# A row stands once for "enough" and once for "not enough"; below this weight it is left out.
WEIGHT_MIN = 0.01
GOLDEN_PROMPTS = (
    "thanks, bye!",
    "Translate 'good morning' into French.",
    "Write a Python function that merges two sorted lists and explain its complexity.",
    "Prove that the sum of two odd numbers is even, then generalise it to n odd numbers.",
    "Grüße aus Köln: fasse den folgenden Bericht in drei Sätzen zusammen.",
    "Сравни два договора поставки и назови риски",
    "नमस्ते, मुझे इस ईमेल का उत्तर लिखना है",
    "?! 7",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory of the bundle that it stands beside")
    parser.add_argument("--data", type=Path, help="directory of the public sets; those with outcomes are used")
    parser.add_argument("--words", type=int, default=WORDS, help="how many words are kept")
    parser.add_argument("--golden", type=Path, help="write prompts and their probabilities here, as JSON lines")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    baseline = write(arguments.data, arguments.out / FILE, arguments.words)
    print_figures(baseline, data.corpus_examples()["dev"])
    if arguments.golden:
        write_golden(baseline, arguments.golden)


def write(directory: Path | None, path: Path, words: int = WORDS) -> dict:
    """Trains on the corpus and, from `directory`, on measured outcomes; returns what it wrote."""
    examples, sets = read(directory)
    baseline = train(examples, words) | {"trained_on": sets}
    text = json.dumps(baseline, ensure_ascii=False, separators=(",", ":")) + "\n"
    if len(text.encode()) > BYTES_MAX:
        raise SystemExit(f"{path}: {len(text.encode())} bytes, at most {BYTES_MAX}: take fewer --words")
    path.write_text(text, encoding="utf-8")
    print(f"{path}: {len(text.encode())} bytes, {len(baseline['words'])} words, {len(examples)} rows")
    return baseline


def read(directory: Path | None) -> tuple[list, list[str]]:
    """Returns the corpus train split and, from `directory`, the rows with measured outcomes."""
    examples, sets = list(data.corpus_examples()["train"]), ["corpus"]
    for source in data.sources() if directory else []:
        if source["name"].startswith("tier_outcomes"):
            examples += data.public_examples(directory, source)
            sets.append(source["name"])
    return examples, sets


def train(examples: list, words: int) -> dict:
    vectors = TfidfVectorizer(token_pattern=WORD_PATTERN, max_features=words, min_df=2, sublinear_tf=True)
    features = vectors.fit_transform([last_text(example.messages) for example in examples])
    with_intent = [row for row, example in enumerate(examples) if example.intent is not None]
    intent = LogisticRegression(C=INTENT_STRENGTH, max_iter=1000).fit(
        features[with_intent], [examples[row].intent for row in with_intent]
    )
    levels = [fit_level(features, examples, level) for level in range(len(LEVELS) - 1)]
    return {
        "format": FORMAT,
        "intents": [INTENTS[label] for label in intent.classes_],
        "levels": list(LEVELS),
        "intent_bias": rounded(intent.intercept_),
        "level_bias": rounded([model.intercept_[0] for model in levels]),
        "words": vectors.get_feature_names_out().tolist(),
        "idf": rounded(vectors.idf_),
        # A row a word: what its tf-idf adds to each logit.
        "intent_weights": [rounded(row) for row in intent.coef_.T],
        "level_weights": [rounded(row) for row in np.stack([model.coef_[0] for model in levels]).T],
    }


def fit_level(features, examples: list, level: int) -> LogisticRegression:
    """Fits P(level is enough) to soft labels: each row stands twice, weighted by p and 1 - p."""
    rows, labels, weights = [], [], []
    for row, example in enumerate(examples):
        if example.sufficiency is None:
            continue
        for label, weight in ((1, example.sufficiency[level]), (0, 1.0 - example.sufficiency[level])):
            if weight >= WEIGHT_MIN:
                rows.append(row)
                labels.append(label)
                weights.append(weight)
    return LogisticRegression(C=LEVEL_STRENGTH, max_iter=1000).fit(features[rows], labels, sample_weight=weights)


def print_figures(baseline: dict, examples: list) -> None:
    """Says what the rounded file reaches on the corpus dev split."""
    scored = [score(baseline, last_text(example.messages)) for example in examples]
    intents = [INTENTS[example.intent] for example in examples]
    same = [max(got["intent"], key=got["intent"].get) == label for got, label in zip(scored, intents, strict=True)]
    tiers = [next(t for t, p in enumerate(got["sufficiency"]) if p >= 0.5) for got in scored]
    right = [tier == example.tier for tier, example in zip(tiers, examples, strict=True)]
    print(f"corpus dev: intent accuracy {np.mean(same):.3f}, tier accuracy {np.mean(right):.3f}")


def write_golden(baseline: dict, path: Path) -> None:
    with path.open("w", encoding="utf-8") as lines:
        for prompt in GOLDEN_PROMPTS:
            print(json.dumps({"prompt": prompt} | score(baseline, prompt), ensure_ascii=False), file=lines)


def score(baseline: dict, text: str) -> dict:
    """Reads the file as the Rust side does, by scikit-learn's own splitting and weighting of words."""
    vectors = TfidfVectorizer(token_pattern=WORD_PATTERN, vocabulary=baseline["words"], sublinear_tf=True)
    vectors.idf_ = np.array(baseline["idf"])
    features = vectors.transform([text]).toarray()[0]
    logits = features @ np.array(baseline["intent_weights"]) + baseline["intent_bias"]
    exponents = np.exp(logits - logits.max())
    level = features @ np.array(baseline["level_weights"]) + baseline["level_bias"]
    probabilities = [round(float(p), 6) for p in exponents / exponents.sum()]
    enough = np.maximum.accumulate([1.0 / (1.0 + math.exp(-x)) for x in level])
    return {
        "intent": dict(zip(baseline["intents"], probabilities, strict=True)),
        "sufficiency": [*(round(float(p), 6) for p in enough), 1.0],
    }


def rounded(values) -> list[float]:
    return [round(float(value), DIGITS) for value in values]


if __name__ == "__main__":
    main()
