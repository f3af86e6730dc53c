//! The tokenizer of a GGUF file, as `tokenizer.json` and `tokenizer_config.json`.

use super::{GgufError, GgufFile, integer, number, text};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// How a text is split before byte pairs are merged, by llama.cpp's names for it.
const CUTS: [(&[&str], Cut); 5] = [
    (&["default", "gpt-2"], Cut::Gpt2),
    (&["smollm"], Cut::Digits),
    (&["llama-bpe", "llama3", "llama-v3"], Cut::Regex(LLAMA3)),
    (&["qwen2", "deepseek-r1-qwen"], Cut::Regex(QWEN2)),
    (&["tekken"], Cut::Regex(TEKKEN)),
];

// The expressions in the `tokenizer.json` of Llama 3, Qwen2 and Mistral Nemo.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// No merges are derived for longer pieces: SentencePiece makes none.
const LONGEST_PIECE: usize = 128;

#[derive(Clone, Copy)]
enum Cut {
    /// GPT-2's words.
    Gpt2,
    /// The same, with each digit by itself.
    Digits,
    /// Words as this expression matches them.
    Regex(&'static str),
}

impl Cut {
    fn pre_tokenizer(self) -> Value {
        let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let sequence = |first: Value, second: Value| json!({"type": "Sequence", "pretokenizers": [first, second]});
        match self {
            Cut::Gpt2 => bytes(true),
            Cut::Digits => sequence(
                json!({"type": "Digits", "individual_digits": true}),
                bytes(true),
            ),
            Cut::Regex(regex) => sequence(
                json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false}),
                bytes(false),
            ),
        }
    }
}

/// Kinds of tokens, as llama.cpp numbers them.
mod kind {
    pub(super) const UNKNOWN: u64 = 2;
    pub(super) const CONTROL: u64 = 3;
    pub(super) const USER_DEFINED: u64 = 4;
    pub(super) const UNUSED: u64 = 5;
}

/// A tokenizer as Hugging Face's files.
pub(crate) struct TokenizerFiles {
    pub(crate) tokenizer_json: String,
    pub(crate) tokenizer_config_json: String,
}

impl GgufFile {
    /// The tokenizer as Hugging Face stores it.
    pub(crate) fn tokenizer_files(&self) -> Result<TokenizerFiles, GgufError> {
        let model_key = "tokenizer.ggml.model";
        let expected = "gpt2 (byte-level BPE) or llama (SentencePiece BPE)";
        let vocabulary = Vocabulary::read(self)?;
        let mut json = match self.text(model_key)? {
            Some("gpt2") => self.byte_level(&vocabulary)?,
            Some("llama") => self.sentence_piece(&vocabulary)?,
            Some(found) => {
                return Err(self.key_error(model_key, format!("found {found:?}"), expected));
            }
            None => return Err(self.missing(model_key, expected)),
        };
        json["version"] = "1.0".into();
        json["added_tokens"] = vocabulary.added();
        let mut settings = Map::new();
        settings.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        settings.insert("clean_up_tokenization_spaces".into(), false.into());
        for (setting, key) in [
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("pad_token", "padding"),
        ] {
            if let Some(id) = self.special(&vocabulary, key)? {
                settings.insert(setting.into(), vocabulary.tokens[id as usize].into());
            }
        }
        if let Some(template) = self.text("tokenizer.chat_template")? {
            settings.insert("chat_template".into(), template.into());
        }
        Ok(TokenizerFiles {
            tokenizer_json: json.to_string(),
            tokenizer_config_json: format!("{:#}\n", Value::Object(settings)),
        })
    }

    /// Byte-level BPE with its list of merges: GPT-2, Llama 3, Qwen, SmolLM2.
    fn byte_level(&self, vocabulary: &Vocabulary) -> Result<Value, GgufError> {
        let key = "tokenizer.ggml.pre";
        let name = self.text(key)?.unwrap_or("default");
        let cut = CUTS.iter().find(|(names, _)| names.contains(&name));
        let Some((_, cut)) = cut else {
            let names: Vec<&str> = CUTS.iter().flat_map(|(names, _)| *names).copied().collect();
            let expected = format!("one of {}", names.join(", "));
            return Err(self.key_error(key, format!("found {name:?}"), &expected));
        };
        // Words that are in the vocabulary are not split, and texts begin with a token.
        let is_tiktoken = matches!(cut, Cut::Regex(LLAMA3 | TEKKEN));
        let key = "tokenizer.ggml.merges";
        let merges = self.list(key, "a list of texts", text)?;
        let merges = merges.ok_or_else(|| self.missing(key, "a list of texts"))?;
        let is_qwen = matches!(cut, Cut::Regex(QWEN2));
        Ok(json!({
            "normalizer": is_qwen.then(|| json!({"type": "NFC"})),
            "pre_tokenizer": cut.pre_tokenizer(),
            "post_processor": self.post_processor(vocabulary, is_tiktoken)?,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE",
                "ignore_merges": is_tiktoken,
                "vocab": vocabulary.ids(),
                "merges": merges,
            },
        }))
    }

    /// BPE over characters with scores, as SentencePiece trains it: Llama 2, Mistral.
    fn sentence_piece(&self, vocabulary: &Vocabulary) -> Result<Value, GgufError> {
        let key = "tokenizer.ggml.scores";
        let scores = self.list(key, "a list of numbers", number)?;
        let scores = scores.ok_or_else(|| self.missing(key, "a list of numbers"))?;
        if scores.len() != vocabulary.tokens.len() {
            let found = format!("found a list of {}", scores.len());
            let expected = format!("a score for each of {} tokens", vocabulary.tokens.len());
            return Err(self.key_error(key, found, &expected));
        }
        let has_prefix = self
            .flag("tokenizer.ggml.add_space_prefix")?
            .unwrap_or(true);
        let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let mut normalizers = vec![space];
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if has_prefix {
            normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let unknown = self.special(vocabulary, "unknown")?;
        Ok(json!({
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": null,
            "post_processor": self.post_processor(vocabulary, true)?,
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {
                "type": "BPE",
                "unk_token": unknown.map(|id| vocabulary.tokens[id as usize]),
                "fuse_unk": true,
                "byte_fallback": true,
                "ignore_merges": false,
                "vocab": vocabulary.ids(),
                "merges": vocabulary.merges(&scores),
            },
        }))
    }

    /// The tokens that are put before and after a text, if the file says so.
    fn post_processor(
        &self,
        vocabulary: &Vocabulary,
        begins_by_default: bool,
    ) -> Result<Value, GgufError> {
        let mut single = vec![json!({"Sequence": {"id": "A", "type_id": 0}})];
        let mut pair = vec![
            json!({"Sequence": {"id": "A", "type_id": 0}}),
            json!({"Sequence": {"id": "B", "type_id": 0}}),
        ];
        let mut special_tokens = Map::new();
        for (name, by_default) in [("bos", begins_by_default), ("eos", false)] {
            let asked = self.flag(&format!("tokenizer.ggml.add_{name}_token"))?;
            let Some(id) = self
                .special(vocabulary, name)?
                .filter(|_| asked.unwrap_or(by_default))
            else {
                continue;
            };
            let token = vocabulary.tokens[id as usize];
            special_tokens.insert(
                token.into(),
                json!({"id": token, "ids": [id], "tokens": [token]}),
            );
            for sequence in [&mut single, &mut pair] {
                let at = if name == "bos" { 0 } else { sequence.len() };
                sequence.insert(at, json!({"SpecialToken": {"id": token, "type_id": 0}}));
            }
        }
        Ok(if special_tokens.is_empty() {
            Value::Null
        } else {
            json!({
                "type": "TemplateProcessing",
                "single": single,
                "pair": pair,
                "special_tokens": special_tokens,
            })
        })
    }

    fn special(&self, vocabulary: &Vocabulary, name: &str) -> Result<Option<u32>, GgufError> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let expected = format!("the id of one of {} tokens", vocabulary.tokens.len());
        self.read(&key, &expected, |value| {
            let id = u32::try_from(integer(value)?).ok()?;
            ((id as usize) < vocabulary.tokens.len()).then_some(id)
        })
    }
}

/// The tokens, and the kind of each.
struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<u64>,
}

impl<'a> Vocabulary<'a> {
    fn read(file: &'a GgufFile) -> Result<Self, GgufError> {
        let key = "tokenizer.ggml.tokens";
        let tokens = file.list(key, "a list of texts", text)?;
        let tokens = tokens.ok_or_else(|| file.missing(key, "a list of texts"))?;
        let key = "tokenizer.ggml.token_type";
        let kinds = file.list(key, "a list of integers", integer)?;
        let kinds = kinds.unwrap_or_default();
        if !kinds.is_empty() && kinds.len() != tokens.len() {
            let found = format!("found a list of {}", kinds.len());
            let expected = format!("a type for each of {} tokens", tokens.len());
            return Err(file.key_error(key, found, &expected));
        }
        Ok(Self { tokens, kinds })
    }

    fn is(&self, id: usize, kind: u64) -> bool {
        self.kinds.get(id) == Some(&kind)
    }

    /// Every token's id, without the unused ones that only fill the table.
    fn ids(&self) -> Map<String, Value> {
        let used = (0..self.tokens.len()).filter(|&id| !self.is(id, kind::UNUSED));
        used.map(|id| (self.tokens[id].to_owned(), id.into()))
            .collect()
    }

    /// The tokens that are found in a text before anything else, and whether decoding hides them.
    fn added(&self) -> Value {
        let all = (0..self.tokens.len()).filter_map(|id| {
            let special = self.is(id, kind::CONTROL) || self.is(id, kind::UNKNOWN);
            (special || self.is(id, kind::USER_DEFINED)).then(|| {
                json!({
                    "id": id, "content": self.tokens[id], "special": special,
                    "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                })
            })
        });
        all.collect()
    }

    /// The merges that a table of scores implies: every way to make a token from two others, tokens with higher
    /// scores first.
    fn merges(&self, scores: &[f64]) -> Vec<[&'a str; 2]> {
        let ids: HashMap<&str, usize> = self
            .tokens
            .iter()
            .enumerate()
            .map(|(id, token)| (*token, id))
            .collect();
        let mut merges = Vec::new();
        for (id, token) in self.tokens.iter().enumerate() {
            let is_added = [
                kind::CONTROL,
                kind::UNKNOWN,
                kind::USER_DEFINED,
                kind::UNUSED,
            ]
            .iter()
            .any(|&kind| self.is(id, kind));
            if is_added || token.len() > LONGEST_PIECE {
                continue;
            }
            let mut ways: Vec<_> = token
                .char_indices()
                .skip(1)
                .filter_map(|(at, _)| {
                    let (left, right) = token.split_at(at);
                    Some(((*ids.get(left)?, *ids.get(right)?), [left, right]))
                })
                .collect();
            ways.sort_by_key(|(ids, _)| *ids);
            merges.extend(ways.into_iter().map(|(_, pair)| (scores[id], pair)));
        }
        let length = |text: &str| text.chars().count();
        merges.sort_by(|(score_a, a), (score_b, b)| {
            score_b
                .total_cmp(score_a)
                .then_with(|| length(b[0]).cmp(&length(a[0])))
                .then_with(|| length(b[1]).cmp(&length(a[1])))
        });
        merges.into_iter().map(|(_, pair)| pair).collect()
    }
}
