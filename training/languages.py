"""Which languages a bundle reads well enough to be believed: those whose tiers were hardly worse than in English on
held-out prompts. Languages of few prompts are judged together with the others of their kind of script."""

from collections import Counter

import numpy as np

# A language, or a group of them, is judged from this many prompts on; below it counts as not read.
ROWS_MIN = 20
# How much lower than in English the tier accuracy may be.
WORSE_MAX = 0.10
# In the order of being asked; a language that no group names stands alone.
GROUPS = {
    "latin": ("cs", "es", "fi", "fr", "de", "id", "it", "nl", "pl", "pt", "ro", "sv", "sw", "tr", "vi"),
    "cyrillic": ("ru", "uk"),
    "chinese and japanese": ("ja", "zh"),
}


def languages_read(languages: list[str], tiers: np.ndarray, predicted: np.ndarray) -> dict:
    """Returns the manifest's "languages": "read", ISO 639-1 codes, and the figures behind them."""
    if not languages:
        return {"read": []}
    right = predicted == tiers
    figures = {name: figure(right, languages, [name]) for name, _ in Counter(languages).most_common()}
    few = {name for name in figures if figures[name]["rows"] < ROWS_MIN}
    groups = {name: [code for code in codes if code in few] for name, codes in GROUPS.items()}
    together = {name: figure(right, languages, codes) for name, codes in groups.items() if codes}

    english = figures.get("en", {"tier_accuracy": 0.0})["tier_accuracy"]
    read = {"en"} | {name for name in figures if is_read(figures[name], english)}
    for name, codes in groups.items():
        if codes and is_read(together[name], english):
            read |= set(codes)
    return {
        "read": sorted(read),
        "rows_min": ROWS_MIN,
        "worse_max": WORSE_MAX,
        "figures": figures,
        "few_together": together,
    }


def figure(right: np.ndarray, languages: list[str], codes: list[str]) -> dict:
    mine = right[np.isin(languages, codes)]
    accuracy = float(mine.mean())
    error = (accuracy * (1 - accuracy) / len(mine)) ** 0.5
    return {"rows": len(mine), "tier_accuracy": round(accuracy, 4), "standard_error": round(error, 4)}


def is_read(one: dict, english: float) -> bool:
    return one["rows"] >= ROWS_MIN and one["tier_accuracy"] >= english - WORSE_MAX
