//! The text of each token of a text.

use super::{Tokenizer, TokenizerError};

/// What a decoder writes for bytes that are no character yet.
const INCOMPLETE: char = '\u{FFFD}';

/// A character has at most so many bytes, and so many tokens.
const MAX_TOKENS: usize = 4;

impl Tokenizer {
    /// The text of each token where it stands, in order: together they are what [`decode`](Self::decode) gives, except that
    /// special tokens have their spelling here. A character of several tokens stands at the last of them, and the others
    /// are empty.
    pub fn pieces(&self, tokens: &[u32]) -> Result<Vec<String>, TokenizerError> {
        let mut pieces = Vec::with_capacity(tokens.len());
        // Decoders look at what comes before: each text begins with tokens whose pieces are known, as few as will do.
        let (mut begin, mut done, mut known) = (0, 0, String::new());
        for end in 1..=tokens.len() {
            let text = self.decode(&tokens[begin..end])?;
            if text.ends_with(INCOMPLETE) && end - done < MAX_TOKENS {
                pieces.push(String::new());
                continue;
            }
            let piece = match text.strip_prefix(&known) {
                Some(piece) => piece.to_owned(),
                None => self.decode(&tokens[done..end])?,
            };
            pieces.push(self.spelling(&piece, tokens[end - 1]).unwrap_or(piece));
            (begin, done) = (done, end);
            known = self.decode(&tokens[begin..done])?;
        }
        Ok(pieces)
    }

    /// The spelling of a token that has no text because it is special.
    fn spelling(&self, piece: &str, id: u32) -> Option<String> {
        let spelling = self.token(id).filter(|_| piece.is_empty())?;
        self.special_id(&spelling).map(|_| spelling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    /// A tokenizer of bytes, written as GPT-2 writes them, of a word and of a special token.
    fn of_bytes() -> Tokenizer {
        // These bytes stand for themselves, and 'Ġ' for the space.
        let mut spellings: Vec<String> = ('!'..='~').map(String::from).collect();
        spellings.extend(('\u{ae}'..='\u{ff}').map(String::from));
        spellings.extend(["¥", "©", "Ġ", "Ġnow", "<end>"].map(String::from));
        let vocab: Map<_, _> = (spellings.iter().zip(0..))
            .map(|(spelling, id)| (spelling.clone(), json!(id)))
            .collect();
        let end = vocab["<end>"].clone();
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "added_tokens": [{"id": end, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
                              "normalized": false, "special": true}],
            "pre_tokenizer": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "?"},
        });
        Tokenizer::from_json(&json.to_string(), None).unwrap()
    }

    #[test]
    fn characters_stand_at_the_last_of_their_tokens() {
        let tokenizer = of_bytes();
        // 'é' is C3 A9, '好' is E5 A5 BD.
        for (spellings, expected) in [
            (
                &["o", "k", "Ġnow", "<end>"][..],
                &["o", "k", " now", "<end>"][..],
            ),
            (&["Ã", "©", "x"], &["", "é", "x"]),
            (
                &["å", "¥", "½", "å", "¥", "½"],
                &["", "", "好", "", "", "好"],
            ),
            // Bytes that never become a character are shown as the decoder shows them.
            (&["å", "x"], &["", "\u{fffd}x"]),
            (&["<end>", "Ã", "©"], &["<end>", "", "é"]),
            (&[], &[]),
        ] {
            let id = |spelling: &&str| tokenizer.token_id(spelling).expect(spelling);
            let tokens: Vec<u32> = spellings.iter().map(id).collect();
            let pieces = tokenizer.pieces(&tokens).unwrap();
            assert_eq!(pieces, expected, "{spellings:?}");
            let text: String = pieces.concat().replace("<end>", "");
            assert_eq!(text, tokenizer.decode(&tokens).unwrap());
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_not_swallow_what_follows() {
        let tokenizer = of_bytes();
        let id = |spelling: &str| tokenizer.token_id(spelling).unwrap();
        let tokens = [vec![id("å"); 9], vec![id("x")]].concat();
        let pieces = tokenizer.pieces(&tokens).unwrap();
        assert_eq!(pieces.len(), 10);
        assert!(
            pieces[3].contains(INCOMPLETE) && pieces[9].ends_with('x'),
            "{pieces:?}"
        );
    }
}
