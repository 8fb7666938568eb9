"""Chooses the logged requests that a person's label would teach most, and writes them as a queue.

    python choose.py EXPORT... --out runs/queue                            writes queue.jsonl and queue.csv
    python choose.py EXPORT... --other ../onnx/0.1.0 --labels labels.jsonl ...

Label queue.jsonl in a browser (label.py), or fill right_tier and right_intent into queue.csv in a spreadsheet; both are
read by `traffic.py --labels` and `retrain.py --labels`. Each request carries its reasons:

    uncertain   the bundle's best level or intent is hardly better than the next
    disagreeing the bundle says otherwise than feedback, outcomes or another bundle (--other)
    drifting    its kind of request has grown in the last days, or is far from all that the bundle was trained on
    diverse     unlike the requests chosen before it, so that the queue covers the traffic
    random      drawn evenly, before all others: the only part that estimates shares, and by which bundles are judged

Labels of the other parts teach; judged by them any bundle would look better than the one that was unsure or wrong. The
queue holds texts as the log kept them, and neither tenant nor session.
"""

import argparse
import csv
import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

import calibrate
import evidence
import exports
import leaks
import traffic
from background import FILE as BACKGROUND
from encode import encode
from labels import INTENTS, LEVELS
from score import SESSIONS, Scorer, open_bundle

COUNT = 200
SHARES = {"disagreeing": 0.25, "uncertain": 0.2, "drifting": 0.15, "diverse": 0.1, traffic.EVEN: 0.3}
# Requests that are scored, some 3 ms each; of more an even draw is.
SCORED_MAX = 20_000
# For each reason so many times its share are taken by score, and of these the ones that are most unlike each other.
POOL = 4
# Requests of the last days are compared with those of the month before.
RECENT_DAYS, BEFORE_DAYS = 7, 30
CLUSTERS_MAX = 40
CLUSTER_ROWS = 25
ROUNDS = 20
DAY_MS = 86_400_000
COLUMNS = ("text_hash", "decision_id", "day", "language", "reasons", "text", "earlier_turns", "right_tier",
           "right_intent", "note")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    traffic.add_source_arguments(parser)
    parser.add_argument("--bundle", type=Path, help="bundle that is unsure; default: the shipped one")
    parser.add_argument("--other", type=Path, help="another bundle, to disagree with it")
    parser.add_argument("--count", type=int, default=COUNT, help=f"requests to choose; default {COUNT}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="directory for queue.jsonl and queue.csv")
    arguments = parser.parse_args()
    onnx = Path(__file__).parents[1] / "onnx"
    bundle = arguments.bundle or onnx / (onnx / "default").read_text().strip()
    labelled = set(traffic.read_labels(arguments.labels))
    named = traffic.level_names(arguments.level)
    rows = read(exports.files_of(arguments.exports), named, labelled, arguments.seed)
    if not rows:
        sys.exit("no request with a text that nobody has labelled yet: nothing to choose from")
    opened = open_bundle(bundle)
    scored = score(*opened, rows, str(bundle))
    other = score(*open_bundle(arguments.other), rows, str(arguments.other)) if arguments.other else None
    reasons = {
        "uncertain": uncertain(scored["intent"], scored["sufficiency"]),
        "disagreeing": disagreeing(scored["sufficiency"], rows, other and other["sufficiency"]),
        "drifting": drifting(scored["embedding"], [row["at"] for row in rows], background_of(bundle), arguments.seed),
    }
    chosen = choose(reasons, scored["embedding"], arguments.count, arguments.seed)
    write(arguments.out, [entry(rows, scored, reasons, place, why) for place, why in chosen])
    counts = {name: sum(why == name for _, why in chosen) for name in SHARES}
    print(f"{arguments.out / 'queue.jsonl'}: {len(chosen)} of {len(rows)} requests, {traffic.plain_counts(counts)}")


def read(files: list[Path], named: dict, labelled: set[str], seed: int) -> list[dict]:
    """Returns one row a text, with what is known of it, without those that a person labelled; at most SCORED_MAX,
    evenly drawn (reservoir sampling, Vitter 1985)."""
    rng, kept, seen, count = random.Random(seed), [], {}, 0
    for row in exports.read(files):
        messages = traffic.messages_of(row)
        if messages is None:
            continue
        text = leaks.text_hash([message["content"] for message in messages])
        votes, _ = evidence.votes_of(row, evidence.levels_of(row["tiers"], named))
        if text in labelled or any(vote.exact and vote.kind in ("label", "human") for vote in votes):
            continue
        if text in seen:
            seen[text]["votes"] += votes
            continue
        one = {"text_hash": text, "decision_id": row["decision_id"], "at": row["at"], "language": row["language"],
               "messages": messages, "votes": votes}  # fmt: skip
        count += 1
        place = len(kept) if len(kept) < SCORED_MAX else rng.randrange(count)
        if place == len(kept):
            kept.append(one)
        elif place < SCORED_MAX:
            del seen[kept[place]["text_hash"]]
            kept[place] = one
        else:
            continue
        seen[text] = one
    return kept


def score(scorer: Scorer, manifest: dict, rows: list[dict], title: str) -> dict:
    """Returns intent probabilities, sufficiencies and embeddings, one prompt at a time as the router does."""

    def one(row):
        ids = np.array([encode(scorer.tokenizer, row["messages"], scorer.limits).ids], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        names = ["intent_logits", "sufficiency_logits", "embedding"]
        return [output[0] for output in scorer.session.run(names, inputs)]

    with ThreadPoolExecutor(SESSIONS) as pool:
        found = list(tqdm(pool.map(one, rows), total=len(rows), desc=title, mininterval=5, file=sys.stdout))
    intent, sufficiency, embedding = (np.array(column) for column in zip(*found, strict=True))
    return {
        "intent": calibrate.intent_probabilities(intent, manifest["calibration"]),
        "sufficiency": calibrate.sufficiencies(sufficiency, manifest["calibration"]),
        "embedding": embedding,
    }


def uncertain(intent: np.ndarray, sufficiency: np.ndarray) -> np.ndarray:
    """Returns 0 to 1: how near some level is to the limit of what is enough, or how even the intents are (entropy over
    its maximum), whichever is more. Levels decide the tier, intents only count half."""
    margin = np.abs(sufficiency[:, :-1] - calibrate.ENOUGH).min(1)
    entropy = -(intent * np.log(intent + 1e-12)).sum(1) / np.log(intent.shape[1])
    return np.maximum(1.0 - 2.0 * margin, 0.5 * entropy)


def disagreeing(sufficiency: np.ndarray, rows: list[dict], other: np.ndarray | None) -> np.ndarray:
    """Returns how far the bundle is from what is known of the judged levels, by trust, plus how far from the other."""
    scores = np.zeros(len(rows))
    for place, row in enumerate(rows):
        label = evidence.label_of(row["votes"])
        said = sufficiency[place, :-1]
        gaps = np.abs(said - np.array(label.sufficiency)) * np.minimum(1.0, label.level_weights)
        wrong = (said >= calibrate.ENOUGH) != (np.array(label.sufficiency) >= calibrate.ENOUGH)
        scores[place] = (gaps * wrong).max()
    if other is not None:
        apart = calibrate.tier_of(sufficiency) != calibrate.tier_of(other)
        scores += apart * np.abs(sufficiency - other).max(1)
    return scores


def drifting(embedding: np.ndarray, at_ms: list[int], background: np.ndarray | None, seed: int) -> np.ndarray:
    """Returns the growth of a request's cluster, as the logarithm of its share in the last days over that in the
    month before, where positive, plus its distance (1 - cosine) from the nearest prompt of the training."""
    scores = np.zeros(len(embedding))
    age_days = (max(at_ms) - np.array(at_ms)) / DAY_MS
    recent, before = age_days < RECENT_DAYS, (age_days >= RECENT_DAYS) & (age_days < RECENT_DAYS + BEFORE_DAYS)
    if before.any():
        cluster = clusters(embedding, seed)
        count = cluster.max() + 1
        # One request is added to each, so that a kind that is new does not weigh without bound.
        now, then = (np.bincount(cluster[part], minlength=count) + 1.0 for part in (recent, before))
        growth = np.log(now / now.sum()) - np.log(then / then.sum())
        scores += np.maximum(0.0, growth[cluster]) * recent
    if background is not None:
        parts = np.array_split(embedding, 1 + len(embedding) // 4096)
        scores += 1.0 - np.concatenate([(part @ background.T).max(1) for part in parts])
    return scores


def clusters(points: np.ndarray, seed: int) -> np.ndarray:
    """Returns the cluster of each point: spherical k-means (Dhillon and Modha 2001), begun from points far apart."""
    count = max(1, min(CLUSTERS_MAX, len(points) // CLUSTER_ROWS))
    centres = points[far_apart(points, count, seed)]
    for _ in range(ROUNDS):
        nearest = (points @ centres.T).argmax(1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, points)
        moved = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        centres = np.where(np.bincount(nearest, minlength=count)[:, None] > 0, moved, centres)
    return nearest


def far_apart(points: np.ndarray, count: int, seed: int, taken: np.ndarray | None = None) -> list[int]:
    """Returns `count` points, each the farthest from all before it and from those taken (greedy k-center, Gonzalez
    1985)."""
    chosen: list[int] = []
    if taken is None or len(taken) == 0:
        chosen = [random.Random(seed).randrange(len(points))]
        nearest = points @ points[chosen[0]]
    else:
        nearest = (points @ taken.T).max(1)
    while len(chosen) < min(count, len(points)):
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, points @ points[chosen[-1]])
    return chosen[:count]


def choose(reasons: dict[str, np.ndarray], embedding: np.ndarray, count: int, seed: int) -> list[tuple[int, str]]:
    """Returns places and the reason of each, no place twice. A reason that finds too few leaves its share to the
    diverse ones."""
    chosen: list[tuple[int, str]] = []
    free = np.ones(len(embedding), dtype=bool)

    def take(places, why):
        for place in places:
            chosen.append((int(place), why))
            free[place] = False

    # First, from all of them: what the other reasons leave over would be no even draw.
    drawn = min(len(free), round(SHARES[traffic.EVEN] * count))
    take(random.Random(seed).sample(range(len(free)), drawn), traffic.EVEN)
    for why, scores in sorted(reasons.items(), key=lambda item: -SHARES[item[0]]):
        wanted = round(SHARES[why] * count)
        ranked = [place for place in np.argsort(-scores, kind="stable") if free[place] and scores[place] > 0]
        pool = np.array(ranked[: POOL * wanted], dtype=int)
        if wanted and len(pool):
            take(pool[far_apart(embedding[pool], wanted, seed)], why)
    pool = np.flatnonzero(free)
    left = min(len(pool), count - len(chosen))
    if left > 0:
        taken = embedding[[place for place, _ in chosen]]
        take(pool[far_apart(embedding[pool], left, seed, taken)], "diverse")
    return chosen


def background_of(bundle: Path) -> np.ndarray | None:
    """Returns the embeddings of training prompts that a bundle carries, if it does."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    if not (bundle / BACKGROUND).exists():
        return None
    return np.fromfile(bundle / BACKGROUND, dtype="<f4").reshape(-1, manifest["embedding"]["width"])


def entry(rows: list[dict], scored: dict, reasons: dict, place: int, why: str) -> dict:
    row = rows[place]
    scores = {name: round(float(values[place]), 4) for name, values in reasons.items()}
    return {
        "text_hash": row["text_hash"],
        "decision_id": row["decision_id"],
        "day": exports.day_of(row["at"]),
        "language": row["language"],
        "messages": row["messages"],
        "reasons": [why],
        "scores": scores,
        "predicted_tier": LEVELS[calibrate.tier_of(scored["sufficiency"][place : place + 1])[0]],
        "predicted_intent": INTENTS[scored["intent"][place].argmax()],
        "sufficiency": [round(float(value), 4) for value in scored["sufficiency"][place]],
    }


def write(out: Path, entries: list[dict]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in entries)
    (out / "queue.jsonl").write_text(lines, encoding="utf-8")
    # With a byte order mark, by which spreadsheets know UTF-8.
    with (out / "queue.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, restval="")
        table.writeheader()
        for one in entries:
            texts = [f"{message['role']}: {message['content']}" for message in one["messages"]]
            last = max(n for n, message in enumerate(one["messages"]) if message["role"] == "user")
            table.writerow(
                {name: one[name] for name in ("text_hash", "decision_id", "day", "language")}
                | {"reasons": " ".join(one["reasons"]), "text": cell(one["messages"][last]["content"])}
                | {"earlier_turns": cell("\n".join(texts[:last]))}
            )


def cell(text: str) -> str:
    """Returns the text as a spreadsheet may show it: what begins like a formula is not run as one."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


if __name__ == "__main__":
    main()
