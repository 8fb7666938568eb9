"""Applications that change their base URL only: the SDKs of OpenAI and Anthropic against `serve --demo`."""

import json
import signal

import anthropic
import httpx2
import openai
import pytest

from conftest import CALL_S, STOP_S, Server

TIERS = ["simple", "moderate", "complex", "reasoning"]
# The first target of each tier of the built-in configuration.
FIRST = ["gpt-6-luna", "gpt-6.1-terra", "claude-sonnet-5-5", "claude-opus-5-5"]
NOTICE = "no model was called"
QUESTION = "Is this spam: win a prize now?"
PARAMETERS = {"type": "object", "properties": {"note": {"type": "string"}}, "required": ["note"]}
OPENAI_TOOL = {"type": "function", "function": {"name": "take_note", "parameters": PARAMETERS}}
ANTHROPIC_TOOL = {"name": "take_note", "description": "Keeps a note", "input_schema": PARAMETERS}


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def openai_client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://{server.http}/v1", api_key="none", max_retries=0, timeout=CALL_S)


def anthropic_client(server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=f"http://{server.http}", api_key="none", max_retries=0, timeout=CALL_S)


@pytest.fixture(scope="session")
def chat(demo):
    with openai_client(demo) as client:
        yield client


@pytest.fixture(scope="session")
def claude(demo):
    with anthropic_client(demo) as client:
        yield client


def told(response) -> dict[str, str]:
    """Returns what the headers say of the decision."""
    prefix = "x-pointsman-"
    return {name[len(prefix) :]: value for name, value in response.headers.items() if name.startswith(prefix)}


def text_of(chunks) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# OpenAI


def test_chat_is_answered(chat):
    raw = chat.chat.completions.with_raw_response.create(model="auto", messages=user(QUESTION))
    answer = raw.parse()
    choice = answer.choices[0]
    assert NOTICE in choice.message.content
    assert choice.finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    headers = told(raw)
    assert headers["tier"] in TIERS
    assert headers["target"] in choice.message.content
    assert headers["attempts"] == "1"
    assert headers["escalated"] == "false"
    assert 0 < float(headers["cost-usd"]) <= float(headers["baseline-cost-usd"])
    assert float(headers["overhead-ms"]) > 0
    assert headers["decision-id"]
    assert answer._request_id.startswith("req_")


def test_chat_streams(chat):
    chunks = list(chat.chat.completions.create(model="auto", messages=user(QUESTION), stream=True))
    assert NOTICE in text_of(chunks)
    assert len(chunks) > 10
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_stream_ends_with_its_usage_and_account(chat):
    options = {"include_usage": True}
    chunks = list(
        chat.chat.completions.create(model="tier:complex", messages=user(QUESTION), stream=True, stream_options=options)
    )
    assert NOTICE in text_of(chunks)
    last = chunks[-1]
    assert last.choices == []
    assert last.usage.total_tokens > 0
    account = last.model_extra["pointsman"]
    assert account["tier"] == "complex"
    assert account["target"] == FIRST[2]
    assert account["cost_usd"] > 0
    assert account["attempts"] == 1
    assert all(chunk.usage is None for chunk in chunks[:-1])


@pytest.mark.parametrize(("tier", "target"), list(zip(TIERS, FIRST, strict=True)))
def test_tiers_and_targets_can_be_asked_for(chat, tier, target):
    for model in (f"tier:{tier}", target):
        raw = chat.chat.completions.with_raw_response.create(model=model, messages=user("Say hello"))
        assert told(raw)["tier"] == tier
        assert told(raw)["target"] == target
        assert raw.parse().model == target


def test_preferences_by_body_and_by_header(chat):
    by_body = chat.chat.completions.with_raw_response.create(
        model="auto", messages=user("thanks!"), extra_body={"pointsman": {"tier_min": "moderate", "tenant": "a"}}
    )
    assert told(by_body)["tier"] == "moderate"
    by_header = chat.chat.completions.with_raw_response.create(
        model="auto", messages=user("thanks!"), extra_headers={"x-pointsman-tier-min": "moderate"}
    )
    assert told(by_header)["tier"] == "moderate"


def test_tools_are_called(chat):
    answer = chat.chat.completions.create(
        model="auto", messages=user("demo:tool"), tools=[OPENAI_TOOL], tool_choice="required"
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.id
    assert call.function.name == "take_note"
    assert "scripted" in json.loads(call.function.arguments)["note"]
    turns = [*user("demo:tool"), choice.message, {"role": "tool", "tool_call_id": call.id, "content": "noted"}]
    after = chat.chat.completions.create(model="auto", messages=turns, tools=[OPENAI_TOOL])
    assert NOTICE in after.choices[0].message.content


def test_tool_calls_stream(chat):
    with chat.chat.completions.stream(model="auto", messages=user("demo:tool"), tools=[OPENAI_TOOL]) as stream:
        stream.until_done()
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls[0].function.name == "take_note"
    assert "scripted" in json.loads(message.tool_calls[0].function.arguments)["note"]


def test_json_is_answered(chat):
    answer = chat.chat.completions.create(
        model="auto", messages=user("Answer in JSON"), response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content)


def test_weak_answers_climb(chat):
    raw = chat.chat.completions.with_raw_response.create(model="auto", messages=user("demo:weak Say hello"))
    headers = told(raw)
    assert headers["escalated"] == "true", headers
    assert headers["decided-tier"] in ("simple", "moderate")
    assert headers["tier"] == "complex"
    assert int(headers["attempts"]) > 1


def test_a_target_that_is_down_is_passed_over(chat):
    raw = chat.chat.completions.with_raw_response.create(model="tier:simple", messages=user("demo:down"))
    assert told(raw)["tier"] == "simple"
    assert told(raw)["target"] != FIRST[0]


def test_models_are_listed(chat):
    ids = [model.id for model in chat.models.list()]
    assert ids[0] == "auto"
    assert {f"tier:{tier}" for tier in TIERS} <= set(ids)
    assert set(FIRST) <= set(ids)
    assert chat.models.retrieve(FIRST[0]).owned_by == "openai"
    with pytest.raises(openai.NotFoundError):
        chat.models.retrieve("no-such")


def test_an_unknown_model_is_not_found(chat):
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as raised:
            chat.chat.completions.create(model="no-such", messages=user("x"), stream=stream)
        assert raised.value.code == "model_not_found"
        assert raised.value.param == "model"
        assert "no-such" in raised.value.message


def test_bad_requests_name_their_field(chat):
    with pytest.raises(openai.BadRequestError) as raised:
        chat.chat.completions.create(model="auto", messages=[])
    assert raised.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as raised:
        chat.chat.completions.create(model="auto", messages=[{"role": "robot", "content": "x"}])
    assert raised.value.param == "messages[0].role"
    with pytest.raises(openai.BadRequestError) as raised:
        chat.chat.completions.create(model="auto", messages=user("x"), extra_headers={"x-pointsman-quality": "9"})
    assert raised.value.param == "x-pointsman-quality"
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        chat.chat.completions.create(model="auto", messages=user("x"), extra_body={"pointsman": {"cost_usd_max": 0.0}})
    assert raised.value.code == "no_target"


def test_a_broken_stream_raises(chat):
    stream = chat.chat.completions.create(model=FIRST[0], messages=user("demo:cut"), stream=True)
    seen = []
    with pytest.raises(openai.APIError) as raised:
        for chunk in stream:
            seen.append(chunk)
    assert "This is a scripted answer" in text_of(seen)
    assert all(chunk.choices[0].finish_reason is None for chunk in seen)
    assert raised.value.code == "broken_off"
    assert raised.value.body["pointsman"]["attempts"][0]["target"] == FIRST[0]


def test_a_failure_lists_its_attempts(chat):
    with pytest.raises(openai.RateLimitError) as raised:
        chat.chat.completions.create(model=FIRST[1], messages=user("demo:rate-limit"))
    attempts = raised.value.body["pointsman"]["attempts"]
    assert {attempt["error"] for attempt in attempts} == {"rate_limited"}
    assert raised.value.response.headers["x-pointsman-attempts"] == str(len(attempts))


# Anthropic


def test_message_is_answered(claude):
    raw = claude.messages.with_raw_response.create(
        model="auto", max_tokens=200, system="You are brief.", messages=user(QUESTION)
    )
    message = raw.parse()
    assert message.type == "message"
    assert message.role == "assistant"
    assert message.stop_reason == "end_turn"
    text = next(block.text for block in message.content if block.type == "text")
    assert NOTICE in text
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0
    assert told(raw)["target"] in text
    assert message._request_id.startswith("req_")


@pytest.mark.parametrize("model", ["auto", "tier:reasoning"])
def test_message_streams(claude, model):
    with claude.messages.stream(model=model, max_tokens=500, messages=user(QUESTION)) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert NOTICE in text
    assert [block.text for block in message.content if block.type == "text"] == [text]
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0


def test_message_calls_tools(claude):
    asked = {"model": "auto", "max_tokens": 200, "tools": [ANTHROPIC_TOOL]}
    message = claude.messages.create(messages=user("demo:tool"), **asked)
    assert message.stop_reason == "tool_use"
    call = message.content[-1]
    assert call.type == "tool_use"
    assert call.name == "take_note"
    assert "scripted" in call.input["note"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "noted"}
    turns = [
        *user("demo:tool"),
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [result]},
    ]
    after = claude.messages.create(messages=turns, **asked)
    assert after.stop_reason == "end_turn"
    with claude.messages.stream(messages=user("demo:tool"), **asked) as stream:
        streamed = stream.get_final_message()
    assert streamed.stop_reason == "tool_use"
    assert streamed.content[-1].input == call.input


def test_tokens_are_counted(claude):
    short = claude.messages.count_tokens(model="auto", messages=user("Hello"))
    long = claude.messages.count_tokens(model="auto", messages=user("Hello, how are you today? " * 20))
    assert 0 < short.input_tokens < long.input_tokens


def test_models_are_listed_for_anthropic(claude):
    models = list(claude.models.list())
    assert models[0].id == "auto"
    assert set(FIRST) <= {model.id for model in models}
    assert claude.models.retrieve("auto").type == "model"


def test_message_errors(claude):
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="no-such", max_tokens=9, messages=user("x"))
    with pytest.raises(anthropic.BadRequestError) as raised:
        claude.messages.create(model="auto", max_tokens=9, messages=[])
    assert "messages" in raised.value.body["error"]["message"]
    assert raised.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.NotFoundError):
        claude.post("/v1/nothing", cast_to=object, body={})


def test_a_broken_message_raises(claude):
    seen = []
    with (
        pytest.raises(anthropic.APIStatusError) as raised,
        claude.messages.stream(model=FIRST[0], max_tokens=200, messages=user("demo:cut")) as stream,
    ):
        for text in stream.text_stream:
            seen.append(text)
    assert "This is a scripted answer" in "".join(seen)
    assert raised.value.body["error"]["type"] == "api_error"


# The end


def test_a_stream_that_a_stop_cuts_raises(tmp_path):
    with Server(tmp_path, "[server]\ndrain_ms = 100\n", more=("--demo",)) as running, openai_client(running) as client:
        stream = client.chat.completions.create(model="auto", messages=user("demo:slow"), stream=True)
        next(stream)
        running.process.send_signal(signal.SIGTERM)
        with pytest.raises((openai.APIError, httpx2.HTTPError)):
            list(stream)
        assert running.process.wait(STOP_S) == 0, running.log()
