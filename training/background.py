"""Embeds prompts of ordinary traffic: the background that intents by example are calibrated against.

    python background.py --bundle ../onnx/0.2.0            adds background.f32 to a bundle and names it in its manifest

The router takes the similarity that 1 % of these prompts reach for an operator's examples as the threshold of their
intent. So the rows should be what a deployment sees: all kinds of tasks, all languages, none chosen for its topic.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from data import Example, corpus_examples, sha256
from encode import encode
from score import SESSIONS, Scorer, open_bundle

FILE = "background.f32"
# Enough that six rows lie above the threshold of an intent that may wrongly claim 1 %; 0.9 MB at 384 numbers a row.
ROWS = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="directory with manifest.json and model.onnx")
    arguments = parser.parse_args()
    scorer, manifest = open_bundle(arguments.bundle)
    path = arguments.bundle / FILE
    manifest["embedding"] = write(scorer, corpus_examples()["train"], path)
    manifest["files"][FILE] = {"sha256": sha256(path), "bytes": path.stat().st_size}
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    (arguments.bundle / "manifest.json").write_text(text + "\n", encoding="utf-8")
    print(f"{path}: {manifest['embedding']['background']['rows']} rows")


def write(scorer: Scorer, examples: list[Example], path: Path) -> dict:
    """Writes the embeddings, little-endian float32 [rows, width]; returns the manifest's "embedding"."""
    rows = embed(scorer, spread(examples, ROWS)).astype("<f4")
    norms = np.linalg.norm(rows, axis=1)
    if not np.all(np.abs(norms - 1.0) < 1e-3):
        raise ValueError(f"embeddings have lengths from {norms.min():.3f} to {norms.max():.3f}, 1 expected")
    path.write_bytes(rows.tobytes())
    return {"width": rows.shape[1], "background": {"rows": len(rows)}}


def spread(examples: list, count: int) -> list:
    """Returns every k-th example: the corpus is ordered by author batch, so all topics and languages stay mixed."""
    count = min(count, len(examples))
    return [examples[i * len(examples) // count] for i in range(count)]


def embed(scorer: Scorer, examples: list[Example]) -> np.ndarray:
    """Returns the embeddings [n, width], one prompt at a time as the router does."""

    def one(example: Example) -> np.ndarray:
        ids = np.array([encode(scorer.tokenizer, example.messages, scorer.limits).ids], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        return scorer.session.run(["embedding"], inputs)[0][0]

    with ThreadPoolExecutor(SESSIONS) as pool:
        return np.array(list(pool.map(one, examples)))


if __name__ == "__main__":
    main()
