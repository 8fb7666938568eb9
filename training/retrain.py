"""Retrains the classifier from logged traffic, in one command, and refuses to release what is worse.

    python retrain.py EXPORT... --from runs/one --data DIR        continue from a run: minutes
    python retrain.py EXPORT... --data DIR                        from the base weights: an hour on two cores
    python retrain.py EXPORT... --labels labels.jsonl ...         with what people labelled (choose.py, label.py)
    python retrain.py EXPORT... --from runs/one --processes 4     on four GPUs, by accelerate

Reads the exports, trains on them beside the corpus, calibrates, exports, and compares the new bundle with the active
one on the corpus test split and on held-out traffic, and with --pointsman also as the router itself serves both. A
bundle that is worse than the tolerance allows (compare.py), or misses --gates, is refused: exit 1, the reasons are
printed and stand in the report. One that is accepted is left as OUT/VERSION with its report. Nothing is put into
service. Run it again after a cut: finished steps are kept.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import compare
import data
import exports
import leaks
import report
import settings
import traffic
from export import publish

HERE = Path(__file__).parent
BUNDLES = HERE.parent / "onnx"
# Beside its weights, whose hash the settings hold: what else a base shapes a network by.
BASE_SHAPE = ("config.json", "tokenizer.json")
# Beside those of settings.py: what a run continued from another is trained with. The corpus is seen again so that
# nothing of it is forgotten; where traffic has few rows, more of it would only take longer.
REFINE_SETTINGS = ("epochs=2", "mix.corpus.times=1", "evaluate_steps=150", "checkpoint_steps=50")


def main() -> None:
    arguments = parse_arguments()
    work, content = arguments.work, {"version": arguments.version, "refusals": []}
    work.mkdir(parents=True, exist_ok=True)
    content["settings"] = {
        "arguments": {name: plain(value) for name, value in vars(arguments).items()},
        "tolerance": compare.TOLERANCE if arguments.tolerance is None else arguments.tolerance,
        "train": train_settings(arguments),
    }
    try:
        content["refusals"] = steps(arguments, content)
    except SystemExit as stop:
        content["refusals"] = [f"stopped: {stop.code}"]
    report.write(content, work)
    if content["refusals"]:
        for reason in content["refusals"]:
            print(f"refused: {reason}", file=sys.stderr)
        sys.exit(f"no bundle was released; the report is {work / 'report.html'}")
    release(work, content, arguments.out / arguments.version)
    print(f"bundle: {arguments.out / arguments.version}; its report.html says what it learned from and what changed")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    traffic.add_arguments(parser)
    parser.add_argument("--from", dest="start", type=Path, metavar="RUN", help="run of train.py to continue from")
    parser.add_argument("--data", type=Path, help="directory of the public sets, as for train.py; without it none")
    parser.add_argument("--base", type=Path, default=HERE / "base" / "minilm", help="base weights, as for train.py")
    parser.add_argument("--active", type=Path, help="bundle to compare with; default: the shipped one")
    parser.add_argument("--version", help="of the new bundle; default: the active one's with a higher last number")
    parser.add_argument(
        "--out", type=Path, default=BUNDLES,
        help=f"directory that holds the bundles; default {BUNDLES}",
    )
    parser.add_argument(
        "--work", type=Path, default=HERE / "runs" / "retrain",
        help="steps, checkpoints, report; default runs/retrain",
    )
    parser.add_argument("--processes", type=int, default=1, help="one for each GPU; default 1")
    parser.add_argument("--set", metavar="NAME=JSON", action="append", default=[], help="as for train.py")
    parser.add_argument("--tolerance", type=float, help="how much worse any figure may be; default: see compare.py")
    parser.add_argument(
        "--held-out-min", type=int, default=compare.HELD_OUT_MIN,
        help=f"held-out requests needed; default {compare.HELD_OUT_MIN}",
    )
    parser.add_argument("--pointsman", type=Path, metavar="BINARY", help="also compares what `pointsman eval` says")
    parser.add_argument("--gates", type=Path, metavar="FILE", help="with --pointsman: figures that a bundle must reach")
    parser.add_argument("--smoke", action="store_true", help="two steps of a tiny random network: for tests")
    arguments = parser.parse_args()
    if arguments.active is None:
        arguments.active = BUNDLES / (BUNDLES / "default").read_text().strip()
    if not (arguments.active / "manifest.json").exists():
        parser.error(f"--active {arguments.active}: no bundle there")
    if arguments.start and not (arguments.start / "run.json").exists():
        parser.error(f"--from {arguments.start}: no run of train.py there")
    if arguments.version is None:
        active = json.loads((arguments.active / "manifest.json").read_text(encoding="utf-8"))["version"]
        arguments.version = next_version(active, arguments.out)
    if arguments.gates and not arguments.pointsman:
        parser.error("--gates: needs --pointsman, which measures them")
    if (arguments.out / arguments.version).exists():
        parser.error(f"{arguments.out / arguments.version}: exists; name another --version")
    return arguments


def next_version(active: str, out: Path) -> str:
    """Returns the active version with a last number that no bundle of `out` has yet."""
    first, _, last = active.rpartition(".")
    number = int(last) if last.isdigit() else 0
    start = first if last.isdigit() else active
    while True:
        number += 1
        if not (out / f"{start}.{number}").exists():
            return f"{start}.{number}"


def steps(arguments, content: dict) -> list[str]:
    """Carries out every step that is not done yet; returns why the bundle is refused."""
    work = arguments.work
    after = seen_until(arguments)
    files = exports.files_of(arguments.exports)
    given = [arguments.level, arguments.held_out_share, arguments.tenant_share, after]
    labels = [data.sha256(file) for file in arguments.labels if file.exists()]
    # The hashes themselves: they change with the files of --never and with what the corpus holds out.
    never = sorted(leaks.never_trained(arguments.never))
    stated = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    inputs = fingerprint(stated, labels, never, *given)
    with step(work, "traffic", inputs) as todo:
        if todo:
            traffic.write(arguments, work / "traffic", after)
    content["traffic"] = json.loads((work / "traffic" / "traffic.json").read_text(encoding="utf-8"))
    held_out = compare.held_out(work / "traffic")
    if reasons := compare.too_few(held_out.judged(), len(held_out.examples), arguments.held_out_min):
        return reasons

    inputs = train_inputs(arguments, content["traffic"]["provenance"]["sha256"])
    with step(work, "train", inputs) as todo:
        if todo:
            train(arguments, inputs)
    content["log"] = [json.loads(line) for line in (work / "run" / "log.jsonl").read_text().splitlines()]

    limits = data.sha256(arguments.active / "manifest.json")
    inputs = fingerprint(data.sha256(work / "run" / "model.safetensors"), arguments.version, limits)
    candidate = work / "bundles" / arguments.version
    with step(work, "export", inputs) as todo:
        if todo:
            out = ["--run", work / "run", "--version", arguments.version, "--out", work / "bundles", "--replace"]
            out += ["--limits-from", arguments.active]
            script("export.py", out)

    bundles = [data.sha256(path / "manifest.json") for path in (arguments.active, candidate)]
    # Besides both bundles: the rows to judge by, and those that the baselines learn from.
    rows = [data.sha256(work / "traffic" / f"{name}.jsonl") for name in ("held_out", "train")]
    inputs = fingerprint(bundles, rows, corpus_hashes(), arguments.tenant_share)
    with step(work, "compare", inputs) as todo:
        if todo:
            found = compare.compare(arguments.active, candidate, work / "traffic")
            (work / "comparison.json").write_text(json.dumps(found, indent=1) + "\n")
    content["comparison"] = json.loads((work / "comparison.json").read_text())
    reasons = compare.refusals(content["comparison"], arguments.tolerance, arguments.held_out_min)
    if arguments.pointsman:
        content["served"], missed = served(arguments, candidate, fingerprint(bundles, corpus_hashes()))
        reasons += compare.served_refusals(content["served"], arguments.tolerance) + missed
    return reasons


def train_inputs(arguments, learned: str) -> str:
    """Returns a fingerprint of all that shapes the weights: settings, base, start, traffic, corpus, public sets, and
    how many processes a step's rows are dealt to."""
    refined = None if arguments.smoke else arguments.start
    public = None if arguments.smoke else arguments.data
    given = argparse.Namespace(
        base=arguments.base, base_name=settings.BASE_NAME, refine=refined, teacher=[refined] if refined else [],
        data=public, traffic=True, smoke=arguments.smoke, set=train_settings(arguments),
    )  # fmt: skip
    shaping = settings.settings_of(given)
    shape = [] if arguments.smoke else [path for name in BASE_SHAPE if (path := arguments.base / name).exists()]
    sets = [source for source in data.sources() if public and source["name"] in shaping["mix"]]
    hashes = {source["name"]: data.sha256(data.set_path(public, source)) for source in sets}
    shapes = [data.sha256(path) for path in shape]
    return fingerprint(learned, shaping, shapes, hashes, corpus_hashes(), arguments.processes)


def corpus_hashes() -> list[str]:
    known = data.corpus_provenance()
    return [known["sha256"], known["splits_sha256"]]


def train(arguments, inputs: str) -> None:
    """Trains in work/run; a run that was cut is taken up where it stood, one with other inputs is begun anew."""
    run = arguments.work / "run"
    stamp = run / "inputs"
    if not stamp.exists() or stamp.read_text() != inputs:
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
        stamp.write_text(inputs)
    options = ["--out", run, "--traffic", arguments.work / "traffic", "--base", arguments.base]
    options += ["--data", arguments.data] if arguments.data else []
    if arguments.start and not arguments.smoke:
        # As its own teacher it keeps what it says of the corpus (Li and Hoiem 2016, learning without forgetting).
        options += ["--refine", arguments.start, "--teacher", arguments.start]
    options += ["--smoke"] if arguments.smoke else []
    for change in train_settings(arguments):
        options += ["--set", change]
    script("train.py", options, arguments.processes)


def train_settings(arguments) -> list[str]:
    refines = arguments.start is not None and not arguments.smoke
    return [*(REFINE_SETTINGS if refines else ()), *arguments.set]


def script(name: str, options: list, processes: int = 1) -> None:
    command = [sys.executable, *launcher(processes), str(HERE / name), *map(str, options)]
    # What makes accelerate take processes without a GPU for ranks of one training.
    code = subprocess.run(command, env=os.environ | ({} if cuda() else {"ACCELERATE_USE_CPU": "true"})).returncode
    if code:
        sys.exit(f"{name} ended with {code}; its own message stands above")


def launcher(processes: int) -> list[str]:
    """Returns what starts so many processes: accelerate on GPUs; without one torch, as accelerate knows no such way."""
    if processes == 1:
        return []
    if not cuda():
        return ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
    return [*launch, "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]


def cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@contextlib.contextmanager
def step(work: Path, name: str, inputs: str):
    """Yields whether the step has to be done; notes it as done when it ends without an error."""
    path = work / "steps.json"
    done = json.loads(path.read_text()) if path.exists() else {}
    todo = done.get(name) != inputs
    print(f"== {name}" if todo else f"== {name}: done before", flush=True)
    yield todo
    path.write_text(json.dumps(done | {name: inputs}, indent=1) + "\n")


def fingerprint(*parts) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def seen_until(arguments) -> int:
    """Returns until when the start and the active bundle have been trained on traffic: it cannot measure them."""
    known = [json.loads((arguments.active / "manifest.json").read_text(encoding="utf-8"))]
    if arguments.start:
        known.append(json.loads((arguments.start / "run.json").read_text(encoding="utf-8")))
    return max((moment for one in known for moment in trained_until(one)), default=0)


def trained_until(value) -> list[int]:
    """Returns every "trained_until_ms" in a manifest or run, also of the runs that it continued."""
    if isinstance(value, dict):
        mine = [value["trained_until_ms"]] if "trained_until_ms" in value else []
        return mine + [moment for one in value.values() for moment in trained_until(one)]
    if isinstance(value, list):
        return [moment for one in value for moment in trained_until(one)]
    return []


def served(arguments, candidate: Path, inputs: str) -> tuple[dict, list[str]]:
    """Returns the figures of both bundles on the corpus test split as the router itself decides, the step up when it is
    unsure included, and the gates that the candidate misses."""
    kept = arguments.work / "served.json"
    inputs = fingerprint(inputs, *(data.sha256(path) for path in (arguments.pointsman, arguments.gates) if path))
    with step(arguments.work, "served", inputs) as todo:
        if todo:
            kept.write_text(json.dumps(evaluate(arguments, candidate), indent=1) + "\n")
    known = json.loads(kept.read_text())
    return known["figures"], known["missed"]


def evaluate(arguments, candidate: Path) -> dict:
    """Returns what `pointsman eval` says of both bundles: "figures", and the gates "missed" by the candidate."""
    figures, missed = {}, []
    with tempfile.TemporaryDirectory(prefix="pointsman-served-") as scratch:
        config, rows = Path(scratch, "pointsman.toml"), Path(scratch, "test.jsonl")
        split = subprocess.run([sys.executable, HERE / "corpus.py", "--split", "test"], capture_output=True, check=True)
        rows.write_bytes(split.stdout)
        for name, bundle in (("active", arguments.active), ("candidate", candidate)):
            print(f"pointsman eval of {bundle.name} ({name}) on the corpus test split", flush=True)
            config.write_text(f"[classifier]\nbundle = {json.dumps(str(bundle.resolve()))}\n")
            command = [arguments.pointsman.resolve(), "--config", config, "eval", "--no-rules", "--json"]
            if arguments.gates and name == "candidate":
                command += ["--gates", arguments.gates.resolve()]
            ended = subprocess.run([*command, rows], capture_output=True, text=True)
            gated = arguments.gates and name == "candidate"
            missed = [line.strip() for line in ended.stderr.splitlines() if line.startswith("  ")] if gated else []
            if not ended.stdout or (ended.returncode and not missed):
                sys.exit(f"pointsman eval of {bundle} ended with {ended.returncode}: {ended.stderr[-2000:]}")
            metrics = json.loads(ended.stdout)["sections"][0]["metrics"]
            figures[name] = {figure: metrics[figure]["router"] for figure in compare.SERVED}
    return {"figures": figures, "missed": [f"{arguments.gates.name}: {line}" for line in missed if ended.returncode]}


def release(work: Path, content: dict, target: Path) -> None:
    """Puts the bundle with its report in place, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    shutil.copytree(work / "bundles" / content["version"], building, dirs_exist_ok=True)
    manifest = json.loads((building / "manifest.json").read_text(encoding="utf-8"))
    manifest["metrics"]["retraining"] = content["comparison"]
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (building / "manifest.json").write_text(text, encoding="utf-8")
    report.write(content, building)
    publish(building, target)


def plain(value):
    """Returns an argument as JSON can say it; of paths the name alone, as folders may say whose machine it is."""
    if isinstance(value, Path):
        return value.name
    return [plain(one) for one in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
