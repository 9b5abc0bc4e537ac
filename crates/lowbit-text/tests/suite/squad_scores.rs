//! Files of questions and scores against the official scripts of SQuAD v1.1 and v2.0.

use std::collections::{BTreeMap, HashMap};

use lowbit_text::squad::{
    BestThresholds, NoAnswer, Score, ScoreV2, Squad, exact_match, f1_v1, f1_v2, normalize,
    score_v1, score_v2,
};
use proptest::prelude::*;
use serde::Deserialize;

use crate::reference::{path, read};

#[derive(Deserialize)]
struct Expected {
    v1: ExpectedV1,
    v2: ExpectedV2,
}

#[derive(Deserialize)]
struct ExpectedV1 {
    predictions: HashMap<String, String>,
    normalized: HashMap<String, String>,
    f1: BTreeMap<String, Vec<f64>>,
    all: TotalV1,
    without_every_third: TotalV1,
}

#[derive(Debug, PartialEq, Deserialize)]
struct TotalV1 {
    exact_match: f64,
    f1: f64,
}

#[derive(Deserialize)]
struct ExpectedV2 {
    predictions: HashMap<String, String>,
    probabilities: HashMap<String, f64>,
    f1: BTreeMap<String, Vec<f64>>,
    plain: HashMap<String, f64>,
    thresholds: Vec<HashMap<String, f64>>,
}

fn expected() -> Expected {
    read("scores.json")
}

fn squad(name: &str) -> Squad {
    Squad::open(path(name)).unwrap()
}

/// Each answer's F1 with the prediction, as `f1` gives it, is the expected.
fn check_f1(
    squad: &Squad,
    predictions: &HashMap<String, String>,
    expected: &BTreeMap<String, Vec<f64>>,
    f1: fn(&str, &str) -> f64,
) {
    for (_, question) in squad.questions().filter(|(_, it)| !it.is_impossible()) {
        let prediction = &predictions[&question.id];
        let golds = question.answers.iter().map(|answer| &answer.text);
        let found: Vec<f64> = golds.clone().map(|gold| f1(prediction, gold)).collect();
        let golds: Vec<&String> = golds.collect();
        assert_eq!(found, expected[&question.id], "{prediction:?} {golds:?}");
    }
}

#[test]
fn a_file_of_v1_is_read_and_scored_as_by_the_official_script() {
    let (squad, expected) = (squad("v1.json"), expected().v1);
    assert_eq!(squad.version, "1.1");
    assert!(!squad.has_impossible());
    assert_eq!(squad.questions().count(), expected.predictions.len());
    for (id, prediction) in &expected.predictions {
        assert_eq!(
            normalize(prediction),
            expected.normalized[id],
            "{prediction:?}"
        );
    }
    check_f1(&squad, &expected.predictions, &expected.f1, f1_v1);
    let total = |predictions| {
        let Score { exact, f1, total } = score_v1(&squad, predictions).unwrap();
        assert_eq!(total, expected.predictions.len());
        TotalV1 {
            exact_match: exact,
            f1,
        }
    };
    assert_eq!(total(&expected.predictions), expected.all);
    let mut fewer = expected.predictions.clone();
    fewer.retain(|id, _| id[1..].parse::<usize>().unwrap() % 3 != 0);
    assert_eq!(total(&fewer), expected.without_every_third);
}

fn official(found: &ScoreV2) -> HashMap<String, f64> {
    let parts = [
        ("", Some(found.all)),
        ("HasAns_", found.has_answer),
        ("NoAns_", found.no_answer),
    ];
    let mut fields = HashMap::new();
    for (prefix, part) in parts {
        let Some(Score { exact, f1, total }) = part else {
            continue;
        };
        fields.insert(format!("{prefix}exact"), exact);
        fields.insert(format!("{prefix}f1"), f1);
        fields.insert(format!("{prefix}total"), total as f64);
    }
    if let Some(best) = found.best {
        let BestThresholds {
            exact,
            exact_threshold,
            f1,
            f1_threshold,
        } = best;
        fields.insert("best_exact".into(), exact);
        fields.insert("best_exact_thresh".into(), exact_threshold);
        fields.insert("best_f1".into(), f1);
        fields.insert("best_f1_thresh".into(), f1_threshold);
    }
    fields
}

#[test]
fn a_file_of_v2_is_read_and_scored_as_by_the_official_script() {
    let (squad, expected) = (squad("v2.json"), expected().v2);
    assert_eq!(squad.version, "v2.0");
    assert!(squad.has_impossible());
    check_f1(&squad, &expected.predictions, &expected.f1, f1_v2);
    let plain = score_v2(&squad, &expected.predictions, None).unwrap();
    assert_eq!(official(&plain), expected.plain);
    for mut case in expected.thresholds {
        let no_answer = NoAnswer {
            probabilities: &expected.probabilities,
            threshold: case.remove("threshold").unwrap(),
        };
        let found = score_v2(&squad, &expected.predictions, Some(no_answer)).unwrap();
        assert_eq!(official(&found), case);
    }
}

#[test]
fn what_cannot_be_scored_is_named() {
    let v2 = squad("v2.json");
    let expected = expected().v2;
    let v1 = score_v1(&v2, &expected.predictions).unwrap_err();
    assert_eq!(
        v1.to_string(),
        "question q237: has no answers, which only the scores of v2.0 allow"
    );
    let mut fewer = expected.predictions.clone();
    fewer.remove("q20");
    let missing = score_v2(&v2, &fewer, None).unwrap_err();
    assert_eq!(missing.to_string(), "question q20: has no prediction");
    let mut probabilities = expected.probabilities.clone();
    probabilities.insert("q30".into(), f64::NAN);
    let no_answer = NoAnswer {
        probabilities: &probabilities,
        threshold: 0.5,
    };
    let found = score_v2(&v2, &expected.predictions, Some(no_answer)).unwrap_err();
    assert_eq!(
        found.to_string(),
        "question q30: has no finite probability of no answer"
    );
    let path = path("scores.json");
    let message = Squad::open(&path).unwrap_err().to_string();
    assert!(
        message.ends_with("scores.json: no `data`: not a file of SQuAD questions"),
        "{message}"
    );
}

/// Ranges of code points, both ends included.
type Ranges = Vec<(u32, u32)>;

#[derive(Deserialize)]
struct Unicode {
    upper: String,
    lower: String,
    space: Ranges,
    word: Ranges,
    unassigned: Ranges,
}

fn holds(ranges: &Ranges, character: char) -> bool {
    let code = u32::from(character);
    let next = ranges.partition_point(|&(first, _)| first <= code);
    next > 0 && code <= ranges[next - 1].1
}

/// Over all of Unicode but for what Python's older tables do not know.
#[test]
fn letters_words_and_spaces_are_those_of_python() {
    let unicode: Unicode = read("unicode.json");
    let known = |character: &char| !holds(&unicode.unassigned, *character);
    assert_eq!(unicode.upper.to_lowercase(), unicode.lower);
    for character in ('\0'..=char::MAX).filter(known) {
        // The article goes, unless it stands beside a part of a word.
        let with_article = normalize(&format!("the{character}"));
        let word = holds(&unicode.word, character) && character != '_';
        let space = holds(&unicode.space, character);
        let lower = format!("the{character}").to_lowercase();
        let expected = match (word, space || character.is_ascii_punctuation()) {
            (true, _) => &lower,
            (false, true) => "",
            (false, false) => &lower["the".len()..],
        };
        assert_eq!(with_article, expected, "U+{:04X}", u32::from(character));
    }
}

proptest! {
    /// Words of answers, and what may stand around them.
    #[test]
    fn scores_keep_to_their_range(
        prediction in "([A-Ca-c]|the|an|[ .’é½Σ_\u{301}\u{1f}]){0,12}",
        gold in "([A-Ca-c]|the|an|[ .’é½Σ_\u{301}\u{1f}]){0,12}",
    ) {
        let (left, right) = (f1_v2(&prediction, &gold), f1_v2(&gold, &prediction));
        prop_assert_eq!(left, right);
        prop_assert!((0.0..=1.0).contains(&left));
        prop_assert!(f1_v1(&prediction, &gold) <= left);
        prop_assert!(!exact_match(&prediction, &gold) || left == 1.0);
        let normal = normalize(&prediction);
        prop_assert_eq!(&normalize(&normal), &normal);
    }
}
