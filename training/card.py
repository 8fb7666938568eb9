"""Writes a bundle's model card from its manifest."""


def model_card(manifest: dict) -> str:
    training, quantization, metrics = manifest["training"], manifest["quantization"], manifest["metrics"]
    lines = [
        f"# {manifest['name']} {manifest['version']}",
        "",
        "Reads a request to a language model and says what kind of task it is (15 intents) and how likely a tier of",
        "each level is enough to answer it (simple, moderate, complex; reasoning always is). Pointsman routes by it.",
        "",
        f"- Base: {training['base']['name']}, fine-tuned with `training/train.py`; settings and seed are in",
        "  `manifest.json`.",
        "- Input: the last user message, up to four earlier turns and the start of the system message, at most",
        f"  {manifest['input']['tokens_max']} tokens; a longer message keeps its start and its end.",
        "- Outputs: `intent_logits`, `sufficiency_logits`, `embedding` (mean-pooled, normalised).",
        f"- Weights: {quantization['kind']}; {manifest['files']['model.onnx']['bytes'] / 1e6:.1f} MB. Score prompts",
        "  one at a time, without padding: int8 scores change with batch mates.",
        "",
    ]
    if metrics.get("corpus_test", {}).get("rows"):
        lines += ["## Figures", "", "Higher is better unless said otherwise; n is the number of prompts.", ""]
        lines += figures_table(metrics)
        lines += corpus_text(metrics["corpus_test"])
    lines += [quantization_text(quantization), latency_text(metrics), ""]
    read = ", ".join(manifest["languages"]["read"])
    lines += ["## Confidence", "", f"Thresholds: {manifest['thresholds_note']}", ""]
    lines += [f"Languages read well enough to be believed: {read}. Prompts in others count as low confidence.", ""]
    lines += ["## Data", "", "| set | rows | licence | origin |", "|---|---|---|---|"]
    lines += [f"| {d['name']} | {d['rows']} | {d['licence']} | {d['origin']} |" for d in manifest["data"]]
    lines += [
        "",
        "## Limits",
        "",
        "- The tier labels are judgements by the rubric in `training/LABELING.md`, not outcomes measured on models.",
        "- The base was trained on English. Other languages are recognised less well, some scripts hardly.",
        "- It sees at most 256 tokens: a hard question in the middle of a long paste may be missed.",
        "- It is no safety filter, and a determined author can steer its scores.",
        "",
        "## Licence",
        "",
        "The weights derive from all-MiniLM-L6-v2 (Apache-2.0) and are offered under Apache-2.0. CLINC150 is used",
        "under CC-BY-3.0 and BELLE under ODC-By; both ask to be named, which the table above does.",
        "",
    ]
    return "\n".join(lines)


def figures_table(metrics: dict) -> list[str]:
    test = metrics["corpus_test"]
    tfidf = test.get("baseline_tfidf", {})
    frequent, length = test["baseline_most_frequent"], test["baseline_length"]
    rows = [["set", "figure", "n", "this", "TF-IDF", "length", "most frequent"]]

    def add(name, figure, n, value, words=None, long=None, most=None):
        rows.append([name, figure, str(n), *(f"{v:.3f}" if v is not None else "" for v in (value, words, long, most))])

    n = test["rows"]
    add("corpus test", "intent accuracy", n, test["intent_accuracy"], tfidf.get("intent_accuracy"), None,
        frequent["intent_accuracy"])  # fmt: skip
    add("corpus test", "intent macro F1", n, test["intent_macro_f1"], tfidf.get("intent_macro_f1"))
    for key, title in (("tier_accuracy", "tier accuracy"), ("within_one", "tier within one"),
                       ("tier_too_low", "tier too low (lower is better)")):  # fmt: skip
        add("corpus test", title, n, test[key], tfidf.get(key), length[key], frequent[key])
    add("corpus test", "tier macro F1", n, test["tier_macro_f1"], tfidf.get("tier_macro_f1"), length["tier_macro_f1"])
    add("corpus test", "Spearman with tier", n, test["spearman_tier"], None, test["baseline_length_spearman_tier"])
    for name in ("real_user_instructionwild", "intent_restricted", "intent"):
        if name not in metrics:
            continue
        one, words = metrics[name], metrics[name].get("baseline_tfidf", {})
        add(name, "intent accuracy", one["rows"], one["intent_accuracy"], words.get("intent_accuracy"), None,
            one["baseline_most_frequent"])  # fmt: skip
        add(name, "intent macro F1", one["rows"], one["intent_macro_f1"], words.get("intent_macro_f1"))
    for name in ("flask_difficulty", "wizardlm_testset"):
        if name in metrics:
            one = metrics[name]
            add(name, "Spearman with human difficulty", one["rows"], one["spearman"], one.get("tfidf"), one["length"])
    for name in ("tier_outcomes_mmlupro_stem", "tier_outcomes_zeroeval", "tier_outcomes_routerbench"):
        if name in metrics:
            one = metrics[name]
            add(name, "Spearman with gain", one["rows"], one["spearman_gain"], None, one["length_gain"])
            add(name, "Spearman with difficulty", one["rows"], one["spearman_difficulty"], None,
                one["length_difficulty"])  # fmt: skip
    if "typo_pairs" in metrics:
        one = metrics["typo_pairs"]
        add("typo pairs", "same tier with and without errors", one["rows"], one["same_tier"])
    if "arena_hard_v01" in metrics:
        one = metrics["arena_hard_v01"]
        add("arena_hard_v01", "share to complex or above", one["rows"], one["complex_or_above"])
    table = ["| " + " | ".join(row) + " |" for row in rows]
    origin = (
        "`intent`, `tier_outcomes_mmlupro_stem` and `tier_outcomes_zeroeval` come from the same sources as training "
        "rows and flatter; the others do not."
    )
    return [table[0], "|---|---|---|---|---|---|---|", *table[1:], "", origin, ""]


def corpus_text(test: dict) -> list[str]:
    def interval(name):
        low, high = test[f"{name}_interval"]
        return f"{low:.3f} to {high:.3f}"

    def errors(figures):
        return ", ".join(f"{error:.3f}" for error in figures["sufficiency_error"])

    before, fresh = test["before_calibration"], test["fresh_batches"]
    lines = [
        "Corpus test prompts come from author batches that training never saw; ten of those batches were measured for "
        f"earlier bundles. On the {fresh['rows']} prompts of the others: intent {fresh['intent_accuracy']:.3f}, "
        f"macro F1 {fresh['intent_macro_f1']:.3f}; tier accuracy {fresh['tier_accuracy']:.3f}, within one "
        f"{fresh['within_one']:.3f}. 95 % intervals, batches redrawn: intent accuracy "
        f"{interval('intent_accuracy')}, intent macro F1 {interval('intent_macro_f1')}, tier accuracy "
        f"{interval('tier_accuracy')}, tier macro F1 {interval('tier_macro_f1')}, within one {interval('within_one')}.",
        "",
        f"Calibration error before and after: intent {before['intent_calibration_error']:.3f} and "
        f"{test['intent_calibration_error']:.3f}; sufficiency of simple, moderate, complex {errors(before)} and "
        f"{errors(test)}. Low confidence: {test['low_confidence_share']:.3f} of the prompts.",
        "",
        "| language | prompts | intent accuracy | tier accuracy | tier too low |",
        "|---|---|---|---|---|",
    ]
    for name, one in test.items():
        if name.startswith("language_"):
            lines.append(
                f"| {name.removeprefix('language_')} | {one['rows']} | {one['intent_accuracy']:.3f} | "
                f"{one['tier_accuracy']:.3f} | {one['tier_too_low']:.3f} |"
            )
    return [*lines, ""]


def quantization_text(quantization: dict) -> str:
    if "rows" not in quantization:
        return ""
    return (
        f"Against the float32 graph on {quantization['rows']} corpus prompts: same intent "
        f"{quantization['intent_agreement']:.3f}, same tier {quantization['tier_agreement']:.3f}; intent accuracy "
        f"{quantization['intent_accuracy']:.3f} (float32 {quantization['intent_accuracy_float32']:.3f}), tier accuracy "
        f"{quantization['tier_accuracy']:.3f} ({quantization['tier_accuracy_float32']:.3f})."
    )


def latency_text(metrics: dict) -> str:
    times = ", ".join(f"{value} ms at {tokens} tokens" for tokens, value in metrics["latency_ms"].items())
    return f"Median inference time of one prompt on one thread of a shared server CPU: {times}."
