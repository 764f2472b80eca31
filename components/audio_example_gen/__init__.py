"""From folders of recordings to ``tf.Example``s of audio features, in splits."""
