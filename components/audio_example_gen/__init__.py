"""ExampleGen of folders of recordings: ``tf.Example``s of audio features, in splits."""
