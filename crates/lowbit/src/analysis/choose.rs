//! One choice for each item within a budget.

/// A choice for one tensor or layer: what it takes, and the loss that it adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    pub(super) cost: f64,
    pub(super) loss: f64,
    pub(super) weight: u32,
    pub(super) input: u32,
}

/// One choice for each item, whose costs together are within the budget, with a small loss: that of a
/// price of the cost (Lagrange), and then what still fits. `None` if the least cost does not fit.
pub(super) fn choose(items: &[Vec<Choice>], budget: f64) -> Option<Vec<Choice>> {
    let at = |price: f64| -> Vec<Choice> {
        let value = |choice: &Choice| choice.loss + price * choice.cost;
        let best = |choices: &Vec<Choice>| {
            let least = choices.iter().min_by(|a, b| value(a).total_cmp(&value(b)));
            least.copied()
        };
        items.iter().filter_map(best).collect()
    };
    let cost = |chosen: &[Choice]| chosen.iter().map(|choice| choice.cost).sum::<f64>();
    let cheapest = |choices: &Vec<Choice>| {
        choices
            .iter()
            .min_by(|a, b| a.cost.total_cmp(&b.cost))
            .copied()
    };
    let mut chosen: Vec<Choice> = items.iter().filter_map(cheapest).collect();
    let budget = budget * (1.0 + 1e-9);
    if cost(&chosen) > budget {
        return None;
    }
    let (mut low, mut high) = (-80.0f64, 40.0f64);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        let tried = at(middle.exp2());
        match cost(&tried) <= budget {
            true => (chosen, high) = (tried, middle),
            false => low = middle,
        }
    }
    while let Some((item, choice)) = upgrade(items, &chosen, budget - cost(&chosen)) {
        chosen[item] = choice;
    }
    Some(chosen)
}

/// The change that takes most loss off for what it takes, and fits.
fn upgrade(items: &[Vec<Choice>], chosen: &[Choice], left: f64) -> Option<(usize, Choice)> {
    let options = items.iter().zip(chosen).enumerate();
    let options = options.flat_map(|(item, (choices, now))| {
        let better = choices
            .iter()
            .filter(move |choice| choice.loss < now.loss && choice.cost - now.cost <= left);
        better.map(move |choice| {
            let more = (choice.cost - now.cost).max(f64::MIN_POSITIVE);
            ((now.loss - choice.loss) / more, item, *choice)
        })
    });
    let best = options.max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, item, choice)| (item, choice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(cost: f64, loss: f64) -> Choice {
        Choice {
            cost,
            loss,
            weight: 0,
            input: 0,
        }
    }

    /// Two items of costs 1, 2, 3: the first loses much with 1, the second little. Within 4, 3 and 1
    /// lose 0.1 + 0.2; 2 and 2 lose 1.1; 1 and 3 lose 10.
    #[test]
    fn what_matters_gets_the_bits() {
        let items = [
            vec![choice(1.0, 10.0), choice(2.0, 1.0), choice(3.0, 0.1)],
            vec![choice(1.0, 0.2), choice(2.0, 0.1), choice(3.0, 0.0)],
        ];
        let cost = |budget| {
            let chosen = choose(&items, budget).unwrap();
            chosen.iter().map(|c| c.cost).collect::<Vec<_>>()
        };
        assert_eq!(cost(4.0), [3.0, 1.0]);
        assert_eq!(cost(2.0), [1.0, 1.0]);
        assert_eq!(cost(100.0), [3.0, 3.0]);
        assert_eq!(choose(&items, 1.0), None);
    }
}
