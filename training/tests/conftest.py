import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]


@pytest.fixture(scope="session")
def tokenizer():
    """Returns a small word-piece tokenizer learned from the corpus; no base weights are needed."""
    from data import corpus_examples
    from smoke import make_smoke

    return make_smoke({"corpus": corpus_examples()["train"]})[0]
