//! Where a curve that only falls reaches zero.

/// The excess at the number that is found lies at most this far below zero.
const EXACT: f64 = 1e-6;
/// A search ends after so many steps; nearly always ten suffice.
const STEPS_MAX: u32 = 40;

/// The smallest number in a range at which `excess`, which only ever falls, is not positive, or a
/// number beyond it whose excess is next to nothing; `None` when there is none.
///
/// By the Illinois method: the next number is where a line between both ends falls to zero; an end
/// that stays a second time counts half. Every third step goes to the middle, for curves that lines
/// follow badly.
pub(super) fn smallest(
    (mut low, mut high): (f64, f64),
    excess: impl Fn(f64) -> f64,
) -> Option<f64> {
    let (mut above, mut below) = (excess(low), excess(high));
    if above <= 0.0 {
        return Some(low);
    }
    if below > 0.0 {
        return None;
    }
    let (mut reached, mut was_above) = (below, None);
    for step in 1..=STEPS_MAX {
        if reached > -EXACT {
            break;
        }
        let crossing = high - below * (high - low) / (below - above);
        let is_between = low < crossing && crossing < high;
        let next = if is_between && step % 3 > 0 { crossing } else { f64::midpoint(low, high) };
        let value = excess(next);
        let is_above = value > 0.0;
        let stays = was_above.replace(is_above) == Some(is_above);
        let counts = if stays { 0.5 } else { 1.0 };
        if is_above {
            (low, above, below) = (next, value, below * counts);
        } else {
            (high, below, reached, above) = (next, value, value, above * counts);
        }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_number_that_suffices_is_found_in_a_few_steps() {
        let found = |range, excess: &dyn Fn(f64) -> f64| {
            let steps = std::cell::Cell::new(0);
            let counted = |x| {
                steps.set(steps.get() + 1);
                excess(x)
            };
            (smallest(range, counted), steps.get())
        };
        assert_eq!(found((0.0, 1.0), &|x| -x).0, Some(0.0), "all do");
        assert_eq!(found((0.0, 1.0), &|x| 1.5 - x).0, None, "none does");
        let curves: [&dyn Fn(f64) -> f64; 4] = [
            &|x| 0.3 - x,
            &|x| 1.0 / x - 1.0 / 0.3,
            &|x| (0.3 - x) * (0.3 - x) * (0.3 - x),
            &|x| 0.09 - x * x,
        ];
        for excess in curves {
            let (number, steps) = found((1e-3, 1.0), excess);
            let number = number.expect("there is one");
            assert!(excess(number) <= 0.0 && excess(number) > -2e-6, "{number}");
            assert!(steps < 25, "{steps}");
        }
        let (step, _) = found((0.0, 1.0), &|x| if x < 0.3 { f64::INFINITY } else { -1.0 });
        assert!(step.is_some_and(|number| (0.3..0.301).contains(&number)), "{step:?}");
    }
}
