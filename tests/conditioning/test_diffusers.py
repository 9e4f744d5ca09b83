"""Tiny random pipelines of every kind: with our text encoders in place of transformers', the same images."""

import numpy as np
import pytest

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")

from safetensors.numpy import save_file  # noqa: E402
from support import conditioning_toys as toys  # noqa: E402

from tandem.conditioning import Conditioner  # noqa: E402
from tandem.conditioning.diffusers import (  # noqa: E402
    load_text_encoder,
    pipeline_inputs,
    replace_text_encoders,
)
from tandem.errors import ConditioningError  # noqa: E402

KINDS = ("sd1", "sd2", "sdxl", "sd3", "flux")
PROMPTS = ["a red fox, at night", "x"]
SEED = 3


@pytest.fixture(scope="module", autouse=True)
def references():
    """Imported by the process that runs these tests, not by each that lists them: they take four seconds."""
    global diffusers, transformers
    diffusers, transformers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Text encoders and tokenizers as a repository has them."""
    root = tmp_path_factory.mktemp("pipe")
    toys.save(toys.tower("clip_l"), root / "l" / "text_encoder")
    toys.save(toys.tower("clip_h", pad_id=0), root / "h" / "text_encoder", pad="!")
    toys.save(toys.tower("clip_g", pad_id=0), root / "g" / "text_encoder", pad="!")
    return root


def clip(folder, which, kind):
    encoder = getattr(transformers, kind).from_pretrained(folder / which / "text_encoder").eval()
    encoder.config.eos_token_id = 49407
    getattr(encoder, "text_model", encoder).eos_token_id = 49407
    return encoder, transformers.CLIPTokenizer.from_pretrained(folder / which / "tokenizer")


def t5():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate(["<pad>", "<unk>", "a", "red", "fox"])}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<unk>")
    config = transformers.T5Config(vocab_size=8, d_model=96, d_kv=8, d_ff=37, num_layers=1, num_heads=4)
    return transformers.T5EncoderModel(config).eval(), tokenizer


def vae(**changes):
    return diffusers.AutoencoderKL(
        block_out_channels=[8], norm_num_groups=4, in_channels=3, out_channels=3,
        down_block_types=["DownEncoderBlock2D"], up_block_types=["UpDecoderBlock2D"], latent_channels=4,
        sample_size=32, **changes,
    )  # fmt: skip


def unet(width, **changes):
    return diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, sample_size=16, in_channels=4,
        out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=width, attention_head_dim=4, **changes,
    )  # fmt: skip


def build(kind, folder):
    torch.manual_seed(0)
    plain = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if kind in ("sd1", "sd2"):
        encoder, words = clip(folder, "l" if kind == "sd1" else "h", "CLIPTextModel")
        network = unet(toys.SIZES["clip_l" if kind == "sd1" else "clip_h"][0])
        schedule = diffusers.DDIMScheduler(
            prediction_type="epsilon" if kind == "sd1" else "v_prediction", steps_offset=1, clip_sample=False
        )
        return diffusers.StableDiffusionPipeline(vae(), encoder, words, network, schedule, **plain)
    if kind == "sdxl":
        network = unet(80, addition_embed_type="text_time", addition_time_embed_dim=8,
                       projection_class_embeddings_input_dim=toys.DIM + 48)  # fmt: skip
        pairs = *clip(folder, "l", "CLIPTextModel"), *clip(folder, "g", "CLIPTextModelWithProjection")
        return diffusers.StableDiffusionXLPipeline(
            vae(), pairs[0], pairs[2], pairs[1], pairs[3], network, diffusers.EulerDiscreteScheduler()
        )
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    if kind == "sd3":
        network = diffusers.SD3Transformer2DModel(
            sample_size=16, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
            joint_attention_dim=96, caption_projection_dim=32, pooled_projection_dim=2 * toys.DIM, out_channels=4,
        )  # fmt: skip
        pairs = (
            *clip(folder, "l", "CLIPTextModelWithProjection"),
            *clip(folder, "g", "CLIPTextModelWithProjection"),
        )
        return diffusers.StableDiffusion3Pipeline(
            network, flow, vae(shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False), *pairs, None, None
        )
    network = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=96, pooled_projection_dim=toys.SIZES["clip_l"][0], axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    return diffusers.FluxPipeline(
        flow, vae(shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        *clip(folder, "l", "CLIPTextModel"), *t5(), network,
    )  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def pipe(kind, folder):
    made = build(kind, folder)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def theirs(pipe):
    """Their encoders' images, before ours take their place; and what they say of prompts."""
    return pictures(pipe), pictures(pipe, "a (green) car"), encoded(pipe)


def arguments(pipe):
    size = 16 * (2 if "Flux" in type(pipe).__name__ else 1)
    extra = {"max_sequence_length": 16} if hasattr(pipe, "transformer") else {}
    return {"height": size, "width": size, "num_inference_steps": 2, "output_type": "np", **extra}


def pictures(pipe, prompt=PROMPTS, **given):
    draw = torch.Generator().manual_seed(SEED)
    words = {} if "prompt_embeds" in given else {"prompt": prompt}
    return pipe(**words, **given, **arguments(pipe), generator=draw).images


def encoded(pipe):
    found = pipe.encode_prompt(PROMPTS, **encode_arguments(pipe))
    return [each for each in found if each is not None]


def encode_arguments(pipe):
    name = type(pipe).__name__
    if name == "StableDiffusionPipeline":
        return {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
    if name == "StableDiffusionXLPipeline":
        return {}
    if name == "FluxPipeline":
        return {"prompt_2": None, "max_sequence_length": 16}
    return {"prompt_2": None, "prompt_3": None, "max_sequence_length": 16}


def ours(pipe, kind, folder, **options):
    towers = {"sd1": {"clip_l": "l"}, "sd2": {"clip_h": "h"}, "flux": {"clip_l": "l"}}
    places = towers.get(kind, {"clip_l": "l", "clip_g": "g"})
    changes = {"t5_tokens": 16} if kind in ("sd3", "flux") else {}
    named = {name: folder / place / "text_encoder" for name, place in places.items()}
    return Conditioner(toys.consumer(kind, **changes), **named, **options)


def close(found, expected, atol):
    found, expected = (each.detach().numpy() if isinstance(each, torch.Tensor) else each for each in (found, expected))
    np.testing.assert_allclose(found, expected, atol=atol)


def test_one_call_gives_what_the_pipeline_makes_itself(pipe, kind, folder, theirs):
    expected = theirs[2]
    t5_states = expected[0].detach().numpy() if kind == "flux" else None
    found = ours(pipe, kind, folder).encode(PROMPTS, t5_states=t5_states)
    if kind == "flux":
        close(found.pooled, expected[1], 1e-5)
    else:
        close(found.states, expected[0], 2e-5)
        close(found.negative_states, expected[1], 2e-5)
    if kind in ("sdxl", "sd3"):
        close(found.pooled, expected[2], 2e-5)
        close(found.negative_pooled, expected[3], 2e-5)
    inputs = pipeline_inputs(found)
    if kind == "flux":
        inputs = {name: each for name, each in inputs.items() if not name.startswith("negative")}
    close(pictures(pipe, **inputs), theirs[0], 1e-3)


def test_the_same_images_with_our_encoders(pipe, kind, theirs):
    before = pipe.text_encoder
    names = replace_text_encoders(pipe)
    assert names == {"sdxl": ["text_encoder", "text_encoder_2"], "sd3": ["text_encoder", "text_encoder_2"]}.get(
        kind, ["text_encoder"]
    )
    assert pipe.text_encoder is not before
    for found, expected in zip(encoded(pipe), theirs[2], strict=True):
        close(found, expected, 2e-5)
    images = pictures(pipe)
    close(images, theirs[0], 1e-3)
    close(pictures(pipe, "a (green) car"), theirs[1], 1e-3)  # parentheses are text there
    assert abs(images[0] - images[1]).max() > 1e-3  # prompts do change images
    again = replace_text_encoders(pipe)
    assert again == names
    close(pictures(pipe), theirs[0], 1e-3)


def test_clip_skip_in_the_pipeline_and_beside_it(pipe, kind, folder):
    if kind == "flux":
        pytest.skip("Flux reads the end alone")
    replace_text_encoders(pipe)
    found = pipe.encode_prompt(PROMPTS, clip_skip=1, **encode_arguments(pipe))
    expected = ours(pipe, kind, folder).encode(PROMPTS, clip_skip=1)
    close(found[0], expected.states, 2e-5)
    close(found[1], expected.negative_states, 2e-5)


def test_learnt_words_in_a_pipeline(folder, tmp_path):
    pipe = build("sd1", folder)
    tower = toys.tower("clip_l")
    rows = tower.tensors["token_embedding.weight"][tower.tokenizer.encode("red fox")[0]]
    save_file({"<animal>": rows}, tmp_path / "animal.safetensors")
    expected = pipe.encode_prompt("a red fox, at night", **encode_arguments(pipe))[0]
    replace_text_encoders(pipe, embeddings=[tmp_path / "animal.safetensors"])
    close(pipe.encode_prompt("a <animal>, at night", **encode_arguments(pipe))[0], expected, 2e-5)
    assert pipe.tokenizer.tokenize("a <animal>")[1] == "<animal>"
    with pytest.raises(ConditioningError, match="give files of textual inversion to replace_text_encoders"):
        pipe.load_textual_inversion({"<other>": torch.zeros(32)})


def test_encoders_for_a_pipeline_that_is_put_together(folder):
    encoder, words = load_text_encoder(folder / "l", subfolder="text_encoder", dtype=torch.float16)
    assert (encoder.dtype, encoder.device.type) == (torch.float16, "cpu")
    ids = words(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    theirs, their_words = clip(folder, "l", "CLIPTextModelWithProjection")
    expected_ids = their_words(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    assert torch.equal(ids.input_ids, expected_ids.input_ids)
    long = "apple " * 90
    for options in ({"padding": "longest"}, {"padding": "max_length", "max_length": 20, "truncation": True}, {}):
        one, other = (each(long, **options).input_ids for each in (words, their_words))
        assert one == other
    assert words.batch_decode(ids.input_ids[:, 1:4]) == ["a red fox", "x <|endoftext|> <|endoftext|>"]
    with torch.no_grad():
        expected = theirs(expected_ids.input_ids, output_hidden_states=True)
    found = encoder(ids.input_ids, output_hidden_states=True)
    assert found[0].dtype == torch.float16
    close(encoder.float()(ids.input_ids)[0], expected.text_embeds, 2e-5)
    hidden = encoder(ids.input_ids, output_hidden_states=True).hidden_states
    for one, other in zip(hidden, expected.hidden_states, strict=True):
        close(one, other, 1e-4)
    assert not any(each.requires_grad for each in encoder.parameters())
    with pytest.raises(ConditioningError, match="image generators see padding"):
        encoder(ids.input_ids, attention_mask=ids.attention_mask)


def test_a_pipeline_without_clip_is_refused():
    with pytest.raises(ConditioningError, match="expected a CLIP text encoder in text_encoder"):
        replace_text_encoders(object())
