"""A retrained bundle takes over from the one that serves: every `$ pointsman` line that docs/live.md shows of its way,
as an operator types it, and some more, against a server that is asked all the time.

Exits when a request fails, when a decision was made by another bundle than the step allows, when a session changes
sides, when an answer mixes two states, or when docs/live.md shows a command that was not run.
"""

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from serving import environment, get, post, server

# The share of docs/live.md first, and then a larger one, which keeps the sessions of the smaller.
FIRST_SHARE, CANARY_SHARE = 0.05, 0.2
# Of so many sessions a fifth is 30 give or take 5.
SESSIONS = 150
SHARE_MIN, SHARE_MAX = 0.08, 0.35
# A step without sessions: requests that are asked, and scores of the shadow that are waited for. A shadow takes at most
# a tenth of a core.
REQUESTS, SHADOW_SCORES = 30, 10
SHADOW_S = 120
# What the events say at the end, the latest first. The canary that an operator activates was promoted.
KINDS = ["activated", "rolled_back", "promoted", "canary_moved", "canary_started", "shadow_started", "staged"]
# Where the commands are shown, under this heading, and the version that they show.
PAGE = Path(__file__).parents[2] / "docs" / "live.md"
HEADING, SHOWN_VERSION = "## From a new bundle to the active one", "9.9.9"
# Until what was asked for stands in the log.
LOGGED_S = 60

CONFIG = """
rules = []

[bundles]
store = "bundles"

[rollout]
shadow_sample = 1.0

[classifier]
bundle = {bundle}
# A machine that is busy with other tests is no reason to decide without the classifier.
wait_ms_max = 30_000
"""


def take_over(binary: Path, active: Path, candidate: Path, texts: list[str], folder: Path) -> dict:
    """Returns what was seen of each step. The bundle's folder is named by its version."""
    folder.mkdir(parents=True)
    config = (folder / "pointsman.toml").resolve()
    config.write_text(CONFIG.format(bundle=json.dumps(str(active.resolve()))))
    old, new = (json.loads((bundle / "manifest.json").read_text())["version"] for bundle in (active, candidate))
    with server(binary, config, folder) as addresses:
        operator = Operator(binary, config, addresses["admin"], folder)
        asked = Asked(addresses["http"], texts)
        with Crowd(asked) as crowd:
            seen = steps(operator, asked, candidate, old, new)
            crowd.check()
        events = json.loads(operator("bundle", "events", "--json"))["events"]
        operator("bundle", "events")
    unrun = shown(PAGE.read_text()) - operator.run_as_shown(candidate, new)
    expect(not unrun, f"{PAGE.name} shows what was not run: {sorted(unrun)}")
    kinds = [event["kind"] for event in events]
    expect(kinds == KINDS, f"events say {kinds}, not {KINDS}")
    expect({event["who"] for event in events} == {"local"}, "events name somebody else than the operator")
    return seen | {"beside": crowd.count, "generations": len(crowd.states)}


def shown(page: str) -> set[str]:
    """Returns the commands that the page's section shows, as they are typed."""
    section = page.split(f"\n{HEADING}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\$ pointsman (.+)$", section, re.MULTILINE))


def steps(operator, asked, candidate: Path, old: str, new: str) -> dict:
    operator("bundle", "verify", str(candidate.resolve()), asks=False)
    operator("bundle", "stage", str(candidate.resolve()))
    listed = json.loads(operator("bundle", "list", "--json"))["bundles"]
    expect((new, "staged") in {(one["version"], one["state"]) for one in listed}, f"{new} is not staged: {listed}")
    operator("bundle", "list")
    operator("bundle", "verify", new)
    asked.by(old)
    operator.until_logged("bundle", "diff", "default", new, "--since", "7d")

    operator("bundle", "shadow", new)
    asked.by(old)
    agreement = asked.until_shadowed()
    operator.until_logged("bundle", "diff", "--shadow", new)

    operator("bundle", "canary", new, f"{FIRST_SHARE:.0%}")
    few = asked.sides(old, new)
    operator("fleet")
    operator("bundle", "canary", new, f"{CANARY_SHARE:.0%}")
    sides = [asked.sides(old, new) for _ in range(2)]
    expect(sides[0] == sides[1], "a session changed sides while the canary stayed the same")
    kept = all(later for first, later in zip(few, sides[0], strict=True) if first)
    expect(kept, "a larger share took a session from the canary")
    share = sum(sides[0]) / len(sides[0])
    expect(SHARE_MIN < share < SHARE_MAX, f"the canary decided for {share:.0%} of sessions")

    operator("bundle", "activate", new)
    asked.by(new)
    operator("bundle", "rollback")
    asked.by(old)
    operator("bundle", "activate", new)
    asked.by(new)
    return {"shadow": agreement, "canary_share": share}


class Operator:
    """Runs `pointsman` against the server."""

    def __init__(self, binary: Path, config: Path, admin: str, folder: Path):
        self.binary, self.config, self.admin, self.folder = binary.resolve(), config, admin, folder
        self.typed = set()

    def __call__(self, *words: str, asks: bool = True) -> str:
        """Returns what it prints. `asks`: it asks the server, and does not look by itself."""
        ended = self.run(*words, asks=asks)
        expect(ended.returncode == 0, f"{' '.join(words)}: {ended.stdout}{ended.stderr}")
        if "--json" not in words:
            print(f"{' '.join(words)}: {ended.stdout.strip().splitlines()[-1]}", flush=True)
        return ended.stdout

    def until_logged(self, *words: str) -> str:
        """Runs what reads the log, again while that holds nothing yet: it is written behind the answers."""
        until = time.time() + LOGGED_S
        while self.run(*words, asks=False).returncode != 0 and time.time() < until:
            time.sleep(0.5)
        return self(*words, asks=False)

    def run(self, *words: str, asks: bool) -> subprocess.CompletedProcess:
        self.typed.add(words)
        command = [self.binary, "--config", self.config, *words, *(["--admin", self.admin] if asks else [])]
        return subprocess.run(command, capture_output=True, text=True, env=environment(self.folder))

    def run_as_shown(self, candidate: Path, new: str) -> set[str]:
        """Returns what was typed, with the names that docs/live.md has for this bundle."""
        names = {str(candidate.resolve()): f"runs/bundles/{SHOWN_VERSION}", new: SHOWN_VERSION}
        return {" ".join(names.get(word, word) for word in words) for words in self.typed}


class Asked:
    """Asks for decisions. No text is asked twice, so that every one is scored."""

    def __init__(self, address: str, texts: list[str]):
        self.address, self.texts, self.count, self.lock = address, texts, 0, threading.Lock()

    def decision(self, session: str | None = None) -> dict:
        with self.lock:
            self.count += 1
            text = f"{self.texts[self.count % len(self.texts)]} (case {self.count})"
        body = {"prompt": text} | ({"context": {"session_id": session}} if session else {})
        with post(self.address, "/v1/route", body) as reply:
            return json.load(reply)["decision"]

    def by(self, version: str) -> None:
        """Expects that this bundle decides everything."""
        for _ in range(REQUESTS):
            found = state(self.decision())
            expect(found == (version, False), f"{found} decided, not {version}")

    def sides(self, old: str, new: str) -> list[bool]:
        """Returns of each session whether the canary decided."""
        decided = [state(self.decision(f"session {place}")) for place in range(SESSIONS)]
        others = set(decided) - {(old, False), (new, True)}
        expect(not others, f"{others} decided beside {old} and its canary {new}")
        return [canary for _, canary in decided]

    def until_shadowed(self) -> dict:
        """Waits for scores of the shadow and returns how many there are, by what came of them."""
        until = time.time() + SHADOW_S
        while True:
            with get(self.address, "/metrics") as reply:
                lines = re.findall(r'pointsman_shadow_scored_total\{outcome="(\w+)"} (\d+)', reply.read().decode())
            scored = {outcome: int(count) for outcome, count in lines if outcome != "unscored"}
            if sum(scored.values()) >= SHADOW_SCORES:
                return scored
            expect(time.time() < until, f"after {SHADOW_S} s the shadow has scored {lines}")
            time.sleep(0.2)


class Crowd:
    """Asks all the time, beside the steps; a context manager that ends with them."""

    def __init__(self, asked: Asked):
        self.asked, self.count, self.failed, self.states = asked, 0, None, {}
        self.ends, self.thread = threading.Event(), threading.Thread(target=self.ask, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join()

    def ask(self) -> None:
        while not self.ends.is_set():
            try:
                decision = self.asked.decision(f"crowd {self.count % 50}")
                self.states.setdefault(decision["config_generation"], set()).add(state(decision))
                self.count += 1
            except Exception as error:
                self.failed = error
                return

    def check(self) -> None:
        expect(self.failed is None, f"a request failed beside the steps: {self.failed}")
        expect(self.count > 0, "nothing was asked beside the steps")
        for generation, states in self.states.items():
            # One bundle decides, and one may be its canary.
            sides = [canary for _, canary in states]
            expect(len(sides) == len(set(sides)), f"generation {generation} is a mix: {sorted(states)}")


def state(decision: dict) -> tuple[str, bool]:
    return decision["bundle_version"], decision["canary"]


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        sys.exit(otherwise)
