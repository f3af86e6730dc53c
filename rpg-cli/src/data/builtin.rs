//! Sets of problems that come with the program: `builtin:NAME` in place of a file.

use crate::failure::Failure;
use std::path::Path;

/// The sets: name, what it is, its rows.
pub const SETS: [(&str, &str, &str); 1] = [(
    "word_problems",
    // Koncel-Kedziorski et al. (2016), from which it comes, publish it under the MIT licence.
    "562 questions of one step of arithmetic in words: SingleOp of MAWPS",
    include_str!("sets/word_problems.jsonl"),
)];

/// What the path of a built-in set begins with.
const PREFIX: &str = "builtin:";

/// The rows of the set that a path names, if it names one.
pub(super) fn text(path: &Path) -> Result<Option<&'static str>, Failure> {
    let path = path.to_string_lossy();
    let Some(name) = path.strip_prefix(PREFIX) else {
        return Ok(None);
    };
    let set = SETS.iter().find(|(known, ..)| *known == name);
    set.map(|(.., text)| Some(*text)).ok_or_else(|| {
        let names: Vec<&str> = SETS.iter().map(|(name, ..)| *name).collect();
        Failure::input(format!("{path}: no built-in set is called `{name}`"))
            .hint(format!("the sets are: {}", names.join(", ")))
    })
}

/// Whether a path is the name of a built-in set.
pub fn is_builtin(path: &Path) -> bool {
    path.to_string_lossy().starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use crate::config::ColumnNames;
    use crate::data::files::read;
    use std::path::PathBuf;

    #[test]
    fn a_built_in_set_is_read_as_a_file() {
        let read = |name: &str| read(&[PathBuf::from(name)], None, &ColumnNames::default(), true);
        let found = read("builtin:word_problems").unwrap();
        assert_eq!((found.problems.len(), found.repeated), (531, 31));
        assert_eq!(found.problems[1].answer, "9");
        let failure = read("builtin:none").unwrap_err();
        assert_eq!(
            failure.message,
            "builtin:none: no built-in set is called `none`"
        );
        assert_eq!(failure.hint.unwrap(), "the sets are: word_problems");
    }
}
