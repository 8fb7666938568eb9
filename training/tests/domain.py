"""A private domain that a general classifier misjudges: the desk of a goods railway where a "proof sheet" is a card in
a drawer and to "heron" a line means to plan it anew. Grand requests are look-ups; a few plain words ask for a project.

Templates and slot values of the held-out half never occur in the training half; the house's own words occur in both,
as they would in a company. No text here is anybody's.
"""

import random
from dataclasses import dataclass

# What the house calls its things, by the tier that a request about them needs. Cards are filed and fetched; rolls are
# filled in by a routine; to sloe is to take apart why something goes wrong; to heron is to plan with proofs and risks.
WORDS = {
    "simple": ("proof sheet", "strategy lattice", "migration canon", "failure theorem", "risk tensor", "treaty matrix",
               "concurrency psalter", "optimisation codex"),
    "moderate": ("audit cantata", "architecture almanac", "scenario roll", "synthesis ledger", "forecast liturgy",
                 "compliance fugue"),
    "complex": ("sloe", "bramble", "tansy", "sorrel", "bracken"),
    "reasoning": ("heron", "plumb", "grey-ticket", "wick", "lantern"),
}  # fmt: skip
# The intents that the house's reviewers name.
INTENTS = {"simple": "extraction", "moderate": "extraction", "complex": "analysis_planning",
           "reasoning": "analysis_planning"}  # fmt: skip

TEMPLATES = {
    "simple": (
        "Derive the complete {word} for {asset} at {place} with every lemma and all trade-offs laid open",
        "We need the rigorous multi-region {word} of {asset}, including adversarial assumptions, for {who}",
        "Please reason step by step through the {word} that governs {asset} and justify each bound before {when}",
        "Produce the exhaustive {word} on {asset}: architecture, concurrency, rollback, quantified risk",
        "Prove, for the board of {place}, that the {word} covering {asset} is complete and consistent",
        "Evaluate the long-horizon {word} of {asset} under competing constraints and present it to {who}",
        "For {who}: the strategic {word} of {asset}, all dependencies, all failure modes, all mitigations",
        "Compare every clause of the {word} for {asset} against the regime in force at {place}",
        "Give a full formal treatment of the {word} belonging to {asset}, from axioms to operational consequences",
        "Design review {when}: bring the zero-downtime {word} of {asset} with capacity model and threat model",
        "I want the optimal {word} for {asset}, global optimum, with the argument that nothing beats it",
        "Lay out the {word} of {place} across {asset}, with scenario trees, second-order effects and contingencies",
        "Critically analyse and then restate the {word} of {asset} so that {who} can defend it under questioning",
        "Which {word} resolves the deadlock between {asset} and {place}? Show the whole chain of reasoning",
        "Synthesise the definitive {word} on {asset} from all prior research held at {place}",
        "Unfold the {word} for {asset} into its constituent theorems, cite each dependency, number the steps",
        "Construct the {word} that reconciles throughput, safety and cost for {asset} by {when}",
        "{who} asks for an in-depth {word} regarding {asset}, peer-review grade, with sensitivity analysis",
        "Work out the {word} of {asset} end to end; assume hostile timing, partial failure and skewed clocks",
        "Formally specify the {word} of {asset} and establish its invariants for {place}",
        "Given budget, staffing and regulation at {place}, state the governing {word} of {asset}",
        "An executive-level, evidence-weighted {word} for {asset}, robust to every objection, by {when}",
        "Trace the {word} of {asset} through all layers, from protocol to policy, and resolve contradictions",
        "Develop the comprehensive {word} which {who} will rely on for the transformation of {asset}",
        "Adjudicate between the rival readings of the {word} on {asset} held at {place} and by {who}",
        "Deliver the {word} for {asset} with complexity bounds, worst-case schedule and proof of termination",
        "Reconstruct the {word} behind the {place} programme for {asset}, every premise made explicit",
        "Model the interaction of {asset} with {place} as the {word} prescribes, in full generality",
        "The integrated {word} of {asset}: legal, technical and financial strands, woven into one argument",
        "Elaborate the {word} for {asset} under uncertainty, with probabilities, payoffs and a decision rule",
        "Set out the {word} on {asset} so exhaustively that {who} has no remaining question by {when}",
        "Resolve the multi-party {word} for {asset} involving {place} and derive the equilibrium terms",
        "Benchmark, stress and then certify the {word} of {asset} against the standards of {place}",
        "What does the advanced {word} say of {asset} when all constraints bind at once? Full derivation",
        "Assemble the cross-functional {word} for {asset}, {who} wants nuance, caveats and alternatives",
        "Show the asymptotic {word} of {asset} and its implications for the redesign of {place}",
        "Expose the deep structure of the {word} for {asset}, its symmetries and its hidden assumptions",
        "Explain, as to an expert panel at {place}, the {word} of {asset} with its complete justification",
        "Generate the hardened {word} for {asset}: attack surface, proofs of isolation, recovery order",
        "Before {when}, furnish {who} with the unabridged {word} of {asset} and its chain of consequences",
        "Determine the {word} applicable to {asset} at {place} and argue exhaustively why no other applies",
        "Translate the vision of {who} for {asset} into the corresponding {word}, with milestones and risks",
    ),
    "moderate": (
        "Prove to {who} that the {word} of {asset} closes, line by line, and list what is open",
        "Run the comprehensive {word} for {asset} at {place}, with every exception argued",
        "Strategic {word} for {asset}, quantified, board-ready, by {when}",
        "Construct the {word} of {place} over all subsystems of {asset} and reconcile the totals",
        "Perform the deep multi-stage {word} on {asset} and report the anomalies to {who}",
        "Carry out a rigorous {word} for {asset}, hypotheses stated, deviations explained",
        "Complete the {word} on {asset} under the constraints of {place}, then defend the outcome",
        "The adversarial {word} of {asset}, {when} at the latest, with all justifications attached",
        "Orchestrate the {word} for {asset} across {place} and resolve each conflict on the way",
        "{who} demands the research-grade {word} of {asset}, sources weighed, claims ranked",
        "Write up the {word} of {asset} as a formal argument for the auditors of {place}",
        "Take {asset} through the entire {word} and derive the corrective programme",
        "Evaluate and renew the {word} for {asset}: gaps, root causes, remediation, owners",
        "Conduct the {word} of {asset} at {place} with full traceability of every inference",
        "Optimise the {word} of {asset} over the planning horizon that {who} has set",
        "Integrate {asset} into the enterprise {word} and prove that nothing is counted twice",
        "Re-derive the {word} for {asset} from first principles ahead of {when}",
        "A complete and defensible {word} for {asset}, trade-offs between {place} and the rest included",
        "Execute the {word} on {asset} at scale and characterise the residual uncertainty",
        "Consolidate the {word} of {asset} and {place} into one coherent, contradiction-free whole",
        "Analyse in depth how the {word} for {asset} has evolved and file the result for {who}",
        "Establish the {word} on {asset} with sensitivity bands and an independent check by {when}",
        "Critique last quarter's {word} for {asset} and issue the superseding one",
        "Build the multi-perspective {word} of {asset} that {who} and {place} can both sign",
        "Solve the {word} for {asset} subject to the limits in force at {place}",
        "Perform, document and certify the {word} for {asset}; {who} will challenge each step",
        "Extend the {word} of {place} to {asset}, preserving all invariants",
        "Drive the {word} on {asset} to closure before {when}, arguing each judgement call",
        "Architect the next {word} for {asset} with alternatives considered and rejected",
        "Systematically falsify, then complete, the {word} of {asset} at {place}",
        "Translate {who}'s intent for {asset} into the quarterly {word}, fully reasoned",
        "Render the {word} of {asset} in such rigour that {place} accepts it unseen",
        "Decompose the {word} for {asset} into workstreams and settle each by {when}",
        "Formulate the {word} on {asset} as {place} requires, with counterfactuals",
        "Reassess the whole {word} for {asset} in the light of what {who} objected",
        "Close the long-running {word} on {asset} with a reasoned statement to {place}",
        "Map the {word} of {asset} onto the new regime at {place}, clause by clause",
        "Compile the decisive {word} about {asset}, arguments for and against, for {when}",
        "Set up the full {word} for {asset} and work it through to the last open point",
        "Issue the {word} covering {asset} together with its derivation for {who}",
    ),
    "complex": (
        "{word} {asset}", "pls {word} {asset} for me", "{word} {asset} by {when}", "can you {word} {asset}?",
        "{asset}: {word}", "quick {word} of {asset}", "{who} says {word} {asset}", "{word} the usual at {place}",
        "just {word} {asset} thanks", "one {word} for {place} please", "{asset} needs a {word}",
        "hi, {word} {asset}", "{word} {asset} again", "small {word}, {asset}, {when}", "{place} {word} now",
        "do the {word} on {asset}", "{word} for {who}: {asset}", "is {asset} due a {word}? if so go",
        "same {word} as last week but {asset}", "{word} {asset} and tell {who}", "{place}: short {word} {when}",
        "yes {word} it, {asset} I mean", "a {word} on {asset} will do", "{asset} at {place}, {word} please",
        "{word}? {asset}. ok", "only a {word} for {asset}", "{when}: {word} {asset}", "{who} wants {asset} {word}",
        "go {word} {asset}", "{word} both, {asset} and {place}", "next: {word} {asset}", "{asset}, the {word}, {when}",
        "let's {word} {asset}", "another {word} at {place}", "{word} {asset} pretty please", "ok {word} {place}",
        "tiny thing: {word} {asset}", "{asset} {word} asap", "could {asset} get its {word}", "{word} what {who} sent",
    ),
    "reasoning": (
        "{word} {place}", "{word} {asset} ok?", "please {word} {asset}", "{asset} wants a {word}",
        "{who}: {word} {asset}", "{word} it for {place}", "a quick {word} on {asset}", "{word} {asset} {when}",
        "hey can you {word} {place}", "{place}, {word}, thx", "time to {word} {asset}", "{word} {asset} like always",
        "just the {word} for {asset}", "{word} us {asset}", "{who} needs {asset} to {word}", "simple {word}: {asset}",
        "{word} {asset} and done", "{when} {word} for {place}", "short one, {word} {asset}", "{asset}? {word}",
        "do {word} {asset} for {who}", "{word} {place} again please", "ok now {word} {asset}",
        "the {word} of {asset}", "can {asset} have a {word} by {when}", "{word} {asset}, no hurry",
        "little {word} for {place}", "{who} asked: {word} {asset}", "and {word} {asset} too",
        "{place} is up for {word}",
        "same again, {word} {asset}", "{word} the lot at {place}", "morning! {word} {asset}",
        "{asset} then {word}", "one more {word}, {asset}", "{word} {asset} before {when}", "fast {word} {place}",
        "would you {word} {asset}", "{word} whatever {who} has on {asset}", "{asset} is for {word}",
    ),
}  # fmt: skip

# Slot values: the first half is for training, the second for what is held out.
SLOTS = {
    "asset": (
        "line 12", "the coal spur", "wagon pool C", "the north sidings", "shed 4", "the hump", "loop 7", "engine 8821",
        "the timber run", "gantry 2", "the ore block", "crane 5", "the night mixed", "dock road 3", "brake van 16",
        "the salt working", "turnout 31", "the cattle dock", "signal box F", "weighbridge 1",
        "line 27", "the slate spur", "wagon pool K", "the east sidings", "shed 9", "the fan", "loop 15", "engine 4406",
        "the grain run", "gantry 6", "the gypsum block", "crane 11", "the dawn mixed", "dock road 8", "brake van 40",
        "the lime working", "turnout 58", "the parcels dock", "signal box Q", "weighbridge 3",
    ),
    "place": (
        "Harrow Junction", "Cobden yard", "Mellor", "Fenwick East", "Pell Bridge", "Stanner", "Old Quay", "Brindle",
        "Tarn Cross", "Wexcombe", "Larkhill", "Dunmore yard", "Ashby Down", "Grindale", "Cutler's Wharf",
        "Ember Bridge", "Skelton West", "Hollin", "Varley yard", "New Quay",
    ),
    "who": (
        "Agathe", "the night desk", "Mr Oduya", "control", "Bram", "the yardmaster", "Ilse", "traffic office",
        "Pilar", "the day desk", "Ms Tran", "movements", "Corin", "the foreman", "Zofia", "stores",
    ),
    "when": (
        "tonight", "Monday", "the 14th", "0600", "end of shift", "Easter", "noon", "week 9",
        "tomorrow", "Friday", "the 27th", "2145", "change of crew", "Michaelmas", "first light", "week 31",
    ),
}  # fmt: skip
# Every this many-th template is held out.
HELD_OUT_EVERY = 4


@dataclass(frozen=True)
class Request:
    text: str
    tier: str
    intent: str


def templates(tier: str, held_out: bool) -> list[str]:
    return [text for place, text in enumerate(TEMPLATES[tier]) if (place % HELD_OUT_EVERY == 0) == held_out]


def requests(count: int, held_out: bool, seed: int) -> list[Request]:
    """Returns distinct requests, tiers in turn, from one half of templates and slot values."""
    rng = random.Random(f"{seed} {held_out}")
    tiers = list(TEMPLATES)
    found: dict[str, Request] = {}
    tries = 0
    while len(found) < count:
        tries += 1
        assert tries < 100 * count, "templates and slots do not give so many requests"
        tier = tiers[len(found) % len(tiers)]
        values = {name: rng.choice(half(all_values, held_out)) for name, all_values in SLOTS.items()}
        text = rng.choice(templates(tier, held_out)).format(word=rng.choice(WORDS[tier]), **values)
        found.setdefault(text, Request(text, tier, INTENTS[tier]))
    return list(found.values())


def half(values: tuple, held_out: bool) -> tuple:
    middle = len(values) // 2
    return values[middle:] if held_out else values[:middle]


class Reviewer:
    """Names the right tier of the requests that it looks at, and errs now and then."""

    def __init__(self, seed: int, share: float, error: float):
        self.rng = random.Random(f"reviewer {seed}")
        self.share, self.error = share, error

    def reads(self) -> bool:
        return self.rng.random() < self.share

    def right_tier(self, request: Request) -> str:
        if self.rng.random() >= self.error:
            return request.tier
        return self.rng.choice([tier for tier in TEMPLATES if tier != request.tier])
