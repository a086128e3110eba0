//! Powers by multiplications alone: the same on every machine.

/// `base` to the power of `exponent`.
pub(crate) fn power(mut base: f64, mut exponent: u32) -> f64 {
    let mut product = 1.0;
    loop {
        if exponent & 1 == 1 {
            product *= base;
        }
        exponent >>= 1;
        if exponent == 0 {
            return product;
        }
        base *= base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_products() {
        let exact = |exponent| {
            assert!((power(0.5, exponent) - 1.0 / f64::from(1u32 << exponent)).abs() == 0.0)
        };
        (0..20).for_each(exact);
        assert!((power(0.95, 3) - 0.95 * 0.95 * 0.95).abs() < 1e-15);
        assert_eq!(power(0.9, u32::MAX), 0.0);
    }
}
