"""Turns exports of the traffic log into labelled examples that train.py reads.

    python traffic.py EXPORT... --out runs/traffic                          what feedback and outcomes say
    python traffic.py EXPORT... --labels labels.jsonl --out runs/traffic    and what people labelled

Writes train.jsonl, dev.jsonl (early stopping), held_out.jsonl (measuring) and traffic.json (counts and provenance).
Held-out requests are later than all training ones and share no session and no text with them. Equal texts become one
example. Texts that measure the classifier elsewhere are left out, by hash (leaks.py). What the log replaced by a
placeholder stays one.
"""

import argparse
import csv
import hashlib
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import evidence
import exports
import leaks
from labels import INTENT_INDEX, LEVEL_INDEX, LEVELS

# The last part of the time is held out, and of the sessions before it some are for early stopping.
HELD_OUT_SHARE = 0.2
DEV_SHARE = 0.1
# Labelled requests that are read into memory, some 2 KB each.
REQUESTS_MAX = 500_000


@dataclass
class Request:
    """One decision that something is known about."""

    at: int
    group: str  # session, or the decision itself where there is none
    text: str  # hash
    messages: list[dict]
    language: str
    votes: list


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="directory for the labelled examples")
    arguments = parser.parse_args()
    summary = write(arguments, arguments.out)
    print(json.dumps(summary["counts"], indent=1))


def add_arguments(parser) -> None:
    add_source_arguments(parser)
    never = "further sets that must not be trained on"
    parser.add_argument("--never", type=Path, action="append", default=[], help=never)
    share = f"share of the time, the latest; default {HELD_OUT_SHARE}"
    parser.add_argument("--held-out-share", type=float, default=HELD_OUT_SHARE, help=share)


def add_source_arguments(parser) -> None:
    """Adds what every reader of exports asks for."""
    labels = "labels.jsonl, or a queue.csv that was filled in"
    level = "the bundle's level of a tier that has a name of its own"
    parser.add_argument("exports", type=Path, nargs="+", metavar="EXPORT", help="folders or files of traffic export")
    parser.add_argument("--labels", type=Path, action="append", default=[], help=labels)
    parser.add_argument("--level", action="append", default=[], metavar="TIER=LEVEL", help=level)


def write(arguments, out: Path, held_out_after: int = 0) -> dict:
    """Reads, labels, splits and writes; returns the content of traffic.json."""
    files = exports.files_of(arguments.exports)
    labels = read_labels(arguments.labels)
    requests, counts = read(files, level_names(arguments.level), leaks.never_trained(arguments.never), set(labels))
    counts["labels by people"] = len(labels)
    matched = attach(requests, labels)
    counts["labels without their request"] = len(labels) - matched
    if not requests:
        sys.exit(f"nothing to learn from in {len(files)} files: {told(counts)}")
    before, after, cut, dropped = split(requests, arguments.held_out_share, held_out_after)
    counts["later requests of earlier sessions or texts"] = dropped
    train, dev = [], []
    for example in merge(before):
        (dev if int(digest(example["group"]), 16) % 1000 < 1000 * DEV_SHARE else train).append(example)
    parts = {"train": train, "dev": dev, "held_out": merge(after)}
    if not train:
        sys.exit(f"no request before {exports.day_of(cut)} to train on: export a longer time")
    out.mkdir(parents=True, exist_ok=True)
    for name, examples in parts.items():
        text = "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in examples)
        (out / f"{name}.jsonl").write_text(text, encoding="utf-8")
    summary = {"provenance": provenance(parts, requests, cut, out), "counts": dict(counts)}
    (out / "traffic.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return summary


def level_names(written: list[str]) -> dict[str, str]:
    named = {}
    for one in written:
        tier, _, level = one.partition("=")
        if level not in LEVEL_INDEX:
            sys.exit(f"--level {one}: write TIER=LEVEL, where LEVEL is one of {', '.join(LEVELS)}")
        named[tier] = level
    return named


def read(files, named, never: set[str], labelled: set[str]) -> tuple[list[Request], Counter]:
    """Returns the requests that something is known about, each decision once, and counts of all that were read."""
    requests: dict[str, tuple[int, Request]] = {}
    counts: Counter = Counter()
    for row in exports.read(files):
        counts["requests read"] += 1
        messages = messages_of(row)
        if messages is None:
            counts["without text"] += 1
            continue
        if not never.isdisjoint(leaks.hashes_of(messages)):
            counts["texts that measure"] += 1
            continue
        votes, left_out = evidence.votes_of(row, evidence.levels_of(row["tiers"], named))
        counts.update(left_out)
        text = leaks.text_hash([message["content"] for message in messages])
        if not votes and text not in labelled:
            counts["nothing known"] += 1
            continue
        group = digest(f"{row['tenant']}\n{row['session'] or row['decision_id']}")
        request = Request(row["at"], group, text, messages, row["language"], votes)
        # Exports may overlap; the later one has heard more.
        heard = len(row["feedback"])
        if row["decision_id"] in requests:
            counts["exported twice"] += 1
        if row["decision_id"] not in requests or requests[row["decision_id"]][0] <= heard:
            requests[row["decision_id"]] = (heard, request)
        if len(requests) > REQUESTS_MAX:
            sys.exit(f"more than {REQUESTS_MAX} requests to learn from: export a shorter time, or fewer tenants")
    return [request for _, request in requests.values()], counts


def messages_of(row: dict) -> list[dict] | None:
    """Returns the conversation as it was logged; None where the log kept no text of the user."""
    messages = [{"role": m["role"], "content": m["content"]} for m in row["messages"] if m.get("content")]
    told = any(message["role"] == "user" and message["content"].strip() for message in messages)
    return messages if told else None


def read_labels(files: list[Path]) -> dict[str, evidence.Vote]:
    """Returns what people labelled, by hash of the text; of several labels of one text the last counts."""
    labels: dict[str, evidence.Vote | None] = {}
    for file in files:
        if not file.exists():
            sys.exit(f"{file}: no such file; label.py writes labels.jsonl, choose.py queue.csv")
        for place, row in label_rows(file):
            tier, intent = (row.get("right_tier") or "").strip(), (row.get("right_intent") or "").strip()
            if not row.get("text_hash"):
                sys.exit(f"{place}: lacks text_hash: no line of a queue or of its labels")
            if tier and tier not in LEVEL_INDEX:
                sys.exit(f"{place}: right_tier {tier!r} is not one of {', '.join(LEVELS)}")
            if intent and intent not in INTENT_INDEX:
                sys.exit(f"{place}: right_intent {intent!r} is not one of {', '.join(INTENT_INDEX)}")
            if not tier and not intent:
                # A skipped line, or a label taken back.
                if row.get("undone"):
                    labels.pop(row["text_hash"], None)
                continue
            level = LEVEL_INDEX.get(tier)
            labels[row["text_hash"]] = evidence.Vote(
                "label", level, level - 1 if level else None, INTENT_INDEX.get(intent), exact=level is not None
            )
    return labels


def label_rows(file: Path):
    if file.suffix == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for number, row in enumerate(csv.DictReader(lines), 2):
                yield f"{file}: row {number}", row
        return
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            yield f"{file}:{number}", json.loads(line)
        except json.JSONDecodeError as error:
            sys.exit(f"{file}:{number}: not JSON: {error}")


def attach(requests: list[Request], labels: dict) -> int:
    """Adds each label to the first request of its text; returns how many found one."""
    waiting = dict(labels)
    for request in requests:
        if request.text in waiting:
            request.votes = [*request.votes, waiting.pop(request.text)]
    return len(labels) - len(waiting)


def split(requests: list[Request], share: float, after: int = 0) -> tuple[list, list, int, int]:
    """Returns the requests up to a moment, those later of which neither session nor text had occurred, the moment,
    and how many later ones were dropped. What an earlier training has seen, up to `after`, is never held out."""
    times = sorted(request.at for request in requests)
    cut = max(times[min(len(times) - 1, int(len(times) * (1 - share)))] - 1, after)
    before = [request for request in requests if request.at <= cut]
    groups, texts = {request.group for request in before}, {request.text for request in before}
    later = [request for request in requests if request.at > cut]
    kept = [request for request in later if request.group not in groups and request.text not in texts]
    return before, kept, cut, len(later) - len(kept)


def merge(requests: list[Request]) -> list[dict]:
    """Returns one example for each text, by time of its first request; texts whose votes cancel out are left out."""
    by_text: dict[str, list[Request]] = {}
    for request in sorted(requests, key=lambda request: request.at):
        by_text.setdefault(request.text, []).append(request)
    examples = []
    for text, same in by_text.items():
        label = evidence.label_of([vote for request in same for vote in request.votes])
        if not any(label.level_weights) and label.intent is None:
            continue
        first = same[0]
        place = {"text_hash": text, "group": first.group, "at": first.at, "requests": len(same)}
        examples.append(place | {"language": first.language, "messages": first.messages} | vars(label))
    return examples


def provenance(parts: dict, requests: list[Request], cut: int, out: Path) -> dict:
    """Returns what the manifest says of the traffic: no text, no tenant, no session."""
    examples = [example for part in parts.values() for example in part]
    trained = parts["train"] + parts["dev"]
    return {
        "name": "traffic",
        "origin": "logged requests of the deployment that retrained it",
        "licence": "of that deployment; not for redistribution",
        "rows": len(trained),
        "rows_by_split": {name: len(part) for name, part in parts.items()},
        "requests": len(requests),
        "days": sorted({exports.day_of(request.at) for request in requests}),
        "trained_until_ms": cut,
        "kinds": dict(Counter(kind for example in examples for kind in example["kinds"]).most_common()),
        "tiers": dict(Counter(LEVELS[e["tier"]] for e in trained if e["tier"] is not None).most_common()),
        "level_weight": round(sum(sum(example["level_weights"]) for example in trained), 1),
        "contradictions": sum(example["contradictions"] for example in examples),
        "trust": evidence.TRUST,
        "verdict_share": evidence.VERDICT_SHARE,
        "sha256": hashlib.sha256(b"".join((out / f"{n}.jsonl").read_bytes() for n in ("train", "dev"))).hexdigest(),
    }


def told(counts: Counter) -> str:
    return plain_counts(counts) or "no rows"


def plain_counts(counts: dict) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
