//! The columns of a data set's rows, and the problem that a row is.

use crate::config::ColumnNames;
use rpg_core::{Columns as ExtraColumns, Message, Problem, Prompt, Role};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A row of a file: the values of its columns as JSON, in which every digit of a number is kept.
pub(super) type Row = BTreeMap<String, Box<RawValue>>;

/// Where the parts of a problem are. A name with dots leads into columns that hold columns.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    question: Vec<String>,
    answer: Vec<String>,
    source: Vec<String>,
    is_source_named: bool,
    extra: Vec<String>,
}

impl Columns {
    /// The columns that a config names, or those that data sets usually have.
    pub(super) fn new(names: &ColumnNames) -> Self {
        let or = |name: &Option<String>, usual: &[&str]| match name {
            Some(name) => vec![name.clone()],
            None => usual.iter().map(|&name| name.to_owned()).collect(),
        };
        Self {
            question: or(&names.question, &["question", "problem", "prompt"]),
            answer: or(&names.answer, &["answer", "reward_model.ground_truth"]),
            source: or(&names.source, &["data_source"]),
            is_source_named: names.source.is_some(),
            extra: distinct(&names.extra),
        }
    }

    /// Whether a column is one of these, holds one, or is in one.
    pub(super) fn is_wanted(&self, path: &str) -> bool {
        let is_within = |inner: &str, outer: &str| {
            let rest = inner.strip_prefix(outer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        [&self.question, &self.answer, &self.source, &self.extra]
            .into_iter()
            .flatten()
            .any(|name| is_within(name, path) || is_within(path, name))
    }

    /// Refuses a file in which none of the columns for a part is among these.
    pub(super) fn check(&self, names: &[String]) -> Result<(), String> {
        let source = if self.is_source_named {
            &self.source[..]
        } else {
            &[]
        };
        for wanted in [&self.question, &self.answer, source] {
            if !wanted.is_empty() && !wanted.iter().any(|name| names.contains(name)) {
                return Err(missing(wanted, names));
            }
        }
        let mut extra = self.extra.iter();
        match extra.find(|name| !names.contains(name)) {
            Some(name) => Err(missing_extra(name, names)),
            None => Ok(()),
        }
    }

    /// The problem of a row. `default_source` is its source where it does not name one.
    pub(super) fn problem(
        &self,
        row: &Row,
        id: String,
        default_source: &str,
    ) -> Result<Problem, String> {
        let prompt = self.required(row, &self.question, prompt_of)?;
        let answer = self.required(row, &self.answer, text_of)?;
        // A solution as GSM8K has them.
        let answer = answer.rsplit("####").next().unwrap_or_default().trim();
        if prompt.readable().trim().is_empty() || answer.is_empty() {
            return Err("the question or the answer is empty".into());
        }
        let has_source = self.is_source_named || first(row, &self.source).is_some();
        let data_source = if has_source {
            self.required(row, &self.source, text_of)?
        } else {
            default_source.to_owned()
        };
        Ok(Problem {
            id,
            data_source,
            prompt,
            answer: answer.to_owned(),
            columns: self.extra_of(row)?,
        })
    }

    /// The columns that the reward command is given.
    fn extra_of(&self, row: &Row) -> Result<Option<ExtraColumns>, String> {
        if self.extra.is_empty() {
            return Ok(None);
        }
        let value = |name: &String| {
            let value = get(row, name).or_else(|| is_in_nothing(row, name).then(|| "null".into()));
            let value = value.ok_or_else(|| missing_extra(name, &names_of(row)))?;
            RawValue::from_string(value).map_err(|e| e.to_string())
        };
        let values: Vec<Box<RawValue>> = self.extra.iter().map(value).collect::<Result<_, _>>()?;
        let names = self.extra.iter().map(String::as_str);
        let columns = names.zip(values.iter().map(|value| &**value));
        Ok(Some(ExtraColumns::new(columns)))
    }

    fn required<T>(
        &self,
        row: &Row,
        names: &[String],
        read: fn(&str) -> Result<T, String>,
    ) -> Result<T, String> {
        let (name, value) = match first(row, names) {
            Some(found) => found,
            None => {
                let is_there = |name: &&String| get(row, name).is_some();
                let name = names.iter().find(is_there);
                let name = name.ok_or_else(|| missing(names, &names_of(row)))?;
                (name, "null".into())
            }
        };
        read(&value).map_err(|expected| {
            format!("`{name}`: found {}; expected {expected}", shortened(&value))
        })
    }
}

/// The names without repetitions.
fn distinct(names: &[String]) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if !distinct.contains(name) {
            distinct.push(name.clone());
        }
    }
    distinct
}

fn missing_extra(name: &String, names: &[String]) -> String {
    format!(
        "data.columns.extra: {}",
        missing(std::slice::from_ref(name), names)
    )
}

fn missing(wanted: &[String], names: &[String]) -> String {
    let quoted = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect();
    let (wanted, names): (Vec<String>, Vec<String>) = (quoted(wanted), quoted(names));
    let wanted = match wanted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => wanted.concat(),
    };
    if names.is_empty() {
        return format!("{wanted} is missing; there are no columns");
    }
    format!("{wanted} is missing; the columns are {}", names.join(", "))
}

/// The first of these columns with a value.
fn first<'a>(row: &Row, names: &'a [String]) -> Option<(&'a String, String)> {
    let mut values = names
        .iter()
        .filter_map(|name| Some((name, get(row, name)?)));
    values.find(|(_, value)| value != "null")
}

/// The value of a column as JSON. A column whose own name has dots comes before one within others.
fn get(row: &Row, path: &str) -> Option<String> {
    if let Some(value) = row.get(path) {
        return Some(value.get().to_owned());
    }
    let (outer, inner) = path.split_once('.')?;
    let inside: Row = serde_json::from_str(row.get(outer)?.get()).ok()?;
    get(&inside, inner)
}

/// Whether one of the columns in which a column lies is there and holds nothing.
fn is_in_nothing(row: &Row, path: &str) -> bool {
    let outer = path.match_indices('.').map(|(end, _)| &path[..end]);
    outer
        .filter_map(|outer| get(row, outer))
        .any(|value| value == "null")
}

/// The names of a row's columns and of those within them.
fn names_of(row: &Row) -> Vec<String> {
    let mut names = Vec::new();
    for (name, value) in row {
        names.push(name.clone());
        if let Ok(inside) = serde_json::from_str::<Row>(value.get()) {
            let inside = names_of(&inside);
            names.extend(inside.iter().map(|inner| format!("{name}.{inner}")));
        }
    }
    names
}

/// Text, or a number, of which every digit is kept.
fn text_of(value: &str) -> Result<String, String> {
    if let Ok(text) = serde_json::from_str(value) {
        return Ok(text);
    }
    if value.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return Ok(value.into());
    }
    Err("text or a number".into())
}

fn prompt_of(value: &str) -> Result<Prompt, String> {
    if !value.starts_with('[') {
        return text_of(value).map(Prompt::Text);
    }
    let messages = messages_of(value).map_err(|why| {
        let expected =
            "text, or a list of messages {\"role\": .., \"content\": ..}, the last one of the user";
        format!("{expected}{why}")
    })?;
    Ok(Prompt::Chat(messages))
}

/// The error is what is wrong besides that it isn't such a list.
fn messages_of(value: &str) -> Result<Vec<Message>, String> {
    let objects: Vec<Map<String, Value>> = serde_json::from_str(value).map_err(|_| "")?;
    let message = |mut object: Map<String, Value>| {
        // Tables have every column in every row.
        object.retain(|_, value| !value.is_null());
        serde_json::from_value(object.into()).map_err(|e| format!(" ({e})"))
    };
    let messages: Vec<Message> = objects.into_iter().map(message).collect::<Result<_, _>>()?;
    match messages.last() {
        Some(last) if last.role == Role::User => Ok(messages),
        _ => Err(String::new()),
    }
}

fn shortened(value: &str) -> String {
    const MOST: usize = 80;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} ..", &value[..end]),
        None => value.to_owned(),
    }
}
