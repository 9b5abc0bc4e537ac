//! The nearest of some texts to one that is none of them.

/// The first of `known` that is nearest to `pattern`, in which `*` stands for any characters: the one
/// with the fewest characters to insert, leave out or replace (Levenshtein's distance).
pub(super) fn nearest<'a>(
    pattern: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known.into_iter().min_by_key(|text| distance(pattern, text))
}

fn distance(pattern: &str, text: &str) -> usize {
    let text: Vec<char> = text.chars().collect();
    // Of what was read of the pattern from the first so many characters of the text.
    let mut row: Vec<usize> = (0..=text.len()).collect();
    for wanted in pattern.chars() {
        let is_star = wanted == '*';
        let mut above_left = row[0];
        row[0] += usize::from(!is_star);
        for (i, &found) in text.iter().enumerate() {
            let above = row[i + 1];
            let replaced = above_left + usize::from(found != wanted);
            row[i + 1] = match is_star {
                true => above.min(row[i]),
                false => replaced.min(above + 1).min(row[i] + 1),
            };
            above_left = above;
        }
    }
    row[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kitten, sitten, sittin, sitting.
    #[test]
    fn distances_by_hand() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("*", "anything"), 0);
        assert_eq!(distance("layer*.conv", "layer1.0.conv"), 0);
        assert_eq!(distance("layer*.covn", "layer1.0.conv"), 2);
    }

    #[test]
    fn the_first_of_the_nearest() {
        assert_eq!(nearest("wieght", ["input", "weight"]), Some("weight"));
        assert_eq!(nearest("fc3", ["fc1", "fc2"]), Some("fc1"));
        assert_eq!(nearest("a", []), None);
    }
}
