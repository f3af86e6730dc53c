//! The tokens that files beside `tokenizer.json` add.

use super::{ADDED, SETTINGS};
use serde_json::Value;
use std::collections::BTreeMap;
use tokenizers::AddedToken;

/// What is wrong with one of the files, by its name.
pub(super) type InFile = (&'static str, String);

/// A special token is a string, or an object with its `content`.
pub(super) fn special_token<'a>(settings: &'a Value, key: &str) -> Option<&'a str> {
    let value = &settings[key];
    value.as_str().or(value["content"].as_str())
}

/// The tokens that `tokenizer_config.json` and `added_tokens.json` add, by id, each with the file that does.
pub(super) fn added_tokens(
    settings: &Value,
    special: &Value,
    added: &Value,
) -> Result<BTreeMap<u64, (&'static str, AddedToken)>, InFile> {
    let mut tokens = BTreeMap::new();
    // As transformers reads the older file.
    for (content, id) in added.as_object().into_iter().flatten() {
        let expected = || format!("`{content}`: found {id}; expected a token id");
        let id = id.as_u64().ok_or_else(|| (ADDED, expected()))?;
        let is_special = [settings, special].iter().any(|file| {
            let keys = file.as_object().into_iter().flatten();
            let one = |(key, _): (&String, &Value)| {
                key.ends_with("_token") && special_token(file, key) == Some(content)
            };
            let listed = &file["additional_special_tokens"];
            let listed = listed.as_array().into_iter().flatten();
            let is_this = |v: &Value| v == content || v["content"] == *content;
            keys.into_iter().any(one) || listed.into_iter().any(is_this)
        });
        tokens.insert(id, (ADDED, AddedToken::from(content, is_special)));
    }
    let listed = settings["added_tokens_decoder"].as_object();
    for (id, token) in listed.into_iter().flatten() {
        let wrong = |what: &str| (SETTINGS, format!("`added_tokens_decoder.{id}`: {what}"));
        let id: u64 = id.parse().map_err(|_| wrong("expected a token id"))?;
        let content = token["content"].as_str();
        let content = content.ok_or_else(|| wrong("`content` is missing"))?;
        let flag = |key: &str| token[key].as_bool();
        let is_special = flag("special").unwrap_or(false);
        let token = AddedToken::from(content, is_special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!is_special));
        tokens.insert(id, (SETTINGS, token));
    }
    Ok(tokens)
}

/// Adds those tokens that `tokenizer.json` lacks, under their ids.
pub(super) fn add_tokens(
    inner: &mut tokenizers::Tokenizer,
    tokens: BTreeMap<u64, (&'static str, AddedToken)>,
) -> Result<(), InFile> {
    let present = inner.get_added_tokens_decoder();
    for (id, (file, token)) in tokens {
        let content = token.content.clone();
        if present.values().any(|token| token.content == content) {
            continue;
        }
        let added = inner.add_tokens([token]);
        added.map_err(|e| (file, format!("added token `{content}`: {e}")))?;
        let given = inner.token_to_id(&content).map(u64::from);
        if given != Some(id) {
            let given = given.map_or("none".into(), |given| given.to_string());
            let message = format!(
                "added token `{content}`: found the id {id}; expected {given}, the next that is free"
            );
            return Err((file, message));
        }
    }
    Ok(())
}
