"""Draws the examples of an epoch and packs them into batches of like lengths."""

import random

import torch

import augment
import data
from encode import INPUT, encode


def draw_epoch(pools: dict, settings: dict, epoch: int) -> list[tuple[data.Example, dict]]:
    """Returns the examples of an epoch: corpus and traffic several times, of public sets draws balanced by intent."""
    rng = random.Random(f"draw {settings['seed']} {epoch}")
    drawn = []
    for name, rule in settings["mix"].items():
        pool = pools[name]
        if "times" in rule:
            often = pool * rule["times"]
            if len(often) > rule.get("rows_max", len(often)):
                often = rng.sample(often, rule["rows_max"])
            drawn += [(example, rule) for example in often]
            continue
        counts: dict = {}
        for example in pool:
            counts[example.intent] = counts.get(example.intent, 0) + 1
        weights = [counts[example.intent] ** -0.5 for example in pool]
        drawn += [(example, rule) for example in rng.choices(pool, weights, k=rule["rows"])]
    rng.shuffle(drawn)
    return drawn


def make_batches(pools: dict, tokenizer, settings: dict, epoch: int) -> list[list[tuple]]:
    """Returns batches of (token ids, example, rule of its source); the same for the same seed and epoch."""
    rng = random.Random(f"batch {settings['seed']} {epoch}")
    rows = []
    public_limits = INPUT | {"tokens_max": settings["public_tokens_max"]}
    for example, rule in draw_epoch(pools, settings, epoch):
        limits = INPUT if example.source in data.OWN_SOURCES else public_limits
        rows.append((encode(tokenizer, augment.augment(example, pools["corpus"], rng), limits).ids, example, rule))
    batches, size = [], settings["batch"]
    for start in range(0, len(rows), size * settings["bucket_batches"]):
        bucket = sorted(rows[start : start + size * settings["bucket_batches"]], key=lambda row: len(row[0]))
        batches += [bucket[i : i + size] for i in range(0, len(bucket), size)]
    rng.shuffle(batches)
    return batches


def pad(sequences: list[list[int]], device) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ids and attention mask, int64 [batch, longest sequence]."""
    width = max(map(len, sequences))
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for index, sequence in enumerate(sequences):
        ids[index, : len(sequence)] = torch.tensor(sequence)
        mask[index, : len(sequence)] = 1
    return ids.to(device), mask.to(device)
