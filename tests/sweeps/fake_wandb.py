"""A stand-in of the wandb server on 127.0.0.1, for wandb's own command line tools.

It answers what `wandb sweep`, `wandb agent` and an online run ask (wandb 0.31): points
are handed out in grid order, each once, and what runs send is kept.
"""

import http.server
import itertools
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import yaml


class FakeWandb:
    """Serves while it is entered.

    Attributes:
      url: to give as WANDB_BASE_URL.
      sweeps: {id: {"config": YAML text, "waiting": points to hand out}}.
      handed: (agent, run, settings) in the order in which points were handed out.
      configs: {run: config as wandb keeps it}.
      history: {run: rows logged}.
      summaries: {run: last summary sent}.
      unknown: operations that nothing here answers.
    """

    def __init__(self):
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.handed: list[tuple[str, str, dict[str, Any]]] = []
        self.configs: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.summaries: dict[str, dict[str, Any]] = {}
        self.unknown: set[str] = set()
        self._agents: dict[str, str] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "FakeWandb":
        fake = self

        class Handler(_Handler):
            wandb = fake

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL operation."""
        known = getattr(self, f"_{operation}", None)
        if known is None:
            self.unknown.add(operation)
            return {}
        with self._lock:
            return known(variables)

    def stream(self, run: str, files: dict[str, Any]) -> None:
        """Keeps what a run streams: history row by row, the summary as a whole."""
        lines = files.get("wandb-history.jsonl", {}).get("content", [])
        with self._lock:
            self.history.setdefault(run, []).extend(map(json.loads, lines))
            for line in files.get("wandb-summary.json", {}).get("content", []):
                self.summaries[run] = json.loads(line)

    # What is asked, by operation

    def _Viewer(self, given):
        return {
            "viewer": {
                "id": "1",
                "entity": "me",
                "username": "me",
                "email": "me@example.org",
                "flags": "{}",
                "teams": {"edges": []},
            }
        }

    def _UpsertSweep(self, given):
        name = f"sweep{len(self.sweeps)}"
        parameters = yaml.safe_load(given["config"])["parameters"]
        waiting = list(_grid(parameters))
        self.sweeps[name] = {"config": given["config"], "waiting": waiting}
        sweep = {"name": name, "project": _project(given["projectName"])}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def _SweepWithRuns(self, given):
        config = self.sweeps[given["sweep"]]["config"]
        sweep = {"id": given["sweep"], "name": given["sweep"], "config": config}
        return {"project": {"sweep": sweep | {"runs": {"edges": []}}}}

    def _CreateAgent(self, given):
        agent = f"agent{len(self._agents)}"
        self._agents[agent] = given["sweep"]
        return {"createAgent": {"agent": {"id": agent}}}

    def _Heartbeat(self, given):
        agent, commands = given["id"], []
        sweep = self.sweeps[self._agents[agent]]
        if not any(json.loads(given.get("runState") or "{}").values()):
            commands = [self._next(agent, sweep)]
        heartbeat = {"agent": {"id": agent}, "commands": json.dumps(commands)}
        return {"agentHeartbeat": heartbeat}

    def _next(self, agent: str, sweep: dict[str, Any]) -> dict[str, Any]:
        if not sweep["waiting"]:
            return {"type": "exit"}
        settings, run = sweep["waiting"].pop(0), f"run{len(self.handed)}"
        self.handed.append((agent, run, settings))
        args = {name: {"value": value} for name, value in settings.items()}
        program = yaml.safe_load(sweep["config"])["program"]
        return {"type": "run", "run_id": run, "program": program, "args": args}

    def _UpsertBucket(self, given):
        run = given["name"]
        if given.get("config"):
            self.configs[run] = {
                key: entry["value"]
                for key, entry in json.loads(given["config"]).items()
                if key != "_wandb"
            }
        bucket = {
            "id": run,
            "name": run,
            "displayName": run,
            "config": "{}",
            "historyLineCount": 0,
            "project": _project(given.get("project")),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _RunResumeStatus(self, given):
        run = given["name"]
        rows = self.history.get(run)
        if not rows:
            return {"model": None}
        bucket = {
            "id": run,
            "name": run,
            "displayName": run,
            "historyLineCount": len(rows),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(rows[-1])]),
            "eventsTail": "[]",
            "summaryMetrics": json.dumps(self.summaries.get(run, {})),
            "config": "{}",
            "tags": [],
            "wandbConfig": '{"t": 1}',
        }
        return {"model": _project(given.get("project")) | {"bucket": bucket}}

    def _ServerInfo(self, given):
        return {"serverInfo": {"cliVersionInfo": {}, "features": []}}

    def _ServerFeaturesQuery(self, given):
        return {"serverInfo": {"features": []}}

    def _OrganizationCoreWeaveOrganizationID(self, given):
        return {"entity": {"organization": None}}

    def _CreateRunFiles(self, given):
        run = given["run"]
        files = [
            {"name": name, "uploadUrl": f"{self.url}/upload/{run}/{name}"}
            for name in given["files"]
        ]
        made = {"runID": run, "uploadHeaders": [], "files": files}
        return {"createRunFiles": made}


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Says nothing: processes that end hang up as they like."""


class _Handler(http.server.BaseHTTPRequestHandler):
    wandb: FakeWandb
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self._body()
        if self.path == "/graphql":
            asked = json.loads(body)
            found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            operation = found[1] if found else asked["query"]
            variables = asked.get("variables") or {}
            return self._send({"data": self.wandb.answer(operation, variables)})
        if self.path.endswith("/file_stream"):
            files = json.loads(body).get("files") or {}
            self.wandb.stream(self.path.split("/")[-2], files)
        self._send({})

    def do_GET(self):
        self._body()
        self._send({})

    do_PUT = do_GET

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, value: dict[str, Any]) -> None:
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format, *args):
        """Says nothing."""


def _project(name: str | None) -> dict[str, Any]:
    project = name or "uncategorized"
    return {"id": "1", "name": project, "entity": {"id": "1", "name": "me"}}


def _grid(parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All points; a nested block stays a dictionary, as with the real server."""
    columns = []
    for spec in parameters.values():
        if "parameters" in spec:
            columns.append(list(_grid(spec["parameters"])))
        else:
            columns.append(spec.get("values") or [spec["value"]])
    for row in itertools.product(*columns):
        yield dict(zip(parameters, row, strict=True))
