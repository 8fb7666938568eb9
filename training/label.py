"""A page on this machine on which a person labels a queue: tier and intent by the rubric of LABELING.md.

    python label.py runs/queue/queue.jsonl --out labels.jsonl       open the address that it prints

Keys choose, Enter saves, s skips, u goes back, p shows what the bundle said (hidden at first, so that it persuades
nobody). Every label is on the disk before the page goes on; start it again to continue. It listens on 127.0.0.1 alone,
answers only to that name, and takes labels only from its own page. `traffic.py --labels` reads the file.
"""

import argparse
import datetime
import html
import json
import os
import re
import secrets
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import json_lines
from labels import INTENT_INDEX, INTENTS, LEVEL_INDEX, LEVELS

RUBRIC = Path(__file__).parent / "LABELING.md"
# One key for each intent, in their order; tiers have 1 to 4. None of s, u, p.
INTENT_KEYS = "qwertyiofghjklz"
# A label is some hundred bytes; a note may be longer.
BODY_BYTES_MAX = 16 << 10
NOTE_MAX = 2000
READ_SECONDS = 10


class Desk:
    """A queue and the labels given so far; every change is appended to the file at once."""

    def __init__(self, queue: Path, out: Path, person: str):
        self.entries = read_queue(queue)
        self.out, self.person = out, person
        self.lock = threading.Lock()
        self.done: dict[str, dict] = {}
        for row in read_lines(out) if out.exists() else []:
            self.remember(row)

    def remember(self, row: dict) -> None:
        if row.get("undone"):
            self.done.pop(row["text_hash"], None)
        else:
            self.done[row["text_hash"]] = row

    def next(self) -> dict:
        """Returns what the page shows: the first entry without a label, and how far one is."""
        with self.lock:
            waiting = [entry for entry in self.entries if entry["text_hash"] not in self.done]
            progress = {"done": len(self.entries) - len(waiting), "all": len(self.entries)}
            return progress | {"entry": waiting[0] if waiting else None}

    def label(self, given: dict) -> None:
        """Appends a label; raises ValueError with what is wrong about it."""
        asked = {entry["text_hash"]: entry for entry in self.entries}
        row = checked(given, asked.keys())
        # Why the request was chosen decides whether the label may measure, or only teach.
        row["reasons"] = asked[row["text_hash"]].get("reasons") or []
        row["by"] = self.person
        with self.lock:
            self.append(row)

    def undo(self) -> None:
        """Takes back the last label of this queue, if there is one."""
        with self.lock:
            mine = {entry["text_hash"] for entry in self.entries}
            last = next((key for key in reversed(self.done) if key in mine), None)
            if last is not None:
                self.append({"text_hash": last, "undone": True})

    def append(self, row: dict) -> None:
        row["at"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with self.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.done.pop(row["text_hash"], None)
        self.remember(row)


def checked(given, known: set[str]) -> dict:
    if not isinstance(given, dict) or given.get("text_hash") not in known:
        raise ValueError("text_hash: not in this queue")
    tier, intent, note = given.get("right_tier") or "", given.get("right_intent") or "", given.get("note") or ""
    if tier and tier not in LEVEL_INDEX:
        raise ValueError(f"right_tier: not one of {', '.join(LEVELS)}")
    if intent and intent not in INTENT_INDEX:
        raise ValueError(f"right_intent: not one of {', '.join(INTENTS)}")
    if not isinstance(note, str) or len(note) > NOTE_MAX:
        raise ValueError(f"note: a text of at most {NOTE_MAX} characters")
    if given.get("skipped"):
        return {"text_hash": given["text_hash"], "skipped": True, "note": note}
    if not tier and not intent:
        raise ValueError("right_tier: choose a tier or an intent, or skip")
    return {"text_hash": given["text_hash"], "right_tier": tier, "right_intent": intent, "note": note}


def read_queue(path: Path) -> list[dict]:
    entries = read_lines(path)
    for number, entry in enumerate(entries, 1):
        if not entry.get("text_hash") or not entry.get("messages"):
            sys.exit(f"{path}:{number}: lacks text_hash or messages: no queue.jsonl of choose.py")
    if not entries:
        sys.exit(f"{path}: the queue is empty")
    return entries


def read_lines(path: Path) -> list[dict]:
    if not path.exists():
        sys.exit(f"{path}: no such file; choose.py writes queue.jsonl")
    rows = []
    for place, row in json_lines.read(path, "mend or remove this line"):
        if not isinstance(row, dict) or not row.get("text_hash"):
            sys.exit(f"{place}: lacks text_hash: no line of a queue or of its labels")
        rows.append(row)
    return rows


def make_server(desk: Desk, port: int) -> ThreadingHTTPServer:
    """Returns a server on 127.0.0.1 that has not begun to serve."""
    token = secrets.token_urlsafe(24)

    class Handler(BaseHTTPRequestHandler):
        timeout = READ_SECONDS

        def do_GET(self):
            if not self.is_local():
                return self.answer(403, {"error": "this page answers to 127.0.0.1 alone"})
            if self.path == "/":
                return self.send(200, "text/html; charset=utf-8", page(token).encode())
            if self.path == "/next":
                return self.answer(200, desk.next())
            return self.answer(404, {"error": "no such page"})

        def do_POST(self):
            # A page of another site can neither read the token nor set this header.
            if not self.is_local() or self.headers.get("x-token") != token:
                return self.answer(403, {"error": "labels are taken from this machine's own page alone"})
            length = self.headers.get("content-length") or ""
            if not length.isdigit() or int(length) > BODY_BYTES_MAX:
                return self.answer(413, {"error": f"at most {BODY_BYTES_MAX} bytes, with content-length"})
            try:
                if self.path == "/label":
                    desk.label(json.loads(self.rfile.read(int(length))))
                elif self.path == "/undo":
                    desk.undo()
                else:
                    return self.answer(404, {"error": "no such page"})
            except ValueError as error:
                return self.answer(400, {"error": str(error)})
            except OSError as error:
                return self.answer(500, {"error": f"{desk.out}: {error.strerror}: the label was not kept"})
            return self.answer(200, desk.next())

        def is_local(self) -> bool:
            port_here = self.server.server_address[1]
            return self.headers.get("host") in (f"127.0.0.1:{port_here}", f"localhost:{port_here}")

        def answer(self, code: int, value: dict) -> None:
            self.send(code, "application/json", json.dumps(value, ensure_ascii=False).encode())

        def send(self, code: int, kind: str, content: bytes) -> None:
            self.send_response(code)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.send_header("cache-control", "no-store")
            self.send_header("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; "
                             "script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'")  # fmt: skip
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            """Says nothing: the page shows what happens."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def page(token: str) -> str:
    keys = {"tiers": dict(zip("1234", LEVELS, strict=True)), "intents": dict(zip(INTENT_KEYS, INTENTS, strict=True))}
    known = json.dumps({"token": token} | keys)
    return PAGE.replace("RUBRIC", rubric(RUBRIC.read_text(encoding="utf-8"))).replace("KNOWN", known)


def rubric(text: str) -> str:
    """Returns the rubric as HTML: headings, tables and paragraphs, all that it has of Markdown."""
    lines, table = [], False
    for line in text.splitlines():
        row = line.startswith("|")
        lines += ["<table>"] if row and not table else ["</table>"] if table and not row else []
        table = row
        inline = re.sub(r"`([^`]+)`", r"<code>\1</code>", re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", html.escape(line)))
        if row and not set(line) <= set("|-: "):
            lines.append("<tr><td>" + "<td>".join(cell.strip() for cell in inline.strip("|").split("|")))
        elif line.startswith("#"):
            lines.append(f"<h3>{inline.lstrip('# ')}</h3>")
        elif not row:
            lines.append(inline or "<p>")
    return "\n".join([*lines, *(["</table>"] if table else [])])


PAGE = """<!doctype html><meta charset=utf-8><title>Label</title><style>
body{font:16px/1.45 system-ui,sans-serif;margin:0;display:grid;grid-template-columns:minmax(0,3fr) minmax(0,2fr);
height:100vh}main,aside{padding:1em 1.5em;overflow:auto}aside{background:#f6f7f8;font-size:13px}
table{border-collapse:collapse}td{border:1px solid #ddd;padding:.2em .5em;vertical-align:top}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font:inherit;background:#f6f7f8;padding:.7em 1em;margin:.3em 0}
pre.last{background:#eaf2ff;border-left:4px solid #1f6feb}button{font:inherit;margin:.15em;padding:.2em .7em}
button.on{background:#1f6feb;color:#fff}progress{width:100%}small{color:#666}#error{color:#c0392b}
#note{width:100%;box-sizing:border-box;font:inherit}</style>
<main><progress id=bar></progress><small id=progress></small><div id=messages></div>
<p id=tiers></p><p id=intents></p><input id=note maxlength=2000 placeholder="note (Tab)">
<p><button id=save>save (Enter)</button><button id=skip>skip (s)</button><button id=undo>back (u)</button>
<button id=peek>what the bundle said (p)</button> <small id=said></small></p><p id=error role=alert></p></main>
<aside>RUBRIC</aside><script>
const known = KNOWN, at = id => document.getElementById(id)
let entry = null, chosen = {}, busy = false
for (const kind of ["tiers", "intents"]) for (const [key, name] of Object.entries(known[kind])) {
  const button = document.createElement("button")
  button.textContent = `${name} (${key})`; button.dataset.kind = kind; button.dataset.name = name
  button.onclick = () => pick(kind, name); at(kind).append(button)
}
function pick(kind, name) {
  chosen[kind] = chosen[kind] === name ? "" : name
  for (const one of document.querySelectorAll("[data-kind]"))
    one.classList.toggle("on", chosen[one.dataset.kind] === one.dataset.name)
}
function show(state) {
  entry = state.entry; chosen = {}; pick("tiers", ""); at("note").value = ""; at("said").textContent = ""
  at("bar").max = state.all; at("bar").value = state.done
  at("progress").textContent = `${state.done} of ${state.all}` + (entry ? "" : ": all done, thank you")
  at("messages").replaceChildren(...(entry ? entry.messages : []).flatMap((message, place) => {
    const role = document.createElement("small"), text = document.createElement("pre")
    role.textContent = message.role; text.textContent = message.content
    const users = entry.messages.map(m => m.role).lastIndexOf("user")
    if (place === users) text.className = "last"
    return [role, text]
  }))
}
async function send(path, body) {
  if (busy) return
  busy = true; at("error").textContent = ""
  try {
    const options = body && {method: "POST", headers: {"x-token": known.token}, body: JSON.stringify(body)}
    const reply = await fetch(path, options), state = await reply.json()
    if (reply.ok) show(state); else at("error").textContent = state.error
  } catch (error) { at("error").textContent = "label.py does not answer: is it still running?" }
  busy = false
}
const save = () => entry && send("/label", {text_hash: entry.text_hash, right_tier: chosen.tiers || "",
  right_intent: chosen.intents || "", note: at("note").value})
const skip = () => entry && send("/label", {text_hash: entry.text_hash, skipped: true, note: at("note").value})
const undo = () => send("/undo", {})
const peek = () => { if (entry) at("said").textContent =
  `${entry.predicted_tier}, ${entry.predicted_intent}; ${(entry.reasons || []).join(", ")}` }
for (const [id, act] of Object.entries({save, skip, undo, peek})) at(id).onclick = act
document.onkeydown = event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return
  if (event.key === "Enter") { event.preventDefault(); return save() }
  if (document.activeElement === at("note")) return
  const act = {s: skip, u: undo, p: peek}[event.key]
  if (act) act()
  else if (known.tiers[event.key]) pick("tiers", known.tiers[event.key])
  else if (known.intents[event.key]) pick("intents", known.intents[event.key])
}
send("/next")
</script>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("queue", type=Path, help="queue.jsonl of choose.py")
    parser.add_argument("--out", type=Path, required=True, help="labels, one JSON object a line; continued if there")
    parser.add_argument("--by", default="", help="who labels, as it shall stand in the file")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    arguments = parser.parse_args()
    with make_server(Desk(arguments.queue, arguments.out, arguments.by), arguments.port) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/   (Ctrl-C ends it)", flush=True)
        with_interrupt(server)


def with_interrupt(server) -> None:
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
