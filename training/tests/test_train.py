import argparse
import copy

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

import data
import train
from settings import settings_of
from smoke import make_smoke


def arguments(**changes):
    values = {"base_name": "", "base": None, "smoke": True, "teacher": [], "refine": None, "set": []}
    values |= {"data": None, "traffic": None}
    return argparse.Namespace(**(values | changes))


def run(out, parts, start):
    changes = ["epochs=2", "steps_max=5", "evaluate_steps=2", "checkpoint_steps=2", "embedding_loss=1.0"]
    settings = settings_of(arguments(set=changes)) | {"seed": 3}
    set_seed(3)
    pools = {"corpus": parts["train"][:16]}
    tokenizer, classifier = copy.deepcopy(start)
    for example in pools["corpus"]:
        example.base_embedding = torch.nn.functional.normalize(torch.ones(32), dim=0)
    return train.train(Accelerator(cpu=True), classifier, tokenizer, pools, parts["dev"][:8], settings, [], out)


@pytest.fixture
def one_thread():
    """Sums in one order: with several threads it depends on who is done first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_a_resumed_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    parts = data.corpus_examples()
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    start = make_smoke({"corpus": parts["train"][:16]})
    best = run(whole, parts, start)

    calls = []
    original = train.update

    def interrupted(*values):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*values)

    monkeypatch.setattr(train, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(cut, parts, start)
    monkeypatch.setattr(train, "update", original)
    again = run(cut, parts, start)

    assert {key: best[key] for key in ("step", "score")} == {key: again[key] for key in ("step", "score")}
    assert (whole / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()


def test_weights_that_saw_a_held_out_batch_are_refused(tmp_path):
    held_out = data.corpus_examples()["test"][0].batch
    (tmp_path / "run.json").write_text(f'{{"data": [{{"train_batches": ["{held_out}"]}}]}}')
    with pytest.raises(SystemExit, match=held_out):
        data.check_held_out(tmp_path)
