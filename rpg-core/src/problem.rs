//! A problem: what the policy is asked and what the grader expects.

use serde::{Deserialize, Serialize};

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
}
