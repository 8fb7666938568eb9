import torch

import losses
import model as network
from data import Example
from settings import MIX


def objective():
    torch.manual_seed(1)
    config = network.bert_config(
        {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    )
    settings = {"mix": MIX, "source_scales": True, "sufficiency_loss": 1.0, "gain_loss": 1.0, "embedding_loss": 1.0}
    settings |= {"intents": 15, "intent_smoothing": 0.1, "teacher_share": 0.5}
    return losses.Objective(network.Classifier(config, 15, 8, 0.0), settings)


def targets(objective, examples):
    batch = [([1], example, MIX[example.source]) for example in examples]
    return losses.targets_of(batch, objective.settings, objective.sources, "cpu")


def outcome(gain):
    return Example([], None, [0.2, 0.5, 0.6], "tier_outcomes_zeroeval", gain=gain)


def test_scales_start_as_those_of_the_corpus_and_never_touch_it():
    one = objective()
    logits = torch.tensor([[-1.0, 0.5, 2.0]])
    corpus = targets(one, [Example([], 3, [0.2, 0.5, 0.6], "corpus")])
    public = targets(one, [outcome(0.4)])
    weight = MIX["tier_outcomes_zeroeval"]["sufficiency"] / MIX["corpus"]["sufficiency"]
    before = one.sufficiency_loss(logits, corpus)
    assert torch.allclose(one.sufficiency_loss(logits, public), weight * before, atol=1e-4)
    with torch.no_grad():
        one.level_offset += 5.0
    assert torch.equal(one.sufficiency_loss(logits, corpus), before)
    assert not torch.allclose(one.sufficiency_loss(logits, public), weight * before, atol=1e-4)


def test_a_measured_gain_may_be_negative_and_a_missing_one_has_no_weight():
    one = objective()
    found = targets(one, [outcome(-0.3), outcome(None), Example([], 3, [0.2, 0.5, 0.6], "corpus")])
    assert torch.allclose(found["gain"], torch.tensor([-0.3, 0.0, 0.0]))
    assert found["gain_weight"].tolist() == [MIX["tier_outcomes_zeroeval"]["gain"], 0.0, 0.0]


def test_intent_targets_sum_to_one_with_and_without_a_teacher():
    one = objective()
    taught = Example([], 3, None, "corpus", teacher_intent=[1 / 15] * 15)
    rows = targets(one, [Example([], 3, None, "corpus"), taught, Example([], None, None, "corpus")])["intent"]
    assert torch.allclose(rows.sum(1), torch.tensor([1.0, 1.0, 0.0]))
    assert rows[0, 3] > rows[1, 3] > 0.4


def test_only_rows_with_a_base_embedding_are_kept_near_it():
    one = objective()
    near = Example([], 3, None, "corpus", base_embedding=torch.tensor([1.0, 0.0]))
    found = targets(one, [near, Example([], 3, None, "corpus")])
    same, other = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert one.embedding_loss(same, found) == 0.0
    assert one.embedding_loss(other, found) == 0.5
