//! JSON over HTTP, blocking.

use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use ureq::http::Response;
use ureq::{Agent, Body, Error, Timeout};

/// No answer is longer: 100,000 tokens with all that a server says of each.
const MAX_BODY: u64 = 64 << 20;

/// A machine that is there takes a connection sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// At most this much of what a server says is repeated.
const MAX_MESSAGE: usize = 300;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// The server says no.
    #[error("{path} answers {status}: {message}")]
    Status {
        path: String,
        status: u16,
        message: String,
    },
    /// It says nothing.
    #[error("{path} has not answered within {} s", timeout.as_secs_f32())]
    TimedOut { path: String, timeout: Duration },
    /// There is no server, or it has gone away.
    #[error("{path} cannot be asked: {message}")]
    Unreachable { path: String, message: String },
    /// It answers something else.
    #[error("{path} answers in another form than expected: {message}")]
    Form { path: String, message: String },
}

impl HttpError {
    /// The status that the server answered, if it answered with an error.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether nothing listens there, or it has gone away while it was asked.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// A server's HTTP interface.
#[derive(Debug)]
pub(super) struct Client {
    url: String,
    key: Option<String>,
    // What asks for completions has connections of its own, which can be closed from outside.
    agent: Agent,
    sampling: Mutex<Agent>,
}

impl Client {
    pub(super) fn new(url: &str, key: Option<&str>) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            key: key.map(str::to_owned),
            agent: new_agent(),
            sampling: Mutex::new(new_agent()),
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// `GET path`.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        timeout: Duration,
    ) -> Result<T, HttpError> {
        read(path, self.call(&self.agent, path, None, timeout)?)
    }

    /// `POST path`, whose answer is of no interest.
    pub(super) fn tell(
        &self,
        path: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<(), HttpError> {
        self.call(&self.agent, path, Some(body), timeout)?;
        Ok(())
    }

    /// `POST path` for a completion: [`interrupt`](Self::interrupt) ends it.
    pub(super) fn sample<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<T, HttpError> {
        let agent = self.sampling().clone();
        read(path, self.call(&agent, path, Some(body), timeout)?)
    }

    /// Closes the connections of all completions that are under way, and of those that begin before
    /// [`reopen`](Self::reopen): the server stops sampling them.
    pub(super) fn interrupt(&self) {
        self.sampling().clone().shutdown();
    }

    /// Allows completions again.
    pub(super) fn reopen(&self) {
        *self.sampling() = new_agent();
    }

    fn sampling(&self) -> MutexGuard<'_, Agent> {
        self.sampling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(
        &self,
        agent: &Agent,
        path: &str,
        body: Option<&Value>,
        timeout: Duration,
    ) -> Result<Vec<u8>, HttpError> {
        let url = format!("{}{path}", self.url);
        let key = self.key.as_ref().map(|key| format!("Bearer {key}"));
        let answer = match body {
            None => {
                let mut request = agent.get(&url);
                if let Some(key) = key {
                    request = request.header("Authorization", key);
                }
                let request = request.config().timeout_global(Some(timeout)).build();
                request.call()
            }
            Some(body) => {
                let mut request = agent.post(&url).content_type("application/json");
                if let Some(key) = key {
                    request = request.header("Authorization", key);
                }
                let request = request.config().timeout_global(Some(timeout)).build();
                request.send(body.to_string())
            }
        };
        let (status, bytes) = answer
            .and_then(received)
            .map_err(|error| failure(path, timeout, error))?;
        if status < 300 {
            return Ok(bytes);
        }
        Err(HttpError::Status {
            path: path.to_owned(),
            status,
            message: message(&bytes),
        })
    }
}

/// A server may close a connection that rests at any time, so that every request has its own.
fn new_agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .max_idle_connections(0);
    config.build().into()
}

fn received(mut answer: Response<Body>) -> Result<(u16, Vec<u8>), Error> {
    let status = answer.status().as_u16();
    let body = answer.body_mut().with_config().limit(MAX_BODY);
    Ok((status, body.read_to_vec()?))
}

fn failure(path: &str, timeout: Duration, error: Error) -> HttpError {
    let path = path.to_owned();
    match error {
        Error::Timeout(Timeout::Global) => HttpError::TimedOut { path, timeout },
        Error::BodyExceedsLimit(limit) => HttpError::Form {
            path,
            message: format!("more than {limit} bytes"),
        },
        error => HttpError::Unreachable {
            path,
            message: error.to_string(),
        },
    }
}

fn read<T: DeserializeOwned>(path: &str, bytes: Vec<u8>) -> Result<T, HttpError> {
    serde_json::from_slice(&bytes).map_err(|error| HttpError::Form {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

/// What the body of an error says: vLLM, SGLang and what stands before them each have their own place for it.
fn message(bytes: &[u8]) -> String {
    let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let places = ["/error/message", "/error", "/detail", "/message"];
    let said = places
        .iter()
        .find_map(|place| json.pointer(place)?.as_str());
    let text = said.map_or_else(|| String::from_utf8_lossy(bytes), Into::into);
    let text = text.trim();
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_says_is_found_where_each_server_puts_it() {
        let check = |body: &str, expected: &str| assert_eq!(message(body.as_bytes()), expected);
        check(
            r#"{"error": {"message": "no such model"}}"#,
            "no such model",
        );
        check(r#"{"error": "paused"}"#, "paused");
        check(r#"{"detail": "Not Found"}"#, "Not Found");
        check(r#"{"success": false, "message": "failed"}"#, "failed");
        check(
            r#"{"detail": [{"loc": ["body"]}]}"#,
            r#"{"detail": [{"loc": ["body"]}]}"#,
        );
        check(" Internal Server Error\n", "Internal Server Error");
        check("", "");
        check(&"é".repeat(400), &format!("{}...", "é".repeat(300)));
    }
}
