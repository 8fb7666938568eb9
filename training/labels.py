"""The closed label sets, in logit order: what the manifest, the corpus and every evaluation agree on."""

INTENTS = (
    "chitchat",
    "command",
    "translation",
    "summarization",
    "extraction",
    "classification",
    "rewrite",
    "closed_qa",
    "code",
    "math",
    "brainstorming",
    "writing",
    "analysis_planning",
    "open_qa",
    "other",
)
LEVELS = ("simple", "moderate", "complex", "reasoning")

INTENT_INDEX = {name: index for index, name in enumerate(INTENTS)}
LEVEL_INDEX = {name: index for index, name in enumerate(LEVELS)}
