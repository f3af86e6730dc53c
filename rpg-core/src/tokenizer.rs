//! The tokenizer of a Hugging Face folder or a GGUF file, with its chat template.

#[cfg(feature = "chat")]
use crate::chat::{ChatTemplate, TemplateError};
#[cfg(feature = "gguf")]
use crate::gguf::{GgufError, GgufFile};
use crate::problem::{Message, Prompt};
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a tokenizer in a model folder; they are copied from checkpoint to checkpoint.
pub const FILES: &[&str] = &[
    VOCABULARY,
    SETTINGS,
    "special_tokens_map.json",
    "added_tokens.json",
    TEMPLATE,
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];

const VOCABULARY: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";

/// Why a tokenizer cannot be loaded or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// `tokenizer.json` is damaged.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A GGUF file has no usable tokenizer.
    #[cfg(feature = "gguf")]
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The chat template cannot be compiled or rendered.
    #[cfg(feature = "chat")]
    #[error("chat template: {0}")]
    Template(#[from] TemplateError),
    /// The prompt is a conversation, and the model has no template for one or the feature `chat` is off.
    #[error("the model has no chat template, and the prompt is a conversation")]
    NoTemplate,
    /// The tokenizer refuses the text.
    #[error("cannot tokenize: {0}")]
    Encode(String),
    /// The tokenizer refuses the tokens.
    #[error("cannot decode tokens: {0}")]
    Decode(String),
}

/// A prompt and its completion as tokens: see [`Tokenizer::encode_pair`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pair {
    /// The tokens of both.
    pub tokens: Vec<u32>,
    /// How many belong to the prompt.
    pub n_prompt: usize,
    /// Whether no token has parts of both, and the completion has no whitespace of the prompt's.
    pub is_split_between: bool,
}

/// Text to tokens and back.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    #[cfg(feature = "chat")]
    template: Option<ChatTemplate>,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, where there is one, the chat template of a model folder.
    pub fn load(dir: &Path) -> Result<Self, TokenizerError> {
        let mut files = Vec::new();
        for &name in FILES {
            let path = dir.join(name);
            match fs::read(&path) {
                Ok(bytes) => files.push((name, bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && name != VOCABULARY => {}
                Err(source) => return Err(TokenizerError::Io { path, source }),
            }
        }
        Self::from_files(dir, files)
    }

    /// The tokenizer and the chat template of a GGUF file.
    #[cfg(feature = "gguf")]
    pub fn from_gguf(file: &GgufFile) -> Result<Self, TokenizerError> {
        let made = file.tokenizer_files()?;
        let files = vec![
            (VOCABULARY, made.tokenizer_json.into_bytes()),
            (SETTINGS, made.tokenizer_config_json.into_bytes()),
        ];
        Self::from_files(file.path(), files)
    }

    /// A tokenizer from the contents of a `tokenizer.json` and, if given, a `tokenizer_config.json`.
    pub fn from_json(json: &str, settings: Option<&str>) -> Result<Self, TokenizerError> {
        let mut files = vec![(VOCABULARY, json.as_bytes().to_vec())];
        files.extend(settings.map(|text| (SETTINGS, text.as_bytes().to_vec())));
        Self::from_files(Path::new(""), files)
    }

    fn from_files(dir: &Path, files: Vec<(&'static str, Vec<u8>)>) -> Result<Self, TokenizerError> {
        let file = |name: &str| {
            files
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, bytes)| bytes)
        };
        let format = |name: &str, message: String| TokenizerError::Format {
            path: dir.join(name),
            message,
        };
        let json = file(VOCABULARY).map_or(&[] as &[u8], |bytes| bytes);
        let mut inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|e| format(VOCABULARY, e.to_string()))?;
        // Prompts are never truncated or padded silently, whatever the file says.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| format(VOCABULARY, e.to_string()))?;
        #[cfg(feature = "chat")]
        let template = {
            let settings: serde_json::Value = match file(SETTINGS) {
                Some(bytes) => {
                    serde_json::from_slice(bytes).map_err(|e| format(SETTINGS, e.to_string()))?
                }
                None => serde_json::Value::Null,
            };
            let separate = match file(TEMPLATE) {
                Some(bytes) => Some(
                    String::from_utf8(bytes.clone())
                        .map_err(|e| format(TEMPLATE, e.to_string()))?,
                ),
                None => None,
            };
            ChatTemplate::from_settings(&settings, separate)?
        };
        Ok(Self {
            inner,
            #[cfg(feature = "chat")]
            template,
            files,
        })
    }

    /// Writes the files that this tokenizer was read from.
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        self.files.iter().try_for_each(|(name, bytes)| {
            let path = dir.join(name);
            fs::write(&path, bytes).map_err(|source| TokenizerError::Io { path, source })
        })
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The largest token id.
    pub fn max_id(&self) -> u32 {
        self.inner.get_vocab(true).into_values().max().unwrap_or(0)
    }

    /// The id of a token, if there is one of that spelling.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether conversations can be rendered.
    pub fn has_chat_template(&self) -> bool {
        #[cfg(feature = "chat")]
        return self.template.is_some();
        #[cfg(not(feature = "chat"))]
        return false;
    }

    /// Turns the model's thinking on or off, if its chat template supports that (`enable_thinking`).
    #[cfg(feature = "chat")]
    pub fn set_thinking(&mut self, enabled: bool) {
        if let Some(template) = &mut self.template {
            template.set_thinking(enabled);
        }
    }

    /// The day that the chat template may write into a prompt: see [`ChatTemplate::set_date`].
    #[cfg(feature = "chat")]
    pub fn set_date(&mut self, date: jiff::civil::Date) {
        if let Some(template) = &mut self.template {
            template.set_date(date);
        }
    }

    /// The tokens of a prompt: of a text, with the special tokens that the tokenizer adds; of a conversation,
    /// through the chat template, up to where the policy's answer begins.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, TokenizerError> {
        match prompt {
            Prompt::Text(text) => self.encode(text, true),
            Prompt::Chat(messages) => self.encode(&self.render(messages)?, false),
        }
    }

    /// A conversation as text, up to where the policy's answer begins.
    pub fn render(&self, messages: &[Message]) -> Result<String, TokenizerError> {
        #[cfg(feature = "chat")]
        if let Some(template) = &self.template {
            return Ok(template.render(messages)?);
        }
        let _ = messages;
        Err(TokenizerError::NoTemplate)
    }

    /// The tokens of a text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, add_special);
        Ok(encoding
            .map_err(|e| TokenizerError::Encode(e.to_string()))?
            .get_ids()
            .to_vec())
    }

    /// The tokens of a prompt and its completion, encoded as the one text that they are.
    ///
    /// Where the tokens of the prompt alone begin the text's, the completion's are those that follow. Where they do not,
    /// because a token spans the boundary, the completion's begin with the first token that reaches beyond the prompt
    /// without the whitespace at its end: " 15" is part of the completion "15" of the prompt "7 + 8 = ".
    pub fn encode_pair(
        &self,
        prompt: &str,
        completion: &str,
        add_special: bool,
    ) -> Result<Pair, TokenizerError> {
        let open_ended = |text: &str| {
            let encoding = self.inner.encode(text, add_special);
            let encoding = encoding.map_err(|e| TokenizerError::Encode(e.to_string()))?;
            // Tokens that the tokenizer adds at the end of a text: the completion's end is not given.
            let mask = encoding.get_special_tokens_mask();
            let n = mask.iter().rposition(|&added| added == 0);
            let n = n.map_or(mask.len(), |last| last + 1);
            Ok::<_, TokenizerError>((
                encoding.get_ids()[..n].to_vec(),
                encoding.get_offsets()[..n].to_vec(),
            ))
        };
        let (alone, _) = open_ended(prompt)?;
        let (tokens, offsets) = open_ended(&format!("{prompt}{completion}"))?;
        if tokens.starts_with(&alone) {
            return Ok(Pair {
                tokens,
                n_prompt: alone.len(),
                is_split_between: true,
            });
        }
        let end = prompt.trim_end().len();
        let first = offsets.iter().position(|(_, to)| *to > end);
        let n_prompt = first.unwrap_or(tokens.len());
        let is_split_between = first.is_some_and(|first| offsets[first].0 >= prompt.len());
        Ok(Pair {
            tokens,
            n_prompt,
            is_split_between,
        })
    }

    /// The text of tokens, without special tokens.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        self.inner
            .decode(tokens, true)
            .map_err(|e| TokenizerError::Decode(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"version":"1.0","added_tokens":[],"normalizer":null,
        "pre_tokenizer":{"type":"Split","pattern":{"Regex":"[\\s\\S]"},"behavior":"Isolated","invert":false},
        "post_processor":null,"decoder":{"type":"Fuse"},"truncation":null,"padding":null,
        "model":{"type":"WordLevel","vocab":{"?":0,"a":1,"b":2,"\n":3},"unk_token":"?"}}"#;

    #[test]
    fn characters_round_trip() {
        let tokenizer = Tokenizer::from_json(JSON, None).unwrap();
        let tokens = tokenizer
            .encode_prompt(&Prompt::Text("ab\nba".into()))
            .unwrap();
        assert_eq!(tokens, [1, 2, 3, 2, 1]);
        assert_eq!(tokenizer.decode(&tokens).unwrap(), "ab\nba");
        assert_eq!((tokenizer.vocab_size(), tokenizer.max_id()), (4, 3));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let error = Tokenizer::load(Path::new("/nonexistent"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nonexistent/tokenizer.json"), "{error}");
        let error = Tokenizer::from_json("{", None).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
        let chat = Prompt::Chat(vec![Message::user("hi")]);
        let error = Tokenizer::from_json(JSON, None)
            .unwrap()
            .encode_prompt(&chat)
            .unwrap_err();
        assert!(matches!(error, TokenizerError::NoTemplate));
    }
}
