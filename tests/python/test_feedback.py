"""Feedback about decisions and answers: over gRPC by stubs, over HTTP by what Python brings."""

import json
import urllib.error
import urllib.request

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pointsman.v1 import completion_pb2, feedback_pb2, router_pb2, router_pb2_grpc

from conftest import CALL_S

# Well-formed, and of nobody.
NOBODYS = "0199f2a1-7c00-7abc-8def-0123456789ab"


@pytest.fixture(scope="module")
def router(demo):
    with demo.channel() as channel:
        yield router_pb2_grpc.RouterServiceStub(channel)


def decide(router) -> str:
    return router.Route(router_pb2.RouteRequest(prompt="thanks, bye!"), timeout=CALL_S).decision.decision_id


def report(router, **fields) -> feedback_pb2.ReportFeedbackResponse:
    return router.ReportFeedback(feedback_pb2.ReportFeedbackRequest(**fields), timeout=CALL_S)


def post(server, path: str, body: dict) -> tuple[int, dict, dict]:
    """Returns status, headers and JSON of an answer, also of an error."""
    request = urllib.request.Request(
        f"http://{server.http}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=CALL_S) as response:
            return response.status, dict(response.headers), json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), json.load(error)


def test_feedback_counts_once(router):
    decision = decide(router)
    fields = {
        "decision_id": decision,
        "source": feedback_pb2.FEEDBACK_SOURCE_HUMAN,
        "verdict": feedback_pb2.VERDICT_BAD,
        "right_tier": "complex",
        "comment": "zu knapp, 説明が必要",
        "demonstration": "Ä" * 100_000,
    }
    first = report(router, **fields)
    assert first.status == feedback_pb2.FEEDBACK_STATUS_RECORDED
    again = report(router, **fields)
    assert again.status == feedback_pb2.FEEDBACK_STATUS_DUPLICATE
    assert again.feedback_id == first.feedback_id
    other = report(router, **fields, score=0.1)
    assert other.status == feedback_pb2.FEEDBACK_STATUS_RECORDED
    assert other.feedback_id != first.feedback_id


def test_answers_are_judged_by_their_decision(router):
    answer = router.Complete(completion_pb2.CompleteRequest(prompt="Why is the sky blue?"), timeout=CALL_S)
    decision = answer.decision.decision_id
    told = report(router, decision_id=decision, score=1.0, feedback_id="mine")
    assert (told.status, told.feedback_id) == (feedback_pb2.FEEDBACK_STATUS_RECORDED, "mine")


def test_feedback_about_an_unknown_decision_is_kept_apart(router):
    told = report(router, decision_id=NOBODYS, verdict=feedback_pb2.VERDICT_GOOD)
    assert told.status == feedback_pb2.FEEDBACK_STATUS_UNKNOWN_DECISION


BAD = {
    "no decision": ({"score": 1}, "decision_id"),
    "no UUID": ({"decision_id": "17", "score": 1}, "decision_id"),
    "another UUID": ({"decision_id": "4f9a2f0e-93c1-4a1e-8d7e-0123456789ab", "score": 1}, "decision_id"),
    "nothing said": ({"decision_id": NOBODYS}, "verdict"),
    "a score out of range": ({"decision_id": NOBODYS, "score": 1.5}, "score"),
    "an unknown tier": ({"decision_id": NOBODYS, "right_tier": "huge"}, "right_tier"),
    "a megabyte": ({"decision_id": NOBODYS, "comment": "x" * (1 << 20)}, "comment"),
    "a long name": ({"decision_id": NOBODYS, "feedback_id": "x" * 129, "score": 1}, "feedback_id"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_feedback_names_its_field(demo, router, name):
    fields, field = BAD[name]
    with pytest.raises(grpc.RpcError) as raised:
        report(router, **fields)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    detail = error_details_pb2.BadRequest()
    assert rpc_status.from_call(raised.value).details[0].Unpack(detail)
    assert [violation.field for violation in detail.field_violations] == [field]
    status, _, body = post(demo, "/v1/feedback", fields)
    assert (status, body["error"]["param"]) == (400, field), body


def test_feedback_over_http(demo):
    _, headers, answer = post(
        demo, "/v1/chat/completions", {"model": "auto", "messages": [{"role": "user", "content": "Name a colour."}]}
    )
    assert answer["choices"][0]["message"]["content"]
    judged = {"decision_id": headers["x-pointsman-decision-id"], "verdict": "good", "source": "automatic"}
    status, _, told = post(demo, "/v1/feedback", judged)
    assert (status, told["status"]) == (200, "recorded")
    status, _, again = post(demo, "/v1/feedback", judged)
    assert (status, again) == (200, told | {"status": "duplicate"})
    status, _, told = post(demo, "/v1/feedback", {"decision_id": NOBODYS, "score": 0.5})
    assert (status, told["status"]) == (202, "unknown_decision")
    status, _, error = post(demo, "/v1/feedback", judged | {"rating": 5})
    assert (status, error["error"]["param"]) == (400, "rating")
