"""Compares the forms a run can ship in: float32, dynamic int8, static int8, 8-bit MatMulNBits.

    python forms.py --run runs/one --out forms.json

For each form: size, task accuracy on the corpus dev split, agreement with float32, milliseconds of one prompt
on one thread, and how far a prompt's logits move when it shares a batch with longer prompts. The test split has
no part in the choice.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from tqdm import tqdm

import calibrate
import evaluate
import export
import model as network
from data import Example, corpus_examples
from encode import encode, load_tokenizer
from score import Scorer

# Prompts whose activations set the ranges of static int8.
CALIBRATION_PROMPTS = 200
# Percentiles are taken over arrays of one shape: their prompts are cut to this many tokens.
CALIBRATION_TOKENS = 48
# Prompts scored alone and then in one padded batch of this many.
BATCH_MATES = 8
BLOCK = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="directory that train.py wrote")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    classifier = network.load(arguments.run)
    tokenizer = load_tokenizer(arguments.run / "tokenizer.json")
    parts = corpus_examples()
    scratch = Path(tempfile.mkdtemp(prefix="pointsman-forms-"))
    try:
        graphs = build(classifier, tokenizer, parts["train"], scratch)
        figures = compare(graphs, tokenizer, parts["dev"])
    finally:
        shutil.rmtree(scratch)
    print_table(figures)
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


def build(classifier, tokenizer, train: list[Example], scratch: Path) -> dict[str, Path]:
    """Returns the file of each form; static int8 and MatMulNBits keep the attention's products apart."""
    fused = export.fuse(classifier, scratch)
    unfused_attention = export.fuse(classifier, scratch, attention=False)
    graphs = {"float32": fused}
    for bits, reduced in ((7, True), (8, False)):
        graphs[f"dynamic int8, {bits}-bit weights"] = scratch / f"dynamic{bits}.onnx"
        export.quantise(fused, graphs[f"dynamic int8, {bits}-bit weights"], reduce_range=reduced)
    for method in (CalibrationMethod.MinMax, CalibrationMethod.Percentile):
        name = f"static int8, {method.name}"
        graphs[name] = scratch / f"static{method.name}.onnx"
        tokens = CALIBRATION_TOKENS if method is CalibrationMethod.Percentile else None
        quantise_static(unfused_attention, graphs[name], Prompts(tokenizer, train, tokens), method)
    graphs["8-bit MatMulNBits"] = scratch / "nbits.onnx"
    quantizer = MatMulNBitsQuantizer(onnx.load(str(unfused_attention)), bits=8, block_size=BLOCK, accuracy_level=4)
    quantizer.process()
    quantizer.model.save_model_to_file(str(graphs["8-bit MatMulNBits"]))
    return graphs


class Prompts(CalibrationDataReader):
    """Feeds training prompts one at a time; with `tokens`, only the start of those that are as long."""

    def __init__(self, tokenizer, examples: list[Example], tokens: int | None):
        sequences = [encode(tokenizer, e.messages).ids for e in random.Random(1).sample(examples, len(examples))]
        if tokens:
            sequences = [[*ids[: tokens - 1], ids[-1]] for ids in sequences if len(ids) >= tokens]
        self.sequences = iter(sequences[:CALIBRATION_PROMPTS])

    def get_next(self):
        ids = next(self.sequences, None)
        if ids is None:
            return None
        input_ids = np.array([ids], dtype=np.int64)
        return {"input_ids": input_ids, "attention_mask": np.ones_like(input_ids)}


def quantise_static(source: Path, target: Path, prompts: Prompts, method) -> None:
    graph = onnx.load(str(source)).graph
    weights = {tensor.name for tensor in graph.initializer}
    # Products of activations with activations (inside the attention) and the heads stay float32.
    encoder = [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in weights and "head" not in node.name
    ]
    quantize_static(
        str(source),
        str(target),
        prompts,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=encoder,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
        extra_options={"CalibPercentile": 99.99} if method is CalibrationMethod.Percentile else {},
    )


def compare(graphs: dict[str, Path], tokenizer, dev: list[Example]) -> dict:
    conversations = [example.messages for example in dev]
    intents, tiers = np.array([e.intent for e in dev]), np.array([e.tier for e in dev])
    figures, reference = {}, None
    for name, graph in graphs.items():
        scorer = Scorer(graph, tokenizer)
        intent, sufficiency = scorer.scores(conversations, name)
        # Each form gets the calibration it would ship with; fitted on the same rows for all, so only ranks count.
        calibration = calibrate.fit(intent, intents, sufficiency, tiers)
        tier = evaluate.tier_of(calibrate.sufficiencies(sufficiency, calibration))
        reference = reference or (intent.argmax(1), tier)
        figures[name] = {
            "megabytes": round(graph.stat().st_size / 1e6, 1),
            "intent_accuracy": evaluate.share(intent.argmax(1) == intents),
            "tier_accuracy": evaluate.share(tier == tiers),
            "same_intent": evaluate.share(intent.argmax(1) == reference[0]),
            "same_tier": evaluate.share(tier == reference[1]),
            "moved_by_batch_mates": moved_by_batch_mates(scorer, conversations),
            "latency_ms": export.latency(scorer),
        }
    return figures


def moved_by_batch_mates(scorer: Scorer, conversations: list) -> float:
    """Returns the largest change of a logit when prompts are scored in padded batches instead of alone."""
    worst = 0.0
    chosen = conversations[:: max(1, len(conversations) // (8 * BATCH_MATES))]
    sequences = [encode(scorer.tokenizer, messages).ids for messages in chosen]
    for start in tqdm(range(0, len(sequences), BATCH_MATES), desc="batch mates", mininterval=5, file=sys.stdout):
        part = sequences[start : start + BATCH_MATES]
        width = max(map(len, part))
        ids = np.array([sequence + [0] * (width - len(sequence)) for sequence in part], dtype=np.int64)
        mask = np.array([[1] * len(s) + [0] * (width - len(s)) for s in part], dtype=np.int64)
        together = scorer.session.run(["intent_logits"], {"input_ids": ids, "attention_mask": mask})[0]
        alone = np.array([scorer.run(sequence)[0] for sequence in part])
        worst = max(worst, float(np.abs(together - alone).max()))
    return round(worst, 6)


def print_table(figures: dict) -> None:
    print(f"\n{'form':<30}{'MB':>7}{'intent':>8}{'tier':>8}{'same i.':>9}{'same t.':>9}{'mates':>10}   ms at tokens")
    for name, row in figures.items():
        times = ", ".join(f"{tokens}: {ms}" for tokens, ms in row["latency_ms"].items())
        print(
            f"{name:<30}{row['megabytes']:>7}{row['intent_accuracy']:>8.3f}{row['tier_accuracy']:>8.3f}"
            f"{row['same_intent']:>9.3f}{row['same_tier']:>9.3f}{row['moved_by_batch_mates']:>10}   {times}"
        )


if __name__ == "__main__":
    main()
