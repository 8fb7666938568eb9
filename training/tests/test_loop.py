import json
import subprocess
import sys

import domain
import loop


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


def test_all_parts_of_the_loop_fit(tmp_path):
    command = [sys.executable, loop.__file__, "--smoke", "--work", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    figures = json.loads((tmp_path / "loop.json").read_text())
    assert figures["judged"] == loop.SMOKE["judge"]
    assert figures["domain"]["active"]["tier_accuracy"]["value"] < 0.2
    assert {"most_frequent", "length"} <= figures["baselines"].keys()
    assert (tmp_path / "bundles" / "9.9.9" / "report.html").exists()
