//! Texts of a known length.

/// A sentence of 15 tokens, to be repeated.
pub const SENTENCE: &str = "The kettle boils fast and pours well, though the lid sticks. ";

/// A text of exactly this many tokens, the two special ones included, in the vocabulary of a
/// [`synthetic`](crate::model::Synthetic) model. No two words are the same, so that every token
/// reads its own row of the embeddings.
///
/// # Panics
/// If not even the special tokens fit.
pub fn of_tokens(tokens: usize) -> String {
    let words = tokens.checked_sub(2).expect("two tokens are special");
    // A prime step through the words `word0` to `word29999`.
    let words: Vec<String> = (0..words)
        .map(|number| format!("word{}", number * 7_919 % 30_000))
        .collect();
    words.join(" ")
}
