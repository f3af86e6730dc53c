//! What gives a server the current weights, also after it failed.

use super::board::{Attempt, Lost, Outcome};
use super::engine::{Engine, Needs, STARTED};
use super::http::HttpError;
use super::options::ServerOptions;
use super::weights;

/// Gives a server the weights, unless it has them.
pub(super) fn prepare(
    engine: &dyn Engine,
    options: &ServerOptions,
    needs: &Needs,
    attempt: &Attempt,
) -> Outcome {
    let published = &*attempt.published;
    let found = match engine.label(published) {
        Ok(found) => found,
        Err(error) => return gone(&error),
    };
    if let Some(lost) = &attempt.lost
        && !was_restarted(lost, &found)
    {
        return Outcome::StillLost;
    }
    if !attempt.is_known {
        let facts = match engine.facts(needs) {
            Ok(facts) => facts,
            Err(error) => return gone(&error),
        };
        if let Err(unfit) = facts.check(needs, &engine.remedies()) {
            return failed(format!("{}: {}", unfit.fault, unfit.hint));
        }
    }
    // What an earlier process has loaded under this label may have been the reason why it ended. An adapter cannot be loaded twice.
    let is_trusted = !attempt.is_first || !options.loads || published.is_adapter;
    if found == published.label && is_trusted {
        return Outcome::Ready;
    }
    if !options.loads {
        return failed(format!(
            "it has the weights {found}, not {}",
            published.label
        ));
    }
    if let Err(fault) = weights::check(&published.folder) {
        return failed(fault);
    }
    if let Err(error) = engine.load(published, options.timeout) {
        if error.is_fatal {
            return Outcome::Lost {
                fault: format!(
                    "{}; it is used again when it has been started again",
                    error.fault
                ),
                label: found,
            };
        }
        return gone(&error.fault);
    }
    match engine.label(published) {
        Ok(label) if label == published.label => Outcome::Ready,
        Ok(label) => failed(format!(
            "it was told to load {}, and says that it has {label}",
            published.label
        )),
        Err(error) => gone(&error),
    }
}

fn was_restarted(lost: &Lost, label: &str) -> bool {
    lost.was_gone || (label == STARTED && lost.label != STARTED)
}

fn failed(fault: impl Into<String>) -> Outcome {
    Outcome::Failed {
        fault: fault.into(),
        is_gone: false,
    }
}

fn gone(error: &HttpError) -> Outcome {
    Outcome::Failed {
        fault: error.to_string(),
        is_gone: error.is_unreachable(),
    }
}
