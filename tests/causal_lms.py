"""Tiny random models of every causal LM class of transformers, and the table of docs/models.md:
python tests/causal_lms.py prints it."""

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

from r2r.engines.torch.exact import EXACT, reason

WINDOW = 12
# Whichever of these a config has. Scales and caps that are 1 or off would hide what is left out.
SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "ffn_dim": 48,
    "max_position_embeddings": 256, "embedding_size": 32, "initializer_range": 0.3,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
    "sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 1,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "moe_num_experts": 4,
    "moe_k": 2, "moe_topk": 2, "num_shared_experts": 1, "n_shared_experts": 1, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "logits_scaling": 4.0, "logit_scale": 0.5, "embedding_multiplier": 2.0,
    "residual_multiplier": 0.5, "attention_multiplier": 0.3, "final_logit_softcapping": 2.0,
    "attn_logit_softcapping": 3.0,
}  # fmt: skip
OTHERS = {
    # Their windows are in their masks alone: refused where that matters.
    "phimoe": {"sliding_window": None},
    "qwen2_moe": {"layer_types": ["full_attention"] * 2},
    "gemma3": {
        "vision_config": {
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
        },
        "mm_tokens_per_image": 1, "boi_token_index": 60, "eoi_token_index": 61,
        "image_token_index": 62,
    },
}  # fmt: skip


def tiny_config(kind):
    """A tiny config of a model type. Where it knows both, one of two layers has a window."""
    made = CONFIG_MAPPING[kind]
    plain = made()
    text = plain.get_text_config()
    small = {
        name: value
        for name, value in SMALL.items()
        if hasattr(text, name) and not isinstance(getattr(type(text), name, None), property)
    }
    if hasattr(text, "qk_nope_head_dim"):
        small["num_key_value_heads"] = 4
    if hasattr(text, "layer_types") and hasattr(text, "sliding_window"):
        small["layer_types"] = ["sliding_attention", "full_attention"]
    others = OTHERS.get(kind, {})
    if text is plain:
        return made(**small | others)
    (name,) = (name for name, value in vars(plain).items() if value is text)
    return made(**{name: small}, **others)


def tiny_model(kind):
    torch.manual_seed(0)
    config = tiny_config(kind)
    # Eager attention is the one that leaves nothing out.
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


def table():
    """The rows of docs/models.md: exact ones, then the refused."""
    kinds = sorted(set(NAMES.values()), key=str.lower)
    rows = [f"| {kind} | exact |" for kind in kinds if kind in EXACT]
    rows += [f"| {kind} | refused: {reason(kind)} |" for kind in kinds if kind not in EXACT]
    return "\n".join(["| class | |", "| --- | --- |", *rows])


if __name__ == "__main__":
    print(table())
