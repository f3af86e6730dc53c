//! Puts completions back into groups, in the order of the requests.

use super::batch::Place;
use super::options::Request;
use rpg_core::{Completion, Group};

/// Completions that have ended, until all of their group and all groups before it have.
pub(super) struct Delivery<'a> {
    requests: &'a [Request],
    pending: Vec<Vec<Option<Completion>>>,
    next: usize,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(requests: &'a [Request]) -> Self {
        let pending = requests.iter().map(|r| vec![None; r.seeds.len()]).collect();
        Self {
            requests,
            pending,
            next: 0,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.next == self.pending.len()
    }

    pub(super) fn put(&mut self, place: Place, completion: Completion) {
        self.pending[place.prompt_idx][place.sample_idx] = Some(completion);
    }

    /// The groups that can be handed out now.
    pub(super) fn take_complete(&mut self) -> Vec<Group> {
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
