"""Fine-tunes the classifier: intent by cross entropy, sufficiency of each level by binary cross entropy.

    python train.py --data DIR --base base/minilm --out runs/one    full training; run again to resume
    python train.py --smoke --out runs/smoke                        two steps of a tiny random network, corpus only

Every setting below is saved with the run and goes into the bundle's manifest.
"""

import argparse
import json
import math
import random
import sys
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch.nn import functional
from tqdm import tqdm

import augment
import data
import model as network
from encode import INPUT, encode, load_tokenizer
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
# Words that the training never shows keep the meaning they had, and a step costs less.
FREEZE_EMBEDDINGS = True
INTENT_SMOOTHING = 0.05
SUFFICIENCY_LOSS = 1.0
EVALUATE_STEPS = 120
CHECKPOINT_STEPS = 120
PATIENCE_EVALUATIONS = 6
# Public rows are pasted passages and exam texts: a shorter window costs less and keeps their task, as at inference.
PUBLIC_TOKENS_MAX = 144
# Batches of like lengths waste less on padding: this many batches are sorted together.
BUCKET_BATCHES = 40

# Rows drawn an epoch, and the weight of each loss for them. What is scarce is realistic traffic, so the corpus is
# drawn several times over, each time augmented, and weighs most; exam questions and priors weigh little.
MIX = {
    "corpus": {"times": 3, "intent": 1.5, "sufficiency": 1.0},
    "intent": {"rows": 2600, "intent": 0.6, "sufficiency": 0.0},
    "intent_synthetic": {"rows": 400, "intent": 0.4, "sufficiency": 0.0},
    "tier_outcomes_mmlupro_stem": {"rows": 900, "intent": 0.0, "sufficiency": 0.4},
    "tier_outcomes_zeroeval": {"rows": 600, "intent": 0.2, "sufficiency": 0.4},
    "gsm8k_train_tier": {"rows": 250, "intent": 0.3, "sufficiency": 0.15},
    "math_levels": {"rows": 300, "intent": 0.3, "sufficiency": 0.15},
    "leetcode_levels": {"rows": 300, "intent": 0.3, "sufficiency": 0.15},
}

# --refine continues from another run, after the corpus grew: lower rates, fewer public rows.
REFINE = {"epochs": 2, "rates": 0.5, "corpus_times": 2, "public_rows": 0.4}

SMOKE = {"vocabulary": 2000, "hidden": 32, "layers": 2, "heads": 2, "steps": 2, "batch": 8}


def main() -> None:
    arguments = parse_arguments()
    settings = all_settings(arguments)
    torch.manual_seed(settings["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arguments.out.mkdir(parents=True, exist_ok=True)

    parts = data.corpus_examples()
    pools = {"corpus": parts["train"]}
    for source in [] if arguments.smoke else data.sources():
        if source["name"] in MIX:
            pools[source["name"]] = data.public_examples(arguments.data, source)
    provenances = data.provenance(None if arguments.smoke else arguments.data, set(MIX))

    tokenizer, classifier = make_smoke(pools) if arguments.smoke else make_from_base(arguments.base, settings)
    if arguments.refine:
        classifier.load_state_dict(network.load(arguments.refine).state_dict())
    classifier.to(device)
    tokenizer.save(str(arguments.out / "tokenizer.json"))
    train(classifier, tokenizer, pools, parts["dev"], settings, provenances, arguments.out, device)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="run directory: weights, settings, checkpoint, log")
    parser.add_argument("--data", type=Path, help="directory of the public sets in sources.toml")
    parser.add_argument(
        "--base",
        type=Path,
        default=Path(__file__).parent / "base" / "minilm",
        help="directory with config.json, tokenizer.json, model.safetensors (see fetch_base.py)",
    )
    parser.add_argument("--base-name", default=BASE_NAME, help="what the manifest calls the base")
    parser.add_argument("--refine", type=Path, metavar="RUN", help="start from the weights of this run, as REFINE says")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default {EPOCHS}")
    parser.add_argument("--seed", type=int, default=SEED, help=f"default {SEED}")
    parser.add_argument("--steps-max", type=int, help="stop after this many steps (a trial)")
    parser.add_argument("--smoke", action="store_true", help="tiny random network, two steps, committed corpus only")
    arguments = parser.parse_args()
    if not arguments.smoke and arguments.data is None:
        parser.error("--data is needed (or --smoke)")
    return arguments


def all_settings(arguments) -> dict:
    """Returns every setting that shapes the weights: what the manifest records."""
    names = [name for name in globals() if name.isupper() and name not in ("SMOKE", "INTENTS", "BASE_NAME", "INPUT")]
    settings = {name.lower(): globals()[name] for name in names}
    settings["augment"] = {
        name.lower(): value for name, value in vars(augment).items() if name.endswith(("_P", "FACTOR"))
    }
    settings |= {"corpus_smoothing": data.CORPUS_SMOOTHING, "prior_smoothing": data.PRIOR_SMOOTHING}
    settings |= {"epochs": arguments.epochs, "seed": arguments.seed, "intents": len(INTENTS)}
    settings |= {"base": arguments.base_name, "steps_max": arguments.steps_max, "smoke": arguments.smoke}
    settings.pop("refine")
    if arguments.refine:
        settings |= refined(settings, arguments.refine)
    if arguments.smoke:
        settings |= {"base": "random", "epochs": 1, "batch": SMOKE["batch"], "steps_max": SMOKE["steps"]}
        settings |= {"mix": {"corpus": MIX["corpus"]}, "head_hidden": SMOKE["hidden"], "freeze_embeddings": False}
    return settings


def refined(settings: dict, start: Path) -> dict:
    """Returns the settings that --refine changes, and those of the run it starts from."""
    mix = {}
    for name, rule in settings["mix"].items():
        count = (
            {"times": REFINE["corpus_times"]}
            if "times" in rule
            else {"rows": int(rule["rows"] * REFINE["public_rows"])}
        )
        mix[name] = rule | count
    rates = {name: settings[name] * REFINE["rates"] for name in ("encoder_rate", "head_rate")}
    earlier = json.loads((start / "run.json").read_text())
    return rates | {"mix": mix, "epochs": REFINE["epochs"], "refines": earlier}


def make_from_base(base: Path, settings: dict):
    if not (base / "model.safetensors").exists():
        sys.exit(f"{base}: no base weights there; fetch_base.py gets them, or name another directory with --base")
    tokenizer = load_tokenizer(base / "tokenizer.json")
    return tokenizer, network.from_base(base, len(INTENTS), settings["head_hidden"], settings["head_dropout"])


def make_smoke(pools: dict):
    """Returns a word-piece tokenizer learned from the corpus and a random network of two layers."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=SMOKE["vocabulary"], special_tokens=specials, show_progress=False)
    texts = (message["content"] for example in pools["corpus"] for message in example.messages)
    tokenizer.train_from_iterator(texts, trainer)
    config = network.bert_config(
        {
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": SMOKE["hidden"],
            "num_hidden_layers": SMOKE["layers"],
            "num_attention_heads": SMOKE["heads"],
            "intermediate_size": 4 * SMOKE["hidden"],
            "max_position_embeddings": 512,
        }
    )
    return tokenizer, network.Classifier(config, len(INTENTS), SMOKE["hidden"], HEAD_DROPOUT)


def train(classifier, tokenizer, pools, dev, settings, provenances, out: Path, device) -> None:
    groups = parameter_groups(classifier, settings)
    optimizer = torch.optim.AdamW(groups, weight_decay=settings["weight_decay"])
    epoch_steps = -(-len(draw_epoch(pools, settings, 0)) // settings["batch"])
    steps = epoch_steps * settings["epochs"]
    steps = min(steps, settings["steps_max"] or steps)
    warmup = max(1, int(steps * settings["warmup_share"]))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, warmup, steps))

    step, best, bad = resume(out, classifier, optimizer, schedule, settings, provenances)
    log = (out / "log.jsonl").open("a")
    started = time.time()
    bar = tqdm(total=steps, initial=step, desc="train", mininterval=5, file=sys.stdout)
    running = None
    while step < steps and bad < settings["patience_evaluations"]:
        epoch, done = divmod(step, epoch_steps)
        for batch in make_batches(pools, tokenizer, settings, epoch)[done:]:
            classifier.train()
            loss = batch_loss(classifier, batch, settings, device)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(classifier.parameters(), settings["gradient_norm_max"])
            optimizer.step()
            schedule.step()
            step += 1
            running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
            bar.update()
            bar.set_postfix(loss=f"{running:.3f}")
            if step % settings["evaluate_steps"] == 0 or step == steps:
                figures = evaluate(classifier, tokenizer, dev, device)
                entry = {"step": step, "loss": round(running, 4), "seconds": round(time.time() - started), **figures}
                print(json.dumps(entry), file=log, flush=True)
                tqdm.write(str(entry), file=sys.stdout)
                if best is None or figures["score"] >= best["score"]:
                    best, bad = entry, 0
                    network.save(classifier, out, settings)
                    write_json(
                        out / "run.json", {"settings": settings, "data": provenances, "best": best, "steps": steps}
                    )
                else:
                    bad += 1
            if step % settings["checkpoint_steps"] == 0:
                checkpoint(out, classifier, optimizer, schedule, settings, provenances, (step, best, bad))
            if step == steps or bad >= settings["patience_evaluations"]:
                break
    bar.close()
    print(f"best on the corpus dev split: {best}")


def parameter_groups(classifier, settings) -> list[dict]:
    embeddings = classifier.encoder.embeddings
    layers = classifier.encoder.encoder.layer
    groups = [
        {
            "params": [*classifier.intent_head.parameters(), *classifier.sufficiency_head.parameters()],
            "lr": settings["head_rate"],
        }
    ]
    for depth, layer in enumerate(reversed(layers)):
        decayed = settings["encoder_rate"] * settings["layer_decay"] ** depth
        groups.append({"params": list(layer.parameters()), "lr": decayed})
    if settings["freeze_embeddings"]:
        embeddings.requires_grad_(False)
    else:
        decayed = settings["encoder_rate"] * settings["layer_decay"] ** len(layers)
        groups.append({"params": list(embeddings.parameters()), "lr": decayed})
    return groups


def rate(step: int, warmup: int, steps: int) -> float:
    """Rises linearly, then falls along half a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def draw_epoch(pools: dict, settings: dict, epoch: int) -> list[tuple[data.Example, dict]]:
    """Returns the examples of an epoch: the corpus several times, of each public set a draw balanced by intent."""
    rng = random.Random(f"draw {settings['seed']} {epoch}")
    drawn = []
    for name, rule in settings["mix"].items():
        pool = pools[name]
        if "times" in rule:
            drawn += [(example, rule) for example in pool * rule["times"]]
            continue
        counts: dict = {}
        for example in pool:
            counts[example.intent] = counts.get(example.intent, 0) + 1
        weights = [counts[example.intent] ** -0.5 for example in pool]
        drawn += [(example, rule) for example in rng.choices(pool, weights, k=rule["rows"])]
    rng.shuffle(drawn)
    return drawn


def make_batches(pools: dict, tokenizer, settings: dict, epoch: int) -> list[list[tuple]]:
    rng = random.Random(f"batch {settings['seed']} {epoch}")
    rows = []
    public_limits = INPUT | {"tokens_max": settings["public_tokens_max"]}
    for example, rule in draw_epoch(pools, settings, epoch):
        limits = INPUT if example.source == "corpus" else public_limits
        rows.append((encode(tokenizer, augment.augment(example, pools["corpus"], rng), limits).ids, example, rule))
    batches, size = [], settings["batch"]
    for start in range(0, len(rows), size * settings["bucket_batches"]):
        bucket = sorted(rows[start : start + size * settings["bucket_batches"]], key=lambda row: len(row[0]))
        batches += [bucket[i : i + size] for i in range(0, len(bucket), size)]
    rng.shuffle(batches)
    return batches


def batch_loss(classifier, batch, settings, device):
    ids, mask = pad([row[0] for row in batch], device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        intent_logits, sufficiency_logits, _ = classifier(ids, mask)
    intents = torch.tensor([-100 if row[1].intent is None else row[1].intent for row in batch], device=device)
    intent_weights = torch.tensor([row[2]["intent"] for row in batch], device=device)
    intent_loss = functional.cross_entropy(
        intent_logits.float(), intents, reduction="none", label_smoothing=settings["intent_smoothing"]
    )
    absent = [0.0, 0.0, 0.0]
    targets = torch.tensor([row[1].sufficiency or absent for row in batch], device=device)
    weights = [row[2]["sufficiency"] if row[1].sufficiency else 0.0 for row in batch]
    sufficiency_weights = torch.tensor(weights, device=device)
    sufficiency_loss = functional.binary_cross_entropy_with_logits(
        sufficiency_logits.float(), targets, reduction="none"
    ).sum(1)
    intent_mean = (intent_loss * intent_weights).mean()
    return intent_mean + settings["sufficiency_loss"] * (sufficiency_loss * sufficiency_weights).mean()


def pad(sequences: list[list[int]], device):
    width = max(map(len, sequences))
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for index, sequence in enumerate(sequences):
        ids[index, : len(sequence)] = torch.tensor(sequence)
        mask[index, : len(sequence)] = 1
    return ids.to(device), mask.to(device)


@torch.no_grad()
def evaluate(classifier, tokenizer, examples: list[data.Example], device) -> dict:
    """Returns the figures on labelled corpus rows; "score" picks the weights that are kept."""
    classifier.eval()
    rows = sorted(((encode(tokenizer, e.messages).ids, e) for e in examples), key=lambda row: len(row[0]))
    intents_right = tiers_right = near = 0
    sufficiency_loss = 0.0
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        intent_logits, sufficiency_logits, _ = classifier(*pad([ids for ids, _ in part], device))
        hard = torch.tensor([[float(e.tier <= level) for level in range(3)] for _, e in part], device=device)
        sufficiency_loss += functional.binary_cross_entropy_with_logits(
            sufficiency_logits, hard, reduction="sum"
        ).item()
        tiers = (sufficiency_logits < 0).sum(1).tolist()
        for (_, example), intent, tier in zip(part, intent_logits.argmax(1).tolist(), tiers, strict=True):
            intents_right += intent == example.intent
            tiers_right += tier == example.tier
            near += abs(tier - example.tier) <= 1
    count = max(1, len(rows))
    loss = sufficiency_loss / count / 3
    score = intents_right / count + tiers_right / count + near / count - loss
    return {
        "intent": round(intents_right / count, 4),
        "tier": round(tiers_right / count, 4),
        "within_one": round(near / count, 4),
        "sufficiency_loss": round(loss, 4),
        "score": round(score, 4),
    }


def checkpoint(out: Path, classifier, optimizer, schedule, settings, provenances, progress) -> None:
    state = {
        "classifier": classifier.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "random": torch.get_rng_state(),
        "settings": json.dumps(settings, sort_keys=True),
        "data": json.dumps(provenances, sort_keys=True),
        "progress": progress,
    }
    torch.save(state, out / "checkpoint.tmp")
    (out / "checkpoint.tmp").replace(out / "checkpoint.pt")


def resume(out: Path, classifier, optimizer, schedule, settings, provenances) -> tuple:
    """Returns (step, best, evaluations without a better one), from the checkpoint when there is one."""
    path = out / "checkpoint.pt"
    if not path.exists():
        return 0, None, 0
    state = torch.load(path, weights_only=False)
    if state["settings"] != json.dumps(settings, sort_keys=True):
        sys.exit(f"{path}: was made with other settings; name another --out or delete it")
    if state["data"] != json.dumps(provenances, sort_keys=True):
        sys.exit(f"{path}: was made with other data; name another --out or delete it")
    classifier.load_state_dict(state["classifier"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["random"])
    print(f"resumed at step {state['progress'][0]}")
    return state["progress"]


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
