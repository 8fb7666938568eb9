"""Holds Rust to the scores that Python exported: `python bundle_parity.py BUNDLE`.

The manifest's own tolerance allows for another kind of CPU than the exporter's, and the scores of a hardly trained
network lie closer together than that. On the machine that exported the bundle every score must agree to PARITY, and a
bundle that was tampered with must be refused. The bundle itself is left as it is.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

PARITY = 1e-4
# Scores of different prompts are further apart than this, or agreement would prove nothing.
SPREAD_MIN = 50 * PARITY


def main() -> None:
    bundle = Path(sys.argv[1]).resolve()
    samples = [json.loads(line) for line in (bundle / "golden.jsonl").read_text().splitlines()]
    spread = max(max(scores) - min(scores) for scores in zip(*(row["sufficiency"] for row in samples), strict=True))
    assert spread >= SPREAD_MIN, f"the golden scores differ by {spread} only"
    print(f"golden scores of {len(samples)} samples, spread over {spread:.3f}")

    expect(bundle, "every score agrees", lambda copy: None, 0, "bundle")
    expect(bundle, "a wrong score is refused", shift_last_score, 1, f"golden.jsonl: line {len(samples)}")
    expect(bundle, "a wrong text is refused", change_last_text, 1, f"golden.jsonl line {len(samples)}")
    expect(bundle, "half a model is refused", halve_model, 1, "model.onnx")
    expect(bundle, "no tokenizer is refused", lambda copy: (copy / "tokenizer.json").unlink(), 1, "tokenizer.json")


def expect(bundle: Path, what: str, change: Callable[[Path], object], code: int, said: str) -> None:
    """Runs `pointsman check` on a changed copy and compares its exit code and a part of what it says."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "bundle"
        shutil.copytree(bundle, copy)
        edit_manifest(copy, lambda manifest: manifest["golden"].update(tolerance=PARITY))
        change(copy)
        config = Path(folder) / "pointsman.toml"
        config.write_text(f"[classifier]\nbundle = {json.dumps(str(copy))}\n")
        command = [os.environ["POINTSMAN_BIN"], "check", config]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    output = ended.stdout + ended.stderr
    assert ended.returncode == code and said in output, f"{what}: exit {ended.returncode}\n{output}"
    print(f"{what}: {output.strip().splitlines()[-1]}")


def shift_last_score(copy: Path) -> None:
    def shift(sample: dict) -> None:
        sample["sufficiency"][0] += 10 * PARITY

    edit_last_sample(copy, shift)


def change_last_text(copy: Path) -> None:
    def change(sample: dict) -> None:
        sample["messages"][-1]["content"] += " not"

    edit_last_sample(copy, change)


def halve_model(copy: Path) -> None:
    model = copy / "model.onnx"
    model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])


def edit_last_sample(copy: Path, edit: Callable[[dict], None]) -> None:
    golden = copy / "golden.jsonl"
    *before, last = golden.read_text().splitlines()
    sample = json.loads(last)
    edit(sample)
    golden.write_text("\n".join([*before, json.dumps(sample, ensure_ascii=False)]) + "\n")
    content = golden.read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit_manifest(copy, lambda manifest: manifest["files"]["golden.jsonl"].update(entry))


def edit_manifest(copy: Path, edit: Callable[[dict], None]) -> None:
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


if __name__ == "__main__":
    main()
