//! Templates of the model families, rendered here and by transformers.
//!
//! `chat_templates.py` in this folder writes conversations as transformers renders them; the test is skipped
//! unless `RPG_CHAT_TEMPLATES` names its output.

use rpg_core::Message;
use rpg_core::chat::ChatTemplate;
use serde::Deserialize;

#[derive(Deserialize)]
struct Output {
    transformers: String,
    date: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    template: String,
    tokens: Tokens,
    messages: Vec<Message>,
    thinking: Option<bool>,
    text: Option<String>,
}

#[derive(Deserialize)]
struct Tokens {
    bos_token: String,
    eos_token: String,
}

#[test]
fn renders_as_transformers_does() {
    let Ok(path) = std::env::var("RPG_CHAT_TEMPLATES") else {
        eprintln!("skipped: RPG_CHAT_TEMPLATES does not name the output of chat_templates.py");
        return;
    };
    let output: Output = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(!output.cases.is_empty());
    let mut differing = Vec::new();
    for case in &output.cases {
        let Tokens {
            bos_token,
            eos_token,
        } = &case.tokens;
        let template = &case.template;
        let mut template =
            ChatTemplate::new(template.clone(), bos_token.clone(), eos_token.clone()).unwrap();
        template.set_date(output.date.parse().unwrap());
        if let Some(enabled) = case.thinking {
            template.set_thinking(enabled);
        }
        let rendered = template.render(&case.messages);
        if rendered.as_ref().ok() != case.text.as_ref() {
            differing.push(format!(
                "{}: {rendered:?}\n  expected {:?}",
                case.name, case.text
            ));
        }
    }
    let n = output.cases.len();
    assert!(
        differing.is_empty(),
        "{} of {n} differ from transformers {}:\n{}",
        differing.len(),
        output.transformers,
        differing.join("\n")
    );
}
