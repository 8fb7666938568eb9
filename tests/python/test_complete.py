"""Completions from another language: Complete, StreamComplete and AdminService of `pointsman serve --demo`."""

import json
import threading

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pointsman.v1 import admin_pb2, admin_pb2_grpc, completion_pb2, decision_pb2, request_pb2, router_pb2_grpc

from conftest import CALL_S

TIERS = ["simple", "moderate", "complex", "reasoning"]


@pytest.fixture(scope="session")
def router(demo):
    with demo.channel() as channel:
        yield router_pb2_grpc.RouterServiceStub(channel)


def ask(prompt: str, **fields) -> completion_pb2.CompleteRequest:
    return completion_pb2.CompleteRequest(prompt=prompt, **fields)


def check_summary(summary: completion_pb2.CompletionSummary) -> None:
    """Checks what holds for the account of every completion that was answered."""
    assert summary.tier in TIERS
    assert summary.target.id
    answered = [each for each in summary.attempts if each.outcome == completion_pb2.ATTEMPT_OUTCOME_ANSWERED]
    assert [each.target for each in answered] == [summary.target]
    assert summary.attempts[0].cause == completion_pb2.ATTEMPT_CAUSE_FIRST
    assert summary.usage.input_tokens > 0
    assert summary.usage.output_tokens > 0
    assert summary.cost_usd == pytest.approx(sum(attempt.cost_usd for attempt in summary.attempts))
    assert summary.baseline_cost_usd > 0
    assert summary.overhead_us > 0
    for attempt in summary.attempts:
        failed = attempt.outcome == completion_pb2.ATTEMPT_OUTCOME_FAILED
        assert attempt.HasField("error") == failed
        assert attempt.HasField("weakness") == (attempt.outcome == completion_pb2.ATTEMPT_OUTCOME_WEAK)


def streamed(messages) -> tuple:
    """Returns the opening, the deltas and the account, and checks that they come in this order."""
    opening, *deltas, finished = messages
    assert opening.WhichOneof("event") == "opening"
    assert {each.WhichOneof("event") for each in deltas} == {"delta"}
    assert finished.WhichOneof("event") == "finished"
    return opening.opening, [each.delta for each in deltas], finished.finished


def failure_of(error: grpc.RpcError) -> completion_pb2.CompletionFailure:
    failure = completion_pb2.CompletionFailure()
    assert any(detail.Unpack(failure) for detail in rpc_status.from_call(error).details)
    return failure


def test_answer_with_its_account(router):
    response = router.Complete(ask("Is this spam: win a prize now?"), timeout=CALL_S)
    assert response.answer.text
    assert response.answer.finish_reason == completion_pb2.FINISH_REASON_STOP
    assert response.answer.usage == response.summary.usage
    assert not response.answer.raw_json
    assert response.decision.tier in TIERS
    assert response.decision.source != decision_pb2.SOURCE_UNSPECIFIED
    assert not response.summary.HasField("weak")
    check_summary(response.summary)


def test_raw_answer_on_request(router):
    response = router.Complete(ask("hello", include_raw=True), timeout=CALL_S)
    raw = json.loads(response.answer.raw_json)
    assert raw["object"] == "chat.completion"
    assert raw["choices"][0]["message"]["content"] == response.answer.text


def test_stream(router):
    opening, deltas, summary = streamed(router.StreamComplete(ask("Plan a launch"), timeout=CALL_S))
    assert len(deltas) > 2
    assert "".join(delta.text for delta in deltas).strip()
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == [completion_pb2.FINISH_REASON_STOP]
    assert (opening.target, opening.tier) == (summary.target, summary.tier)
    check_summary(summary)


@pytest.mark.parametrize("tier", TIERS)
def test_tier_by_model(router, tier):
    response = router.Complete(ask("hello", model=f"tier:{tier}"), timeout=CALL_S)
    assert response.summary.tier == tier
    target = response.summary.target.id
    assert router.Complete(ask("hello", model=target), timeout=CALL_S).summary.target.id == target


def test_weak_answers_escalate(router):
    form = completion_pb2.ResponseFormat(type=completion_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT)
    generation = completion_pb2.Generation(response_format=form)
    request = ask("demo:json please", generation=generation, preferences=request_pb2.Preferences(quality=0))
    response = router.Complete(request, timeout=CALL_S)
    assert response.summary.escalated
    assert TIERS.index(response.summary.tier) > TIERS.index(response.decision.tier)
    weak = [each for each in response.summary.attempts if each.outcome == completion_pb2.ATTEMPT_OUTCOME_WEAK]
    assert weak
    assert {each.weakness.check for each in weak} == {"json"}
    json.loads(response.answer.text)
    check_summary(response.summary)


def test_failover(router):
    response = router.Complete(ask("demo:down hello", model="tier:simple"), timeout=CALL_S)
    assert response.summary.attempts[0].error.status == 503
    assert response.summary.tier == "simple"
    check_summary(response.summary)


def test_tools(router):
    tool = completion_pb2.Tool(
        name="find_parcel",
        description="Finds a parcel.",
        parameters_json=json.dumps({"type": "object", "properties": {"number": {"type": "string"}}}),
    )
    required = completion_pb2.ToolChoice(mode=completion_pb2.TOOL_MODE_REQUIRED)
    generation = completion_pb2.Generation(tools=[tool], tool_choice=required)
    request = ask("demo:tool where is parcel 7", generation=generation)
    answer = router.Complete(request, timeout=CALL_S).answer
    assert answer.finish_reason == completion_pb2.FINISH_REASON_TOOL_CALLS
    call = answer.tool_calls[0]
    assert call.name == "find_parcel"
    json.loads(call.arguments)
    _, deltas, _ = streamed(router.StreamComplete(request, timeout=CALL_S))
    parts = [part for delta in deltas for part in delta.tool_calls]
    assert "".join(part.name for part in parts) == "find_parcel"
    json.loads("".join(part.arguments for part in parts))


def test_conversation_with_parts(router):
    image = completion_pb2.ImageUrl(url="data:image/png;base64,aGk=")
    parts = [completion_pb2.ContentPart(text="what is this"), completion_pb2.ContentPart(image_url=image)]
    messages = [
        completion_pb2.ChatMessage(role="system", content="Be brief."),
        completion_pb2.ChatMessage(role="user", parts=parts),
    ]
    response = router.Complete(completion_pb2.CompleteRequest(messages=messages), timeout=CALL_S)
    assert response.answer.text


def test_broken_stream_raises(router):
    messages = []
    with pytest.raises(grpc.RpcError) as raised:
        for message in router.StreamComplete(ask("demo:cut please", model="tier:complex"), timeout=CALL_S):
            messages.append(message.WhichOneof("event"))
    assert raised.value.code() == grpc.StatusCode.ABORTED
    assert messages[0] == "opening"
    assert "finished" not in messages
    failure = failure_of(raised.value)
    assert failure.kind == completion_pb2.FAILURE_KIND_BROKEN_OFF
    assert failure.attempts[-1].error.kind == "cut"
    # A whole answer comes from another target.
    response = router.Complete(ask("demo:cut please", model="tier:complex"), timeout=CALL_S)
    assert len(response.summary.attempts) > 1


def test_deadline(router):
    with pytest.raises(grpc.RpcError) as raised:
        router.Complete(ask("demo:slow please"), timeout=2)
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_cancelled_stream_ends(router):
    call = router.StreamComplete(ask("Plan a launch"), timeout=CALL_S)
    next(call)
    call.cancel()
    with pytest.raises(grpc.RpcError) as raised:
        list(call)
    assert raised.value.code() == grpc.StatusCode.CANCELLED


BAD = {
    "nothing": (completion_pb2.CompleteRequest(), "messages"),
    "unknown model": (ask("x", model="no-such"), "model"),
    "role": (
        completion_pb2.CompleteRequest(messages=[completion_pb2.ChatMessage(role="robot", content="x")]),
        "messages[0].role",
    ),
    "extra fields": (ask("x", extra_json="{"), "extra_json"),
    "a field of the router's": (ask("x", extra_json='{"stream": true}'), "extra_json.stream"),
    "tokens": (ask("x", generation={"max_output_tokens": -1}), "generation.max_output_tokens"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_request_names_its_field(router, name):
    request, field = BAD[name]
    for call in (router.Complete, lambda *arguments, **options: list(router.StreamComplete(*arguments, **options))):
        with pytest.raises(grpc.RpcError) as raised:
            call(request, timeout=CALL_S)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        detail = error_details_pb2.BadRequest()
        assert any(each.Unpack(detail) for each in rpc_status.from_call(raised.value).details)
        assert [violation.field for violation in detail.field_violations] == [field]


def test_many_streams_at_once(router):
    texts = []

    def read() -> None:
        _, deltas, _ = streamed(router.StreamComplete(ask("Plan a launch"), timeout=CALL_S))
        texts.append("".join(delta.text for delta in deltas))

    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(CALL_S)
    assert len(texts) == 16
    assert all(texts)


def test_operators_see_targets_and_spend(demo, router):
    router.Complete(ask("hello"), timeout=CALL_S)
    with grpc.insecure_channel(demo.admin) as channel:
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        targets = admin.ListTargets(admin_pb2.ListTargetsRequest(), timeout=CALL_S).targets
        spend = admin.GetSpend(admin_pb2.GetSpendRequest(), timeout=CALL_S)
    assert {tier for report in targets for tier in report.tiers} == set(TIERS)
    assert any(report.calls for report in targets)
    assert all(report.state != admin_pb2.TARGET_STATE_UNSPECIFIED for report in targets)
    assert spend.today.spent_usd > 0
    assert spend.today.saved_usd == pytest.approx(spend.today.baseline_usd - spend.today.spent_usd)
