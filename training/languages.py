"""Which languages a bundle reads well enough to be believed."""

from collections import Counter

import numpy as np

# A language is judged from this many prompts on; others count as not read.
ROWS_MIN = 20
# How much lower than in English the tier accuracy may be.
WORSE_MAX = 0.10


def languages_read(languages: list[str], tiers: np.ndarray, predicted: np.ndarray) -> dict:
    """Returns the manifest's "languages": "read", ISO 639-1 codes, and the figures behind them."""
    right = predicted == tiers
    counts = Counter(languages)
    figures = {}
    for language, rows in counts.most_common():
        mine = np.array([other == language for other in languages])
        figures[language] = {"rows": rows, "tier_accuracy": round(float(right[mine].mean()), 4)}
    english = figures.get("en", {"tier_accuracy": 0.0})["tier_accuracy"]
    read = sorted(
        language
        for language, figure in figures.items()
        if language == "en" or (figure["rows"] >= ROWS_MIN and figure["tier_accuracy"] >= english - WORSE_MAX)
    )
    return {"read": read, "rows_min": ROWS_MIN, "worse_max": WORSE_MAX, "figures": figures}
