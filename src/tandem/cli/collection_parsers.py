"""The arguments of the commands that make and ask collections. Knows nothing of how they are done."""

from tandem.cli.parser import Commands, Parser, command, label_options, model_options, positive

WHERE = "keep only what passes, for example: width > 1000 and path like '%%2023%%'"  # argparse formats it


def add_commands(commands: Commands) -> None:
    """`index`, `search`, `label`, `explore`, `migrate` and `calibrate`."""
    _index(commands)
    _search(commands)
    _label(commands)
    _explore(commands)
    _migrate(commands)
    _calibrate(commands)


def _collection(parser: Parser) -> None:
    parser.add_argument(
        "collection", metavar="COLLECTION", help="a folder, milvus://host:19530/name, or https://... (Zilliz)"
    )


def _index(commands: Commands) -> None:
    parser = command(
        commands,
        "index",
        "make a folder of photos searchable",
        "Put photos into a collection, with their vectors. What is there already and has not changed is skipped; "
        "stopped half-way, the same command goes on.",
        "tandem index ~/Pictures --to photos.tandem",
        "tandem index 'shards/*.tar' table.parquet --to milvus://localhost:19530/photos",
        "find . -name '*.jpg' | tandem index - --to photos.tandem --fast-decode",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a folder (searched through), a glob in quotes, a photo, a WebDataset tar, a Parquet file with pictures "
        "or paths, or - for a list of paths on standard input",
    )
    parser.add_argument("--to", required=True, metavar="COLLECTION", dest="collection", help="made if it is not there")
    parser.add_argument("--prune", action="store_true", help="take out what is no longer among the sources")
    parser.add_argument(
        "--fast-decode",
        action="store_true",
        help="let large JPEGs shrink while they are decoded: several times faster, vectors a trifle off",
    )
    parser.add_argument("--caption", metavar="KEY", help="the column or JSON key of captions; found by itself if usual")
    parser.add_argument("--workers", type=positive, metavar="N", help="with --engine ray: encoders at work at once")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="photos encoded at once (32)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    model_options(parser, engines=("auto", "openvino", "torch", "ray"))


def _search(commands: Commands) -> None:
    parser = command(
        commands,
        "search",
        "find photos by text or by image",
        "Show the photos of a collection that are nearest to a text, to a photo, or to both, and how likely each one "
        "is what was meant. Says so when nothing matches well.",
        'tandem search photos.tandem "a black cat sleeping on a red sofa"',
        "tandem search photos.tandem --image sofa.jpg --where \"width > 1000 and taken >= '2023'\" --plot sheet.png",
        'tandem search photos.tandem "a street" --image beach.jpg --weight 0.3 --minus "people"',
    )
    _collection(parser)
    parser.add_argument("text", nargs="?", metavar="TEXT", help="what to look for")
    parser.add_argument("--image", metavar="PHOTO", help="look for what resembles this photo")
    parser.add_argument("--weight", type=float, default=0.5, metavar="W", help="of the text: 0..1 (0.5)")
    parser.add_argument("--minus", metavar="TEXT", help="less of what this text says")
    parser.add_argument("--minus-image", metavar="PHOTO", help="less of what this photo shows")
    parser.add_argument("--top", type=positive, default=10, metavar="K", help="how many to show (10)")
    parser.add_argument("--page", type=positive, default=1, metavar="N", help="the N-th so many (1)")
    parser.add_argument("--where", metavar="EXPR", help=WHERE)
    parser.add_argument(
        "--threshold", type=float, metavar="P", help="relevance below which nothing matches well; 0 shows all as is"
    )
    parser.add_argument("--plot", metavar="PNG", help="draw a contact sheet of the hits")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    model_options(parser)


def _label(commands: Commands) -> None:
    parser = command(
        commands,
        "label",
        "label a whole collection at once",
        "The best photos of every label, or with --by picture the best labels of every photo. Labels are any words.",
        "tandem label photos.tandem --labels cat,dog,beach,receipt",
        "tandem label photos.tandem --labels-file labels.txt --by picture --top 3 --out labels.csv",
    )
    _collection(parser)
    label_options(parser)
    parser.add_argument("--by", choices=("label", "picture"), default="label", help="what to list (label)")
    parser.add_argument("--top", type=positive, default=10, metavar="K", help="photos a label, or labels a photo (10)")
    parser.add_argument("--where", metavar="EXPR", help=WHERE)
    parser.add_argument("--out", metavar="F", help="write all of it to labels.csv, labels.jsonl or labels.parquet")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    model_options(parser)


def _explore(commands: Commands) -> None:
    parser = command(
        commands,
        "explore",
        "see what is in a collection",
        "Find near-duplicates and clusters, name the clusters, and draw a map of all photos: a picture, and data.",
        "tandem explore photos.tandem --out tour",
        "tandem explore photos.tandem --out tour --clusters 40 --duplicates 0.99 --vocabulary words.txt",
    )
    _collection(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="where map.png, map.json and the lists go")
    parser.add_argument(
        "--duplicates", type=float, default=0.97, metavar="T", help="cosine from which two photos are duplicates (0.97)"
    )
    parser.add_argument("--clusters", type=positive, metavar="N", help="how many; chosen by size when left out")
    parser.add_argument("--vocabulary", metavar="F", help="words to name clusters with, one a line; ours if left out")
    parser.add_argument("--where", metavar="EXPR", help=WHERE)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, another layout (0)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    model_options(parser)


def _migrate(commands: Commands) -> None:
    parser = command(
        commands,
        "migrate",
        "move a collection to another model",
        "Embed every photo of a collection again with another model, beside the old vectors, and switch over at the "
        "end. Stopped half-way, the old collection is as it was and the same command goes on.",
        "tandem migrate photos.tandem --model ViT-B/32",
    )
    _collection(parser)
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="photos encoded at once (32)")
    parser.add_argument(
        "--drop-missing", action="store_true", help="switch over although some photos can no longer be read"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    model_options(parser)


def _calibrate(commands: Commands) -> None:
    parser = command(
        commands,
        "calibrate",
        "learn what a model's scores mean",
        "Fit the probability that a hit matches its query, from pictures with captions that the model was not trained "
        "on. Searches with this model show it from then on.",
        "tandem calibrate captions.parquet --model ViT-B/32",
        "tandem calibrate flickr8k-dev.tar --model ViT-B/32 --test flickr8k-test.tar --json",
    )
    parser.add_argument("dataset", nargs="+", metavar="DATASET", help="WebDataset tars or Parquet files with captions")
    parser.add_argument("--test", nargs="+", metavar="DATASET", help="report on these; on a held-out part if left out")
    parser.add_argument("--caption", metavar="KEY", help="the column or JSON key of captions; found by itself if usual")
    parser.add_argument("--out", metavar="F", help="also write the fit here, for others to use")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    model_options(parser)
