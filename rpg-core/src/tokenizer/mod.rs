//! The tokenizer of a Hugging Face folder or a GGUF file, with its chat template.

mod added;
mod control;
mod pieces;

#[cfg(feature = "chat")]
use crate::chat::{ChatTemplate, TemplateError};
use crate::files::{POINTER, is_pointer, python_json};
#[cfg(feature = "gguf")]
use crate::gguf::{GgufError, GgufFile};
use crate::problem::{Message, Prompt};
use added::{add_tokens, added_tokens, special_token};
use serde_json::Value;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
#[cfg(feature = "chat")]
use std::sync::Arc;
use std::sync::OnceLock;
use tokenizers::Encoding;

/// The files of a tokenizer in a model folder; they are copied from checkpoint to checkpoint.
pub const FILES: &[&str] = &[
    VOCABULARY,
    SETTINGS,
    SPECIAL,
    ADDED,
    TEMPLATE,
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];

const VOCABULARY: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";
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
    /// The folder has a tokenizer in another form.
    #[error(
        "{}: its tokenizer is in {found}; expected tokenizer.json, which \
         AutoTokenizer.from_pretrained(...).save_pretrained(...) of transformers writes",
        dir.display()
    )]
    OtherForm {
        /// The folder.
        dir: PathBuf,
        /// The file of the tokenizer.
        found: &'static str,
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
    Template(#[from] Arc<TemplateError>),
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

/// Files of tokenizers that are not read.
const OTHER_FORMS: [&str; 6] = [
    "tokenizer.model",
    "tekken.json",
    "spiece.model",
    "qwen.tiktoken",
    "vocab.json",
    "vocab.txt",
];

/// The file of a tokenizer in another form, if the folder has one.
fn other_form(dir: &Path) -> Option<&'static str> {
    let mut files = OTHER_FORMS.into_iter();
    files.find(|name| dir.join(name).exists())
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
    // A template that is wrong is an error where it is needed: not everything needs it.
    #[cfg(feature = "chat")]
    template: Option<Result<ChatTemplate, Arc<TemplateError>>>,
    // The same, except that special tokens in a text are text; made where it is needed.
    plain: OnceLock<Box<tokenizers::Tokenizer>>,
    special: Vec<String>,
    eos_id: Option<u32>,
    max_id: u32,
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
                Err(e) if e.kind() == ErrorKind::NotFound && name != VOCABULARY => {}
                Err(source) => {
                    let found = other_form(dir).filter(|_| source.kind() == ErrorKind::NotFound);
                    return Err(match found {
                        Some(found) => TokenizerError::OtherForm {
                            dir: dir.to_owned(),
                            found,
                        },
                        None => TokenizerError::Io { path, source },
                    });
                }
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
        if let Some((name, _)) = files.iter().find(|(_, bytes)| is_pointer(bytes)) {
            return Err(format(name, POINTER.into()));
        }
        let json = file(VOCABULARY).map_or(&[] as &[u8], |bytes| bytes);
        let mut inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|e| format(VOCABULARY, e.to_string()))?;
        // Prompts are never truncated or padded silently, whatever the file says.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| format(VOCABULARY, e.to_string()))?;
        let parsed = |name: &str| -> Result<Value, TokenizerError> {
            let Some(bytes) = file(name) else {
                return Ok(Value::Null);
            };
            let text =
                std::str::from_utf8(bytes).map_err(|e| format(name, format!("not UTF-8: {e}")))?;
            serde_json::from_str(&python_json(text)).map_err(|e| format(name, e.to_string()))
        };
        let max_id = inner.get_vocab(true).into_values().max().unwrap_or(0);
        let (settings, special) = (parsed(SETTINGS)?, parsed(SPECIAL)?);
        let added = added_tokens(&settings, &special, &parsed(ADDED)?);
        add_tokens(
            &mut inner,
            added.map_err(|(name, message)| format(name, message))?,
        )
        .map_err(|(name, message)| format(name, message))?;
        let eos = special_token(&settings, "eos_token").or(special_token(&special, "eos_token"));
        let eos_id = eos.and_then(|token| inner.token_to_id(token));
        #[cfg(feature = "chat")]
        let template = {
            let separate = match file(TEMPLATE) {
                Some(bytes) => Some(
                    String::from_utf8(bytes.clone())
                        .map_err(|e| format(TEMPLATE, e.to_string()))?,
                ),
                None => None,
            };
            ChatTemplate::from_settings(&settings, separate)
                .map_err(Arc::new)
                .transpose()
        };
        let tokens = inner.get_added_tokens_decoder();
        let special = tokens
            .into_values()
            .filter(|token| token.special && !token.content.is_empty());
        let special = special.map(|token| token.content).collect();
        Ok(Self {
            inner,
            plain: OnceLock::new(),
            special,
            #[cfg(feature = "chat")]
            template,
            eos_id,
            max_id,
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

    /// The largest token id of `tokenizer.json`.
    pub fn max_id(&self) -> u32 {
        self.max_id
    }

    /// The token that ends a text, `eos_token`. It may be another than those that the model's config names.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos_id
    }

    /// The first special token that a text contains. Decoded text never does.
    pub fn special_token_in(&self, text: &str) -> Option<String> {
        control::first(text, &self.special).map(|(_, token)| token.to_owned())
    }

    /// The id of a token that decoded text does not contain, if the text is one.
    pub fn special_id(&self, text: &str) -> Option<u32> {
        let added = self.inner.get_added_vocabulary();
        if added.is_special_token(text) {
            self.token_id(text)
        } else {
            None
        }
    }

    /// The id of a token, if there is one of that spelling.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The spelling of a token, if there is one of that id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
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
        if let Some(Ok(template)) = &mut self.template {
            template.set_thinking(enabled);
        }
    }

    /// The day that the chat template may write into a prompt: see [`ChatTemplate::set_date`].
    #[cfg(feature = "chat")]
    pub fn set_date(&mut self, date: jiff::civil::Date) {
        if let Some(Ok(template)) = &mut self.template {
            template.set_date(date);
        }
    }

    /// The tokens of a prompt: of a text, with the special tokens that the tokenizer adds; of a conversation,
    /// through the chat template, up to where the policy's answer begins. If its last message is the assistant's, that
    /// message is continued.
    ///
    /// In a conversation, only the template writes special tokens: those in messages are encoded as text
    /// (`sanitize_control_tokens` of transformers). A text is encoded as it is.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, TokenizerError> {
        match prompt {
            Prompt::Text(text) => self.encode(text, true),
            Prompt::Chat(messages) => Ok(self.encode_chat(messages, "")?.tokens),
        }
    }

    /// A conversation as text, up to where the policy's answer begins.
    pub fn render(&self, messages: &[Message]) -> Result<String, TokenizerError> {
        self.render_marked(messages).map(control::unmarked)
    }

    /// The same, with marks around the special tokens of messages.
    fn render_marked(&self, messages: &[Message]) -> Result<String, TokenizerError> {
        #[cfg(feature = "chat")]
        if let Some(template) = &self.template {
            let template = template.as_ref().map_err(Arc::clone)?;
            let marked = |message: &Message| Message {
                role: message.role,
                content: control::mark(&message.content, &self.special).into_owned(),
            };
            let messages: Vec<Message> = messages.iter().map(marked).collect();
            return Ok(template.render(&messages).map_err(Arc::new)?);
        }
        let _ = messages;
        Err(TokenizerError::NoTemplate)
    }

    /// The tokens of a conversation and the completion that follows it, as [`encode_prompt`](Self::encode_prompt) and
    /// [`encode_pair`](Self::encode_pair) encode them.
    pub fn encode_chat(
        &self,
        messages: &[Message],
        completion: &str,
    ) -> Result<Pair, TokenizerError> {
        let text = self.render_marked(messages)?;
        let mut pieces = control::pieces(&text);
        let last = pieces.pop().map_or("", |(last, _)| last);
        if pieces.is_empty() {
            return self.encode_pair(last, completion, false);
        }
        let mut tokens = Vec::new();
        for (i, (piece, is_text)) in pieces.into_iter().enumerate() {
            let inner = if is_text { self.plain() } else { &self.inner };
            let piece_tokens = match i {
                0 => encoded(inner, piece)?,
                _ => encoded_within(inner, piece)?,
            };
            if is_text
                && piece_tokens
                    .iter()
                    .any(|&t| self.token_id(piece) == Some(t))
            {
                return Err(TokenizerError::Encode(format!(
                    "a message contains the control token {piece}, of which the tokenizer makes the token even in a text"
                )));
            }
            tokens.extend(piece_tokens);
        }
        // As after other text: SentencePiece begins a text with a space.
        let newline = encoded(&self.inner, "\n")?;
        let mut pair = self.encode_pair(&format!("\n{last}"), completion, false)?;
        if pair.tokens.starts_with(&newline) && pair.n_prompt >= newline.len() {
            pair.tokens.drain(..newline.len());
            pair.n_prompt -= newline.len();
        } else {
            pair = self.encode_pair(last, completion, false)?;
        }
        pair.n_prompt += tokens.len();
        tokens.append(&mut pair.tokens);
        Ok(Pair { tokens, ..pair })
    }

    /// The tokenizer for which special tokens are text.
    fn plain(&self) -> &tokenizers::Tokenizer {
        self.plain.get_or_init(|| {
            let mut plain = self.inner.clone();
            plain.set_encode_special_tokens(true);
            Box::new(plain)
        })
    }

    /// The tokens of a text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, add_special);
        ids(encoding)
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

fn ids(encoding: tokenizers::Result<Encoding>) -> Result<Vec<u32>, TokenizerError> {
    let encoding = encoding.map_err(|e| TokenizerError::Encode(e.to_string()))?;
    Ok(encoding.get_ids().to_vec())
}

fn encoded(inner: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>, TokenizerError> {
    ids(inner.encode_fast(text, false))
}

/// The tokens of a text that follows other text: after a newline, which is then removed, so that SentencePiece does not
/// begin it with a space.
fn encoded_within(inner: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>, TokenizerError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let newline = encoded(inner, "\n")?;
    let mut tokens = encoded(inner, &format!("\n{text}"))?;
    if !tokens.starts_with(&newline) {
        return encoded(inner, text);
    }
    tokens.drain(..newline.len());
    Ok(tokens)
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
