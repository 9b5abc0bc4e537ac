//! Files of questions, in the JSON of SQuAD v1.1 and v2.0.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;

use crate::Error;
use crate::tokenizer::character_starts;

/// A file of questions. v2.0 differs from v1.1 by questions that have no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Squad {
    /// What the file says of itself: `1.1` or `v2.0` in the official files, empty where it says nothing.
    pub version: String,
    /// The articles that the contexts were taken from.
    pub articles: Vec<Article>,
}

/// The paragraphs of one article.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Article {
    /// Its title, empty where the file has none.
    pub title: String,
    /// Its paragraphs.
    pub paragraphs: Vec<Paragraph>,
}

/// A text and the questions asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paragraph {
    /// The text that the answers are spans of.
    pub context: String,
    /// The questions.
    pub questions: Vec<Question>,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its name, which no other question of the file has.
    pub id: String,
    /// What is asked.
    pub text: String,
    /// The answers that people gave. None where the context does not answer the question.
    pub answers: Vec<Answer>,
}

/// An answer that a person gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The words.
    pub text: String,
    /// Where they begin in the context, in characters (Unicode scalar values).
    pub start: usize,
}

impl Question {
    /// Whether the context does not answer the question (`is_impossible`).
    pub fn is_impossible(&self) -> bool {
        self.answers.is_empty()
    }
}

impl Answer {
    /// Where the answer is in its context, in bytes; `None` if its words are not where the file says, as in some
    /// translated files.
    pub fn span(&self, context: &str) -> Option<Range<usize>> {
        let starts = character_starts(context);
        let start = *starts.get(self.start)?;
        let span = start..start + self.text.len();
        (context.get(span.clone()) == Some(self.text.as_str())).then_some(span)
    }
}

impl Squad {
    /// Reads a file of SQuAD v1.1 or v2.0.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is not JSON, lacks what the format asks for, has no question or two of the same
    /// id, or says of a question that it is impossible and gives answers, or the other way round. The message names
    /// the question by its id or, before that is known, by its place.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        Self::parse(&bytes).map_err(|message| Error::file(path, message))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: RawFile = serde_json::from_slice(bytes)
            .map_err(|error| format!("not a file of SQuAD questions: {error}"))?;
        let articles = file
            .data
            .ok_or("no `data`: not a file of SQuAD questions")?;
        let articles = (articles.into_iter().enumerate())
            .map(|(index, article)| article.check(&format!("data[{index}]")))
            .collect::<Result<_, _>>()?;
        let squad = Self {
            version: file.version.unwrap_or_default(),
            articles,
        };
        squad.check_ids()?;
        Ok(squad)
    }

    fn check_ids(&self) -> Result<(), String> {
        let mut seen = HashSet::new();
        for (_, question) in self.questions() {
            if !seen.insert(&question.id) {
                return Err(format!("question {} is there twice", question.id));
            }
        }
        if seen.is_empty() {
            return Err("holds no questions".into());
        }
        Ok(())
    }

    /// All questions with their paragraphs, in the file's order.
    pub fn questions(&self) -> impl Iterator<Item = (&Paragraph, &Question)> {
        let paragraphs = self.articles.iter().flat_map(|article| &article.paragraphs);
        paragraphs.flat_map(|paragraph| {
            let questions = paragraph.questions.iter();
            questions.map(move |question| (paragraph, question))
        })
    }

    /// Whether a question has no answer, as in v2.0.
    pub fn has_impossible(&self) -> bool {
        self.questions()
            .any(|(_, question)| question.is_impossible())
    }
}

/// What a file holds; what is missing is found by `check`, which knows the place.
#[derive(Deserialize)]
struct RawFile {
    version: Option<String>,
    data: Option<Vec<RawArticle>>,
}

#[derive(Deserialize)]
struct RawArticle {
    title: Option<String>,
    paragraphs: Option<Vec<RawParagraph>>,
}

#[derive(Deserialize)]
struct RawParagraph {
    context: Option<String>,
    qas: Option<Vec<RawQuestion>>,
}

#[derive(Deserialize)]
struct RawQuestion {
    id: Option<String>,
    question: Option<String>,
    answers: Option<Vec<RawAnswer>>,
    is_impossible: Option<bool>,
}

#[derive(Deserialize)]
struct RawAnswer {
    text: Option<String>,
    answer_start: Option<usize>,
}

impl RawArticle {
    fn check(self, place: &str) -> Result<Article, String> {
        let paragraphs = required(self.paragraphs, place, "paragraphs")?;
        Ok(Article {
            title: self.title.unwrap_or_default(),
            paragraphs: (paragraphs.into_iter().enumerate())
                .map(|(index, paragraph)| paragraph.check(&format!("{place}.paragraphs[{index}]")))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl RawParagraph {
    fn check(self, place: &str) -> Result<Paragraph, String> {
        let questions = required(self.qas, place, "qas")?;
        Ok(Paragraph {
            context: required(self.context, place, "context")?,
            questions: (questions.into_iter().enumerate())
                .map(|(index, question)| question.check(&format!("{place}.qas[{index}]")))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl RawQuestion {
    fn check(self, place: &str) -> Result<Question, String> {
        let id = required(self.id, place, "id")?;
        let place = format!("question {id}");
        let text = required(self.question, &place, "question")?;
        let answers = required(self.answers, &place, "answers")?;
        match self.is_impossible {
            Some(true) if !answers.is_empty() => {
                return Err(format!("{place}: is_impossible, but has answers"));
            }
            Some(false) if answers.is_empty() => {
                return Err(format!("{place}: not is_impossible, but has no answers"));
            }
            _ => {}
        }
        let answers = answers.into_iter().map(|answer| answer.check(&place));
        let answers = answers.collect::<Result<_, _>>()?;
        Ok(Question { id, text, answers })
    }
}

impl RawAnswer {
    fn check(self, place: &str) -> Result<Answer, String> {
        Ok(Answer {
            text: required(self.text, place, "text of an answer")?,
            start: required(self.answer_start, place, "answer_start of an answer")?,
        })
    }
}

fn required<T>(value: Option<T>, place: &str, field: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("{place}: no {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        Squad::parse(text.as_bytes()).unwrap_err()
    }

    fn with_question(fields: &str) -> String {
        format!(r#"{{"data": [{{"paragraphs": [{{"context": "Ab", "qas": [{fields}]}}]}}]}}"#)
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        assert!(message("[").starts_with("not a file of SQuAD questions: EOF"));
        assert_eq!(message("{}"), "no `data`: not a file of SQuAD questions");
        assert_eq!(message(r#"{"data": []}"#), "holds no questions");
        assert_eq!(message(r#"{"data": [{}]}"#), "data[0]: no paragraphs");
        assert_eq!(
            message(r#"{"data": [{"paragraphs": [{"qas": []}]}]}"#),
            "data[0].paragraphs[0]: no context"
        );
        assert_eq!(
            message(&with_question("{}")),
            "data[0].paragraphs[0].qas[0]: no id"
        );
        let question = with_question(r#"{"id": "q7", "question": "?"}"#);
        assert_eq!(message(&question), "question q7: no answers");
        let answer = with_question(r#"{"id": "q7", "question": "?", "answers": [{"text": "A"}]}"#);
        assert_eq!(
            message(&answer),
            "question q7: no answer_start of an answer"
        );
    }

    #[test]
    fn a_question_that_contradicts_itself_is_named() {
        let impossible = with_question(
            r#"{"id": "q7", "question": "?", "is_impossible": true,
                "answers": [{"text": "A", "answer_start": 0}]}"#,
        );
        assert_eq!(
            message(&impossible),
            "question q7: is_impossible, but has answers"
        );
        let unanswered = with_question(
            r#"{"id": "q7", "question": "?", "is_impossible": false, "answers": []}"#,
        );
        assert_eq!(
            message(&unanswered),
            "question q7: not is_impossible, but has no answers"
        );
        let one = r#"{"id": "q7", "question": "?", "answers": []}"#;
        let twice = with_question(&format!("{one}, {one}"));
        assert_eq!(message(&twice), "question q7 is there twice");
    }

    #[test]
    fn a_span_is_in_bytes_and_holds_the_words() {
        let answer = Answer {
            text: "né".into(),
            start: 3,
        };
        assert_eq!(answer.span("été né"), None);
        let answer = Answer { start: 4, ..answer };
        let span = answer.span("été né").unwrap();
        assert_eq!(&"été né"[span], "né");
        let answer = Answer {
            start: 40,
            ..answer
        };
        assert_eq!(answer.span("été né"), None);
    }
}
