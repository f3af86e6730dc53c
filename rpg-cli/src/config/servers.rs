//! The section of inference servers, and what of a config does not go with them.

use super::TrainConfig;
use super::check::bad;
use super::keys::{config_section, one_of, plain_values};
use super::sections::RolloutConfig;
use super::values::{Count, Positive};
use crate::failure::Failure;
use rpg_core::model::SaveDtype;
use rpg_losses::rollout::RolloutCorrection;
use rpg_rollout::rollouts::{EngineKind, RolloutWeights};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::PathBuf;

config_section! {
    /// Inference servers that sample in place of this process: see [servers.md](servers.md). What is sent to them as a key is the
    /// value of the environment variable `RPG_SERVER_API_KEY`, if there is one.
    pub struct ServerConfig {
        /// Where they are, such as `["http://a:8000", "http://b:8000"]`. Without any, this process samples.
        urls: Vec<String> = Vec::new(),
        /// What they are.
        engine: EngineKind = EngineKind::default(),
        /// The number of completions that each of them samples at a time.
        concurrency: Count = Count::of(64),
        /// A completion that takes longer, in seconds, is given up and asked for elsewhere.
        request_timeout_s: Positive = Positive::of(600.0),
        /// For how many seconds there may be no server that works before the run stops.
        timeout_s: Positive = Positive::of(300.0),
        /// The largest mean difference between the log-probs of a server and those of the policy, over the first completions after
        /// an update of its weights; above it the run stops. Servers that compute in f32 stay below 1e-3.
        max_difference: Positive = Positive::of(2e-2),
        /// The folder of the weights that the servers load, which they must see under the same path, and which must be that of no
        /// other run. Without it, `weights` in the run folder.
        weights_dir: Option<PathBuf> = None,
        /// The type of the weights that servers load: `bf16` is half as much to write and to read, and the same to servers that compute
        /// in it. Adapters stay `f32`.
        dtype: SaveDtype = SaveDtype::default(),
        /// The method of vLLM's workers that reads the weights; another one than vLLM's own is that of a worker extension.
        reload_method: String = "reload_weights".into(),
    }
}

/// Whose log-probs are those of the policy from which a step starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogProbs {
    /// Those of the server that sampled.
    #[default]
    Server,
    /// Those of the trainer, which scores every completion once more; the server is a third policy, which is corrected for.
    Rescored,
}

plain_values! {
    EngineKind: one_of::<EngineKind>(),
    LogProbs: one_of::<LogProbs>(),
    SaveDtype: one_of::<SaveDtype>(),
}

impl RolloutConfig {
    /// The servers that sample, if it is not this process.
    pub fn servers(&self) -> Option<&ServerConfig> {
        let servers = self.server.as_ref();
        servers.filter(|servers| !servers.urls.is_empty())
    }
}

impl TrainConfig {
    /// The correction for the sampler: that of the objective or, where the log-probs of servers are rescored, at least the
    /// default one.
    pub fn rollout_correction(&self) -> Option<RolloutCorrection> {
        let default = || self.is_rescored().then(RolloutCorrection::default);
        self.objective.rollout_correction.or_else(default)
    }

    fn is_rescored(&self) -> bool {
        self.rollout.log_probs == LogProbs::Rescored
    }

    /// Refuses servers that cannot be asked, and keys that do not go with servers.
    pub(super) fn check_servers(&self) -> Result<(), Failure> {
        let Some(servers) = self.rollout.servers() else {
            if self.is_rescored() {
                let expected = "server, as there are no rollout.server.urls: this process samples, with the trainer's own log-probs";
                return Err(bad("rollout.log_probs", "rescored", expected));
            }
            return Ok(());
        };
        if cfg!(not(feature = "server")) {
            let expected = "none, as this build has no servers";
            return Err(bad(
                "rollout.server.urls",
                format_args!("{:?}", servers.urls),
                expected,
            )
            .hint("build rpg-cli with the feature `server`"));
        }
        check_urls(&servers.urls)?;
        if self.rollout.weights == RolloutWeights::Int8 {
            let expected =
                "exact with rollout.server, whose weights are those that it was started with";
            return Err(bad("rollout.weights", "int8", expected));
        }
        if self.is_rescored() {
            return Ok(());
        }
        if self.objective.rollout_correction.is_some() {
            return Err(Failure::input(
                "objective.rollout_correction: found one; expected none with rollout.log_probs = \"server\", by which the \
                 servers' log-probs are those of the policy, so that every weight is 1",
            )
            .hint("remove it, or set rollout.log_probs to \"rescored\""));
        }
        let top_p = self.rollout.top_p;
        if top_p.get() < 1.0 {
            let expected = "1 with rollout.log_probs = \"server\": a server's log-probs are those of the nucleus, not the policy's";
            return Err(bad("rollout.top_p", top_p, expected)
                .hint("leave it out, or set rollout.log_probs to \"rescored\""));
        }
        Ok(())
    }

    /// Says that log-probs are rescored with the default correction.
    pub(super) fn warning_on_servers(&self) -> Option<String> {
        let is_default = self.is_rescored() && self.objective.rollout_correction.is_none();
        is_default.then(|| {
            let max = RolloutCorrection::default().max;
            format!(
                "rollout.log_probs: found rescored without objective.rollout_correction, so that the default one corrects for \
                 the servers: the weight of a token is at most {max}"
            )
        })
    }
}

fn check_urls(urls: &[String]) -> Result<(), Failure> {
    let mut seen = HashSet::new();
    for (i, url) in urls.iter().enumerate() {
        let key = format!("rollout.server.urls[{i}]");
        let host = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"));
        let has_host = host.is_some_and(|host| {
            !host.is_empty() && !host.starts_with(['/', ':']) && !host.contains(char::is_whitespace)
        });
        if !has_host {
            let expected = "the address of a server, such as http://127.0.0.1:8000";
            return Err(bad(&key, format_args!("{url:?}"), expected));
        }
        if !seen.insert(url.trim_end_matches('/')) {
            let expected = "every server once; rollout.server.concurrency is how many completions it samples at a time";
            return Err(bad(&key, format_args!("{url:?} again"), expected));
        }
    }
    Ok(())
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests {
    use super::*;

    const URL: &str = "rollout.server.urls=['http://a:8000']";
    const RESCORED: &str = "rollout.log_probs=rescored";
    const CORRECTION: &str = "objective.rollout_correction={mode='mask'}";

    fn read(sets: &[&str]) -> Result<TrainConfig, Failure> {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        TrainConfig::recipe("arithmetic", &sets)
    }

    #[test]
    fn without_addresses_this_process_samples() {
        for (sets, n_servers) in [
            (&[][..], None),
            (
                &["rollout.server.urls=[]", "rollout.server.concurrency=3"],
                None,
            ),
            (&[URL], Some(1)),
            (
                &["rollout.server.urls=['http://a:1/', 'https://b']"],
                Some(2),
            ),
        ] {
            let config = read(sets).unwrap();
            let servers = config.rollout.servers();
            assert_eq!(
                servers.map(|servers| servers.urls.len()),
                n_servers,
                "{sets:?}"
            );
            let again = TrainConfig::from_toml(&config.to_toml(), "again", &[]).unwrap();
            assert_eq!(config, again);
        }
    }

    #[test]
    fn rescored_log_probs_are_corrected() {
        for (sets, expected) in [
            (&[URL][..], None),
            (&[URL, RESCORED], Some(RolloutCorrection::default())),
            (
                &[URL, RESCORED, "rollout.top_p=0.9"],
                Some(RolloutCorrection::default()),
            ),
        ] {
            assert_eq!(
                read(sets).unwrap().rollout_correction(),
                expected,
                "{sets:?}"
            );
        }
        let given = read(&[URL, RESCORED, CORRECTION]).unwrap();
        assert_eq!(
            given.rollout_correction(),
            given.objective.rollout_correction
        );
        assert_eq!(given.warnings(), Vec::<String>::new());
        let warnings = read(&[URL, RESCORED]).unwrap().warnings();
        assert!(
            warnings[0].contains("weight of a token is at most 2"),
            "{warnings:?}"
        );
    }

    #[test]
    fn what_does_not_go_with_servers_is_refused_by_its_key() {
        for (sets, expected) in [
            (
                &["rollout.server.urls=['a:8000']"][..],
                "rollout.server.urls[0]: found \"a:8000\"; expected the address of a server, such as http://",
            ),
            (
                &["rollout.server.urls=['http://a', 'http:// b']"],
                "rollout.server.urls[1]: found",
            ),
            (
                &["rollout.server.urls=['http:///x']"],
                "rollout.server.urls[0]: found",
            ),
            (
                &["rollout.server.urls=['http://a', 'http://a/']"],
                "rollout.server.urls[1]: found \"http://a/\" again; expected every server once",
            ),
            (
                &["rollout.server.urls='http://a'"],
                "rollout.server.urls: invalid type: string",
            ),
            (&["rollout.server.url=['http://a']"], "unknown field `url`"),
            (
                &[URL, "rollout.server.engine=tgi"],
                "rollout.server.engine: unknown variant `tgi`",
            ),
            (
                &[URL, "rollout.server.dtype=f16"],
                "rollout.server.dtype: unknown variant `f16`, expected `f32` or `bf16`",
            ),
            (
                &[URL, "rollout.server.concurrency=0"],
                "rollout.server.concurrency: found 0; expected a whole",
            ),
            (
                &[URL, "rollout.server.timeout_s=0"],
                "rollout.server.timeout_s: found 0; expected a number",
            ),
            (
                &[URL, "rollout.server.request_timeout_s=-1"],
                "rollout.server.request_timeout_s: found -1",
            ),
            (
                &[URL, "rollout.server.max_difference=0"],
                "rollout.server.max_difference: found 0",
            ),
            (
                &[URL, "rollout.log_probs=mine"],
                "rollout.log_probs: unknown variant `mine`",
            ),
            (
                &[RESCORED],
                "rollout.log_probs: found rescored; expected server, as there are no rollout.server.urls",
            ),
            (
                &[URL, CORRECTION],
                "objective.rollout_correction: found one; expected none with rollout.log_probs",
            ),
            (
                &[URL, "rollout.top_p=0.9"],
                "rollout.top_p: found 0.9; expected 1 with rollout.log_probs",
            ),
            (
                &[URL, "rollout.weights=int8"],
                "rollout.weights: found int8; expected exact with rollout.server",
            ),
        ] {
            let error = read(sets).expect_err(&format!("{sets:?}")).message;
            assert!(error.contains(expected), "{sets:?}: {error}");
        }
    }
}
