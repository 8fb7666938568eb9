import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import domain
import loop
import pytest
import takeover


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
