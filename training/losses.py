"""What the training minimises: cross entropy of the intent, binary cross entropy of each level's sufficiency, and on
sets with measured outcomes the squared error of the gain; the embedding stays near that of the base."""

import torch
from torch import nn
from torch.nn import functional

from data import OWN_SOURCES
from model import Classifier


class Objective(nn.Module):
    """A classifier with the scales of the public sets; its output is the loss of a batch."""

    def __init__(self, classifier: Classifier, settings: dict):
        super().__init__()
        self.classifier = classifier
        self.settings = settings
        self.sources = [name for name in settings["mix"] if name not in OWN_SOURCES]
        # Softplus of this is 1: the scales start as those of the corpus.
        one = torch.full((len(self.sources),), 0.5413)
        self.level_scale, self.level_offset = nn.Parameter(one), nn.Parameter(torch.zeros(len(self.sources), 3))
        self.gain_scale, self.gain_offset = nn.Parameter(one.clone()), nn.Parameter(torch.zeros(len(self.sources)))

    def scale_parameters(self) -> list[nn.Parameter]:
        return [self.level_scale, self.level_offset, self.gain_scale, self.gain_offset]

    def forward(self, ids, mask, targets: dict):
        intent_logits, sufficiency_logits, embedding = self.classifier(ids, mask)
        intent_logits, sufficiency_logits = intent_logits.float(), sufficiency_logits.float()
        return (
            self.intent_loss(intent_logits, targets)
            + self.settings["sufficiency_loss"] * self.sufficiency_loss(sufficiency_logits, targets)
            + self.settings["gain_loss"] * self.gain_loss(sufficiency_logits, targets)
            + self.settings["embedding_loss"] * self.embedding_loss(embedding, targets)
        )

    def intent_loss(self, logits, targets):
        losses = functional.cross_entropy(logits, targets["intent"], reduction="none")
        return (losses * targets["intent_weight"]).mean()

    def sufficiency_loss(self, logits, targets):
        if self.settings["source_scales"]:
            scale = self.of_source(functional.softplus(self.level_scale), targets["source"], 1.0)
            offset = self.of_source(self.level_offset, targets["source"], 0.0)
            logits = logits * scale.unsqueeze(1) + offset
        losses = functional.binary_cross_entropy_with_logits(logits, targets["sufficiency"], reduction="none")
        return (losses * targets["sufficiency_weight"]).sum(1).mean()

    def gain_loss(self, logits, targets):
        probabilities = torch.sigmoid(logits)
        gain = probabilities[:, 2] - probabilities[:, 0]
        scale = self.of_source(functional.softplus(self.gain_scale), targets["source"], 1.0)
        offset = self.of_source(self.gain_offset, targets["source"], 0.0)
        return ((gain * scale + offset - targets["gain"]) ** 2 * targets["gain_weight"]).mean()

    def embedding_loss(self, embedding, targets):
        rows = targets["embedding_row"]
        if len(rows) == 0:
            return 0.0
        return (1.0 - (embedding[rows] * targets["embedding"]).sum(1)).sum() / len(embedding)

    def of_source(self, values, source, corpus: float):
        """Returns the value of each row's source; rows labelled by our own rubric (index 0) get a constant."""
        constant = values.new_full((1, *values.shape[1:]), corpus)
        return torch.cat([constant, values])[source]


def targets_of(batch: list[tuple], settings: dict, sources: list[str], device) -> dict:
    """Returns the targets and weights of a batch of (ids, example, rule)."""
    examples, rules = [row[1] for row in batch], [row[2] for row in batch]
    absent = [0.0, 0.0, 0.0]
    weights = [level_weights(e, r) for e, r in zip(examples, rules, strict=True)]
    intents = [r["intent"] * e.intent_weight * (e.intent is not None) for e, r in zip(examples, rules, strict=True)]
    lists = {
        "intent": [intent_target(example, settings) for example in examples],
        "intent_weight": intents,
        "sufficiency": [example.sufficiency or absent for example in examples],
        "sufficiency_weight": weights,
        "gain": [example.gain or 0.0 for example in examples],
        "gain_weight": [r["gain"] * (e.gain is not None) for e, r in zip(examples, rules, strict=True)],
        "source": [0 if e.source in OWN_SOURCES else 1 + sources.index(e.source) for e in examples],
    }
    targets = {name: torch.tensor(values, device=device) for name, values in lists.items()}
    kept = [row for row, example in enumerate(examples) if example.base_embedding is not None]
    targets["embedding_row"] = torch.tensor(kept, dtype=torch.long, device=device)
    if kept:
        targets["embedding"] = torch.stack([examples[row].base_embedding for row in kept]).to(device)
    return targets


def level_weights(example, rule: dict) -> list[float]:
    """Returns the weight of each level: that of the source, times the trust where a level was judged at all."""
    trust = example.level_weights or [1.0, 1.0, 1.0]
    return [rule["sufficiency"] * one * (example.sufficiency is not None) for one in trust]


def intent_target(example, settings: dict) -> list[float]:
    """Returns the probability of each intent: the label, smoothed, and a teacher's share where there is one."""
    count = settings["intents"]
    if example.intent is None:
        return [0.0] * count
    smoothing = settings["intent_smoothing"]
    target = [smoothing / count] * count
    target[example.intent] += 1.0 - smoothing
    if example.teacher_intent is None:
        return target
    share = settings["teacher_share"]
    return [(1.0 - share) * own + share * taught for own, taught in zip(target, example.teacher_intent, strict=True)]
