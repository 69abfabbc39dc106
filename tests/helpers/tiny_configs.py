"""Configs of tiny random models, by architecture.

Their details are unequal on purpose: grouped heads, heads that do not divide the width, windows shorter than a prompt, heads
tied and not, logits scaled and bounded, rotary embeddings of a part of a head.
"""

from __future__ import annotations

from typing import Any

VOCABULARY = 264  # six rows more than the tokenizer has tokens
WINDOW = 8
PLAIN = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=128,
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=None,
)
GROUPED = PLAIN | dict(num_key_value_heads=2)
UNEVEN = GROUPED | dict(head_dim=12)
GPT = dict(vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=128, bos_token_id=0, eos_token_id=1)
WINDOWED = ["sliding_attention", "full_attention", "sliding_attention"]
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)
LATENT = dict(kv_lora_rank=16, q_lora_rank=12, qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=10)
LINEAR = dict(
    layer_types=["linear_attention", "full_attention", "linear_attention"],
    linear_num_value_heads=4,
    linear_num_key_heads=2,
    linear_key_head_dim=8,
    linear_value_head_dim=8,
)
ROUTED = dict(n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, n_group=2, topk_group=1, moe_intermediate_size=24)

# name of the model here -> (its type in transformers, what its config is told)
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", UNEVEN | dict(rope_theta=500.0)),
    "llama, tied": ("llama", GROUPED | dict(tie_word_embeddings=True)),
    "mistral": ("mistral", UNEVEN | dict(sliding_window=None)),
    "mistral, window": ("mistral", GROUPED | dict(sliding_window=WINDOW)),
    "ministral": ("ministral", UNEVEN | dict(sliding_window=WINDOW, layer_types=WINDOWED)),
    "mixtral": ("mixtral", GROUPED | dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=None)),
    "mixtral, window": ("mixtral", GROUPED | dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=WINDOW)),
    "qwen2": ("qwen2", GROUPED | dict(tie_word_embeddings=True)),
    "qwen2, window": ("qwen2", GROUPED | dict(use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1)),
    "qwen2_moe": ("qwen2_moe", GROUPED | EXPERTS | dict(shared_expert_intermediate_size=24, decoder_sparse_step=1)),
    "qwen3": ("qwen3", UNEVEN),
    "qwen3_moe": ("qwen3_moe", UNEVEN | EXPERTS),
    "gemma": ("gemma", UNEVEN | dict(num_key_value_heads=1)),
    "gemma2": ("gemma2", UNEVEN | dict(sliding_window=WINDOW, query_pre_attn_scalar=20, final_logit_softcapping=3.0)),
    "gemma3": ("gemma3_text", UNEVEN | dict(sliding_window=WINDOW, layer_types=WINDOWED, query_pre_attn_scalar=20)),
    "gemma3n": (
        "gemma3n_text",
        UNEVEN
        | dict(
            sliding_window=WINDOW,
            layer_types=WINDOWED,
            num_kv_shared_layers=1,
            laurel_rank=4,
            hidden_size_per_layer_input=8,
            vocab_size_per_layer_input=VOCABULARY,
            activation_sparsity_pattern=[0.0] * 3,
            intermediate_size=[40] * 3,
        ),
    ),
    "gemma4": (
        "gemma4_text",
        UNEVEN | dict(sliding_window=WINDOW, layer_types=WINDOWED, global_head_dim=16, hidden_size_per_layer_input=0),
    ),
    "gemma4, per-layer inputs": (
        "gemma4_text",
        UNEVEN
        | dict(
            sliding_window=WINDOW,
            layer_types=WINDOWED,
            global_head_dim=16,
            hidden_size_per_layer_input=8,
            vocab_size_per_layer_input=VOCABULARY,
        ),
    ),
    "phi": ("phi", PLAIN | dict(partial_rotary_factor=0.5)),
    "phi3": ("phi3", GROUPED | dict(sliding_window=WINDOW)),
    "phimoe": ("phimoe", GROUPED | dict(num_local_experts=4, sliding_window=WINDOW)),
    "gpt2": ("gpt2", GPT),
    "gpt_bigcode": ("gpt_bigcode", GPT | dict(multi_query=True)),
    "gpt_neo": (
        "gpt_neo",
        dict(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_layers=4,
            num_heads=4,
            attention_types=[[["global", "local"], 2]],
            window_size=WINDOW,
            max_position_embeddings=128,
            bos_token_id=0,
            eos_token_id=1,
        ),
    ),
    "gpt_neox": ("gpt_neox", PLAIN | dict(rotary_pct=0.5)),
    "gptj": ("gptj", GPT | dict(rotary_dim=4)),
    "codegen": ("codegen", GPT | dict(rotary_dim=4)),
    "opt": ("opt", PLAIN | dict(ffn_dim=40, word_embed_proj_dim=32)),
    "opt, narrow embeddings": ("opt", PLAIN | dict(ffn_dim=40, word_embed_proj_dim=20, do_layer_norm_before=False)),
    "bloom": ("bloom", dict(vocab_size=VOCABULARY, hidden_size=32, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=1)),
    "falcon": ("falcon", PLAIN | dict(num_kv_heads=2, new_decoder_architecture=True)),
    "falcon, alibi": ("falcon", PLAIN | dict(alibi=True, new_decoder_architecture=False, multi_query=True)),
    "mpt": ("mpt", dict(vocab_size=VOCABULARY, d_model=32, n_heads=4, n_layers=3, expansion_ratio=2, max_seq_len=128)),
    "stablelm": ("stablelm", GROUPED | dict(partial_rotary_factor=0.5)),
    "starcoder2": ("starcoder2", GROUPED | dict(sliding_window=WINDOW)),
    "olmo": ("olmo", GROUPED | dict(clip_qkv=1.0)),
    "olmo2": ("olmo2", GROUPED),
    "olmo3": ("olmo3", GROUPED | dict(sliding_window=WINDOW, layer_types=WINDOWED)),
    "olmoe": ("olmoe", GROUPED | dict(num_experts=4, num_experts_per_tok=2)),
    "glm": ("glm", UNEVEN | dict(partial_rotary_factor=0.5)),
    "glm4": ("glm4", UNEVEN | dict(partial_rotary_factor=0.5)),
    "glm4_moe": ("glm4_moe", UNEVEN | ROUTED | dict(first_k_dense_replace=1)),
    "granite": (
        "granite",
        GROUPED | dict(logits_scaling=8.0, embedding_multiplier=3.0, residual_multiplier=0.5, attention_multiplier=0.3),
    ),
    "granitemoe": ("granitemoe", GROUPED | dict(num_local_experts=4, num_experts_per_tok=2, logits_scaling=6.0)),
    "granitemoehybrid": (
        "granitemoehybrid",
        GROUPED
        | dict(
            num_local_experts=4,
            num_experts_per_tok=2,
            logits_scaling=6.0,
            layer_types=["mamba", "attention", "mamba"],
            mamba_n_heads=4,
            mamba_d_head=16,
            mamba_d_state=8,
            shared_intermediate_size=24,
            mamba_chunk_size=8,
        ),
    ),
    "cohere": ("cohere", GROUPED | dict(logit_scale=0.25)),
    "cohere2": ("cohere2", GROUPED | dict(logit_scale=0.25, sliding_window=WINDOW, layer_types=WINDOWED)),
    "smollm3": ("smollm3", GROUPED | dict(no_rope_layers=[1, 1, 0])),
    "nemotron": ("nemotron", UNEVEN),
    "exaone4": ("exaone4", UNEVEN | dict(sliding_window=WINDOW, layer_types=WINDOWED)),
    "hunyuan": ("hunyuan_v1_dense", UNEVEN),
    "hunyuan_moe": ("hunyuan_v1_moe", UNEVEN | dict(num_experts=4, moe_topk=2)),
    "deepseek_v2": ("deepseek_v2", GROUPED | LATENT | ROUTED | dict(first_k_dense_replace=1, num_key_value_heads=4)),
    "deepseek_v3": ("deepseek_v3", GROUPED | LATENT | ROUTED | dict(first_k_dense_replace=1, num_key_value_heads=4)),
    "gpt_oss": (
        "gpt_oss",
        UNEVEN | dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=WINDOW, layer_types=WINDOWED),
    ),
    "lfm2": ("lfm2", GROUPED | dict(layer_types=["conv", "full_attention", "conv"], block_multiple_of=8, block_ff_dim=40)),
    "qwen3_next": ("qwen3_next", UNEVEN | EXPERTS | LINEAR | dict(shared_expert_intermediate_size=24)),
    "falcon_h1": (
        "falcon_h1",
        GROUPED
        | dict(
            mamba_d_ssm=32,
            mamba_n_heads=4,
            mamba_d_head=8,
            mamba_d_state=8,
            mamba_n_groups=1,
            mamba_chunk_size=8,
            lm_head_multiplier=0.3,
            embedding_multiplier=2.0,
        ),
    ),
    "mamba": (
        "mamba",
        dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=3, state_size=8, bos_token_id=0, eos_token_id=1),
    ),
    "mamba2": (
        "mamba2",
        dict(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=3,
            state_size=8,
            num_heads=8,
            head_dim=8,
            n_groups=2,
            chunk_size=8,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=None,
        ),
    ),
    "bamba": (
        "bamba",
        GROUPED
        | dict(attn_layer_indices=[1], mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8, mamba_chunk_size=8, mamba_n_groups=1),
    ),
    "jamba": (
        "jamba",
        GROUPED
        | dict(
            num_experts=4,
            attn_layer_offset=1,
            attn_layer_period=2,
            expert_layer_offset=1,
            expert_layer_period=2,
            use_mamba_kernels=False,
            mamba_d_state=8,
            mamba_dt_rank=4,
        ),
    ),
    "recurrent_gemma": (
        "recurrent_gemma",
        GROUPED
        | dict(num_key_value_heads=1, lru_width=32, attention_window_size=WINDOW, block_types=["recurrent", "attention"]),
    ),
    "ernie4_5": ("ernie4_5", UNEVEN),
    "seed_oss": ("seed_oss", UNEVEN),
    "helium": ("helium", UNEVEN | dict(head_dim=8)),
    "arcee": ("arcee", GROUPED),
    "apertus": ("apertus", GROUPED),
    "persimmon": ("persimmon", PLAIN | dict(partial_rotary_factor=0.5)),
    "xglm": (
        "xglm",
        dict(vocab_size=VOCABULARY, d_model=32, ffn_dim=40, num_layers=3, attention_heads=4, max_position_embeddings=128),
    ),
    "biogpt": ("biogpt", PLAIN),
    "diffllama": ("diffllama", GROUPED),
    "llama4": (
        "llama4_text",
        UNEVEN | dict(intermediate_size_mlp=40, num_local_experts=4, attention_chunk_size=WINDOW, interleave_moe_layer_step=2),
    ),
    "minimax": (
        "minimax",
        GROUPED
        | dict(num_local_experts=4, layer_types=["linear_attention", "full_attention", "linear_attention"], block_size=8),
    ),
    "rwkv": (
        "rwkv",
        dict(vocab_size=VOCABULARY, hidden_size=32, attention_hidden_size=32, num_hidden_layers=3, context_length=128),
    ),
    "nanochat": ("nanochat", GROUPED),
    "vaultgemma": ("vaultgemma", UNEVEN | dict(sliding_window=WINDOW, layer_types=WINDOWED, query_pre_attn_scalar=20)),
    "openai-gpt": ("openai-gpt", GPT),
    "bert": ("bert", PLAIN),
    "bert, decoder": ("bert", PLAIN | dict(is_decoder=True)),
    "qwen3_5": ("qwen3_5_text", UNEVEN | LINEAR),
    "qwen3_5_moe": ("qwen3_5_moe_text", UNEVEN | EXPERTS | LINEAR | dict(shared_expert_intermediate_size=24)),
    "lfm2_moe": (
        "lfm2_moe",
        GROUPED
        | dict(
            layer_types=["conv", "full_attention", "conv"],
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=24,
            num_dense_layers=1,
        ),
    ),
    "zamba2": (
        "zamba2",
        GROUPED
        | dict(
            layers_block_type=["mamba", "hybrid", "mamba"],
            hybrid_layer_ids=[1],
            mamba_d_state=8,
            mamba_headdim=8,
            n_mamba_heads=8,
            mamba_ngroups=1,
            chunk_size=8,
            num_mem_blocks=1,
        ),
    ),
    "nemotron_h": (
        "nemotron_h",
        GROUPED
        | dict(
            layers_block_type=["mamba", "attention", "mlp"],
            mamba_num_heads=4,
            mamba_head_dim=8,
            ssm_state_size=8,
            n_groups=1,
            chunk_size=8,
        ),
    ),
    "olmo_hybrid": ("olmo_hybrid", GROUPED | LINEAR),
    "minimax_m2": ("minimax_m2", UNEVEN | dict(num_local_experts=4, num_experts_per_tok=2)),
    "ernie4_5_moe": ("ernie4_5_moe", UNEVEN | dict(moe_num_experts=4, moe_k=2, moe_intermediate_size=24)),
    "exaone_moe": ("exaone_moe", UNEVEN | EXPERTS | dict(sliding_window=WINDOW, layer_types=WINDOWED)),
    "deepseek_v32": (
        "deepseek_v32",
        GROUPED
        | LATENT
        | ROUTED
        | dict(first_k_dense_replace=1, num_key_value_heads=4, index_n_heads=2, index_head_dim=8, index_topk=64),
    ),
    "ctrl": ("ctrl", dict(vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=128, dff=40)),
}


# What is not supported, and what the sentence says that tells so. All others are sources and targets.
