"""Turns a training run into a bundle: one ONNX graph, fused and quantised, calibrated, with golden scores and manifest.

    python export.py --run runs/one --version 0.2.0 --out ../onnx --dev DIR      the shipped bundle
    python export.py --run runs/smoke --version 0.0.1 --out runs/bundles         the smoke bundle

The bundle appears as OUT/VERSION at once, complete: it is built beside it and renamed.
"""

import argparse
import datetime
import json
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions
from tqdm import tqdm

import background
import calibrate
import evaluate
import golden
import model as network
from card import model_card
from data import corpus_examples, corpus_provenance, sha256
from encode import INPUT, encode, load_tokenizer
from labels import INTENTS, LEVELS
from languages import languages_read
from score import Scorer

FORMAT = 1
NAME = "pointsman-minilm"
OPSET = 17
# Graph and network may differ by float rounding only.
PARITY_MAX = 1e-3
QUANTIZATION = {
    "kind": "int8 dynamic, weights per channel",
    "operators": ["MatMul", "Attention", "EmbedLayerNormalization"],
    "per_channel": True,
    # Seven-bit weights: on x86 CPUs without VNNI eight-bit products saturate and give other scores than elsewhere.
    "reduce_range": True,
    "heads": "float32",
    "left_float32": [],
}
# Largest difference of a probability that a loader may see between its scores and golden.jsonl. On one kind of CPU
# the scores repeat exactly, with any number of threads. Between kinds (AVX-512 VNNI against AVX2) the last bit of a
# float tips a rounding now and then: 24 of 27 golden prompts were equal to 1e-4, the others differed by up to 0.033.
# With eight-bit weights AVX2 saturates and most prompts differ: logits by 0.07 on average, 0.5 at most.
GOLDEN_TOLERANCE = 0.05
LATENCY_TOKENS = (20, 32, 128)
LATENCY_RUNS = 60


def main() -> None:
    arguments = parse_arguments()
    warnings.filterwarnings("ignore")
    run = json.loads((arguments.run / "run.json").read_text())
    # Calibration and figures read the corpus of now; the manifest must not claim them for another one.
    if run["data"][0] != corpus_provenance():
        sys.exit(f"{arguments.run}: the corpus or its splits have changed since this run was trained; train again")
    if (arguments.out / arguments.version).exists() and not arguments.replace:
        sys.exit(f"{arguments.out / arguments.version}: exists; name another --version, or --replace it")
    arguments.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".building-", dir=arguments.out))
    try:
        build(arguments, run, work)
        publish(work, arguments.out / arguments.version)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"bundle: {arguments.out / arguments.version}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="directory that train.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="directory that holds the bundles")
    parser.add_argument("--version", required=True, help="version, and name of the bundle's directory")
    parser.add_argument("--dev", type=Path, help="directory of the dev sets, for the metrics")
    parser.add_argument("--data", type=Path, help="directory of the public sets, for the TF-IDF baseline")
    parser.add_argument(
        "--limits-from", type=Path, metavar="BUNDLE", help="keep its limits of low confidence if they do"
    )
    parser.add_argument("--baselines", action="store_true", help="also fit TF-IDF baselines (needs scikit-learn)")
    parser.add_argument("--float", action="store_true", help="do not quantise")
    parser.add_argument("--replace", action="store_true", help="put the bundle in place of one of the same version")
    return parser.parse_args()


def build(arguments, run: dict, work: Path) -> None:
    classifier = network.load(arguments.run)
    tokenizer = load_tokenizer(arguments.run / "tokenizer.json")
    tokenizer.save(str(work / "tokenizer.json"))

    scratch = Path(tempfile.mkdtemp(prefix="pointsman-export-"))
    fused = fuse(classifier, scratch)
    check_parity(classifier, tokenizer, fused)
    if arguments.float:
        shutil.copy(fused, work / "model.onnx")
        quantization = {"kind": "none"}
    else:
        quantise(fused, work / "model.onnx")
        quantization = dict(QUANTIZATION)
    scorer = Scorer(work / "model.onnx", tokenizer)
    reference = Scorer(fused, tokenizer)

    manifest = {
        "format": FORMAT,
        "name": NAME,
        "version": arguments.version,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "labels": {"intents": list(INTENTS), "levels": list(LEVELS)},
        "input": INPUT,
    }
    parts = corpus_examples()
    manifest |= calibration_of(scorer, parts["calibration"], limits_of(arguments.limits_from))
    manifest["languages"] = languages_of(scorer, manifest, parts["dev"] + parts["calibration"])
    manifest["embedding"] = background.write(scorer, parts["train"], work / background.FILE)
    if arguments.baselines:
        import baseline

        baseline.write(None, work / baseline.FILE)
    write_golden(scorer, manifest, work / "golden.jsonl")
    manifest["golden"] = {"tolerance": GOLDEN_TOLERANCE}
    manifest["files"] = {
        name: {"sha256": sha256(work / name), "bytes": (work / name).stat().st_size}
        for name in ("model.onnx", "tokenizer.json", "golden.jsonl", background.FILE)
    }
    manifest["calibration_settings"] = {n.lower(): v for n, v in vars(calibrate).items() if n.isupper()}
    manifest["quantization"] = quantization | agreement(reference, scorer, manifest)
    manifest["training"] = run["settings"] | {
        "embedding_width": classifier.encoder.config.hidden_size,
        "steps": run["steps"],
        "best": run["best"],
        "seeds": run.get("seeds"),
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }
    manifest["data"] = run["data"]
    manifest["metrics"] = evaluate.measure(scorer, manifest, arguments.dev, arguments.data, arguments.baselines)
    manifest["metrics"]["latency_ms"] = latency(scorer)
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
    (work / "manifest.json").write_text(text + "\n", encoding="utf-8")
    (work / "README.md").write_text(model_card(manifest), encoding="utf-8")
    shutil.rmtree(scratch)


def fuse(classifier, scratch: Path, attention: bool = True) -> Path:
    """Exports the network and fuses its attention (unless told otherwise), normalisation and GELU nodes."""
    plain, fused = scratch / "plain.onnx", scratch / ("fused.onnx" if attention else "fused-but-attention.onnx")
    ids = torch.randint(5, 100, (2, 16))
    sequence, batch = {0: "batch", 1: "sequence"}, {0: "batch"}
    torch.onnx.export(
        classifier,
        (ids, torch.ones_like(ids)),
        str(plain),
        dynamo=False,
        opset_version=OPSET,
        input_names=["input_ids", "attention_mask"],
        output_names=["intent_logits", "sufficiency_logits", "embedding"],
        dynamic_axes={
            "input_ids": sequence,
            "attention_mask": sequence,
            "intent_logits": batch,
            "sufficiency_logits": batch,
            "embedding": batch,
        },
    )
    config = classifier.encoder.config
    options = FusionOptions("bert")
    options.enable_attention = attention
    optimized = optimizer.optimize_model(
        str(plain),
        optimization_options=options,
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        opt_level=0,
    )
    optimized.save_model_to_file(str(fused))
    return fused


def quantise(fused: Path, target: Path, reduce_range: bool = QUANTIZATION["reduce_range"]) -> None:
    """Quantises the encoder's weights; the heads, which decide, stay float32."""
    graph = onnx.load(str(fused)).graph
    heads = [node.name for node in graph.node if "head" in node.name]
    left = [node.name for node in graph.node if any(part in node.name for part in QUANTIZATION["left_float32"])]
    quantize_dynamic(
        str(fused),
        str(target),
        op_types_to_quantize=QUANTIZATION["operators"],
        per_channel=QUANTIZATION["per_channel"],
        reduce_range=reduce_range,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=heads + left,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


@torch.no_grad()
def check_parity(classifier, tokenizer, graph: Path) -> None:
    """Compares graph and network on the golden prompts, on padded batches and at the longest sequence."""
    session = Scorer(graph, tokenizer).session
    sequences = [encode(tokenizer, messages).ids for _, messages in golden.prompts()]
    sequences.append([2 + i % 90 for i in range(512)])
    worst = 0.0
    for part in [[sequence] for sequence in sequences] + [sequences[:4]]:
        width = max(map(len, part))
        ids = torch.tensor([sequence + [0] * (width - len(sequence)) for sequence in part])
        mask = torch.tensor([[1] * len(sequence) + [0] * (width - len(sequence)) for sequence in part])
        expected = classifier(ids, mask)
        found = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        worst = max(worst, *(np.abs(e.numpy() - f).max() for e, f in zip(expected, found, strict=True)))
    print(f"largest difference between network and graph: {worst:.1e}")
    if worst > PARITY_MAX:
        sys.exit(f"the graph differs from the network by {worst}, more than {PARITY_MAX}")


def limits_of(bundle: Path | None) -> dict | None:
    return bundle and json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["thresholds"]


def calibration_of(scorer: Scorer, examples: list, limits: dict | None) -> dict:
    """Fits calibration and thresholds on a corpus split of their own, with the scores of the graph that ships; `limits`
    are those of an earlier bundle, kept where they still do."""
    intents = np.array([e.intent for e in examples], dtype=int)
    tiers = np.array([e.tier for e in examples], dtype=int)
    intent_logits, sufficiency_logits = scorer.scores([e.messages for e in examples], "calibrate")
    intent_logits, sufficiency_logits = intent_logits.reshape(-1, len(INTENTS)), sufficiency_logits.reshape(-1, 3)
    calibration = calibrate.fit(intent_logits, intents, sufficiency_logits, tiers)
    thresholds, note = calibrate.fit_thresholds(
        calibrate.intent_probabilities(intent_logits, calibration),
        intents,
        calibrate.sufficiencies(sufficiency_logits, calibration),
        tiers,
        limits,
    )
    return {"calibration": calibration, "thresholds": thresholds, "thresholds_note": note}


def languages_of(scorer: Scorer, manifest: dict, examples: list) -> dict:
    _, sufficiency = evaluate.probabilities(scorer, manifest, [e.messages for e in examples], "languages")
    tiers = np.array([e.tier for e in examples])
    return languages_read([e.language for e in examples], tiers, evaluate.tier_of(sufficiency))


def write_golden(scorer: Scorer, manifest: dict, path: Path) -> None:
    calibration = manifest["calibration"]
    with path.open("w", encoding="utf-8") as lines:
        for name, messages in golden.prompts():
            encoded = encode(scorer.tokenizer, messages)
            intent_logits, sufficiency_logits = scorer.run(encoded.ids)
            intent = calibrate.intent_probabilities(intent_logits[None], calibration)[0]
            sufficiency = calibrate.sufficiencies(sufficiency_logits[None], calibration)[0]
            line = {
                "id": name,
                "messages": messages,
                "tokens": len(encoded.ids),
                "truncated": encoded.truncated,
                "intent": {label: round(float(p), 6) for label, p in zip(INTENTS, intent, strict=True)},
                "sufficiency": [round(float(p), 6) for p in sufficiency],
                "ids": encoded.ids,
            }
            print(json.dumps(line, ensure_ascii=False), file=lines)


def agreement(reference: Scorer, scorer: Scorer, manifest: dict) -> dict:
    """Compares the shipped graph with the float32 one on the corpus splits held out from training."""
    parts = corpus_examples()
    examples = parts["dev"] + parts["calibration"] + parts["test"]
    if not examples:
        return {}
    conversations = [example.messages for example in examples]
    one = evaluate.probabilities(reference, manifest, conversations, "float32")
    two = evaluate.probabilities(scorer, manifest, conversations, "shipped")
    intents = np.array([e.intent for e in examples])
    tiers = np.array([e.tier for e in examples])
    return {
        "rows": len(examples),
        "intent_agreement": evaluate.share(one[0].argmax(1) == two[0].argmax(1)),
        "tier_agreement": evaluate.share(evaluate.tier_of(one[1]) == evaluate.tier_of(two[1])),
        "probability_difference_mean": round(float(np.abs(one[1] - two[1]).mean()), 4),
        "intent_accuracy": evaluate.share(two[0].argmax(1) == intents),
        "intent_accuracy_float32": evaluate.share(one[0].argmax(1) == intents),
        "tier_accuracy": evaluate.share(evaluate.tier_of(two[1]) == tiers),
        "tier_accuracy_float32": evaluate.share(evaluate.tier_of(one[1]) == tiers),
    }


def latency(scorer: Scorer) -> dict:
    """Returns median milliseconds of one prompt on one thread, by number of tokens."""
    medians = {}
    for tokens in LATENCY_TOKENS:
        ids = [101] + [2 + i % 90 for i in range(tokens - 2)] + [102]
        times = []
        for _ in tqdm(range(LATENCY_RUNS), desc=f"{tokens} tokens", mininterval=5):
            started = time.perf_counter()
            scorer.run(ids)
            times.append(time.perf_counter() - started)
        medians[str(tokens)] = round(1000 * float(np.median(times)), 2)
    return medians


def publish(work: Path, target: Path) -> None:
    """Puts the finished bundle in place; an older one of the same version makes way first."""
    work.chmod(0o755)
    old = target.with_name(f".old-{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    work.rename(target)
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    main()
