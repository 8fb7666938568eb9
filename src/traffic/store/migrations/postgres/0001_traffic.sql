-- One row a logged request: the columns by which rows are found, counted and deleted, and the whole record as JSON.
-- A partition a day, made by who writes first on it. The order of (day, decision_id) is the order of time, since the identifiers are UUIDv7.
CREATE TABLE traffic (
    day BIGINT NOT NULL,
    decision_id TEXT COLLATE "C" NOT NULL,
    at_ms BIGINT NOT NULL,
    tenant TEXT NOT NULL,
    session TEXT NOT NULL,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    intent TEXT,
    tier TEXT NOT NULL,
    target TEXT NOT NULL,
    answered_tier TEXT,
    answered_target TEXT,
    status TEXT NOT NULL,
    escalated BIGINT NOT NULL,
    cost_usd DOUBLE PRECISION NOT NULL,
    baseline_cost_usd DOUBLE PRECISION NOT NULL,
    latency_ms DOUBLE PRECISION NOT NULL,
    bundle_version TEXT,
    -- 0 until the online learner has seen it.
    learned BIGINT NOT NULL DEFAULT 0,
    document TEXT NOT NULL,
    PRIMARY KEY (day, decision_id)
) PARTITION BY RANGE (day);

CREATE INDEX traffic_tenant ON traffic (tenant, day, decision_id);
CREATE INDEX traffic_session ON traffic (session, tenant) WHERE session <> '';
CREATE INDEX traffic_unlearned ON traffic (day, decision_id) WHERE learned = 0;

CREATE TABLE feedback (
    feedback_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    decision_id TEXT COLLATE "C" NOT NULL,
    -- Of the decision.
    day BIGINT NOT NULL,
    -- 0 while the decision is not in the store.
    known BIGINT NOT NULL,
    -- When it was received.
    at_ms BIGINT NOT NULL,
    source TEXT NOT NULL,
    learned BIGINT NOT NULL DEFAULT 0,
    document TEXT NOT NULL
);

CREATE INDEX feedback_decision ON feedback (decision_id);
CREATE INDEX feedback_day ON feedback (day);
CREATE INDEX feedback_unknown ON feedback (at_ms) WHERE known = 0;
CREATE INDEX feedback_unlearned ON feedback (at_ms) WHERE learned = 0;
