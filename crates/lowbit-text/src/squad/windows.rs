//! A question and its context as sequences that fit a model.

use std::ops::Range;

use crate::squad::normalize::is_space;
use crate::{Encoding, Error, Tokenizer};

/// How long windows are. The defaults are those of `run_qa.py` and of the SQuAD code of BERT: 384 and 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSettings {
    /// The most tokens of a window, special ones included. The tokenizer's own
    /// [`max_length`](Tokenizer::max_length) holds, too.
    pub max_length: usize,
    /// The tokens of the context that a window shares with the one before it.
    pub stride: usize,
}

impl Default for WindowSettings {
    fn default() -> Self {
        Self {
            max_length: 384,
            stride: 128,
        }
    }
}

/// A question with a part of its context. All fields have one entry a token; nothing is padded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The tokens' ids.
    pub ids: Vec<u32>,
    /// The tokens' types.
    pub type_ids: Vec<u32>,
    /// Where in the whole context a token of the context is, in bytes; `None` of the question's and of special
    /// tokens.
    pub context: Vec<Option<Range<usize>>>,
}

/// The windows of a question and its context, the context's beginning first; at least one.
///
/// They are the features of `run_qa.py`: the question without leading space first, the context after it. Where that
/// is longer than the most tokens, each window holds as many of the context's tokens as fit, `room`, and begins
/// `room - stride` of them after the one before; the last ends with the context. `transformers` makes them by
/// `tokenizer(question, context, truncation="only_second", max_length=..., stride=...,
/// return_overflowing_tokens=True)`.
///
/// # Errors
///
/// Where one window does not do: a question that leaves no room for a context, or no more than the stride. And texts
/// that cannot be made tokens of.
pub fn windows(
    tokenizer: &Tokenizer,
    question: &str,
    context: &str,
    settings: WindowSettings,
) -> Result<Vec<Window>, Error> {
    let question = question.trim_start_matches(is_space);
    let whole = Window::new(tokenizer.encode_pair(question, context)?);
    let longest = tokenizer.max_length().unwrap_or(usize::MAX);
    let max_length = settings.max_length.min(longest);
    if whole.len() <= max_length {
        return Ok(vec![whole]);
    }
    let part = whole.part();
    let room = room(&whole, part.len(), max_length, settings.stride)?;
    let starts = part.clone().step_by(room - settings.stride);
    let mut windows = Vec::new();
    for start in starts {
        let end = part.end.min(start + room);
        windows.push(whole.with_part(&part, start..end));
        if end == part.end {
            break;
        }
    }
    Ok(windows)
}

/// The tokens of the context, of which there are `tokens`, that a window has room for.
fn room(whole: &Window, tokens: usize, max_length: usize, stride: usize) -> Result<usize, Error> {
    let others = whole.len() - tokens;
    match max_length.checked_sub(others) {
        Some(room) if room > stride => Ok(room),
        Some(room) if room > 0 => Err(Error::field(
            "stride",
            format!(
                "is {stride}, but beside the question, which is {others} tokens with the special ones, windows \
                 of {max_length} have room for {room} of the context, which must be more"
            ),
        )),
        _ => Err(Error::field(
            "question",
            format!(
                "is {others} tokens with the special ones, which leaves no room for the context in windows of \
                 {max_length}"
            ),
        )),
    }
}

impl Window {
    fn new(encoding: Encoding) -> Self {
        let spans = encoding.spans.into_iter().zip(encoding.sequences);
        Self {
            ids: encoding.ids,
            type_ids: encoding.type_ids,
            context: spans
                .map(|(span, sequence)| (sequence == Some(1)).then_some(span))
                .collect(),
        }
    }

    /// The tokens of the context.
    fn part(&self) -> Range<usize> {
        let first = self.context.iter().position(Option::is_some);
        let last = self.context.iter().rposition(Option::is_some);
        first.unwrap_or(0)..last.map_or(0, |last| last + 1)
    }

    /// The window with only the tokens `kept` of the context's, which are `part`.
    fn with_part(&self, part: &Range<usize>, kept: Range<usize>) -> Self {
        let tokens = || {
            (0..part.start)
                .chain(kept.clone())
                .chain(part.end..self.len())
        };
        Self {
            ids: tokens().map(|token| self.ids[token]).collect(),
            type_ids: tokens().map(|token| self.type_ids[token]).collect(),
            context: tokens().map(|token| self.context[token].clone()).collect(),
        }
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}
