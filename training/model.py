"""The network: a BERT encoder, one head for the intent, one for the sufficiency, and an embedding: a linear map of the
mean-pooled tokens that keeps the base's sense of likeness, whatever the other heads make of the encoder."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel


class SufficiencyHead(nn.Module):
    """Logits that a tier of each level is enough. They never fall as the level rises: each is the one below
    plus a softplus."""

    def __init__(self, width: int, hidden: int, levels: int, dropout: float):
        super().__init__()
        self.layers = mlp(width, hidden, levels, dropout)

    def forward(self, features):
        raw = self.layers(features)
        steps = nn.functional.softplus(raw[:, 1:])
        second = raw[:, :1] + steps[:, :1]
        return torch.cat([raw[:, :1], second, second + steps[:, 1:2]], dim=1)


def mlp(width: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, outputs)
    )


class Classifier(nn.Module):
    def __init__(self, config: BertConfig, intents: int, head_hidden: int, dropout: float):
        super().__init__()
        self.encoder = BertModel(config, add_pooling_layer=False)
        width = 2 * config.hidden_size
        self.intent_head = mlp(width, head_hidden, intents, dropout)
        self.sufficiency_head = SufficiencyHead(width, head_hidden, 3, dropout)
        self.embedding_head = nn.Linear(config.hidden_size, config.hidden_size)
        nn.init.eye_(self.embedding_head.weight)
        nn.init.zeros_(self.embedding_head.bias)

    def forward(self, input_ids, attention_mask):
        hidden = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=torch.zeros_like(input_ids)
        ).last_hidden_state
        hidden = hidden.float()
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        features = torch.cat([hidden[:, 0], pooled], dim=1)
        mapped = self.embedding_head(pooled).float()
        embedding = mapped / mapped.norm(dim=1, keepdim=True).clamp(min=1e-12)
        return self.intent_head(features), self.sufficiency_head(features), embedding


def bert_config(values: dict) -> BertConfig:
    """Eager attention exports to the graph that ONNX Runtime's BERT fusion knows."""
    keep = {k: v for k, v in values.items() if k not in ("architectures", "transformers_version", "_name_or_path")}
    return BertConfig(**keep, attn_implementation="eager")


def from_base(base: Path, intents: int, head_hidden: int, dropout: float) -> Classifier:
    """Returns a classifier with the encoder of a base directory (config.json, model.safetensors) and new heads."""
    model = Classifier(bert_config(json.loads((base / "config.json").read_text())), intents, head_hidden, dropout)
    weights = {k.removeprefix("bert."): v for k, v in load_file(base / "model.safetensors").items()}
    result = model.encoder.load_state_dict(weights, strict=False)
    if result.missing_keys:
        raise SystemExit(f"{base}: base weights lack {result.missing_keys[:3]} ...")
    return model


def save(model: Classifier, directory: Path, settings: dict) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    encoder = model.encoder.config.to_dict()
    shape = {"encoder": encoder, "intents": settings["intents"], "head_hidden": settings["head_hidden"]}
    (directory / "shape.json").write_text(json.dumps(shape, indent=1, default=str))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, directory / "model.safetensors")


def load(directory: Path) -> Classifier:
    shape = json.loads((directory / "shape.json").read_text())
    model = Classifier(bert_config(shape["encoder"]), shape["intents"], shape["head_hidden"], 0.0)
    model.load_state_dict(load_file(directory / "model.safetensors"))
    return model.eval()
