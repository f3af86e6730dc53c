//! From the question of a row to the prompt of a problem.

use crate::config::DataSource;
use rpg_core::tokenizer::Tokenizer;
use rpg_core::{Message, Problem, Prompt, Role};
use rpg_reward::AnswerStyle;

/// Adds what the config says to a question, before and after it: as a chat if the model has a template for one, otherwise
/// as paragraphs. A prompt that is a list of messages is complete; without a template it becomes text too, unless the
/// assistant speaks in it.
pub(super) fn styled(mut problem: Problem, source: &DataSource, tokenizer: &Tokenizer) -> Problem {
    let (messages, is_text) = match problem.prompt {
        Prompt::Text(question) => (messages(&question, source), true),
        Prompt::Chat(messages) => {
            let is_text = messages.iter().all(|m| m.role != Role::Assistant);
            (messages, is_text)
        }
    };
    problem.prompt = if is_text && !tokenizer.has_chat_template() {
        let texts: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
        Prompt::Text(texts.join("\n\n"))
    } else {
        Prompt::Chat(messages)
    };
    problem
}

/// The system message, the worked examples and the question, of which the prefix and the instruction are a part: so they
/// are of the questions of the examples.
fn messages(question: &str, source: &DataSource) -> Vec<Message> {
    let asked = |question: &str| {
        let parts = [
            source.prefix.as_deref(),
            Some(question),
            instruction(source),
        ];
        Message::user(parts.into_iter().flatten().collect::<Vec<_>>().join("\n"))
    };
    let mut messages: Vec<Message> = source.system_prompt.iter().map(Message::system).collect();
    for example in source.examples.iter().flat_map(|examples| &examples.0) {
        messages.push(asked(&example.question));
        messages.push(Message::assistant(&example.answer));
    }
    messages.push(asked(question));
    messages
}

fn instruction(source: &DataSource) -> Option<&str> {
    let style = source.answer_style.as_ref().map(AnswerStyle::instruction);
    source.instruction.as_deref().or(style)
}

/// A note on prompts to which nothing is added though the config has something to add.
pub(super) fn note_on_messages(
    name: &str,
    problems: &[Problem],
    source: &DataSource,
) -> Option<String> {
    let is_chat = |problem: &&Problem| matches!(problem.prompt, Prompt::Chat(_));
    let n = problems.iter().filter(is_chat).count();
    let given: Vec<&str> = [
        ("data.system_prompt", source.system_prompt.is_some()),
        ("data.examples", source.examples.is_some()),
        ("data.prefix", source.prefix.is_some()),
        ("data.instruction", source.instruction.is_some()),
        (
            "data.answer_style",
            source.instruction.is_none() && source.answer_style.is_some(),
        ),
    ]
    .into_iter()
    .filter_map(|(key, is_given)| is_given.then_some(key))
    .collect();
    (n > 0 && !given.is_empty()).then(|| {
        format!(
            "{name}: {n} of {} prompts are lists of messages, which are taken as they are: nothing is added for {} \
             (data.columns.question can name a column with the bare question)",
            problems.len(),
            given.join(" and ")
        )
    })
}
