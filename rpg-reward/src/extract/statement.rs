//! What a sentence states: its values, from the most literal reading to the most lenient.

use super::numbers::{OPERATORS, is_bound, number_in_words};
use super::prefix;
use super::prose::{Kind, Prose, Token};
use super::spans::leading_spans;
use crate::lexicon::{Class, said};
use crate::names;
use std::borrow::Cow;
use std::ops::Range;

/// The longest sentence whose words are read.
pub(super) const MAX_SENTENCE: usize = 600;
/// What may stand directly before a value.
const SIGNS: &[char] = &['$', '€', '£', '-', '−', '(', '[', '{'];
/// The most words that are an answer in words.
const MAX_WORDS: usize = 4;

/// The readings of a line after a marker; none if it denies that there is an answer.
pub(super) fn readings(line: &str) -> Vec<String> {
    let line = undecorated(without_tags(line));
    let line = line.trim().trim_matches(['*', '"', ' ', '`', '_']);
    if let Some(verdict) = leading_verdict(line) {
        return vec![verdict.to_string()];
    }
    let prose = Prose::read(line);
    let end = sentence_end(&prose, 0);
    let start = skip_fillers(&prose, 0..end);
    let sentence = prose.slice(start..end);
    let object = object(&prose, start..end);
    let from = object.unwrap_or(start);
    if sentence.is_empty() || is_denied(&prose, from..end) {
        return Vec::new();
    }
    let clause = clause(&prose, from..end);
    let stated = from..clause.unwrap_or(end);
    let is_aside = clause.is_some_and(|at| {
        prose.is_mark(at, &[','])
            || prose
                .class(at)
                .is(Class::RATE | Class::CLAUSE | Class::PHRASE)
    });
    let is_choice = clause.is_some() && is_choice(&prose, stated.clone());
    let is_value = !is_aside && !is_choice && !reads_as_prose(&prose, start..end);
    let whole = object.is_none() && is_value || names::is_date(sentence);
    let part = (object.is_some() || clause.is_some()) && !reads_as_prose(&prose, stated.clone());
    let mut found: Vec<String> = Vec::new();
    found.extend(whole.then(|| sentence.to_string()));
    found.extend(part.then(|| prose.slice(stated.clone()).to_string()));
    found.extend(value_in_words(&prose, from..end, stated));
    if found.is_empty() {
        found.push(sentence.to_string());
    }
    found
}

/// The word before a comma that says whether something is so, unless another one follows: `Yes, it converges`.
pub(super) fn leading_verdict(text: &str) -> Option<&str> {
    let comma = text.find([',', ';'])?;
    let is_verdict = |word: &str| said(word).is(Class::VERDICT);
    let words = |text: &str| text.split(|c: char| !c.is_alphabetic()).any(is_verdict);
    let head = text[..comma].trim_start_matches("\\text{").trim();
    let rest = text[comma + 1..].trim_start();
    // `No, 77` is a list.
    let goes_on =
        rest.contains('=') || rest.bytes().take_while(u8::is_ascii_alphabetic).count() > 1;
    (goes_on && is_verdict(head) && !head.contains(' ') && !words(rest)).then_some(head)
}

/// What the last sentence of a text states with a verb and nothing after it: `4 and 5` in `The roots are 4
/// and 5.`
pub(super) fn last_statement(prose: &Prose) -> Option<String> {
    let mut start = 0;
    let mut end = sentence_end(prose, 0);
    // Only punctuation follows the last sentence.
    let is_said = |token: &Token| !matches!(token.kind, Kind::Mark(_) | Kind::Break);
    while let Some(next) = prose.tokens[end..].iter().position(is_said) {
        start = end + next;
        end = sentence_end(prose, start);
        if end <= start {
            return None;
        }
    }
    // `.., so 12 remain`
    let concludes = |index: &usize| {
        let class = prose.class(*index);
        class.is(Class::TURN) && *index > start && prose.is_mark(index - 1, &[','])
    };
    let start = (start..end)
        .rfind(concludes)
        .map_or(start, |index| index + 1);
    let object = object(prose, start..end)?;
    let clause = clause(prose, object..end);
    // `10, which is 1000` states something else.
    if clause.is_some_and(|clause| prose.says(clause..end, Class::BE)) {
        return None;
    }
    let stated = object..clause.unwrap_or(end);
    let is_stated = !is_denied(prose, object..end) && !reads_as_prose(prose, stated.clone());
    is_stated.then(|| prose.slice(stated).to_string())
}

/// Whether the last value of a text is denied directly: `it is not 7`.
pub(super) fn denies_last(prose: &Prose) -> bool {
    let Some(value) = prose.tokens.iter().rposition(Token::is_value) else {
        return false;
    };
    let says_nothing = |index: usize| {
        prose.is_mark(index, SIGNS)
            || prose.class(index).is(Class::FILLER)
            || prose.is_mark(index, &['*'])
    };
    let before = (0..value).rfind(|&index| !says_nothing(index));
    before.is_some_and(|index| prose.class(index).is(Class::DENY))
}

/// Whether what is said of an answer is a remark about it and not its value: "the answer is unique".
pub(super) fn is_remark(reading: &str) -> bool {
    Prose::read(prefix(reading, 40)).class(0).is(Class::REMARK)
}

/// The line up to a tag that ends a turn or that a sampler left in: `<|im_end|>`, `</s>`.
fn without_tags(line: &str) -> &str {
    let tag = ["<|", "</"].iter().filter_map(|tag| line.find(tag)).min();
    &line[..tag.unwrap_or(line.len())]
}

/// The line without asterisks of bold type, `**5** apples`, and with multiplication signs for letters,
/// `3 x 4`.
fn undecorated(line: &str) -> Cow<'_, str> {
    // `2**3` is a power.
    let is_power = |(pos, mark): (usize, &str)| {
        line[..pos].ends_with(|c: char| c.is_alphanumeric() || c == ')')
            && line[pos + mark.len()..]
                .starts_with(|c: char| c.is_alphanumeric() || "(-".contains(c))
    };
    let mut plain = Cow::from(line);
    if line.contains("**") && !line.match_indices("**").any(is_power) {
        plain = line.replace("**", "").into();
    }
    let is_product = |(pos, sign): (usize, &str)| {
        plain[..pos].ends_with(|c: char| c.is_ascii_digit())
            && plain[pos + sign.len()..].starts_with(|c: char| c.is_ascii_digit() || c == '$')
    };
    if plain.contains(" x ") && plain.match_indices(" x ").all(is_product) {
        plain = plain.replace(" x ", " × ").into();
    }
    plain
}

/// The end of the sentence that begins at `start`: the number of tokens up to its period, without punctuation
/// and signs without meaning before it.
pub(super) fn sentence_end(prose: &Prose, start: usize) -> usize {
    let count = prose.tokens.len();
    let closes = |index: usize| {
        let token = &prose.tokens[index];
        let next = prose.text[token.end..].trim_start_matches(['*', '"', ')']);
        let begins = next.trim_start().starts_with(char::is_uppercase);
        let class = prose.class(index.saturating_sub(1));
        let abbreviates = class.is(Class::ABBREVIATION) && (!begins || class.is(Class::FILLER));
        match token.kind {
            Kind::Mark('。') => true,
            // `5; 6 is too large`
            Kind::Mark(';') => prose.says(index..count, Class::BE | Class::STATE),
            Kind::Mark('.') => next.is_empty() || (next.starts_with([' ', '\n']) && !abbreviates),
            _ => false,
        }
    };
    let mut end = (start..count).find(|&index| closes(index)).unwrap_or(count);
    let is_empty = |token: &Token| match token.kind {
        Kind::Mark('*' | '.' | '"' | ',' | ';' | '。') | Kind::Break => true,
        Kind::Mark(mark) => {
            !mark.is_ascii() && names::unicode(mark).is_none() && !names::is_currency(mark)
        }
        _ => false,
    };
    while end > start && is_empty(&prose.tokens[end - 1]) {
        end -= 1;
    }
    end
}

/// The first token that says something: `about 5`, `≈ 5`.
fn skip_fillers(prose: &Prose, range: Range<usize>) -> usize {
    let is_filler = |index: usize| {
        let is_word = prose.class(index).is(Class::FILLER);
        is_word || prose.is_mark(index, &['≈', '~']) || {
            prose.is_mark(index, &['.', ',']) && index > range.start
        }
    };
    range
        .clone()
        .find(|&index| !is_filler(index))
        .unwrap_or(range.start)
}

/// Whether a sentence with a value in it says that it is not the answer, or that there is none.
fn is_denied(prose: &Prose, range: Range<usize>) -> bool {
    let Some(value) = range.clone().find(|&index| prose.tokens[index].is_value()) else {
        return false;
    };
    let is_verb = |index: usize| prose.class(index).is(Class::BE);
    let verb = (range.start..value).rfind(|&index| is_verb(index));
    let lead = verb.map_or(range.start, |verb| verb + 1)..value;
    let first = skip_fillers(prose, lead.clone());
    let is_denied_verb =
        verb.is_some_and(|verb| verb > range.start && prose.class(verb - 1).is(Class::DENY));
    // `B, not 7` has said something before.
    let denies = is_denied_verb
        || lead.into_iter().any(|index| {
            let class = prose.class(index);
            class.is(Class::DENY) && (index == first || !class.is(Class::PREFER))
        });
    denies || denies_before(prose, value + 1..range.end) || prose.says(range, Class::VOID)
}

/// Whether words begin with a denial of what stands before them: `is not ..`, `isn't ..`, `is the wrong ..`.
/// `7, not 8` keeps the 7.
pub(super) fn denies_before(prose: &Prose, words: Range<usize>) -> bool {
    let is_verb = prose.class(words.start).is(Class::BE);
    let judged = words.start + usize::from(is_verb);
    let is_determiner = |index: &usize| prose.class(*index).is(Class::DETERMINER);
    let Some(judged) = (judged..words.end).find(|index| !is_determiner(index)) else {
        return false;
    };
    let class = prose.class(judged);
    (is_verb && class.is(Class::WRONG))
        || class.is(Class::DENY) && (is_verb || !class.is(Class::PREFER))
}

/// Where the object of the last verb begins that has a value as its object: `5 eggs` in `the sum of 2 and 3
/// is 5 eggs`. `None` if there is no such verb, or if the sentence denies that there is a value.
fn object(prose: &Prose, range: Range<usize>) -> Option<usize> {
    if prose.slice(range.clone()).len() > MAX_SENTENCE {
        return None;
    }
    let begins = begins_with_value(prose, range.clone());
    let has_value = |range: Range<usize>| prose.tokens[range].iter().any(Token::is_value);
    let mut limit = clause_of_reason(prose, range.clone())
        .filter(|&clause| begins || !has_value(range.start..clause));
    // `x = 4 or x = 5` states values of x; `the value of x = 4` states one.
    let names_value = |sign: usize| {
        let is_first = sign == range.start + 1;
        prose.tokens[sign - 1].is_letter()
            && (is_first || prose.class(sign - 2) != Class::NONE || prose.is_mark(sign - 2, &[',']))
    };
    let is_verb = |index: usize| {
        let is_sign = prose.is_mark(index, &['=']) && !names_value(index);
        let class = prose.class(index);
        // `not 5 but 6`
        let corrects = class.is(Class::EXCEPT) && prose.class(range.start).is(Class::DENY);
        let states = class.is(Class::BE | Class::STATE) && !prose.class(index - 1).is(Class::DENY);
        is_sign || corrects || states
    };
    let mut verbs = Vec::new();
    for verb in range.start + 1..range.end {
        if limit.is_some_and(|limit| verb >= limit) {
            break;
        }
        if is_verb(verb) {
            let object = skip_fillers(prose, verb + 1..range.end);
            if begins_with_value(prose, object..range.end) {
                verbs.push((verb, object));
                limit = clause_that_begins(prose, object..range.end, Class::PHRASE);
            }
        }
    }
    // `The solutions are x = 2 and x = 3`: the last of several values is not the answer.
    let lists = |(verb, _): &&(usize, usize)| prose.slice(*verb..verb + 1) == "are";
    let Some(&(verb, object)) = verbs.iter().rfind(lists).or(verbs.last()) else {
        let main = range.start..limit.unwrap_or(range.end);
        return object_in_words(prose, main).filter(|_| !begins);
    };
    // `x = 5` has no verb: it is an equation.
    let is_word =
        |token: &Token| matches!(token.kind, Kind::Word(_)) && token.end - token.start > 2;
    if prose.is_mark(verb, &['=']) && !prose.tokens[range.start..verb].iter().any(is_word) {
        return None;
    }
    // "The number of those who do not is 5" has a value.
    let is_denied = !prose.class(verb).is(Class::BE | Class::EXCEPT)
        && prose.says(range.start..verb, Class::DENY | Class::VOID);
    (!is_denied).then_some(object)
}

/// The object of the last verb, if it is a few words or the letter of a choice.
fn object_in_words(prose: &Prose, range: Range<usize>) -> Option<usize> {
    let is_verb = |index: &usize| prose.class(*index).is(Class::BE);
    let verb = (range.start + 1..range.end).rfind(is_verb)?;
    let object = skip_fillers(prose, verb + 1..range.end);
    let words = &prose.tokens[object..range.end];
    let says_nothing = |index: usize| prose.class(index).is(Class::DETERMINER);
    let is_said = words.len() <= MAX_WORDS
        && !words.iter().any(Token::is_value)
        && !(object..range.end).all(says_nothing);
    is_said.then_some(object)
}

/// Whether tokens begin with a value: a number, mathematics, or a letter with a number after it.
fn begins_with_value(prose: &Prose, range: Range<usize>) -> bool {
    let is_sign = |index: &usize| prose.is_mark(*index, SIGNS);
    let first = range.start + range.clone().take_while(is_sign).count();
    let mut tokens = prose.tokens[first..range.end].iter();
    match tokens.next() {
        Some(token) if token.is_value() => true,
        Some(token) if token.is_letter() && prose.class(first) == Class::NONE => {
            tokens.any(|token| token.is_value() || token.kind == Kind::Mark('='))
        }
        _ => false,
    }
}

/// Where a clause or a phrase begins after a value: `, because ..`, `(since ..`, `per day`, `, not 7`.
fn clause(prose: &Prose, range: Range<usize>) -> Option<usize> {
    let phrases = Class::PHRASE | Class::RATE | Class::PREFER;
    clause_that_begins(prose, range, phrases)
}

/// Where a clause begins that gives a reason or a condition.
fn clause_of_reason(prose: &Prose, range: Range<usize>) -> Option<usize> {
    clause_that_begins(prose, range, Class::NONE)
}

fn clause_that_begins(prose: &Prose, range: Range<usize>, words: Class) -> Option<usize> {
    let first_value = range.clone().find(|&index| prose.tokens[index].is_value());
    range.clone().skip(1).find_map(|index| {
        let is_apart = index > range.start + 1 && prose.is_mark(index - 1, &[',', '(']);
        let clauses = if is_apart {
            Class::CLAUSE | Class::ASIDE
        } else {
            Class::CLAUSE
        };
        let start = index - usize::from(is_apart);
        // `The price fell by 30%` has no value before `by`.
        let stated = range.start..start;
        let is_stated = |class: Class| {
            first_value.is_some_and(|value| value < start)
                || is_choice(prose, stated.clone())
                || (class.is(clauses) && stated.len() <= 1 + usize::from(is_apart))
        };
        let class = prose.class(index);
        (class.is(clauses | words) && is_stated(class)).then_some(start)
    })
}

/// Whether tokens are the letter of a choice.
fn is_choice(prose: &Prose, range: Range<usize>) -> bool {
    let letter = prose.slice(range);
    let letter = letter.trim_matches(['(', ')', ' ']);
    letter.len() == 1 && letter.starts_with(|c: char| c.is_ascii_uppercase())
}

/// The first mathematics in a sentence, or else the number that its words give.
fn value_in_words(prose: &Prose, sentence: Range<usize>, stated: Range<usize>) -> Option<String> {
    let is_math = |index: &usize| matches!(prose.tokens[*index].kind, Kind::Math(..));
    let Some(math) = sentence.clone().find(is_math) else {
        return number_in_words(prose, stated);
    };
    // `77 rather than $8$`
    let lead = sentence.start..math;
    let is_second = begins_with_value(prose, sentence.clone()) && {
        lead.clone().any(|index| !prose.is_mark(index, SIGNS))
    };
    let alters = Class::DENY | Class::PREFER | Class::OFFER | Class::CHANGE;
    let is_altered = is_second || is_bound(prose, math) || prose.says(lead, alters);
    let (value, value_end) = leading_spans(prose, sentence.start).filter(|_| !is_altered)?;
    // `$8$ apples or 77`
    let after = prose
        .tokens
        .partition_point(|token| token.start < value_end);
    let joins = (after..stated.end)
        .find(|&index| prose.class(index).is(Class::OFFER) || prose.is_mark(index, OPERATORS));
    let is_first =
        joins.is_some_and(|joint| prose.tokens[joint..stated.end].iter().any(Token::is_value));
    (!is_first).then_some(value)
}

/// Whether tokens are a sentence rather than one expression: they have words that are not mathematical names,
/// and these are more than a unit at the end.
pub(super) fn reads_as_prose(prose: &Prose, range: Range<usize>) -> bool {
    let mut words = 0;
    let mut after_value = false;
    let mut trailing = false;
    let mut separated = false;
    let mut states = false;
    let mut has_value = false;
    for token in &prose.tokens[range] {
        match token.kind {
            // The parser looks at the words of `\text{}`.
            _ if token.dressed => {
                if trailing {
                    return true;
                }
                (after_value, has_value) = (true, true);
            }
            Kind::Math(..) | Kind::Formula => {
                if trailing {
                    return true;
                }
                (after_value, has_value) = (true, true);
            }
            Kind::Number => {
                if trailing || separated {
                    return true;
                }
                (after_value, has_value) = (true, true);
            }
            Kind::Mark(')' | ']' | '}' | '%') => {
                if trailing || separated {
                    return true;
                }
                after_value = true;
            }
            Kind::Word(class) => {
                states |= class.is(Class::BE);
                let word = &prose.text[token.start..token.end];
                let known =
                    token.is_letter() || names::plain(word).is_some() || names::is_unit(word);
                if !known {
                    words += 1 + usize::from(!after_value && !trailing);
                    trailing = true;
                }
                after_value = false;
            }
            Kind::Mark(',') => {
                separated |= trailing;
                after_value = false;
            }
            // What precedes an equals sign is a name.
            Kind::Mark('=') if !separated && !states => {
                (words, trailing, after_value) = (0, false, false)
            }
            Kind::Mark('.' | '*') | Kind::Break => {}
            Kind::Mark(_) => after_value = false,
        }
    }
    // Only words are an answer in words; words before a value, or many after it, make a sentence.
    has_value && words > 3
}
