// The data pipeline, part by part and whole: decoding photos with and without cropping, the image
// kernel per resampling (bytes per second of its declared cost), the loader per kind of records.
// Photos come from imagenet_sample under TUNAS_SHARED; without it those lines are skipped aloud.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <memory>

#include "data/loader.h"
#include "engine/device.h"

namespace {

using namespace tunas;
using namespace tunas::data;

constexpr int kResolution = 224;

const Records* photos(benchmark::State& state) {
  static const std::unique_ptr<Records> records = [] {
    const char* shared = std::getenv("TUNAS_SHARED");
    const std::string folder = std::string(shared ? shared : "../shared") + "/data/imagenet_sample";
    if (!std::filesystem::exists(folder)) return std::unique_ptr<Records>();
    return std::make_unique<Records>(open_records("tar:" + folder + "/*.tar", Split::train));
  }();
  if (!records) state.SkipWithError("needs imagenet_sample; set TUNAS_SHARED");
  return records.get();
}

void decode(benchmark::State& state, bool crop) {
  const Records* records = photos(state);
  if (!records) return;
  Decoder decoder;
  Records::Scratch scratch;
  std::vector<std::uint8_t> rgb;
  std::int64_t i = 0;
  double pixels = 0;
  for (auto _ : state) {
    const std::int64_t sample = i++ % records->size();
    const Size size = decoder.open(records->read(sample, scratch));
    const Region region =
        crop ? random_view(size, {}, {1, 0, sample}).region : Region{0, 0, size.h, size.w};
    rgb.resize(3UL * static_cast<std::size_t>(region.h) * static_cast<std::size_t>(region.w));
    decoder.read(region, rgb.data());
    pixels += static_cast<double>(size.h) * size.w;
  }
  state.SetItemsProcessed(state.iterations());
  state.counters["Mpixel/s"] = benchmark::Counter(pixels * 1e-6, benchmark::Counter::kIsRate);
}
BENCHMARK_CAPTURE(decode, whole, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(decode, crop, true)->Unit(benchmark::kMillisecond);

void image(benchmark::State& state, Resample resample) {
  const int side = static_cast<int>(state.range(0)), n = 8;
  const std::size_t bytes = 3UL * static_cast<std::size_t>(side) * static_cast<std::size_t>(side);
  const std::vector<std::uint8_t> pixels(bytes, 100);
  const std::vector<Crop> crops(n, {0, side, side, 3 * side, false});
  std::vector<float> out(4UL * n * kResolution * kResolution);
  const engine::Device device = engine::Device::cpu(1);
  kernels::Image args;
  args.pixels = pixels.data();
  args.crops = crops.data();
  args.crop_pixels = 1.0 * n * side * side;
  args.resample = resample;
  args.out = {out.data(), DType::f32, n, kResolution, kResolution, 4};
  for (auto _ : state) kernels::image(device.stream(), args);
  state.SetItemsProcessed(state.iterations() * n);
  const auto floor = static_cast<std::int64_t>(kernels::cost(args).bytes());
  state.SetBytesProcessed(state.iterations() * floor);
}
BENCHMARK_CAPTURE(image, legacy_bicubic, Resample::legacy_bicubic)->Arg(300)->Arg(500);
BENCHMARK_CAPTURE(image, bicubic, Resample::bicubic)->Arg(300)->Arg(500);
BENCHMARK_CAPTURE(image, bilinear, Resample::bilinear)->Arg(300)->Arg(500);

void load(benchmark::State& state, const Records& records) {
  LoaderConfig config;
  config.batch = 32;
  config.workers = static_cast<int>(state.range(0));
  Loader loader(records, everything(records.size()), config);
  for (auto _ : state) benchmark::DoNotOptimize(loader.next().pixels);
  state.SetItemsProcessed(state.iterations() * config.batch);
  state.counters["stalled s"] = loader.stalls();
}

void load_photos(benchmark::State& state) {
  if (const Records* records = photos(state)) load(state, *records);
}
BENCHMARK(load_photos)->DenseRange(1, 2)->UseRealTime()->Unit(benchmark::kMillisecond);

void load_synthetic(benchmark::State& state) {
  load(state, open_records("synthetic:256x256x4096", Split::train));
}
BENCHMARK(load_synthetic)->DenseRange(1, 2)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
