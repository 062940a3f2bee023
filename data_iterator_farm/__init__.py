"""Batches in memory: crop sampling, pixel jitter, label maps, multi-threaded prefetch.

From the bottom up, one file per thing: `decoding` (encoded image to pixels), `rendering` (a window of it as pixels),
`crop_sampling` and `jitter` (data augmentation: which window at which scale, mosaics; colours), `label_maps` and
`assignment` (which cells are taught what), `record_order` (which record when: shuffling), `batch` (what a batch is),
`batch_builder` (batch `i` as a function of seed and `i`), `batch_loader` (the data loader: the same, prefetched by
threads), `process_loader` (by worker processes), `mxnet_iter` (as an `mx.io.DataIter`). What is drawn how often, and
which cells are positive, is said by the dataclasses in `policies`.

To add an augmentation: give it a field in the policy it belongs to, whose default switches it off, and one function
that takes a NumPy generator. Look at it with `lffd preview`.
"""
