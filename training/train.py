"""Fine-tunes the classifier: intent by cross entropy, sufficiency of each level by binary cross entropy.

python train.py --data DIR --base base/minilm --out runs/one     full training; run again to resume
python train.py --data DIR --out runs/one --seeds 7,8,9          one training a seed; the best on dev is kept
python train.py --data DIR --out runs/trial --set epochs=1       change a setting of settings.py
python train.py --refine runs/one --traffic DIR --out runs/two    continue with logged traffic (retrain.py does it)
accelerate launch train.py --data DIR --out runs/one             on several GPUs
python train.py --smoke --out runs/smoke                         two steps of a tiny random network, corpus only
"""

import argparse
import json
import math
import shutil
import sys
import time
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast_object_list, set_seed
from torch.nn import functional
from torch.optim import swa_utils
from tqdm import tqdm

import batches
import checkpoint
import data
import distill
import model as network
from encode import encode, load_tokenizer
from labels import INTENTS
from losses import Objective, targets_of
from settings import BASE_NAME, SEED, settings_of
from smoke import make_smoke


def main() -> None:
    arguments = parse_arguments()
    for run in [*arguments.teacher, *filter(None, [arguments.refine])]:
        data.check_held_out(run)
    settings = settings_of(arguments)
    accelerator = Accelerator(
        mixed_precision="bf16", kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)]
    )
    parts = data.corpus_examples()
    pools = {"corpus": parts["train"]}
    dev = parts["dev"]
    if arguments.traffic:
        pools["traffic"] = data.traffic_examples(arguments.traffic / "train.jsonl")
        dev = dev + data.traffic_examples(arguments.traffic / "dev.jsonl")
    for source in [] if arguments.data is None else data.sources():
        if source["name"] in settings["mix"]:
            pools[source["name"]] = data.public_examples(arguments.data, source)
    provenances = data.provenance(arguments.data, set(settings["mix"]), arguments.traffic)
    if arguments.teacher:
        distill.teach(pools["corpus"], arguments.teacher, settings["teacher_share"], accelerator.device)

    if settings["embedding_loss"] > 0:
        tokenizer, base = make_from_base(arguments.base, settings)
        for name in data.OWN_SOURCES:
            pool = pools.get(name, [])
            some = pool[:: 1 + len(pool) // settings["embedding_rows_max"]]
            distill.keep_embeddings(some, base, tokenizer, accelerator.device)

    finished = []
    settings["processes"] = accelerator.num_processes
    for seed in arguments.seeds:
        out = arguments.out / f"seed-{seed}" if len(arguments.seeds) > 1 else arguments.out
        out.mkdir(parents=True, exist_ok=True)
        set_seed(seed)
        tokenizer, classifier = make_smoke(pools) if arguments.smoke else make_from_base(arguments.base, settings)
        if arguments.refine:
            classifier.load_state_dict(network.load(arguments.refine).state_dict())
        if accelerator.is_main_process:
            tokenizer.save(str(out / "tokenizer.json"))
        best = train(accelerator, classifier, tokenizer, pools, dev, settings | {"seed": seed}, provenances, out)
        finished.append((best, out))
        accelerator.free_memory()
    if len(finished) > 1 and accelerator.is_main_process:
        keep_best(finished, arguments.out)


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
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="RUN",
        action="append",
        default=[],
        help="mix this run's probabilities into the targets of corpus rows (may be given several times)",
    )
    parser.add_argument("--seeds", type=seed_list, default=[SEED], help=f"one training for each; default {SEED}")
    parser.add_argument(
        "--set", metavar="NAME=JSON", action="append", default=[], help="change a setting, e.g. mix.corpus.times=2"
    )
    parser.add_argument("--traffic", type=Path, metavar="DIR", help="also train on what traffic.py labelled there")
    parser.add_argument("--smoke", action="store_true", help="tiny random network, two steps, committed corpus only")
    arguments = parser.parse_args()
    if not (arguments.smoke or arguments.traffic) and arguments.data is None:
        parser.error("--data is needed (or --traffic, or --smoke)")
    if arguments.smoke:
        arguments.data = None
    return arguments


def seed_list(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def make_from_base(base: Path, settings: dict):
    if not (base / "model.safetensors").exists():
        sys.exit(f"{base}: no base weights there; fetch_base.py gets them, or name another directory with --base")
    tokenizer = load_tokenizer(base / "tokenizer.json")
    return tokenizer, network.from_base(base, len(INTENTS), settings["head_hidden"], settings["head_dropout"])


def train(accelerator, classifier, tokenizer, pools, dev, settings, provenances, out: Path) -> dict:
    """Trains until the steps are done or dev stops improving; returns the best figures, whose weights are in `out`."""
    objective = Objective(classifier, settings)
    optimizer = torch.optim.AdamW(parameter_groups(objective, settings), weight_decay=settings["weight_decay"])
    processes = accelerator.num_processes
    epoch_steps = len(batches.draw_epoch(pools, settings, 0)) // (settings["batch"] * processes)
    if epoch_steps == 0:
        sys.exit("an epoch has fewer rows than a batch of every process: nothing to train")
    steps = epoch_steps * settings["epochs"]
    steps = max(1, min(steps, settings["steps_max"] or steps))
    warmup = max(1, int(steps * settings["warmup_share"]))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, warmup, steps))
    average = swa_utils.AveragedModel(
        classifier, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(settings["mean_decay"])
    ).to(accelerator.device)
    objective, optimizer = accelerator.prepare(objective, optimizer)
    bare = accelerator.unwrap_model(objective)

    state = {"objective": bare, "optimizer": optimizer, "schedule": schedule, "average": average}
    step, best, bad = checkpoint.resume(out / "checkpoint.pt", state, settings, provenances)
    started = time.time()
    bar = tqdm(total=steps, initial=step, desc=f"train, seed {settings['seed']}", mininterval=5, file=sys.stdout)
    running = None
    while step < steps and bad < settings["patience_evaluations"]:
        epoch, done = divmod(step, epoch_steps)
        drawn = batches.make_batches(pools, tokenizer, settings, epoch)[accelerator.process_index :: processes]
        for batch in drawn[done:epoch_steps]:
            objective.train()
            ids, mask = batches.pad([row[0] for row in batch], accelerator.device)
            with accelerator.autocast():
                loss = objective(ids, mask, targets_of(batch, settings, bare.sources, accelerator.device))
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(objective.parameters(), settings["gradient_norm_max"])
            optimizer.step()
            schedule.step()
            step += 1
            update(average, bare.classifier, step, warmup)
            running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
            bar.update()
            bar.set_postfix(loss=f"{running:.3f}")
            if step % settings["evaluate_steps"] == 0 or step == steps:
                # One process judges for all: a rounding difference must not let one stop and leave the others waiting.
                figures = evaluate(average.module, tokenizer, dev, accelerator.device)
                figures = broadcast_object_list([figures])[0]
                entry = {"step": step, "loss": round(running, 4), "seconds": round(time.time() - started), **figures}
                better = best is None or figures["score"] >= best["score"]
                best, bad = (entry, 0) if better else (best, bad + 1)
                if accelerator.is_main_process:
                    note(out, entry)
                if better and accelerator.is_main_process:
                    network.save(average.module, out, settings)
                    report = {"settings": settings, "data": provenances, "best": best, "steps": steps}
                    (out / "run.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
            if (step % settings["checkpoint_steps"] == 0 or step == steps) and accelerator.is_main_process:
                checkpoint.save(out / "checkpoint.pt", state, settings, provenances, (step, best, bad))
            if step == steps or bad >= settings["patience_evaluations"]:
                break
    bar.close()
    accelerator.print(f"best on the corpus dev split: {best}")
    return best


def update(average, classifier, step: int, warmup: int) -> None:
    """Moves the running mean; until the rates have risen it is a copy, so that the random start is forgotten."""
    if step <= warmup:
        average.module.load_state_dict(classifier.state_dict())
    average.update_parameters(classifier)


def parameter_groups(objective: Objective, settings: dict) -> list[dict]:
    classifier = objective.classifier
    embeddings, layers = classifier.encoder.embeddings, classifier.encoder.encoder.layer
    heads = [classifier.intent_head, classifier.sufficiency_head, classifier.embedding_head]
    groups = [
        {"params": [p for head in heads for p in head.parameters()], "lr": settings["head_rate"]},
        {"params": objective.scale_parameters(), "lr": settings["scale_rate"], "weight_decay": 0.0},
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


@torch.no_grad()
def evaluate(classifier, tokenizer, examples: list[data.Example], device) -> dict:
    """Returns the figures on labelled rows; "score" picks the weights that are kept."""
    own = [example for example in examples if example.source == "corpus"]
    traffic = [example for example in examples if example.source == "traffic" and any(example.level_weights)]
    figures = corpus_figures(outputs(classifier, tokenizer, own, device))
    if traffic:
        figures |= traffic_figures(outputs(classifier, tokenizer, traffic, device))
        figures["score"] = round(figures["score"] + figures["traffic_levels"] - figures["traffic_loss"], 4)
    return figures


def outputs(classifier, tokenizer, examples: list[data.Example], device) -> list[tuple]:
    """Returns (example, most likely intent, sufficiency logits [3]) of each."""
    classifier.eval()
    rows = sorted(((encode(tokenizer, e.messages).ids, e) for e in examples), key=lambda row: len(row[0]))
    found = []
    for start in range(0, len(rows), 32):
        part = rows[start : start + 32]
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            intent_logits, sufficiency_logits, _ = classifier(*batches.pad([ids for ids, _ in part], device))
        examples_of_part = [example for _, example in part]
        intents = intent_logits.argmax(1).tolist()
        found += zip(examples_of_part, intents, sufficiency_logits.float().cpu(), strict=True)
    return found


def corpus_figures(rows: list[tuple]) -> dict:
    intents_right = tiers_right = near = 0
    sufficiency_loss = 0.0
    for example, intent, logits in rows:
        hard = torch.tensor([float(example.tier <= level) for level in range(3)])
        sufficiency_loss += functional.binary_cross_entropy_with_logits(logits, hard, reduction="sum").item()
        tier = int((logits < 0).sum())
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


def traffic_figures(rows: list[tuple]) -> dict:
    """Returns how many of the judged levels come out right, and their loss, both weighted by trust."""
    logits = torch.stack([row[2] for row in rows])
    targets = torch.tensor([example.sufficiency for example, _, _ in rows])
    weights = torch.tensor([example.level_weights for example, _, _ in rows])
    right = ((logits >= 0) == (targets >= 0.5)).float()
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return {
        "traffic_levels": round(((right * weights).sum() / weights.sum()).item(), 4),
        "traffic_loss": round(((losses * weights).sum() / weights.sum()).item(), 4),
    }


def note(out: Path, entry: dict) -> None:
    with (out / "log.jsonl").open("a") as log:
        print(json.dumps(entry), file=log)
    tqdm.write(str(entry), file=sys.stdout)


def keep_best(finished: list[tuple[dict, Path]], out: Path) -> None:
    """Copies the run with the best dev score to `out` and writes the figures of all seeds beside it."""
    best, winner = max(finished, key=lambda run: run[0]["score"])
    for name in ("model.safetensors", "shape.json", "tokenizer.json"):
        shutil.copy(winner / name, out / name)
    report = json.loads((winner / "run.json").read_text())
    report["seeds"] = {run.name: figures for figures, run in finished}
    (out / "run.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    for figures, run in finished:
        print(f"{run.name}: {figures}")
    print(f"kept {winner.name}: {best}")


if __name__ == "__main__":
    main()
