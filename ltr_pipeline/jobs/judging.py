"""From evidence to a verdict, and the document that may be published: of a night, and of an hourly refresh."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
import structlog

from ltr_pipeline.dataset.load import IDS, Dataset, PartName, load_part
from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.gate.decision import decide
from ltr_pipeline.gate.document import frozen, weights_document
from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.ranker.train import Trained
from ltr_pipeline.report.artefacts import DATASET, DECISION, INPUTS, MODEL, TABLES, TRAINED, WEIGHTS
from ltr_pipeline.runs.run import Json, Run

__all__ = ["decided", "model_text", "part"]

log = structlog.get_logger(__name__)


def decided(
    run: Run,
    found: Evidence,
    policy: Policy,
    *,
    test: Dataset | None = None,
    fresh: DatasetManifest | None = None,
) -> Json:
    """Judge the evidence, freeze the document that may be published, and return the reference to the decision.

    The document of an earlier attempt stays when it is the same result judged the same way, so that a retried publish
    publishes the same bytes.

    Parameters
    ----------
    test
        The test rankings, which the document's golden requests are taken from; by default those of this run are loaded.
    fresh
        What a refresh was made from; None for a night.
    """
    if run.read(INPUTS).dry_run:
        policy = msgspec.structs.replace(policy, gate_mode="dry_run")
    decision = decide(found, policy)
    manifest = run.read(DATASET)
    if found.trees and manifest.test.rankings:  # else there is nothing to publish, and the gate keeps
        trained = run.read(TRAINED)
        new = weights_document(
            run.name,
            model_text(run, trained),
            mapping=run.settings.mapping,
            manifest=manifest,
            test=part(run, manifest, "test") if test is None else test,
            trained=trained,
            found=found,
            decision=decision,
            seed=run.settings.seed,
            fresh=fresh,
        )
        document = frozen(run.read_if_there(WEIGHTS), new, run.settings.registry.documents.keys)
        run.write(WEIGHTS, document)
        decision = msgspec.structs.replace(decision, document=hashlib.sha256(document).hexdigest())
    log.info("gate decided", verdict=decision.verdict, reasons=decision.reasons)
    return run.write(DECISION, decision, verdict=decision.verdict)


def part(run: Run, manifest: DatasetManifest, name: PartName, ids: Sequence[str] = IDS) -> Dataset:
    """Load a part of the dataset that a run has built.

    Raises
    ------
    DatasetError
        A table is not the one that the manifest was written for.
    NotFoundError
        A table is gone.
    """
    return load_part(run.storage, run.key(TABLES), manifest, name, ids)


def model_text(run: Run, trained: Trained) -> str:
    """Read the model that `trained` tells of; SourceError where it is another by now."""
    return run.verified(MODEL, trained.model_sha256).decode()
