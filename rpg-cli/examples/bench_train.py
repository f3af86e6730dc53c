"""Steps of TRL's GRPOTrainer on the CPU, for comparison with `rpg train`: `cargo xtask bench train` starts both.

    python bench_train.py MODEL_DIR PROBLEMS.jsonl SETTINGS

PROBLEMS has {"question", "answer"} per line; each step samples all of them. SETTINGS is a JSON object:

    samples                   completions per problem
    new_tokens                tokens per completion: it does not end before
    pass                      completions per forward and backward pass; the gradients of a step add up to one update
    steps                     steps, each one rollout and one update
    threads                   threads of PyTorch: accelerate may take fewer than there are cores
    gradient_checkpointing    true or false
    lr                        learning rate of AdamW

The last line of the output has the versions, the threads and the figures of every step.
"""

import json
import sys
import tempfile
import time
from importlib.metadata import version

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.rewards import accuracy_reward


class Clock(TrainerCallback):
    """The seconds of every step, from the sampling to the update."""

    def __init__(self, threads):
        self.threads = threads
        self.steps = []

    def on_train_begin(self, args, state, control, **kwargs):
        torch.set_num_threads(self.threads)

    def on_step_begin(self, args, state, control, **kwargs):
        self.start = time.perf_counter()
        self.steps.append({"sampling": 0.0, "new_tokens": 0, "prompt_tokens": []})

    def on_step_end(self, args, state, control, **kwargs):
        self.steps[-1]["seconds"] = time.perf_counter() - self.start

    def watch(self, generate):
        """`generate` of the model, which also notes its time and the lengths of what it reads and makes."""

        def watched(*args, **kwargs):
            start = time.perf_counter()
            out = generate(*args, **kwargs)
            step = self.steps[-1]
            step["sampling"] += time.perf_counter() - start
            mask = kwargs["attention_mask"]
            step["new_tokens"] += (out.shape[1] - mask.shape[1]) * out.shape[0]
            step["prompt_tokens"] += mask.sum(1).tolist()
            return out

        return watched


def main():
    folder, path, settings = sys.argv[1:]
    settings = json.loads(settings)
    with open(path, encoding="utf-8") as file:
        problems = [json.loads(line) for line in file]
    data = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": problem["question"]}],
                "solution": problem["answer"],
            }
            for problem in problems
        ]
    )
    n_completions = settings["samples"] * len(problems)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    clock = Clock(settings["threads"])
    with tempfile.TemporaryDirectory() as output:
        config = GRPOConfig(
            output_dir=output,
            use_cpu=True,
            bf16=False,
            model_init_kwargs={"dtype": "float32"},
            gradient_checkpointing=settings["gradient_checkpointing"],
            per_device_train_batch_size=settings["pass"],
            gradient_accumulation_steps=n_completions // settings["pass"],
            num_generations=settings["samples"],
            max_completion_length=settings["new_tokens"],
            # End-of-sequence tokens have probability 0 until then.
            generation_kwargs={"min_new_tokens": settings["new_tokens"]},
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            loss_type="grpo",
            beta=0.0,
            num_iterations=1,
            learning_rate=settings["lr"],
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            max_steps=settings["steps"],
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = GRPOTrainer(
            model=folder,
            reward_funcs=accuracy_reward,
            args=config,
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=[clock],
        )
        trainer.model.generate = clock.watch(trainer.model.generate)
        trainer.train()
    longest = max(max(step["prompt_tokens"]) for step in clock.steps)
    for step in clock.steps:
        step["prompt_tokens"] = sum(step["prompt_tokens"]) / len(step["prompt_tokens"])
    packages = ["trl", "transformers", "accelerate", "torch"]
    answer = {
        "versions": {name: version(name) for name in packages},
        "threads": torch.get_num_threads(),
        "longest_prompt": longest,
        "steps": clock.steps,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
