//! `lowbit qa`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use lowbit::Device;
use lowbit::models::parameter_bits;
use lowbit::report::{Alignment, Table};
use lowbit_text::squad::{AnswerSettings, Candidate, Squad, WindowSettings};
use lowbit_text::{Answering, Evaluated, ModelFolder};
use serde::Serialize;

use super::text::{ModelArguments, Way, at_least_one, megabytes};
use super::{Ended, print_json};
use crate::output::{print, say};
use crate::progress::Bars;

/// Answer questions about a text by a transformer (ALBERT, BERT), in float or any number format.
///
/// With --question and --context it prints the answers with their probabilities; with --data it answers a
/// file in SQuAD's format and prints exact match and F1 as the official script computes them.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A question about the context
    #[arg(long, value_name = "TEXT", requires = "context")]
    question: Vec<String>,
    /// A text file that has the answers
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// Questions, contexts and answers in the format of SQuAD 1.1 or 2.0
    #[arg(long, value_name = "FILE", conflicts_with_all = ["question", "context"])]
    data: Option<PathBuf>,
    /// Answers that are printed for each question
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    answers: usize,
    /// The most tokens of a window of question and context [default: 384, or the model's positions]
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Tokens of the context that windows share [default: 128, or a third of a window]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// The most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = at_least_one)]
    max_answer: usize,
    /// A question has no answer where that scores more than T above the best one [default: 0 of a file with
    /// questions without an answer; otherwise every question has one]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    no_answer: Option<f32>,
    /// Print JSON: of each way its answers, or its scores with the answer to each question
    #[arg(long)]
    json: bool,
}

/// What `--json` prints of one way and one question.
#[derive(Serialize)]
struct Answered {
    way: String,
    question: String,
    answers: Vec<AnswerReport>,
}

#[derive(Serialize)]
struct AnswerReport {
    text: String,
    probability: f64,
    score: f32,
    start: usize,
    end: usize,
}

/// What `--json` prints of one way and a file.
#[derive(Serialize)]
struct Scored {
    way: String,
    exact: f64,
    f1: f64,
    questions: usize,
    parameter_bits: u64,
    seconds: f64,
    /// By the questions' ids, as the official scripts read them.
    predictions: BTreeMap<String, String>,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        if let Some(threshold) = self.no_answer.filter(|threshold| threshold.is_nan()) {
            return Err(format!("--no-answer: is {threshold}, expected a number").into());
        }
        if self.data.is_none() && self.question.is_empty() {
            return Err("--question: is missing, expected one with --context, or --data".into());
        }
        let (folder, device, ways) = self.model.open()?;
        match (&self.data, &self.context) {
            (Some(data), _) => self.evaluate(&folder, &device, &ways, data)?,
            (None, Some(context)) => self.ask(&folder, &device, &ways, context)?,
            (None, None) => return Err("--context: is missing, expected a text file".into()),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// How long windows are.
    fn windows(&self, folder: &ModelFolder) -> WindowSettings {
        let usual = WindowSettings::default();
        let positions = folder.config.positions();
        let max_length = self.max_length.unwrap_or(usual.max_length.min(positions));
        WindowSettings {
            max_length,
            stride: self.stride.unwrap_or(usual.stride.min(max_length / 3)),
        }
    }

    /// Runs `f` on the model in one of the ways, with that threshold for no answer.
    fn with<T>(
        &self,
        (folder, null_threshold): (&ModelFolder, Option<f32>),
        device: &Device,
        way: &Way,
        f: impl FnOnce(&Answering<'_>) -> Result<T, lowbit_text::Error>,
    ) -> Result<(T, u64), Box<dyn Error>> {
        let loaded = folder.question_answering(&way.plan, device)?;
        for warning in loaded.warnings() {
            say(format_args!("warning: {}: {warning}", way.name));
        }
        let answering = Answering {
            network: &loaded.network,
            tokenizer: &folder.tokenizer,
            positions: folder.config.positions(),
            windows: self.windows(folder),
            answers: AnswerSettings {
                n_best: AnswerSettings::default().n_best.max(self.answers),
                max_length: self.max_answer,
                null_threshold,
            },
            device: device.clone(),
        };
        let bits = way.bits(folder, parameter_bits(&loaded.network, &loaded.layers))?;
        Ok((f(&answering)?, bits))
    }

    fn ask(
        &self,
        folder: &ModelFolder,
        device: &Device,
        ways: &[Way],
        context: &Path,
    ) -> Result<(), Box<dyn Error>> {
        let text = std::fs::read_to_string(context)
            .map_err(|error| format!("{}: {error}", context.display()))?;
        let mut answered = Vec::new();
        for way in ways {
            let asked = (folder, self.no_answer);
            let ((), _) = self.with(asked, device, way, |answering| {
                for question in &self.question {
                    let found = answering.answer(question, &text)?;
                    // A threshold may choose one that does not score the most.
                    let mut best = found.best;
                    if let Some(chosen) = best.iter().position(|it| it.text == found.text) {
                        best[..=chosen].rotate_right(1);
                    }
                    let best = best.iter().take(self.answers);
                    answered.push(Answered {
                        way: way.name.clone(),
                        question: question.clone(),
                        answers: best.map(AnswerReport::from).collect(),
                    });
                }
                Ok(())
            })?;
        }
        match self.json {
            true => print_json(&answered),
            false => Ok(print(answers_table(&answered, ways.len() > 1))?),
        }
    }

    fn evaluate(
        &self,
        folder: &ModelFolder,
        device: &Device,
        ways: &[Way],
        data: &Path,
    ) -> Result<(), Box<dyn Error>> {
        let squad = Squad::open(data)?;
        let usual = squad.has_impossible().then_some(0.0);
        let asked = (folder, self.no_answer.or(usual));
        let mut scored = Vec::new();
        let mut bars = Bars::new();
        for way in ways {
            let evaluated = self.with(asked, device, way, |answering| {
                answering.evaluate(&squad, &mut |done, all| bars.count(&way.name, done, all))
            });
            match evaluated {
                Ok((evaluated, bits)) => scored.push(Scored::of(&way.name, evaluated, bits)),
                // Such as a format in which scores overflow: the others are compared.
                Err(error) if ways.len() > 1 => {
                    say(format_args!("warning: {}: {error}", way.name));
                }
                Err(error) => return Err(error),
            }
        }
        match self.json {
            true => print_json(&scored),
            false => Ok(print(scores_table(&scored))?),
        }
    }
}

impl From<&Candidate> for AnswerReport {
    fn from(candidate: &Candidate) -> Self {
        Self {
            text: candidate.text.clone(),
            probability: candidate.probability,
            score: candidate.score(),
            start: candidate.span.start,
            end: candidate.span.end,
        }
    }
}

impl Scored {
    fn of(way: &str, evaluated: Evaluated, parameter_bits: u64) -> Self {
        Self {
            way: way.into(),
            exact: evaluated.score.exact,
            f1: evaluated.score.f1,
            questions: evaluated.score.total,
            parameter_bits,
            seconds: evaluated.time.as_secs_f64(),
            predictions: evaluated.predictions.into_iter().collect(),
        }
    }
}

fn answers_table(answered: &[Answered], several: bool) -> Table {
    let rows = answered.iter().flat_map(|one| {
        one.answers.iter().map(move |answer| {
            let text = match answer.start == answer.end {
                true => "(no answer)".into(),
                false => answer.text.replace('\n', " "),
            };
            let mut row = vec![one.question.clone(), text];
            if several {
                row.insert(0, one.way.clone());
            }
            row.extend([
                format!("{:.3}", answer.probability),
                format!("{:.3}", answer.score),
            ]);
            row
        })
    });
    let headings = ["", "question", "answer", "probability", "score"];
    let mut table = Table::new(headings.into_iter().skip(usize::from(!several)));
    for column in &mut table.columns {
        if ["question", "answer"].contains(&column.heading.as_str()) {
            column.alignment = Alignment::Left;
        }
    }
    table.with_rows(rows)
}

fn scores_table(scored: &[Scored]) -> Table {
    let seconds = |one: &Scored| one.seconds / one.questions.max(1) as f64;
    let rows = scored.iter().map(|one| {
        vec![
            one.way.clone(),
            format!("{:.2} %", one.exact),
            format!("{:.2} %", one.f1),
            megabytes(one.parameter_bits),
            format!("{:.3}", seconds(one)),
        ]
    });
    let questions = scored.first().map_or(0, |one| one.questions);
    Table::new(["", "exact match", "F1", "parameters, MB", "s a question"])
        .with_caption(format!("{questions} questions"))
        .with_rows(rows)
}
