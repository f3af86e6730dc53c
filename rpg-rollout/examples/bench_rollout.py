"""Sampling and training passes with transformers and PyTorch, for comparison with bench_rollout.rs.

    python bench_rollout.py MODEL_DIR batch|single|train

`batch-f32` and `single-f32` are the same as `batch` and `single` here.
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTIONS = [
    "Tom has 7 apples and buys 5 more. How many apples has he now?",
    "A box holds 12 pencils. How many pencils are in 9 boxes?",
    "Anna read 14 of 40 pages. How many pages are left?",
    "Three friends share 27 marbles equally. How many does each get?",
]
N_PASSES = 3


def sampling(model, tokenizer, questions, n):
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for question in questions
    ]
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)

    def run(n_tokens):
        start = time.perf_counter()
        with torch.no_grad():
            out = model.generate(
                **inputs,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                num_return_sequences=n,
                min_new_tokens=n_tokens,
                max_new_tokens=n_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )
        seconds = time.perf_counter() - start
        assert out.shape == (n * len(questions), inputs["input_ids"].shape[1] + n_tokens)
        return seconds

    run(4)
    seconds = run(64)
    return {"tokens_per_second": 64 * n * len(questions) / seconds, "seconds": seconds}


def training(model):
    tokens = torch.arange(8 * 128).reshape(8, 128)
    tokens = (7919 * tokens + 11) % model.config.vocab_size
    seconds = []
    for _ in range(N_PASSES + 1):
        model.zero_grad(set_to_none=True)
        start = time.perf_counter()
        logits = model(tokens).logits[:, :-1]
        logprobs = torch.log_softmax(logits.float(), -1).gather(-1, tokens[:, 1:, None])
        loss = -logprobs.mean()
        loss.backward()
        seconds.append(time.perf_counter() - start)
    best = min(seconds[1:])
    return {"tokens_per_second": 8 * 128 / best, "seconds": best, "loss": loss.item()}


def main():
    folder, what = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if what == "train":
        result = training(model)
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        questions, n = (QUESTIONS, 8) if what.startswith("batch") else (QUESTIONS[:1], 1)
        result = sampling(model.eval(), tokenizer, questions, n)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
