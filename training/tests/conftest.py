import os
import sys
from pathlib import Path

import pytest

# One test compares weights bit by bit: the library that multiplies otherwise chooses its code by how memory is aligned.
# It is read once, before the first product.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]


@pytest.fixture(scope="session")
def tokenizer():
    """Returns a small word-piece tokenizer learned from the corpus; no base weights are needed."""
    from data import corpus_examples
    from smoke import make_smoke

    return make_smoke({"corpus": corpus_examples()["train"]})[0]
