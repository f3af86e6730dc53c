//! Learning rates as a function of the update, counted from 1.

/// Rises linearly over `warmup` updates, then stays.
pub fn constant_with_warmup(lr: f64, warmup: u64, update: u64) -> f64 {
    lr * (update as f64 / warmup.max(1) as f64).min(1.0)
}

/// Rises linearly over `warmup` updates, then falls along half a cosine to zero behind update `total`.
pub fn cosine_with_warmup(lr: f64, warmup: u64, total: u64, update: u64) -> f64 {
    if update <= warmup {
        return constant_with_warmup(lr, warmup, update);
    }
    let done = (update - warmup) as f64 / (total.saturating_sub(warmup) + 1) as f64;
    lr * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_and_decay() {
        assert_eq!(constant_with_warmup(2.0, 4, 1), 0.5);
        assert_eq!(constant_with_warmup(2.0, 4, 9), 2.0);
        assert_eq!(constant_with_warmup(2.0, 0, 1), 2.0);
        assert_eq!(cosine_with_warmup(2.0, 2, 10, 2), 2.0);
        let rates: Vec<f64> = (2..=10)
            .map(|u| cosine_with_warmup(2.0, 2, 10, u))
            .collect();
        assert!(
            rates.is_sorted_by(|a, b| a > b) && rates[8] > 0.0,
            "{rates:?}"
        );
        assert!(cosine_with_warmup(2.0, 2, 10, 11) < 1e-12);
    }
}
