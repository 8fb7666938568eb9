"""Writes report.html and report.json of a retraining: figures, plots, counts and settings. Never a text, a tenant or a
session of the traffic.
"""

import html
import io
import json
from pathlib import Path

from labels import LEVELS

TITLES = {
    "tier_accuracy": "tier accuracy",
    "levels_right": "judged levels right",
    "intent_accuracy": "intent accuracy",
    "within_one": "tier within one",
    "tier_too_low": "tier too low (less is better)",
}
PLACES = {"corpus_test": "Corpus test split", "traffic": "Held-out traffic"}
COLOURS = {"active": "#8a8f98", "candidate": "#1f6feb"}
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#1c1f23}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .8em;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}.verdict{padding:.6em 1em;border-left:4px solid}
.refused{border-color:#c0392b;background:#fdf0ee}.accepted{border-color:#1a7f37;background:#eefaf0}
svg{max-width:100%;height:auto}pre{background:#f6f7f8;padding:1em;overflow:auto}"""


def write(content: dict, out: Path) -> None:
    """`content` holds "version", "refusals", "settings" and, of the steps that were done, "traffic", "log",
    "comparison" and "served"."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (out / "report.json").write_text(text, encoding="utf-8")
    (out / "report.html").write_text(page(content), encoding="utf-8")


def page(content: dict) -> str:
    comparison = content.get("comparison")
    title = f"Retraining: {content['version']}"
    lines = ["<!doctype html>", f"<meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"]
    lines += [f"<h1>{html.escape(title)}</h1>", verdict(content)]
    for place, heading in PLACES.items() if comparison else ():
        lines += [f"<h2>{heading}</h2>", table(comparison[place], comparison), plot(bars, comparison[place])]
        if place == "traffic":
            lines += traffic_parts(comparison["traffic"])
    if content.get("served"):
        lines += ["<h2>Corpus test split, as served</h2>", served_table(content["served"])]
    if content.get("log"):
        lines += ["<h2>Training</h2>", plot(curve, content["log"])]
    if content.get("traffic"):
        lines += ["<h2>What was learned from</h2>", counts_table(content["traffic"])]
    lines += ["<h2>Settings</h2>", f"<pre>{html.escape(json.dumps(content.get('settings'), indent=1))}</pre>"]
    return "\n".join(lines) + "\n"


def served_table(served: dict) -> str:
    def cell(one: dict) -> str:
        return f"<td>{one['value']:.3f} ({one['interval']['low']:.3f} to {one['interval']['high']:.3f})</td>"

    rows = [
        f"<tr><td>{html.escape(figure)}</td>{cell(served['active'][figure])}{cell(served['candidate'][figure])}</tr>"
        for figure in served["active"]
    ]
    return f"<table><tr><th>figure<th>active<th>candidate</tr>{''.join(rows)}</table>"


def verdict(content: dict) -> str:
    if not content["refusals"]:
        return "<p class='verdict accepted'>Accepted: nothing is worse than the tolerance allows.</p>"
    items = "".join(f"<li>{html.escape(reason)}</li>" for reason in content["refusals"])
    return f"<div class='verdict refused'>Refused:<ul>{items}</ul></div>"


def table(figures: dict, comparison: dict) -> str:
    rows = [f"<tr><th>{figures['rows']} rows<th>{comparison['active']} (active)<th>{comparison['candidate']}<th>gain"]
    for name, gain in figures["gain"].items():
        cells = [written(figures[bundle][name], "") for bundle in ("active", "candidate")] + [written(gain, "+")]
        rows.append(f"<tr><td>{TITLES[name]}<td>" + "<td>".join(cells))
    return "<table>" + "\n".join(rows) + "</table><p>In brackets 95 % intervals, whole batches or sessions redrawn.</p>"


def written(figure: dict, sign: str) -> str:
    low, high = figure["interval"]
    return f"{figure['value']:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def traffic_parts(figures: dict) -> list[str]:
    known = f"{figures['rows_with_tier']} of the requests have a tier that a person named"
    lines = [f"<p>{known}; of {figures['rows_judged']} (as many of equal weight) some level was judged.</p>"]
    if "baselines" in figures:
        rows = [f"<tr><td>{name}<td>{one['tier_accuracy']:.3f}" for name, one in figures["baselines"].items()]
        lines.append("<table><tr><th>baseline, same labels<th>tier accuracy" + "".join(rows) + "</table>")
    if "details" in figures:
        lines += [plot(confusions, figures["details"]), plot(reliability, figures["details"])]
    return lines


def counts_table(traffic: dict) -> str:
    known = traffic["provenance"]
    rows = {"days": f"{known['days'][0]} to {known['days'][-1]}", "texts by split": known["rows_by_split"]}
    rows |= {"kinds of evidence, texts": known["kinds"], "tiers": known["tiers"]}
    rows |= {"contradictions": known["contradictions"]} | traffic["counts"]
    written_rows = (f"<tr><td>{html.escape(str(k))}<td>{html.escape(plain(v))}" for k, v in rows.items())
    return "<table>" + "".join(written_rows) + "</table>"


def plain(value) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def plot(draw, data) -> str:
    """Returns an inline SVG; without matplotlib nothing, as the tables say the same."""
    try:
        import matplotlib
    except ImportError:
        return ""
    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False})
    figure = draw(pyplot, data)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    return stream.getvalue()[stream.getvalue().index("<svg") :]


def bars(pyplot, figures: dict):
    names = list(figures["gain"])
    figure, axes = pyplot.subplots(figsize=(8, 0.7 + 0.55 * len(names)))
    for offset, bundle in ((-0.2, "active"), (0.2, "candidate")):
        values = [figures[bundle][name]["value"] for name in names]
        ends = [figures[bundle][name]["interval"] for name in names]
        # A percentile interval need not hold the value itself.
        spread = [[max(0.0, v - low) for v, (low, _) in zip(values, ends, strict=True)],
                  [max(0.0, high - v) for v, (_, high) in zip(values, ends, strict=True)]]  # fmt: skip
        places = [place + offset for place in range(len(names))]
        axes.barh(places, values, 0.36, xerr=spread, color=COLOURS[bundle], label=bundle, ecolor="#444", capsize=2)
    axes.set_yticks(range(len(names)), [TITLES[name] for name in names])
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.legend(loc="lower right", frameon=False)
    return figure


def confusions(pyplot, details: dict):
    figure, both = pyplot.subplots(1, 2, figsize=(8, 3.4))
    for axes, (bundle, one) in zip(both, details.items(), strict=True):
        axes.imshow(one["confusion"], cmap="Blues")
        for row, counts in enumerate(one["confusion"]):
            dark = max(map(max, one["confusion"])) / 2
            for column, count in enumerate(counts):
                axes.text(column, row, count, ha="center", va="center", color="white" if count > dark else "black")
        axes.set_xticks(range(len(LEVELS)), LEVELS, rotation=30)
        axes.set_yticks(range(len(LEVELS)), LEVELS)
        axes.set(title=f"{bundle}: tier given, by right tier", xlabel="given", ylabel="right")
    figure.tight_layout()
    return figure


def reliability(pyplot, details: dict):
    figure, both = pyplot.subplots(1, 2, figsize=(8, 3.4), sharey=True)
    for axes, (bundle, one) in zip(both, details.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="#bbb", linewidth=1)
        for level, points in enumerate(one["reliability"]):
            label = f"{LEVELS[level]}, error {one['sufficiency_error'][level]:.3f}"
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
        axes.set(title=f"{bundle}: sufficiency", xlabel="said", ylabel="true", xlim=(0, 1), ylim=(0, 1))
        axes.legend(frameon=False, fontsize=7)
    figure.tight_layout()
    return figure


def curve(pyplot, log: list[dict]):
    figure, axes = pyplot.subplots(figsize=(8, 2.8))
    lines = {"tier": "tier, corpus dev", "intent": "intent, corpus dev", "traffic_levels": "levels, traffic dev"}
    for name, title in lines.items():
        points = [(entry["step"], entry[name]) for entry in log if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=title)
    axes.set(xlabel="step", ylabel="share right")
    axes.legend(frameon=False)
    return figure
