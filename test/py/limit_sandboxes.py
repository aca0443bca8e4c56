"""The limit on sandboxes that run at once; the server was started with a limit
of three."""

import unittest

from e2b import RateLimitException, Sandbox


class Limit(unittest.TestCase):
    def test_one_too_many(self):
        made = []
        try:
            for _ in range(3):
                made.append(Sandbox.create(timeout=60))
            with self.assertRaises(RateLimitException) as caught:
                Sandbox.create(timeout=60, retries=0)
            self.assertEqual(caught.exception.status_code, 429)
            made.pop().kill()
            made.append(Sandbox.create(timeout=60))
        finally:
            for s in made:
                s.kill()
