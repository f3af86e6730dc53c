//! Files as they are found in model folders.

use std::borrow::Cow;

/// What a clone without Git LFS has in place of a large file.
pub(crate) const POINTER: &str =
    "a Git LFS pointer, not the file itself; `git lfs pull` fetches the file";

/// Whether the bytes are a Git LFS pointer.
pub(crate) fn is_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs")
}

/// JSON as Python writes it: `NaN` and the infinities, which JSON does not have, become texts.
pub(crate) fn python_json(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["NaN", "-Infinity", "Infinity"];
    if !WORDS.iter().any(|word| text.contains(word)) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    let (mut rest, mut in_text) = (text, false);
    while let Some(first) = rest.chars().next() {
        let word = WORDS
            .iter()
            .find(|word| !in_text && rest.starts_with(**word));
        let n = match word {
            Some(word) => {
                out.push_str(&format!("\"{word}\""));
                word.len()
            }
            None => {
                in_text ^= first == '"';
                let escaped = (first == '\\').then(|| rest[1..].chars().next());
                let n = 1.max(first.len_utf8()) + escaped.flatten().map_or(0, char::len_utf8);
                out.push_str(&rest[..n]);
                n
            }
        };
        rest = &rest[n..];
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_python_adds_to_json_become_texts() {
        for (text, expected) in [
            (r#"{"a": 1}"#, r#"{"a": 1}"#),
            (r#"{"a": NaN}"#, r#"{"a": "NaN"}"#),
            (r#"[-Infinity, Infinity]"#, r#"["-Infinity", "Infinity"]"#),
            (
                r#"["a \" NaN", "é\\", NaN]"#,
                r#"["a \" NaN", "é\\", "NaN"]"#,
            ),
        ] {
            assert_eq!(python_json(text), expected);
        }
    }
}
