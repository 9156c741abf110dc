"""Everything that touches pixels or tf.data: example table, images, cells, records, batches."""
