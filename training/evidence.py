"""What feedback and outcomes of a request say about the level it needs; pure. The classifier's levels are ordered, so
partial knowledge is used as it is: "tier t was enough" speaks of t and the levels above it, "t was not" of t and those
below. A level of which nobody said anything gets no weight, and no label is made up.
"""

from collections import Counter
from dataclasses import dataclass, field

from labels import INTENT_INDEX, LEVEL_INDEX, LEVELS

# What one judgement of each kind counts, and the most that all of one kind count together for one text. However many
# judgements of one weaker kind there are, they do not outvote a single stronger one, in the order label, human, user,
# automatic, accepted: the bound of the weaker is below the weight of the stronger, and bounds_of keeps it there where
# the stronger says less than it could. Outcomes stand in that order by their bounds too: no number of weak answers
# outvotes a reviewer. Several weaker kinds together may: users, programs and checks that agree outvote one reviewer.
# `weight` of human, user, automatic, weak and accepted is that of the router's [learning.weights].
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
# Kinds whose word on tiers is good enough to measure by: of people who know the tiers. A user of the application who
# names a tier teaches, and does not measure.
PEOPLE = frozenset({"label", "human"})


@dataclass(frozen=True)
class Vote:
    """Levels from `enough` on are enough, those up to `short` are not; None: nothing is said."""

    kind: str
    enough: int | None = None
    short: int | None = None
    intent: int | None = None
    share: float = 1.0
    exact: bool = False  # names the weakest tier that would have done
    # False: of a request that was chosen for what a bundle says of it. Such requests are those which that bundle gets
    # wrong, so on them any other looks better: they teach, and nothing is measured by them.
    measures: bool = True


@dataclass
class Label:
    sufficiency: list[float]
    level_weights: list[float]
    intent: int | None
    intent_weight: float
    tier: int | None  # where every level is known; of PEOPLE alone where `by_people`
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
    tried = attempt_votes(row, levels, left_out)
    votes += tried
    if signals & {"retried", "regenerated"} and served in levels and not is_top(served, row["tiers"], left_out):
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
    elif not is_top(served, tiers, left_out):
        votes.append(Vote(kind, short=levels[served], share=VERDICT_SHARE))
    return votes, good


def is_top(tier: str, tiers: list[str], left_out: Counter) -> bool:
    """Returns whether a tier that did badly is the top one, and counts it: nothing stronger was to be had, so what was
    wrong was not the choice of tier."""
    if tier != tiers[-1]:
        return False
    left_out["bad answers of the top tier"] += 1
    return True


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


def attempt_votes(row: dict, levels: dict[str, int], left_out: Counter) -> list[Vote]:
    """Returns that tiers with a weak answer were not enough, and that the one which then answered well was. A request
    at which the top tier fails as well says nothing of those below it: no tier would have done."""
    attempts = [one for one in row["attempts"] if one["outcome"] == "weak" and one["tier"] in levels]
    failed = [one["tier"] for one in attempts if one.get("why") not in CHECKS_IGNORED]
    top = [tier for tier in failed if tier == row["tiers"][-1]]
    if top and is_top(top[0], row["tiers"], left_out) and row["status"] != "answered":
        return []
    weak = max((levels[tier] for tier in failed if tier not in top), default=None)
    if weak is None:
        return []
    votes = [Vote("weak", short=weak)]
    served = row["served_tier"]
    if row["status"] == "answered" and served in levels and levels[served] > weak:
        votes.append(Vote("rescued", enough=levels[served]))
    return votes


def label_of(votes: list[Vote]) -> Label:
    """Returns what all votes on one text say together: each level by the heavier side, with the weight by which it is
    heavier. The tier of a text of which people name one is theirs alone, as it is measured by: those who outvote them
    teach, and have no say in it."""
    levels = balances_of(votes)
    said = [(vote.enough, vote.short) for vote in votes]
    disputed = any(
        any(enough is not None and enough <= level for enough, _ in said)
        and any(short is not None and short >= level for _, short in said)
        for level in range(len(levels))
    )
    people = [vote for vote in votes if vote.kind in PEOPLE]
    named = tier_of(balances_of(people)) if any(vote.exact for vote in people) else None
    intents = {vote.intent for vote in votes if vote.intent is not None}
    most = {kind: trust["most"] for kind, trust in TRUST.items()}
    ranked = sorted(((balance_of([v for v in votes if v.intent == i], [], most), i) for i in intents), reverse=True)
    runner_up = ranked[1][0] if len(ranked) > 1 else 0.0
    intent_weight = round(ranked[0][0] - runner_up, 4) if ranked else 0.0
    return Label(
        [1.0 - SMOOTHING if balance > 0 else SMOOTHING for balance in levels],
        [abs(balance) for balance in levels],
        ranked[0][1] if intent_weight > 0 else None,
        intent_weight,
        tier_of(levels) if named is None else named,
        sorted({vote.kind for vote in votes}),
        int(disputed) + int(runner_up > 0),
        named is not None,
    )


def balances_of(votes: list[Vote]) -> list[float]:
    """Returns of each level but the last the weight for less the weight against. Every vote rises with the level and
    the bounds are the same for all, so the result rises too."""
    most, balances = bounds_of(votes), []
    for level in range(len(LEVELS) - 1):
        yes = [vote for vote in votes if vote.enough is not None and vote.enough <= level]
        no = [vote for vote in votes if vote.short is not None and vote.short >= level]
        balances.append(round(balance_of(yes, no, most), 4))
    return balances


def tier_of(balances: list[float]) -> int | None:
    """Returns the weakest level that is enough, where each is known."""
    if not all(balances):
        return None
    return next((level for level, balance in enumerate(balances) if balance > 0), len(LEVELS) - 1)


def bounds_of(votes: list[Vote]) -> dict[str, float]:
    """Returns the most that each kind counts about levels: less where a stronger kind gave a verdict alone, which
    counts by its share, so that one thumb of a reviewer is not outvoted by users either."""
    shares: dict[str, float] = {}
    for vote in votes:
        if vote.enough is not None or vote.short is not None:
            shares[vote.kind] = max(vote.share, shares.get(vote.kind, 0.0))
    bounds = {}
    for kind, trust in TRUST.items():
        stronger = [share for other, share in shares.items() if TRUST[other]["weight"] > trust["most"]]
        bounds[kind] = trust["most"] * min(stronger, default=1.0)
    return bounds


def balance_of(yes: list[Vote], no: list[Vote], most: dict[str, float]) -> float:
    """Returns the weight for less the weight against, that of every kind bounded."""
    total = 0.0
    for kind, trust in TRUST.items():
        balance = sum(vote.share for vote in yes if vote.kind == kind) - sum(v.share for v in no if v.kind == kind)
        total += max(-most[kind], min(most[kind], trust["weight"] * balance))
    return total
