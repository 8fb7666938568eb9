"""Exports of logged traffic as pyarrow, DuckDB and Polars read them; queries of docs/traffic.md run as they are."""

import json
import os
import re
import subprocess
import time
import urllib.request
from pathlib import Path

import duckdb
import polars
import pyarrow
import pyarrow.dataset
import pyarrow.parquet
import pytest

from conftest import CALL_S, ROOT, START_S, Server, binary

PROMPTS = [f'summarise ticket {number} for me, "quoted" and ünïcode 📦' for number in range(20)]
COLUMNS = 74


def post(server: Server, path: str, body: dict) -> dict:
    request = urllib.request.Request(
        f"http://{server.http}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=CALL_S) as response:
        return json.load(response)


def traffic(folder: Path, *arguments: str) -> str:
    """Runs `pointsman traffic` on the store of the server in this folder."""
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    environment.pop("POINTSMAN_CONFIG", None)
    command = [binary(), "traffic", *arguments]
    done = subprocess.run(
        command, check=False, env=environment, cwd=folder, capture_output=True, text=True, timeout=CALL_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A server's traffic, exported as Parquet (twice, since people do) and as JSONL while it still runs."""
    folder = tmp_path_factory.mktemp("traffic")
    with Server(folder, more=("--demo",)) as server:
        for prompt in PROMPTS:
            decision = post(server, "/v1/route", {"prompt": prompt})
            decision = decision.get("decision", decision)
            post(server, "/v1/feedback", {"decision_id": decision["decision_id"], "score": 1.0, "source": "human"})
        chat = {"model": "auto", "messages": [{"role": "user", "content": "Plan a launch in three phases."}]}
        post(server, "/v1/chat/completions", chat)
        deadline = time.monotonic() + START_S
        while json.loads(traffic(folder, "status", "--json"))["records"] < len(PROMPTS) + 1:
            assert time.monotonic() < deadline, "the records do not land"
            time.sleep(0.1)
        for _ in range(2):
            traffic(folder, "export", "--since", "1d", "--out", "exports")
        traffic(folder, "export", "--since", "1d", "--format", "jsonl", "--out", "lines")
    return folder


def documented(language: str) -> list[str]:
    """Returns the blocks of this language in the section about exports."""
    text = (ROOT / "docs" / "traffic.md").read_text()
    section = text.split("\n## Export and analysis\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def test_pyarrow_reads_types_and_values(folder):
    dataset = pyarrow.dataset.dataset(folder / "exports", format="parquet", partitioning="hive")
    table = dataset.to_table()
    assert table.num_rows == 2 * (len(PROMPTS) + 1)
    assert len(table.column_names) == COLUMNS + 1 and table.column_names[-1] == "day"
    types = {field.name: field.type for field in table.schema}
    assert types["at"] == pyarrow.timestamp("ms", tz="UTC")
    assert types["sufficiency"].value_type == pyarrow.float64()
    assert types["turns"] == pyarrow.int32() and types["prompt_tokens"] == pyarrow.int64()
    assert {field.name for field in types["messages"].value_type} == {"role", "content"}
    rows = table.to_pylist()
    assert {row["prompt"] for row in rows} >= set(PROMPTS)
    [row] = {row["decision_id"]: row for row in rows if row["kind"] == "complete"}.values()
    assert row["status"] in ("answered", "weak") and row["attempts"] and row["cost_usd"] > 0
    assert row["served_target"] == row["attempts"][-1]["target"]
    said = [row["feedback"] for row in rows if row["kind"] == "route"]
    assert all(len(one) == 1 and one[0]["score"] == 1.0 and one[0]["source"] == "human" for one in said)


def test_jsonl_says_the_same(folder):
    lines = [json.loads(line) for file in (folder / "lines").rglob("*.jsonl") for line in file.open()]
    table = pyarrow.dataset.dataset(folder / "exports", format="parquet").to_table()
    rows = {row["decision_id"]: row for row in table.to_pylist()}
    assert len(lines) == len(rows) and list(lines[0]) == table.column_names
    for line in lines:
        row = rows[line["decision_id"]]
        for name, value in line.items():
            if name not in ("at", "feedback"):
                assert row[name] == value, name


def test_polars_reads_it(folder):
    frame = polars.read_parquet(folder / "exports" / "**" / "*.parquet", hive_partitioning=True)
    latest = frame.unique("decision_id")
    assert latest.height == len(PROMPTS) + 1 and "day" in latest.columns
    assert latest.filter(polars.col("feedback").list.len() == 1).height == len(PROMPTS)


def test_the_documented_queries_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    queries = documented("sql")
    assert queries
    connection = duckdb.connect()
    results = []
    for query in queries:
        for statement in duckdb.extract_statements(query):
            result = connection.execute(statement)
        names = [column[0] for column in result.description]
        results.append([dict(zip(names, row, strict=True)) for row in result.fetchall()])
    assert sum(row["requests"] for row in results[0]) == len(PROMPTS) + 1, "each decision counts once"
    assert all(row["good"] == 1.0 for row in results[1]) and results[1]
    assert results[2]


def test_the_documented_savings_are_those_of_stats(folder, tmp_path, monkeypatch):
    figures = json.loads(traffic(folder, "stats", "--json"))["all"]
    table = pyarrow.dataset.dataset(folder / "exports", format="parquet").to_table()
    rows = {row["decision_id"]: row for row in table.to_pylist()}
    [answered] = [row for row in rows.values() if row["kind"] == "complete"]
    # What a request cost that failed, or whose caller hung up, saved nothing and lost nothing.
    lost = [answered | {"decision_id": status, "status": status, "cost_usd": 5.0} for status in ("failed", "hung_up")]
    (tmp_path / "exports" / "day=2026-01-31").mkdir(parents=True)
    table = pyarrow.Table.from_pylist([*rows.values(), *lost], table.schema)
    pyarrow.parquet.write_table(table, tmp_path / "exports" / "day=2026-01-31" / "traffic.parquet")
    monkeypatch.chdir(tmp_path)
    connection = duckdb.connect()
    for statement in duckdb.extract_statements(documented("sql")[0]):
        result = connection.execute(statement)
    names = [column[0] for column in result.description]
    tiers = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    saved = figures["baseline_cost_usd"] - (figures["cost_usd"] - figures["unanswered_usd"])
    assert saved > 0 and sum(tier["saved_usd"] or 0 for tier in tiers) == pytest.approx(saved)
    assert sum(tier["cost_usd"] for tier in tiers) == pytest.approx(figures["cost_usd"] + 2 * 5.0)


def test_the_documented_snippets_compile():
    snippets = documented("python")
    assert snippets
    for snippet in snippets:
        compile(snippet, "docs/traffic.md", "exec")


def test_an_empty_export_reads_as_no_rows(folder):
    out = traffic(folder, "export", "--since", "2026-01-01", "--until", "2026-01-02", "--out", "none")
    assert "no records" in out
    table = pyarrow.dataset.dataset(folder / "none", format="parquet", partitioning="hive").to_table()
    assert (table.num_rows, len(table.column_names)) == (0, COLUMNS + 1)
    query = "SELECT count(*) FROM read_parquet('{}/none/**/*.parquet', hive_partitioning = true)"
    assert duckdb.execute(query.format(folder)).fetchone() == (0,)
    assert polars.read_parquet(folder / "none" / "**" / "*.parquet").height == 0


def test_stats_and_tail_tell_of_it(folder):
    figures = json.loads(traffic(folder, "stats", "--json"))
    assert figures["all"]["requests"] == len(PROMPTS) + 1 and figures["all"]["good"] == len(PROMPTS)
    assert len(traffic(folder, "tail", "-n", "5").splitlines()) == 1 + 5
