// What it costs a core to make training images of photos: processor time per image of a whole pass
// over the crops (three epochs of Loader's random crops, every photo each time), one thread.
//
//   crop_bench PHOTOS WHAT [--crops FILE] [--images FILE] [--resolution N] [--reduce-for N]
//
//   WHAT  bare     libjpeg-turbo decoding the crops with the same settings and no check at all
//         decode   data::Decoder decoding them
//         images   and the image kernel making 224 x 224 normalised floats of them (bicubic)
//         loader   the same from a Loader of one worker, planning and hand-over included
//         reduced  as images, with Scaling::dct for --reduce-for (default: the resolution)
//   --crops   writes the crops, [[sample, y, x, h, w, flip], ...], for others to cut the same
//   --images  (images, reduced) writes the first epoch's images as floats [n][224][224][4]
//
// Prints {"what", "images", "cpu_us", "wall_us"}, per image. bench/peers/compare_loading.py runs it
// in turns with others.
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>

// After <cstdio>, which it needs.
#include <jpeglib.h>

#include "data/loader.h"
#include "engine/device.h"

namespace {

using namespace tunas;
using namespace tunas::data;

constexpr int kEpochs = 3, kBatch = 25;
constexpr std::uint64_t kSeed = 1;

struct Photo {
  std::int64_t sample;
  View view;
};

double cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

/// The crops of a Loader with this seed.
std::vector<Photo> plan(const Records& records) {
  std::vector<Photo> photos;
  Decoder decoder;
  Records::Scratch scratch;
  for (std::uint32_t epoch = 0; epoch < kEpochs; ++epoch) {
    for (std::int64_t i = 0; i < records.size(); ++i) {
      const Size size = decoder.open(records.read(i, scratch));
      photos.push_back({i, random_view(size, {}, {kSeed, epoch, i})});
    }
  }
  return photos;
}

std::size_t bytes_of(const Region& region) {
  return 3 * static_cast<std::size_t>(region.h) * static_cast<std::size_t>(region.w);
}

/// As little as decoding a region can be: the columns and rows of it alone.
void decode_barely(jpeg_decompress_struct& info, const Content& content, const Region& region,
                   std::uint8_t* rgb) {
  thread_local std::vector<std::uint8_t> row(3 * 65536);
  jpeg_mem_src(&info, content.bytes.data(), content.bytes.size());
  jpeg_read_header(&info, TRUE);
  info.out_color_space = JCS_RGB;
  info.dct_method = JDCT_ISLOW;
  jpeg_start_decompress(&info);
  JDIMENSION first = static_cast<JDIMENSION>(region.x), width = static_cast<JDIMENSION>(region.w);
  jpeg_crop_scanline(&info, &first, &width);
  jpeg_skip_scanlines(&info, static_cast<JDIMENSION>(region.y));
  const std::size_t skip = 3 * (static_cast<std::size_t>(region.x) - first);
  JSAMPROW rows = row.data();
  for (int y = 0; y < region.h; ++y, rgb += 3L * region.w) {
    jpeg_read_scanlines(&info, &rows, 1);
    std::memcpy(rgb, rows + skip, 3 * static_cast<std::size_t>(region.w));
  }
  jpeg_abort_decompress(&info);
}

void bare(const Records& records, const std::vector<Photo>& photos) {
  jpeg_decompress_struct info = {};
  jpeg_error_mgr errors = {};
  info.err = jpeg_std_error(&errors);
  jpeg_create_decompress(&info);
  std::vector<std::uint8_t> rgb;
  Records::Scratch scratch;
  for (const Photo& photo : photos) {
    rgb.resize(bytes_of(photo.view.region));
    decode_barely(info, records.content(photo.sample, scratch), photo.view.region, rgb.data());
  }
  jpeg_destroy_decompress(&info);
}

/// Resizes and normalises batches of crops, as a step does.
class Images {
 public:
  Images(int resolution, std::ofstream* out)
      : side_(resolution), out_(out), floats_(4UL * kBatch * area()) {}

  void make(const std::uint8_t* pixels, const std::vector<Crop>& crops) {
    kernels::Image args;
    args.pixels = pixels;
    args.crops = crops.data();
    args.resample = Resample::bicubic;
    args.out = {floats_.data(), DType::f32, static_cast<int>(crops.size()), side_, side_, 4};
    kernels::image(device_.stream(), args);
    if (out_ && out_->is_open()) {
      out_->write(reinterpret_cast<const char*>(floats_.data()),
                  static_cast<std::streamsize>(16UL * crops.size() * area()));
    }
  }

 private:
  std::size_t area() const {
    return static_cast<std::size_t>(side_) * static_cast<std::size_t>(side_);
  }
  int side_;
  std::ofstream* out_;
  std::vector<float> floats_;
  engine::Device device_ = engine::Device::cpu(1);
};

struct Settings {
  int resolution = 224;  // of the images; 0: none are made
  int reduce_for = 0;    // 0: not at all
  std::ofstream* out = nullptr;
};

void decode(const Records& records, const std::vector<Photo>& photos, const Settings& settings) {
  Decoder decoder;
  Records::Scratch scratch;
  Images images(settings.resolution, settings.out);
  std::vector<std::uint8_t> pixels;
  std::vector<Crop> crops;
  std::uint64_t end = 0;
  for (const Photo& photo : photos) {
    const Size size = decoder.open(records.content(photo.sample, scratch));
    Region region = photo.view.region;
    Reduction reduction;
    if (settings.reduce_for > 0) {
      reduction = decoder.reduction(region, settings.reduce_for);
      region = reduced(region, size, reduction);
    }
    if (pixels.size() < end + bytes_of(region)) pixels.resize(2 * (end + bytes_of(region)));
    decoder.read(region, pixels.data() + end, reduction);
    crops.push_back({end, region.h, region.w, 3 * region.w, photo.view.flip});
    end += bytes_of(region);
    if (crops.size() < kBatch) continue;
    if (settings.resolution > 0) images.make(pixels.data(), crops);
    crops.clear();
    end = 0;
    if (&photo - photos.data() + 1 == records.size()) settings.out->close();
  }
}

void load(const Records& records, const std::vector<Photo>& photos, int resolution) {
  LoaderConfig config;
  config.batch = kBatch;
  config.seed = kSeed;
  Loader loader(records, everything(records.size()), config);
  Images images(resolution, nullptr);
  for (std::size_t done = 0; done < photos.size(); done += kBatch) {
    const Batch& batch = loader.next();
    images.make(batch.pixels, batch.crops);
  }
}

void write_crops(const std::vector<Photo>& photos, const std::string& path) {
  std::ofstream out(path);
  const char* separator = "[";
  for (const Photo& photo : photos) {
    const Region& r = photo.view.region;
    out << separator << '[' << photo.sample << ',' << r.y << ',' << r.x << ',' << r.h << ',' << r.w
        << ',' << photo.view.flip << ']';
    separator = ",\n";
  }
  out << "]\n";
}

std::string option(int argc, char** argv, const std::string& name,
                   const std::string& fallback = {}) {
  for (int i = 3; i + 1 < argc; ++i) {
    if (argv[i] == name) return argv[i + 1];
  }
  return fallback;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "crop_bench tar:PHOTOS bare|decode|images|loader|reduced [--crops FILE] "
                 "[--images FILE] [--resolution N] [--reduce-for N]\n";
    return 2;
  }
  const Records records = open_records(argv[1], Split::train);
  const std::vector<Photo> photos = plan(records);
  if (const std::string path = option(argc, argv, "--crops"); !path.empty()) {
    write_crops(photos, path);
  }
  std::ofstream out;
  if (const std::string path = option(argc, argv, "--images"); !path.empty()) {
    out.open(path, std::ios::binary);
  }
  const std::string what = argv[2], resolution = option(argc, argv, "--resolution", "224");
  Settings settings = {what == "decode" ? 0 : std::stoi(resolution), 0, &out};
  if (what == "reduced") {
    settings.reduce_for = std::stoi(option(argc, argv, "--reduce-for", resolution));
  }
  std::function<void()> work;
  if (what == "bare") work = [&] { bare(records, photos); };
  if (what == "decode" || what == "images" || what == "reduced") {
    work = [&] { decode(records, photos, settings); };
  }
  if (what == "loader") work = [&] { load(records, photos, settings.resolution); };
  if (!work) {
    std::cerr << what << " is none of bare, decode, images, loader, reduced\n";
    return 2;
  }
  const double cpu = cpu_seconds();
  const auto begin = std::chrono::steady_clock::now();
  work();
  const double wall =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double per = 1e6 / static_cast<double>(photos.size());
  std::printf("{\"what\": \"%s\", \"images\": %zu, \"cpu_us\": %.1f, \"wall_us\": %.1f}\n",
              what.c_str(), photos.size(), per * (cpu_seconds() - cpu), per * wall);
  return 0;
}
