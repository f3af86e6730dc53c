//! Sampling the groups of a step.

use crate::data::PromptedProblem;
use crate::failure::Failure;
use rpg_core::Group;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use rpg_rollout::generate::{self, GenerateError, GenerateOptions, Progress, Request};
use std::ops::ControlFlow;

/// A policy and how it is sampled.
#[derive(Debug)]
pub struct Sampler<'a, B: DecodeBackend> {
    /// The policy.
    pub model: &'a CausalLm<B>,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// How tokens are drawn, and how many.
    pub options: &'a GenerateOptions,
}

impl<B: DecodeBackend> Sampler<'_, B> {
    /// Samples `k` completions of every problem, in the order of the problems.
    /// `seed_of(prompt, sample)` seeds each completion.
    pub fn sample(
        &self,
        problems: &[PromptedProblem],
        k: usize,
        seed_of: impl Fn(usize, usize) -> u64,
        mut on_progress: impl FnMut(Progress) -> bool,
    ) -> Result<Vec<Group>, Failure> {
        let requests: Vec<Request> = problems
            .iter()
            .enumerate()
            .map(|(i, problem)| {
                let seeds = (0..k).map(|j| seed_of(i, j));
                Request::new(problem.prompt_tokens.as_slice(), seeds)
            })
            .collect();
        let mut on_progress = |progress| match on_progress(progress) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        generate::Sampler::new(self.model, self.tokenizer, &requests, self.options)
            .and_then(|sampler| sampler.run(&mut on_progress))
            .map_err(|e| failure(e, problems))
    }
}

fn failure(error: GenerateError, problems: &[PromptedProblem]) -> Failure {
    let id = |prompt_idx: usize| &problems[prompt_idx].problem.id;
    match &error {
        GenerateError::TooLong { prompt_idx, .. } => {
            Failure::input(format!("problem {}: {error}", id(*prompt_idx)))
                .hint("lower rollout.max_new_tokens or data.max_prompt_tokens")
        }
        GenerateError::EmptyPrompt { prompt_idx }
        | GenerateError::UnknownToken { prompt_idx, .. } => {
            Failure::input(format!("problem {}: {error}", id(*prompt_idx)))
        }
        GenerateError::Interrupted => Failure::interrupted("interrupted"),
        _ => Failure::internal(error),
    }
}
