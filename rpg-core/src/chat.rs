//! Chat templates: the Jinja templates that come with Hugging Face models.

use crate::problem::{Message, Role};
use jiff::civil::Date;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, context};
use std::sync::Arc;

/// A template is stopped after this many instructions: an endless loop is an error, not a hang.
const FUEL: u64 = 2_000_000;

/// Why a conversation cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template does not compile, or fails on this conversation.
    #[error("{0:#}")]
    Jinja(#[from] minijinja::Error),
    /// The template writes the day into the prompt, and none is given.
    #[error(
        "it asks for the date (`strftime_now`), and none is set; set one with --date, or data.date in a training config"
    )]
    NoDate,
    /// The conversation ends with a message of the assistant's, which the template leaves out or changes.
    #[error("it leaves out the end of the assistant's last message, which is to be continued")]
    NotContinued,
    /// `chat_template` has an unknown form.
    #[error(
        "`chat_template`: expected a string, or a list of named templates with one \"default\""
    )]
    Form,
}

/// A compiled chat template and the special tokens that it may name.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    bos_token: String,
    eos_token: String,
    enable_thinking: Option<bool>,
}

impl ChatTemplate {
    /// The template of a `tokenizer_config.json`, or of `chat_template.jinja` where that exists.
    pub fn from_settings(
        settings: &serde_json::Value,
        separate: Option<String>,
    ) -> Result<Option<Self>, TemplateError> {
        let source = match (separate, &settings["chat_template"]) {
            (Some(text), _) => text,
            (None, serde_json::Value::Null) => return Ok(None),
            (None, serde_json::Value::String(text)) => text.clone(),
            (None, serde_json::Value::Array(named)) => named
                .iter()
                .find(|entry| entry["name"] == "default")
                .and_then(|entry| entry["template"].as_str())
                .ok_or(TemplateError::Form)?
                .to_owned(),
            _ => return Err(TemplateError::Form),
        };
        // A special token is a string, or an object with its `content`.
        let token = |key: &str| {
            let value = &settings[key];
            value
                .as_str()
                .or(value["content"].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        Self::new(source, token("bos_token"), token("eos_token")).map(Some)
    }

    /// Compiles a template.
    pub fn new(
        source: String,
        bos_token: String,
        eos_token: String,
    ) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        // As transformers configures Jinja.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| {
            Err::<Value, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned("chat", without_generation_tags(&source))?;
        Ok(Self {
            environment: Arc::new(environment),
            bos_token,
            eos_token,
            enable_thinking: None,
        })
    }

    /// Sets the variable `enable_thinking`, with which templates such as Qwen3's turn the model's thinking on or
    /// off; templates that do not use it are not affected.
    pub fn set_thinking(&mut self, enabled: bool) {
        self.enable_thinking = Some(enabled);
    }

    /// Defines `strftime_now`, with which templates such as Llama 3.2's write the date into the prompt. Until then
    /// they write a fixed date of their own, so that a prompt is the same every day.
    pub fn set_date(&mut self, date: Date) {
        let environment = Arc::make_mut(&mut self.environment);
        environment.add_function(DATE, move |format: String| {
            jiff::fmt::strtime::format(&format, date).map_err(|error| {
                minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string())
            })
        });
    }

    /// The conversation as text, up to where the assistant's answer begins; if its last message is the assistant's, up to
    /// the end of that message, which is then continued (`continue_final_message` of transformers).
    pub fn render(&self, messages: &[Message]) -> Result<String, TemplateError> {
        let Some((last, before)) = messages
            .split_last()
            .filter(|(last, _)| last.role == Role::Assistant)
        else {
            return self.rendered(messages, true);
        };
        if last.content.trim().is_empty() {
            return self.rendered(before, true);
        }
        let mut messages = messages.to_vec();
        if let Some(last) = messages.last_mut() {
            last.content.push_str(END);
        }
        let text = self.rendered(&messages, false)?;
        let end = text.rfind(END.trim()).ok_or(TemplateError::NotContinued)?;
        let is_trimmed = !text[end..].starts_with(END);
        let text = &text[..end];
        Ok(if is_trimmed { text.trim_end() } else { text }.to_owned())
    }

    fn rendered(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let template = self.environment.get_template("chat")?;
        let common = context! {
            messages => messages,
            add_generation_prompt,
            bos_token => self.bos_token,
            eos_token => self.eos_token,
            // Defined and empty, as transformers passes them.
            tools => (),
            documents => (),
        };
        // Templates ask whether it is defined.
        let rendered = match self.enable_thinking {
            Some(enable_thinking) => template.render(context! { enable_thinking, ..common }),
            None => template.render(common),
        };
        rendered.map_err(|error| {
            let asks = error.kind() == ErrorKind::UnknownFunction
                && error.detail().is_some_and(|detail| detail.contains(DATE));
            if asks {
                TemplateError::NoDate
            } else {
                error.into()
            }
        })
    }
}

/// Stands at the end of a message that is to be continued; the space shows whether the template trims messages.
const END: &str = "\u{FDD2} ";

/// The function with which templates write the day.
const DATE: &str = "strftime_now";

/// The template with a plain scope for each `{% generation %}`, by which transformers finds the assistant's tokens: it
/// changes nothing in the text.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |at| at + 2);
        let (tag, later) = tag.split_at(end);
        let name = tag
            .trim_start_matches("{%")
            .trim_end_matches("%}")
            .trim_matches(['-', '+'])
            .trim();
        match name {
            "generation" => out.push_str(&tag.replace("generation", "with")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endwith")),
            _ => out.push_str(tag),
        }
        rest = later;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, messages: &[Message]) -> Result<String, TemplateError> {
        ChatTemplate::new(source.into(), "<s>".into(), "</s>".into())?.render(messages)
    }

    #[test]
    fn the_chatml_form_with_a_default_system_prompt() {
        let source = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
            {{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}\
            {{'<|im_start|>' + message['role'] + '\n' + message['content'].strip() + '<|im_end|>' + '\n'}}\
            {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
        assert_eq!(
            render(source, &[Message::user(" hi ")]).unwrap(),
            "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(
            render(source, &[Message::system("S"), Message::user("hi")]).unwrap(),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn a_template_that_fails_or_never_ends_is_an_error() {
        let error = render("{{ raise_exception('no system role') }}", &[]).unwrap_err();
        assert!(error.to_string().contains("no system role"), "{error}");
        let endless =
            "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(render(endless, &[]).is_err());
        assert!(render("{% if %}", &[]).is_err());
    }

    #[test]
    fn the_date_is_undefined_until_it_is_set() {
        let source = "{{ strftime_now('%d %b %Y') if strftime_now is defined else 'long ago' }}";
        let mut template = ChatTemplate::new(source.into(), String::new(), String::new()).unwrap();
        assert_eq!(template.render(&[]).unwrap(), "long ago");
        template.set_date(jiff::civil::date(2026, 3, 5));
        assert_eq!(template.render(&[]).unwrap(), "05 Mar 2026");
    }

    #[test]
    fn a_template_that_needs_a_date_says_how_to_give_one() {
        for source in [
            "{{ strftime_now('%Y') }}",
            "{%- set today = strftime_now('%Y') %}{{ today }}",
        ] {
            let error = render(source, &[]).unwrap_err().to_string();
            assert!(
                error.contains("--date") && error.contains("data.date"),
                "{error}"
            );
        }
    }

    #[test]
    fn generation_tags_change_nothing() {
        for (source, expected) in [
            ("a{% generation %}b{% endgeneration %}c", "abc"),
            ("a {%- generation -%} b {%- endgeneration +%} c", "ab c"),
            (
                "{% set x = 1 %}{%generation%}{% set x = 2 %}{{ x }}{%endgeneration%}{{ x }}",
                "21",
            ),
            (
                "{{ 'generation' }}{% if add_generation_prompt %}!{% endif %}",
                "generation!",
            ),
            (
                "x\n  {% generation %}\ny\n  {% endgeneration %}\nz",
                "x\ny\nz",
            ),
        ] {
            assert_eq!(render(source, &[]).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn the_assistants_last_message_is_continued() {
        let chatml = "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '</>\n' }}{% endfor %}\
            {% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}";
        let trims = chatml.replace("m.content", "m.content | trim");
        let assistant = |content: &str| Message {
            role: Role::Assistant,
            content: content.into(),
        };
        for (source, content, expected) in [
            (chatml, "4, b", "<user>hi</>\n<assistant>4, b"),
            (chatml, "4 ", "<user>hi</>\n<assistant>4 "),
            (&*trims, " 4 ", "<user>hi</>\n<assistant>4"),
            (chatml, " ", "<user>hi</>\n<assistant>"),
        ] {
            let messages = [Message::user("hi"), assistant(content)];
            assert_eq!(render(source, &messages).unwrap(), expected, "{source}");
        }
        let once = [assistant("x"), Message::user("y")];
        assert_eq!(
            render(chatml, &once).unwrap(),
            "<assistant>x</>\n<user>y</>\n<assistant>"
        );
        let error = render(
            "{{ messages[0].content }}",
            &[Message::user("hi"), assistant("x")],
        );
        assert!(matches!(error, Err(TemplateError::NotContinued)));
    }

    #[test]
    fn thinking_is_undefined_until_it_is_set() {
        let source = "{% if enable_thinking is defined %}{{ 'on' if enable_thinking else 'off' }}{% else %}-{% endif %}";
        let mut template = ChatTemplate::new(source.into(), String::new(), String::new()).unwrap();
        let mut render = |thinking: Option<bool>| {
            if let Some(enabled) = thinking {
                template.set_thinking(enabled);
            }
            template.render(&[Message::user("hi")]).unwrap()
        };
        assert_eq!(render(None), "-");
        assert_eq!(render(Some(true)), "on");
        assert_eq!(render(Some(false)), "off");
    }
}
