"""The tokens that end an answer, and what else a generation_config.json says, as ``generate`` has
it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM

from r2r import pairs
from r2r.engines.base import Sampling
from r2r.errors import ConfigError
from r2r.policies.base import Prompt
from r2r.stages.compose import compose
from r2r.stages.preflight import preflight
from r2r.stages.systems import make_generator
from r2r.stages.workbench import Workbench

NANO = Path(pairs.__file__).parent / "assets" / "nano"
PROMPT, BUDGET, TOKENS, ROWS = [20, 30, 40, 50], 24, 483, 520


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two random models with nano's tokenizer, and more embeddings than that has tokens."""
    home = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("slm", "llm")):
        shutil.copytree(
            NANO / name, home / name, ignore=shutil.ignore_patterns("*.safetensors", "*config.json")
        )
        shutil.copy(NANO / name / "tokenizer_config.json", home / name)
        torch.manual_seed(seed)
        shape = LlamaConfig(
            vocab_size=ROWS, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
            initializer_range=0.3, bos_token_id=1, eos_token_id=4, pad_token_id=0,
        )  # fmt: skip
        model = LlamaForCausalLM(shape)
        with torch.no_grad():  # what it would rather write is none of the tokenizer's
            model.lm_head.weight[TOKENS:] = model.lm_head.weight[100 : 100 + ROWS - TOKENS] * 1.01
        model.save_pretrained(home / name)
    return home


def bench(home, tmp_path, **said):
    """A job over the models; ``said`` is written into each one's generation_config.json."""
    for name, change in said.items():
        file = home / name / "generation_config.json"
        given = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(given | change))
    paths = [f"pair.{name}.path={home / name}" for name in ("slm", "llm")]
    config, router = compose(["pair=local", f"outputs={tmp_path / 'outputs'}", *paths])
    return Workbench(config, router)


def written(bench, system):
    generator, _ = make_generator(bench, system)
    (trace,) = generator.generate([Prompt(PROMPT, Sampling(BUDGET))])
    return [step.token for step in trace.steps]


def generated(folder):
    """By transformers' ``generate``, which goes by the folder's own generation_config.json."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    banned = list(range(TOKENS, ROWS))
    out = model.generate(
        torch.tensor([PROMPT]), max_new_tokens=BUDGET, do_sample=False, suppress_tokens=banned
    )
    return out[0, len(PROMPT) :].tolist()


@pytest.mark.parametrize("several", [False, True])
def test_answers_end_as_generate_ends_them(models, tmp_path, several):
    home = shutil.copytree(models, tmp_path / "models")
    end = written(bench(home, tmp_path), "llm")[9]
    eos = [end, 4] if several else end
    made = bench(home, tmp_path, llm={"eos_token_id": eos}, slm={"eos_token_id": eos})
    assert made.pair.eos_ids == {end, 4}
    assert made.pair.notes == []
    for system in ("slm", "llm"):
        assert written(made, system) == generated(home / system)
    assert written(made, "llm")[-1] == end
    assert len(written(made, "llm")) <= 10


def test_the_llms_end_tokens_decide_and_the_difference_is_told(models, tmp_path, capsys):
    home = shutil.copytree(models, tmp_path / "models")
    made = bench(home, tmp_path, llm={"eos_token_id": [4, 60]}, slm={"eos_token_id": [4, 61]})
    assert made.pair.eos_ids == {4, 60}
    told = made.pair.tokenizer.convert_ids_to_tokens([60, 61])
    (note,) = made.pair.notes
    assert note.startswith("answers end with pair.llm's")
    assert all(token in note for token in told)
    preflight(made)
    assert note in capsys.readouterr().out


def test_without_a_generation_config_the_config_says_it(models, tmp_path):
    home = shutil.copytree(models, tmp_path / "models")
    (home / "llm" / "generation_config.json").unlink()
    config = json.loads((home / "llm" / "config.json").read_text())
    config |= {"eos_token_id": [4, 70], "repetition_penalty": 1.2}  # as older models have it
    (home / "llm" / "config.json").write_text(json.dumps(config))
    pair = bench(home, tmp_path).pair
    assert pair.eos_ids == {4, 70}
    assert "not applied, of pair.llm's generation_config.json: repetition_penalty=1.2" in pair.notes


@pytest.mark.parametrize("eos", ["</s>", [4, "</s>"], [[4]], {"id": 4}, True, 4.5])
def test_what_is_no_token_id_is_refused(models, tmp_path, eos):
    home = shutil.copytree(models, tmp_path / "models")
    with pytest.raises(ConfigError, match=r"pair\.llm\.path must be a model .*eos_token_id"):
        _ = bench(home, tmp_path, llm={"eos_token_id": eos}).pair


def test_a_generation_config_that_cannot_be_read_is_refused(models, tmp_path):
    home = shutil.copytree(models, tmp_path / "models")
    (home / "slm" / "generation_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"pair\.slm\.path .*generation_config.json"):
        _ = bench(home, tmp_path).pair


CHANGES = {
    "repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "suppress_tokens": [5],
    "begin_suppress_tokens": [5], "bad_words_ids": [[5]], "forced_bos_token_id": 5,
    "forced_eos_token_id": 5, "min_new_tokens": 3, "encoder_repetition_penalty": 1.2,
    "guidance_scale": 1.5, "exponential_decay_length_penalty": [2, 1.5], "num_beams": 2,
    "encoder_no_repeat_ngram_size": 2, "min_length": 9, "sequence_bias": [[[5], 1.0]],
    "stop_strings": ["."], "penalty_alpha": 0.6, "dola_layers": "high", "token_healing": True,
    "force_words_ids": [[5]], "constraints": [5], "watermarking_config": {"bias": 2.0},
    "max_time": 9.0,
}  # fmt: skip
# What else a generation config holds, and why no greedy text of ours depends on it.
ELSE = {
    "this project says how long answers may be": "max_length max_new_tokens",
    "of beams, which num_beams tells": """
        early_stopping length_penalty diversity_penalty num_beam_groups low_memory
    """,
    "of draws": """
        do_sample temperature top_k top_p min_p top_h typical_p epsilon_cutoff eta_cutoff
        renormalize_logits num_return_sequences
    """,
    "of logits that are no numbers": "remove_invalid_values",
    "speed and memory": """
        use_mtp use_cache cache_implementation cache_config max_cache_len is_assistant
        num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold
        prompt_lookup_num_tokens max_matching_ngram_size assistant_early_exit assistant_lookbehind
        target_lookbehind assistant_ensemble_weight speculation_type compile_config disable_compile
        continuous_batching_config prefill_chunk_size
    """,
    "what generate returns": """
        output_attentions output_hidden_states output_scores output_logits return_dict_in_generate
    """,
    "honoured": "eos_token_id",
    "of prompts, which are the tokenizer's": "pad_token_id bos_token_id decoder_start_token_id",
    "of the file": "_from_model_config transformers_version",
}


def test_every_setting_of_transformers_is_known():
    elsewhere = {name for names in ELSE.values() for name in names.split()}
    assert set(CHANGES) == set(pairs.GREEDY)
    assert set(vars(GenerationConfig())) == set(pairs.GREEDY) | elsewhere
    assert not set(pairs.GREEDY) & elsewhere


@pytest.mark.parametrize("name", CHANGES)
def test_what_would_change_a_greedy_text_is_named(name):
    config = GenerationConfig(**{name: CHANGES[name]})
    assert pairs.unapplied(config) == f"{name}={getattr(config, name)}"


def test_what_changes_nothing_is_not_named(models, tmp_path):
    home = shutil.copytree(models, tmp_path / "models")
    neutral = {name: value for name, value in pairs.GREEDY.items() if value is not None}
    sampled = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "do_sample": True}
    assert bench(home, tmp_path, llm=neutral | sampled).pair.notes == []


def test_the_route_token_never_ends_an_answer(models, tmp_path):
    home = shutil.copytree(models, tmp_path / "models")
    first = bench(home, tmp_path).pair.route_id
    made = bench(home, tmp_path, llm={"eos_token_id": [4, first]})
    assert first in made.pair.eos_ids
    assert made.pair.route_id not in made.pair.eos_ids


def test_rows_without_a_token_are_never_written(models, tmp_path):
    home = shutil.copytree(models, tmp_path / "models")
    made = bench(home, tmp_path)
    assert made.pair.tokens == TOKENS
    for system in ("slm", "llm"):
        answer = written(made, system)
        assert answer == generated(home / system)
        assert max(answer) < TOKENS
        model = AutoModelForCausalLM.from_pretrained(home / system)
        free = model.generate(torch.tensor([PROMPT]), max_new_tokens=BUDGET, do_sample=False)
        assert free.max() >= TOKENS  # it would have
