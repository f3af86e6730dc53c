"""Forward and backward of Algorithm 2 in PyTorch eager, for comparison with bench_losses.rs.

    python bench_losses.py [TOKENS] [RUNS]
"""

import json
import sys
import time

import numpy as np
import torch

N_COLUMNS = 1024


def rpg_style_clip(lp, lp_old, advantages, mask, beta=1e-4, low=0.8, high=1.28, c=10.0):
    """RPG-REINFORCE with unnormalized reverse KL, r = 1, token mean."""
    with torch.no_grad():
        log_w = lp - lp_old
        w = torch.exp(log_w.clamp(-20.0, 20.0))
        kl = -beta * w * log_w
        weight = w * advantages + kl
        negative = weight * -lp < 0
        is_high = ~negative & (w >= high)
        is_low = negative & (w <= low)
        is_dual = negative & (w >= c)
        bound = torch.where(is_high, high, torch.where(is_dual, c, low))
        clipped = is_high | is_low | is_dual
        at_bound = (advantages * bound + kl) * -lp
    loss = torch.where(clipped, at_bound, weight * -lp)
    n = mask.sum()
    mean = lambda values: (values * mask).sum() / n
    with torch.no_grad():
        # What `policy_loss` reports; the reference is the policy that sampled, so u = log w.
        inverse = 1 / w
        squares, mean_w, k3_ref = mean(w * w), mean(w), inverse - 1 + log_w
        half_square = mean(log_w * log_w) / 2
        metrics = {
            "clipfrac": mean(is_high | is_low),
            "clipfrac_lower": mean(is_dual),
            "clip_low": mean(is_low),
            "clip_high": mean(is_high),
            "weight_mean": mean_w,
            "eff_sample_size": mean_w**2 / squares,
            "chi2": squares - 1,
            "kl_loss": mean(w * k3_ref),
            "clamped": ((log_w.abs() > 20.0) * mask).sum(),
            "ppo_kl": -mean(log_w),
            "ppo_kl_k2": half_square,
            "ppo_kl_k3": mean(w - 1 - log_w),
            "ref_kl_k1": mean(log_w),
            "ref_kl_k2": half_square,
            "ref_kl_k3": mean(k3_ref),
        }
    return mean(loss), metrics


def values(n, salt, low, high):
    """The same numbers as in bench_losses.rs."""
    idx = np.arange(n, dtype=np.uint64) + np.uint64(salt)
    with np.errstate(over="ignore"):
        hashed = (idx * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    unit = hashed.astype(np.float32) / np.float32(1 << 24)
    return np.float32(low) + np.float32(high - low) * unit


def peak_mib():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
    return None


def main():
    n_tokens = int(sys.argv[1]) if len(sys.argv) > 1 else 1 << 21
    n_runs = int(sys.argv[2]) if len(sys.argv) > 2 else 15
    n_rows = n_tokens // N_COLUMNS
    n_tokens = n_rows * N_COLUMNS
    tensor = lambda array: torch.from_numpy(array).reshape(n_rows, N_COLUMNS)
    old = values(n_tokens, 1, -3.0, -0.5)
    lp_old = tensor(old)
    lp = tensor(old + values(n_tokens, 2, -0.5, 0.5)).requires_grad_()
    advantages = tensor(values(n_tokens, 3, -1.0, 1.0))
    mask = torch.ones_like(lp_old)
    before = peak_mib()
    seconds = []
    for _ in range(n_runs):
        lp.grad = None
        start = time.perf_counter()
        loss, _ = rpg_style_clip(lp, lp_old, advantages, mask)
        loss.backward()
        seconds.append(time.perf_counter() - start)
    seconds.sort()
    print(
        json.dumps(
            {
                "path": "pytorch",
                "version": torch.__version__,
                "threads": torch.get_num_threads(),
                "tokens": n_tokens,
                "loss": loss.item(),
                "grad_norm": lp.grad.double().norm().item(),
                "median_seconds": seconds[n_runs // 2],
                "best_seconds": seconds[0],
                "peak_mib": peak_mib(),
                "peak_mib_before": before,
            }
        )
    )


if __name__ == "__main__":
    main()
