"""Where `bench/mutants.py` puts faults, and which tests should notice them. Rooms are about concepts, not folders."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Room:
    """Files whose faults are looked for, and the tests that should notice them, both as patterns."""

    files: tuple[str, ...]
    tests: tuple[str, ...]
    apart: tuple[str, ...] = ()  # further tests, which run what they test in other processes: tried last
    slow: bool = False  # whether the tests that `make quick` leaves out are needed


ROOMS = {
    "tokenizer": Room(
        ("bpe.py", "tokenizer/*.py", "weights/tokenizer_files.py"),
        (
            *("model/test_tokenizer*.py", "model/test_vocabularies*.py", "model/test_nested_tokens.py"),
            *("model/test_long_texts.py", "weights/test_tokenizer*.py", "weights/test_special*.py"),
        ),
    ),
    "pixels": Room(
        (
            "pixels.py",
            "image.py",
            "image_source.py",
            "decoding/decompression_bombs.py",
            "decoding/jpeg.py",
            "prefetch.py",
        ),
        (
            *("model/test_*image*.py", "model/test_pixel*.py", "model/test_fast_decode.py"),
            *("model/test_prefetch.py", "model/test_decompression_bombs.py", "model/test_header_sizes.py"),
        ),
        apart=("hostile/test_hostile_images.py",),
    ),
    "engines": Room(
        ("engine/*.py",),
        (
            *("engine/test_engine*.py", "engine/test_compiled_graphs.py", "engine/test_token_trie*.py"),
            *("engine/test_text_engine.py", "engine/test_dense.py"),
        ),
        apart=("engine/test_onnx.py",),
    ),
    "readers": Room(
        ("weights/[!t]*.py", "weights/t[!o]*.py", "weights/torch_*.py", "files.py", "fields.py"),
        ("weights/*.py", "model/test_fi*.py", "model/test_full_disks.py"),
    ),
    "store": Room(
        ("search/stores/embedded/*.py", "search/stores/filter*.py"),
        (
            *("search/test_embedded*.py", "search/contract/test_*.py", "search/test_*filter*.py"),
            *("search/test_collection.py", "search/test_durability.py", "search/test_snapshot_caches.py"),
            *("search/test_near_ties.py", "search/test_shared_state.py"),
        ),
    ),
    "ledger": Room(
        ("search/indexing/[!o]*.py",),
        (
            *("search/test_ledger*.py", "search/test_index*.py", "search/test_ignoring.py", "search/test_in_memory.py"),
            *("search/test_sources*.py", "search/test_removing.py", "search/test_image_record.py"),
            *("search/test_trying_again.py", "search/test_durability.py", "search/test_shared_state.py"),
        ),
    ),
    "serve": Room(("serve/*.py", "serve/[!r]*/*.py"), ("serve/*.py", "hostile/test_server_*.py")),
    "losses": Room(
        ("train/objective/*.py", "train/step/*.py"),
        (
            *("train/test_loss*.py", "train/test_gradients.py", "train/test_optimiser*.py", "train/test_ema*.py"),
            *("train/test_classification.py", "train/test_teacher*.py", "train/test_device_batch.py"),
            "train/test_objective.py",
            "train/test_run_figures.py",
        ),
        slow=True,
    ),
    "resume": Room(
        ("train/run/*.py", "train/data/order.py", "train/data/loader.py"),
        (
            *("train/test_resumed*.py", "train/test_recipe.py", "train/test_validation.py", "train/test_dry_run.py"),
            *("train/test_train_data_order.py", "train/test_train_data.py", "train/test_held_out.py"),
            *("train/test_run_figures.py", "train/test_train_cli.py"),
        ),
        slow=True,
    ),
    "command line": Room(
        ("cli/*.py", "cli/commands/*.py", "cli/options/*.py", "progress.py"), ("cli/*.py", "model/test_progress.py")
    ),
}
