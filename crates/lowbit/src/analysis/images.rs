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
    /// What the quantized network takes it for.
    pub taken_for: usize,
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
        let times = all.iter().filter(|answers| !answers.is_right(i)).count();
        (float.is_right(i) && times > 0).then(|| LostImage {
            image,
            class: float.targets[i],
            taken_for: quantized.classes[i],
            added_loss: quantized.losses[i] - float.losses[i],
            times,
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
        let confusion = Confusion::of(2, &float, &quantized);
        assert_eq!(confusion.float, [[1, 0], [1, 1]]);
        assert_eq!(confusion.quantized, [[0, 1], [2, 0]]);
    }
}
