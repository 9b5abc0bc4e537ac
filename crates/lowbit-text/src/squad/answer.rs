//! A model's logits to answers.

use std::ops::Range;

use crate::Error;
use crate::squad::windows::Window;

/// How answers are chosen. The defaults are those of `run_qa.py`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerSettings {
    /// How many starts and ends of each window are tried, and how many answers are kept: 20.
    pub n_best: usize,
    /// The most tokens of an answer: 30.
    pub max_length: usize,
    /// Of v2.0: there is no answer if that scores more than this above the best answer. `None`, the default,
    /// where every question has an answer.
    pub null_threshold: Option<f32>,
}

impl Default for AnswerSettings {
    fn default() -> Self {
        Self {
            n_best: 20,
            max_length: 30,
            null_threshold: None,
        }
    }
}

/// One of the answers to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The part of the context, as it is written there; empty for "no answer".
    pub text: String,
    /// Where it is in the context, in bytes; `0..0` for "no answer".
    pub span: Range<usize>,
    /// The logit of its first token.
    pub start_logit: f32,
    /// The logit of its last token.
    pub end_logit: f32,
    /// The softmax of its score over the answers that were kept, from 0 to 1.
    pub probability: f64,
}

impl Candidate {
    /// What answers are ordered by: `start_logit + end_logit`, rounded to `f32`.
    pub fn score(&self) -> f32 {
        self.start_logit + self.end_logit
    }
}

/// The answers to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// The answer; empty if there is none.
    pub text: String,
    /// The best answers, the best first. With a threshold for no answer that one is always among them, as the last
    /// where it is not among the best.
    pub best: Vec<Candidate>,
    /// With a threshold for no answer: the score of that less the score of the best answer which is not empty;
    /// `None` where there is no such answer.
    pub null_difference: Option<f32>,
}

/// The answers that a model's logits give.
///
/// `starts[w][t]` and `ends[w][t]` are the logits of token `t` of window `w` being the answer's first and last; the
/// rows are as long as the windows, without padding.
///
/// In each window, the `n_best` tokens of the largest start logits and those of the largest end logits (of equal
/// ones the later first) make answers where both are of the context, the end is not before the start and the answer
/// is not too long. Of all windows' answers, the `n_best` with the largest score `start + end` are kept, of equal
/// ones the first found. "No answer" has the score of token 0, `starts[w][0] + ends[w][0]`, in the window where that
/// is smallest: all windows must agree.
///
/// This is `postprocess_qa_predictions` of `run_qa.py`'s `utils_qa.py`, but for two things: it lets logits of padding
/// take places among the `n_best`, so that answers depend on the batch; and where no answer is possible it gives the
/// word `empty`, where this gives the empty text.
///
/// # Errors
///
/// No windows, other numbers of rows or logits than of windows or tokens, and logits that are not finite.
pub fn answers<L: AsRef<[f32]>>(
    context: &str,
    windows: &[Window],
    starts: &[L],
    ends: &[L],
    settings: &AnswerSettings,
) -> Result<Answers, Error> {
    check("start_logits", windows, starts)?;
    check("end_logits", windows, ends)?;
    let mut found = Vec::new();
    let mut null: Option<Candidate> = None;
    for ((window, start), end) in windows.iter().zip(starts).zip(ends) {
        let (start, end) = (start.as_ref(), end.as_ref());
        let here = candidate(context, 0..0, start[0], end[0]);
        if null.as_ref().is_none_or(|null| null.score() > here.score()) {
            null = Some(here);
        }
        collect(context, window, start, end, settings, &mut found);
    }
    let null = null.filter(|_| settings.null_threshold.is_some());
    found.extend(null.clone());
    found.sort_by(|a, b| b.score().total_cmp(&a.score()));
    found.truncate(settings.n_best);
    if !found.iter().any(|candidate| candidate.span == (0..0)) {
        found.extend(null.clone());
    }
    set_probabilities(&mut found);
    Ok(choose(found, null, settings))
}

fn check<L: AsRef<[f32]>>(field: &str, windows: &[Window], logits: &[L]) -> Result<(), Error> {
    if windows.is_empty() || windows.len() != logits.len() {
        return Err(Error::field(
            field,
            format!("{} rows for {} windows", logits.len(), windows.len()),
        ));
    }
    for (index, (window, row)) in windows.iter().zip(logits).enumerate() {
        let row = row.as_ref();
        if row.is_empty() || row.len() != window.len() {
            return Err(Error::field(
                format!("{field}[{index}]"),
                format!("{} logits for {} tokens", row.len(), window.len()),
            ));
        }
        if let Some(token) = row.iter().position(|logit| !logit.is_finite()) {
            return Err(Error::field(
                format!("{field}[{index}][{token}]"),
                format!("is {}, not a finite number", row[token]),
            ));
        }
    }
    Ok(())
}

/// Adds the answers of a window to `found`.
fn collect(
    context: &str,
    window: &Window,
    start_logits: &[f32],
    end_logits: &[f32],
    settings: &AnswerSettings,
    found: &mut Vec<Candidate>,
) {
    let ends = largest(end_logits, settings.n_best);
    for start in largest(start_logits, settings.n_best) {
        for &end in &ends {
            if end < start || end - start + 1 > settings.max_length {
                continue;
            }
            if let (Some(first), Some(last)) = (&window.context[start], &window.context[end]) {
                let span = first.start..last.end;
                found.push(candidate(
                    context,
                    span,
                    start_logits[start],
                    end_logits[end],
                ));
            }
        }
    }
}

fn candidate(context: &str, span: Range<usize>, start_logit: f32, end_logit: f32) -> Candidate {
    Candidate {
        text: context.get(span.clone()).unwrap_or_default().to_owned(),
        span,
        start_logit,
        end_logit,
        probability: 0.0,
    }
}

/// The indices of the `count` largest numbers, the largest first, of equal ones the later first.
fn largest(numbers: &[f32], count: usize) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..numbers.len()).rev().collect();
    indices.sort_by(|&a, &b| numbers[b].total_cmp(&numbers[a]));
    indices.truncate(count);
    indices
}

/// `probability[i] = exp(score[i] - max) / sum of exp(score[j] - max)`, in `f64`.
fn set_probabilities(candidates: &mut [Candidate]) {
    let scores = candidates.iter().map(|it| f64::from(it.score()));
    let largest = scores.fold(f64::NEG_INFINITY, f64::max);
    for it in candidates.iter_mut() {
        it.probability = (f64::from(it.score()) - largest).exp();
    }
    let sum: f64 = candidates.iter().map(|it| it.probability).sum();
    for it in candidates {
        it.probability /= sum;
    }
}

fn choose(best: Vec<Candidate>, null: Option<Candidate>, settings: &AnswerSettings) -> Answers {
    let (Some(null), Some(threshold)) = (null, settings.null_threshold) else {
        return Answers {
            text: best.first().map_or(String::new(), |it| it.text.clone()),
            best,
            null_difference: None,
        };
    };
    let answer = best.iter().find(|it| !it.text.is_empty());
    let difference = answer.map(|it| null.score() - it.start_logit - it.end_logit);
    let text = match (answer, difference) {
        (Some(answer), Some(difference)) if difference <= threshold => answer.text.clone(),
        _ => String::new(),
    };
    Answers {
        text,
        best,
        null_difference: difference,
    }
}
