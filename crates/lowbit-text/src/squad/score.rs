//! Exact match and F1 of answers, as the official scripts of SQuAD v1.1 and v2.0 compute them.

use std::collections::HashMap;

use crate::Error;
use crate::squad::file::{Question, Squad};
use crate::squad::normalize::normalize;

/// Exact match and F1 over some questions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The share of answers that equal one of the file's, in percent.
    pub exact: f64,
    /// The mean over the questions of the largest F1 over the file's answers, in percent.
    pub f1: f64,
    /// The number of questions.
    pub total: usize,
}

/// The scores of v2.0.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreV2 {
    /// Over all questions.
    pub all: Score,
    /// Over those that have an answer (`HasAns`), if there are any.
    pub has_answer: Option<Score>,
    /// Over those that have none (`NoAns`), if there are any.
    pub no_answer: Option<Score>,
    /// The thresholds on the probabilities of no answer that would give the most, where those were given.
    pub best: Option<BestThresholds>,
}

/// A model's view of which questions have no answer.
#[derive(Debug, Clone, Copy)]
pub struct NoAnswer<'a> {
    /// By question, its probability (or any number that grows with it) of having no answer; all finite.
    pub probabilities: &'a HashMap<String, f64>,
    /// A question whose probability is above this counts as answered by "no answer". The official default is 1.
    pub threshold: f64,
}

/// The best that thresholds on the probabilities of no answer could give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BestThresholds {
    /// The highest exact match, in percent.
    pub exact: f64,
    /// The threshold that gives it.
    pub exact_threshold: f64,
    /// The highest F1, in percent.
    pub f1: f64,
    /// The threshold that gives it.
    pub f1_threshold: f64,
}

/// Whether two answers have the same normal form ([`normalize`]).
pub fn exact_match(prediction: &str, gold: &str) -> bool {
    normalize(prediction) == normalize(gold)
}

/// The harmonic mean of precision and recall of a prediction's words against an answer's, both normalized, words
/// counted as often as they are in both: `F1 = 2 p r / (p + r)`, 0 without a common word (`f1_score` of
/// `evaluate-v1.1.py`; so two answers without words have 0).
pub fn f1_v1(prediction: &str, gold: &str) -> f64 {
    words_f1(&normalize(prediction), &normalize(gold))
}

/// As [`f1_v1`], but where one of the two has no words, 1 if both have none and 0 otherwise (`compute_f1` of
/// `evaluate-v2.0.py`).
pub fn f1_v2(prediction: &str, gold: &str) -> f64 {
    let (prediction, gold) = (normalize(prediction), normalize(gold));
    if prediction.is_empty() || gold.is_empty() {
        return f64::from(prediction == gold);
    }
    words_f1(&prediction, &gold)
}

/// Both are normalized: their words are apart by single spaces.
fn words_f1(prediction: &str, gold: &str) -> f64 {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in gold.split_whitespace() {
        *left.entry(word).or_default() += 1;
    }
    let same = (prediction.split_whitespace())
        .filter(|word| match left.get_mut(word) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        })
        .count();
    if same == 0 {
        return 0.0;
    }
    let share = |text: &str| same as f64 / text.split_whitespace().count() as f64;
    let (precision, recall) = (share(prediction), share(gold));
    (2.0 * precision * recall) / (precision + recall)
}

/// The score of `evaluate-v1.1.py`. `predictions` holds answers by the questions' ids; a question without one counts
/// as wrong.
///
/// # Errors
///
/// A question that has no answer in the file, which only v2.0 knows, and a file without questions.
pub fn score_v1(squad: &Squad, predictions: &HashMap<String, String>) -> Result<Score, Error> {
    let mut scores = Vec::new();
    for (_, question) in squad.questions() {
        if question.is_impossible() {
            return Err(Error::field(
                format!("question {}", question.id),
                "has no answers, which only the scores of v2.0 allow",
            ));
        }
        let answers = question.answers.iter().map(|answer| answer.text.as_str());
        scores.push(match predictions.get(&question.id) {
            Some(prediction) => Raw::best(prediction, answers, f1_v1),
            None => Raw::default(),
        });
    }
    Score::of(scores.iter()).ok_or_else(no_questions)
}

/// The scores of `evaluate-v2.0.py`. `predictions` holds answers by the questions' ids, an empty text for "no
/// answer". Answers of the file without words do not count; where none has words, only a prediction without words is
/// right.
///
/// # Errors
///
/// A question without a prediction (where the script stops, too) or, if these are given, without a finite
/// probability of no answer; and a file without questions.
pub fn score_v2(
    squad: &Squad,
    predictions: &HashMap<String, String>,
    no_answer: Option<NoAnswer<'_>>,
) -> Result<ScoreV2, Error> {
    let mut judged = Vec::new();
    for (_, question) in squad.questions() {
        judged.push(Judged::new(question, predictions, no_answer)?);
    }
    let part = |impossible: bool| {
        let questions = judged.iter().filter(|it| it.impossible == impossible);
        Score::of(questions.map(|it| &it.kept))
    };
    Ok(ScoreV2 {
        all: Score::of(judged.iter().map(|it| &it.kept)).ok_or_else(no_questions)?,
        has_answer: part(false),
        no_answer: part(true),
        best: no_answer.map(|_| BestThresholds::of(&judged)),
    })
}

fn no_questions() -> Error {
    Error::field("questions", "there are none to score")
}

/// One question's exact match and F1, from 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
struct Raw {
    exact: f64,
    f1: f64,
}

impl Raw {
    /// The best over the answers of a file.
    fn best<'a>(
        prediction: &str,
        golds: impl Iterator<Item = &'a str>,
        f1: fn(&str, &str) -> f64,
    ) -> Self {
        golds.fold(Self::default(), |best, gold| Self {
            exact: best.exact.max(f64::from(exact_match(prediction, gold))),
            f1: best.f1.max(f1(prediction, gold)),
        })
    }
}

impl Score {
    /// The means in percent, summed in order as the scripts do; `None` of no questions.
    fn of<'a>(scores: impl Iterator<Item = &'a Raw>) -> Option<Self> {
        let (mut exact, mut f1, mut total) = (0.0, 0.0, 0);
        for score in scores {
            exact += score.exact;
            f1 += score.f1;
            total += 1;
        }
        (total > 0).then(|| Self {
            exact: 100.0 * exact / total as f64,
            f1: 100.0 * f1 / total as f64,
            total,
        })
    }
}

/// A question of v2.0 with what it is worth.
struct Judged {
    impossible: bool,
    /// Whether the prediction is not an empty text.
    answered: bool,
    /// What the prediction is worth.
    raw: Raw,
    /// What counts, after the threshold on the probability of no answer.
    kept: Raw,
    probability: f64,
}

impl Judged {
    fn new(
        question: &Question,
        predictions: &HashMap<String, String>,
        no_answer: Option<NoAnswer<'_>>,
    ) -> Result<Self, Error> {
        let field = || format!("question {}", question.id);
        let prediction = predictions.get(&question.id);
        let prediction = prediction.ok_or_else(|| Error::field(field(), "has no prediction"))?;
        let raw = raw_v2(question, prediction);
        let impossible = question.is_impossible();
        let (mut kept, mut probability) = (raw, 0.0);
        if let Some(no_answer) = no_answer {
            let given = no_answer.probabilities.get(&question.id).copied();
            let given = given.filter(|probability| probability.is_finite());
            let missing = || Error::field(field(), "has no finite probability of no answer");
            probability = given.ok_or_else(missing)?;
            if probability > no_answer.threshold {
                let right = f64::from(impossible);
                kept = Raw {
                    exact: right,
                    f1: right,
                };
            }
        }
        Ok(Self {
            impossible,
            answered: !prediction.is_empty(),
            raw,
            kept,
            probability,
        })
    }
}

fn raw_v2(question: &Question, prediction: &str) -> Raw {
    let answers = question.answers.iter().map(|answer| answer.text.as_str());
    let with_words: Vec<&str> = answers.filter(|text| !normalize(text).is_empty()).collect();
    let golds = if with_words.is_empty() {
        vec![""]
    } else {
        with_words
    };
    Raw::best(prediction, golds.into_iter(), f1_v2)
}

impl BestThresholds {
    fn of(judged: &[Judged]) -> Self {
        let mut sorted: Vec<&Judged> = judged.iter().collect();
        sorted.sort_by(|a, b| a.probability.total_cmp(&b.probability));
        let (exact, exact_threshold) = best_threshold(&sorted, |it| it.raw.exact);
        let (f1, f1_threshold) = best_threshold(&sorted, |it| it.raw.f1);
        Self {
            exact,
            exact_threshold,
            f1,
            f1_threshold,
        }
    }
}

/// `find_best_thresh`: answering nothing is worth one for each question without an answer; answering the questions
/// in the order of their probabilities adds what each answer is worth, or loses one.
fn best_threshold(sorted: &[&Judged], worth: impl Fn(&Judged) -> f64) -> (f64, f64) {
    let mut current = sorted.iter().filter(|it| it.impossible).count() as f64;
    let (mut best, mut threshold) = (current, 0.0);
    for it in sorted {
        current += match (it.impossible, it.answered) {
            (false, _) => worth(it),
            (true, true) => -1.0,
            (true, false) => 0.0,
        };
        if current > best {
            (best, threshold) = (current, it.probability);
        }
    }
    (100.0 * best / sorted.len() as f64, threshold)
}
