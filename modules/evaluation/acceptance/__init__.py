"""Acceptance tests of audEERING's ser-tests, with their published bounds, as far as the data allow.

Derington et al., "Testing Correctness, Fairness, and Robustness of Speech Emotion Recognition Models", arXiv
2312.06270; https://github.com/audeering/ser-tests, ``docs/method-tests.rst`` and ``test/emotion/*.yaml`` at commit
455c47c. Names of the tests are theirs. The bounds were set for four emotions: angry, happy, neutral and sad.

As there, a point estimate decides. The intervals are this project's, over speakers.
"""
