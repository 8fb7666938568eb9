"""Saves the state of a training and takes it up again, only with the same settings and data."""

import json
import sys
from pathlib import Path

import torch


def save(path: Path, parts: dict, settings: dict, provenances: list, progress: tuple) -> None:
    """Writes the state of every part (what has a state_dict) at once: a cut leaves the old file whole."""
    state = {name: part.state_dict() for name, part in parts.items()}
    state |= {
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all(),
        "settings": json.dumps(settings, sort_keys=True),
        "data": json.dumps(provenances, sort_keys=True),
        "progress": progress,
    }
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def resume(path: Path, parts: dict, settings: dict, provenances: list) -> tuple:
    """Returns (step, best figures, evaluations without better ones), from the file when there is one."""
    if not path.exists():
        return 0, None, 0
    state = torch.load(path, weights_only=False, map_location="cpu")
    if state["settings"] != json.dumps(settings, sort_keys=True):
        sys.exit(f"{path}: was made with other settings; name another --out or delete it")
    if state["data"] != json.dumps(provenances, sort_keys=True):
        sys.exit(f"{path}: was made with other data; name another --out or delete it")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["random"])
    if len(state["random_cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["random_cuda"])
    print(f"resumed at step {state['progress'][0]}")
    return state["progress"]
