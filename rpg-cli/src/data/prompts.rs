//! From the question of a row to the prompt of a problem.

use crate::config::DataSource;
use rpg_core::tokenizer::Tokenizer;
use rpg_core::{Message, Problem, Prompt, Role};
use rpg_reward::AnswerStyle;
use std::path::Path;

/// Adds the instruction and the system message to a question: as a chat if the model has a template for one. A prompt that
/// is a list of messages is complete; without a template it becomes text too.
pub(super) fn styled(mut problem: Problem, source: &DataSource, tokenizer: &Tokenizer) -> Problem {
    problem.prompt = match problem.prompt {
        Prompt::Text(question) => Prompt::Chat(messages(question, source)),
        chat => chat,
    };
    if tokenizer.has_chat_template() {
        return problem;
    }
    if let Prompt::Chat(messages) = &problem.prompt
        && messages
            .iter()
            .all(|message| message.role != Role::Assistant)
    {
        let texts: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
        problem.prompt = Prompt::Text(texts.join("\n\n"));
    }
    problem
}

fn messages(question: String, source: &DataSource) -> Vec<Message> {
    let text = match instruction(source) {
        Some(instruction) => format!("{question}\n{instruction}"),
        None => question,
    };
    let system = source.system_prompt.iter().map(Message::system);
    system.chain([Message::user(text)]).collect()
}

fn instruction(source: &DataSource) -> Option<&str> {
    let style = source.answer_style.as_ref().map(AnswerStyle::instruction);
    source.instruction.as_deref().or(style)
}

/// A note on prompts to which nothing is added though the config has something to add.
pub(super) fn note_on_messages(
    path: &Path,
    problems: &[Problem],
    source: &DataSource,
) -> Option<String> {
    let is_chat = |problem: &&Problem| matches!(problem.prompt, Prompt::Chat(_));
    let n = problems.iter().filter(is_chat).count();
    let given: Vec<&str> = [
        ("data.system_prompt", source.system_prompt.is_some()),
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
            "{}: {n} of {} prompts are lists of messages, which are taken as they are: nothing is added for {} \
             (data.columns.question can name a column with the bare question)",
            path.display(),
            problems.len(),
            given.join(" and ")
        )
    })
}
