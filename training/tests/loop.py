"""The whole loop on a private domain that the bundle misjudges: traffic -> feedback -> export -> retraining -> gate ->
better routing of that domain, and the corpus no worse -> the new bundle takes over while requests flow.

    python tests/loop.py --work DIR                              from the base weights; the traffic is simulated
    python tests/loop.py --work DIR --from RUN                   continues a run of train.py: minutes
    python tests/loop.py --work DIR ... --pointsman BINARY       a real server logs and exports it
    python tests/loop.py --work DIR --smoke [--pointsman ...]    tiny network: only that all parts fit

With --pointsman, `serve` runs with a scripted provider whose weak models decline what is too hard for them, requests
come by HTTP, a simulated reviewer gives feedback (with errors), `traffic export` writes the files, `eval` judges both
bundles, and the new one becomes shadow, canary and active (takeover.py). Exits 1 when the domain gained less than
GAIN_MIN, the corpus test split lost more than LOSS_MAX, or a request failed. Run it again to resume the retraining.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet

TRAINING = Path(__file__).parents[1]
sys.path[:0] = [str(TRAINING), str(TRAINING / "tests")]

import domain  # noqa: E402
import make_exports  # noqa: E402
import takeover  # noqa: E402
from serving import environment, post, server  # noqa: E402

import calibrate  # noqa: E402
import compare  # noqa: E402
from data import Example, corpus_examples, traffic_examples  # noqa: E402
from score import open_bundle  # noqa: E402

GAIN_MIN, LOSS_MAX = 0.20, 0.01
# Requests of the training half, then later ones of the held-out half, then ones of the held-out half to judge by, of
# which none is ever logged.
FULL = {"train": 2400, "held_out": 600, "judge": 400}
SMOKE = {"train": 240, "held_out": 80, "judge": 80}
REVIEWED, REVIEWER_ERRS = 0.4, 0.05

CONFIG = """
[traffic]
enabled = true
store = "traffic.sqlite"
text = "full"

[[providers]]
name = "rehearsal"
kind = "scripted"
script = "script.toml"
"""
TARGET = """
[[tiers]]
name = "{tier}"
targets = ["{tier}-model"]

[[targets]]
id = "{tier}-model"
provider = "rehearsal"
model = "{tier}-model"
input_usd_per_mtok = {price}
output_usd_per_mtok = {price}
price_date = "2030-01-01"
context_tokens = 100_000
output_tokens_max = 4_000
output_tokens_typical = 100
latency_ms_typical = 100
features = ["json", "tools"]
"""
# No rule: the classifier is to be judged.
RULES = "rules = []\n"
ANSWER = '[[answers]]\ntext = "Here is what you asked for, done by {target}."\n'
DECLINE = "[[answers]]\npattern = {pattern}\ntargets = {targets}\ntext = \"I'm sorry, but I can't help with that.\"\n"


def main() -> None:
    arguments = parse_arguments()
    work, sizes = arguments.work, SMOKE if arguments.smoke else FULL
    work.mkdir(parents=True, exist_ok=True)
    started = time.time()
    later = domain.requests(sizes["held_out"] + sizes["judge"], True, 2)
    logged = domain.requests(sizes["train"], False, 1), later[: sizes["held_out"]]
    judged = later[sizes["held_out"] :]
    export = work / "export"
    if not export.exists():
        if arguments.pointsman:
            serve_and_export(arguments, logged, export)
        else:
            simulate(arguments.active, logged, export)
    code = retrain(arguments, export)
    candidate = work / "bundles" / "9.9.9"
    figures = judge(arguments.active, candidate, judged, work / "retrain" / "traffic")
    figures["corpus_test"] = json.loads((work / "retrain" / "comparison.json").read_text())["corpus_test"]
    figures["retrain"] = {"exit": code, "minutes": round((time.time() - started) / 60, 1)}
    if arguments.pointsman:
        figures["pointsman_eval"] = evaluate(arguments, candidate, judged)
        figures["takeover"] = take_over(arguments, candidate, judged)
    (work / "loop.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    problems = [] if arguments.smoke else problems_of(figures)
    sys.exit("\n".join(problems) or None)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    onnx = TRAINING.parent / "onnx"
    parser.add_argument("--work", type=Path, required=True, help="export, retraining, bundle and loop.json go here")
    parser.add_argument("--pointsman", type=Path, metavar="BINARY", help="drive a real server")
    parser.add_argument("--from", dest="start", type=Path, help="run to continue from, with its float32 weights")
    parser.add_argument("--base", type=Path, default=TRAINING / "base" / "minilm", help="base weights")
    parser.add_argument("--data", type=Path, help="public sets, if they are to be seen again")
    parser.add_argument("--active", type=Path, default=onnx / (onnx / "default").read_text().strip())
    parser.add_argument("--smoke", action="store_true", help="tiny network, few requests, any figures")
    arguments = parser.parse_args()
    if not (arguments.smoke or (arguments.base / "model.safetensors").exists()):
        parser.error(f"--base {arguments.base}: no base weights there; fetch_base.py gets them (or --smoke)")
    return arguments


def simulate(active: Path, logged: tuple, export: Path) -> None:
    reviewer = domain.Reviewer(1, REVIEWED, REVIEWER_ERRS)
    scorer, manifest = open_bundle(active)
    rows, start = [], make_exports.START_MS
    for seed, requests in enumerate(logged):
        tiers = decided(scorer, manifest, requests)
        rows += make_exports.simulate(requests, tiers, reviewer, seed, start)
        start += len(requests) * make_exports.STEP_MS
    make_exports.write(rows, export)


def decided(scorer, manifest, requests) -> list[str]:
    _, logits = scorer.scores([user(request.text) for request in requests], "decide")
    return [make_exports.TIERS[t] for t in calibrate.tier_of(calibrate.sufficiencies(logits, manifest["calibration"]))]


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def serve_and_export(arguments, logged: tuple, export: Path) -> None:
    """Serves, asks, reviews and exports; the bundle is the active one."""
    folder = arguments.work / "server"
    folder.mkdir(exist_ok=True)
    config = write_config(folder / "pointsman.toml", arguments.active)
    (folder / "script.toml").write_text(script())
    reviewer = domain.Reviewer(1, REVIEWED, REVIEWER_ERRS)
    with server(arguments.pointsman, config, folder) as addresses:
        address = addresses["http"]
        for part, requests in enumerate(logged):
            for place, request in enumerate(requests):
                # Three requests a session; a request that follows another in its session carries no history here.
                session = f"{part}-{place // 3}"
                decision = ask(address, request.text, session)
                if reviewer.reads():
                    said = {"right_tier": reviewer.right_tier(request), "source": "human"}
                    if reviewer.rng.random() < 0.3:
                        said["right_intent"] = request.intent
                    post(address, "/v1/feedback", {"decision_id": decision} | said)
                if place % 200 == 0:
                    print(f"asked {place} of {len(requests)}", flush=True)
    command = [arguments.pointsman.resolve(), "traffic", "export", "--config", config, "--since", "1d"]
    command += ["--format", "parquet", "--out", export.resolve()]
    subprocess.run(command, check=True, env=environment(folder), cwd=folder)
    check_columns(export)


def check_columns(export: Path) -> None:
    """Exits when the simulation's columns are no longer those of a real export."""
    schema = pyarrow.parquet.ParquetFile(next(export.rglob("*.parquet"))).schema_arrow
    real, simulated = ({field.name: field.type for field in one} for one in (schema, make_exports.SCHEMA))
    if real != simulated:
        other = sorted(name for name in real.keys() | simulated.keys() if real.get(name) != simulated.get(name))
        sys.exit(f"tests/make_exports.py writes other columns than the export does: {', '.join(other)}")


def write_config(path: Path, bundle: Path) -> Path:
    bundle_line = f"\n[classifier]\nbundle = {json.dumps(str(bundle.resolve()))}\n"
    targets = [TARGET.format(tier=tier, price=10.0**place / 10) for place, tier in enumerate(make_exports.TIERS)]
    path.write_text(RULES + CONFIG + bundle_line + "".join(targets))
    return path.resolve()


def script() -> str:
    """Returns the scripted provider's answers: below its tier a request is declined, half of the time seen by its
    words. Weak models that answer wrongly without saying so are left to the reviewer."""
    lines = []
    for place, tier in enumerate(make_exports.TIERS):
        # Of every two words of the house one is beyond the weaker models in a way that they notice.
        noticed = "|".join(re.escape(word) for word in domain.WORDS[tier][::2])
        weaker = [f"{weak}-model" for weak in make_exports.TIERS[:place]]
        if weaker:
            lines.append(DECLINE.format(pattern=f"'(?i)\\b({noticed})\\b'", targets=json.dumps(weaker)))
    return "\n".join([*lines, ANSWER])


def ask(address: str, text: str, session: str) -> str:
    """Returns the decision's id."""
    body = {"model": "auto", "messages": user(text), "pointsman": {"session_id": session, "tenant": "yard"}}
    with post(address, "/v1/chat/completions", body) as reply:
        reply.read()
        return reply.headers["x-pointsman-decision-id"]


def retrain(arguments, export: Path) -> int:
    work = arguments.work
    command = [sys.executable, TRAINING / "retrain.py", export, "--work", work / "retrain", "--out", work / "bundles"]
    command += ["--active", arguments.active, "--version", "9.9.9"]
    if (work / "bundles" / "9.9.9").exists():
        return 0
    if arguments.smoke:
        command += ["--smoke", "--tolerance", "1", "--held-out-min", "1"]
    else:
        command += ["--base", arguments.base]
        command += ["--from", arguments.start] if arguments.start else []
        command += ["--data", arguments.data] if arguments.data else []
        command += ["--pointsman", arguments.pointsman] if arguments.pointsman else []
    code = subprocess.run(list(map(str, command))).returncode
    if not (work / "bundles" / "9.9.9").exists():
        sys.exit(f"retrain.py ended with {code} and left no bundle; {work / 'retrain' / 'report.html'} says why")
    return code


def judge(active: Path, candidate: Path, judged: list, traffic: Path) -> dict:
    """Returns the tier accuracy of both bundles on requests that were never logged, with intervals, and baselines."""
    tiers = np.array([make_exports.TIERS.index(request.tier) for request in judged])
    examples = [Example(user(r.text), None, [float(t <= level) for level in range(3)], "traffic", tier=int(t))
                for r, t in zip(judged, tiers, strict=True)]  # fmt: skip
    right = {}
    for name, bundle in (("active", active), ("candidate", candidate)):
        found = decided(*open_bundle(bundle), judged)
        right[name] = {"tier_accuracy": (np.array(found) == [request.tier for request in judged], np.ones(len(tiers)))}
    figures = compare.paired(right, [request.text for request in judged])
    training = traffic_examples(traffic / "train.jsonl")
    known = np.ones(len(judged), dtype=bool)
    return {
        "judged": len(judged),
        "domain": figures,
        "baselines": compare.baselines(corpus_examples()["train"], training, examples, known),
    }


def evaluate(arguments, candidate: Path, judged: list) -> dict:
    """Returns the tier accuracy that `pointsman eval` prints for both bundles."""
    rows = arguments.work / "judged.jsonl"
    rows.write_text("".join(json.dumps({"prompt": r.text, "tier": r.tier}) + "\n" for r in judged))
    found = {}
    for name, bundle in (("active", arguments.active), ("candidate", candidate)):
        config = arguments.work / f"{name}.toml"
        config.write_text(f"[classifier]\nbundle = {json.dumps(str(bundle.resolve()))}\n")
        command = [arguments.pointsman.resolve(), "eval", "--config", config.resolve(), "--no-rules", "--json"]
        command.append(rows.resolve())
        ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(arguments.work))
        found[name] = json.loads(ended.stdout)["sections"][0]["metrics"]["tier.accuracy"]["router"]
    return found


def take_over(arguments, candidate: Path, judged: list) -> dict:
    """Has the new bundle take over from the active one in a running server, step by step."""
    folder = arguments.work / "takeover"
    shutil.rmtree(folder, ignore_errors=True)
    texts = [request.text for request in judged]
    return takeover.take_over(arguments.pointsman, arguments.active, candidate, texts, folder)


def problems_of(figures: dict) -> list[str]:
    problems = []
    gain = figures["domain"]["gain"]["tier_accuracy"]["value"]
    change = figures["corpus_test"]["gain"]["tier_accuracy"]["value"]
    if gain < GAIN_MIN:
        problems.append(f"the domain's tier accuracy rose by {gain:.3f}, less than {GAIN_MIN}")
    if -change > LOSS_MAX:
        problems.append(f"the corpus test split's tier accuracy fell by {-change:.3f}, more than {LOSS_MAX}")
    return problems


if __name__ == "__main__":
    main()
