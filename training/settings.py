"""Every setting that shapes the weights. They are saved with the run and go into the bundle's manifest."""

import json
from pathlib import Path

import augment
import data
from encode import INPUT
from labels import INTENTS

SEED = 7
EPOCHS = 3
BATCH = 32
BASE_NAME = "all-MiniLM-L6-v2"
ENCODER_RATE = 1.5e-4
# Each encoder layer below the last learns this much slower than the one above it.
LAYER_DECAY = 0.9
HEAD_RATE = 1e-3
WEIGHT_DECAY = 0.01
WARMUP_SHARE = 0.06
GRADIENT_NORM_MAX = 1.0
HEAD_HIDDEN = 256
HEAD_DROPOUT = 0.2
# Frozen, words that the training never shows keep the meaning they had, and a step costs less; free, the pieces that
# other scripts are cut into learn something.
FREEZE_EMBEDDINGS = False
# The weights that are judged and kept are a running mean of those of the steps.
MEAN_DECAY = 0.997
INTENT_SMOOTHING = 0.05
SUFFICIENCY_LOSS = 1.0
# Squared error of the gain, complex over simple, on sets with measured outcomes.
GAIN_LOSS = 4.0
# Cosine distance to the embedding of the base: custom intents by example rely on its sense of likeness.
EMBEDDING_LOSS = 1.5
# Of so many rows of corpus and of traffic, evenly drawn.
EMBEDDING_ROWS_MAX = 20_000
# Public sets were answered by other models and graded by other rules than ours: they rank prompts, and where their
# levels lie is fitted by a scale and an offset of each set that are thrown away after the training.
SOURCE_SCALES = True
SCALE_RATE = 1e-2
# Share of a teacher's probabilities in the targets of corpus rows (--teacher).
TEACHER_SHARE = 0.5
EVALUATE_STEPS = 200
CHECKPOINT_STEPS = 200
PATIENCE_EVALUATIONS = 5
# Public rows are pasted passages and exam texts: a shorter window costs less and keeps their task, as at inference.
PUBLIC_TOKENS_MAX = 144
# Batches of like lengths waste less on padding: this many batches are sorted together.
BUCKET_BATCHES = 40

# Rows drawn an epoch, and the weight of each loss for them. What is scarce is realistic traffic, so the corpus is
# drawn several times over, each time augmented, and weighs most; exam questions and priors weigh little.
MIX = {
    "corpus": {"times": 3, "intent": 1.5, "sufficiency": 1.0, "gain": 0.0},
    # Logged traffic (--traffic): every row by the trust in its labels, at most so many rows an epoch.
    "traffic": {"times": 3, "rows_max": 12_000, "intent": 1.0, "sufficiency": 1.0, "gain": 0.0},
    "intent": {"rows": 1800, "intent": 0.6, "sufficiency": 0.0, "gain": 0.0},
    "intent_synthetic": {"rows": 300, "intent": 0.4, "sufficiency": 0.0, "gain": 0.0},
    "tier_outcomes_mmlupro_stem": {"rows": 1500, "intent": 0.0, "sufficiency": 0.4, "gain": 1.0},
    "tier_outcomes_zeroeval": {"rows": 600, "intent": 0.2, "sufficiency": 0.4, "gain": 1.0},
    "gsm8k_train_tier": {"rows": 250, "intent": 0.3, "sufficiency": 0.15, "gain": 0.0},
    "math_levels": {"rows": 300, "intent": 0.3, "sufficiency": 0.15, "gain": 0.0},
    "leetcode_levels": {"rows": 300, "intent": 0.3, "sufficiency": 0.15, "gain": 0.0},
}

# --refine continues from another run, after the corpus or the traffic grew: lower rates, fewer public rows, fewer
# embeddings to hold, as they are held already, and a mean of fewer steps, as there are few.
REFINE = {"epochs": 2, "rates": 0.5, "corpus_times": 2, "public_rows": 0.4, "embedding_rows_max": 2000,
          "mean_decay": 0.99}  # fmt: skip

SMOKE = {"vocabulary": 2000, "hidden": 32, "layers": 2, "heads": 2, "steps": 2, "batch": 8}

# Not settings of a run by themselves.
NOT_RECORDED = {"SMOKE", "REFINE", "BASE_NAME", "NOT_RECORDED", "NOT_SET", "INTENTS", "INPUT", "SEED"}
# Recorded, but changed elsewhere: in the code of that name, or by an option of its own.
NOT_SET = {"augment", "corpus_smoothing", "prior_smoothing", "intents", "input", "base", "smoke", "teachers", "refines"}


def settings_of(arguments) -> dict:
    """Returns the settings of a run: the constants above, changed by --set and the other options."""
    settings = {name.lower(): value for name, value in globals().items() if name.isupper() and name not in NOT_RECORDED}
    settings["mix"] = dict(MIX)
    settings["augment"] = {name.lower(): getattr(augment, name) for name in augment.RECORDED}
    settings |= {"corpus_smoothing": data.CORPUS_SMOOTHING, "prior_smoothing": data.PRIOR_SMOOTHING}
    settings |= {"input": INPUT, "precision": "bfloat16"}
    settings |= {"intents": len(INTENTS), "smoke": arguments.smoke, "steps_max": None}
    settings["base"] = {"name": arguments.base_name} | weights_of(None if arguments.smoke else arguments.base)
    settings["teachers"] = [weights_of(run) for run in arguments.teacher]
    if not arguments.traffic:
        del settings["mix"]["traffic"]
    if arguments.data is None:
        settings["mix"] = {name: rule for name, rule in settings["mix"].items() if name in data.OWN_SOURCES}
    if arguments.refine:
        settings |= refined(settings, arguments.refine)
    if arguments.smoke:
        settings |= {"base": {"name": "random"}, "epochs": 1, "batch": SMOKE["batch"], "steps_max": SMOKE["steps"]}
        settings |= {"head_hidden": SMOKE["hidden"], "freeze_embeddings": False}
        settings |= {"embedding_loss": 0.0}
    for change in arguments.set:
        apply(settings, change)
    return settings


def weights_of(directory: Path | None) -> dict:
    """Returns the hash of a network's weights, so that the record says which they were."""
    path = directory and directory / "model.safetensors"
    return {"sha256": data.sha256(path)} if path and path.exists() else {}


def refined(settings: dict, start: Path) -> dict:
    """Returns the settings that --refine changes, and those of the run it starts from."""
    mix = {}
    for name, rule in settings["mix"].items():
        if name in data.OWN_SOURCES:
            mix[name] = rule | ({"times": REFINE["corpus_times"]} if name == "corpus" else {})
        else:
            mix[name] = rule | {"rows": int(rule["rows"] * REFINE["public_rows"])}
    rates = {name: settings[name] * REFINE["rates"] for name in ("encoder_rate", "head_rate")}
    earlier = json.loads((start / "run.json").read_text())
    kept = {name: REFINE[name] for name in ("epochs", "embedding_rows_max", "mean_decay")}
    return rates | kept | {"mix": mix, "refines": earlier | weights_of(start)}


def apply(settings: dict, change: str) -> None:
    """Carries out one --set: "epochs=1", "mix.corpus.times=2"; the value is JSON."""
    path, _, text = change.partition("=")
    *parents, last = path.split(".")
    place = settings if path.split(".")[0] not in NOT_SET else None
    for name in parents:
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place:
        raise SystemExit(f"--set {change}: there is no setting {path!r}; settings.py lists them")
    try:
        place[last] = json.loads(text)
    except json.JSONDecodeError as error:
        raise SystemExit(f"--set {change}: the value is not JSON: {error}") from error
