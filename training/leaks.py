"""Keeps texts that measure a classifier out of what it is trained on: the held-out splits of the corpus, and sets that
must never be trained on, which are known by the hashes of their texts alone.

    python leaks.py SET... --out never.hashes       hashes the texts of gzip or plain JSON lines, or folders of them

Two texts are the same when their words are, in whatever case and punctuation. never.hashes holds the hashes of the
sets in README.md that only measure: eight bytes a text, sorted.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import corpus
import json_lines

NEVER = Path(__file__).parent / "never.hashes"
BYTES = 8
# Where the sets keep their texts.
TEXT_FIELDS = ("prompt", "original", "question", "instruction")
# A last message of fewer words ("yes, do it") is only a leak together with the turns before it.
WORDS_ALONE_MIN = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+", help="*.jsonl or *.jsonl.gz, or folders of them")
    parser.add_argument("--out", type=Path, default=NEVER, help="file of hashes")
    arguments = parser.parse_args()
    hashes = set().union(*(hashes_of_set(path) for path in arguments.sets))
    arguments.out.write_bytes(b"".join(bytes.fromhex(one) for one in sorted(hashes)))
    print(f"{arguments.out}: {len(hashes)} texts")


def text_hash(texts: list[str]) -> str:
    """Returns 16 hexadecimal digits that are the same for the same words."""
    whole = "\n".join(texts)
    words = corpus.WORD.findall(whole.lower())
    return hashlib.sha256((" ".join(words) or whole).encode()).hexdigest()[: 2 * BYTES]


def hashes_of(messages: list[dict]) -> list[str]:
    """Returns the hash of the conversation, and that of its last user message when that says enough by itself."""
    hashes = [text_hash([message["content"] for message in messages])]
    last = next((message["content"] for message in reversed(messages) if message["role"] == "user"), "")
    if len(corpus.WORD.findall(last)) >= WORDS_ALONE_MIN:
        hashes.append(text_hash([last]))
    return hashes


def never_trained(more: list[Path]) -> set[str]:
    """Returns the hashes of the corpus splits that are held out, of never.hashes, and of further sets."""
    hashes = set(read(NEVER)) if NEVER.exists() else set()
    for name, rows in corpus.load().items():
        if name in corpus.HELD_OUT:
            hashes.update(*(hashes_of(row["messages"]) for row in rows))
    return hashes.union(*(hashes_of_set(path) for path in more))


def read(path: Path) -> list[str]:
    content = path.read_bytes()
    if len(content) % BYTES:
        sys.exit(f"{path}: {len(content)} bytes are no whole number of hashes; make it again")
    return [content[start : start + BYTES].hex() for start in range(0, len(content), BYTES)]


def hashes_of_set(path: Path) -> set[str]:
    if path.suffix == ".hashes":
        return set(read(path))
    files = sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")]) if path.is_dir() else [path]
    if not files or not files[0].exists():
        sys.exit(f"{path}: no *.jsonl or *.jsonl.gz there")
    hashes = set()
    for file in files:
        for place, row in json_lines.read(file, "mend or remove it"):
            if not isinstance(row, dict):
                sys.exit(f"{place}: not an object; mend or remove it")
            hashes |= {text_hash([row[name]]) for name in TEXT_FIELDS if isinstance(row.get(name), str)}
            if isinstance(row.get("messages"), list):
                hashes.update(hashes_of(row["messages"]))
    return hashes


if __name__ == "__main__":
    main()
