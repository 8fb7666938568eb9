"""Messages -> token ids, exactly as the router does it; golden.jsonl holds both sides to it.

The last user message is what gets classified. Before it, when there is any, stands a short context: the start
of the system message and the end of the last few turns, which give meaning to a "yes, do it". A message that
does not fit keeps its start and its end, because requests put the task at either end of pasted text.
Lengths of texts are Unicode code points; lengths of ids are tokens.
"""

from dataclasses import dataclass

from tokenizers import Tokenizer

# Goes into the manifest as "input"; the router reads the numbers from there.
INPUT = {
    "tokens_max": 256,
    "context_tokens_max": 112,
    "system_tokens_max": 40,
    "system_chars_max": 200,
    "turns_max": 4,
    "turn_head_chars": 120,
    "turn_tail_chars": 80,
    "window_chars": 4096,
    "head_share_percent": 60,
}


@dataclass
class Encoded:
    ids: list[int]
    truncated: bool


def load_tokenizer(path) -> Tokenizer:
    """Reads tokenizer.json and switches off the truncation and padding it may carry, and special tokens in text."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # "[SEP]" in a prompt is text; it must not end what the caller says.
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode(tokenizer: Tokenizer, messages: list[dict], limits: dict = INPUT) -> Encoded:
    target = target_index(messages)
    context = context_ids(tokenizer, messages, target, limits)
    text = messages[target]["content"] if target is not None else ""

    specials = 3 if context else 2
    ids, truncated = text_ids(tokenizer, text, limits["tokens_max"] - specials - len(context), limits)

    start, separator = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    before = [*context, separator] if context else []
    return Encoded([start, *before, *ids, separator], truncated)


def target_index(messages: list[dict]) -> int | None:
    """Returns the place of the message to classify: the last user message, else the last one."""
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    if users:
        return users[-1]
    return len(messages) - 1 if messages else None


def context_ids(tokenizer: Tokenizer, messages: list[dict], target: int | None, limits: dict) -> list[int]:
    system = next((m["content"] for m in messages if m["role"] == "system"), None)
    turns = [m for i, m in enumerate(messages) if m["role"] != "system" and i != target]
    turns = turns[-limits["turns_max"] :]

    ids = []
    if system is not None:
        ids = token_ids(tokenizer, "system: " + system[: limits["system_chars_max"]])
        ids = ids[: limits["system_tokens_max"]]
    turn_text = "\n".join(f"{m['role']}: {clip(m['content'], limits)}" for m in turns)
    return ids + last(token_ids(tokenizer, turn_text), limits["context_tokens_max"] - len(ids))


def text_ids(tokenizer: Tokenizer, text: str, budget: int, limits: dict) -> tuple[list[int], bool]:
    """Returns the ids of the text, head and tail of them when they exceed the budget."""
    window = limits["window_chars"]
    if len(text) > 2 * window:
        head, tail = token_ids(tokenizer, text[:window]), token_ids(tokenizer, text[-window:])
    else:
        head = tail = token_ids(tokenizer, text)
        if len(head) <= budget:
            return head, False
    head_count = budget * limits["head_share_percent"] // 100
    return head[:head_count] + last(tail, budget - head_count), True


def clip(text: str, limits: dict) -> str:
    head, tail = limits["turn_head_chars"], limits["turn_tail_chars"]
    return text if len(text) <= head + tail else f"{text[:head]} ... {text[-tail:]}"


def token_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def last(items: list, count: int) -> list:
    return items[-count:] if count > 0 else []
