"""What a Vision Transformer's tensors are called by timm (and open_clip with it), transformers, and Meta (PE-Core)."""

from tandem.towers.parts.names import BATCH_NORM, Rule, blocks, parts, same, transformers_blocks

_TIMM = "visual.trunk"
_TIMM_LAYERS = {
    "ln_1": "norm1",
    "attn.out_proj": "attn.proj",
    "ln_2": "norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
TIMM = (
    *same("visual.conv1", f"{_TIMM}.patch_embed.proj"),
    *same("visual.stem.{}.conv", f"{_TIMM}.patch_embed.backbone.{{}}.conv"),
    *same("visual.stem.{}.bn", f"{_TIMM}.patch_embed.backbone.{{}}.bn", *BATCH_NORM),
    Rule("visual.class_embedding", (f"{_TIMM}.cls_token",), ones=2),
    Rule("visual.positional_embedding", (f"{_TIMM}.pos_embed",), ones=1),
    *same("visual.ln_pre", f"{_TIMM}.norm_pre"),
    *same("visual.ln_post", f"{_TIMM}.norm"),
    *blocks("visual.transformer", f"{_TIMM}.blocks", _TIMM_LAYERS, ("attn.qkv",)),
    Rule("visual.pool.query", (f"{_TIMM}.attn_pool.latent",), ones=2),
    *parts("visual.pool.attn.in_proj", (f"{_TIMM}.attn_pool.q", f"{_TIMM}.attn_pool.kv"), rows=(1, 2)),
    *same("visual.pool.attn.out_proj", f"{_TIMM}.attn_pool.proj"),
    *same("visual.pool.ln", f"{_TIMM}.attn_pool.norm"),
    *same("visual.pool.mlp.c_fc", f"{_TIMM}.attn_pool.mlp.fc1"),
    *same("visual.pool.mlp.c_proj", f"{_TIMM}.attn_pool.mlp.fc2"),
    Rule("visual.proj", (f"{_TIMM}.head.weight",), transposed=True),
    Rule("visual.proj_bias", (f"{_TIMM}.head.bias",)),
)

_VISION = "vision_model"
TRANSFORMERS = (
    *same("visual.conv1", f"{_VISION}.embeddings.patch_embedding"),
    Rule("visual.class_embedding", (f"{_VISION}.embeddings.class_embedding",)),
    Rule("visual.positional_embedding", (f"{_VISION}.embeddings.position_embedding.weight",)),
    *same("visual.ln_pre", f"{_VISION}.pre_layrnorm"),
    *same("visual.ln_post", f"{_VISION}.post_layernorm"),
    *transformers_blocks("visual.transformer", f"{_VISION}.encoder.layers"),
    Rule("visual.pool.query", (f"{_VISION}.head.probe",), ones=2),
    Rule("visual.pool.attn.in_proj_weight", (f"{_VISION}.head.attention.in_proj_weight",)),
    Rule("visual.pool.attn.in_proj_bias", (f"{_VISION}.head.attention.in_proj_bias",)),
    *same("visual.pool.attn.out_proj", f"{_VISION}.head.attention.out_proj"),
    *same("visual.pool.ln", f"{_VISION}.head.layernorm"),
    *same("visual.pool.mlp.c_fc", f"{_VISION}.head.mlp.fc1"),
    *same("visual.pool.mlp.c_proj", f"{_VISION}.head.mlp.fc2"),
    Rule("visual.proj", ("visual_projection.weight",), transposed=True),
)
# PE-Core as Meta published it: OpenAI's names, and for what CLIP has not
_PE_CORE_POOL = "visual.attn_pool"
PE_CORE = (
    Rule("visual.pool.query", (f"{_PE_CORE_POOL}.probe",), ones=2),
    Rule("visual.pool.attn.in_proj_weight", (f"{_PE_CORE_POOL}.attn.in_proj_weight",)),
    Rule("visual.pool.attn.in_proj_bias", (f"{_PE_CORE_POOL}.attn.in_proj_bias",)),
    *same("visual.pool.attn.out_proj", f"{_PE_CORE_POOL}.attn.out_proj"),
    *same("visual.pool.ln", f"{_PE_CORE_POOL}.layernorm"),
    *same("visual.pool.mlp.c_fc", f"{_PE_CORE_POOL}.mlp.c_fc"),
    *same("visual.pool.mlp.c_proj", f"{_PE_CORE_POOL}.mlp.c_proj"),
)
RULES = {"original": PE_CORE, "open_clip": TIMM, "transformers": TRANSFORMERS}
