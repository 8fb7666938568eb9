-- What all replicas are to run: one row, exchanged as a whole where its revision is still the one that was read.
CREATE TABLE fleet_wanted (
    place BIGINT NOT NULL PRIMARY KEY CHECK (place = 1),
    revision BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    document TEXT NOT NULL
);

-- What each replica says it runs. Times are of this database's clock.
CREATE TABLE fleet_replicas (
    replica_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seen_ms BIGINT NOT NULL,
    document TEXT NOT NULL
);

CREATE INDEX fleet_replicas_seen ON fleet_replicas (seen_ms);

-- What happened to bundles and configuration, a few times a day.
CREATE TABLE fleet_events (
    event_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    document TEXT NOT NULL
);

CREATE INDEX fleet_events_at ON fleet_events (at_ms, event_id);

-- What a bundle that does not serve said of decisions. Of a sample, and only while one is watched: so few and so short
-- that deleting the oldest by the key, some thousands at a time, is cheap, and partitions would not pay.
CREATE TABLE shadow_scores (
    -- Of the decision.
    day BIGINT NOT NULL,
    decision_id TEXT COLLATE "C" NOT NULL,
    bundle TEXT COLLATE "C" NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (day, decision_id, bundle)
);
