from encode import INPUT, clip, encode, last, target_index, token_ids

WORD = "please "


def user(text):
    return [{"role": "user", "content": text}]


def test_short_prompt_is_start_text_separator(tokenizer):
    ids = token_ids(tokenizer, "please help")
    start, separator = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    encoded = encode(tokenizer, user("please help"))
    assert encoded.ids == [start, *ids, separator]
    assert not encoded.truncated


def test_empty_prompt_and_no_messages_still_have_two_tokens(tokenizer):
    assert len(encode(tokenizer, user("")).ids) == 2
    assert len(encode(tokenizer, []).ids) == 2


def test_exact_fit_is_not_truncated_and_one_more_is(tokenizer):
    count = len(token_ids(tokenizer, WORD))
    fits = (INPUT["tokens_max"] - 2) // count
    assert not encode(tokenizer, user(WORD * fits)).truncated
    longer = encode(tokenizer, user(WORD * (fits + 1)))
    assert longer.truncated
    assert len(longer.ids) == INPUT["tokens_max"]


def test_truncation_keeps_three_fifths_of_the_head_and_the_tail(tokenizer):
    text = "please " * 200 + "thanks " * 200
    ids = token_ids(tokenizer, text)
    budget = INPUT["tokens_max"] - 2
    head = budget * 3 // 5
    assert encode(tokenizer, user(text)).ids[1:-1] == ids[:head] + ids[-(budget - head) :]


def test_text_over_two_windows_is_truncated_even_when_its_tokens_fit(tokenizer):
    encoded = encode(tokenizer, user(" " * (2 * INPUT["window_chars"] + 1)))
    assert encoded.truncated
    assert len(encoded.ids) == 2


def test_target_is_the_last_user_message_else_the_last():
    turns = [*user("a"), {"role": "assistant", "content": "b"}]
    assert target_index(turns) == 0
    assert target_index(turns[1:]) == 0
    assert target_index([]) is None


def test_context_is_system_then_last_turns_within_its_budget(tokenizer):
    messages = [{"role": "system", "content": "please " * 100}]
    for _ in range(6):
        messages += [*user("thanks " * 40), {"role": "assistant", "content": "sure " * 40}]
    messages += user("yes, do it")
    encoded = encode(tokenizer, messages)
    separator = tokenizer.token_to_id("[SEP]")
    context = encoded.ids[1 : encoded.ids.index(separator)]
    assert len(context) == INPUT["context_tokens_max"]
    system = token_ids(tokenizer, "system: " + ("please " * 100)[: INPUT["system_chars_max"]])
    system = system[: INPUT["system_tokens_max"]]
    assert context[: len(system)] == system
    assert encoded.ids[encoded.ids.index(separator) + 1 : -1] == token_ids(tokenizer, "yes, do it")


def test_clip_counts_code_points():
    text = "é" * 201
    assert clip(text, INPUT) == "é" * 120 + " ... " + "é" * 80
    assert clip(text[:200], INPUT) == text[:200]


def test_last_of_nothing_is_nothing():
    assert last([1, 2, 3], 0) == []
