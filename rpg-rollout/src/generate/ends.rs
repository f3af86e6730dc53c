//! What ends a completion.

use super::options::GenerateOptions;
use rpg_core::StopReason;
use rpg_core::model::ModelConfig;
use rpg_core::tokenizer::{Tokenizer, TokenizerError};

/// What ends the completions of a rollout.
pub(crate) struct Ends<'a> {
    eos: Vec<u32>,
    tokens: Vec<u32>,
    texts: Vec<&'a str>,
    max_new_tokens: usize,
    tokenizer: &'a Tokenizer,
}

impl<'a> Ends<'a> {
    /// The model's end-of-sequence tokens and the tokenizer's, and what the caller asked for: a special token, which
    /// no text contains, is looked for as a token.
    pub(crate) fn new(
        model: &ModelConfig,
        options: &'a GenerateOptions,
        tokenizer: &'a Tokenizer,
    ) -> Self {
        let mut eos = Vec::new();
        if !options.ignore_eos {
            eos.extend(&model.eos_token_ids);
            let own = tokenizer.eos_id();
            eos.extend(own.filter(|&id| (id as usize) < model.vocab_size && !eos.contains(&id)));
        }
        let mut tokens = options.stop_token_ids.clone();
        let mut texts = Vec::new();
        for text in &options.stop_strings {
            match tokenizer.special_id(text) {
                Some(id) => tokens.push(id),
                None => texts.push(text.as_str()),
            }
        }
        tokens.retain(|&id| (id as usize) < model.vocab_size);
        Self {
            eos,
            tokens,
            texts,
            max_new_tokens: options.max_new_tokens,
            tokenizer,
        }
    }

    /// The tokens that end a completion.
    pub(crate) fn tokens(&self) -> Vec<u32> {
        [self.eos.as_slice(), &self.tokens].concat()
    }

    /// Why the completion ends with the last of these tokens, if it does.
    pub(crate) fn reason(&self, tokens: &[u32]) -> Result<Option<StopReason>, TokenizerError> {
        let last = tokens.last().expect("a token was just sampled");
        if self.eos.contains(last) {
            return Ok(Some(StopReason::Eos));
        }
        if self.tokens.contains(last) {
            return Ok(Some(StopReason::StopToken));
        }
        // Each token adds at least a byte, so a stop string that ends now began at most this many tokens ago.
        if let Some(longest) = self.texts.iter().map(|text| text.len()).max() {
            let recent = &tokens[tokens.len().saturating_sub(longest + 1)..];
            let text = self.tokenizer.decode(recent)?;
            if self.texts.iter().any(|stop| text.contains(stop)) {
                return Ok(Some(StopReason::StopString));
            }
        }
        Ok((tokens.len() >= self.max_new_tokens).then_some(StopReason::Length))
    }
}
