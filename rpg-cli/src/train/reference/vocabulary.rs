//! Whether two models read the same tokens.

use crate::failure::Failure;
use rpg_core::tokenizer::Tokenizer;

/// A tokenizer and the number of tokens that its model has a probability for.
pub(in crate::train) type Vocabulary<'a> = (&'a Tokenizer, usize);

/// Refuses a reference that does not give every token of the policy the same id, or has no probability for some token
/// that the policy can sample. It may have more tokens: the policy never samples them.
pub(in crate::train) fn check_vocabulary(
    policy: Vocabulary<'_>,
    reference: Vocabulary<'_>,
) -> Result<(), Failure> {
    let hint = "the reference must have the policy's vocabulary: take a model of the same family";
    let ((policy, n_policy), (reference, n_reference)) = (policy, reference);
    let shown = |token: Option<String>| token.map_or("absent".into(), |token| format!("{token:?}"));
    for id in 0..n_policy as u32 {
        let (ours, theirs) = (policy.token(id), reference.token(id));
        if ours.is_some() && ours != theirs {
            return Err(Failure::input(format!(
                "reference.path: its token {id} is {}; expected {}, the policy's",
                shown(theirs),
                shown(ours)
            ))
            .hint(hint));
        }
    }
    if n_reference < n_policy {
        return Err(Failure::input(format!(
            "reference.path: its vocabulary has {n_reference} tokens; expected at least the policy's {n_policy}"
        ))
        .hint(hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(vocabulary: &str) -> Tokenizer {
        let json = format!(
            r#"{{"version":"1.0","added_tokens":[],"model":{{"type":"WordLevel","unk_token":"a","vocab":{vocabulary}}}}}"#
        );
        Tokenizer::from_json(&json, None).unwrap()
    }

    #[test]
    fn what_differs_between_vocabularies_is_named() {
        let policy = r#"{"a":0,"b":1}"#;
        for (reference, n_policy, n_reference, expected) in [
            (policy, 2, 2, None),
            // Padded vocabularies, and tokens that the policy lacks.
            (policy, 2, 8, None),
            (r#"{"a":0,"b":1,"c":2}"#, 4, 4, None),
            (
                policy,
                8,
                4,
                Some("its vocabulary has 4 tokens; expected at least the policy's 8"),
            ),
            (
                r#"{"a":0,"c":1}"#,
                2,
                2,
                Some(r#"its token 1 is "c"; expected "b", the policy's"#),
            ),
            (
                r#"{"a":0}"#,
                2,
                1,
                Some(r#"its token 1 is absent; expected "b""#),
            ),
        ] {
            let result = check_vocabulary(
                (&tokenizer(policy), n_policy),
                (&tokenizer(reference), n_reference),
            );
            let message = result.err().map(|error| error.message);
            match expected {
                None => assert_eq!(message, None, "{reference}"),
                Some(expected) => {
                    let message = message.expect(reference);
                    assert!(message.contains(expected), "{message}");
                }
            }
        }
    }
}
