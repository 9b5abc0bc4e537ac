//! Answers as the official scripts compare them: lower case, without punctuation, articles and needless space.

use std::sync::LazyLock;

use regex::Regex;

/// Runs of what Python's regular expressions hold for parts of words: letters, numbers and the underscore. Marks
/// that follow a letter are not among them.
static WORDS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+").expect("the pattern is a regular expression"));

/// The words of an answer, joined by single spaces: in lower case, without ASCII's punctuation, then with `a`,
/// `an` and `the` replaced by spaces where they are whole words, and split at Python's white space.
///
/// This is `normalize_answer` of `evaluate-v1.1.py` and `evaluate-v2.0.py`. What is lower case, a letter or a number
/// follows the Unicode tables of Rust's library and of the `regex` crate.
pub fn normalize(answer: &str) -> String {
    let lower = answer.to_lowercase();
    let plain: String = (lower.chars())
        .filter(|character| !character.is_ascii_punctuation())
        .collect();
    let without_articles = WORDS.replace_all(&plain, |word: &regex::Captures<'_>| match &word[0] {
        "a" | "an" | "the" => " ".to_owned(),
        other => other.to_owned(),
    });
    let words = without_articles.split(is_space);
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// Whether Python's `str.split` and `str.lstrip` hold a character for white space: Unicode's white space, and the
/// separators U+001C to U+001F.
pub(crate) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}
