"""What another release makes of frames: `replay.py FOLDER`, with JSON from stdin and to stdout.

Asked: `image`, the chunks of an image to begin with, empty for an empty ledger; `frames`, to apply one after the other.
Told: `version` of the release that is installed in the folder; `written`, the frames as it would write them itself;
`outcomes` of each frame; `image` at the end, and its `digest`. All bytes are in hex.
"""

import json
import sys

sys.path.insert(0, sys.argv[1])

import fivenines
from fivenines.ledger import State, apply, decode, digest, encode, image, restore


def main() -> None:
    """Answer what is asked."""
    asked = json.load(sys.stdin)
    state = restore(map(bytes.fromhex, asked["image"])) if asked["image"] else State()
    written, outcomes = [], []
    for frame in map(bytes.fromhex, asked["frames"]):
        batch = decode(frame)
        written.append(encode(batch, schema=state.rules.schema).hex())
        outcomes.append(apply(state, batch).outcomes)
    chunks = [chunk.hex() for chunk in image(state)]
    told = {"written": written, "outcomes": outcomes, "image": chunks, "digest": digest(state).hex()}
    json.dump({"version": fivenines.__version__, **told}, sys.stdout)


main()
