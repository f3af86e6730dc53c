"""Renders conversations with transformers, for tests/chat_templates.rs to compare with.

    pip install transformers jinja2
    pip download --no-deps --dest DIR trl      # carries the templates of the model families
    python chat_templates.py OUT.json DIR/trl-*.whl [MODEL_DIR ...]
    RPG_CHAT_TEMPLATES=OUT.json cargo test --release -p rpg-core --test chat_templates

MODEL_DIR adds the template of a model folder (tokenizer_config.json, chat_template.jinja).
"""

import datetime
import itertools
import json
import pathlib
import sys
import zipfile

import transformers
from transformers.utils import chat_template_utils

FAMILIES = ["qwen2_5", "qwen3", "qwen3_instruct_2507", "llama3", "llama3_1", "llama3_2", "gemma", "phi3", "phi3_5"]
DATE = datetime.datetime(2026, 3, 5)
TOKENS = {"bos_token": "<|begin_of_text|>", "eos_token": "<|im_end|>"}


def message(role, content):
    return {"role": role, "content": content}


CONVERSATIONS = [
    [message("user", "What is 2 + 2?")],
    [message("system", "Be brief."), message("user", "  Spaces, \"quotes\" & <tags> stay.\n\n")],
    [message("user", "Größe? 你好 🙂"), message("assistant", "Ja."), message("user", "And?")],
    [
        message("system", ""),
        message("user", "Think."),
        message("assistant", "<think>\nhm\n</think>\n\n4"),
        message("user", "Again."),
        message("assistant", "no thought"),
        message("user", "Last."),
    ],
]


class Today(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return DATE


def templates(wheel, folders):
    with zipfile.ZipFile(wheel) as archive:
        for family in FAMILIES:
            yield family, archive.read(f"trl/chat_templates/{family}.jinja").decode(), TOKENS
    for folder in map(pathlib.Path, folders):
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        separate = folder / "chat_template.jinja"
        template = separate.read_text() if separate.exists() else settings["chat_template"]
        yield folder.name, template, {name: settings.get(name) or "" for name in TOKENS}


def main():
    out, wheel, *folders = sys.argv[1:]
    chat_template_utils.datetime = Today
    cases = []
    for name, template, tokens in templates(wheel, folders):
        for conversation, thinking in itertools.product(CONVERSATIONS, [None, True, False]):
            extra = {} if thinking is None else {"enable_thinking": thinking}
            try:
                (text,), _ = chat_template_utils.render_jinja_template(
                    conversations=[conversation],
                    chat_template=template,
                    add_generation_prompt=True,
                    **tokens,
                    **extra,
                )
            except Exception as error:
                # A template may refuse a conversation; then it has to be refused here too.
                print(f"{name}: {error}", file=sys.stderr)
                text = None
            cases.append(
                {"name": name, "template": template, "tokens": tokens, "messages": conversation,
                 "thinking": thinking, "text": text}
            )  # fmt: skip
    result = {"transformers": transformers.__version__, "date": f"{DATE:%Y-%m-%d}", "cases": cases}
    pathlib.Path(out).write_text(json.dumps(result, ensure_ascii=False, indent=1))
    print(f"{len(cases)} cases of {len({case['name'] for case in cases})} templates")


if __name__ == "__main__":
    main()
