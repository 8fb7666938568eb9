"""Targets that other networks give: the probabilities of earlier runs, the teachers, and the embedding of the base."""

import sys
from pathlib import Path

import torch
from tqdm import tqdm

import batches
import model as network
from data import Example
from encode import encode, load_tokenizer

BATCH = 32


def teach(examples: list[Example], runs: list[Path], share: float, device) -> None:
    """Sets `teacher_intent` and moves `sufficiency` of the examples towards the mean probabilities of the runs."""
    answers = [probabilities(examples, run, device) for run in runs]
    for index, example in enumerate(examples):
        intents = [answer[index][0] for answer in answers]
        levels = [answer[index][1] for answer in answers]
        example.teacher_intent = mean(intents)
        mixed = zip(example.sufficiency, mean(levels), strict=True)
        example.sufficiency = [(1.0 - share) * own + share * taught for own, taught in mixed]


def keep_embeddings(examples: list[Example], base, tokenizer, device) -> None:
    """Sets `base_embedding` of the examples: that of the base before the training, on the unchanged prompt."""
    for example, (_, _, embedding) in zip(examples, outputs(examples, base, tokenizer, device), strict=True):
        example.base_embedding = embedding


def probabilities(examples: list[Example], run: Path, device) -> list[tuple[list[float], list[float]]]:
    classifier, tokenizer = network.load(run), load_tokenizer(run / "tokenizer.json")
    rows = outputs(examples, classifier, tokenizer, device)
    return [(intent.softmax(0).tolist(), sufficiency.sigmoid().tolist()) for intent, sufficiency, _ in rows]


@torch.no_grad()
def outputs(examples: list[Example], classifier, tokenizer, device) -> list[tuple]:
    """Returns intent logits, sufficiency logits and embedding of each example, as the network in use gives them."""
    classifier.to(device).eval()
    sequences = [encode(tokenizer, example.messages).ids for example in examples]
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    results: dict[int, tuple] = {}
    for start in tqdm(range(0, len(order), BATCH), desc="targets of another network", mininterval=5, file=sys.stdout):
        part = order[start : start + BATCH]
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            rows = classifier(*batches.pad([sequences[index] for index in part], device))
        results |= dict(zip(part, zip(*(row.float().cpu() for row in rows), strict=True), strict=True))
    return [results[index] for index in range(len(examples))]


def mean(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]
