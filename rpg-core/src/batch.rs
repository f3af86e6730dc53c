//! Cutting a list of texts into passes over the model.

/// Decides where a list is cut: at most so many tokens a run.
#[derive(Debug, Clone)]
pub struct TokenBudget {
    max_tokens: usize,
    // Tokens of the present run; `None` before the first item.
    total: Option<usize>,
}

impl TokenBudget {
    /// Runs of at most `max_tokens` tokens. An item that has more by itself is a run of its own.
    pub fn new(max_tokens: usize) -> Self {
        Self {
            max_tokens,
            total: None,
        }
    }

    /// Counts the next item; returns whether a run ends before it.
    pub fn cuts_before(&mut self, n_tokens: usize) -> bool {
        let with_it = self.total.map(|total| total.saturating_add(n_tokens));
        let cuts = with_it.is_some_and(|total| total > self.max_tokens);
        self.total = match with_it {
            Some(total) if !cuts => Some(total),
            _ => Some(n_tokens),
        };
        cuts
    }
}

/// Cuts `items` into runs of neighbours that have at most `max_tokens` tokens together. An item that has more by
/// itself is a run of its own; no run is empty.
///
/// ```
/// let texts = [vec![1, 2, 3], vec![4], vec![5, 6, 7, 8, 9], vec![10]];
/// let passes: Vec<_> = rpg_core::batch::by_tokens(&texts, 4, Vec::len).collect();
/// assert_eq!(passes, [&texts[..2], &texts[2..3], &texts[3..]]);
/// ```
pub fn by_tokens<T>(
    items: &[T],
    max_tokens: usize,
    n_tokens: impl Fn(&T) -> usize,
) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut budget = TokenBudget::new(max_tokens);
        let run = rest.iter();
        let n = run
            .take_while(|item| !budget.cuts_before(n_tokens(item)))
            .count();
        let (run, later) = rest.split_at(n);
        rest = later;
        (!run.is_empty()).then_some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn runs_are_as_long_as_the_limit_allows() {
        let check = |lengths: &[usize], max_tokens: usize, expected: &[&[usize]]| {
            let runs: Vec<&[usize]> = by_tokens(lengths, max_tokens, |&n| n).collect();
            assert_eq!(runs, expected, "{lengths:?}, at most {max_tokens}");
        };
        check(&[], 4, &[]);
        check(&[3], 4, &[&[3]]);
        check(&[5], 4, &[&[5]]);
        check(&[2, 2, 2], 4, &[&[2, 2], &[2]]);
        check(&[1, 5, 1], 4, &[&[1], &[5], &[1]]);
        check(&[5, 5], 4, &[&[5], &[5]]);
        check(&[0, 0, 4, 0, 1], 4, &[&[0, 0, 4, 0], &[1]]);
        check(&[0, 0], 0, &[&[0, 0]]);
        check(&[1, 2], 0, &[&[1], &[2]]);
        check(
            &[usize::MAX, usize::MAX],
            4,
            &[&[usize::MAX], &[usize::MAX]],
        );
    }

    proptest! {
        #[test]
        fn runs_join_to_the_items_and_keep_the_limit(
            lengths in proptest::collection::vec(0usize..20, 0..40),
            max_tokens in 0usize..40,
        ) {
            let runs: Vec<&[usize]> = by_tokens(&lengths, max_tokens, |&n| n).collect();
            prop_assert_eq!(runs.concat(), lengths.clone());
            for run in &runs {
                prop_assert!(run.len() == 1 || run.iter().sum::<usize>() <= max_tokens);
                prop_assert!(!run.is_empty());
            }
            // The first item of a run would not have fitted into the run before it.
            for pair in runs.windows(2) {
                prop_assert!(pair[0].iter().sum::<usize>() + pair[1][0] > max_tokens);
            }
        }
    }
}
