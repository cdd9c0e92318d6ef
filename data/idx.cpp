#include "data/idx.h"

#include <zlib.h>

#include <filesystem>
#include <memory>

#include "kernels/error.h"

namespace tunas::data {
namespace {

using Bytes = std::vector<std::uint8_t>;

/// A file's bytes, unpacked if it is gzipped.
Bytes read_gz(const std::string& path) {
  constexpr std::size_t kStep = 1 << 22;
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose_r);
  if (!file) fail(Exit::data, path, ": cannot be opened; is it readable?");
  Bytes bytes;
  std::size_t used = 0;
  for (int got = 1; got > 0; used += static_cast<std::size_t>(got)) {
    bytes.resize(used + kStep);
    got = gzread(file.get(), bytes.data() + used, kStep);
    int code = Z_OK;
    const char* reason = gzerror(file.get(), &code);
    if (got < 0 || code != Z_OK) {
      fail(Exit::data, path, ": broken after ", used, " unpacked bytes (",
           code == Z_BUF_ERROR ? "the file is truncated" : reason, "); fetch it again");
    }
  }
  bytes.resize(used);
  return bytes;
}

std::string find(const std::string& folder, const std::string& name) {
  for (const char* ending : {".gz", ""}) {
    const std::string path = folder + "/" + name + ending;
    if (std::filesystem::exists(path)) return path;
  }
  fail(Exit::data, folder, "/", name, ".gz: not found; install the package dataset-fashion-mnist",
       " or name the folder: fashion-mnist:DIR");
}

std::uint32_t big_endian(const std::uint8_t* p) {
  return std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | p[3];
}

}  // namespace

Idx parse_idx(std::span<const std::uint8_t> bytes, int dimensions, const std::string& path) {
  const std::size_t header = 4 + 4 * static_cast<std::size_t>(dimensions);
  const std::uint32_t magic = 0x800 + static_cast<std::uint32_t>(dimensions);
  if (bytes.size() < header || big_endian(bytes.data()) != magic) {
    fail(Exit::data, path, ": not an idx file of bytes with ", dimensions, " dimension(s)");
  }
  Idx idx;
  std::uint64_t size = 1;
  for (std::size_t at = 4; at < header; at += 4) {
    const std::uint32_t extent = big_endian(bytes.data() + at);
    size *= extent;
    if (extent == 0 || extent > (1u << 30) || size > (std::uint64_t{1} << 40)) {
      fail(Exit::data, path, ": a dimension of ", extent, " makes no sense");
    }
    idx.shape.push_back(static_cast<int>(extent));
  }
  if (bytes.size() - header != size) {
    fail(Exit::data, path, ": holds ", bytes.size() - header, " bytes where its header promises ",
         size);
  }
  idx.values = bytes.subspan(header);
  return idx;
}

Records open_fashion_mnist(const std::string& folder, Split split) {
  const std::string prefix = split == Split::train ? "train" : "t10k";
  const std::string image_path = find(folder, prefix + "-images-idx3-ubyte");
  const std::string label_path = find(folder, prefix + "-labels-idx1-ubyte");
  const auto image_bytes = std::make_shared<const Bytes>(read_gz(image_path));
  const Bytes label_bytes = read_gz(label_path);
  const Idx images = parse_idx(*image_bytes, 3, image_path);
  const Idx labels = parse_idx(label_bytes, 1, label_path);
  if (images.shape[0] != labels.shape[0]) {
    fail(Exit::data, image_path, " holds ", images.shape[0], " images, ", label_path, " ",
         labels.shape[0], " labels; they do not belong together");
  }
  Records records;
  records.spec = "fashion-mnist:" + folder;
  records.labels.assign(labels.values.begin(), labels.values.end());
  const int h = images.shape[1], w = images.shape[2];
  records.content = [image_bytes, values = images.values, h, w](std::int64_t index,
                                                                Records::Scratch&) {
    const std::size_t size = static_cast<std::size_t>(h) * static_cast<std::size_t>(w);
    return Content{values.subspan(static_cast<std::size_t>(index) * size, size), h, w, 1};
  };
  records.place = [image_path](std::int64_t i) { return Place{image_path, std::to_string(i)}; };
  return records;
}

}  // namespace tunas::data
