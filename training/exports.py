"""Reads what `pointsman traffic export` wrote: Parquet in folders day=YYYY-MM-DD, or JSON lines. One row a request,
without the columns that training has no use for. Never changes an export.
"""

import datetime
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
from tqdm import tqdm

import json_lines

# Without these a row says nothing.
NEEDED = ("decision_id", "at", "tier", "tiers", "status", "messages", "attempts", "feedback")
# What else is read where it is there; exports of other versions may lack or add columns.
WANTED = (
    "kind", "tenant", "session", "language", "text_policy", "source", "served_tier", "signals", "bundle_version",
    "explored",
)  # fmt: skip
SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")
ROWS_A_BATCH = 2000


def files_of(paths: list[Path]) -> list[Path]:
    """Returns the files of the exports; names that begin with "_" or "." are not data, as for other readers."""
    found = []
    for path in paths:
        if not path.exists():
            sys.exit(f"{path}: no such export; `pointsman traffic export --out {path}` writes one")
        inside = [path] if path.is_file() else sorted(file for file in path.rglob("*") if is_data(file, path))
        if not inside:
            sys.exit(f"{path}: holds no *.parquet or *.jsonl: the export was empty, or of another format")
        found += inside
    return found


def is_data(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in file.relative_to(root).parts)
    return file.is_file() and not hidden and file.name.endswith(SUFFIXES)


def read(files: list[Path]) -> Iterator[dict]:
    """Yields every row with NEEDED and WANTED; `at` is milliseconds since 1970. Holds one batch at a time."""
    for file in tqdm(files, desc="read exports", unit="file", mininterval=5, file=sys.stdout):
        rows = read_parquet(file) if file.suffix == ".parquet" else read_lines(file)
        for place, row in rows:
            try:
                yield whole(row)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                sys.exit(f"{place}: {error}; export again, or leave this file out")


def read_parquet(file: Path) -> Iterator[tuple[str, dict]]:
    try:
        opened = pyarrow.parquet.ParquetFile(file)
        names = set(opened.schema_arrow.names)
        lacking = [name for name in NEEDED if name not in names]
        if lacking:
            sys.exit(f"{file}: lacks the columns {', '.join(lacking)}: no export of the traffic log")
        columns = [name for name in (*NEEDED, *WANTED) if name in names]
        for batch in opened.iter_batches(batch_size=ROWS_A_BATCH, columns=columns):
            for row in batch.to_pylist():
                yield str(file), row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        sys.exit(f"{file}: not a whole Parquet file ({str(error).splitlines()[0]}); export again, or leave it out")


def read_lines(file: Path) -> Iterator[tuple[str, dict]]:
    for place, row in json_lines.read(file, "export again, or leave this file out"):
        lacking = [name for name in NEEDED if not isinstance(row, dict) or name not in row]
        if lacking:
            sys.exit(f"{place}: lacks {', '.join(lacking)}: no line of an export of the traffic log")
        yield place, row


def whole(row: dict) -> dict:
    """Returns the row with every column of NEEDED and WANTED; raises ValueError where one cannot be read."""
    result = {name: row.get(name) for name in (*NEEDED, *WANTED)}
    result["at"] = milliseconds(row["at"])
    for name in ("messages", "attempts", "feedback", "signals"):
        result[name] = list(row.get(name) or [])
    for name in ("tenant", "session", "language"):
        result[name] = row.get(name) or ""
    if not row["tiers"]:
        raise ValueError(f"decision {row['decision_id']}: tiers is empty")
    result["tiers"] = list(row["tiers"])
    return result


def milliseconds(at) -> int:
    """Returns milliseconds since 1970 of a timestamp, an RFC 3339 text or a number of them."""
    if isinstance(at, int):
        return at
    if isinstance(at, str):
        at = datetime.datetime.fromisoformat(at)
    if not isinstance(at, datetime.datetime):
        raise ValueError(f"at is {at!r}, not a time")
    at = at if at.tzinfo else at.replace(tzinfo=datetime.UTC)
    return round(at.timestamp() * 1000)


def day_of(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).strftime("%Y-%m-%d")
