CREATE TABLE ltr_tables (
    name VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    changed_by VARCHAR NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE recommendations_v1 (
    run_id BIGINT NOT NULL,
    job VARCHAR NOT NULL,
    query_id VARCHAR NOT NULL,
    item_id VARCHAR NOT NULL,
    rank INTEGER NOT NULL,
    score FLOAT NOT NULL,
    label VARCHAR,
    reasons TEXT NOT NULL,
    model_version VARCHAR NOT NULL,
    status VARCHAR DEFAULT 'proposed' NOT NULL,
    recommended_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (job, query_id, run_id, item_id)
);

CREATE TABLE score_batches (
    run_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    first_key TEXT NOT NULL,
    last_key TEXT NOT NULL,
    rows INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    fetch_ms FLOAT NOT NULL,
    score_ms FLOAT NOT NULL,
    write_ms FLOAT NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (run_id, number)
);

CREATE TABLE score_references (
    job VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    quantiles TEXT NOT NULL,
    PRIMARY KEY (job, version)
);

CREATE TABLE score_rejects (
    job VARCHAR NOT NULL,
    key TEXT NOT NULL,
    reason TEXT NOT NULL,
    run_id BIGINT NOT NULL,
    rejected_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (job, key)
);

CREATE TABLE score_runs (
    run_id BIGSERIAL NOT NULL,
    job VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    mode VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    scale VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    rows BIGINT NOT NULL,
    batches BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    last_key TEXT,
    reason TEXT,
    PRIMARY KEY (run_id)
);

CREATE INDEX score_runs_job ON score_runs (job, run_id);

CREATE VIEW recommendations_current AS
SELECT job, query_id, item_id, rank, score, label, reasons, model_version, run_id, status, recommended_at
FROM recommendations_v1 AS shown
WHERE run_id = (
    SELECT max(run_id) FROM recommendations_v1 AS newest
    WHERE newest.job = shown.job AND newest.query_id = shown.query_id
);

INSERT INTO ltr_tables (name, version, changed_at, changed_by) VALUES ('batch', 1, '2026-11-29 20:02:42.588511+00:00', 'ltr-pipeline 0.1.0')
