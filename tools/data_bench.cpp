// tunas data bench: how many training crops a second the loader makes, for 1, 2, 4, ... workers.
// Nothing is computed with them, and files that were read before come from the system's memory.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "tools/data_sets.h"
#include "tools/data_work.h"
#include "tools/interrupt.h"
#include "tools/selection.h"
#include "tools/terminal.h"

namespace tunas::tools {
namespace {

using Json = nlohmann::ordered_json;

struct Rate {
  int workers = 0;
  std::int64_t images = 0;
  double seconds = 0, pixel_bytes = 0;
  std::int64_t skipped = 0;
};

/// 1, 2, 4, ... and the number of cores.
std::vector<int> worker_counts() {
  const auto cores = static_cast<int>(std::max(std::thread::hardware_concurrency(), 1u));
  std::vector<int> counts;
  for (int n = 1; n < cores; n *= 2) counts.push_back(n);
  counts.push_back(cores);
  return counts;
}

Rate measure(const data::Records& records, const Config& config, int workers) {
  data::LoaderConfig loading;
  loading.batch = static_cast<int>(config.integer("batch-size"));
  loading.rule.min_area = static_cast<float>(config.number("min-area"));
  loading.workers = workers;
  data::Loader loader(records, data::everything(records.size()), loading);
  SkipLog skipped;
  loader.next();  // the threads are up, the ring is full
  const double least = config.number("seconds");
  const auto begin = std::chrono::steady_clock::now();
  Rate rate{workers, 0, 0, 0, 0};
  while (rate.seconds < least && !interrupted()) {
    const Batch& batch = loader.next();
    rate.images += batch.size();
    for (const Crop& crop : batch.crops) rate.pixel_bytes += 3.0 * crop.h * crop.w;
    rate.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  skipped.look(loader);
  rate.skipped = skipped.count();
  return rate;
}

Exit run(const Config& config) {
  const data::Records records = open_records(config);
  open_log();
  catch_interrupt();
  const bool json = config.flag("json");
  Json all = {{"data", config.text("data")},
              {"images", records.size()},
              {"batch_size", config.integer("batch-size")},
              {"rates", Json::array()}};
  if (!json) std::fputs("workers   images/s   MB/s of pixels\n", stdout);
  for (const int workers : worker_counts()) {
    const Rate rate = measure(records, config, workers);
    if (interrupted()) break;
    const double speed = static_cast<double>(rate.images) / rate.seconds;
    const double megabytes = rate.pixel_bytes / rate.seconds * 1e-6;
    all["rates"].push_back({{"workers", workers},
                            {"images_per_second", speed},
                            {"pixel_megabytes_per_second", megabytes},
                            {"seconds", rate.seconds},
                            {"skipped", rate.skipped}});
    if (json) continue;
    const std::string line = fmt::format("{:>7} {:>10.1f} {:>16.1f}\n", workers, speed, megabytes);
    std::fputs(line.c_str(), stdout);
    std::fflush(stdout);
  }
  if (json) std::fputs(report_text(all).c_str(), stdout);
  if (interrupted()) fail(Exit::interrupted, "interrupted; not all numbers of workers were tried");
  return Exit::ok;
}

}  // namespace

Verb data_bench_verb() {
  return {
      "data bench", "training crops a second that 1, 2, 4, ... workers decode",
      join(records_options(), {{{.name = "seconds",
                                 .type = Type::number,
                                 .fallback = "5",
                                 .unit = "s",
                                 .help = "measured for each number of workers, at least one batch",
                                 .least = 0.01,
                                 .most = 3600},
                                {.name = "batch-size",
                                 .type = Type::integer,
                                 .fallback = "128",
                                 .unit = "images",
                                 .help = "handed out at a time",
                                 .least = 1},
                                min_area_option(),
                                json_option()}}),
      run};
}

}  // namespace tunas::tools
