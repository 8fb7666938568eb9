"""Runs a bundle's graph with ONNX Runtime the way the router does: one prompt at a time, without padding."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer
from tqdm import tqdm

from encode import INPUT, encode, load_tokenizer

# int8 scores change with padding and batch mates, so prompts are never batched; sessions run side by side instead.
SESSIONS = 2


class Scorer:
    """A graph with its tokenizer; scores(messages) returns raw logits."""

    def __init__(self, graph: Path, tokenizer: Tokenizer, limits: dict = INPUT, threads: int = 1):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.tokenizer = tokenizer
        self.limits = limits

    def run(self, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the intent logits [15] and the sufficiency logits [3] of one sequence."""
        input_ids = np.array([ids], dtype=np.int64)
        inputs = {"input_ids": input_ids, "attention_mask": np.ones_like(input_ids)}
        intent, sufficiency = self.session.run(["intent_logits", "sufficiency_logits"], inputs)
        return intent[0], sufficiency[0]

    def scores(self, conversations: list[list[dict]], title: str = "score") -> tuple[np.ndarray, np.ndarray]:
        """Returns logits [n, 15] and [n, 3]. ONNX Runtime lets threads share a session and frees the GIL."""
        sequences = [encode(self.tokenizer, messages, self.limits).ids for messages in conversations]
        with ThreadPoolExecutor(SESSIONS) as pool:
            results = list(tqdm(pool.map(self.run, sequences), total=len(sequences), desc=title, mininterval=5))
        return np.array([row[0] for row in results]), np.array([row[1] for row in results])


def open_bundle(directory: Path) -> tuple[Scorer, dict]:
    manifest = json.loads((directory / "manifest.json").read_text())
    tokenizer = load_tokenizer(directory / "tokenizer.json")
    return Scorer(directory / "model.onnx", tokenizer, manifest["input"]), manifest
