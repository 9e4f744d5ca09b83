"""One photo from a cold start: `python one_photo.py MODULE '{"model": ...}'` prints {label: probability} as JSON."""

import importlib
import json
import sys

if __name__ == "__main__":
    answer = importlib.import_module(sys.argv[1]).classify(**json.loads(sys.argv[2]))
    print(json.dumps(answer))
