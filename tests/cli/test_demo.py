"""The demonstration of the loop, in small: the real service, two nights, a rollback."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support.commands import ltr


def test_the_loop_is_shown_and_measured(tmp_path: Path) -> None:
    done = ltr("demo", "--seeds", "2", "--visits", "25", "--panel", "100", "--dags", "0", "--folder", str(tmp_path))
    assert (done.code, done.err) == (0, "")
    for step in ("legacy weights", "first model", "second model", "after rollback"):
        assert re.search(rf"^{step} +[01]\.\d{{4}} +0\.\d{{4}}$", done.out, re.MULTILINE)
    assert re.search(r"^first model - legacy weights +(?:[+−]0\.\d{4}|0\.0000) \(", done.out, re.MULTILINE)
    for seed in (0, 1):
        said = rf"^seed {seed}, step 6 of 8: the second night, \d+\.\d s, [\d,]+ rows$"
        assert re.search(said, done.out, re.MULTILINE)
    for way in ("true", "coins"):
        gain = r"[+−]?0\.\d{3}"
        assert re.search(rf"^{way} +{gain}, {gain} +[+−]?0\.\d{{4}} \(", done.out, re.MULTILINE)
    assert "shadow" in done.out  # the panel's lists landed, and were left out
    assert "Traceback" not in (tmp_path / "seed-0" / "service.log").read_text()
    messages = [json.loads(line) for line in (tmp_path / "seed-0" / "audit.log").read_bytes().splitlines()]
    times = [message["timestamp"] for message in messages]
    assert times == sorted(times)
    for seed in ("seed-0", "seed-1"):
        registry = Registry(LocalStorage(tmp_path / seed / "registry" / "ltr"))
        versions = sorted(listed.version for listed in registry.versions())
        assert not versions or registry.promoted() == versions[0]
