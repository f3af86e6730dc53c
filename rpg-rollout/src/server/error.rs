//! Why servers cannot be used, or no longer.

use std::time::Duration;

/// Why servers do not give completions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No server is named.
    #[error("there is no server to sample with; at least one is needed")]
    NoServers,
    /// A server is not what the run needs, or cannot be asked what it is.
    #[error("{url}: {fault}")]
    Unusable {
        /// The server.
        url: String,
        /// What was found and what would be right.
        fault: String,
        /// What mends it.
        hint: Option<String>,
    },
    /// A setting that servers cannot follow.
    #[error("{option}: found {found}; an inference server can only do {expected}")]
    Unsupported {
        /// The field of [`GenerateOptions`](crate::generate::GenerateOptions).
        option: &'static str,
        /// Its value.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A server understands no request of this form, and no other would.
    #[error("{url} refuses a request: {message}")]
    Refused {
        /// The server.
        url: String,
        /// What it says.
        message: String,
    },
    /// The weights could not be written to where servers read them.
    #[error("{0}")]
    Publish(String),
    /// A server says that it has the policy's weights and samples from something else.
    #[error(
        "{url}: its log-probs are not those of the policy {label}: they differ by {difference:.2e} in the mean; \
         expected at most {limit:.2e}"
    )]
    OtherPolicy {
        /// The server.
        url: String,
        /// The weights that it says it has.
        label: String,
        /// The mean difference of log-probs.
        difference: f64,
        /// The largest that is right.
        limit: f64,
    },
    /// All servers have failed.
    #[error("no server has worked for {} s: {}", waited.as_secs(), listed(faults))]
    NoneLeft {
        /// For how long.
        waited: Duration,
        /// Each server, and its last fault.
        faults: Vec<(String, String)>,
    },
}

impl ServerError {
    /// What mends it, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unusable { hint, .. } => hint.clone(),
            Self::OtherPolicy { .. } => Some(
                "a copy of the old weights, or a cache of what they computed, has outlived their reload: docs/servers.md"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// Whether the run asks for what these servers cannot do. If not, servers failed, and the same run may go on later.
    pub fn is_input(&self) -> bool {
        match self {
            Self::NoServers
            | Self::Unusable { .. }
            | Self::Unsupported { .. }
            | Self::Refused { .. } => true,
            Self::Publish(_) | Self::OtherPolicy { .. } | Self::NoneLeft { .. } => false,
        }
    }
}

fn listed(faults: &[(String, String)]) -> String {
    let each = faults.iter().map(|(url, fault)| format!("{url}: {fault}"));
    each.collect::<Vec<_>>().join("; ")
}
