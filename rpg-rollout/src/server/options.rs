//! Which servers are asked, and how.

use crate::rollouts::EngineKind;
use std::time::Duration;

/// Servers, and what they may take; start from the default and assign what differs.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ServerOptions {
    /// What the servers run; all the same.
    pub engine: EngineKind,
    /// Where they are, at least one: `http://HOST:PORT` or `https://HOST`.
    pub urls: Vec<String>,
    /// Sent as `Authorization: Bearer KEY`.
    pub api_key: Option<String>,
    /// Requests in flight at each server.
    pub concurrency: usize,
    /// A completion that takes longer is given up and asked of another server.
    pub request_timeout: Duration,
    /// For how long there may be no server that works. Loading weights may take as long.
    pub timeout: Duration,
    /// The largest mean difference between a server's log-probs and the policy's own; above it the server does not sample from
    /// the policy.
    pub max_difference: f64,
    /// The method of vLLM's workers that loads weights, called with `weights_path`.
    pub reload_method: String,
    /// Whether this process loads weights into the servers. If not, another one does, and this one waits until a server has them.
    pub loads: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            engine: EngineKind::default(),
            urls: Vec::new(),
            api_key: None,
            concurrency: 64,
            request_timeout: Duration::from_secs(600),
            timeout: Duration::from_secs(300),
            max_difference: 2e-2,
            reload_method: "reload_weights".into(),
            loads: true,
        }
    }
}
