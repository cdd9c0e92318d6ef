"""Writes tests/golden/tfrecord/*.tfrecord with TensorFlow's own writer.

    python make_tfrecord_golden.py IMAGE.jpg

IMAGE is a JPEG of a few hundred bytes; the two files hold it under the feature names of TensorFlow
Datasets' imagenet2012 and of Inception's conversion of ImageNet. TensorFlow 2.21.
"""

import pathlib
import sys

import tensorflow as tf


def bytes_of(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def whole(value):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def floats(values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def write(path, examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for feature in examples:
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString(deterministic=True))


def main():
    image = pathlib.Path(sys.argv[1]).read_bytes()
    folder = pathlib.Path(__file__).parent / "tfrecord"
    folder.mkdir(exist_ok=True)
    write(
        folder / "datasets.tfrecord",
        (
            {"image": bytes_of(image), "label": whole(label), "file_name": bytes_of(b"n0144_%d.JPEG" % i)}
            for i, label in enumerate([7, 0, 999])
        ),
    )
    write(
        folder / "inception.tfrecord",
        (
            {
                "image/encoded": bytes_of(image),
                "image/class/label": whole(label),
                "image/height": whole(2),
                "image/filename": bytes_of(b"f%d.JPEG" % i),
                "image/object/bbox/xmin": floats([0.5, 0.25]),
            }
            for i, label in enumerate([1, 1000])
        ),
    )


if __name__ == "__main__":
    main()
