"""Reads and checks the authored corpus: prompts with intent and tier, written for this project (rubric in
LABELING.md). Prints its counts; exits 1 with file:line for every problem.

    python corpus.py                check and count
    python corpus.py --full         also intent x tier for each language, and near duplicates within a split
    python corpus.py --agreement    also how far author and reviewer agree
    python corpus.py --split test   only print the rows of a split, as `pointsman eval` reads them
"""

import argparse
import itertools
import json
import re
import sys
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

from labels import INTENT_INDEX, INTENTS, LEVEL_INDEX, LEVELS

CORPUS = Path(__file__).parent / "corpus"
FIELDS = {"id", "messages", "intent", "tier", "language", "domain", "batch"}
# A row that a second reader has labelled keeps both labels; "intent" and "tier" are what was decided.
READINGS = ("author", "reviewer")
ROLES = {"system", "user", "assistant", "tool"}
# Early stopping reads dev, temperatures and thresholds calibration; test is only measured.
SPLITS = ("train", "dev", "calibration", "test")
HELD_OUT = SPLITS[1:]
# Trigrams in common over trigrams in either, from which two prompts count as near duplicates.
NEAR_DUPLICATE_MIN = 0.6
# Scripts that put no spaces between words: each sign counts as a word.
UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="directory of *.jsonl and splits.toml")
    parser.add_argument("--full", action="store_true", help="also tables by language, and near duplicates")
    parser.add_argument("--agreement", action="store_true", help="print Cohen's kappa of author and reviewer")
    parser.add_argument("--split", choices=SPLITS, help="print the rows of this split and nothing else")
    arguments = parser.parse_args()
    if arguments.split:
        for row in load(arguments.corpus)[arguments.split]:
            print(json.dumps({key: row[key] for key in sorted(FIELDS)}, ensure_ascii=False))
        return

    rows, problems = read(arguments.corpus)
    splits, split_problems = read_splits(arguments.corpus / "splits.toml", {row["batch"] for row in rows})
    problems += split_problems
    kept = [row for row in rows if row["id"] not in splits["exclude"]]
    duplicates, warnings = find_duplicates(kept, splits)
    problems += duplicates
    print_counts(kept, splits, arguments.full)
    if arguments.agreement:
        print_agreement(kept)
    for warning in warnings if arguments.full else []:
        print(f"warning: {warning}")
    if warnings and not arguments.full:
        print(f"\n{len(warnings)} near duplicates within a split, mostly contrast sets on one text; --full lists them")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


def load(directory: Path = CORPUS) -> dict[str, list[dict]]:
    """Returns the checked rows by split; exits with every problem when there is one."""
    rows, problems = read(directory)
    splits, split_problems = read_splits(directory / "splits.toml", {row["batch"] for row in rows})
    if problems or split_problems:
        sys.exit("\n".join(problems + split_problems))
    parts = {name: [] for name in SPLITS}
    for row in rows:
        if row["id"] not in splits["exclude"]:
            parts[split_of(row, splits)].append(row)
    return parts


def read(directory: Path) -> tuple[list[dict], list[str]]:
    rows, problems, seen = [], [], {}
    for path in sorted(directory.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), 1):
            place = f"{path.name}:{number}"
            row, found = check_line(line)
            problems += [f"{place}: {problem}" for problem in found]
            if found:
                continue
            if row["id"] in seen:
                problems.append(f"{place}: id {row['id']!r} is already at {seen[row['id']]}")
                continue
            seen[row["id"]] = place
            rows.append(row | {"place": place})
    if not rows:
        problems.append(f"{directory}: no rows")
    return rows, problems


def check_line(line: str) -> tuple[dict, list[str]]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return {}, [f"not JSON: {error}"]
    if not isinstance(row, dict):
        return {}, ["not an object"]
    problems = [f"lacks {name!r}" for name in sorted(FIELDS - row.keys())]
    problems += [f"unknown key {name!r}" for name in sorted(row.keys() - FIELDS - set(READINGS))]
    if problems:
        return row, problems
    for name in sorted(FIELDS - {"messages"}):
        if not isinstance(row[name], str) or not row[name].strip():
            problems.append(f"{name} is not a non-empty string")
    if problems:
        return row, problems
    if row["intent"] not in INTENT_INDEX:
        problems.append(f"intent {row['intent']!r} is not one of {', '.join(INTENTS)}")
    if row["tier"] not in LEVEL_INDEX:
        problems.append(f"tier {row['tier']!r} is not one of {', '.join(LEVELS)}")
    problems += [f"{name} is not an intent and a tier" for name in READINGS if not is_reading(row.get(name))]
    return row, problems + check_messages(row["messages"])


def is_reading(labels) -> bool:
    if labels is None:
        return True
    if not isinstance(labels, dict) or labels.keys() != {"intent", "tier"}:
        return False
    return labels["intent"] in INTENT_INDEX and labels["tier"] in LEVEL_INDEX


def check_messages(messages) -> list[str]:
    if not isinstance(messages, list) or not messages:
        return ["messages is not a non-empty list"]
    problems = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            problems.append(f"messages[{index}] is not an object of role and content")
        elif message["role"] not in ROLES:
            problems.append(f"messages[{index}].role {message['role']!r} is not one of {', '.join(sorted(ROLES))}")
        elif not isinstance(message["content"], str) or not message["content"].strip():
            problems.append(f"messages[{index}].content is empty")
    if not problems and not any(message["role"] == "user" for message in messages):
        problems.append("messages holds no user message")
    return problems


def read_splits(path: Path, batches: set[str]) -> tuple[dict, list[str]]:
    """Returns the batches held out for each split and the ids to leave out; whatever is not named is train."""
    names = (*HELD_OUT, "exclude")
    if not path.exists():
        return {name: set() for name in names}, [f"{path.name}: missing"]
    written = tomllib.loads(path.read_text())
    splits = {name: set(written.get(name, [])) for name in names}
    problems = [f"{path.name}: unknown key {name!r}" for name in sorted(written.keys() - set(names))]
    for one, other in itertools.combinations(HELD_OUT, 2):
        problems += [f"{path.name}: batch {b!r} is in {one} and {other}" for b in sorted(splits[one] & splits[other])]
    held_out = set().union(*(splits[name] for name in HELD_OUT))
    problems += [f"{path.name}: no batch {b!r}" for b in sorted(held_out - batches) if batches]
    return splits, problems


def split_of(row: dict, splits: dict) -> str:
    return next((name for name in HELD_OUT if row["batch"] in splits.get(name, ())), "train")


def find_duplicates(rows: list[dict], splits: dict) -> tuple[list[str], list[str]]:
    """Returns errors (exact duplicates, near duplicates across splits) and warnings (near ones within a split)."""
    errors, warnings, exact = [], [], {}
    postings: dict[tuple, list[int]] = defaultdict(list)
    shingles = []
    for index, row in enumerate(rows):
        words = WORD.findall(" ".join(m["content"] for m in row["messages"]).lower())
        key = tuple(words) or tuple(m["content"] for m in row["messages"])
        if key in exact:
            errors.append(f"{row['place']}: same text as {rows[exact[key]]['place']}")
            shingles.append(set())
            continue
        exact[key] = index
        mine = {tuple(words[i : i + 3]) for i in range(len(words) - 2)}
        common = Counter(other for shingle in mine for other in postings[shingle])
        for other, count in common.items():
            if count / (len(mine) + len(shingles[other]) - count) < NEAR_DUPLICATE_MIN:
                continue
            text = f"{row['place']}: nearly the text of {rows[other]['place']}"
            if split_of(row, splits) != split_of(rows[other], splits):
                errors.append(text + ", which is in another split")
            else:
                warnings.append(text)
        for shingle in mine:
            postings[shingle].append(index)
        shingles.append(mine)
    return errors, warnings


def print_counts(rows: list[dict], splits: dict, full: bool) -> None:
    by_split = Counter(split_of(row, splits) for row in rows)
    print(f"{len(rows)} rows: " + ", ".join(f"{name} {by_split[name]}" for name in SPLITS))
    print_table("intent", rows, "intent", INTENTS)
    print_table("language", rows, "language", sorted({row["language"] for row in rows}))
    for language in sorted({row["language"] for row in rows}) if full else []:
        print_table(f"{language}: intent", [row for row in rows if row["language"] == language], "intent", INTENTS)


def print_agreement(rows: list[dict]) -> None:
    """Prints Cohen's kappa of the intents and the quadratically weighted kappa (Cohen 1968) of the tiers."""
    read_twice = [row for row in rows if all(name in row for name in READINGS)]
    if not read_twice:
        print("\nno row has two readings")
        return
    intents = [tuple(INTENT_INDEX[row[name]["intent"]] for name in READINGS) for row in read_twice]
    tiers = [tuple(LEVEL_INDEX[row[name]["tier"]] for name in READINGS) for row in read_twice]
    same = [sum(a == b for a, b in pairs) / len(pairs) for pairs in (intents, tiers)]
    print(f"\nauthor and reviewer on {len(read_twice)} rows")
    print(f"intent: same {same[0]:.3f}, kappa {kappa(intents, lambda a, b: float(a != b)):.3f}")
    print(f"tier: same {same[1]:.3f}, quadratically weighted kappa {kappa(tiers, lambda a, b: (a - b) ** 2):.3f}")


def kappa(pairs: list[tuple], cost) -> float:
    """Returns 1 - observed cost / cost expected by chance from both readers' frequencies."""
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    observed = sum(cost(a, b) for a, b in pairs) / len(pairs)
    chance = sum(n * m * cost(a, b) for a, n in first.items() for b, m in second.items()) / len(pairs) ** 2
    return 1.0 - observed / chance if chance else 1.0


def print_table(title: str, rows: list[dict], field: str, values) -> None:
    counts = Counter((row[field], row["tier"]) for row in rows)
    print(f"\n{title:<20}" + "".join(f"{level:>10}" for level in LEVELS) + f"{'all':>10}")
    for value in values:
        numbers = [counts[value, level] for level in LEVELS]
        print(f"{value:<20}" + "".join(f"{number:>10}" for number in [*numbers, sum(numbers)]))


if __name__ == "__main__":
    main()
