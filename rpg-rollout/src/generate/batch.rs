//! The completions in flight: slots, their cache, and what waits for a slot.

use super::delivery::{Place, places};
use super::ends::Ends;
use super::error::GenerateError;
use super::options::{GenerateOptions, Request};
use crate::sampling::{Draw, sample, sample_except};
use burn::tensor::{Int, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use rpg_core::Completion;
use rpg_core::batch::by_tokens;
use rpg_core::cache::KvCache;
use rpg_core::model::CausalLm;
use rpg_core::ops::{CacheRows, DecodeBackend, Packing};
use rpg_core::tokenizer::Tokenizer;
use std::collections::HashMap;

/// A completion in flight.
struct Slot {
    place: Place,
    rng: ChaCha8Rng,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
}

/// A prompt that is computed in one slot and copied to others.
struct NewPrompt {
    prompt_idx: usize,
    slot: usize,
    others: Vec<usize>,
}

/// The slots, their cache, and the completions that wait for a slot.
pub(super) struct Batch<'a, B: DecodeBackend> {
    model: &'a CausalLm<B>,
    requests: &'a [Request],
    options: &'a GenerateOptions,
    cache: KvCache<B>,
    slots: Vec<Option<Slot>>,
    // The prompt whose keys and values are at the beginning of each slot.
    prompt_in_slot: Vec<Option<usize>>,
    // The prompt that the cache keeps for its waiting samples.
    kept: Option<usize>,
    // Logits after the prompt, kept while samples of the group wait for their first token.
    prompt_logits: HashMap<usize, Vec<f32>>,
    waiting: std::vec::IntoIter<Place>,
}

impl<'a, B: DecodeBackend> Batch<'a, B> {
    pub(super) fn new(
        model: &'a CausalLm<B>,
        requests: &'a [Request],
        options: &'a GenerateOptions,
        n_completions: usize,
    ) -> Self {
        let longest = requests
            .iter()
            .map(|r| r.prompt_tokens.len())
            .max()
            .unwrap_or(0);
        let capacity = longest + options.max_new_tokens;
        let n_slots = options.n_slots(model.config(), n_completions, capacity);
        Self {
            model,
            requests,
            options,
            cache: model.new_cache(n_slots, capacity),
            slots: (0..n_slots).map(|_| None).collect(),
            prompt_in_slot: vec![None; n_slots],
            kept: None,
            prompt_logits: HashMap::new(),
            waiting: places(requests).into_iter(),
        }
    }

    pub(super) fn n_active(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Fills free slots with waiting completions, and puts their prompts into the cache: computed if it is the prompt's
    /// first completion, else copied. Completions wait in the order of their prompts, so that one prompt at most has some
    /// that wait and some that do not: it is kept, until the last of them has begun.
    pub(super) fn admit(&mut self) {
        let mut new: Vec<NewPrompt> = Vec::new();
        let mut begun: Vec<usize> = Vec::new();
        let is_recurrent = self.cache.is_recurrent();
        for slot in 0..self.slots.len() {
            if self.slots[slot].is_some() {
                continue;
            }
            let Some(place) = self.waiting.next() else {
                break;
            };
            let prompt_idx = place.prompt_idx;
            let seed = self.requests[prompt_idx].seeds[place.sample_idx];
            self.slots[slot] = Some(Slot {
                place,
                rng: ChaCha8Rng::seed_from_u64(seed),
                tokens: Vec::new(),
                logprobs: Vec::new(),
            });
            let held = self.prompt_in_slot[slot].replace(prompt_idx);
            match new.last_mut() {
                // Keys and values of the prompt are where they were.
                _ if self.kept == Some(prompt_idx) && held == self.kept && !is_recurrent => {}
                _ if self.kept == Some(prompt_idx) => begun.push(slot),
                Some(last) if last.prompt_idx == prompt_idx => last.others.push(slot),
                _ => new.push(NewPrompt {
                    prompt_idx,
                    slot,
                    others: Vec::new(),
                }),
            }
        }
        // The slot that held a prompt may get another one now: what the cache holds already is copied first, then what
        // is computed now.
        if !begun.is_empty() {
            self.cache.begin(&begun);
        }
        self.prefill(&new);
        for NewPrompt {
            prompt_idx,
            slot,
            others,
        } in &new
        {
            let len = self.requests[*prompt_idx].prompt_tokens.len();
            self.cache.copy_prefix(*slot, others, len);
        }
        let next = self.next_prompt();
        let last = new.last().filter(|last| next == Some(last.prompt_idx));
        if let Some(&NewPrompt {
            prompt_idx, slot, ..
        }) = last
        {
            let len = self.requests[prompt_idx].prompt_tokens.len();
            self.cache.keep(slot, len);
            self.kept = Some(prompt_idx);
        }
    }

    /// The prompt of the next completion that waits.
    fn next_prompt(&self) -> Option<usize> {
        let next = self.waiting.as_slice().first()?;
        Some(next.prompt_idx)
    }

    fn prefill(&mut self, prompts: &[NewPrompt]) {
        // Bounds the memory of one forward pass.
        const MAX_TOKENS: usize = 16_384;
        let requests = self.requests;
        let prompt = |new: &NewPrompt| &*requests[new.prompt_idx].prompt_tokens;
        for now in by_tokens(prompts, MAX_TOKENS, |new| prompt(new).len()) {
            let tokens: Vec<u32> = now.iter().flat_map(prompt).copied().collect();
            let packing = Packing::new(now.iter().map(|new| prompt(new).len()));
            let slots: Vec<usize> = now.iter().map(|new| new.slot).collect();
            let hidden = self
                .model
                .prefill(&tokens, &packing, &slots, &mut self.cache);
            let last: Vec<i32> = packing.ranges().map(|range| range.end as i32 - 1).collect();
            let last = TensorData::new(last, [now.len()]);
            let last = Tensor::<B, 1, Int>::from_data(last, &hidden.device());
            let logits = read(self.model.logits(hidden.select(0, last)));
            let rows = logits.chunks_exact(self.model.config().vocab_size);
            for (new, row) in now.iter().zip(rows) {
                self.prompt_logits.insert(new.prompt_idx, row.to_vec());
            }
        }
    }

    /// Samples one token of every active completion; returns those that have ended.
    pub(super) fn step(
        &mut self,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<(Place, Completion)>, GenerateError> {
        let vocab_size = self.model.config().vocab_size;
        let mut decoding = Vec::new();
        for (i, slot) in self.slots.iter().enumerate() {
            if slot.as_ref().is_some_and(|slot| !slot.tokens.is_empty()) {
                decoding.push(i);
            }
        }
        let logits = self.decode(&decoding);
        let mut row_of = vec![None; self.slots.len()];
        for (row, &slot) in decoding.iter().enumerate() {
            row_of[slot] = Some(&logits[row * vocab_size..][..vocab_size]);
        }
        let (prompt_logits, options) = (&self.prompt_logits, self.options);
        let enders = Ends::new(self.model.config(), options, tokenizer).tokens();
        self.slots
            .par_iter_mut()
            .zip(row_of)
            .filter_map(|(slot, row)| slot.as_mut().map(|slot| (slot, row)))
            .try_for_each(|(slot, row)| {
                let prompt_idx = slot.place.prompt_idx;
                let row = row.unwrap_or_else(|| &prompt_logits[&prompt_idx]);
                let uniform = slot.rng.random::<f64>();
                let draw = if slot.tokens.len() < options.min_new_tokens {
                    sample_except(row, &enders, &options.sampling, uniform)
                } else {
                    sample(row, &options.sampling, uniform)
                };
                let Draw { token, logprob } = draw;
                if !logprob.is_finite() {
                    let n_tokens = slot.tokens.len();
                    return Err(GenerateError::NotFinite {
                        prompt_idx,
                        n_tokens,
                    });
                }
                slot.tokens.push(token);
                slot.logprobs.push(logprob);
                Ok(())
            })?;
        self.collect(tokenizer)
    }

    /// The logits after the last token of the given slots.
    fn decode(&mut self, slots: &[usize]) -> Vec<f32> {
        if slots.is_empty() {
            return Vec::new();
        }
        let active = |slot: usize| self.slots[slot].as_ref().expect("only active slots decode");
        let tokens: Vec<u32> = slots
            .iter()
            .map(|&s| {
                *active(s)
                    .tokens
                    .last()
                    .expect("a decoding slot has a token")
            })
            .collect();
        let positions: Vec<u32> = slots
            .iter()
            .map(|&s| {
                let prompt = &self.requests[active(s).place.prompt_idx].prompt_tokens;
                (prompt.len() + active(s).tokens.len() - 1) as u32
            })
            .collect();
        let rows = CacheRows {
            slots,
            positions: &positions,
        };
        read(
            self.model
                .logits(self.model.decode(&tokens, &rows, &mut self.cache)),
        )
    }

    /// Takes the completions that have ended out of their slots.
    fn collect(
        &mut self,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<(Place, Completion)>, GenerateError> {
        let mut finished = Vec::new();
        let ends = Ends::new(self.model.config(), self.options, tokenizer);
        for slot in &mut self.slots {
            let Some(active) = slot else { continue };
            let Some(stop) = ends.reason(&active.tokens)? else {
                continue;
            };
            let text = tokenizer.decode(&active.tokens)?;
            let Some(done) = slot.take() else { continue };
            let Slot {
                place,
                tokens,
                logprobs,
                ..
            } = done;
            finished.push((
                place,
                Completion {
                    tokens,
                    logprobs,
                    text,
                    stop,
                },
            ));
        }
        // Logits of a prompt are needed until its last sample has its first token, which it gets in the
        // step that follows its admission.
        let next = self.next_prompt();
        self.prompt_logits
            .retain(|prompt_idx, _| next == Some(*prompt_idx));
        Ok(finished)
    }
}

fn read<B: DecodeBackend>(logits: Tensor<B, 2>) -> Vec<f32> {
    logits
        .into_data()
        .convert::<f32>()
        .into_vec()
        .expect("f32 data is a vector of f32")
}
