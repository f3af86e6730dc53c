//! A problem: what the policy is asked and what the grader expects.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Who speaks in a chat message, by the names that chat templates use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// Instructions before the conversation.
    System,
    /// Whoever asks.
    User,
    /// The policy.
    Assistant,
}

impl Role {
    /// The name that chat templates compare with.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self {
            role: Role::User,
            content: content.into(),
        }
    }

    /// A message of the assistant.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self {
            role: Role::Assistant,
            content: content.into(),
        }
    }

    /// A system message.
    pub fn system(content: impl Into<String>) -> Self {
        Self {
            role: Role::System,
            content: content.into(),
        }
    }
}

/// What the policy continues.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// Text that is tokenised as it is.
    Text(String),
    /// A conversation that the model's chat template renders.
    Chat(Vec<Message>),
}

impl Prompt {
    /// The text of the prompt, or of the last message: what somebody who reads samples wants to see.
    pub fn readable(&self) -> &str {
        match self {
            Prompt::Text(text) => text,
            Prompt::Chat(messages) => messages.last().map_or("", |message| &message.content),
        }
    }
}

/// Columns of a data set's row by their names, for whoever scores completions: a JSON object without white space, kept as
/// text. There may be millions of rows, and maps of values would take several times the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(Box<str>);

impl Columns {
    /// Columns with these values, of which every digit is kept.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, &'a RawValue)>) -> Self {
        let mut text = String::from("{");
        for (name, value) in columns {
            if text.len() > 1 {
                text.push(',');
            }
            text += &serde_json::Value::from(name).to_string();
            text.push(':');
            add_compact(value.get(), &mut text);
        }
        text.push('}');
        Self(text.into())
    }

    /// The object as text.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// Adds the text of a JSON value without the white space between its parts.
fn add_compact(json: &str, text: &mut String) {
    let (mut is_string, mut is_escaped) = (false, false);
    for c in json.chars() {
        if is_string || !c.is_ascii_whitespace() {
            text.push(c);
        }
        match c {
            '"' if !is_escaped => is_string = !is_string,
            _ => {}
        }
        is_escaped = c == '\\' && !is_escaped;
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value: Box<RawValue> = Box::deserialize(deserializer)?;
        if !value.get().starts_with('{') {
            return Err(D::Error::custom("expected an object of columns"));
        }
        let mut text = String::new();
        add_compact(value.get(), &mut text);
        Ok(Self(text.into()))
    }
}

/// One task with a verifiable answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A name that is unique within its data set, such as `singleop.jsonl:17`.
    pub id: String,
    /// The data set that it comes from; metrics are reported by source.
    pub data_source: String,
    /// What the policy is given.
    pub prompt: Prompt,
    /// The expected answer, as the grader reads it.
    pub answer: String,
    /// Other columns of the row that it comes from, if any were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Columns>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_kept_as_they_are_written() {
        let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        for (name, json, expected) in [
            (
                "n",
                "12345678901234567890.10",
                r#"{"n":12345678901234567890.10}"#,
            ),
            ("a b", r#""x  \" y \\""#, r#"{"a b":"x  \" y \\"}"#),
            (
                "q\"",
                "[ 1,\t{ \"k 1\" : null } ]",
                r#"{"q\"":[1,{"k 1":null}]}"#,
            ),
            ("e", r#""\\"  "#, r#"{"e":"\\"}"#),
        ] {
            let value = raw(json);
            let columns = Columns::new([(name, &*value)]);
            assert_eq!(columns.as_json(), expected);
            let written = serde_json::to_string(&columns).unwrap();
            assert_eq!(written, expected);
            let again: Columns = serde_json::from_str(&format!(" {written}")).unwrap();
            assert_eq!(again, columns);
        }
        let (one, two) = (raw("1"), raw("[]"));
        let columns = Columns::new([("a", &*one), ("b.c", &*two)]);
        assert_eq!(columns.as_json(), r#"{"a":1,"b.c":[]}"#);
        assert_eq!(Columns::new([]).as_json(), "{}");
        assert!(serde_json::from_str::<Columns>("[1]").is_err());
    }

    #[test]
    fn a_problem_without_columns_is_written_without_them() {
        let json = r#"{"id":"1","data_source":"s","prompt":"q","answer":"a"}"#;
        let problem: Problem = serde_json::from_str(json).unwrap();
        assert_eq!(problem.columns, None);
        assert_eq!(serde_json::to_string(&problem).unwrap(), json);
        let json = r#"{"id":"1","data_source":"s","prompt":"q","answer":"a","columns":{"x":[1]}}"#;
        let problem: Problem = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&problem).unwrap(), json);
    }
}
