//! Learning rates as a function of the update, counted from 1.

/// Rises linearly over `warmup` updates, then stays.
pub fn constant_with_warmup(lr: f64, warmup: u64, update: u64) -> f64 {
    lr * (update as f64 / warmup.max(1) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up() {
        assert_eq!(constant_with_warmup(2.0, 4, 1), 0.5);
        assert_eq!(constant_with_warmup(2.0, 4, 9), 2.0);
        assert_eq!(constant_with_warmup(2.0, 0, 1), 2.0);
    }
}
