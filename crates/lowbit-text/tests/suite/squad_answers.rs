//! Windows and answers against `transformers` and its `run_qa.py`.

use lowbit_text::squad::{self, AnswerSettings, Answers, Window, WindowSettings, answers};
use proptest::prelude::*;
use serde::Deserialize;

use crate::reference::{characters, read, tokenizer};

#[derive(Deserialize)]
struct Cut {
    tokenizer: String,
    question: String,
    context: String,
    max_length: usize,
    stride: usize,
    windows: Option<Vec<Feature>>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Feature {
    ids: Vec<u32>,
    type_ids: Vec<u32>,
    offsets: Vec<Option<(usize, usize)>>,
}

impl Feature {
    fn of(window: &Window, context: &str) -> Self {
        let spans = window.context.iter();
        Self {
            ids: window.ids.clone(),
            type_ids: window.type_ids.clone(),
            offsets: spans
                .map(|span| span.as_ref().map(|span| characters(context, span)))
                .collect(),
        }
    }
}

fn windows(
    name: &str,
    (max_length, stride): (usize, usize),
    question: &str,
    context: &str,
) -> Result<Vec<Window>, lowbit_text::Error> {
    let settings = WindowSettings { max_length, stride };
    squad::windows(&tokenizer(name), question, context, settings)
}

#[test]
fn windows_are_the_features_of_transformers() {
    for case in read::<Vec<Cut>>("windows.json") {
        let lengths = (case.max_length, case.stride);
        let place = format!("{} {lengths:?} {}", case.tokenizer, case.question);
        let found = windows(&case.tokenizer, lengths, &case.question, &case.context);
        match (found, case.windows) {
            (Ok(found), Some(expected)) => {
                let found: Vec<_> = (found.iter())
                    .map(|window| Feature::of(window, &case.context))
                    .collect();
                assert_eq!(found, expected, "{place}");
            }
            (found, expected) => assert_eq!(found.is_err(), expected.is_none(), "{place}"),
        }
    }
}

#[test]
fn lengths_without_room_are_refused_in_one_line() {
    let message = |lengths, question| {
        let found = windows("wordpiece", lengths, question, "The keepers wrote a diary.");
        found.unwrap_err().to_string()
    };
    assert_eq!(
        message((3, 0), "The"),
        "question: is 4 tokens with the special ones, which leaves no room for the context in windows of 3"
    );
    let long = "the ".repeat(20);
    assert_eq!(
        message((23, 4), &long),
        "question: is 23 tokens with the special ones, which leaves no room for the context in windows of 23"
    );
    assert_eq!(
        message((24, 4), &long),
        "stride: is 4, but beside the question, which is 23 tokens with the special ones, windows of 24 have \
         room for 1 of the context, which must be more"
    );
}

#[test]
fn the_tokenizers_own_length_holds() {
    let long = "the ".repeat(1000);
    let found = windows("wordpiece", (4096, 0), "the", &long).unwrap();
    assert_eq!(found[0].len(), 512);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Windows hold every token of the context, in order, and share the stride's.
    #[test]
    fn windows_cover_the_context(
        context in "[a-z .,é]{0,200}",
        question in "[a-z ]{0,10}",
        max_length in 24_usize..80,
        stride in 0_usize..10,
    ) {
        let all = windows("wordpiece", (512, 0), &question, &context).unwrap();
        let spans = |window: &Window| window.context.iter().flatten().cloned().collect::<Vec<_>>();
        let all = spans(&all[0]);
        let mut joined = Vec::new();
        for (index, window) in
            windows("wordpiece", (max_length, stride), &question, &context).unwrap().iter().enumerate()
        {
            prop_assert!(window.len() <= max_length);
            let here = spans(window);
            let shared = if index == 0 { 0 } else { stride };
            prop_assert_eq!(&here[..shared], &joined[joined.len() - shared..]);
            joined.extend_from_slice(&here[shared..]);
        }
        prop_assert_eq!(joined, all);
    }
}

#[derive(Deserialize)]
struct Answered {
    tokenizer: String,
    question: String,
    context: String,
    max_length: usize,
    stride: usize,
    starts: Vec<Vec<f32>>,
    ends: Vec<Vec<f32>>,
    divisor: f32,
    n_best: usize,
    max_answer_length: usize,
    null_threshold: Option<f32>,
    text: String,
    best: Vec<(String, f32, f32, f64)>,
    null_difference: Option<f32>,
    /// Whether no answer was possible, and the word `empty` stands in.
    nothing: bool,
}

impl Answered {
    fn found(&self) -> Answers {
        let lengths = (self.max_length, self.stride);
        let windows = windows(&self.tokenizer, lengths, &self.question, &self.context).unwrap();
        let logits = |rows: &[Vec<f32>]| -> Vec<Vec<f32>> {
            let rows = rows
                .iter()
                .map(|row| row.iter().map(|logit| logit / self.divisor));
            rows.map(Iterator::collect).collect()
        };
        let settings = AnswerSettings {
            n_best: self.n_best,
            max_length: self.max_answer_length,
            null_threshold: self.null_threshold,
        };
        let (starts, ends) = (logits(&self.starts), logits(&self.ends));
        answers(&self.context, &windows, &starts, &ends, &settings).unwrap()
    }
}

#[test]
fn answers_are_those_of_run_qa() {
    let (mut empty, mut nothing) = (0, 0);
    for case in read::<Vec<Answered>>("answers.json") {
        let place = format!(
            "{} {} {:?}",
            case.tokenizer, case.question, case.null_threshold
        );
        let found = case.found();
        if case.nothing {
            let null = usize::from(case.null_threshold.is_some());
            assert_eq!(found.best.len(), null, "{place}");
            assert_eq!(
                (found.text.as_str(), found.null_difference),
                ("", None),
                "{place}"
            );
            nothing += 1;
            continue;
        }
        empty += usize::from(case.text.is_empty());
        assert_eq!(found.text, case.text, "{place}");
        assert_eq!(found.null_difference, case.null_difference, "{place}");
        assert_eq!(found.best.len(), case.best.len(), "{place}");
        for (found, (text, start, end, probability)) in found.best.iter().zip(&case.best) {
            assert_eq!(found.text, *text, "{place}");
            assert_eq!(
                (found.start_logit, found.end_logit),
                (*start, *end),
                "{place}"
            );
            // NumPy's exponentials are of float32.
            let error = (found.probability - probability).abs();
            assert!(error <= 1e-6 * probability, "{place}: {error}");
            assert_eq!(found.text, case.context[found.span.clone()], "{place}");
        }
    }
    assert!(empty > 0 && nothing > 0);
}

#[test]
fn logits_that_do_not_fit_are_refused_in_one_line() {
    let context = "The keepers wrote a diary.";
    let windows = windows("wordpiece", (64, 0), "Who?", context).unwrap();
    let length = windows[0].len();
    let message = |windows: &[Window], starts: &[Vec<f32>], ends: &[Vec<f32>]| {
        let found = answers(context, windows, starts, ends, &AnswerSettings::default());
        found.unwrap_err().to_string()
    };
    let right = vec![vec![0.0; length]];
    assert_eq!(message(&[], &[], &[]), "start_logits: 0 rows for 0 windows");
    assert_eq!(
        message(&windows, &right, &[]),
        "end_logits: 0 rows for 1 windows"
    );
    assert_eq!(
        message(&windows, &right, &[vec![0.0; length + 1]]),
        format!("end_logits[0]: {} logits for {length} tokens", length + 1)
    );
    let mut broken = right.clone();
    broken[0][2] = f32::NAN;
    assert_eq!(
        message(&windows, &broken, &right),
        "start_logits[0][2]: is NaN, not a finite number"
    );
}
