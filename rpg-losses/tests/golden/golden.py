"""Writes golden.json: losses and gradients by PyTorch autograd in f64, an independent second opinion.

    python golden.py > golden.json

Every loss is written as its definition reads, with `detach` where the definition has SG. Nothing is
shared with the Rust code.
"""

import itertools
import json
import random

import torch

torch.set_default_dtype(torch.float64)

DIVERGENCES = ["none", "fkl", "rkl", "ufkl", "urkl", "skl", "uskl"]
HALVES = {"skl": ("fkl", "rkl"), "uskl": ("ufkl", "urkl")}
BASELINES = [
    "ppo", "grpo", "grpo_corrected", "dr_grpo", "dapo", "reinforce_pp", "reinforce_pp_baseline",
    "rloo", "gspo", "cispo", "gspo_token", "sapo", "dppo_tv", "dppo_kl", "gmpo",
]
OF_TOKENS = ["gspo_token", "gmpo"]
LEVELS = ["token", "sequence", "sequence_norm"]
TOKEN_AGGREGATIONS = ["token_mean", "seq_mean_token_sum", "seq_mean_token_mean", "constant"]
DEFAULTS = {
    "ppo": ("group_mean", "token_mean"),
    "grpo": ("group_norm", "seq_mean_token_mean"),
    "grpo_corrected": ("group_norm", "seq_mean_token_mean"),
    "dr_grpo": ("group_mean", "constant"),
    "dapo": ("group_norm", "token_mean"),
    "reinforce_pp": ("batch_norm", "token_mean"),
    "reinforce_pp_baseline": ("group_mean", "token_mean"),
    "rloo": ("leave_one_out", "seq_mean_token_sum"),
    "gspo": ("group_norm", "seq_mean"),
    "cispo": ("group_norm", "token_mean"),
    "gspo_token": ("group_norm", "seq_mean_token_mean"),
    "sapo": ("group_norm", "seq_mean_token_mean"),
    "dppo_tv": ("group_mean", "constant"),
    "dppo_kl": ("group_mean", "constant"),
    "gmpo": ("group_norm", "seq_mean_token_mean"),
}


PRESETS = {
    "grpo": ("loss", "k3", "none"),
    "grpo_corrected": ("loss", "k3", "full"),
    "dr_grpo": ("loss", "k3", "none"),
    "reinforce_pp": ("reward", "k1", "full"),
    "reinforce_pp_baseline": ("loss", "k2", "none"),
}


def big_k(kl, w, u, r):
    if kl in HALVES:
        return sum(big_k(half, w, u, r) for half in HALVES[kl]) / 2
    return {
        "none": 0 * w,
        "fkl": r,
        "rkl": -w * (u + 1),
        "ufkl": r - w,
        "urkl": -w * u,
    }[kl]


def kl_surrogate(kl, lp, w, u, r):
    if kl in HALVES:
        return sum(kl_surrogate(half, lp, w, u, r) for half in HALVES[kl]) / 2
    return {
        "none": 0 * w,
        "fkl": -r * lp,
        "rkl": w * u,
        "ufkl": w - r * u - r,
        "urkl": w * u - w,
    }[kl]


def dual(w, a, low, high, c):
    loss = torch.maximum(-w * a, -w.clamp(low, high) * a)
    if c is None:
        return loss
    return torch.where(a < 0, torch.minimum(loss, -c * a), loss)


def kl_term(o):
    preset = PRESETS.get(o["kind"], ("none", "k1", "full"))
    keys = ("kl_placement", "kl_estimator", "kl_weight")
    return [o.get(key, value) for key, value in zip(keys, preset)]


def kl_estimate(estimator, y):
    return {"k1": -y.log(), "k2": y.log() ** 2 / 2, "k3": y - 1 - y.log()}[estimator]


def shared_weight(o, lp, lp_old, a, mask):
    """The weight that all tokens of a response have; its slope is that of the token's own log-probability."""
    log_w = lp - lp_old
    if o["kind"] == "gmpo":
        sign = a.sign()
        clipped = torch.minimum(sign * log_w, sign * log_w.clamp(-o["eps_low"], o["eps_high"]))
        log_w = torch.where(sign == 0, log_w, sign * clipped)
    mean = torch.where(mask, log_w, 0.0).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    return mean.exp().detach() * (lp - lp.detach()).exp()


def dppo_mask(o, lp, lp_old, a):
    p, q = lp.detach().exp().clamp(max=1), lp_old.exp().clamp(max=1)
    if o["kind"] == "dppo_tv":
        divergence = (p - q).abs()
    else:
        others = lambda x: (1 - x).clamp(min=1e-8)
        divergence = q * (q / p).log() + (1 - q) * (others(q) / others(p)).log()
    beyond = ((a > 0) & (lp > lp_old) & (divergence > o["eps_high"])) | (
        (a < 0) & (lp < lp_old) & (divergence > o["eps_low"])
    )
    return torch.where(beyond, 0.0, 1.0)


def policy_term(o, w, lp, lp_old, a):
    kind, c = o["kind"], o.get("c")
    if kind == "sapo":
        tau = torch.where(a > 0, torch.tensor(o["tau_pos"]), torch.tensor(o["tau_neg"]))
        return -4 / tau * (tau * (w - 1)).sigmoid() * a
    if kind in ("dppo_tv", "dppo_kl"):
        bound = 1.0 if c is None else (c / w).clamp(max=1).detach()
        return -dppo_mask(o, lp, lp_old, a) * bound * w * a
    if kind == "gmpo":
        own = (lp - lp_old).detach()
        is_clipped = ((a > 0) & (own > o["eps_high"])) | ((a < 0) & (own < -o["eps_low"]))
        return -torch.where(is_clipped, w.detach(), w) * a
    return dual(w, a, 1 - o["eps_low"], 1 + o["eps_high"], c)


def unit_loss(o, lp, lp_old, lp_ref, a, w=None):
    w = (lp - lp_old).exp() if w is None else w
    u, r = lp - lp_ref, (lp_ref - lp_old).exp()
    beta, c = o["beta"], o.get("c")
    low, high = 1 - o.get("eps_low", 0), 1 + o.get("eps_high", 0)
    y = (-u).exp()
    kind = o["kind"]
    if kind == "cispo":
        return -w.clamp(low, high).detach() * a * lp
    if kind != "rpg":
        placement, estimator, weight = kl_term(o)
        policy = policy_term(o, w, lp, lp_old, a)
        if placement != "loss":
            return policy
        factor = {"none": 1.0, "detached": w.detach(), "full": w}[weight]
        return policy + beta * factor * kl_estimate(estimator, y)
    kl = o["kl"]
    z = o["z"] if kl in ("ufkl", "urkl", "uskl") else 1.0
    if o["estimator"] == "differentiable":
        surrogate = beta * kl_surrogate(kl, lp, w, u, r)
        if o["clip"] == "none":
            return z * (-w * a + surrogate)
        if o["kl_in_clip"]:
            return z * dual(w, (a + beta * big_k(kl, w, u, r) / w).detach(), low, high, c)
        return z * (dual(w, a, low, high, c) + surrogate)
    w, u = w.detach(), u.detach()
    k = big_k(kl, w, u, r)
    if o["clip"] == "none":
        return -z * (w * a + beta * k) * lp
    if o["clip"] == "hard":
        clamped = w.clamp(low, high)
        log_r = lp_ref - lp_old
        return -z * (clamped * a + beta * big_k(kl, clamped, clamped.log() - log_r, r)) * lp
    regularized = a + beta * k / w
    if o["clip"] == "truncated":
        bounded = torch.where(regularized >= 0, w.clamp(max=high), w.clamp(min=low).clamp(max=c))
        return -z * (bounded * regularized).detach() * lp
    l = -lp
    positive = (regularized * l).detach() >= 0
    kept = w * regularized * l
    at = lambda bound: ((a * bound + beta * k) * l).detach()
    loss_positive = torch.where(w < high, kept, at(high))
    loss_negative = torch.where(w <= low, at(low), torch.where(w < c, kept, at(c)))
    return z * torch.where(positive, loss_positive, loss_negative)


def advantages(o, rewards, groups, mask, lp_old, lp_ref):
    kind = o["advantage"]
    placement, estimator, _ = kl_term(o)
    if placement == "reward":
        penalty = -o["beta"] * kl_estimate(estimator, (lp_ref - lp_old).exp())
        token_rewards = torch.where(mask, penalty, 0.0)
        to_go = token_rewards.flip(1).cumsum(1).flip(1)
        if not kind.startswith("batch"):
            without = {**o, "kind": "ppo", "kl_placement": "none"}
            base, _ = advantages(without, rewards, groups, mask, lp_old, lp_ref)
            if o["level"] != "token":
                return base + token_rewards.sum(1)[:, None], None
            return torch.where(mask, base + to_go, 0.0), "token"
        std = lambda values: values.std() + 1e-8 if kind == "batch_norm" else 1.0
        if o["level"] != "token":
            total = rewards + token_rewards.sum(1)
            return ((total - total.mean()) / std(total))[:, None].expand(mask.shape), None
        to_go = to_go + rewards[:, None]
        values = to_go[mask]
        return torch.where(mask, (to_go - values.mean()) / std(values), 0.0), "token"
    per_response = rewards.clone()
    for i in range(len(rewards)):
        members = [j for j in range(len(rewards)) if groups[j] == groups[i]]
        others = [j for j in members if j != i]
        group = rewards[members]
        if kind.startswith("batch"):
            per_response[i] = rewards[i] - rewards.mean()
            if kind == "batch_norm":
                per_response[i] /= rewards.std() + 1e-8
        elif not others or (group == group[0]).all():
            per_response[i] = 0.0
        elif kind == "opo":
            lengths = mask.sum(1)[members]
            per_response[i] = rewards[i] - (group * lengths).sum() / lengths.sum()
        elif kind == "maxrl":
            per_response[i] = (rewards[i] - group.mean()) / group.mean()
        elif kind == "leave_one_out":
            per_response[i] = rewards[i] - rewards[others].mean()
        else:
            per_response[i] = rewards[i] - group.mean()
            if kind == "group_norm":
                per_response[i] /= group.std() + 1e-6
    if o["kind"] == "reinforce_pp_baseline":
        of_tokens = per_response[:, None].expand(mask.shape)[mask]
        centred = per_response - of_tokens.mean()
        per_response = centred / (of_tokens.var() + 1e-8).sqrt()
    return per_response[:, None].expand(mask.shape), None


def rollout_weights(correction, lp_old, lp_rollout, mask):
    log_v = torch.where(mask, lp_old - lp_rollout, 0.0)
    lengths = mask.sum(1, keepdim=True).clamp(min=1)
    total = log_v.sum(1, keepdim=True)
    v = {"token": log_v, "sequence": total, "geometric": total / lengths}[correction["level"]].exp()
    if correction["mode"] == "truncate":
        weight = v.clamp(max=correction["max"])
    else:
        inside = (v >= correction["min"]) & (v <= correction["max"])
        weight = torch.where(inside, v, 0.0)
    if "reject" in correction:
        kl = {"k1": -log_v, "k3": log_v.exp() - 1 - log_v}[correction["reject"]["kl"]]
        mean = kl.sum(1, keepdim=True) / lengths
        weight = torch.where(mean > correction["reject"]["max"], 0.0, weight)
    return weight.expand(mask.shape)


def compute(o, data):
    t = lambda key: torch.tensor(data[key])
    mask = t("mask").bool()
    lp = t("logp").requires_grad_()
    lp_old, lp_ref = t("logp_old"), t("logp_ref")
    a, form = advantages(o, t("rewards"), data["groups"], mask, lp_old, lp_ref)
    n_responses, length = mask.shape
    lengths = mask.sum(1)
    used = torch.where(mask, a, 0.0).tolist() if form == "token" else a[:, 0].tolist()
    if "sequence_mask" in o:
        moved = torch.where(mask, lp_old - lp.detach(), 0.0).sum(1) / lengths.clamp(min=1)
        is_off_policy = (moved > o["sequence_mask"])[:, None]
        a = torch.where(is_off_policy & (a < 0), 0.0, a)
    weights = torch.ones(mask.shape)
    if "rollout_correction" in o:
        weights = rollout_weights(o["rollout_correction"], lp_old, t("logp_rollout"), mask)
    if o["level"] == "token":
        w = shared_weight(o, lp, lp_old, a, mask) if o["kind"] in OF_TOKENS else None
        losses = torch.where(mask, weights * unit_loss(o, lp, lp_old, lp_ref, a, w), 0.0)
        loss = {
            "token_mean": lambda: losses.sum() / mask.sum(),
            "seq_mean_token_sum": lambda: losses.sum(1).mean(),
            "seq_mean_token_mean": lambda: (losses.sum(1) / lengths.clamp(min=1)).mean(),
            "constant": lambda: losses.sum() / (n_responses * o.get("max_length", length)),
        }[o["aggregation"]]()
    else:
        divisor = lengths.clamp(min=1) if o["level"] == "sequence_norm" else torch.ones(n_responses)
        fold = lambda x: torch.where(mask, x, 0.0).sum(1) / divisor
        losses = weights[:, 0] * unit_loss(o, fold(lp), fold(lp_old), fold(lp_ref), a[:, 0])
        loss = torch.where(lengths > 0, losses, 0.0).sum() / n_responses
    loss.backward()
    return {"loss": loss.item(), "grad": lp.grad.tolist(), "advantages": used}


def gmpo_as_in_the_paper(o, data):
    """One loss per response, `-A*(product of the clipped weights)^(1/n)`: loss and gradient."""
    t = lambda key: torch.tensor(data[key])
    mask = t("mask").bool()
    lp = t("logp").requires_grad_()
    a, _ = advantages(o, t("rewards"), data["groups"], mask, t("logp_old"), t("logp_ref"))
    losses = []
    for i, counted in enumerate(mask):
        if counted.any():
            w = (lp[i] - t("logp_old")[i]).exp()[counted]
            sign = a[i, 0].sign()
            bounded = w.clamp(torch.tensor(-o["eps_low"]).exp(), torch.tensor(o["eps_high"]).exp())
            clipped = torch.minimum(w**sign, bounded**sign) ** sign if sign != 0 else w
            losses.append(-a[i, 0] * clipped.prod() ** (1 / counted.sum()))
    loss = sum(losses) / len(mask)
    loss.backward()
    return loss.item(), lp.grad


def check_gmpo(o, data):
    response = compute(o, data)
    loss, grad = gmpo_as_in_the_paper(o, data)
    assert abs(loss - response["loss"]) < 1e-14
    assert (grad - torch.tensor(response["grad"])).abs().max() < 1e-14


def objectives():
    combinations = [
        ("differentiable", "none", True), ("differentiable", "dual", True),
        ("differentiable", "dual", False), ("reinforce", "none", True),
        ("reinforce", "rpg", True), ("reinforce", "hard", True), ("reinforce", "truncated", True),
    ]
    aggregation = itertools.cycle(TOKEN_AGGREGATIONS)
    advantage = itertools.cycle(
        ["group_mean", "group_norm", "leave_one_out", "batch_mean", "batch_norm"]
    )
    for level in LEVELS:
        pick = lambda: next(aggregation) if level == "token" else "seq_mean"
        for kl, (estimator, clip, inside) in itertools.product(DIVERGENCES, combinations):
            o = {
                "kind": "rpg", "kl": kl, "estimator": estimator, "clip": clip,
                "kl_in_clip": inside, "beta": 0.3, "eps_low": 0.2, "eps_high": 0.28, "c": 1.6,
                "z": 1.7, "level": level, "aggregation": pick(), "advantage": next(advantage),
            }
            if o["aggregation"] == "constant" and kl != "none":
                o["max_length"] = 9
            yield o
        for kind in BASELINES:
            default_advantage, default_aggregation = DEFAULTS[kind]
            if kind == "gspo" and level == "token":
                default_aggregation = "token_mean"
            if kind in OF_TOKENS and level != "token":
                continue
            dual = {} if kind in ("cispo", "sapo", "gmpo") else {"c": 1.6}
            if kind.startswith("dppo"):
                dual = {"c": 1.2}
            if level == "sequence" and kind != "dapo":
                dual = {}
            yield {
                "kind": kind, "beta": 0.3, **bounds(kind), **dual, "level": level,
                "aggregation": default_aggregation if level == "token" else "seq_mean",
                "advantage": default_advantage,
            }


def bounds(kind):
    if kind == "sapo":
        return {"tau_pos": 1.5, "tau_neg": 2.5}
    if kind == "dppo_kl":
        return {"eps_low": 0.02, "eps_high": 0.03}
    if kind == "dppo_tv":
        return {"eps_low": 0.05, "eps_high": 0.07}
    return {"eps_low": 0.2, "eps_high": 0.3}


def with_kl_terms_of_other_kinds():
    for kind in ["gspo_token", "sapo", "dppo_tv", "dppo_kl", "gmpo"]:
        advantage, aggregation = DEFAULTS[kind]
        base = {
            "kind": kind, "beta": 0.3, **bounds(kind), "level": "token", "aggregation": aggregation,
            "advantage": advantage,
        }
        yield {**base, "kl_placement": "loss", "kl_estimator": "k3", "kl_weight": "full"}
        yield {**base, "kl_placement": "reward", "kl_estimator": "k1"}


def with_sequence_masks():
    rpg = {"kl": "urkl", "estimator": "reinforce", "clip": "rpg", "kl_in_clip": True, "c": 1.6, "z": 1.7}
    for kind in ["rpg", "ppo", "grpo", "gspo_token", "sapo", "dppo_tv", "gmpo"]:
        for level in LEVELS if kind in ("rpg", "ppo", "grpo") else ["token"]:
            yield {
                "kind": kind, "beta": 0.3, **bounds(kind), **(rpg if kind == "rpg" else {}),
                "level": level, "aggregation": "token_mean" if level == "token" else "seq_mean",
                "advantage": "group_mean", "sequence_mask": 0.02,
            }


def with_kl_terms():
    for level in LEVELS:
        base = {
            "kind": "ppo", "beta": 0.3, "eps_low": 0.2, "eps_high": 0.3, "level": level,
            "aggregation": "token_mean" if level == "token" else "seq_mean",
        }
        for estimator, weight in itertools.product(["k1", "k2", "k3"], ["none", "detached", "full"]):
            yield {
                **base, "advantage": "group_mean", "kl_placement": "loss",
                "kl_estimator": estimator, "kl_weight": weight,
            }
        for estimator, advantage in itertools.product(
            ["k1", "k2", "k3"], ["group_norm", "leave_one_out", "batch_mean", "batch_norm"]
        ):
            yield {
                **base, "advantage": advantage, "kl_placement": "reward", "kl_estimator": estimator,
            }


def with_advantages():
    for advantage in ["opo", "maxrl"]:
        yield {
            "kind": "ppo", "beta": 0.0, "eps_low": 0.2, "eps_high": 0.3, "level": "token",
            "aggregation": "token_mean", "advantage": advantage,
        }


def with_corrections():
    rejects = [{}, {"reject": {"kl": "k1", "max": 0.05}}, {"reject": {"kl": "k3", "max": 0.1}}]
    for level, correction, mode, reject in itertools.product(
        ["token", "sequence"], ["token", "sequence", "geometric"], ["truncate", "mask"], rejects
    ):
        if level == "token" or correction != "token":
            yield {
                "kind": "rpg", "kl": "urkl", "estimator": "reinforce", "clip": "rpg",
                "kl_in_clip": True, "beta": 0.3, "eps_low": 0.2, "eps_high": 0.28, "c": 1.6, "z": 1.0,
                "level": level, "advantage": "group_mean",
                "aggregation": "token_mean" if level == "token" else "seq_mean",
                "rollout_correction": {
                    "level": correction, "mode": mode, "min": 0.8, "max": 1.1, **reject,
                },
            }


def inputs(rng):
    lengths = [4, 2, 0, 3, 1, 4]
    number = lambda low, high: round(rng.uniform(low, high), 3)
    rows = lambda low, high: [[number(low, high) for _ in range(4)] for _ in lengths]
    old = rows(-2.5, -0.1)
    near = lambda scale: [[round(x + rng.gauss(0, scale), 3) for x in row] for row in old]
    return {
        "logp": near(0.4), "logp_old": old, "logp_ref": near(0.4), "logp_rollout": near(0.4),
        "mask": [[int(i < n) for i in range(4)] for n in lengths],
        "rewards": [1.0, 0.0, 1.0, 0.5, 0.5, 0.25], "groups": [7, 7, 7, 2, 2, 5],
    }


def main():
    rng = random.Random(0)
    data = [inputs(rng) for _ in range(3)]
    gmpo = {"kind": "gmpo", "beta": 0.0, **bounds("gmpo"), "level": "token",
            "aggregation": "seq_mean_token_mean", "advantage": "group_norm"}
    for item in data:
        check_gmpo(gmpo, item)
    cases = []
    for o in itertools.chain(
        objectives(), with_kl_terms(), with_corrections(), with_advantages(),
        with_kl_terms_of_other_kinds(), with_sequence_masks(),
    ):
        for idx in range(len(data)):
            cases.append({"input": idx, "objective": o, "response": compute(o, data[idx])})
    write = lambda x: json.dumps(x, separators=(",", ":"))
    print('{"inputs":[\n' + ",\n".join(map(write, data)) + '],\n"cases":[')
    print(",\n".join(map(write, cases)) + "]}")


if __name__ == "__main__":
    main()
