import http.client
import json
import re
import threading

import pytest

import label
import traffic
from labels import INTENTS

TEXTS = ("first of all", "then </script> this", "at last")


def write_queue(folder):
    path = folder / "queue.jsonl"
    entries = [{"text_hash": f"h{n}", "messages": [{"role": "user", "content": text}]} for n, text in enumerate(TEXTS)]
    entries[0]["reasons"] = ["random"]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


@pytest.fixture
def desk(tmp_path):
    return label.Desk(write_queue(tmp_path), tmp_path / "labels.jsonl", "me")


@pytest.fixture
def site(desk):
    with label.make_server(desk, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def call(server, method, path, body=None, **headers):
    host, port = server.server_address
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request(method, path, body=body, headers={"host": f"127.0.0.1:{port}"} | headers)
    reply = connection.getresponse()
    content = reply.read().decode()
    connection.close()
    return reply.status, content


def token_of(server):
    status, page = call(server, "GET", "/")
    assert status == 200
    return re.search(r'"token": "([^"]+)"', page)[1]


def post(server, path, value):
    status, content = call(server, "POST", path, json.dumps(value), **{"x-token": token_of(server)})
    return status, json.loads(content)


def test_labels_go_round_from_page_to_training(site, desk):
    status, state = call(site, "GET", "/next")
    assert json.loads(state)["entry"]["text_hash"] == "h0"
    status, state = post(site, "/label", {"text_hash": "h0", "right_tier": "complex", "right_intent": "code"})
    assert (status, state["done"], state["entry"]["text_hash"]) == (200, 1, "h1")
    status, state = post(site, "/label", {"text_hash": "h1", "skipped": True})
    assert state["entry"]["text_hash"] == "h2"
    post(site, "/undo", {})
    post(site, "/undo", {})
    status, state = post(site, "/label", {"text_hash": "h0", "right_tier": "simple", "note": "was wrong"})
    assert (state["done"], state["entry"]["text_hash"]) == (1, "h1")

    labels = traffic.read_labels([desk.out])
    assert {key: (vote.enough, vote.intent) for key, vote in labels.items()} == {"h0": (0, None)}
    assert [json.loads(line).get("reasons") for line in desk.out.open()][-1] == ["random"]
    assert labels["h0"].measures
    again = label.Desk(desk.out.with_name("queue.jsonl"), desk.out, "me")
    assert again.next()["entry"]["text_hash"] == "h1"
    assert [json.loads(line).get("by") for line in desk.out.open()] == ["me", "me", None, None, "me"]


def test_wrong_labels_are_refused_by_name_and_not_kept(site, desk):
    for given, expected in (
        ({"text_hash": "other", "right_tier": "simple"}, "text_hash: not in this queue"),
        ({"text_hash": "h0"}, "choose a tier or an intent"),
        ({"text_hash": "h0", "right_tier": "huge"}, "right_tier: not one of simple"),
        ({"text_hash": "h0", "right_intent": "poetry"}, "right_intent: not one of chitchat"),
        ({"text_hash": "h0", "right_tier": "simple", "note": "x" * 2001}, "note: a text of at most 2000"),
        ([], "text_hash: not in this queue"),
    ):
        status, answer = post(site, "/label", given)
        assert status == 400
        assert expected in answer["error"]
    status, _ = call(site, "POST", "/label", "{", **{"x-token": token_of(site)})
    assert status == 400
    status, _ = call(site, "POST", "/label", "x" * (label.BODY_BYTES_MAX + 1), **{"x-token": token_of(site)})
    assert status == 413
    assert not desk.out.exists()


def test_only_this_machines_own_page_may_label(site, desk):
    body = json.dumps({"text_hash": "h0", "right_tier": "simple"})
    assert call(site, "POST", "/label", body)[0] == 403
    assert call(site, "POST", "/label", body, **{"x-token": "guess"})[0] == 403
    # A foreign name that points at this machine reads nothing.
    assert call(site, "GET", "/next", host="evil.example:80")[0] == 403
    assert call(site, "GET", "/", host="evil.example:80")[0] == 403
    assert site.server_address[0] == "127.0.0.1"
    assert not desk.out.exists()


def test_the_page_has_the_rubric_and_a_key_for_every_label(site):
    page = call(site, "GET", "/")[1]
    assert "the weakest level of model that will do" in page
    assert page.count("<table>") == page.count("</table>") >= 3
    assert len(set(label.INTENT_KEYS)) == len(label.INTENT_KEYS) == len(INTENTS)
    assert not set(label.INTENT_KEYS) & set("sup1234")


def test_a_broken_queue_or_label_file_is_named(tmp_path):
    queue = write_queue(tmp_path)
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"text_hash": "h0", "right_tier": "simple"}\n{"text_ha')
    with pytest.raises(SystemExit, match=r"labels.jsonl:2: not JSON"):
        label.Desk(queue, labels, "")
    labels.write_bytes(b'{"text_hash": "h0", "note": "gr\xf6\xdfer"}\n')
    with pytest.raises(SystemExit, match=r"labels.jsonl:1: not UTF-8"):
        label.Desk(queue, labels, "")
    queue.write_text("")
    with pytest.raises(SystemExit, match="the queue is empty"):
        label.Desk(queue, tmp_path / "none", "")
    queue.write_text('{"prompt": "x"}\n')
    with pytest.raises(SystemExit, match=r"queue.jsonl:1: lacks text_hash"):
        label.Desk(queue, tmp_path / "none", "")
