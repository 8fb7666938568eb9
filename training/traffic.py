"""Turns exports of the traffic log into labelled examples that train.py reads.

    python traffic.py EXPORT... --out runs/traffic                          what feedback and outcomes say
    python traffic.py EXPORT... --labels labels.jsonl --out runs/traffic    and what people labelled

Writes train.jsonl, dev.jsonl (early stopping), held_out.jsonl (measuring) and traffic.json (counts and provenance).
Held-out requests are later than all training ones and share no session and no text with them, whatever the system
message. Equal texts become one example. One tenant has only so much weight (tenants.py). Labels of requests that were
chosen for what a bundle says of them teach and do not measure; while their request is held out they wait. Texts that
measure the classifier elsewhere are left out, by hash (leaks.py). What the log replaced by a placeholder stays one.
"""

import argparse
import csv
import hashlib
import heapq
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import evidence
import exports
import json_lines
import leaks
import tenants
from labels import INTENT_INDEX, LEVEL_INDEX, LEVELS

# The last part of the time is held out, and of the sessions before it some are for early stopping.
HELD_OUT_SHARE = 0.2
DEV_SHARE = 0.1
# Requests that are kept in memory, some 2 KB each: those of which somebody or a check said something, and an even draw
# of those that were only answered. An epoch of the training sees some ten thousand rows.
REQUESTS_MAX = 500_000
ACCEPTED_MAX = 200_000
# The reason for which choose.py draws evenly; all others look at what a bundle says.
EVEN = "random"


@dataclass
class Request:
    """One decision that something is known about."""

    at: int
    group: str  # session, or the decision itself where there is none
    tenant: str  # hash; in memory only
    text: str  # hash
    same: frozenset  # hashes by which another request counts as the same text
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
    most = "the most weight of one tenant among all, 1: no bound; default a third, or an equal share of two"
    parser.add_argument("--tenant-share", type=share_of_one, default=tenants.SHARE_MAX, help=most)


def share_of_one(text: str) -> float:
    share = float(text)
    if not 0.0 < share <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return share


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
    only_teaching = sum(not label.measures for label in labels.values())
    counts["of these only teaching: chosen for what a bundle says, or no reason noted"] = only_teaching
    matched = attach(requests, labels)
    counts["labels without their request"] = len(labels) - matched
    if not requests:
        sys.exit(f"nothing to learn from in {len(files)} files: {told(counts)}")
    before, after, cut, dropped = split(requests, arguments.held_out_share, held_out_after)
    counts["later requests of earlier sessions or texts"] = len(dropped)
    counts["labels held out and not used"] = waiting_labels(after, dropped)
    numbers = {tenant: number for number, tenant in enumerate(dict.fromkeys(request.tenant for request in requests))}
    within, beyond = within_share(before, numbers, arguments.tenant_share)
    counts["texts beyond a tenant's share"] = beyond
    train, dev = [], []
    for example in merge(within, numbers):
        (dev if int(digest(example["group"]), 16) % 1000 < 1000 * DEV_SHARE else train).append(example)
    for request in after:
        request.votes = [vote for vote in request.votes if vote.measures]
    parts = {"train": train, "dev": dev, "held_out": merge(after, numbers)}
    if not train:
        sys.exit(f"no request before {exports.day_of(cut)} to train on: export a longer time")
    out.mkdir(parents=True, exist_ok=True)
    for name, examples in parts.items():
        text = "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in examples)
        (out / f"{name}.jsonl").write_text(text, encoding="utf-8")
    summary = {"provenance": provenance(parts, requests, cut, out), "counts": dict(counts)}
    summary["provenance"]["tenant_share_max"] = round(arguments.tenant_share, 4)
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
    """Returns the requests that something is known about, each decision once, and counts of all that were read. Of
    those that were only answered an even draw is kept: the ACCEPTED_MAX with the least hash of their id, the same in
    whatever order and however often they are read (bottom-k sampling, Cohen and Kaplan 2007). One of which another
    export has heard more keeps its place in the draw, as nobody knows any more who would have had it instead."""
    kept: dict[str, tuple[tuple, Request]] = {}
    accepted: dict[str, tuple[tuple, Request]] = {}
    # The ids in the draw, also as a heap of which the first is the one to go.
    drawn: set[str] = set()
    last: list[tuple[int, str]] = []
    counts: Counter = Counter()
    for row in exports.read(files):
        counts["requests read"] += 1
        request = request_of(row, named, never, labelled, counts)
        if request is None:
            continue
        decision, heard = row["decision_id"], (len(row["feedback"]), len(row["signals"]))
        only_accepted = request.text not in labelled and all(vote.kind == "accepted" for vote in request.votes)
        if only_accepted and decision not in drawn:
            drawn.add(decision)
            heapq.heappush(last, (-int(digest(decision), 16), decision))
            if len(drawn) > ACCEPTED_MAX:
                _, gone = heapq.heappop(last)
                drawn.remove(gone)
                accepted.pop(gone, None)
                # Rows and not requests: to know one that is read again it would have to be remembered.
                counts["rows of answered requests beyond an even draw"] += 1
        known = kept.get(decision) or accepted.get(decision)
        if known:
            counts["exported twice"] += 1
        # Exports may overlap; the later one has heard more.
        if known and known[0] > heard:
            continue
        if decision in kept or not only_accepted:
            kept[decision] = (heard, request)
            accepted.pop(decision, None)
            if len(kept) > REQUESTS_MAX:
                sys.exit(f"more than {REQUESTS_MAX} requests to learn from: export a shorter time, or fewer tenants")
        elif decision in drawn:
            accepted[decision] = (heard, request)
    return [request for _, request in (*kept.values(), *accepted.values())], counts


def request_of(row: dict, named, never: set[str], labelled: set[str], counts: Counter) -> Request | None:
    """Returns what is known of a row of an export; None, and why in the counts, where there is nothing to learn."""
    messages = messages_of(row)
    if messages is None:
        counts["without text"] += 1
        return None
    same = leaks.hashes_of(messages)
    if not never.isdisjoint(same):
        counts["texts that measure"] += 1
        return None
    votes, left_out = evidence.votes_of(row, evidence.levels_of(row["tiers"], named))
    counts.update(left_out)
    text = leaks.text_hash([message["content"] for message in messages])
    if not votes and text not in labelled:
        counts["nothing known"] += 1
        return None
    group = digest(f"{row['tenant']}\n{row['session'] or row['decision_id']}")
    asked = [message["content"] for message in messages if message["role"] != "system"]
    hashes = frozenset([*same, leaks.text_hash(asked)])
    return Request(row["at"], group, digest(row["tenant"]), text, hashes, messages, row["language"], votes)


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
                "label", level, level - 1 if level else None, INTENT_INDEX.get(intent), exact=level is not None,
                measures=EVEN in reasons_of(row),
            )  # fmt: skip
    return labels


def reasons_of(row: dict) -> list[str]:
    """Returns why choose.py chose a request; nothing where the label does not say: such a label only teaches."""
    reasons = row.get("reasons") or []
    return reasons.split() if isinstance(reasons, str) else [reason for reason in reasons if isinstance(reason, str)]


def label_rows(file: Path):
    if file.suffix == ".csv":
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                for number, row in enumerate(csv.DictReader(lines), 2):
                    yield f"{file}: row {number}", row
        except UnicodeDecodeError as error:
            sys.exit(f"{file}: not UTF-8: {error.reason}; save it from the spreadsheet as CSV UTF-8")
        except csv.Error as error:
            sys.exit(f"{file}: not a table: {error}; save it from the spreadsheet as CSV UTF-8")
        return
    for place, row in json_lines.read(file, "mend or remove this line"):
        if not isinstance(row, dict):
            sys.exit(f"{place}: not an object: no line of a queue or of its labels")
        yield place, row


def attach(requests: list[Request], labels: dict) -> int:
    """Adds each label to the earliest request of its text; returns how many found one."""
    waiting = dict(labels)
    for request in sorted(requests, key=lambda request: request.at):
        if request.text in waiting:
            request.votes = [*request.votes, waiting.pop(request.text)]
    return len(labels) - len(waiting)


def split(requests: list[Request], share: float, after: int = 0) -> tuple[list, list, int, list]:
    """Returns the requests up to a moment, those later of which neither session nor text had occurred, the moment,
    and the later ones that are neither. What an earlier training has seen, up to `after`, is never held out."""
    times = sorted(request.at for request in requests)
    cut = max(times[min(len(times) - 1, int(len(times) * (1 - share)))] - 1, after)
    before = [request for request in requests if request.at <= cut]
    groups = {request.group for request in before}
    texts = set().union(*(request.same for request in before))
    later = [request for request in requests if request.at > cut]
    kept, dropped = [], []
    for request in later:
        (kept if request.group not in groups and texts.isdisjoint(request.same) else dropped).append(request)
    return before, kept, cut, dropped


def waiting_labels(after: list[Request], dropped: list[Request]) -> int:
    """Returns how many labels neither teach nor measure this time. They are of requests later than the moment of the
    split, and teach when a later training's has passed them. Taught at once they would be trained on beyond the moment
    up to which a bundle says it has seen, and the rest that measures would lack what the bundle is unsure of."""
    labels = [vote for request in dropped for vote in request.votes if vote.kind == "label"]
    labels += [vote for request in after for vote in request.votes if vote.kind == "label" and not vote.measures]
    return len(labels)


def within_share(requests: list[Request], numbers: dict[str, int], share: float) -> tuple[list[Request], int]:
    """Returns the requests without those by which a tenant would have more than its share, and of how many texts these
    are. Of a text that several tenants sent, each answers for what it says itself."""
    votes: dict[tuple[str, int], list] = {}
    for request in requests:
        votes.setdefault((request.text, numbers[request.tenant]), []).extend(request.votes)
    said = [
        {"text_hash": text, "tenant": tenant} | vars(evidence.label_of(spoken))
        for (text, tenant), spoken in votes.items()
    ]
    drawn, beyond = tenants.drawn(said, share, tenants.TRAINED_FREE)
    kept = {(one["text_hash"], one["tenant"]) for one in drawn}
    return [request for request in requests if (request.text, numbers[request.tenant]) in kept], beyond


def merge(requests: list[Request], numbers: dict[str, int]) -> list[dict]:
    """Returns one example for each text, by time of its first request, with the tenant that says most of it; texts
    whose votes cancel out are left out."""
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
        place["tenant"] = numbers[tenant_of(same)]
        examples.append(place | {"language": first.language, "messages": first.messages} | vars(label))
    return examples


def tenant_of(same: list[Request]) -> str:
    """Returns the tenant whose word on a text weighs most, the earliest of equals: the one that it counts against."""
    votes: dict[str, list] = {}
    for request in same:
        votes.setdefault(request.tenant, []).extend(request.votes)
    if len(votes) == 1:
        return same[0].tenant
    return max(votes, key=lambda tenant: tenants.weight_of(vars(evidence.label_of(votes[tenant]))))


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
