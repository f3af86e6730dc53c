//! Rollouts over HTTP, against a server that samples with a tiny model and misbehaves as told.
