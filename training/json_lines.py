"""Reads JSON lines, plain or gzip. A file that breaks off and a line that cannot be read are named and end the
program."""

import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path


def read(file: Path, advice: str) -> Iterator[tuple[str, object]]:
    """Yields the place, as "file:line", and the value of every line that is not blank. Lines end at line feeds alone: a
    text may hold other separators."""
    number = 0
    try:
        # Bytes, as a text file decodes ahead and could not say which line it was.
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                place = f"{file}:{number}"
                try:
                    value = json.loads(line.decode("utf-8")) if line.strip() else None
                except UnicodeDecodeError as error:
                    sys.exit(f"{place}: not UTF-8: {error.reason} at byte {error.start}; {advice}")
                except (json.JSONDecodeError, RecursionError) as error:
                    sys.exit(f"{place}: not JSON: {error}; {advice}")
                if line.strip():
                    yield place, value
    except (EOFError, OSError, zlib.error) as error:
        sys.exit(f"{file}:{number + 1}: breaks off or cannot be read ({error}); {advice}")
