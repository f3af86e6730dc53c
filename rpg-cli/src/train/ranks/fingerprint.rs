//! What all ranks must have alike before they train together.

use super::Team;
use crate::failure::Failure;
use crate::train::origin::Origin;
use crate::train::reference::checksum;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use std::collections::BTreeMap;

/// Refuses ranks that do not begin with the same as rank 0: what [`Origin`] holds, and a policy before the optimizer's state
/// is read.
pub(in crate::train) fn check_alike<B: DecodeBackend>(
    team: &Team,
    origin: &Origin,
    policy: &CausalLm<B>,
) -> Result<(), Failure> {
    if team.is_alone() {
        return Ok(());
    }
    let mut parts = origin.parts();
    parts.extend([
        (
            "the version of rpg".into(),
            env!("CARGO_PKG_VERSION").into(),
        ),
        ("the weights of the policy".into(), checksum(policy)),
        ("the backend".into(), B::name(&policy.device())),
    ]);
    let all = team.gather(parts)?;
    let others = all.iter().enumerate().skip(1);
    let mut differences = others.filter_map(|(rank, other)| {
        let (name, expected, found) = difference(&all[0], other)?;
        Some(format!(
            "rank {rank}: {name}: found {found}; expected {expected}, as on rank 0"
        ))
    });
    let Some(message) = differences.next() else {
        return Ok(());
    };
    Err(Failure {
        everywhere: true,
        ..Failure::input(message)
    }
    .hint("start every rank with the same rpg, the same flags and the same files"))
}

/// The first name under which two ranks have something else, and what they have.
fn difference<'a>(
    first: &'a BTreeMap<String, String>,
    other: &'a BTreeMap<String, String>,
) -> Option<(&'a str, &'a str, &'a str)> {
    let of = |parts: &'a BTreeMap<String, String>, name: &String| {
        parts.get(name).map_or("nothing", String::as_str)
    };
    let mut names = first.keys().chain(other.keys());
    let name = names.find(|name| first.get(*name) != other.get(*name))?;
    Some((name, of(first, name), of(other, name)))
}
