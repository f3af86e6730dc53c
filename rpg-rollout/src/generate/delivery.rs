//! Puts completions back into groups, in the order of the requests.

use super::options::Request;
use rpg_core::{Completion, Group};

/// Which completion of which request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) prompt_idx: usize,
    pub(crate) sample_idx: usize,
}

/// The places of all completions, in the order of the requests.
pub(crate) fn places(requests: &[Request]) -> Vec<Place> {
    let numbered = requests.iter().enumerate();
    let of_each = numbered.flat_map(|(prompt_idx, request)| {
        (0..request.seeds.len()).map(move |sample_idx| Place {
            prompt_idx,
            sample_idx,
        })
    });
    of_each.collect()
}

/// Completions that have ended, until all of their group and all groups before it have.
pub(crate) struct Delivery<'a> {
    requests: &'a [Request],
    pending: Vec<Vec<Option<Completion>>>,
    next: usize,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(requests: &'a [Request]) -> Self {
        let pending = requests.iter().map(|r| vec![None; r.seeds.len()]).collect();
        Self {
            requests,
            pending,
            next: 0,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.next == self.pending.len()
    }

    pub(crate) fn put(&mut self, place: Place, completion: Completion) {
        self.pending[place.prompt_idx][place.sample_idx] = Some(completion);
    }

    /// The groups that can be handed out now.
    pub(crate) fn take_complete(&mut self) -> Vec<Group> {
        let mut groups = Vec::new();
        while let Some(group) = self.pending.get_mut(self.next) {
            if group.iter().any(Option::is_none) {
                break;
            }
            groups.push(Group {
                prompt_idx: self.next,
                prompt_tokens: self.requests[self.next].prompt_tokens.clone(),
                completions: std::mem::take(group).into_iter().flatten().collect(),
            });
            self.next += 1;
        }
        groups
    }
}
