"""A tiny random network with a tokenizer learned from the corpus: what tests and the smoke path train."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

import model as network
from labels import INTENTS
from settings import HEAD_DROPOUT, SMOKE


def make_smoke(pools: dict):
    """Returns a word-piece tokenizer and a random network of two layers."""
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
