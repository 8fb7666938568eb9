"""Reads the authored corpus and the public training sets into one kind of example.

python data.py --data DIR     lists every set: rows, licence, origin, whether its hash is the known one
"""

import argparse
import gzip
import hashlib
import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import corpus
import json_lines
from labels import INTENT_INDEX, LEVEL_INDEX

SOURCES = Path(__file__).parent / "sources.toml"
# What a tier label says of the levels below and above it: a little less than certain.
CORPUS_SMOOTHING = 0.03
# Steps of a solution or a contest's "medium" only hint at the level of model that is needed.
PRIOR_SMOOTHING = 0.2
# Sources labelled by our own rubric and tiers: their levels lie where the router's do, so they get no scale.
OWN_SOURCES = ("corpus", "traffic")


@dataclass
class Example:
    messages: list[dict]
    intent: int | None
    sufficiency: list[float] | None  # probability that levels 0, 1, 2 are enough
    source: str
    language: str = "en"
    tier: int | None = None
    batch: str = ""
    gain: float | None = None  # measured: score of a strong model less that of a small one, -1 to 1
    teacher_intent: list[float] | None = None  # probability of each intent, from earlier runs
    base_embedding: object | None = None  # tensor [width]: the base's before the training, of length 1
    level_weights: list[float] | None = None  # trust in each level of `sufficiency`, 0: not known; None: 1 each
    intent_weight: float = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory of the public sets (see sources.toml)")
    arguments = parser.parse_args()
    for name, part in corpus_examples().items():
        print(f"{'corpus ' + name:<28}{len(part):>7} rows  written for this project")
    for source in sources():
        digest = sha256(set_path(arguments.data, source))
        known = "known hash" if digest == source["sha256"] else f"OTHER HASH {digest}"
        rows = len(public_examples(arguments.data, source))
        print(f"{source['name']:<28}{rows:>7} rows  {source['licence']}; {known}; {source['origin']}")


def corpus_examples(directory: Path = corpus.CORPUS) -> dict[str, list[Example]]:
    return {name: [corpus_example(row) for row in rows] for name, rows in corpus.load(directory).items()}


def corpus_example(row: dict) -> Example:
    tier = LEVEL_INDEX[row["tier"]]
    # Where readers differed the target lies between them: the decision and both readings count alike.
    tiers = [tier, *(LEVEL_INDEX[row[name]["tier"]] for name in corpus.READINGS if name in row)]
    levels = zip(*(smoothed(one, CORPUS_SMOOTHING) for one in tiers), strict=True)
    return Example(
        row["messages"],
        INTENT_INDEX[row["intent"]],
        [sum(level) / len(tiers) for level in levels],
        "corpus",
        row["language"],
        tier,
        row["batch"],
    )


def public_examples(directory: Path, source: dict) -> list[Example]:
    """Returns the rows of a set; a sufficiency comes from measured outcomes, else from a prior, else is absent."""
    examples = []
    with gzip.open(set_path(directory, source), "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            intent = INTENT_INDEX[row["intent"]] if "intent" in row else None
            messages = [{"role": "user", "content": row["prompt"]}]
            examples.append(Example(messages, intent, row_sufficiency(row), source["name"], gain=row_gain(row)))
    return examples


def traffic_examples(path: Path) -> list[Example]:
    """Returns the rows that traffic.py labelled; levels that nobody judged have no weight."""
    if not path.exists():
        sys.exit(f"{path}: missing; traffic.py writes it")
    examples = []
    for _, row in json_lines.read(path, "traffic.py writes it anew"):
        known = {name: row[name] for name in ("language", "tier", "level_weights", "intent_weight")}
        batch = row["group"]
        examples.append(Example(row["messages"], row["intent"], row["sufficiency"], "traffic", batch=batch, **known))
    return examples


def row_sufficiency(row: dict) -> list[float] | None:
    if row.get("p_small") is not None and row.get("p_strong") is not None:
        small, strong = float(row["p_small"]), float(row["p_strong"])
        middle = float(row["p_mid"]) if row.get("p_mid") is not None else (small + strong) / 2
        middle = max(small, middle)
        return [small, middle, max(middle, strong)]
    if row.get("tier") is not None:
        return smoothed(LEVEL_INDEX[row["tier"]], PRIOR_SMOOTHING)
    return None


def row_gain(row: dict) -> float | None:
    """Returns p_strong - p_small as measured, negative ones too, as the evaluation reads it."""
    if row.get("p_small") is None or row.get("p_strong") is None:
        return None
    return float(row["p_strong"]) - float(row["p_small"])


def smoothed(tier: int, smoothing: float) -> list[float]:
    return [1.0 - smoothing if tier <= level else smoothing for level in range(3)]


def sources() -> list[dict]:
    return tomllib.loads(SOURCES.read_text())["source"]


def set_path(directory: Path, source: dict) -> Path:
    path = directory / f"{source['name']}.jsonl.gz"
    if not path.exists():
        sys.exit(
            f"{path}: missing. It is made from: {source['origin']} ({source['licence']}). "
            "Build it in the form that sources.toml describes, or take the set out of MIX in settings.py."
        )
    return path


def provenance(directory: Path | None, used: set[str], traffic: Path | None = None) -> list[dict]:
    """Returns what the manifest says of the data: name, origin, licence, rows, sha256."""
    entries = [corpus_provenance()]
    for source in sources() if directory else []:
        if source["name"] not in used:
            continue
        digest = sha256(set_path(directory, source))
        if digest != source["sha256"]:
            print(f"warning: {source['name']} has sha256 {digest}, not the one in sources.toml", file=sys.stderr)
        entries.append({key: source[key] for key in ("name", "origin", "licence", "rows")} | {"sha256": digest})
    if traffic:
        entries.append(json.loads((traffic / "traffic.json").read_text(encoding="utf-8"))["provenance"])
    return entries


def corpus_provenance(directory: Path = corpus.CORPUS) -> dict:
    digest, rows = hashlib.sha256(), 0
    parts = corpus.load(directory)
    for path in sorted(directory.glob("*.jsonl")):
        content = path.read_bytes()
        digest.update(content)
        rows += content.count(b"\n")
    return {
        "name": "corpus",
        "origin": "training/corpus of this repository: written for this project",
        "licence": "as this repository",
        "rows": rows,
        "rows_by_split": {name: len(part) for name, part in parts.items()},
        "train_batches": sorted({row["batch"] for row in parts["train"]}),
        "sha256": digest.hexdigest(),
        "splits_sha256": sha256(directory / "splits.toml"),
    }


def check_held_out(run: Path) -> None:
    """Exits when a run has trained on batches that are held out now: its weights would carry them into the figures."""
    trained = set(json.loads((run / "run.json").read_text())["data"][0].get("train_batches", []))
    leaked = trained - set(corpus_provenance()["train_batches"])
    if not trained or leaked:
        named = ", ".join(sorted(leaked)[:5]) or "it does not say which batches"
        sys.exit(f"{run}: was trained on batches that are held out now ({named}); take another run")


def last_text(messages: list[dict]) -> str:
    """Returns the last user message: what the baselines read."""
    return next(message["content"] for message in reversed(messages) if message["role"] == "user")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
