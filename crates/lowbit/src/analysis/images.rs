//! Which images a quantized network loses.

use serde::Serialize;

use super::measured::Answers;

/// Images that are listed at most.
const LISTED: usize = 24;

/// How often images of each class are taken for each class.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Confusion {
    /// Of the float network, `[class][what it was taken for]`.
    pub float: Vec<Vec<u64>>,
    /// Of the quantized one.
    pub quantized: Vec<Vec<u64>>,
}

impl Confusion {
    /// That of both networks' answers.
    pub(super) fn of(classes: usize, float: &Answers, quantized: &Answers) -> Self {
        let count = |answers: &Answers| {
            let mut counts = vec![vec![0; classes]; classes];
            for (&target, &class) in answers.targets.iter().zip(&answers.classes) {
                counts[target][class] += 1;
            }
            counts
        };
        Self {
            float: count(float),
            quantized: count(quantized),
        }
    }
}

/// An image that the float network gets right and a quantized one does not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LostImage {
    /// Its number in the test set.
    pub image: u32,
    /// Its class.
    pub class: usize,
    /// The wrong class that most of the networks which lose it take it for, the first of several.
    pub taken_for: usize,
    /// Whether it is right with all layers quantized, so that only some of them lose it.
    pub right_quantized: bool,
    /// The loss that quantization adds to it, in nats.
    pub added_loss: f64,
    /// Of how many of the networks with some layers quantized (all; each alone; all but each) it is
    /// lost.
    pub times: usize,
    /// Those networks.
    pub of: usize,
}

/// The images that the float network gets right and some other does not, those first that are lost most
/// often, and of those the one whose loss grows most.
pub(super) fn lost(
    images: &[u32],
    float: &Answers,
    quantized: &Answers,
    others: &[&Answers],
) -> Vec<LostImage> {
    let all: Vec<&Answers> = std::iter::once(quantized)
        .chain(others.iter().copied())
        .collect();
    let found = images.iter().enumerate().filter_map(|(i, &image)| {
        let losing = all.iter().filter(|answers| !answers.is_right(i));
        let wrong: Vec<usize> = losing.map(|answers| answers.classes[i]).collect();
        let taken_for = commonest(&wrong).filter(|_| float.is_right(i))?;
        Some(LostImage {
            image,
            class: float.targets[i],
            taken_for,
            right_quantized: quantized.is_right(i),
            added_loss: quantized.losses[i] - float.losses[i],
            times: wrong.len(),
            of: all.len(),
        })
    });
    let mut found: Vec<LostImage> = found.collect();
    found.sort_by(|a, b| {
        let more = b.times.cmp(&a.times);
        more.then(b.added_loss.total_cmp(&a.added_loss))
    });
    found.truncate(LISTED);
    found
}

/// The class that is there most often, the first of several.
fn commonest(classes: &[usize]) -> Option<usize> {
    let times = |class: usize| classes.iter().filter(|&&other| other == class).count();
    // Of several, `max_by_key` takes the last.
    classes
        .iter()
        .rev()
        .copied()
        .max_by_key(|&class| times(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(classes: [usize; 3], losses: [f64; 3]) -> Answers {
        Answers {
            losses: losses.into(),
            classes: classes.into(),
            targets: vec![0, 1, 1],
        }
    }

    #[test]
    fn images_lost_most_often_come_first() {
        let float = answers([0, 1, 0], [0.0; 3]);
        let quantized = answers([1, 0, 0], [2.0, 1.0, 9.0]);
        let other = answers([0, 0, 0], [0.0; 3]);
        let found = lost(&[5, 6, 7], &float, &quantized, &[&other]);
        let facts: Vec<_> = found.iter().map(|l| (l.image, l.times, l.of)).collect();
        // The third is wrong in float, too.
        assert_eq!(facts, [(6, 2, 2), (5, 1, 2)]);
        assert_eq!((found[1].class, found[1].taken_for), (0, 1));
        let confusion = Confusion::of(2, &float, &quantized);
        assert_eq!(confusion.float, [[1, 0], [1, 1]]);
        assert_eq!(confusion.quantized, [[0, 1], [2, 0]]);
    }

    /// All layers quantized are right; of three that are not, two say 2.
    #[test]
    fn what_it_is_taken_for_is_said_by_those_that_lose_it() {
        let of = |class: usize| answers([class, 1, 1], [0.0; 3]);
        let others = [of(1), of(2), of(2)];
        let others: Vec<&Answers> = others.iter().collect();
        let found = lost(&[5, 6, 7], &of(0), &of(0), &others);
        let facts: Vec<_> = found
            .iter()
            .map(|l| (l.class, l.taken_for, l.right_quantized, l.times, l.of))
            .collect();
        assert_eq!(facts, [(0, 2, true, 3, 4)]);
    }
}
