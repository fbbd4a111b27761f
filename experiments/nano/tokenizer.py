"""The nano pair's tokenizer: byte-level BPE, digits one by one, a chat template, reserved ids."""

import random

from problems import sample, solution
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCAB_SIZE = 512
SPECIAL = ["<|pad|>", "<|bos|>", "<|user|>", "<|assistant|>", "<|end|>"]
RESERVED = [f"<|reserved_{i}|>" for i in range(8)]
THINK = ["<think>", "</think>"]
# A word takes the space after it, so that digits need no token for the space before them.
PIECES = r"\d|\\boxed\{|[A-Za-z]+ ?|[^\sA-Za-z\d]+[ \n]?|\s+"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}<|end|>"
    "{% else %}{{ raise_exception('roles must be user or assistant') }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>{% endif %}"
)


def build(seed: int = 0, documents: int = 20_000) -> PreTrainedTokenizerFast:
    rng = random.Random(seed)

    def texts():
        for _ in range(documents):
            problem = sample(rng, "lm", (1, 4))
            yield problem.question
            yield from solution(rng, problem).split("</think>")

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(THINK),
        special_tokens=SPECIAL + RESERVED,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    # Ordinary added tokens, as the Qwen and R1 tokenizers have them: decoding keeps them.
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in THINK])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens=["<|user|>", "<|assistant|>", *RESERVED],
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
