import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import domain
import loop
import numpy as np
import pytest
import takeover

import compare
import retrain


def test_the_domain_has_many_templates_and_its_halves_share_nothing_but_the_words_of_the_house():
    written = [text for texts in domain.TEMPLATES.values() for text in texts]
    assert len(set(written)) == len(written) >= 150
    for tier in domain.TEMPLATES:
        train, held_out = (set(domain.templates(tier, part)) for part in (False, True))
        assert not train & held_out
        assert len(held_out) >= 10
    for values in domain.SLOTS.values():
        assert not set(domain.half(values, False)) & set(domain.half(values, True))
    one, other = ({r.text for r in domain.requests(300, part, 1)} for part in (False, True))
    assert not one & other


def test_the_reviewer_errs_as_often_as_told():
    reviewer = domain.Reviewer(1, 1.0, 0.05)
    wrong = [reviewer.right_tier(request) != request.tier for request in domain.requests(2000, False, 1)]
    assert 0.03 < sum(wrong) / len(wrong) < 0.07


def test_figures_short_of_the_aim_are_named():
    def problems(gain, change):
        figures = {"domain": {"gain": {"tier_accuracy": {"value": gain}}}}
        figures["corpus_test"] = {"gain": {"tier_accuracy": {"value": change}}}
        return loop.problems_of(figures)

    assert problems(0.2, -0.01) == []
    assert "rose by 0.190" in problems(0.19, 0.0)[0]
    assert "fell by 0.020" in problems(0.5, -0.02)[0]


def test_the_aim_is_held_against_figures_of_judged_requests():
    """The domain's figures as judge() makes them: of a bundle that is right in so many of a hundred."""

    def figures(active, candidate):
        right = {name: {"tier_accuracy": (np.arange(100) < count, np.ones(100))} for name, count in
                 (("active", active), ("candidate", candidate))}  # fmt: skip
        return compare.paired(right, list(map(str, range(100))))

    def problems(domain, corpus):
        return loop.problems_of({"domain": figures(*domain), "corpus_test": figures(*corpus)})

    assert problems((30, 50), (80, 79)) == []
    assert len(problems((30, 49), (80, 78))) == 2


def test_the_loop_begins_at_base_weights_when_no_run_is_given(tmp_path, monkeypatch, capsys):
    asked = []

    def started(command):
        asked.append(command)
        return argparse.Namespace(returncode=1)

    monkeypatch.setattr(loop.subprocess, "run", started)
    base = tmp_path / "base"
    monkeypatch.setattr(sys, "argv", ["loop.py", "--work", str(tmp_path), "--base", str(base)])
    with pytest.raises(SystemExit):
        loop.parse_arguments()
    assert "no base weights there; fetch_base.py gets them" in capsys.readouterr().err
    base.mkdir()
    (base / "model.safetensors").write_bytes(b"")
    with pytest.raises(SystemExit, match="left no bundle"):
        loop.retrain(loop.parse_arguments(), tmp_path / "export")
    monkeypatch.setattr(sys, "argv", ["retrain.py", *asked[0][2:]])
    parsed = retrain.parse_arguments()
    assert (parsed.base, parsed.start, parsed.smoke) == (base, None, False)


def test_commands_are_read_from_the_page_that_shows_them():
    page = f"# Page\n{takeover.HEADING}\n```\n$ pointsman fleet\nwanted\n```\n\n## Next\n\n$ pointsman reload\n"
    assert takeover.shown(page) == {"fleet"}
    shown = takeover.shown(takeover.PAGE.read_text())
    version = takeover.SHOWN_VERSION
    assert {f"bundle verify runs/bundles/{version}", f"bundle canary {version} 5%", "fleet"} <= shown


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Returns the folder of a loop whose traffic was simulated."""
    work = tmp_path_factory.mktemp("loop")
    run(work)
    return work


def run(work, *more):
    command = [sys.executable, loop.__file__, "--smoke", "--work", str(work), *more]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_all_parts_of_the_loop_fit(work):
    figures = json.loads((work / "loop.json").read_text())
    assert figures["judged"] == loop.SMOKE["judge"]
    assert figures["domain"]["active"]["tier_accuracy"]["value"] < 0.2
    assert {"most_frequent", "length"} <= figures["baselines"].keys()
    # A network of two steps knows nothing of the corpus: without --smoke these figures would not do.
    fell = -figures["corpus_test"]["gain"]["tier_accuracy"]["value"]
    assert fell > loop.LOSS_MAX
    assert f"the corpus test split's tier accuracy fell by {fell:.3f}" in loop.problems_of(figures)[-1]
    assert (work / "bundles" / "9.9.9" / "report.html").exists()


def test_a_real_server_logs_exports_and_has_the_new_bundle_take_over(work):
    if (binary := pointsman()) is None:
        pytest.skip("no pointsman in target/: build it, or name it in POINTSMAN_BIN")
    # The bundle stays as it is; the traffic comes again, this time from a server.
    shutil.rmtree(work / "export")
    run(work, "--pointsman", str(binary))
    figures = json.loads((work / "loop.json").read_text())["takeover"]
    assert sum(figures["shadow"].values()) >= takeover.SHADOW_SCORES
    assert figures["beside"] > 0
    # One state before the first step, and one after each that changes who decides or who scores.
    assert figures["generations"] >= 5


def pointsman():
    """Returns the binary to test with, as tests/python does, or None."""
    if named := os.environ.get("POINTSMAN_BIN"):
        return Path(named)
    target = Path(os.environ.get("CARGO_TARGET_DIR", loop.TRAINING.parent / "target"))
    found = [path for profile in ("release", "debug") if (path := target / profile / "pointsman").is_file()]
    return found[0] if found else None
