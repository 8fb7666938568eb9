"""What feedback and outcomes of a request say about the level it needs; pure. The classifier's levels are ordered, so
partial knowledge is used as it is: "tier t was enough" speaks of t and the levels above it, "t was not" of t and those
below. A level of which nobody said anything gets no weight, and no label is made up.
"""

from collections import Counter
from dataclasses import dataclass, field

from labels import INTENT_INDEX, LEVEL_INDEX, LEVELS

# What one judgement of each kind counts, and the most that all of one kind count together for one text. People who
# label come before those who review, who come before users, programs and outcomes: many weaker ones do not outvote one
# stronger. `weight` of human, user, automatic, weak and accepted is that of the router's [learning.weights].
TRUST = {
    "label": {"weight": 1.2, "most": 3.6},
    "human": {"weight": 1.0, "most": 1.15},
    "user": {"weight": 0.5, "most": 0.95},
    "automatic": {"weight": 0.3, "most": 0.45},
    # An answer failed a check; a higher tier's answer then passed.
    "weak": {"weight": 0.5, "most": 0.9},
    "rescued": {"weight": 0.3, "most": 0.6},
    # The user asked again, or sent the request again.
    "again": {"weight": 0.15, "most": 0.3},
    # An answer that passed its checks and that nobody complained about.
    "accepted": {"weight": 0.1, "most": 0.28},
}
# A thumb is also about style, speed or mood; who names the right tier has thought about tiers.
VERDICT_SHARE = 0.7
# Scores from which an answer was good, and up to which it was bad; between them they say nothing.
GOOD_MIN, BAD_MAX = 0.7, 0.3
# Checks that fail for the request's own limits as often as for the model's strength.
CHECKS_IGNORED = frozenset({"truncated"})
COMPLAINTS = frozenset({"weak", "retried", "regenerated", "abandoned"})
# A judged level is a little less than certain.
SMOOTHING = 0.05
# Kinds whose word on tiers is a person's, good enough to measure by.
PEOPLE = frozenset({"label", "human", "user"})


@dataclass(frozen=True)
class Vote:
    """Levels from `enough` on are enough, those up to `short` are not; None: nothing is said."""

    kind: str
    enough: int | None = None
    short: int | None = None
    intent: int | None = None
    share: float = 1.0
    exact: bool = False  # names the weakest tier that would have done


@dataclass
class Label:
    sufficiency: list[float]
    level_weights: list[float]
    intent: int | None
    intent_weight: float
    tier: int | None  # where every level is known
    kinds: list[str] = field(default_factory=list)
    contradictions: int = 0
    by_people: bool = False


def levels_of(tiers: list[str], named: dict[str, str] | None = None) -> dict[str, int]:
    """Returns the bundle's level of each of the operator's tiers, weakest first: as told, else by name, else by
    place."""
    last = max(1, len(tiers) - 1)
    by_place = {tier: round(place * (len(LEVELS) - 1) / last) for place, tier in enumerate(tiers)}
    names = {tier: (named or {}).get(tier, tier) for tier in tiers}
    by_name = {tier: LEVEL_INDEX.get(name, by_place[tier]) for tier, name in names.items()}
    # A level never falls from one tier to the next; where names and places do not go together, places count.
    order = [by_name[tier] for tier in tiers]
    return by_name if order == sorted(order) else by_place


def votes_of(row: dict, levels: dict[str, int]) -> tuple[list[Vote], Counter]:
    """Returns what a request's feedback, attempts and signals say, and what had to be left out."""
    left_out: Counter = Counter()
    votes = []
    complained = judged = False
    served = row["served_tier"] or row["tier"]
    signals = set(row["signals"])
    for one in row["feedback"]:
        signals |= {one["signal"]} if one.get("signal") else set()
        found, verdict = feedback_votes(one, served, row["tiers"], levels, left_out)
        votes += found
        judged |= verdict is not None or bool(one.get("right_tier"))
        complained |= verdict is False
    tried = attempt_votes(row, levels)
    votes += tried
    if signals & {"retried", "regenerated"} and served in levels:
        votes.append(Vote("again", short=levels[served]))
    spoken = tried or complained or judged or signals & COMPLAINTS
    if row["status"] == "answered" and served in levels and not spoken:
        votes.append(Vote("accepted", enough=levels[served]))
    return votes, left_out


def feedback_votes(one, served, tiers, levels, left_out: Counter) -> tuple[list[Vote], bool | None]:
    """Returns the votes of one feedback and whether it calls the answer good (None: it does not say)."""
    kind = one.get("source") or "user"
    if kind not in TRUST:
        left_out[f"feedback of the unknown source {kind}"] += 1
        return [], None
    votes = []
    if one.get("right_intent"):
        if one["right_intent"] in INTENT_INDEX:
            votes.append(Vote(kind, intent=INTENT_INDEX[one["right_intent"]]))
        else:
            left_out["right_intent that the bundle does not know"] += 1
    good = verdict_of(one)
    if one.get("right_tier"):
        if one["right_tier"] in levels:
            return [*votes, exactly(kind, one["right_tier"], tiers, levels)], good
        left_out["right_tier that is none of the record's tiers"] += 1
    if good is None or served not in levels:
        return votes, good
    if good:
        votes.append(Vote(kind, enough=levels[served], share=VERDICT_SHARE))
    elif served == tiers[-1]:
        # Nothing stronger was to be had: what was wrong was not the choice of tier.
        left_out["bad answers of the top tier"] += 1
    else:
        votes.append(Vote(kind, short=levels[served], share=VERDICT_SHARE))
    return votes, good


def verdict_of(one) -> bool | None:
    if one.get("verdict") in ("good", "bad"):
        return one["verdict"] == "good"
    score = one.get("score")
    if score is None or BAD_MAX < score < GOOD_MIN:
        return None
    return score >= GOOD_MIN


def exactly(kind: str, right: str, tiers: list[str], levels: dict[str, int]) -> Vote:
    """Returns the vote of who names the weakest tier that would have done: the tier below it would not have. What a
    level between the two would have done is not known."""
    place = tiers.index(right)
    short = min(levels[tiers[place - 1]], levels[right] - 1) if place else None
    return Vote(kind, enough=levels[right], short=short if short is not None and short >= 0 else None, exact=True)


def attempt_votes(row: dict, levels: dict[str, int]) -> list[Vote]:
    """Returns that tiers with a weak answer were not enough, and that the one which then answered well was."""
    attempts = [one for one in row["attempts"] if one["outcome"] == "weak" and one["tier"] in levels]
    weak = max((levels[one["tier"]] for one in attempts if one.get("why") not in CHECKS_IGNORED), default=None)
    if weak is None:
        return []
    votes = [Vote("weak", short=weak)]
    served = row["served_tier"]
    if row["status"] == "answered" and served in levels and levels[served] > weak:
        votes.append(Vote("rescued", enough=levels[served]))
    return votes


def label_of(votes: list[Vote]) -> Label:
    """Returns what all votes on one text say together: each level by the heavier side, with the weight by which it is
    heavier. Every vote rises with the level, so the result does too."""
    targets, weights, disputed = [], [], False
    for level in range(len(LEVELS) - 1):
        yes = [vote for vote in votes if vote.enough is not None and vote.enough <= level]
        no = [vote for vote in votes if vote.short is not None and vote.short >= level]
        disputed |= bool(yes and no)
        balance = balance_of(yes, no)
        targets.append(1.0 - SMOOTHING if balance > 0 else SMOOTHING)
        weights.append(round(abs(balance), 4))
    intents = {vote.intent for vote in votes if vote.intent is not None}
    ranked = sorted(((balance_of([v for v in votes if v.intent == i], []), i) for i in intents), reverse=True)
    runner_up = ranked[1][0] if len(ranked) > 1 else 0.0
    intent_weight = round(ranked[0][0] - runner_up, 4) if ranked else 0.0
    known = all(weight > 0 for weight in weights)
    return Label(
        targets,
        weights,
        ranked[0][1] if intent_weight > 0 else None,
        intent_weight,
        next((level for level, target in enumerate(targets) if target > 0.5), len(LEVELS) - 1) if known else None,
        sorted({vote.kind for vote in votes}),
        int(disputed) + int(runner_up > 0),
        known and any(vote.exact and vote.kind in PEOPLE for vote in votes),
    )


def balance_of(yes: list[Vote], no: list[Vote]) -> float:
    """Returns the weight for less the weight against, that of every kind bounded."""
    total = 0.0
    for kind, trust in TRUST.items():
        balance = sum(vote.share for vote in yes if vote.kind == kind) - sum(v.share for v in no if v.kind == kind)
        total += max(-trust["most"], min(trust["most"], trust["weight"] * balance))
    return total
