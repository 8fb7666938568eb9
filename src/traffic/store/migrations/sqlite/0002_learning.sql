-- What is known of each learned offset. A cell that is not there is at its prior.
CREATE TABLE learning_cells (
    intent TEXT NOT NULL,
    target TEXT NOT NULL,
    -- On the logit of sufficiency.
    mean DOUBLE PRECISION NOT NULL,
    -- 1 / variance.
    certainty DOUBLE PRECISION NOT NULL,
    observations BIGINT NOT NULL,
    -- The time that mean and certainty are of.
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (intent, target)
);

-- What each tenant may still say about an offset. An allowance that is not there is full.
CREATE TABLE learning_allowances (
    intent TEXT NOT NULL,
    target TEXT NOT NULL,
    tenant TEXT NOT NULL,
    channel TEXT NOT NULL,
    remaining DOUBLE PRECISION NOT NULL,
    -- The time that it is of.
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, channel, intent, target)
);

-- Only completions have an outcome to learn from: decisions alone, by far the most where there are any, need no place.
DROP INDEX traffic_unlearned;
CREATE INDEX traffic_unlearned ON traffic (day, decision_id) WHERE learned = 0 AND kind = 'complete';
