"""Training images of photos in other programs: processor time per image, threads of the process all counted.

  load_photos.py pillow  PHOTOS.tar... --crops CROPS.json   Pillow decodes, torchvision crops, resizes, flips, normalises
  load_photos.py decode  PHOTOS.tar... --crops CROPS.json   Pillow decodes, nothing else
  load_photos.py dali    PHOTOS.tar... --crops CROPS.json   DALI's CPU operators, one thread, the same crops
  load_photos.py ffcv    PHOTOS.tar...                      FFCV's pipeline, one worker, its own random crops; it reads
                                                            its own file, in which the photos are JPEGs encoded anew

CROPS.json is what crop_bench --crops writes. Photos are in memory before the clock starts. Prints one line of JSON:
{"what", "images", "cpu_us", "wall_us", "versions"}. --images FILE (pillow, dali): the first epoch's images as floats
[n][224][224][3], to compare what is computed.
"""
import argparse
import io
import json
import os
import resource
import tarfile
import tempfile
import time

SIDE = 224
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
BATCH = 25


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def read_photos(paths):
    photos = []
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith((".jpg", ".jpeg")):
                    photos.append(tar.extractfile(member).read())
    return photos


def measure(work):
    cpu, wall = cpu_seconds(), time.perf_counter()
    images = work()
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    return {"images": images, "cpu_us": round(1e6 * cpu / images, 1), "wall_us": round(1e6 * wall / images, 1)}


def write_images(path, batches):
    if path:
        with open(path, "wb") as file:
            for batch in batches:
                file.write(batch)


def pillow(args, photos, crops):
    import PIL
    import torch
    import torchvision
    from PIL import Image
    from torchvision.transforms import InterpolationMode, functional
    torch.set_num_threads(1)
    mean, std = [m / 255 for m in MEAN], [s / 255 for s in STD]

    def image(crop):
        sample, y, x, h, w, flip = crop
        photo = Image.open(io.BytesIO(photos[sample])).convert("RGB")
        part = functional.resized_crop(photo, y, x, h, w, [SIDE, SIDE], InterpolationMode.BICUBIC)
        if flip:
            part = functional.hflip(part)
        return functional.normalize(functional.to_tensor(part), mean, std, inplace=True)

    def work():
        for start in range(0, len(crops), BATCH):
            torch.stack([image(crop) for crop in crops[start:start + BATCH]])
        return len(crops)

    write_images(args.images, (image(c).permute(1, 2, 0).contiguous().numpy().tobytes() for c in crops[:len(photos)]))
    return measure(work), {"Pillow": PIL.__version__, "torch": torch.__version__,
                           "torchvision": torchvision.__version__}


def decode(args, photos, crops):
    import PIL
    from PIL import Image

    def work():
        for crop in crops:
            Image.open(io.BytesIO(photos[crop[0]])).convert("RGB")
        return len(crops)

    return measure(work), {"Pillow": PIL.__version__}


def dali(args, photos, crops):
    import numpy as np
    import nvidia.dali as nvidia_dali
    from nvidia.dali import fn, pipeline_def, types
    encoded = [np.frombuffer(photo, np.uint8) for photo in photos]

    def batches():
        while True:
            for start in range(0, len(crops), BATCH):
                part = crops[start:start + BATCH]
                yield ([encoded[c[0]] for c in part], [np.array(c[1:3], np.float32) for c in part],
                       [np.array(c[3:5], np.float32) for c in part], [np.array(c[5], np.int32) for c in part])

    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None)
    def pipeline():
        files, anchor, shape, flip = fn.external_source(source=batches(), num_outputs=4)
        images = fn.decoders.image_slice(files, anchor, shape, device="cpu", axis_names="HW", normalized_anchor=False,
                                         normalized_shape=False, output_type=types.RGB,
                                         jpeg_fancy_upsampling=args.smooth)
        images = fn.resize(images, size=[SIDE, SIDE], interp_type=types.INTERP_CUBIC, antialias=True)
        return fn.crop_mirror_normalize(images, dtype=types.FLOAT, output_layout="HWC", mean=MEAN, std=STD, mirror=flip)

    pipe = pipeline()
    pipe.build()
    first = [pipe.run()[0].as_array().tobytes() for _ in range(len(photos) // BATCH)]  # also warms up
    write_images(args.images, first)

    def work():
        for _ in range(0, len(crops), BATCH):
            pipe.run()
        return len(crops)

    return measure(work), {"DALI": nvidia_dali.__version__, "smooth upsampling": args.smooth}


def ffcv(args, photos, _):
    import numpy as np
    import ffcv as ffcv_package
    from PIL import Image
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, ToTensor
    from ffcv.writer import DatasetWriter

    class Photos:
        def __len__(self):
            return len(photos)

        def __getitem__(self, i):
            return np.asarray(Image.open(io.BytesIO(photos[i])).convert("RGB")), 0

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "photos.beton")
        writer = DatasetWriter(path, {"image": RGBImageField(write_mode="jpg", jpeg_quality=90), "label": IntField()},
                               num_workers=1)
        writer.from_indexed_dataset(Photos())
        images = [RandomResizedCropRGBImageDecoder((SIDE, SIDE)), RandomHorizontalFlip(),
                  NormalizeImage(np.array(MEAN), np.array(STD), np.float32), ToTensor()]
        loader = Loader(path, batch_size=BATCH, num_workers=1, order=OrderOption.SEQUENTIAL, os_cache=True,
                        pipelines={"image": images, "label": None})
        for _ in loader:  # compiles
            pass

        def work():
            return sum(len(batch[0]) for _ in range(3) for batch in loader)

        bytes_each = os.path.getsize(path) // len(photos)
        return measure(work), {"FFCV": ffcv_package.__version__, "bytes a photo": bytes_each}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["pillow", "decode", "dali", "ffcv"])
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--crops")
    parser.add_argument("--images")
    parser.add_argument("--smooth", action="store_true", help="dali: the chroma upsampling of the others")
    args = parser.parse_args()
    crops = None
    if args.crops:
        with open(args.crops) as file:
            crops = json.load(file)
    result, versions = globals()[args.what](args, read_photos(args.photos), crops)
    print(json.dumps({"what": args.what, **result, "versions": versions}))


if __name__ == "__main__":
    main()
