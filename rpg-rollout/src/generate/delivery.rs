//! Completed groups in the order of their prompts.

use super::{Place, Request};
use rpg_core::{Completion, Group};

/// Hands out groups in the order of their prompts.
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

    pub(super) fn put(
        &mut self,
        place: Place,
        completion: Completion,
        on_group: &mut impl FnMut(Group),
    ) {
        self.pending[place.prompt_idx][place.sample_idx] = Some(completion);
        self.finish(on_group);
    }

    pub(super) fn finish(&mut self, on_group: &mut impl FnMut(Group)) {
        while let Some(group) = self.pending.get_mut(self.next) {
            if group.iter().any(Option::is_none) {
                return;
            }
            let completions = std::mem::take(group).into_iter().flatten().collect();
            let prompt_tokens = self.requests[self.next].prompt_tokens.clone();
            on_group(Group {
                prompt_idx: self.next,
                prompt_tokens,
                completions,
            });
            self.next += 1;
        }
    }
}
