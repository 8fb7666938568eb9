"""A caller in another language: gRPC from Python against a running server, as the proto describes it."""

import http.client
import signal
import threading
import time
import uuid

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from pointsman.v1 import decision_pb2, request_pb2, router_pb2, router_pb2_grpc

from conftest import CALL_S, ROUTER, STOP_S, Server

TIERS = ["simple", "moderate", "complex", "reasoning"]
SCORED = (decision_pb2.SOURCE_CLASSIFIER, decision_pb2.SOURCE_CACHE)
# No rule of the built-in configuration decides these.
EVERYDAY = "Write a short note to the landlord that the heating in the kitchen has been cold since Monday"
HARD = (
    "Prove that the lock-free queue below is linearizable when two producers race on the tail, "
    "or give an interleaving of memory operations that breaks it, and design the repair"
)
REPEATS = 50
OTHER_THREADS = 8
OTHERS = [
    "who pays when the parcel is lost on its way",
    "Summarise the minutes of the supervisory board in five points. " + "The chair opened the meeting. " * 40,
    "warum ist der Himmel am Abend rot und am Mittag blau",
    "def f(x):\n    return x if x < 2 else f(x - 1) + f(x - 2)\nmake this fast and say why it was slow",
    "次の文章を丁寧な英語に訳してください。会議は来週に延期されました。",
    HARD,
]


@pytest.fixture(scope="session")
def router(server):
    with server.channel() as channel:
        yield router_pb2_grpc.RouterServiceStub(channel)


@pytest.fixture(scope="session")
def uncached_router(uncached):
    with uncached.channel() as channel:
        yield router_pb2_grpc.RouterServiceStub(channel)


def route(router, **fields) -> decision_pb2.Decision:
    return router.Route(router_pb2.RouteRequest(**fields), timeout=CALL_S).decision


def message(role: str, content: str) -> request_pb2.Message:
    return request_pb2.Message(role=role, content=content)


def check_decision(decision: decision_pb2.Decision) -> None:
    """Checks what holds for every decision of the built-in configuration."""
    identity = uuid.UUID(decision.decision_id)
    assert identity.version == 7
    assert abs((identity.int >> 80) / 1000 - time.time()) < 600
    assert decision.tier in TIERS
    targets = [decision.target, *decision.failover]
    assert all(target.id and target.provider and target.model for target in targets)
    assert len({target.id for target in targets}) == len(targets)
    assert decision.source != decision_pb2.SOURCE_UNSPECIFIED
    assert decision.prompt_tokens_source != decision_pb2.TOKEN_COUNT_SOURCE_UNSPECIFIED
    assert decision.prompt_tokens > 0
    assert 0 <= decision.confidence <= 1
    assert 0 <= decision.intent_confidence <= 1
    assert decision.reason.strip()
    assert decision.config_generation >= 1
    assert decision.cost_usd_estimate > 0
    assert decision.baseline_cost_usd > 0
    timings = decision.timings
    parts = ("rules_us", "queue_us", "tokenize_us", "inference_us", "policy_us")
    # Each part is rounded down on its own.
    assert sum(getattr(timings, part) for part in parts) <= timings.total_us + len(parts)
    if decision.source in SCORED:
        assert [score.tier for score in decision.tier_scores] == TIERS
        scores = [score.sufficiency for score in decision.tier_scores]
        assert all(0 <= score <= 1 for score in scores)
        assert scores == sorted(scores)
        assert scores[-1] == 1
        assert decision.intent
        assert decision.bundle_version
    if decision.source == decision_pb2.SOURCE_RULE:
        assert decision.rule


def scores_of(decision: decision_pb2.Decision) -> tuple:
    """Returns everything that the model had a say in; equal only when every bit is."""
    scores = [(score.tier, score.sufficiency) for score in decision.tier_scores]
    return (*scores, decision.intent, decision.intent_confidence, decision.confidence)


def refused(code: grpc.StatusCode, call, *arguments) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        call(*arguments, timeout=CALL_S)
    assert raised.value.code() == code, raised.value.details()
    return raised.value


def detail(error: grpc.RpcError, kind):
    """Returns the error's rich detail of this kind."""
    found = []
    for packed in rpc_status.from_call(error).details:
        unpacked = kind()
        if packed.Unpack(unpacked):
            found.append(unpacked)
    assert len(found) == 1, f"{kind.__name__}: {found}"
    return found[0]


def bad_fields(error: grpc.RpcError) -> list[str]:
    violations = detail(error, error_details_pb2.BadRequest).field_violations
    assert all(violation.description for violation in violations)
    return [violation.field for violation in violations]


# Decisions


def test_prompt_is_scored(router):
    # No other test sends this one, so it cannot be in the cache.
    prompt = "How would you tell a tenant in plain words that the lift stays out of order until Friday"
    decision = route(router, prompt=prompt)
    check_decision(decision)
    assert decision.source == decision_pb2.SOURCE_CLASSIFIER
    assert decision.prompt_tokens_source == decision_pb2.TOKEN_COUNT_SOURCE_TOKENIZER
    assert not decision.truncated
    assert decision.timings.inference_us > 0
    again = route(router, prompt=prompt)
    check_decision(again)
    assert again.source == decision_pb2.SOURCE_CACHE
    assert scores_of(again) == scores_of(decision)
    assert again.decision_id != decision.decision_id


def test_conversation_is_scored(router):
    turns = [
        message("system", "You help the staff of a lending library."),
        message("user", "Draft a reminder for overdue books."),
        message("assistant", "Dear reader, three of your books were due last week."),
        message("user", "Now the same for members under twelve, kinder and shorter."),
    ]
    decision = route(router, messages=turns)
    check_decision(decision)
    assert decision.source == decision_pb2.SOURCE_CLASSIFIER


def test_prompt_is_short_for_one_user_message(uncached_router):
    by_prompt = route(uncached_router, prompt=EVERYDAY)
    by_messages = route(uncached_router, messages=[message("user", EVERYDAY)])
    assert by_prompt.source == by_messages.source == decision_pb2.SOURCE_CLASSIFIER
    assert scores_of(by_prompt) == scores_of(by_messages)
    assert by_prompt.prompt_tokens == by_messages.prompt_tokens


def test_rule_decides_thanks(router):
    decision = route(router, prompt="thanks!")
    check_decision(decision)
    assert decision.source == decision_pb2.SOURCE_RULE
    assert decision.rule == "thanks"
    assert decision.tier == "simple"
    assert decision.cost_usd_estimate <= decision.baseline_cost_usd
    assert decision.timings.inference_us == 0
    assert not decision.tier_scores


def test_long_prompt_is_truncated(router):
    decision = route(router, prompt="The committee met again and nothing was decided. " * 2000)
    check_decision(decision)
    assert decision.truncated


def test_explain_lists_the_rules_that_matched(router):
    explained = route(router, prompt="thanks!", explain=True)
    matches = [(match.rule, match.effect) for match in explained.rule_matches]
    assert matches == [("thanks", decision_pb2.RULE_EFFECT_DECIDES)]
    assert not route(router, prompt="thanks!").rule_matches


def test_callers_token_count_wins(router):
    decision = route(router, prompt=EVERYDAY, shape=request_pb2.Shape(prompt_tokens=4321))
    assert decision.prompt_tokens == 4321
    assert decision.prompt_tokens_source == decision_pb2.TOKEN_COUNT_SOURCE_CALLER


# Preferences


def test_tier_limits_hold(router):
    for limit in TIERS:
        below = route(router, prompt=HARD, preferences=request_pb2.Preferences(tier_max=limit))
        check_decision(below)
        assert TIERS.index(below.tier) <= TIERS.index(limit)
        above = route(router, prompt="thanks!", preferences=request_pb2.Preferences(tier_min=limit))
        check_decision(above)
        assert TIERS.index(above.tier) >= TIERS.index(limit)
    only = request_pb2.Preferences(tier_min="complex", tier_max="complex")
    assert route(router, prompt=HARD, preferences=only).source == decision_pb2.SOURCE_OVERRIDE


def test_more_quality_never_means_a_lower_tier(router):
    tiers = [
        route(router, prompt=EVERYDAY, preferences=request_pb2.Preferences(quality=quality)).tier
        for quality in (0, 0.25, 0.5, 0.75, 0.9, 1)
    ]
    places = [TIERS.index(tier) for tier in tiers]
    assert places == sorted(places)
    assert places[0] < places[-1]


def test_targets_and_cost_limits_hold(router):
    usual = route(router, prompt=EVERYDAY)
    denied = request_pb2.Preferences(deny_targets=[usual.target.id])
    without = route(router, prompt=EVERYDAY, preferences=denied)
    assert usual.target.id not in [target.id for target in (without.target, *without.failover)]
    allowed = request_pb2.Preferences(allow_targets=[usual.failover[0].id])
    only = route(router, prompt=EVERYDAY, preferences=allowed)
    assert only.target == usual.failover[0]
    assert not only.failover
    limit = usual.baseline_cost_usd / 2
    cheap = request_pb2.Preferences(quality=1, cost_usd_max=limit)
    assert route(router, prompt=HARD, preferences=cheap).cost_usd_estimate <= limit


# Reproducible scores


def test_scores_are_the_same_whatever_else_is_in_flight(uncached, uncached_router):
    expected = scores_of(route(uncached_router, prompt=EVERYDAY))
    stop = threading.Event()
    sent = [0] * OTHER_THREADS
    failures = []
    all_busy = threading.Barrier(OTHER_THREADS + 1)

    def send_others(thread: int) -> None:
        try:
            with uncached.channel() as channel:
                other = router_pb2_grpc.RouterServiceStub(channel)
                while not stop.is_set():
                    text = f"{OTHERS[sent[thread] % len(OTHERS)]} ({thread}, {sent[thread]})"
                    check_decision(route(other, prompt=text))
                    sent[thread] += 1
                    if sent[thread] == 1:
                        all_busy.wait(CALL_S)
        except Exception as error:
            all_busy.abort()
            failures.append(error)

    threads = [threading.Thread(target=send_others, args=(thread,)) for thread in range(OTHER_THREADS)]
    for thread in threads:
        thread.start()
    try:
        all_busy.wait(CALL_S)
        decisions = [route(uncached_router, prompt=EVERYDAY) for _ in range(REPEATS)]
    finally:
        stop.set()
        for thread in threads:
            thread.join(CALL_S)
    assert not failures
    assert min(sent) > 1
    assert all(decision.source == decision_pb2.SOURCE_CLASSIFIER for decision in decisions)
    assert {scores_of(decision) for decision in decisions} == {expected}


# Batches


def test_batch_keeps_the_order(router):
    prompts = ["thanks!", EVERYDAY, HARD, *OTHERS] * 10
    requests = [
        router_pb2.RouteRequest(prompt=prompt, shape=request_pb2.Shape(prompt_tokens=at + 1))
        for at, prompt in enumerate(prompts)
    ]
    response = router.RouteBatch(router_pb2.RouteBatchRequest(requests=requests), timeout=CALL_S)
    assert [result.WhichOneof("outcome") for result in response.results] == ["decision"] * len(prompts)
    decisions = [result.decision for result in response.results]
    for decision in decisions:
        check_decision(decision)
    assert [decision.prompt_tokens for decision in decisions] == list(range(1, len(prompts) + 1))
    by_thanks = [decision.rule == "thanks" for decision in decisions]
    assert by_thanks == [prompt == "thanks!" for prompt in prompts]


def test_bad_item_of_a_batch_fails_alone(router):
    requests = [router_pb2.RouteRequest(prompt="thanks!") for _ in range(5)]
    requests[3] = router_pb2.RouteRequest(messages=[message("robot", "hello")])
    results = router.RouteBatch(router_pb2.RouteBatchRequest(requests=requests), timeout=CALL_S).results
    assert [result.WhichOneof("outcome") for result in results] == ["decision"] * 3 + ["error", "decision"]
    error = results[3].error
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert error.field == "requests[3].messages[0].role"
    assert "robot" in error.message


# Bad input

BAD = {
    "empty request": ({}, "messages"),
    "prompt and messages": ({"prompt": "a", "messages": [message("user", "b")]}, "prompt"),
    "unknown role": ({"messages": [message("user", "a"), message("robot", "b")]}, "messages[1].role"),
    "quality above 1": (
        {"prompt": "a", "preferences": request_pb2.Preferences(quality=2.0)},
        "preferences.quality",
    ),
    "negative tokens": ({"prompt": "a", "shape": request_pb2.Shape(prompt_tokens=-1)}, "shape.prompt_tokens"),
    "unknown tier": (
        {"prompt": "a", "preferences": request_pb2.Preferences(tier_max="enormous")},
        "preferences.tier_max",
    ),
    "unknown target": (
        {"prompt": "a", "preferences": request_pb2.Preferences(deny_targets=["nobody"])},
        "preferences.deny_targets[0]",
    ),
    "5 MB prompt": ({"prompt": "x" * 5_000_000}, "prompt"),
    "5 MB message": ({"messages": [message("user", "x" * 5_000_000)]}, "messages[0].content"),
    "10,000 messages": ({"messages": [message("user", "x")] * 10_000}, "messages"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_request_names_its_field(router, name):
    fields, expected = BAD[name]
    error = refused(grpc.StatusCode.INVALID_ARGUMENT, router.Route, router_pb2.RouteRequest(**fields))
    assert bad_fields(error) == [expected]
    assert expected in error.details()
    check_decision(route(router, prompt="thanks!"))


def test_every_bad_field_is_named_at_once(router):
    request = router_pb2.RouteRequest(
        messages=[message("robot", "a")],
        shape=request_pb2.Shape(prompt_tokens=-1, max_output_tokens=-1),
        preferences=request_pb2.Preferences(quality=-0.5, tier_min="enormous"),
    )
    error = refused(grpc.StatusCode.INVALID_ARGUMENT, router.Route, request)
    assert set(bad_fields(error)) == {
        "messages[0].role",
        "shape.prompt_tokens",
        "shape.max_output_tokens",
        "preferences.quality",
        "preferences.tier_min",
    }


@pytest.mark.parametrize("count", [0, 10_000])
def test_batch_of_a_bad_size_is_refused(router, count):
    request = router_pb2.RouteBatchRequest(requests=[router_pb2.RouteRequest(prompt="thanks!")] * count)
    error = refused(grpc.StatusCode.INVALID_ARGUMENT, router.RouteBatch, request)
    assert bad_fields(error) == ["requests"]
    check_decision(route(router, prompt="thanks!"))


def test_no_target_left_names_why_each_dropped_out(router):
    ids = set()
    for tier in TIERS:
        decision = route(router, prompt="a", preferences=request_pb2.Preferences(tier_min=tier, tier_max=tier))
        ids |= {target.id for target in (decision.target, *decision.failover)}
    request = router_pb2.RouteRequest(prompt=EVERYDAY, preferences=request_pb2.Preferences(deny_targets=sorted(ids)))
    error = refused(grpc.StatusCode.FAILED_PRECONDITION, router.Route, request)
    violations = detail(error, error_details_pb2.PreconditionFailure).violations
    assert {violation.subject.split("/", 1)[1] for violation in violations} == ids
    assert all(violation.type == "TARGET" and violation.description for violation in violations)


# Transport


def test_compressed_request_is_read(router):
    request = router_pb2.RouteRequest(prompt=EVERYDAY * 50)
    response = router.Route(request, timeout=CALL_S, compression=grpc.Compression.Gzip)
    check_decision(response.decision)


def test_short_deadlines_do_not_break_the_server(uncached_router):
    def give_up_at_once(at: int) -> grpc.StatusCode:
        try:
            uncached_router.Route(router_pb2.RouteRequest(prompt=f"{HARD} ({at})"), timeout=0.001)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    codes = {give_up_at_once(at) for at in range(100)}
    # CANCELLED is what tonic answers when its own timer fires before this client's: one call in some thousands.
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
    decision = route(uncached_router, prompt=EVERYDAY)
    check_decision(decision)
    assert decision.source == decision_pb2.SOURCE_CLASSIFIER


def test_garbage_gets_an_error_and_the_next_call_an_answer(server, router):
    with server.channel() as channel:
        raw = channel.unary_unary(f"/{ROUTER}/Route", request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.RpcError) as raised:
            # Field 2, two bytes long, is not UTF-8.
            raw(b"\x12\x02\xff\xfe", timeout=CALL_S)
    # The transport decodes before the router sees anything, so its code is the transport's choice.
    assert raised.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
    check_decision(route(router, prompt="thanks!"))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services_and_resolves_messages(server, version):
    # The two versions differ in the package's name only, and grpcio-reflection ships v1alpha's types.
    method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    request = reflection_pb2.ServerReflectionRequest
    questions = [request(list_services=""), request(file_containing_symbol="pointsman.v1.RouteRequest")]
    with server.channel() as channel:
        ask = channel.stream_stream(
            method,
            request_serializer=request.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        services, file = list(ask(iter(questions), timeout=CALL_S))
    names = {service.name for service in services.list_services_response.service}
    assert {ROUTER, "grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection"} <= names
    assert any(b"RouteRequest" in proto for proto in file.file_descriptor_response.file_descriptor_proto)


def test_reflection_is_enough_for_a_client_without_stubs(server):
    with server.channel() as channel:
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        by_reflection = pool.FindMessageTypeByName("pointsman.v1.RouteRequest")
        methods = pool.FindServiceByName(ROUTER).methods_by_name
    fields = [(field.name, field.number) for field in router_pb2.RouteRequest.DESCRIPTOR.fields]
    assert [(field.name, field.number) for field in by_reflection.fields] == fields
    assert {"Route", "RouteBatch"} <= set(methods)


def test_health_of_an_unknown_service_is_not_found(server):
    with server.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        refused(grpc.StatusCode.NOT_FOUND, health.Check, health_pb2.HealthCheckRequest(service="nobody"))


def get(server: Server, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(server.http, timeout=CALL_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_metrics_and_probes_over_http(server, router):
    route(router, prompt="thanks!")
    status, metrics = get(server, "/metrics")
    assert status == 200
    lines = [line for line in metrics.splitlines() if line.startswith("pointsman_decisions_total{")]
    assert any('source="rule"' in line and 'tier="simple"' in line for line in lines), metrics
    assert "thanks!" not in metrics
    assert get(server, "/readyz")[0] == 200
    assert get(server, "/healthz")[0] == 200


# Shutdown


def test_sigterm_ends_the_server_while_a_channel_is_open(tmp_path):
    with Server(tmp_path) as running, running.channel() as channel:
        check_decision(route(router_pb2_grpc.RouterServiceStub(channel), prompt="thanks!"))
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(STOP_S) == 0, running.log()


def test_sigterm_is_told_to_watchers_and_ends_within_the_grace_period(tmp_path):
    with Server(tmp_path, "[server]\ndrain_ms = 1000\n") as running, running.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=ROUTER), timeout=CALL_S)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        running.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert running.process.wait(STOP_S) == 0, running.log()
