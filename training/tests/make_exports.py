"""Writes exports of a traffic log that never was: the columns of `pointsman traffic export`, filled by a simulation of
the private domain. What the server would have decided is a given tier; a check catches some of the weak answers, a
reviewer names right tiers, users press a thumb now and then.
"""

import datetime
import json
import random
import uuid
from pathlib import Path

import domain
import pyarrow as pa
import pyarrow.parquet

TIERS = ("simple", "moderate", "complex", "reasoning")
START_MS = 1_893_456_000_000  # 2030-01-01
STEP_MS = 7 * 60_000
# Share of weak answers that a check notices, and of users who press a thumb.
CHECK_P = 0.5
THUMB_P = 0.15

TARGET = [("target", pa.string()), ("provider", pa.string()), ("model", pa.string())]
ATTEMPT = pa.struct(
    [
        *TARGET,
        *((name, pa.string()) for name in ("tier", "cause", "outcome", "why")),
        *((name, pa.float64()) for name in ("started_ms", "latency_ms", "first_token_ms")),
        *((name, pa.int64()) for name in ("input_tokens", "cached_input_tokens", "output_tokens")),
        ("cost_usd", pa.float64()),
        ("estimated", pa.bool_()),
    ]
)
FEEDBACK = pa.struct(
    [
        ("feedback_id", pa.string()),
        ("at", pa.timestamp("ms", "UTC")),
        ("source", pa.string()),
        ("verdict", pa.string()),
        ("score", pa.float64()),
        *((name, pa.string()) for name in ("right_tier", "right_intent", "comment", "demonstration", "signal")),
    ]
)
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])


def names(kind, *fields):
    return [(name, kind) for name in fields]


SCHEMA = pa.schema(
    [
        ("record_version", pa.int32()),
        ("decision_id", pa.string()),
        ("at", pa.timestamp("ms", "UTC")),
        *names(pa.string(), "kind", "tenant", "session", "task_type"),
        ("tags", pa.list_(pa.string())),
        *names(pa.string(), "language", "text_policy"),
        ("messages", pa.list_(MESSAGE)),
        *names(pa.string(), "prompt", "text_hash"),
        ("text_bytes", pa.int64()),
        ("text_cut", pa.bool_()),
        *names(pa.int32(), "redactions", "turns"),
        *names(pa.int64(), "prompt_tokens", "output_tokens_max"),
        *names(pa.bool_(), "needs_tools", "needs_vision", "needs_json"),
        ("quality", pa.float64()),
        ("tiers", pa.list_(pa.string())),
        *names(pa.string(), "tier", "target", "provider", "model"),
        ("failover", pa.list_(pa.string())),
        ("intent", pa.string()),
        ("intent_confidence", pa.float64()),
        ("sufficiency", pa.list_(pa.float64())),
        ("sufficiency_base", pa.list_(pa.float64())),
        ("confidence", pa.float64()),
        *names(pa.string(), "source", "rule"),
        *names(pa.bool_(), "low_confidence", "truncated"),
        ("bundle_version", pa.string()),
        ("config_generation", pa.int64()),
        ("propensity", pa.float64()),
        ("explored", pa.bool_()),
        ("canary", pa.bool_()),
        *names(pa.float64(), "cost_usd_estimate", "baseline_cost_usd_estimate"),
        *names(pa.int64(), "rules_us", "queue_us", "tokenize_us", "inference_us", "policy_us", "total_us"),
        *names(pa.string(), "status", "failure"),
        *names(pa.string(), "served_tier", "served_target", "served_provider", "served_model"),
        ("escalated", pa.bool_()),
        ("attempts", pa.list_(ATTEMPT)),
        *names(pa.float64(), "cost_usd", "baseline_cost_usd", "latency_ms", "overhead_ms"),
        ("signals", pa.list_(pa.string())),
        ("feedback", pa.list_(FEEDBACK)),
        *names(pa.string(), "shadow_bundle", "shadow_tier", "shadow_target", "shadow_intent"),
        ("shadow_sufficiency", pa.list_(pa.float64())),
        ("shadow_confidence", pa.float64()),
        ("shadow_low_confidence", pa.bool_()),
        *names(pa.float64(), "shadow_propensity", "shadow_cost_usd_estimate"),
    ]
)


def row(text: str, at_ms: int = START_MS, **changes) -> dict:
    """Returns a row of a request that was answered at once by the simplest tier and of which nobody said anything."""
    values = {field.name: None for field in SCHEMA}
    lists = ("tags", "failover", "sufficiency", "sufficiency_base", "attempts", "signals", "feedback")
    values |= {name: [] for name in lists}
    flags = ("needs_tools", "needs_vision", "needs_json", "escalated", "explored", "canary")
    values |= {name: False for name in flags}
    values |= {"record_version": 1, "decision_id": decision_id(text, at_ms), "at": at(at_ms), "kind": "complete"}
    values |= {"tenant": "", "session": "", "language": "", "text_policy": "full", "turns": 1, "redactions": 0}
    values |= {"messages": [{"role": "user", "content": text}], "prompt": text, "text_bytes": len(text.encode())}
    values |= {"tiers": list(TIERS), "tier": "simple", "served_tier": "simple", "status": "answered"}
    values |= {"source": "classifier", "propensity": 1.0, "bundle_version": "0.2.0", "config_generation": 1}
    values |= changes
    if not values["attempts"] and values["status"] == "answered":
        values["attempts"] = [attempt(values["served_tier"], "answered")]
    return values


def attempt(tier: str, outcome: str, why: str | None = None) -> dict:
    values = {field.name: None for field in ATTEMPT} | {"tier": tier, "outcome": outcome, "why": why, "cause": "first"}
    return values | {"target": f"{tier}-target", "provider": "scripted", "model": tier}


def feedback(at_ms: int = START_MS, **values) -> dict:
    return {field.name: None for field in FEEDBACK} | {"feedback_id": "f", "at": at(at_ms), "source": "user"} | values


def decision_id(text: str, at_ms: int) -> str:
    """Returns a UUIDv7-shaped id: the time, then what is the same for the same text."""
    rest = uuid.uuid5(uuid.NAMESPACE_OID, text).hex[12:]
    return str(uuid.UUID(hex=f"{at_ms:012x}7{rest[1:]}"))


def at(at_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)


def write(rows: list[dict], out: Path, form: str = "parquet") -> Path:
    """Writes one file a day, as the export does."""
    days: dict[str, list[dict]] = {}
    for one in rows:
        days.setdefault(one["at"].strftime("%Y-%m-%d"), []).append(one)
    for day, mine in days.items():
        folder = out / f"day={day}"
        folder.mkdir(parents=True, exist_ok=True)
        if form == "parquet":
            table = pa.Table.from_pylist(mine, schema=SCHEMA)
            pyarrow.parquet.write_table(table, folder / "part-0.parquet", compression="zstd")
        else:
            lines = (json.dumps(one, default=lambda time: time.isoformat()) for one in mine)
            (folder / "part-0.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def simulate(requests: list, decided: list[str], reviewer: domain.Reviewer, seed: int, start_ms: int) -> list[dict]:
    """Returns the rows of these requests, each decided for the tier given, in sessions of one to four."""
    rng = random.Random(f"outcomes {seed}")
    rows, session, left = [], 0, 0
    for place, (request, tier) in enumerate(zip(requests, decided, strict=True)):
        if left == 0:
            session, left = session + 1, rng.randint(1, 4)
        left -= 1
        needed, tried = TIERS.index(request.tier), TIERS.index(tier)
        attempts = []
        while tried < needed and rng.random() < CHECK_P:
            attempts.append(attempt(TIERS[tried], "weak", "refusal"))
            tried += 1
        attempts.append(attempt(TIERS[tried], "answered"))
        said = []
        if reviewer.reads():
            intent = request.intent if reviewer.rng.random() < 0.3 else None
            said.append(feedback(source="human", right_tier=reviewer.right_tier(request), right_intent=intent))
        if rng.random() < THUMB_P:
            said.append(feedback(source="user", verdict="good" if tried >= needed else "bad"))
        rows.append(
            row(
                request.text,
                start_ms + place * STEP_MS,
                session=f"s{seed}-{session}",
                tier=tier,
                served_tier=TIERS[tried],
                escalated=len(attempts) > 1,
                attempts=attempts,
                signals=["escalated"] if len(attempts) > 1 else [],
                feedback=said,
            )
        )
    return rows
