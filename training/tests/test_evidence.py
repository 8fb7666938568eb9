import itertools

from make_exports import TIERS, attempt, feedback, row

import evidence
import exports
from evidence import TRUST, VERDICT_SHARE, Vote, label_of, levels_of
from labels import INTENT_INDEX

LEVELS = levels_of(list(TIERS))


def votes(**changes):
    return evidence.votes_of(exports.whole(row("x", **changes)), LEVELS)


def check(changes, expected, weights=None):
    """Compares what is known of each level: "+" enough, "-" not enough, "." nothing."""
    label = label_of(votes(**changes)[0])
    known = zip(label.sufficiency, label.level_weights, strict=True)
    assert "".join("." if not weight else "+" if target > 0.5 else "-" for target, weight in known) == expected
    if weights:
        assert label.level_weights == weights


def said(**values):
    return {"feedback": [feedback(**values)]}


def test_right_tier_says_everything_by_the_trust_in_who_names_it():
    check(said(source="human", right_tier="complex"), "--+", [1.0, 1.0, 1.0])
    check(said(source="user", right_tier="simple"), "+++", [0.5, 0.5, 0.5])
    check(said(source="automatic", right_tier="reasoning"), "---", [0.3, 0.3, 0.3])


def test_a_verdict_speaks_of_the_tier_that_served_and_those_on_its_side():
    served = {"served_tier": "moderate", "tier": "simple"}
    weight = TRUST["user"]["weight"] * VERDICT_SHARE
    check(served | said(verdict="good"), ".++", [0.0, weight, weight])
    check(served | said(verdict="bad"), "--.", [weight, weight, 0.0])
    check(served | said(score=0.9), ".++")
    check(served | said(score=0.1), "--.")
    # A lukewarm score is no acceptance either way; that nobody complained still counts a little.
    check(served | said(score=0.5), ".++", [0.0, 0.1, 0.1])
    decided_only = {"status": "decided", "tier": "complex", "served_tier": None, "kind": "route"}
    check(decided_only | said(verdict="bad"), "---")


def test_a_bad_answer_of_the_top_tier_is_no_matter_of_tiers():
    found, left_out = votes(served_tier="reasoning", **said(verdict="bad"))
    assert found == []
    assert left_out == {"bad answers of the top tier": 1}
    # Counted where it happened alone: a report does not list what did not.
    _, left_out = votes(served_tier="simple", **said(verdict="bad"))
    assert list(left_out) == []


def test_a_request_at_which_every_tier_fails_needs_no_stronger_one():
    tries = [attempt(tier, "weak", "refusal") for tier in TIERS]
    failed = {"attempts": tries, "status": "weak", "served_tier": "reasoning", "signals": ["escalated", "weak"]}
    found, left_out = votes(**failed)
    assert (found, left_out) == ([], {"bad answers of the top tier": 1})
    found, left_out = votes(attempts=tries[-1:], status="weak", served_tier="reasoning", signals=["weak"])
    assert (found, left_out) == ([], {"bad answers of the top tier": 1})
    # Asked again of the top tier, as little.
    found, left_out = votes(served_tier="reasoning", signals=["retried"])
    assert (found, left_out) == ([], {"bad answers of the top tier": 1})
    # Another target of the top tier did: those below did not.
    check({"attempts": [*tries, attempt("reasoning", "answered")], "served_tier": "reasoning"}, "---")


def test_outcomes_say_that_weak_tiers_were_not_enough_and_the_one_that_rescued_was():
    tries = [attempt("simple", "weak", "refusal"), attempt("moderate", "weak", "json"), attempt("complex", "answered")]
    weak, rescued = TRUST["weak"]["weight"], TRUST["rescued"]["weight"]
    check({"attempts": tries, "served_tier": "complex", "signals": ["escalated", "weak"]}, "--+", [weak, weak, rescued])
    check({"attempts": tries[:2], "status": "weak", "served_tier": "moderate", "signals": ["weak"]}, "--.")
    # A short limit of output tokens is not the model's weakness; failures of a provider are none at all.
    cut = [attempt("simple", "weak", "truncated"), attempt("moderate", "answered")]
    check({"attempts": cut, "served_tier": "moderate", "signals": ["weak"]}, "...")
    failed = [attempt("simple", "failed", "server"), attempt("moderate", "answered")]
    check({"attempts": failed, "served_tier": "moderate"}, ".++")


def test_acceptance_is_weak_and_any_complaint_takes_it_away():
    accepted = TRUST["accepted"]["weight"]
    check({"served_tier": "moderate"}, ".++", [0.0, accepted, accepted])
    again = TRUST["again"]["weight"]
    check({"served_tier": "moderate", "signals": ["retried"]}, "--.", [again, again, 0.0])
    check({"served_tier": "moderate", "signals": ["regenerated", "retried"]}, "--.", [again, again, 0.0])
    check({"served_tier": "moderate", "signals": ["abandoned"]}, "...")
    check({"served_tier": "moderate"} | said(signal="retried", source="automatic"), "--.")
    for status in ("decided", "failed", "hung_up"):
        check({"status": status, "served_tier": None}, "...")


def test_right_intent_is_kept_where_the_bundle_knows_it():
    label = label_of(votes(**said(source="human", right_intent="code"))[0])
    assert (label.intent, label.intent_weight) == (INTENT_INDEX["code"], 1.0)
    found, left_out = votes(**said(right_intent="refund", right_tier="tiny"))
    assert label_of(found).intent is None
    assert left_out == {
        "right_intent that the bundle does not know": 1,
        "right_tier that is none of the record's tiers": 1,
    }


def test_people_outweigh_users_and_users_programs_however_many():
    def winner(strong, weak):
        many = [Vote(weak, short=0, exact=True)] * 50
        return label_of([Vote(strong, enough=0, exact=True), *many]).sufficiency[0] > 0.5

    ranks = ["label", "human", "user", "automatic", "accepted"]
    for stronger, weaker in itertools.pairwise(ranks):
        assert winner(stronger, weaker), (stronger, weaker)
    assert not winner("accepted", "user")


def test_a_thumb_of_a_stronger_kind_is_outvoted_by_no_number_of_a_weaker_one():
    for stronger, weaker in itertools.pairwise(["human", "user", "automatic", "accepted"]):
        for share in (1.0, VERDICT_SHARE):
            thumb, many = Vote(stronger, enough=0, share=VERDICT_SHARE), [Vote(weaker, short=0, share=share)] * 50
            assert label_of([thumb, *many]).sufficiency[0] > 0.5, (stronger, weaker, share)
    for outcome in ("weak", "rescued", "again"):
        thumb = Vote("human", enough=0, share=VERDICT_SHARE)
        assert label_of([thumb, *[Vote(outcome, short=0)] * 50]).sufficiency[0] > 0.5, outcome
    # A thumb takes nothing from those that agree with it, nor does a word on the intent alone.
    users = [Vote("user", enough=0)] * 50
    alone = label_of(users).level_weights[0]
    assert label_of([*users, Vote("human", enough=0, share=VERDICT_SHARE)]).level_weights[0] > alone
    assert label_of([*users, Vote("human", intent=1)]).level_weights[0] == alone


def test_weaker_kinds_outvote_a_stronger_one_only_together():
    reviewer = Vote("human", enough=0)
    for kind in ("user", "automatic", "weak", "again"):
        assert label_of([reviewer, *[Vote(kind, short=0)] * 50]).sufficiency[0] > 0.5, kind
    agreeing = [Vote(kind, short=0) for kind in ("user", "automatic", "weak") for _ in range(50)]
    assert label_of([reviewer, *agreeing]).sufficiency[0] < 0.5


def test_contradictions_are_resolved_by_weight_and_counted():
    two_to_one = [Vote("human", enough=0), Vote("human", enough=0), Vote("human", short=1)]
    label = label_of(two_to_one)
    assert label.contradictions == 1
    assert (label.level_weights[0], label.sufficiency[0] > 0.5) == (1.0, True)
    even = label_of(two_to_one[1:])
    assert even.level_weights == [0.0, 0.0, 1.0]
    intents = label_of([Vote("human", intent=1), Vote("user", intent=2)])
    assert (intents.intent, intents.intent_weight, intents.contradictions) == (1, 0.5, 1)


def test_a_result_never_falls_as_the_level_rises():
    import random

    rng = random.Random(1)

    def drawn(kind):
        enough, short = rng.choice([None, 0, 1, 2, 3]), rng.choice([None, 0, 1, 2])
        return Vote(kind, enough, short, share=rng.choice([VERDICT_SHARE, 1.0]))

    for _ in range(500):
        some = [drawn(kind) for kind in rng.choices(list(TRUST), k=rng.randint(1, 12))]
        label = label_of(some)
        signed = [w if t > 0.5 else -w for t, w in zip(label.sufficiency, label.level_weights, strict=True)]
        assert signed == sorted(signed)


def test_only_a_whole_label_has_a_tier_and_only_people_make_it_one_to_measure_by():
    exact = label_of(votes(**said(source="human", right_tier="moderate"))[0])
    assert (exact.tier, exact.by_people) == (1, True)
    user = label_of(votes(**said(source="user", right_tier="moderate"))[0])
    assert (user.tier, user.by_people) == (1, False)
    machine = label_of(votes(**said(source="automatic", right_tier="moderate"))[0])
    assert (machine.tier, machine.by_people) == (1, False)
    assert label_of(votes(served_tier="moderate")[0]).tier is None


def test_who_outvotes_a_reviewer_teaches_and_does_not_measure():
    reviewer = Vote("human", enough=2, short=1, exact=True)
    others = [Vote(kind, enough=0) for kind in ("user", "automatic", "rescued") for _ in range(50)]
    label = label_of([reviewer, *others])
    assert [target > 0.5 for target in label.sufficiency] == [True, True, True]
    assert (label.tier, label.by_people) == (2, True)
    # Reviewers of whom as many say one thing as the other have named no tier, whoever else decides between them.
    split = label_of([reviewer, Vote("human", enough=0, exact=True), *others])
    assert (split.tier, split.by_people) == (0, False)


def test_tiers_get_levels_as_told_else_by_name_else_by_place():
    assert levels_of(["simple", "moderate", "complex", "reasoning"]) == dict(zip(TIERS, range(4), strict=True))
    assert levels_of(["simple", "reasoning"]) == {"simple": 0, "reasoning": 3}
    assert levels_of(["cheap", "good", "best"]) == {"cheap": 0, "good": 2, "best": 3}
    assert levels_of(["cheap", "best"], {"best": "complex"}) == {"cheap": 0, "best": 2}
    assert levels_of(["reasoning", "simple"]) == {"reasoning": 0, "simple": 3}
    assert levels_of(["only"]) == {"only": 0}


def test_with_fewer_tiers_than_levels_what_lies_between_is_not_known():
    two = {"tiers": ["simple", "reasoning"], "tier": "simple", "served_tier": "simple"}
    one = exports.whole(row("x", **two, **said(source="human", right_tier="reasoning")))
    label = label_of(evidence.votes_of(one, levels_of(one["tiers"]))[0])
    assert label.level_weights == [1.0, 0.0, 0.0]
    assert label.tier is None
