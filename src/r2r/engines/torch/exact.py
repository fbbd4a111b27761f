"""Which models the torch engine runs exactly: token for token what ``generate`` writes, alone and
in batches. The others are refused by name, before anything is loaded.

``tests/contract/test_causal_lms.py`` holds this to every causal LM class of transformers, and
``docs/models.md`` is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r2r.errors import ConfigError

CAUSAL = """
    Afmoe Apertus Arcee AriaText AXK1 BioGpt BitNet Cohere Cohere2 Cohere2Moe Cwm DeepseekV2
    DeepseekV3 Dots1 Emu3 Ernie4_5 Ernie4_5_Moe Exaone4 ExaoneMoe FlexOlmo Gemma Gemma2 Gemma3 Glm
    Glm4 Glm4Moe Glm4MoeLite GPTBigCode GPTNeoX GptOss Granite GraniteMoe GraniteMoeShared
    GraniteMoeSWA GraniteSWA Helium HunYuanDenseV1 HunYuanMoEV1 HYV3 HyperCLOVAX Jais2 JetMoe Laguna
    Llama LongcatFlash Mellum MiMoV2Flash MiniCPM3 MiniMaxM2 Ministral Ministral3 Mistral Mixtral
    NanoChat Nemotron Olmo Olmo2 Olmo3 Olmoe OPT Persimmon Phi Phi3 Phimoe Qwen2 Qwen2Moe Qwen3
    Qwen3Moe SeedOss SmolLM3 SolarOpen StableLm Starcoder2 VaultGemma Youtu
"""
EXACT = {f"{name}ForCausalLM" for name in CAUSAL.split()}
EXACT |= {"CTRLLMHeadModel", "GPT2LMHeadModel", "Gemma3ForConditionalGeneration"}

STATE = "keeps a state beside keys and values"
OWN = "its attention is not transformers' own interface"
DECODER = "the decoder of an encoder-decoder"
ENCODER = "a text encoder"
SPARSE = "its attention chooses, compresses or chunks what it sees"
INPUTS = "reads more than one row of token ids"
WHY = {
    STATE: """
    Bamba FalconH1 FalconMamba GraniteMoeHybrid Jamba KimiLinear Lfm2 Lfm2Moe Mamba Mamba2 MiniMax
    NemotronH OlmoHybrid Qwen3_5 Qwen3_5Moe Qwen3Next Qwen4Exp RecurrentGemma Rwkv xLSTM Zamba
    Zamba2 Zaya
    """,
    OWN: """
    Bloom CodeGen CpmAnt Dbrx DiffLlama Falcon GPTJ GPTNeo GPTNeoXJapanese HrmText Inkling
    ModernBertDecoder Mpt OpenAIGPT XGLM XLM XLNet
    """,
    DECODER: """
    Bart BigBirdPegasus Blenderbot BlenderbotSmall Marian MBart Musicgen MusicgenMelody Mvp Pegasus
    PLBart ProphetNet TrOCR Whisper
    """,
    ENCODER: """
    Bert BertGenerationDecoder BigBird Camembert Data2VecText Electra Ernie MegatronBert Reformer
    RemBert Roberta RobertaPreLayerNorm RoCBert RoFormer XLMRoberta XLMRobertaXL Xmod
    """,
    SPARSE: """
    AXK2 CohereCompass DeepseekV32 DeepseekV4 Doge GlmMoeDsa HYV4 Llama4 MiniMaxM3VL
    """,
    INPUTS: """
    Blt Fuyu Gemma3n Gemma4 Gemma4Assistant Gemma4Unified Gemma4UnifiedAssistant Git GotOcr2 Mllama
    Moshi Phi4Multimodal
    """,
}
ENDINGS = (
    "ForCausalLM", "ForConditionalGeneration", "WithLMHeadModel", "ModelWithLMHead", "LMHeadModel",
)  # fmt: skip
REASONS = {name: why for why, names in WHY.items() for name in names.split()}
LAYERS = {"full_attention", "sliding_attention"}
ROPES = {"default", "linear", "llama3", "yarn"}  # the same whatever a text's length
MASKED = {"PhimoeForCausalLM", "Qwen2MoeForCausalLM"}  # windows that are in their mask alone


def reason(kind: str) -> str:
    """Why a class is not among the exact ones."""
    short = next((kind.removesuffix(end) for end in ENDINGS if kind.endswith(end)), kind)
    return REASONS.get(short, "was not held against generate")


def check_exact(shape: Mapping[str, Any], key: str, context: int) -> None:
    """Raises ConfigError where a model is not run exactly over ``context`` tokens.

    ``shape``: what ``pairs.shape_of`` says of it; ``key``: of the config, such as pair.slm.
    """
    kind = shape["class"]

    def refused(why: str) -> ConfigError:
        wanted = "a model that engine.name=torch runs exactly (docs/models.md)"
        return ConfigError(f"{key} must be {wanted}, got {kind}: {why}")

    def too_long(limit: int, why: str) -> ConfigError:
        what = f"{limit} tokens for {key} ({kind}: {why})"
        return ConfigError(f"pair.context_length must be at most {what}, got {context}")

    if kind not in EXACT:
        raise refused(reason(kind))
    if odd := sorted(set(shape["layers"]) - LAYERS):
        raise refused(f"it has layers of {', '.join(odd)}")
    if shape["bidirectional"]:
        raise refused("its attention sees what comes later")
    for rope, limit in shape["ropes"].items():
        if rope == "longrope" or "dynamic" in rope:
            if context > limit:
                raise too_long(limit, f"{rope} rope changes with a longer text")
        elif rope not in ROPES:
            raise refused(f"{rope} rope")
    slides = not shape["layers"] or "sliding_attention" in shape["layers"]
    if kind in MASKED and slides and (shape["window"] or context) < context:
        raise too_long(shape["window"], "its sliding window")
