"""What the tests of the Sprites SDK for Python share."""

import contextlib
import itertools
import os
import time
import unittest

from sprites import SpritesClient

API_URL = os.environ["SPRITES_API_URL"]
TOKEN = os.environ["SPRITE_TOKEN"]

# How long a condition may take to come true before a test gives up, in seconds.
PATIENCE = 30

client = SpritesClient(TOKEN, base_url=API_URL)
_made = itertools.count(1)


def fresh_name():
    return f"py-{os.getpid()}-{next(_made)}"


@contextlib.contextmanager
def sprite(**opts):
    """A sprite that is removed whatever happens."""
    made = client.create_sprite(fresh_name(), **opts)
    try:
        yield made
    finally:
        made.destroy()


class WithSprite(unittest.TestCase):
    """Tests that share one sprite."""

    @classmethod
    def setUpClass(cls):
        cls.sprite = client.create_sprite(fresh_name())
        cls.addClassCleanup(cls.sprite.destroy)

    def sh(self, script, **opts):
        return self.sprite.run("sh", "-c", script, capture_output=True, **opts)


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"waited {PATIENCE} s in vain for {what}")
        time.sleep(0.025)
