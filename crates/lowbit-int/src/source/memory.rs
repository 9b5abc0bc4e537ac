//! Which tensors share memory.

/// A tensor in memory: how many elements, and from which step to which it is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) elements: usize,
    pub(crate) made: usize,
    pub(crate) last: usize,
}

impl Life {
    fn meets(&self, other: &Self) -> bool {
        self.made <= other.last && other.made <= self.last
    }
}

/// Where each tensor begins, and how many elements there are in all. Large ones are placed first,
/// each as far to the front as those allow whose lives meet its own.
pub(crate) fn arrange(lives: &[Life]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(lives[i].elements));
    let mut places = vec![0; lives.len()];
    let mut total = 0;
    for (done, &tensor) in order.iter().enumerate() {
        let placed = order[..done].iter().copied();
        let mut taken: Vec<(usize, usize)> = placed
            .filter(|&other| lives[other].meets(&lives[tensor]))
            .map(|other| (places[other], lives[other].elements))
            .collect();
        taken.sort_unstable();
        let mut at = 0;
        for (start, elements) in taken {
            if at + lives[tensor].elements <= start {
                break;
            }
            at = at.max(start + elements);
        }
        places[tensor] = at;
        total = total.max(at + lives[tensor].elements);
    }
    (places, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain of 6, 4 and 5 elements: the third lies where the first was, 6 + 4 in all; a fourth
    /// that lives beside all of them comes after.
    #[test]
    fn lives_by_hand() {
        let life = |elements, made, last| Life {
            elements,
            made,
            last,
        };
        let mut lives = vec![life(6, 0, 1), life(4, 1, 2), life(5, 2, 3)];
        assert_eq!(arrange(&lives), (vec![0, 6, 0], 10));
        lives.push(life(1, 0, 3));
        assert_eq!(arrange(&lives), (vec![0, 6, 0, 10], 11));
    }
}
