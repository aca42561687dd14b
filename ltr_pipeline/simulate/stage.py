"""Where the demonstration happens: the real service with simulated users, and a calendar that turns faster than time.

What the users do is sent to the service, and what the service logs is what the nightly run reads, but for one thing:
events carry the time at which they were logged, and weeks of them are logged within seconds. So between the service's
log and the run's, `Stage.turn` moves each to its day of the simulated calendar. Nothing else of them is changed.
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.errors import LtrError
from ltr_pipeline.local.ports import free_port
from ltr_pipeline.local.programs import Program, stop
from ltr_pipeline.settings import Settings, load_settings, variable
from ltr_pipeline.simulate.draw import Answers, Visits, answers, visits
from ltr_pipeline.simulate.world import ACTIONS, FEATURES, GROUPS, World

__all__ = ["Stage", "settings_at"]

PATIENCE_SECONDS: Final = 60.0
DAY_SECONDS: Final = 86_400


class Stage:
    """A project of its own in a folder, its service, and the world that visits it.

    Parameters
    ----------
    folder
        Made if missing.
    first
        First simulated day.

    Attributes
    ----------
    settings
        Of the project's nightly runs.
    environment
        The same, for a process.
    counts
        Messages of the service that were moved to their day, by kind.
    """

    def __init__(self, folder: Path, world: World, first: dt.date) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.world = world
        self.day = first
        self.counts = {"impressions": 0, "feedback": 0}
        self._served, self._log = folder / "served.jsonl", folder / "audit.log"
        self._offset = 0
        self._sent = 0
        self._times: dict[str, float] = {}
        self._waiting: list[tuple[float, bytes]] = []
        places = {
            "LTR_EVENTS_PATH": str(self._log),
            "LTR_DATA_URI": str(folder / "data"),
            "LTR_REGISTRY_URI": str(folder / "registry"),
        }
        self._port = free_port()
        self.environment = _plain_environment() | places
        self.settings = settings_at(places)
        self._service = Program("The service", "service", (sys.executable, "-m", "ltr_pipeline.serving"), folder)

    def __enter__(self) -> Self:
        own = {
            "LTR_EVENTS_PATH": str(self._served),
            "LTR_SPOOL": str(self.folder / "spool"),
            "LTR_SERVE_PORT": str(self._port),
            "WEIGHTS_POLL_SECONDS": "0.2",
        }
        self._service.start(self.environment | own, self.folder)
        self.await_version("legacy")
        self._http = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        stop([self._service])

    def await_version(self, version: str) -> None:
        """Return when the service ranks with `version`, by itself; LtrError when it does not."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                health = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
                health.request("GET", "/ltr/health")
                if json.loads(health.getresponse().read())["version"] == version:
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.05)
        raise LtrError(f"the service does not rank with {version}; its log: {self._service.log}")

    def pass_days(self, days: int, visits_a_day: int) -> None:
        """Let clients visit the service, day by day; they answer what it shows them."""
        for _ in range(days):
            rng = self.world.rng(1000, self.day.toordinal())
            seen = visits(self.world, visits_a_day, rng, day=self.day)
            times = np.sort(rng.random(visits_a_day)) * DAY_SECONDS + _midnight(self.day)
            position, names = self._shown(seen, times)
            self._answer(seen, answers(self.world, seen, position, rng), times, names)
            self.day += dt.timedelta(days=1)

    def panel(self, seen: Visits) -> NDArray[np.int32]:
        """Ask the service for the positions of the rows of `seen`, as a test, so that nothing is trained by it."""
        return self._shown(seen, None)[0]

    def turn(self) -> None:
        """Move what the service has logged to its day, and hand over to the nightly run what has happened by now."""
        for line in self._logged():
            message = msgspec.json.decode(line)
            context = message["context"]
            shown = message["message"] == "match_recommendation"
            happened = self._times.pop(context["event_id"], None)
            if happened is None:  # the panel's: now, by the calendar
                happened = float(_midnight(self.day)) - 1
            self.counts["impressions" if shown else "feedback"] += 1
            message["timestamp"] = dt.datetime.fromtimestamp(happened, dt.UTC).isoformat(timespec="milliseconds")
            self._waiting.append((happened, msgspec.json.encode(message) + b"\n"))
        self._waiting.sort(key=lambda event: event[0])
        now = _midnight(self.day)
        with self._log.open("ab") as log:
            log.writelines(line for happened, line in self._waiting if happened < now)
        self._waiting = [event for event in self._waiting if event[0] >= now]

    def _shown(self, seen: Visits, times: NDArray[np.float64] | None) -> tuple[NDArray[np.int32], list[str]]:
        """Ask for every list: position of each row, int32 (n,), and the request's id for each list."""
        self._http.close()  # the service may have closed it while nobody asked; it opens again by itself
        position, names, begin = np.zeros(len(seen.item), np.int32), [], 0
        for ranking, size in enumerate(seen.group.tolist()):
            rows = range(begin, begin + size)
            answer = self._post("/ltr/rank", self._request(seen, ranking, rows, test=times is None))
            places = {item["item_id"]: item["rank"] for item in answer["items"]}
            position[begin : begin + size] = [places[f"l-{seen.item[row]}"] for row in rows]
            names.append(answer["request_id"])
            if times is not None:
                self._times[answer["request_id"]] = times[ranking]
            begin += size
        self._sent += len(names)
        return position, names

    def _request(self, seen: Visits, ranking: int, rows: range, *, test: bool) -> dict[str, Any]:
        candidates = [
            {
                "item_id": f"l-{seen.item[row]}",
                "features": {
                    name: None if np.isnan(value) else round(float(value), 3)
                    for name, value in zip(FEATURES, seen.features[row], strict=True)
                },
                "group": None if seen.protected_group[row] < 0 else GROUPS[seen.protected_group[row]],
            }
            for row in rows
        ]
        case = f"case-{self.day:%Y%m%d}-{seen.case[ranking]}"
        return {"query_id": case, "user_id": f"u-{seen.user[ranking]}", "candidates": candidates, "test": test}

    def _answer(self, seen: Visits, done: Answers, times: NDArray[np.float64], names: list[str]) -> None:
        """Send what the clients did, list by list."""
        ranking = np.repeat(np.arange(len(seen.group)), seen.group)
        steps = ((done.answer, done.answer_hours), (done.outcome, done.outcome_hours))
        events: list[dict[str, Any]] = []
        for number, (action, hours) in enumerate(steps):
            for row in np.flatnonzero(action >= 0).tolist():
                name = names[ranking[row]]
                event_id = f"{name[:32]}-{seen.item[row]}-{number}"
                self._times[event_id] = times[ranking[row]] + 3600.0 * float(hours[row])
                about = {"request_id": name, "item_id": f"l-{seen.item[row]}", "action": ACTIONS[action[row]]}
                events.append(about | {"event_id": event_id})
        events.sort(key=lambda event: self._times[event["event_id"]])
        for start in range(0, len(events), 50):
            self._post("/ltr/feedback", {"events": events[start : start + 50]})
        self._sent += len(events)

    def _post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
        self._http.request("POST", path, msgspec.json.encode(body), {"Content-Type": "application/json"})
        answer = self._http.getresponse()
        data = answer.read()
        if answer.status not in (200, 202):
            raise LtrError(f"the service answered {answer.status} to {path}: {data[:500].decode()}")
        return msgspec.json.decode(data)

    def _logged(self) -> Iterator[bytes]:
        """Return the lines that the service has written since the last time: all that it was sent."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        lines: list[bytes] = []
        while len(lines) < self._sent:
            if time.monotonic() > deadline:
                raise LtrError(f"the service logged {len(lines)} of {self._sent} events in {self._served}")
            time.sleep(0.1)
            with self._served.open("rb") as served:
                served.seek(self._offset)
                lines = served.read().splitlines()
        self._offset, self._sent = self._served.stat().st_size, 0
        yield from lines


def _midnight(day: dt.date) -> int:
    return int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp())


def _plain_environment() -> dict[str, str]:
    """Return the environment of this process without anything that would lead to another project."""
    foreign = {variable(field) for field in Settings.model_fields.values()}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in foreign and not name.startswith(("LTR_", "AIRFLOW_VAR_LTR_", "AIRFLOW_CONN_LTR_"))
    }


def settings_at(places: dict[str, str]) -> Settings:
    """Return default settings with these variables, whatever the environment or .env says."""
    names = {variable(field): name for name, field in Settings.model_fields.items()}
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    chosen = defaults | {names[name]: value for name, value in places.items()}
    del chosen["s3_bucket"]
    return load_settings(**chosen, s3_bucket=None)
