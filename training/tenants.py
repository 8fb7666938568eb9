"""Holds what one tenant says within bounds, so that none decides alone what all get; pure. Of a single tenant nothing
is cut: there is nobody else to protect."""

import numpy as np

# The most of the weight that one tenant has beside what all others said: a third is half as much as they, so two that
# lose by a bundle outweigh one that gains. Where there are fewer than three, an equal share.
SHARE_MAX = 1 / 3
# The weight that a tenant always has in the training, in texts that a reviewer judged: little beside the corpus, and a
# second tenant of ten requests must not take nearly everything from the first.
TRAINED_FREE = 500.0


def allowed(totals: np.ndarray, share: float, free: float) -> np.ndarray:
    """Returns the weight that each tenant may have, given what each has: `free`, or `share` beside what all others
    have, whichever is more."""
    count = np.count_nonzero(totals)
    share = max(share, 1.0 / max(1, count))
    if share >= 1.0:
        return totals
    others = totals.sum() - totals
    return np.minimum(totals, np.maximum(free, others * share / (1.0 - share)))


def weighed(weights: np.ndarray, tenants: np.ndarray, share: float, rows_free: int) -> np.ndarray:
    """Returns the weights with those of too heavy tenants made smaller; the rows of a tenant keep their proportions.
    The weight of `rows_free` of the heaviest rows is always allowed."""
    if not weights.any():
        return weights
    names, place = np.unique(tenants, return_inverse=True)
    totals = np.bincount(place, weights, len(names))
    factors = allowed(totals, share, rows_free * weights.max()) / np.maximum(totals, 1e-9)
    return weights * factors[place]


def drawn(examples: list[dict], share: float, free: float) -> tuple[list[dict], int]:
    """Returns the examples without those beyond a tenant's weight, and how many these are: one for what each tenant
    says of a text. What is kept of a tenant is an even draw by the hash of the text. What the operator's own people
    labelled is no tenant's, and is always kept."""
    own = [example for example in examples if "label" in example["kinds"]]
    said = [example for example in examples if "label" not in example["kinds"]]
    totals: dict[int, float] = {}
    for example in said:
        totals[example["tenant"]] = totals.get(example["tenant"], 0.0) + weight_of(example)
    left = dict(zip(totals, allowed(np.array(list(totals.values())), share, free).tolist(), strict=True))
    kept = {(example["text_hash"], example["tenant"]) for example in own}
    for example in sorted(said, key=lambda example: example["text_hash"]):
        left[example["tenant"]] -= weight_of(example)
        # Sums of rounded weights: a tenant that is not cut must not lose a row to the last bit.
        if left[example["tenant"]] > -1e-6:
            kept.add((example["text_hash"], example["tenant"]))
    found = [example for example in examples if (example["text_hash"], example["tenant"]) in kept]
    return found, len(examples) - len(found)


def weight_of(example: dict) -> float:
    """Returns 1 for a text of which everything was said once by a reviewer, as levels or as intent."""
    return max(sum(example["level_weights"]) / len(example["level_weights"]), example["intent_weight"])
