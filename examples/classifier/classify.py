"""Trains a scikit-learn classifier on embeddings of sentences, and says how many new ones it gets right.

    pip install neort scikit-learn
    python classify.py [BUNDLE]

Without a bundle it takes the bundled demonstration model, which has read little more than old books.
"""

from __future__ import annotations

import sys

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import neort

SEA = [
    "The ship sailed out of the harbour with the tide.",
    "The captain stood upon the deck and watched the waves.",
    "A great wave broke over the bow of the vessel.",
    "The sailors pulled the boat up on the beach.",
    "The wind filled the sails and the ship went on.",
    "They cast the anchor in a quiet bay.",
    "The sea was rough and the crew were sick.",
    "The mast had fallen and the sails were torn.",
    "An island rose out of the water before the ship.",
    "The fisherman threw his net into the sea.",
    "The boat was driven upon the rocks by the storm.",
    "The mate called all hands on deck.",
]
HOUSE = [
    "She sat by the fire in the drawing-room.",
    "The lady poured the tea and smiled at her guest.",
    "He closed the door and went up the stairs.",
    "The old man slept in his chair by the window.",
    "Supper was laid upon the table in the kitchen.",
    "Her mother was sewing a dress in the parlour.",
    "The servant lit the candles in the hall.",
    "The children were playing in the nursery.",
    "He took a book from the shelf and sat down.",
    "The clock upon the wall struck seven.",
    "She opened the window and looked into the garden.",
    "The visitor left his hat and coat in the hall.",
]
LAYER = 0  # the means of words: what a model this small knows best; try the middle layers of a larger one
TRAINING = 8  # sentences of each kind; the others are the test


def main(bundle: str | None = None) -> float:
    """Train, print what each new sentence is taken for, and return the share that is right."""
    model = neort.load(bundle)
    training = SEA[:TRAINING] + HOUSE[:TRAINING]
    new = SEA[TRAINING:] + HOUSE[TRAINING:]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    classifier.fit(model.embed(training, LAYER), ["sea"] * TRAINING + ["house"] * TRAINING)
    found = classifier.predict(model.embed(new, LAYER))
    for sentence, kind in zip(new, found, strict=True):
        print(f"{kind:6} {sentence}")
    right = [kind == ("sea" if sentence in SEA else "house") for sentence, kind in zip(new, found, strict=True)]
    print(f"{sum(right)} of {len(right)} right")
    return sum(right) / len(right)


if __name__ == "__main__":
    main(*sys.argv[1:2])
