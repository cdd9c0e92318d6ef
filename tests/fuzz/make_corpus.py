"""Writes the seeds in tests/fuzz/corpus: small files of every kind that the targets read. Needs only Python.

    python3 tests/fuzz/make_corpus.py BUILD/tunas
"""
import io
import json
import pathlib
import struct
import subprocess
import sys
import tarfile
import tempfile

HERE = pathlib.Path(__file__).parent


def write(target, name, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def images():
    with open(HERE / "../golden/decode.json") as file:
        cases = json.load(file)["cases"]
    for i, case in enumerate(cases):
        file = bytes.fromhex(case["file"])
        choice = bytes([(0, 8, 1, 24, 2 + 1)[i % 5]])  # the first byte is no part of the image
        write("image", case["name"].replace(" ", "_").replace(":", ""), choice + file)
    return bytes.fromhex(cases[-1]["file"])


def tars(jpeg):
    for name, format, prefix in (("ustar", tarfile.USTAR_FORMAT, ""), ("gnu", tarfile.GNU_FORMAT, "d" * 120 + "/"),
                                 ("pax", tarfile.PAX_FORMAT, "p" * 120 + "/")):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=format) as tar:
            for key, data in (("a.jpg", jpeg[:60]), ("a.cls", b"3"), ("a.json", b"{}"), ("b.jpeg", jpeg[:9]),
                              ("b.cls", b" 12\n"[1:])):
                member = tarfile.TarInfo(prefix + key)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        whole = file.getvalue()
        end = len(whole.rstrip(b"\0"))
        write("tar", name, whole[:(end + 511) // 512 * 512] + bytes(1024))


def idx():
    for shape in ((7,), (2, 3), (2, 3, 4), (1, 2, 2, 3)):
        size = 1
        for extent in shape:
            size *= extent
        write("idx", "x".join(map(str, shape)),
              bytes([0, 0, 8, len(shape)]) + b"".join(struct.pack(">I", e) for e in shape) + bytes(range(size)))


def safetensors():
    def file(header, data):
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + data
    write("safetensors", "two", file({"__metadata__": {"format": "pt"},
                                      "a/b": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
                                      "c": {"dtype": "I64", "shape": [], "data_offsets": [24, 32]}}, bytes(32)))
    write("safetensors", "none", file({}, b""))
    write("safetensors", "bf16", file({"x": {"dtype": "BF16", "shape": [1, 0, 4], "data_offsets": [0, 0]},
                                       "y": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}}, b"abc"))


def records(program):
    """What the program makes of two small folders of images, and the golden TFRecords."""
    for file in sorted((HERE / "../golden/tfrecord").glob("*.tfrecord")):
        write("tfrecord", file.stem, file.read_bytes())
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / file.name
            copy.write_bytes(file.read_bytes())
            subprocess.run([program, "data", "index", f"tfrecord:{copy}"], check=True, stdout=subprocess.DEVNULL)
            write("index", file.stem, (pathlib.Path(folder) / (file.name + ".index")).read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        images = pathlib.Path(folder) / "images"
        for i, name in enumerate(("jpeg_grey", "png_colour_3_depth_4_interlaced_False_tRNS_False")):
            image = images / str(i) / f"{i}.jpg"
            image.parent.mkdir(parents=True)
            image.write_bytes((HERE / "corpus/image" / name).read_bytes()[1:])
        for payload in ("encoded", "decoded"):
            subprocess.run([program, "data", "pack", "folder:images", "--out", payload, "--payload", payload], cwd=folder,
                           check=True, stdout=subprocess.DEVNULL)
            write("pack", payload, (pathlib.Path(folder) / payload).read_bytes())


def networks(program):
    def tunas(*arguments):
        return subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE).stdout
    for i, space in enumerate(("proxylessnas_search", "proxylessnas_enlarged_search", "mobilenet_v3_like_search")):
        for line in tunas("space", "sample", space, "--count", "2", "--seed", str(i)).split():
            write("indices", f"{space}_{len(line)}", line)
    def small(value):
        return json.dumps(value, separators=(",", ":")).encode()
    arch = json.loads(tunas("arch", "show", "--name", "mobilenet_v2", "--json"))
    write("arch_json", "mobilenet_v2", small(arch))
    write("arch_json", "space", small(json.loads(tunas("space", "show", "mobilenet_v3_large", "--json"))))
    search = json.loads(tunas("space", "show", "mobilenet_v3_like_search", "--json"))
    write("arch_json", "search", small(search))


if __name__ == "__main__":
    tars(images())
    idx()
    safetensors()
    program = str(pathlib.Path(sys.argv[1]).resolve())
    records(program)
    networks(program)
